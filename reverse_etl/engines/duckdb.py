"""DuckDB: where models are queried, and where what they return is compared with what the destination has.

One connection sees three databases:

    <warehouse's name>   the warehouse, read-only, the default catalog of models
    retl_state           state.duckdb of the sync: what was acknowledged (see `state.py`)
    retl_run             outbox.duckdb of the sync: this run's snapshot and outbox, gone when they are folded in

Here: connections, the model's columns, its changes and what is checked in them. Every error of DuckDB that comes from a
model is turned into one that names the model's file and line.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import duckdb
from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from reverse_etl.braze.modes import Kind
from reverse_etl.diff import MODEL, READ, acts_on_gone, looks_at_gone
from reverse_etl.errors import BusyError, DataError, Location, ProjectError, RetlError
from reverse_etl.plan.data_tests import TESTED_MODEL, DataTestResult, judge, tests_sql
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, GONE
from reverse_etl.plan.workbench import connect
from reverse_etl.project.models import Compiled
from reverse_etl.records.expressions import identity
from reverse_etl.records.layout import Layout
from reverse_etl.sql.quoting import catalog, identifier, literal
from reverse_etl.sql.types import MOMENTS, SqlType
from reverse_etl.system.signals import interruptible

# DuckDB gives a join that spills a sixteenth of the memory for each open connection, and at least eight of them.
_CONNECTIONS = 16
_NAMES_IN_ERRORS = 5  # of duplicate keys, so that a message stays a message


def attach_warehouse(connection: DuckDBPyConnection, path: Path, where: Location) -> None:
    """Make the warehouse the default catalog of models, read-only. `where` is its place in syncs.yml."""
    if not path.exists():
        hint = "`retl seed` makes one from seeds/*.csv; otherwise correct the path"
        raise ProjectError(f"there is no warehouse {path}", where, hint)
    name = identifier(catalog(path.name))
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {name} (READ_ONLY)")
        connection.execute(f"USE {name}")
    except duckdb.IOException as error:
        raise locked(error, path) or ProjectError(f"{path} is no DuckDB file: {_first_line(error)}", where) from error
    except duckdb.Error as error:
        raise ProjectError(f"the warehouse {path} cannot be opened: {_first_line(error)}", where) from error


def detach_warehouse(connection: DuckDBPyConnection, path: Path) -> None:
    """Let go of the warehouse, so that others can write it."""
    connection.execute(f"USE memory; DETACH {identifier(catalog(path.name))}")


def locked(error: duckdb.Error, path: Path) -> BusyError | None:
    """A BusyError that names the process which has `path` open for writing; None if `error` says something else."""
    holder = re.search(r"held in (.*?) \(PID (\d+)\)", str(error))
    if not holder:
        return None
    what = f"{path} is open for writing in {Path(holder[1]).name} (PID {holder[2]})"
    hint = (
        "wait until it is done, or pass --wait SECONDS: DuckDB lets one process write a file, and nobody else read it"
    )
    return BusyError(what, hint=hint)


def seed_sql(path: Path) -> str:
    """A SELECT of a CSV file's rows, in the types that DuckDB finds in them."""
    return f"SELECT * FROM read_csv({literal(str(path.absolute()))}, header = true)"


def load_seeds(warehouse: Path, seeds: Mapping[str, Path]) -> dict[str, int]:
    """Load CSV files into the warehouse, one table each in place of the one that was there; rows by table.

    The warehouse is made if it is not there.
    """
    rows = {}
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    try:
        with duckdb.connect(warehouse) as connection:
            for name, path in seeds.items():
                connection.execute(f"CREATE OR REPLACE TABLE {identifier(name)} AS {seed_sql(path)}")
                rows[name] = connection.table(identifier(name)).shape[0]
    except duckdb.Error as error:
        what = f"seeds cannot be loaded into {warehouse}: {_first_line(error)}"
        raise locked(error, warehouse) or ProjectError(what) from error
    return rows


def preview(
    warehouse: Path, where: Location, model: Compiled, limit: int
) -> tuple[list[str], list[tuple[object, ...]]]:
    """The first rows of a model as text: names of the columns, and a tuple a row."""
    with connect() as connection:
        attach_warehouse(connection, warehouse, where)
        names = [name for name, _ in describe(connection, model)]
        columns = ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in names)
        with interruptible(connection), _errors_of(model, first_line=2):
            rows = connection.execute(f"SELECT {columns} FROM (\n{model.sql}\n) LIMIT {limit}").fetchall()
    return names, rows


