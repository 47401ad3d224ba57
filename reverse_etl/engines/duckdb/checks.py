"""What must be true of the rows of a model before any of them is sent: keys, cursors, data tests."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Kind
from reverse_etl.engines.duckdb.diff import acts_on_gone, looks_at_gone, read_columns
from reverse_etl.engines.duckdb.errors import line_of, translated, without_values
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.duckdb.reach import out_of_reach
from reverse_etl.errors import DataError, ProjectError
from reverse_etl.masking import Keys
from reverse_etl.plan.data_tests import TESTED_MODEL, DataTestResult, judge, tests_sql
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, GONE
from reverse_etl.records.expressions import as_compared, identity
from reverse_etl.sql.quoting import identifier
from reverse_etl.sql.types import MOMENTS
from reverse_etl.words import count

_NAMES_IN_ERRORS = 5  # of duplicate keys, to keep messages short


def rows_gone(query: ModelQuery, tables: Collection[str]) -> int | None:
    """How many rows of the state the model lacks; None if that was not determined."""
    if GONE in tables:
        return query.count(GONE)
    return query.count(f"{CHANGES} WHERE kind = 'removed'") if acts_on_gone(query.layout) else None


def refuse_null_keys(query: ModelQuery) -> None:
    layout = query.layout
    counts = ", ".join(f"count(*) FILTER ({identifier(f'new.{name}')} IS NULL)" for name in layout.key)
    nulls = query.execute(f"SELECT {counts} FROM {CHANGES} WHERE kind <> 'removed'").fetchall()[0]
    for name, rows in zip(layout.key, nulls, strict=True):
        if rows:
            what = f'{layout.sync.name}: primary_key "{name}" is NULL in {count(rows, "row")} of the model'
            hint = f"set a value, or exclude them in models/{layout.sync.model}.sql: WHERE {name} IS NOT NULL"
            raise DataError(what, layout.sync.where("primary_key"), hint)


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
        hint = f"set a value, or exclude them in models/{layout.sync.model}.sql"
        raise DataError(what, layout.sync.where("incremental", "cursor"), hint)


def refuse_duplicate_keys(query: ModelQuery, rows: int, gone: int | None, keys: Keys) -> None:
    """Raises DataError for a key that the model returns more than once, as `keys` shows it.

    Duplicates that are both new or changed are among the changes; one that is unchanged shows in the counts: every row
    of the state matches at most one row of the model, or else a key is in the model twice.
    """
    layout = query.layout
    key = {name: as_compared(layout, name, identifier(name)) for name in layout.key}
    new_key = ", ".join(f"{identifier(f'new.{name}')} AS {identifier(name)}" for name in layout.key)
    found = _duplicates(query, keys, key, f"(SELECT {new_key} FROM {CHANGES} WHERE kind <> 'removed')")
    if not found and _hides_twins(query, rows, gone):
        with query.errors(first_line=2):
            found = _duplicates(query, keys, key, read_columns(layout, query.model.sql))
    if found:
        names = ", ".join(layout.key)
        hint = "return one row per key (GROUP BY, QUALIFY row_number() ...), or add columns to primary_key"
        what = f'{layout.sync.name}: primary_key "{names}" is not unique: {found}'
        raise DataError(what, layout.sync.where("primary_key"), hint)


def _hides_twins(query: ModelQuery, rows: int, gone: int | None) -> bool:
    if rows == query.count(f"{CHANGES} WHERE kind <> 'removed'"):
        return False  # all of them are among the changes
    if gone is None:
        # Counts do not tell; and where nothing has changed, a duplicate in an incremental model does no harm.
        return looks_at_gone(query.layout) or query.count(f"{CHANGES} WHERE kind = 'changed'") > 0
    unknown = query.count(f"{CHANGES} WHERE kind <> 'removed' AND NOT known")
    return rows - unknown > query.count(ACKNOWLEDGED) - gone


def refuse_duplicate_users(query: ModelQuery, keys: Keys) -> None:
    """Raises DataError for two rows of one user, as Braze could apply them in any order; only with a `primary_key`."""
    layout = query.layout
    if not layout.sync.primary_key or Kind.CHANGED not in layout.mode.kinds:
        return
    users = {name: as_compared(layout, name, value) for name, value in identity(layout, "model").items()}
    by_key = {as_compared(layout, name, f"model.{identifier(name)}") for name in layout.key}
    if set(users.values()) == by_key or not query.count(f"{CHANGES} WHERE kind <> 'removed'"):
        return
    with query.errors(first_line=2):
        found = _duplicates(query, keys, users, f"{read_columns(layout, query.model.sql)} AS model")
    if found:
        names = ", ".join([*layout.identifiers, *layout.mode.key_fields])
        what = f"{layout.sync.name}: several rows for the same user ({names}): {found}"
        raise DataError(what, layout.sync.where("primary_key"), "return one row per user")


def _duplicates(query: ModelQuery, shown: Keys, columns: Mapping[str, str], rows: str) -> str | None:
    """How many keys occur several times, in how many `rows`, and the first of them; None if there are none.

    `columns` is SQL for the parts of a key, by their names.
    """
    key = ", ".join(columns.values())
    is_known = " OR ".join(f"{column} IS NOT NULL" for column in columns.values())
    counted = f"SELECT {key}, count(*) AS times FROM {rows} WHERE {is_known} GROUP BY ALL HAVING times > 1"
    query.execute(f"CREATE OR REPLACE TEMP TABLE retl_twins AS {counted}")
    keys, times = query.execute("SELECT count(*), sum(times) FROM retl_twins").fetchall()[0]
    if not keys:
        return None
    first = query.execute(f"SELECT * FROM retl_twins ORDER BY ALL LIMIT {_NAMES_IN_ERRORS}").fetchall()
    listed = [f"{' / '.join(_parts(shown, columns, key))} ({count(n, 'row')})" for *key, n in first]
    more = f" and {keys - len(first):,} more" if keys > len(first) else ""
    verb = "occurs" if keys == 1 else "occur"
    return f"{count(keys, 'key')} {verb} in {count(times, 'row')}: {', '.join(listed)}{more}"


def _parts(shown: Keys, columns: Iterable[str], key: Sequence[object]) -> list[str]:
    return [str(shown.part(name, part)) for name, part in zip(columns, key, strict=True) if part is not None]


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
            raise ProjectError(what, layout.sync.where("data_tests"), 'check "where" in its data tests') from None
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
        return ProjectError(f'data test in sync "{layout.sync.name}": where: {why}', place, hint)

    if not is_condition(query.connection, where):
        raise wrong("not a single SQL condition", "write one expression that is true or false, such as country = 'KR'")
    try:
        query.execute(f"EXPLAIN SELECT 1 FROM (\n{query.model.sql}\n) WHERE (\n{where}\n)")
    except duckdb.Error as error:
        refused = out_of_reach(error)
        hint = '"where" must be SQL over the columns that the model returns'
        raise wrong(*refused or (without_values(error), hint)) from None
