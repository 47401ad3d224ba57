"""Recovers a killed run before anything else is done: its requests and responses count."""

from datetime import datetime
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import lacks_room
from reverse_etl.errors import StateError
from reverse_etl.ledger.files import Ledger
from reverse_etl.plan.outbox import upgrade_outbox
from reverse_etl.plan.tables import RUNS
from reverse_etl.shared_state.copies import LocalOnly, SharedCopy
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.state.commit import Ending, commit_run
from reverse_etl.state.elsewhere import Elsewhere
from reverse_etl.state.erasures import erasures_of
from reverse_etl.state.older import beside, refuse_older
from reverse_etl.state.open_run import OpenRun
from reverse_etl.state.outcomes import DeliveryCounts


def recover(
    connection: DuckDBPyConnection,
    run: OpenRun,
    copy: LocalOnly | SharedCopy,
    place: StatePlace,
    ledger: Ledger,
    now: datetime,
    elsewhere: Elsewhere | None = None,
) -> DeliveryCounts | None:
    """Commit a killed run, if there is one that may have been sent, and drop it; returns what it had done.

    Raises StateError, and changes nothing, if it cannot be known what the run has sent.
    """
    delivery = None
    if _was_sent(connection, run, place):
        copy.will_change()
        ending = Ending("killed", None, {}, now)
        delivery = commit_run(connection, run, ending, erasures_of(place), ledger, elsewhere=elsewhere)
    copy.recovered(connection)
    if elsewhere:
        elsewhere.tidy()
    run.drop()  # it was killed while planning, or when it was blocked; if already committed, only this was missing
    return delivery


def _was_sent(connection: DuckDBPyConnection, run: OpenRun, place: StatePlace) -> bool:
    """Whether a killed run is left that was released, and is not committed yet. Attaches it."""
    there = beside(place)
    has_outbox, has_journal = run.outbox_path.exists(), run.journal_path.exists()
    if not has_outbox:
        if has_journal and run.journal_path.stat().st_size:
            raise _lost(run.outbox_path, "is missing", place)
        refuse_older(connection, place, there)
        return False
    try:
        run.attach()
        upgrade_outbox(connection)
        run_id, is_released = run.run_id(), run.is_released()
    except (duckdb.Error, IndexError) as error:
        if lacks_room(error):
            raise
        if not has_journal:
            refuse_older(connection, place, there)
            return False
        reason = str(error).splitlines()[0]
        raise _lost(run.outbox_path, "is damaged", place, f": {reason}") from error
    refuse_older(connection, place, there, run_id)
    if connection.execute(f"SELECT 1 FROM {RUNS} WHERE run_id = ?", [run_id]).fetchall():
        return False
    if is_released and not has_journal:
        raise _lost(run.journal_path, "is missing", place)
    return has_journal if is_released is None else is_released


def _lost(file: Path, what: str, place: StatePlace, reason: str = "") -> StateError:
    """What a killed run has sent is not known: to go on as if it had sent nothing would send rows twice."""
    hint = f"restore it, or {place.start_over}"
    return StateError(
        f"{file} {what}, and with it the record of what the killed run sent{reason}", hint=hint, code="S006"
    )