# --- the model's columns ---------------------------------------------------------------------------------------------


def describe(connection: DuckDBPyConnection, model: Compiled) -> list[tuple[str, SqlType]]:
    """The columns that a model returns. Raises ProjectError where DuckDB does not take it as one SELECT."""
    with _errors_of(model, first_line=1):
        statements = connection.extract_statements(model.sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements)
        raise ProjectError(f"a model is one SELECT; this one holds {kinds or 'nothing'}", Location(model.file))
    with _errors_of(model, first_line=2):
        connection.execute(f"DESCRIBE\n{model.sql}")  # `sql()` below leaves the line out of its errors
        relation = connection.sql(model.sql)
    return [(name, _stored(_sql_type(of))) for name, of in zip(relation.columns, relation.types, strict=True)]


def _sql_type(of: DuckDBPyType) -> SqlType:
    family, text = str(of.id).lower(), str(of)
    if text == "JSON":
        return SqlType("json", text)
    if family == "decimal":
        sizes = dict(cast(list[tuple[str, int]], of.children))
        return SqlType(family, text, precision=sizes["precision"], scale=sizes["scale"])
    if family in ("struct", "map", "list", "array", "union"):
        inner = cast(list[tuple[str, DuckDBPyType | int]], of.children)  # an array has its length among them
        types = ((name, child) for name, child in inner if isinstance(child, DuckDBPyType))
        return SqlType(family, text, tuple((name, _sql_type(child)) for name, child in types))
    return SqlType(family, text)


def _stored(of: SqlType) -> SqlType:
    """The type in which the snapshot and the state hold a column.

    A type whose text changes with its values (ENUM), or that tells nothing (NULL), would look like a changed schema.
    """
    if of.family in ("enum", "null"):
        return SqlType("varchar", "VARCHAR")
    return SqlType("json", "JSON") if of.family == "variant" else of


# --- changes ---------------------------------------------------------------------------------------------------------


def write_changes(connection: DuckDBPyConnection, layout: Layout, model: Compiled, tables: Mapping[str, str]) -> int:
    """Run the model once, and keep what differs from the state; the number of rows that the model returned.

    `tables` are those of `changes_sql`. Raises DataError for NULL keys, duplicate keys, and cursors without value.
    """
    with _all_memory(connection):
        rows = sum(_make_table(connection, model, table, select) for table, select in tables.items())
    if not layout.whole_row:
        _refuse_null_keys(connection, layout)
        _refuse_duplicate_keys(connection, layout, model, rows, _rows_gone(connection, layout, tables))
        _refuse_duplicate_users(connection, layout, model)
    _refuse_endless_cursors(connection, layout)
    for table in tables:
        if table != CHANGES:
            connection.execute(f"DROP TABLE {table}")
    return rows


def _make_table(connection: DuckDBPyConnection, model: Compiled, table: str, select: str) -> int:
    """Make a table of a SELECT; how many rows the model returned, if it ran in it, or else 0."""
    before, runs_model, after = f"CREATE TABLE {table} AS\n{select}".partition(MODEL)
    with _errors_of(model, first_line=before.count("\n") + 1):
        if not runs_model:
            connection.execute(before)
            return 0
        ran = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {before}{model.sql}{after}").fetchall()
        rows = _rows_read(ran[0][1])
        if rows is None:  # a first run, all of whose rows are changes; or a model without rows
            rows = _count(connection, f"(\n{model.sql}\n)" if READ in select else CHANGES)
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


def _rows_gone(connection: DuckDBPyConnection, layout: Layout, tables: Collection[str]) -> int | None:
    """How many rows of the state the model lacks; None if nobody looked."""
    if GONE in tables:
        return _count(connection, GONE)
    return _count(connection, f"{CHANGES} WHERE kind = 'removed'") if acts_on_gone(layout) else None


