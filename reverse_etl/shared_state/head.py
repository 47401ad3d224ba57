"""The contents of `head.json`: which objects are the state, who holds its lock, and what may be being sent. Pure.

    holder none, sending none     free
    holder, sending none          a machine reads the state, or plans
    holder, sending               a machine sends: `sending` says where the outbox and the journal of the run are
    holder none, sending          a run ended and could not update the state; the next run recovers it

One object contains all of it, and is only ever replaced by compare-and-swap: a machine that was overtaken can neither
keep the lock nor update the state.
"""

from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from reverse_etl.shared_state.log import Log, Part, StoredObject
from reverse_etl.words import moment

HEAD = "head.json"
FORMAT = 3  # 2: moved; 3: log, revision, users
_AS_BEFORE = 1  # what is written as long as nothing was uploaded, so that an older retl reads it
LEASE = timedelta(seconds=120)  # a lock expires this long after it was last renewed


class Holder(Part):
    """Who holds the lock, and when it expires unless renewed. Every command has a new `token`."""

    token: str
    host: str
    pid: int
    since: datetime
    until: datetime

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {moment(self.since)}"


class RunInFlight(Part):
    """A run that was announced before its first request. `is_whole`: all of its journal is in the store."""

    token: str
    run_id: str
    outbox: StoredObject
    is_whole: bool = False

    @property
    def folder(self) -> str:
        return f"run-{self.token}"


class Moved(Part):
    """Where a state was moved when its sync or target was renamed: to the object `state` of that one."""

    sync: str
    target: str
    state: StoredObject


class Content(Part):
    """What is in a state, as far as its head says so."""

    revision: str = ""
    users: int | None = None
    duckdb: str = ""


class Head(Part):
    """`state` is the base of the state, and `log` what was added to it. The state contains `revision`, too: it tells
    that all of it was downloaded. `users` is how many users it knows, and `duckdb` the version that wrote it.

    `runs` are those that an older retl noted here, and `before` is the state before, which it kept. With `moved` there
    is no state here any more.
    """

    format: int = _AS_BEFORE
    retl: str = ""
    sync: str
    target: str
    generation: int = 0
    state: StoredObject | None = None
    log: Log = Log()
    revision: str = ""
    users: int | None = None
    duckdb: str = ""
    before: StoredObject | None = None
    updated_at: datetime | None = None
    runs: tuple[dict[str, Any], ...] = ()
    holder: Holder | None = None
    sending: RunInFlight | None = None
    moved: Moved | None = None

    def to_json(self) -> bytes:
        """Only what says something: it is written twice in every run."""
        return self.model_dump_json(indent=1, exclude_defaults=True).encode()

    def objects(self) -> list[StoredObject]:
        """All objects that are the state, or were the one before."""
        return [stored for stored in (self.state, *self.log.objects(), self.before) if stored]

    # --- how it changes ----------------------------------------------------------------------------------------------

    def held_by(self, holder: Holder) -> "Head":
        return self.model_copy(update={"holder": holder})

    def renewed(self, now: datetime) -> "Head":
        holder = self.holder.model_copy(update={"until": now + LEASE}) if self.holder else None
        return self.model_copy(update={"holder": holder})

    def announcing(self, sending: RunInFlight) -> "Head":
        return self.model_copy(update={"format": FORMAT, "sending": sending})

    def settled(self) -> "Head":
        """Nothing is being sent, and no run is left to recover."""
        return self.model_copy(update={"sending": None})

    def moved_to(self, state: StoredObject | None, now: datetime, retl: str, log: Log, content: Content) -> "Head":
        """The next generation. The state contains all of `runs`."""
        update = {
            "format": FORMAT,
            "retl": retl,
            "generation": self.generation + 1,
            "state": state,
            "log": log,
            "revision": content.revision,
            "users": content.users,
            "duckdb": content.duckdb,
            "before": None,
            "updated_at": now,
            "runs": (),
            "sending": None,
            "moved": None,
        }
        return self.model_copy(update=update)

    def moved_away(self, moved: Moved) -> "Head":
        """With the mark that the state is that of another name now."""
        gone = {"state": None, "log": Log(), "before": None, "runs": ()}
        return self.model_copy(update={"format": FORMAT, **gone, "moved": moved})

    def released(self, is_whole: bool) -> "Head":
        """With the lock released. `is_whole`: if a run could not be committed, all of its journal is in the store."""
        sending = self.sending and self.sending.model_copy(update={"is_whole": is_whole or self.sending.is_whole})
        return self.model_copy(update={"holder": None, "sending": sending})


def read_head(data: bytes) -> Head:
    """Raises ValueError, with the reason, if `data` is not a valid head, or was written by a newer version of retl."""
    try:
        head = Head.model_validate_json(data)
    except ValidationError as error:
        raise ValueError("is damaged: not a valid state head") from error
    if head.format > FORMAT:
        raise ValueError(f"was written by a newer version of retl (format {head.format}; this version reads {FORMAT})")
    return head


def in_the_way(head: Head, now: datetime, dead_token: str | None) -> Holder | None:
    """The holder of the lock, if it cannot be acquired; None if it is free or has expired.

    `dead_token` is a holder that ended on this machine without releasing the lock: no need to wait for it.
    """
    holder = head.holder
    if holder is None or holder.token == dead_token or holder.until <= now:
        return None
    return holder


def new_holder(token: str, host: str, pid: int, now: datetime) -> Holder:
    return Holder(token=token, host=host, pid=pid, since=now, until=now + LEASE)


def may_go_on(holder: Holder, now: datetime) -> bool:
    """Whether a request may still be sent under this lock."""
    return now < holder.until
