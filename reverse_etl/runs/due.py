"""Which syncs are due: compares schedules with the states. Reads no model and no destination, and writes nothing.

It is called every minute, so it is cheap: fifty states are read in some 50 ms.

A sync that failed is due, and its schedule waits: `tries` says how long.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing as closed_after
from dataclasses import dataclass
from datetime import datetime

from reverse_etl.errors import AtWorkError, BusyError
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.sql import database
from reverse_etl.state.file import look_up_done_until
from reverse_etl.state.places import folder_of
from reverse_etl.state.tries import failing_syncs, waits
from reverse_etl.system.file_lock import at_work


@dataclass(frozen=True)
class Due:
    """A sync that is due for a scheduled time; or that may be, if another process is running it (`busy`).

    If it failed, or one that it runs after, it is not run until `next_try`.
    """

    sync: Sync
    scheduled_time: datetime
    busy: AtWorkError | None = None
    next_try: datetime | None = None


def find_due(project: LoadedProject, syncs: Sequence[Sync], now: datetime) -> list[Due]:
    """The syncs without a successful run for their latest scheduled time, in the order given."""
    return list(_due(project, syncs, now))


def to_run(dues: Sequence[Due]) -> list[Due]:
    """Those that are not left alone for now because they failed."""
    return [due for due in dues if due.next_try is None]


def _due(project: LoadedProject, syncs: Sequence[Sync], now: datetime) -> Iterator[Due]:
    failing, waiting = failing_syncs(project), dict[str, datetime]()
    with closed_after(database.connect(threads=1)) as connection:
        for sync in syncs:
            latest = sync.cron.latest(now) if sync.cron else None
            if sync.cron is None or latest is None:
                continue
            place = folder_of(project, sync)
            try:
                done = look_up_done_until(connection, place.state, sync.cron.delay)
            except BusyError:  # if another program than retl has it open, the run reports which
                yield Due(sync, latest, at_work(place.lock, place.sync, place.target))
                continue
            moment = sync.cron.due(now, done)
            if not moment:
                continue
            own = waits(project, failing, sync, now)
            held_up = [waiting[name] for name in sync.predecessors if name in waiting]
            until = max([*held_up, *([own] if own else [])], default=None)
            if until:
                waiting[sync.name] = until
            yield Due(sync, moment, next_try=until)


def next_due(project: LoadedProject, syncs: Sequence[Sync], now: datetime) -> tuple[datetime, Sync] | None:
    """The next time after `now` at which one of the syncs is due or tried again, and that sync; None without any."""
    failing = failing_syncs(project)
    coming = [(moment, sync) for sync in syncs if sync.cron and (moment := sync.cron.following(now))]
    coming += [(moment, sync) for sync in syncs if (moment := waits(project, failing, sync, now))]
    return min(coming, key=lambda pair: pair[0], default=None)
