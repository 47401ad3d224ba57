"""What stands in `head.json`: which state object is the state, who holds it, and what may be being sent. Pure.

    holder none, sending none     free
    holder, sending none          somebody looks, or plans
    holder, sending               somebody sends: `sending` says where the outbox and the journal of the run lie
    holder none, sending          a run ended and could not move the state; the next one folds it in

One object holds all of it, and it is only ever replaced by compare-and-swap: who was overtaken can neither go on
holding the lock, nor move the state.
"""

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = 1
LEASE = timedelta(seconds=120)  # so long a lock holds after it was renewed last
KEPT_RUNS = 100  # runs that moved nothing are kept in the head; with so many, the state is written anew


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoredObject(_Part):
    """An object that is never overwritten: its name is used once."""

    name: str
    size: int
    sha256: str


class Holder(_Part):
    """Who holds the lock, until when unless it is renewed. `token` is new with each command."""

    token: str
    host: str
    pid: int
    since: datetime
    until: datetime

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class RunInFlight(_Part):
    """A run that was announced before its first request. `is_whole`: its journal lies there to its last line."""

    token: str
    run_id: str
    outbox: StoredObject
    is_whole: bool = False

    @property
    def folder(self) -> str:
        return f"run-{self.token}"


class Head(_Part):
    """`before` is the state before the present one; `runs` are those that moved nothing since it was written."""

    format: int = FORMAT
    retl: str = ""
    sync: str
    target: str
    generation: int = 0
    state: StoredObject | None = None
    before: StoredObject | None = None
    updated_at: datetime | None = None
    runs: tuple[dict[str, Any], ...] = ()
    holder: Holder | None = None
    sending: RunInFlight | None = None

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode()

    # --- what may become of it ---------------------------------------------------------------------------------------

    def held_by(self, holder: Holder) -> "Head":
        return self.model_copy(update={"holder": holder})

    def renewed(self, now: datetime) -> "Head":
        holder = self.holder.model_copy(update={"until": now + LEASE}) if self.holder else None
        return self.model_copy(update={"holder": holder})

    def announcing(self, sending: RunInFlight) -> "Head":
        return self.model_copy(update={"sending": sending})

    def settled(self) -> "Head":
        """Nothing is being sent, and nothing that was sent is still to be folded in."""
        return self.model_copy(update={"sending": None})

    def moved_to(self, state: StoredObject | None, now: datetime, retl: str, keep_before: bool = True) -> "Head":
        """The next generation. `state` holds all of `runs`."""
        update = {
            "generation": self.generation + 1,
            "before": self.state if keep_before else None,
            "state": state,
            "updated_at": now,
            "retl": retl,
            "runs": (),
            "sending": None,
        }
        return self.model_copy(update=update)

    def with_run(self, run: dict[str, Any]) -> "Head":
        """One more run that moved nothing."""
        return self.model_copy(update={"runs": (*self.runs, run), "sending": None})

    def released(self, is_whole: bool) -> "Head":
        """Free. `is_whole`: if a run could not be folded in, all of its journal lies in the store."""
        sending = self.sending and self.sending.model_copy(update={"is_whole": is_whole or self.sending.is_whole})
        return self.model_copy(update={"holder": None, "sending": sending})


def read_head(data: bytes) -> Head:
    """Raises ValueError, which says what is wrong, if that is no head, or one of a newer retl."""
    try:
        head = Head.model_validate_json(data)
    except ValidationError as error:
        raise ValueError("is damaged: it is no head of a state") from error
    if head.format > FORMAT:
        raise ValueError(f"was written by a newer retl: its format is {head.format}, this retl knows {FORMAT}")
    return head


def in_the_way(head: Head, now: datetime, dead_token: str | None) -> Holder | None:
    """Who keeps us from taking the lock: its holder, unless its time is up.

    `dead_token` is the holder that ended on this machine without letting go: it need not be waited for.
    """
    holder = head.holder
    if holder is None or holder.token == dead_token or holder.until <= now:
        return None
    return holder


def new_holder(token: str, host: str, pid: int, now: datetime) -> Holder:
    return Holder(token=token, host=host, pid=pid, since=now, until=now + LEASE)


def may_go_on(holder: Holder, now: datetime) -> bool:
    """Whether a request may still go out under a lock that was renewed last as `holder` says."""
    return now < holder.until
