"""Recovers a killed run before anything else is done: its requests and responses count."""

from datetime import datetime

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import StateError
from reverse_etl.plan.outbox import rename_in_outbox
from reverse_etl.plan.tables import RUNS
from reverse_etl.shared_state.copies import LocalOnly, SharedCopy
from reverse_etl.state.commit import DeliveryCounts, Ending, commit_run
from reverse_etl.state.open_run import OpenRun


def recover(
    connection: DuckDBPyConnection, run: OpenRun, copy: LocalOnly | SharedCopy, sync: str, now: datetime
) -> DeliveryCounts | None:
    """Commit a killed run, if there is one, and drop it; returns what it had done.

    Raises StateError, and changes nothing, if its outbox cannot be read.
    """
    delivery = None
    if run.is_left():
        try:
            run.attach()
            rename_in_outbox(connection)
            run_id = run.run_id()
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            what = f"{run.outbox_path} is damaged, and with it the record of what the killed run sent: {reason}"
            hint = f"restore it, or run `retl state reset {sync}`: the old files are kept, and every row is sent again"
            raise StateError(what, hint=hint) from error
        if not connection.execute(f"SELECT 1 FROM {RUNS} WHERE run_id = ?", [run_id]).fetchall():
            copy.will_change()
            delivery = commit_run(connection, run.journal_path, Ending("killed", None, {}, now))
    copy.recovered(connection)
    run.drop()  # without a journal it was killed while planning; if already committed, only this was missing
    return delivery
