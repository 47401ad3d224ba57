"""What is due: schedules against what the states say was done. Opens no model and no destination, and writes nothing.

It is asked for each minute, so it is cheap: fifty states are read in some 50 ms.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing as closed_after
from dataclasses import dataclass
from datetime import datetime

import duckdb

from reverse_etl.errors import AtWorkError, BusyError
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.state.file import look_up_done_until
from reverse_etl.system.file_lock import at_work


@dataclass(frozen=True)
class Due:
    """A sync that is to run for a moment; `busy` if another process is at work on it, so that nobody can tell yet."""

    sync: Sync
    scheduled_time: datetime
    busy: AtWorkError | None = None


def find_due(project: LoadedProject, syncs: Sequence[Sync], now: datetime) -> list[Due]:
    """Those of `syncs` that no run went well for since their latest moment; in the order given."""
    return list(_due(project, syncs, now))


def _due(project: LoadedProject, syncs: Sequence[Sync], now: datetime) -> Iterator[Due]:
    with closed_after(duckdb.connect(config={"threads": 1})) as connection:
        for sync in syncs:
            latest = sync.cron.latest(now) if sync.cron else None
            if sync.cron is None or latest is None:
                continue
            try:
                done = look_up_done_until(connection, project.state_file(sync))
            except BusyError:  # if it is not retl that has it open, the run says who
                yield Due(sync, latest, at_work(project.lock_file(sync), sync.name, project.target_name))
                continue
            moment = sync.cron.due(now, done)
            if moment:
                yield Due(sync, moment)


def next_due(syncs: Sequence[Sync], now: datetime) -> tuple[datetime, Sync] | None:
    """The first moment after `now` at which one of `syncs` is due, and which; None if none ever is."""
    coming = [(moment, sync) for sync in syncs if sync.cron and (moment := sync.cron.following(now))]
    return min(coming, key=lambda pair: pair[0], default=None)
