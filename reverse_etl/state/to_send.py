"""How many rows are to be sent, as far as the last run and the user's decisions since tell.

meta, "to_send"       [rows, the run that they are of]: rows that the run planned and that are neither accepted nor
                      rejected nor in doubt, and rows that `retl resolve` has sent again since
runs.counts           "unsent_rows": those of that run alone
"""

import json
from collections.abc import Mapping, Set
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.plan.tables import RUNS
from reverse_etl.state.contents import meta_of, set_meta
from reverse_etl.state.outcomes import WITH_OUTCOMES, DeliveryCounts

TO_SEND, UNSENT_ROWS = "to_send", "unsent_rows"
_WAIT = ("blocked", "later")  # actions, in a run that sends opt-outs alone


def unsent_rows(connection: DuckDBPyConnection, actions: Set[str], delivery: DeliveryCounts) -> int:
    """How many rows of the open run are still to be sent; one may have a record that opts out, beside its own."""
    if not delivery.unsent and actions.isdisjoint(_WAIT):
        return 0
    which = f"outcome = 'unsent' OR action IN {_WAIT}"
    (rows,) = connection.execute(f"SELECT count(DISTINCT key) FROM {WITH_OUTCOMES} WHERE {which}").fetchall()[0]
    return int(rows)


def of_run(counts: Mapping[str, Any]) -> int | None:
    """How many rows a run left to be sent, by what is kept of it; None if that is not known."""
    rows = counts.get(UNSENT_ROWS, counts.get("delivery", {}).get("unsent"))
    return None if rows is None else int(rows)


def after_run(run_id: str, rows: int, before: int | None) -> dict[str, str | None]:
    """What is to be known after a run that left so many; after one that reverts others, what was `before` too."""
    return {TO_SEND: json.dumps([rows + (before or 0), run_id])}


def to_send(connection: DuckDBPyConnection, meta: Mapping[str, str] | None = None) -> int | None:
    """How many rows are to be sent; None if that is not known, as before the first run."""
    last = connection.execute(f"SELECT arg_max([run_id, CAST(counts AS VARCHAR)], finished_at) FROM {RUNS}").fetchall()[
        0
    ][0]
    if last is None:
        return None
    run_id, counts = last
    rows, of = json.loads((meta_of(connection) if meta is None else meta).get(TO_SEND, "[null, null]"))
    return int(rows) if of == run_id else of_run(json.loads(counts))  # else an earlier version has run


def change(connection: DuckDBPyConnection, by: int) -> None:
    """So many more rows are to be sent than were before, or fewer, by what a user has decided."""
    last = connection.execute(f"SELECT arg_max(run_id, finished_at) FROM {RUNS}").fetchall()[0][0]
    before = to_send(connection)
    if by and before is not None:
        set_meta(connection, {TO_SEND: json.dumps([max(0, before + by), last])})
