"""Runs a model, stores what differs from the state, and counts the rows that the model returned."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.absences import find_absences
from reverse_etl.engines.duckdb.checks import refuse_endless_cursors, refuse_null_keys, rows_gone
from reverse_etl.engines.duckdb.diff import (
    MODEL,
    READ,
    changes_sql,
    is_same_again,
    no_changes_sql,
    notes_absences,
)
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.duckdb.twins import OF_MODEL, Counts, has_twins, refuse_twins, set_twins_aside
from reverse_etl.engines.engine import Comparison, First
from reverse_etl.plan.tables import APART, CANDIDATES, CHANGES, GONE, MATCHED, RESPELLED

# DuckDB gives a join that spills a sixteenth of the memory for each open connection, and at least eight of them.
_CONNECTIONS = 16
# What a row of the state takes in the memory of a join by hashes: 24 bytes, and one and a half to three pointers.
_BYTES_IN_JOIN = 40
_MOST_APART = 0.2  # of the rows: where more differ, nothing is gained by joining hashes first


def write_changes(query: ModelQuery, comparison: Comparison, may_run_again: bool = False) -> int:
    """Run the model once, and store what differs from the state; returns the number of rows of the model.

    If it `may_run_again`, and the join would not fit into memory, it runs once more for the rows that differ. If it
    does not return the same rows then, what it returned does not count.

    Raises DataError for NULL or infinite cursors, and unless such rows are set aside for NULL keys and duplicate keys;
    for NULL keys also where removed rows are deleted, as nobody can tell that these rows have not been removed.
    """
    tables = changes_sql(query.layout, comparison, may_run_again and _spills(query, comparison))
    with _all_memory(query.connection):
        rows, is_unchanged, looks_at_gone = 0, False, GONE in tables
        for table, made in tables.items():
            select = made()
            if table == MATCHED and not query.count(RESPELLED):
                select = f"FROM {RESPELLED}"
            found = _make_table(query, table, select)
            rows += found if table != MATCHED and not (table == CANDIDATES and APART in tables) else 0
            if APART in tables and not _goes_on(query, table, rows):
                query.execute(f"DROP TABLE {APART}; DROP TABLE IF EXISTS {CANDIDATES}")
                return write_changes(query, comparison)
            if table in (APART, CANDIDATES) and MATCHED not in tables and not query.count(table):
                _make_table(query, CHANGES, no_changes_sql(query.layout, comparison))
                is_unchanged = True
                break
    has_changes = not is_unchanged and query.count(CHANGES) > 0
    gone = rows_gone(query, tables) if not is_unchanged else 0 if looks_at_gone else None
    counts = Counts(rows, query.count(OF_MODEL) if has_changes else 0, comparison.in_state, gone)
    if query.layout.sets_aside:
        if query.layout.sync.on_removed == "delete":
            refuse_null_keys(query)
        set_twins_aside(query, counts, comparison)
    elif not query.layout.whole_row:
        if has_changes:
            refuse_null_keys(query)
        refuse_twins(query, counts, comparison.keys)
    if has_changes:
        refuse_endless_cursors(query)
    if looks_at_gone and notes_absences(query.layout):
        find_absences(query, comparison, gone or 0)
    for table in tables:
        if table != CHANGES and not is_unchanged:  # then what there is has no rows
            query.execute(f"DROP TABLE {table}")
    return rows


def _spills(query: ModelQuery, comparison: Comparison) -> bool:
    """Whether the hashes of the state take more memory than there is."""
    limit = query.execute("SELECT parse_formatted_bytes(current_setting('memory_limit'))").fetchall()[0][0]
    return comparison.in_state * _BYTES_IN_JOIN > int(limit)


def _goes_on(query: ModelQuery, table: str, rows: int) -> bool:
    """Whether to go on where hashes are joined first: few rows differ, and the model returns the same ones again."""
    if table == APART:
        return query.count(f"{APART} WHERE {READ} IS NOT NULL") <= rows * _MOST_APART
    return table != CANDIDATES or query.execute(f"SELECT {is_same_again(query.layout)}").fetchall() == [(True,)]


def write_first(query: ModelQuery, comparison: Comparison, first: First) -> int | None:
    """Run the statement that stores what becomes of the model's rows, and let CHANGES be a view of that; returns the
    number of rows. None, with neither of both, if rows have to be set aside as twins.

    Raises DataError as `write_changes` does.
    """
    layout = query.layout
    before, _, after = first.statement.partition(MODEL)
    with query.errors(first_line=before.count("\n") + 1):
        query.execute(f"{before}{query.model.sql}{after}")
    query.execute(f"CREATE VIEW {CHANGES} AS {first.changes}")
    rows = query.count(first.table)
    if layout.sets_aside:
        if layout.sync.on_removed == "delete":
            refuse_null_keys(query)
        if has_twins(query):
            query.execute(f"DROP VIEW {CHANGES}; DROP TABLE {first.table}")
            return None
    elif not layout.whole_row:
        refuse_null_keys(query)
        refuse_twins(query, Counts(rows, rows, 0, None), comparison.keys)
    refuse_endless_cursors(query)
    return rows


def _make_table(query: ModelQuery, table: str, select: str) -> int:
    """Create a table from a SELECT; returns how many rows the model returned if it ran in it, or else 0."""
    before, runs_model, after = f"CREATE TABLE {table} AS\n{select}".partition(MODEL)
    with query.errors(first_line=before.count("\n") + 1):
        if not runs_model:
            query.execute(before)
            return 0
        model = query.model.sql
        ran = query.execute(f"EXPLAIN (ANALYZE, FORMAT json) {before}{model}{after}").fetchall()
        rows = query.rows_returned()
        if rows is None:
            rows = _rows_read(ran[0][1])
        if rows is None:  # a first run, all of whose rows are changes; or a model without rows
            rows = query.count(f"(\n{model}\n)" if READ in select else CHANGES)
    return rows


def _rows_read(profile: str) -> int | None:
    """How many rows the model returned, from the profile of the statement in which it ran; None if it does not say.

    Below the join with the state, the deepest operator with the column READ computes it, once per row. Counting the
    rows with a sequence would make DuckDB run the model on one core.
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
    """Inside the block, a join that spills may use all of the memory, not just half of it."""
    with ExitStack() as idle:
        for _ in range(_CONNECTIONS - 1):
            idle.enter_context(connection.cursor())
        yield