def _count(connection: DuckDBPyConnection, rows: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {rows}").fetchall()[0][0])


@contextmanager
def _all_memory(connection: DuckDBPyConnection) -> Iterator[None]:
    """Inside the block, a join that spills may have all of the memory, and not half of it."""
    with ExitStack() as idle:
        for _ in range(_CONNECTIONS - 1):
            idle.enter_context(connection.cursor())
        yield


def _refuse_null_keys(connection: DuckDBPyConnection, layout: Layout) -> None:
    counts = ", ".join(f"count(*) FILTER ({identifier(f'new.{name}')} IS NULL)" for name in layout.key)
    nulls = connection.execute(f"SELECT {counts} FROM {CHANGES} WHERE kind <> 'removed'").fetchall()[0]
    for name, count in zip(layout.key, nulls, strict=True):
        if count:
            what = f'{layout.sync.name}: primary_key "{name}" is NULL in {count:,} rows of the model'
            hint = f"leave them out of models/{layout.sync.model}.sql: WHERE {name} IS NOT NULL"
            raise DataError(what, layout.sync.where("primary_key"), hint)


def _refuse_endless_cursors(connection: DuckDBPyConnection, layout: Layout) -> None:
    """Whatever has no place on the line, no watermark can pass."""
    if layout.cursor is None:
        return
    name = identifier(f"new.{layout.cursor}")
    is_endless = f" OR NOT isfinite({name})" if layout.column(layout.cursor).type.family in MOMENTS else ""
    rows = _count(connection, f"{CHANGES} WHERE {name} IS NULL{is_endless}")
    if rows:
        what = f'{layout.sync.name}: cursor "{layout.cursor}" is NULL or infinite in {rows:,} rows of the model'
        hint = f"give them a value, or leave them out of models/{layout.sync.model}.sql"
        raise DataError(what, layout.sync.where("incremental", "cursor"), hint)


def _refuse_duplicate_keys(
    connection: DuckDBPyConnection, layout: Layout, model: Compiled, rows: int, gone: int | None
) -> None:
    """Twins that are both new, or changed, stand among the changes; one that is unchanged shows in the counts.

    Each row of the state is met by one row of the model at most, or else a key stands in the model twice.
    """
    key = [identifier(name) for name in layout.key]
    new_key = ", ".join(f"{identifier(f'new.{name}')} AS {identifier(name)}" for name in layout.key)
    found = _duplicates(connection, key, f"(SELECT {new_key} FROM {CHANGES} WHERE kind <> 'removed')")
    if not found and _hides_twins(connection, layout, rows, gone):
        with _errors_of(model, first_line=2):
            found = _duplicates(connection, key, f"(\n{model.sql}\n)")
    if found:
        names = ", ".join(layout.key)
        hint = "return one row for each key (GROUP BY, QUALIFY row_number() ...), or name more columns in primary_key"
        what = f'{layout.sync.name}: primary_key "{names}" is not unique: {found}'
        raise DataError(what, layout.sync.where("primary_key"), hint)


def _hides_twins(connection: DuckDBPyConnection, layout: Layout, rows: int, gone: int | None) -> bool:
    if rows == _count(connection, f"{CHANGES} WHERE kind <> 'removed'"):
        return False  # all of them stand among the changes
    if (
        gone is None
    ):  # it cannot be told from counts; an incremental model's twin does no harm where nothing has changed
        return looks_at_gone(layout) or _count(connection, f"{CHANGES} WHERE kind = 'changed'") > 0
    unknown = _count(connection, f"{CHANGES} WHERE kind <> 'removed' AND NOT known")
    return rows - unknown > _count(connection, ACKNOWLEDGED) - gone


def _refuse_duplicate_users(connection: DuckDBPyConnection, layout: Layout, model: Compiled) -> None:
    """With a key of the sync's own, two rows may be about one user; Braze would take them in any order."""
    if not layout.sync.primary_key or Kind.CHANGED not in layout.mode.kinds:
        return
    users = identity(layout, "model")
    by_key = {f"model.{identifier(name)}" for name in layout.key}
    if set(users) == by_key or not _count(connection, f"{CHANGES} WHERE kind <> 'removed'"):
        return
    with _errors_of(model, first_line=2):
        found = _duplicates(connection, users, f"(\n{model.sql}\n) AS model")
    if found:
        names = ", ".join([*layout.identifiers, *layout.mode.key_fields])
        what = f"{layout.sync.name}: one user stands in several rows ({names}): {found}"
        raise DataError(what, layout.sync.where("primary_key"), "return one row for each user")


def _duplicates(connection: DuckDBPyConnection, columns: list[str], rows: str) -> str | None:
    """How many keys stand in how many of `rows`, and the first of them; None if each stands once."""
    key, is_known = ", ".join(columns), " OR ".join(f"{column} IS NOT NULL" for column in columns)
    counted = f"SELECT {key}, count(*) AS times FROM {rows} WHERE {is_known} GROUP BY ALL HAVING times > 1"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_twins AS {counted}")
    keys, times = connection.execute("SELECT count(*), sum(times) FROM retl_twins").fetchall()[0]
    if not keys:
        return None
    first = connection.execute(f"SELECT * FROM retl_twins ORDER BY ALL LIMIT {_NAMES_IN_ERRORS}").fetchall()
    shown = [f"{' / '.join(str(part) for part in key if part is not None)} ({n} rows)" for *key, n in first]
    more = f" and {keys - len(first):,} more" if keys > len(first) else ""
    return f"{keys:,} keys stand in {times:,} rows: {', '.join(shown)}{more}"


# --- data tests ------------------------------------------------------------------------------------------------------


def run_data_tests(connection: DuckDBPyConnection, layout: Layout, model: Compiled) -> tuple[DataTestResult, ...]:
    """Run the data tests of a sync on the rows that its model returns, all in one query.

    Raises ProjectError for a `where` that is no SQL over the model's columns.
    """
    tests = layout.sync.data_tests
    if not tests:
        return ()
    for number, test in enumerate(tests):
        if test.claim.where:
            _check_where(connection, layout, model, number, test.claim.where)
    before, after = tests_sql(layout).split(TESTED_MODEL)
    first_line = before.count("\n") + 1
    try:
        _, *found = connection.execute(f"{before}{model.sql}{after}").fetchall()[0]
    except duckdb.Error as error:
        if 0 < _line_of(error) < first_line:  # what stands before the model is the tests
            what = f'data test in sync "{layout.sync.name}": {_without_values(error)}'
            raise ProjectError(what, layout.sync.where("data_tests"), "look at the where of its data tests") from error
        raise _translated(error, model, first_line) from error
    return judge(tests, [(one["rows"], one["keys"] or ()) for one in found])


def _check_where(connection: DuckDBPyConnection, layout: Layout, model: Compiled, number: int, where: str) -> None:
    try:
        connection.execute(f"EXPLAIN SELECT 1 FROM (\n{model.sql}\n) WHERE (\n{where}\n)")
    except duckdb.Error as error:
        place = layout.sync.where("data_tests", number, layout.sync.data_tests[number].kind, "where")
        what = f'data test in sync "{layout.sync.name}": where: {_without_values(error)}'
        raise ProjectError(what, place, "where is SQL over the columns that the model returns") from error


# --- errors ----------------------------------------------------------------------------------------------------------


class _errors_of:  # noqa: N801  # reads as a statement: with _errors_of(model, ...)
    """Turns DuckDB's errors inside the block into ones that lead to the model's file and line.

    The model's compiled SQL begins at line `first_line` of the statement.
    """

    def __init__(self, model: Compiled, first_line: int) -> None:
        self.model, self.first_line = model, first_line

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, duckdb.Error) and not WRITING.search(str(error)):
            raise _translated(error, self.model, self.first_line) from error


