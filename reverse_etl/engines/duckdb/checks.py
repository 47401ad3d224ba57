"""What must be true of the rows of a model before any of them is sent: keys, cursors, data tests."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.diff import acts_on_gone
from reverse_etl.engines.duckdb.errors import line_of, translated, without_values
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.duckdb.reach import out_of_reach
from reverse_etl.errors import DataError, ProjectError
from reverse_etl.plan.data_tests import TESTED_MODEL, DataTestResult, judge, tests_sql
from reverse_etl.plan.tables import CHANGES, GONE
from reverse_etl.records.expressions import is_null, new
from reverse_etl.records.rules import or_skip
from reverse_etl.sql.quoting import identifier, plain
from reverse_etl.sql.types import MOMENTS
from reverse_etl.words import count


def rows_gone(query: ModelQuery, tables: Collection[str]) -> int | None:
    """How many rows of the state the model lacks; None if that was not determined."""
    if GONE in tables:
        return query.count(GONE)
    return query.count(f"{CHANGES} WHERE kind = 'removed'") if acts_on_gone(query.layout) else None


def refuse_null_keys(query: ModelQuery) -> None:
    layout = query.layout
    counts = ", ".join(f"count(*) FILTER ({is_null(part, new)})" for part in layout.key_parts)
    nulls = query.execute(f"SELECT {counts} FROM {CHANGES} WHERE kind <> 'removed'").fetchall()[0]
    for part, rows in zip(layout.key_parts, nulls, strict=True):
        if rows:
            what = f'{layout.sync.name}: primary_key "{", ".join(part)}" is NULL in {count(rows, "row")} of the model'
            condition = " OR ".join(f"{plain(name)} IS NOT NULL" for name in part)
            hint = f"set a value, or exclude them in models/{layout.sync.model}.sql: WHERE {condition}"
            if layout.sync.on_removed == "delete":
                hint = f"set a value in models/{layout.sync.model}.sql: a row without a key would be deleted as removed"
            hint += or_skip(layout, null_keys=True)
            raise DataError(what, layout.sync.where("primary_key"), hint, code="D001")


def refuse_endless_cursors(query: ModelQuery) -> None:
    """Raises DataError for a cursor that is NULL or infinite: no watermark can pass it."""
    layout = query.layout
    if layout.cursor is None:
        return
    name = identifier(f"new.{layout.cursor}")
    is_endless = f" OR NOT isfinite({name})" if layout.column(layout.cursor).type.family in MOMENTS else ""
    rows = query.count(f"{CHANGES} WHERE {name} IS NULL{is_endless}")
    if rows:
        what = f'{layout.sync.name}: cursor "{layout.cursor}" is NULL or infinite in {count(rows, "row")} of the model'
        shown = plain(layout.cursor)
        is_there = f"isfinite({shown})" if is_endless else f"{shown} IS NOT NULL"
        hint = f"set a value, or exclude them in models/{layout.sync.model}.sql: WHERE {is_there}"
        raise DataError(what, layout.sync.where("incremental", "cursor"), hint, code="D002")


def run_data_tests(query: ModelQuery) -> tuple[DataTestResult, ...]:
    """Run the data tests of a sync on the rows that its model returns, all in one query.

    Raises ProjectError for a `where` that is not valid SQL over the model's columns.
    """
    layout = query.layout
    tests = layout.sync.data_tests
    if not tests:
        return ()
    for number, test in enumerate(tests):
        if test.claim.where:
            _check_where(query, number, test.claim.where)
    before, after = tests_sql(layout).split(TESTED_MODEL)
    first_line = before.count("\n") + 1
    try:
        _, *found = query.execute(f"{before}{query.model.sql}{after}").fetchall()[0]
    except duckdb.Error as error:
        if 0 < line_of(error) < first_line:  # the lines before the model are the tests
            what = f'data test in sync "{layout.sync.name}": {without_values(error)}'
            raise ProjectError(
                what, layout.sync.where("data_tests"), 'check "where" in its data tests', code="P056"
            ) from None
        raise translated(error, query.model, first_line) from None
    return judge(tests, [(one["rows"], one["keys"] or ()) for one in found])


def is_condition(connection: DuckDBPyConnection, text: str) -> bool:
    """Whether a text is one SQL condition and nothing else: no further clause, no statement, no bracket of its own.

    It runs nothing: DuckDB parses the text where a condition belongs, and nothing but a condition may come of it.
    """

    def parsed(condition: str) -> list[Mapping[str, Any]]:
        sql = f"SELECT 1 FROM t WHERE\n{condition}\n"
        ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        return [{**one["node"], "where_clause": None} for one in json.loads(tree).get("statements", ())]

    return parsed(text) == parsed("true")


def _check_where(query: ModelQuery, number: int, where: str) -> None:
    layout = query.layout

    def wrong(why: str, hint: str | None) -> ProjectError:
        place = layout.sync.where("data_tests", number, layout.sync.data_tests[number].kind, "where")
        return ProjectError(f'data test in sync "{layout.sync.name}": where: {why}', place, hint, code="P056")

    if not is_condition(query.connection, where):
        raise wrong("not a single SQL condition", "write one expression that is true or false, such as country = 'KR'")
    try:
        query.execute(f"EXPLAIN SELECT 1 FROM (\n{query.model.sql}\n) WHERE (\n{where}\n)")
    except duckdb.Error as error:
        refused = out_of_reach(error)
        hint: str | None = '"where" must be SQL over the columns that the model returns'
        what, hint = (refused.what, refused.hint) if refused else (without_values(error), hint)
        raise wrong(what, hint) from None
