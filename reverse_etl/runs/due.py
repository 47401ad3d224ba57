"""Which syncs are due: compares schedules with the states. Reads no model and no destination.

It is called every minute, so it is cheap: a state that has not changed since the last call is not even opened.

A sync that failed is due, and its schedule waits: `tries` says how long.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from reverse_etl.errors import AtWorkError, BusyError, Problem
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.state.done import DoneTimes, file_of
from reverse_etl.state.places import folder_of
from reverse_etl.state.tries import failing_syncs, waits
from reverse_etl.system.file_lock import at_work
from reverse_etl.system.small_files import read_mapping, write_mapping
from reverse_etl.words import count, moment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


CLOCKS_DIFFER = timedelta(minutes=2)  # of machines that share a state
_LATE = timedelta(hours=1)  # what calls `run-due` may itself be late by less


@dataclass(frozen=True)
class Due:
    """A sync that is due for a scheduled time; or that may be, if another process is running it (`busy`).

    If it failed, or one that it runs after, it is not run until `next_try`. `since` is the first scheduled time that it
    missed, and `scheduled_time` the latest. It `is_overdue` if it has missed more than one, for an hour or longer.
    """

    sync: Sync
    scheduled_time: datetime
    busy: AtWorkError | None = None
    next_try: datetime | None = None
    first_missed: datetime | None = None
    is_overdue: bool = False

    @property
    def since(self) -> datetime:
        return self.first_missed or self.scheduled_time


def find_due(
    project: LoadedProject, syncs: Sequence[Sync], now: datetime, ahead: dict[str, datetime] | None = None
) -> list[Due]:
    """The syncs without a successful run for their latest scheduled time, in the order given.

    `ahead` gets those that were done in the future, by their names, and until when: the clock was set back since, or
    that of another machine is ahead. They are not due before the first scheduled time after that.
    """
    return list(_due(project, syncs, now, {} if ahead is None else ahead))


def set_back(ahead: Mapping[str, datetime], now: datetime) -> Problem | None:
    """What is to be said of them."""
    if not ahead:
        return None
    (name, until), *others = sorted(ahead.items(), key=lambda pair: pair[1], reverse=True)
    more = f", and {count(len(others), 'more sync')} for times still to come" if others else ""
    whose = "their next times" if others else "its next time"
    what = f"{name} ran for {moment(until)}{more}, and now it is {moment(now)}: not due before {whose} after that"
    return Problem(what, hint=f"check the clock of this machine; `retl sync {name}` runs it all the same", code="X021")


def is_new(project: LoadedProject, syncs: Sequence[Sync], ahead: Mapping[str, datetime]) -> bool:
    """Whether one of `syncs` is ahead that was not when it was last looked at, by whichever call: each is told once.
    Notes them for the next time; if that is impossible, all are new.
    """
    path, looked_at = project.target_folder / "clock_ahead.json", {sync.name for sync in syncs}
    known, now = read_mapping(path), {name: until.isoformat() for name, until in ahead.items()}
    others = {name: one for name, one in known.items() if name in project.sync_names and name not in looked_at}
    if known != {**others, **now}:
        with suppress(OSError):
            write_mapping(path, {**others, **now})
    return any(known.get(name) != until for name, until in now.items())


def to_run(dues: Sequence[Due]) -> list[Due]:
    """Those that are not left alone for now because they failed."""
    return [due for due in dues if due.next_try is None]


def _due(project: LoadedProject, syncs: Sequence[Sync], now: datetime, ahead: dict[str, datetime]) -> Iterator[Due]:
    failing, waiting = failing_syncs(project), dict[str, datetime]()
    with _Asked(project) as asked:
        for sync in syncs:
            latest = sync.cron.latest(now) if sync.cron else None
            if sync.cron is None or latest is None:
                continue
            place = folder_of(project, sync)
            noted = asked.times.of(place, sync.cron.delay)
            if noted and not sync.cron.due(now, noted.until) and not at_work(place.lock, place.sync, place.target):
                _note_ahead(ahead, sync, noted.until, now)
                continue
            try:
                done = asked.done_until(place, sync.cron.delay)
            except BusyError:  # if another program than retl has it open, the run reports which
                yield Due(sync, latest, at_work(place.lock, place.sync, place.target))
                continue
            scheduled = sync.cron.due(now, done)
            if not scheduled:
                _note_ahead(ahead, sync, done, now)
                continue
            own = waits(project, failing, sync, now)
            held_up = [waiting[name] for name in sync.predecessors if name in waiting]
            until = max([*held_up, *([own] if own else [])], default=None)
            if until:
                waiting[sync.name] = until
            missed = sync.cron.missed(done) if done else None
            is_overdue = missed is not None and missed < scheduled and now - missed - sync.cron.delay >= _LATE
            yield Due(sync, scheduled, next_try=until, first_missed=missed, is_overdue=is_overdue)


def _note_ahead(ahead: dict[str, datetime], sync: Sync, done: datetime | None, now: datetime) -> None:
    delay = sync.cron.delay if sync.cron else timedelta()
    if done is not None and done + delay > now + CLOCKS_DIFFER:
        ahead[sync.name] = done + delay


class _Asked:
    """States that are asked until when their syncs were done; what they say is noted for the next time.

    DuckDB is imported and started only if there is one to ask.
    """

    def __init__(self, project: LoadedProject) -> None:
        self.times, self._project = DoneTimes(project), project

    def __enter__(self) -> Self:
        self._opened = ExitStack()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._opened.close()
        self.times.keep(self._project.sync_names)

    @cached_property
    def _connection(self) -> "DuckDBPyConnection":
        from reverse_etl.sql import database

        return self._opened.enter_context(closing(database.connect(threads=1)))

    def done_until(self, place: StatePlace, delay: timedelta) -> datetime | None:
        """See `look_up_done_until`."""
        from reverse_etl.state.file import look_up_done_until

        file = file_of(place)
        until = look_up_done_until(self._connection, place.state, delay)
        self.times.note(place, delay, file, until)
        return until


def next_due(project: LoadedProject, syncs: Sequence[Sync], now: datetime) -> tuple[datetime, Sync] | None:
    """The next time after `now` at which one of the syncs is due or tried again, and that sync; None without any."""
    failing = failing_syncs(project)
    coming = [(at, sync) for sync in syncs if sync.cron and (at := sync.cron.following(now))]
    coming += [(at, sync) for sync in syncs if (at := waits(project, failing, sync, now))]
    return min(coming, key=lambda pair: pair[0], default=None)