WRITING = re.compile("Could not write|Could not fsync|No space left|File too large")  # into retl's own files
_OF_VALUES = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)


def _translated(error: duckdb.Error, model: Compiled, first_line: int) -> RetlError:
    what, line = _without_values(error), max(_line_of(error) - first_line + 1, 0)
    if isinstance(error, duckdb.OutOfMemoryException):
        return DataError(
            f"{model.file}: DuckDB ran out of memory: {what}",
            hint="pass --memory-limit 4GB, or free disk space for it to spill to",
        )
    where = model.source_of(line) if line > 0 else Location(model.file)
    hint = f"the compiled SQL is in {model.compiled_file}" + (f", line {line}" if line > 0 else "")
    return ProjectError(what, where, _not_built(what, model) or hint)


def _not_built(what: str, model: Compiled) -> str | None:
    """What to do if the table that DuckDB does not find is one that dbt knows; None if it is not."""
    missing = re.match(r'Catalog Error: Table with name "?([^"]*?)"? does not exist', what)
    if not missing:
        return None
    for relation in model.reads:
        if relation.unique_id and f".{relation.plain}".endswith(f".{missing[1].casefold()}"):
            kind, _, name = relation.unique_id.split(".", 2)
            way_out = "load it" if kind == "source" else f"dbt build --select {name}"
            return f"dbt knows it as {relation.unique_id}, but this warehouse does not hold it: {way_out}"
    return None


def _without_values(error: duckdb.Error) -> str:
    what = " ".join(str(error).partition("\n\nLINE ")[0].split())
    if isinstance(error, _OF_VALUES):
        what = re.sub(r"'.*'|\".*\"|(?<=with value )\S+", "***", what)  # the value may be anyone's
    return what


def _line_of(error: duckdb.Error) -> int:
    """The line of the statement that an error names; 0 if it names none."""
    snippet = str(error).partition("\n\nLINE ")[2]
    return int(snippet.split(":")[0]) if snippet else 0


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
