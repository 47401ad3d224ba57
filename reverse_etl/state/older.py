"""Tells a state that is older than what lies beside it, such as a backup that was put in its place: it lacks what was
sent since.

has-run    names a run that the state has to know: see `mark.py`
ledger/    has what was sent by runs that are committed, or are recovered first

A killed run whose outbox is there is not in the state yet. What is read without the lock of the state is read before
the state is: it may be behind it, and never ahead.
"""

from dataclasses import dataclass

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import StateError
from reverse_etl.ledger.lines import names_sql
from reverse_etl.ledger.places import LEDGER, InFolder
from reverse_etl.plan.tables import META, RUNS
from reverse_etl.shared_state.copies import LAST_RUN
from reverse_etl.shared_state.mark import Mark, read_mark
from reverse_etl.shared_state.place import StatePlace

_FULL = 10_000  # with so many runs, the oldest ones may have been dropped


@dataclass(frozen=True)
class Beside:
    """What lies beside a state: its mark, and the names of the files of its ledger."""

    mark: Mark
    ledger: frozenset[str]


NOTHING = Beside(Mark(), frozenset())


def beside(place: StatePlace) -> Beside:
    """What lies beside a state; nothing, if machines share it."""
    if place.objects is not None:
        return NOTHING
    return Beside(read_mark(place), frozenset(InFolder(place.folder).names()))


def beside_at_rest(place: StatePlace) -> Beside:
    """The same for somebody who does not hold the lock; nothing, while a run is under way, or is to be recovered."""
    found = beside(place)
    return NOTHING if (place.folder / "outbox.duckdb").exists() else found


def refuse_older(
    connection: DuckDBPyConnection, place: StatePlace, there: Beside, under_way: str | None = None
) -> None:
    """Raises StateError if the attached state is older than what is beside it. `under_way` is the run whose outbox is
    there."""
    for run_id, file in (
        (there.mark.before if there.mark.run == under_way else there.mark.run, place.begun.name),
        (_sent_by_another(connection, place, there, under_way), f"{LEDGER}/"),
    ):
        if run_id and not _knows(connection, run_id):
            what = f"{place.state} is older than what lies beside it: {file} knows the run {run_id}, which it lacks"
            hint = f"restore the newest state.duckdb, or {place.start_over}"
            raise StateError(what, hint=hint, code="S043")


def _knows(connection: DuckDBPyConnection, run_id: str) -> bool:
    found = (
        f"SELECT 1 FROM {RUNS} WHERE run_id = $run UNION ALL SELECT 1 FROM {META} WHERE key = $last AND value = $run"
    )
    return bool(connection.execute(found, {"run": run_id, "last": LAST_RUN}).fetchall())


def _sent_by_another(
    connection: DuckDBPyConnection, place: StatePlace, there: Beside, under_way: str | None
) -> str | None:
    """A run that has sent what is in a file of the ledger, if the state names neither. What a baseline has left that
    was killed was not sent, and runs are dropped that are old."""
    if not there.ledger:
        return None
    named = connection.execute(f"SELECT DISTINCT ledger FROM {RUNS} WHERE ledger IS NOT NULL").fetchall()
    strays = there.ledger - {name for (name,) in named}
    files = [path for name in sorted(strays) if (path := place.folder / LEDGER / f"{name}.parquet").exists()]
    if not files:
        return None
    try:
        found = connection.execute(
            f"""SELECT max(run_id) FROM read_parquet({names_sql([str(file) for file in files])})
            WHERE request IS NOT NULL AND run_id IS DISTINCT FROM $under_way
            AND run_id NOT IN (SELECT run_id FROM {RUNS})
            AND ((SELECT count(*) < {_FULL} FROM {RUNS}) OR run_id > (SELECT max(run_id) FROM {RUNS}))""",
            {"under_way": under_way},
        ).fetchall()
    except duckdb.Error:  # no file of a ledger
        return None
    run_id: str | None = found[0][0]
    return run_id
