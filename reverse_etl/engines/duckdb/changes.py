"""DuckDB: where models are queried, and where what they return is compared with what the destination has.

One connection sees three databases:

    <warehouse's name>   the warehouse, read-only, the default catalog of models
    retl_state           state.duckdb of the sync: what was acknowledged (see `state.py`)
    retl_run             outbox.duckdb of the sync: this run's snapshot and outbox, gone when they are folded in

Here: connections, the model's columns, its changes and what is checked in them. Every error of DuckDB that comes from a
model is turned into one that names the model's file and line.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.checks import (
    count_rows,
    refuse_duplicate_keys,
    refuse_duplicate_users,
    refuse_endless_cursors,
    refuse_null_keys,
    rows_gone,
)
from reverse_etl.engines.duckdb.diff import MODEL, READ
from reverse_etl.engines.duckdb.errors import errors_of
from reverse_etl.plan.tables import CHANGES
from reverse_etl.project.models import Compiled
from reverse_etl.records.layout import Layout

# DuckDB gives a join that spills a sixteenth of the memory for each open connection, and at least eight of them.
_CONNECTIONS = 16


def write_changes(connection: DuckDBPyConnection, layout: Layout, model: Compiled, tables: Mapping[str, str]) -> int:
    """Run the model once, and keep what differs from the state; the number of rows that the model returned.

    `tables` are those of `changes_sql`. Raises DataError for NULL keys, duplicate keys, and cursors without value.
    """
    with _all_memory(connection):
        rows = sum(_make_table(connection, model, table, select) for table, select in tables.items())
    if not layout.whole_row:
        refuse_null_keys(connection, layout)
        refuse_duplicate_keys(connection, layout, model, rows, rows_gone(connection, layout, tables))
        refuse_duplicate_users(connection, layout, model)
    refuse_endless_cursors(connection, layout)
    for table in tables:
        if table != CHANGES:
            connection.execute(f"DROP TABLE {table}")
    return rows


def _make_table(connection: DuckDBPyConnection, model: Compiled, table: str, select: str) -> int:
    """Make a table of a SELECT; how many rows the model returned, if it ran in it, or else 0."""
    before, runs_model, after = f"CREATE TABLE {table} AS\n{select}".partition(MODEL)
    with errors_of(model, first_line=before.count("\n") + 1):
        if not runs_model:
            connection.execute(before)
            return 0
        ran = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {before}{model.sql}{after}").fetchall()
        rows = _rows_read(ran[0][1])
        if rows is None:  # a first run, all of whose rows are changes; or a model without rows
            rows = count_rows(connection, f"(\n{model.sql}\n)" if READ in select else CHANGES)
    return rows


def _rows_read(profile: str) -> int | None:
    """How many rows the model returned, of the profile of the statement in which it ran; None if it does not tell.

    Below the join with the state, the deepest operator that knows the column READ works it out, for each row once. To
    count rows on their way, by a sequence, makes DuckDB run the model on one core.
    """

    def rows_below(operator: Mapping[str, Any], is_joined: bool) -> int | None:
        inner = operator.get("children", ())
        found = [rows_below(one, is_joined or len(inner) > 1) for one in inner]
        if any(rows is not None for rows in found):
            return sum(rows for rows in found if rows is not None)
        knows = is_joined and READ in json.dumps(operator.get("extra_info"))
        return cast(int | None, operator.get("intermediate_rows")) if knows else None

    return rows_below({"children": json.loads(profile).get("operator", ())}, is_joined=False)


@contextmanager
def _all_memory(connection: DuckDBPyConnection) -> Iterator[None]:
    """Inside the block, a join that spills may have all of the memory, and not half of it."""
    with ExitStack() as idle:
        for _ in range(_CONNECTIONS - 1):
            idle.enter_context(connection.cursor())
        yield
