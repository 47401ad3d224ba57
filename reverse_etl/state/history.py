"""Past runs of a sync, as recorded in its state.

That neither blocks a running sync nor waits for one. A state that is in use is read from a copy: DuckDB does not let a
process read a file that another process may write.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import BusyError, StateError
from reverse_etl.plan.tables import STATE
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.sql import database
from reverse_etl.sql.quoting import literal
from reverse_etl.state import to_send
from reverse_etl.state.copied import copied_file
from reverse_etl.state.file import rename_words
from reverse_etl.state.glance import Glances
from reverse_etl.state.older import beside_at_rest, refuse_older
from reverse_etl.state.opening import state_of
from reverse_etl.state.places import folder_of, refuse_lost
from reverse_etl.words import duration, moment

HEADING = (
    "sync", "started", "status", "took", "rows", "accepted", "rejected", "in doubt", "to send", "requests",
    "attributes", "run", "message",
)  # fmt: skip
# Those that a narrow terminal goes without, the first ones first. When a run started is what it is looked for by.
SPARE = ("attributes", "requests", "run", "took", "rows", "in doubt", "to send", "rejected")


@dataclass(frozen=True)
class PastRun:
    """A run that has ended. `rows` are those of the model; 0 if the run was killed before they were counted. `to_send`
    are rows that it planned, and that are neither accepted nor rejected nor in doubt. `duration_s` is None if the clock
    was set back meanwhile."""

    sync: str
    run_id: str
    started_at: datetime
    finished_at: datetime
    duration_s: float | None
    status: str
    rows: int
    accepted: int
    rejected: int
    in_doubt: int
    unsent: int
    to_send: int | None
    requests: int
    attributes: int
    message: str | None

    def cells(self) -> tuple[object, ...]:
        numbers = (self.rows, self.accepted, self.rejected, self.in_doubt, self.to_send, self.requests, self.attributes)
        counts = ("" if number is None else f"{number:,}" for number in numbers)
        took = duration(-1 if self.duration_s is None else self.duration_s)
        return self.sync, moment(self.started_at), self.status, took, *counts, self.run_id, self.message


def past_runs(project: LoadedProject, syncs: Iterable[Sync], limit: int) -> list[PastRun]:
    """The last runs of each sync, newest first. Raises StateError if a state cannot be read."""
    with Glances() as glances:
        return [run for sync in syncs for run in _past_runs(project, sync, limit, glances)]


def _past_runs(project: LoadedProject, sync: Sync, limit: int, glances: Glances) -> list[PastRun]:
    if project.states_url:
        with suppress(BusyError), state_of(project, sync) as state:
            return _runs_in(state.connection, sync, limit)
        # another machine is running the sync: the local copy is what is known here
    place = folder_of(project, sync)
    refuse_lost(place)
    if not place.state.exists():
        return []
    there = beside_at_rest(place)
    try:
        with glances.at(place) as seen:
            if seen is not None:
                return _runs_in(seen, sync, limit)
        with database.connect() as connection:
            connection.execute(f"SET TimeZone = 'UTC'; ATTACH ':memory:' AS {STATE}")
            with copied_file(place.state) as copy:
                connection.execute(f"ATTACH {literal(str(copy))} AS retl_copy (READ_ONLY)")
                for table in ("runs", "in_doubt", "meta"):
                    connection.execute(f"CREATE TABLE {STATE}.main.{table} AS FROM retl_copy.main.{table}")
                connection.execute("DETACH retl_copy")
            rename_words(connection)
            refuse_older(connection, place, there)
            return _runs_in(connection, sync, limit)
    except duckdb.Error as error:
        what = f"cannot read {place.state}: {str(error).splitlines()[0]}"
        raise StateError(what, hint=f"check it with `retl status {sync.name}`", code="S015") from error


def _runs_in(connection: DuckDBPyConnection, sync: Sync, limit: int) -> list[PastRun]:
    rows = connection.execute(
        f"""SELECT run_id, epoch(started_at), epoch(finished_at), status, message, counts
        FROM {STATE}.main.runs ORDER BY started_at DESC, run_id DESC LIMIT ?""",
        [limit],
    ).fetchall()
    return [_past_run(sync, row) for row in rows]


def _past_run(sync: Sync, row: Sequence[Any]) -> PastRun:
    run_id, started_s, finished_s, status, message, counts = row
    counted: dict[str, Any] = json.loads(counts)
    delivery = counted.get("delivery", {})
    names = ("accepted", "rejected", "in_doubt", "unsent", "requests", "attributes")
    return PastRun(
        sync.name,
        run_id,
        datetime.fromtimestamp(started_s, UTC),
        datetime.fromtimestamp(finished_s, UTC),
        round(finished_s - started_s, 3) if finished_s >= started_s else None,
        status,
        counted.get("rows", 0),
        **{name: delivery.get(name, 0) for name in names},
        to_send=to_send.of_run(counted),
        message=message,
    )
