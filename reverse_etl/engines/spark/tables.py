"""Tables of acknowledged rows in Spark: written once, listed, dropped. See `plan/elsewhere.py`.

Nothing but CREATE TABLE AS, INSERT, SELECT and DROP is asked of Spark: so they may be Parquet, Delta or Iceberg, as the
schema has it.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from reverse_etl.braze.modes import Mode
from reverse_etl.engines.duckdb.model import types_from
from reverse_etl.engines.spark.errors import CANCELLED, GONE_AWAY, too_large
from reverse_etl.engines.spark.known import all_named
from reverse_etl.engines.spark.people import ASKED, SECRET, asked_sql, hashed_odd
from reverse_etl.engines.spark.reader import SparkReader, is_sparks, parts_of, text_of
from reverse_etl.engines.spark.sieve import IS_UNCERTAIN, OWN, but_for, current_sql, full_name, moment
from reverse_etl.engines.spark.types import type_in_spark
from reverse_etl.errors import BusyError, Location, ProjectError, RetlError, StateError
from reverse_etl.masking import of_warehouse
from reverse_etl.plan.elsewhere import GONE, Adopted, Asked, Pointer, RowTable
from reverse_etl.plan.tables import ABSENT_SINCE, SENT_AT
from reverse_etl.sql.quoting import literal, quoted
from reverse_etl.sql.types import SqlType
from reverse_etl.system.clock import Clock
from reverse_etl.words import count

T = TypeVar("T")
_ROWS = "retl_rows"  # what rows that are uploaded are called in a session
_KEYS = "retl_keys"  # ... and keys
_RESTORE = "restore what was dropped or changed, as a lake can; if that cannot be, see docs/engines.md"
_FILES = frozenset({"parquet", "orc", "csv", "json", "text", "avro"})  # formats of tables without versions
_TRIED = re.compile(r"retl_try_(\d{14})_[0-9a-f]{16}")  # no name of a table of a state
_END = re.compile(r"\s*SQLSTATE: |\n\n|\n==|\nJVM stacktrace")


class SparkTables:
    """See `RowTables`. `where` is where syncs.yml names the schema."""

    def __init__(self, reader: SparkReader, schema: str, where: Location) -> None:
        self.schema, self._reader, self._where = schema, reader, where

    def names(self, prefix: str) -> list[str]:
        schema = ".".join(quoted(part, "spark") for part in self.schema.split("."))
        rows = self._do(f"SHOW TABLES IN {schema} LIKE {literal(prefix + '*')}")
        return [row["tableName"] for row in rows if not row["isTemporary"] and row["tableName"].startswith(prefix)]

    def write(self, name: str, columns: Mapping[str, SqlType], batches: Iterator[Any]) -> None:
        unfit = [f'"{name}" ({of.text})' for name, of in columns.items() if not self._type(name, of)]
        if unfit:
            what = f"acknowledged rows have columns that Spark does not store: {', '.join(unfit)}"
            raise ProjectError(what, self._where, "leave them where they are", code="P148")
        listed = ", ".join(
            f"CAST({quoted(column, 'spark')} AS {self._type(column, of)}) AS {quoted(column, 'spark')}"
            for column, of in columns.items()
        )
        begins = f"CREATE TABLE {full_name(self.schema, name)} AS"
        for rows in (part for batch in batches for part in parts_of(table_of(batch))):
            self.explained(partial(self._reader.name_rows, _ROWS, rows))
            self._do(f"{begins} SELECT {listed} FROM {_ROWS}")
            begins = f"INSERT INTO {full_name(self.schema, name)}"

    def write_current(
        self, name: str, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], without: Any = None
    ) -> int:
        table, rows = full_name(self.schema, name), current_rows(pointer, columns, key)
        if without is None:
            self._do(f"CREATE TABLE {table} AS {rows}", pointer)
        else:
            with self._named(_KEYS, without):
                left = but_for(rows, _KEYS, {name: columns[name] for name in key})
                self._do(f"CREATE TABLE {table} AS {left}", pointer)
        return int(next(iter(self._do(f"SELECT count(*) AS rows FROM {table}")[0].values())))

    def read(
        self, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], of: Any = None
    ) -> Iterator[Any]:
        if of is None:
            yield from self._stream(current_rows(pointer, columns, key), pointer)
            return
        for keys in parts_of(of):
            with self._named(_KEYS, keys):
                yield from self._stream(current_rows(pointer, columns, key, _KEYS), pointer)

    def named(self, adopted: Adopted, key: Mapping[str, SqlType], without: Any = None) -> Iterator[Any]:
        columns = ", ".join(quoted(name, "spark") for name in adopted.named)
        rows = f"SELECT {columns} FROM {full_name(self.schema, adopted.table)}"
        if without is None:
            yield from self._stream(rows, adopted.pointer)
            return
        with self._named(_KEYS, without):
            yield from self._stream(but_for(rows, _KEYS, key), adopted.pointer)

    def uncertain_rows(self, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str]) -> Iterator[Any]:
        rows = f"SELECT * FROM ({current_rows(pointer, columns, key)}) WHERE {IS_UNCERTAIN}"
        return self._stream(rows, pointer)

    def sent_before(
        self, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], at: datetime
    ) -> Iterator[Any]:
        sent = f"{quoted(SENT_AT, 'spark')} < {moment(at)}"
        return self._stream(f"SELECT * FROM ({current_rows(pointer, columns, key)}) WHERE {sent}", pointer)

    def known_users(
        self, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], users: Any
    ) -> Iterator[Any]:
        rows = current_rows(pointer, columns, key)
        sure = f"SELECT * FROM ({rows}) WHERE {quoted(SENT_AT, 'spark')} IS NOT NULL AND NOT {IS_UNCERTAIN}"
        named = " UNION ".join(f"SELECT {who} AS who FROM ({sure})" for who in all_named(columns))
        with self._named(_ROWS, table_of(users)):
            yield from self._stream(f"SELECT who FROM {_ROWS} INTERSECT ({named})", pointer) if named else ()

    def sample(
        self, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], seed: str, at_most: int
    ) -> tuple[int, Iterator[Any]]:
        rows = (
            f"FROM ({current_rows(pointer, columns, key)}) AS r WHERE {SENT_AT} IS NOT NULL AND {ABSENT_SINCE} IS NULL"
        )
        parts = ", ".join(f"coalesce(CAST({quoted(name, 'spark')} AS STRING), '')" for name in key)
        drawn = f"SELECT r.* {rows} ORDER BY md5(concat_ws(' ', {literal(seed)}, {parts})) LIMIT {at_most}"
        (counted,) = self._do(f"SELECT count(*) AS rows {rows}", pointer)
        return int(counted["rows"]), self._stream(drawn, pointer)

    def find(
        self, pointer: Pointer, mode: Mode | None, key: Sequence[str], asked: Asked
    ) -> Iterator[tuple[RowTable, Any]]:
        import pyarrow

        texts = pyarrow.table({"text": [*asked.texts, hashed_odd(asked)]})
        secret = pyarrow.table({"secret": [asked.secret]})
        alike = dict[str, list[RowTable]]()  # tables with the same columns are read at once
        for table in pointer.tables:
            alike.setdefault(str(table.columns), []).append(table)
        with self._named(ASKED, texts), self._named(SECRET, secret):
            for tables in alike.values():
                names = [full_name(pointer.schema, table.name) for table in tables]
                sql = asked_sql(names, types_from(tables[0].columns), mode, key, asked.by)
                for batch in self._stream(sql, pointer):
                    yield tables[0], batch

    def _stream(self, sql: str, pointer: Pointer) -> Iterator[Any]:
        batches = self._reader.stream(sql)
        while True:
            batch = self.explained(lambda: next(batches, None), pointer)
            if batch is None:
                return
            yield batch

    @contextmanager
    def _named(self, view: str, rows: Any) -> Iterator[None]:
        """Inside the block, a view has the rows of a pyarrow.Table; after it, the session has them no more."""
        names = self.explained(partial(self._reader.name_rows, view, rows))
        try:
            yield
        finally:
            for name in names:
                with suppress(RetlError):
                    self._do(f"DROP VIEW IF EXISTS {name}")

    def try_out(self, prefix: str = "retl") -> None:
        """Raises ProjectError if tables cannot be made, or dropped: before anything is sent that they are to have."""
        name = f"{prefix}_try_{Clock().utc():%Y%m%d%H%M%S}_{secrets.token_hex(8)}"
        self._do(f"CREATE TABLE {full_name(self.schema, name)} AS SELECT 1 AS one")
        self.drop([name])

    def drop_tried(self, before: datetime) -> None:
        """Drop what `try_out` has left, without a prefix, if it was killed before that time."""
        found = {name: _TRIED.fullmatch(name) for name in self.names("retl_try_")}
        self.drop(name for name, tried in found.items() if tried and tried[1] < f"{before:%Y%m%d%H%M%S}")

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            drop = f"DROP TABLE IF EXISTS {full_name(self.schema, name)}"
            try:
                self._do(f"{drop} PURGE")  # without it, Iceberg keeps all files, and Hive moves them to its trash
            except ProjectError:  # a catalog that does not know it
                self._do(drop)

    def erase(self, names: Iterable[str]) -> list[str]:
        left = list[str]()
        for name in names:
            described = dict[str, Any]()
            with suppress(ProjectError):  # it is gone by now
                rows = self._do(f"DESCRIBE TABLE EXTENDED {full_name(self.schema, name)}")
                described = {str(row["col_name"]).strip(): row["data_type"] for row in rows}
            provider, location = str(described.get("Provider")).casefold(), described.get("Location")
            self.drop([name])
            if described and provider not in _FILES:
                left.append(
                    f"the dropped table {self.schema}.{name} ({provider}), while its catalog or snapshots keep it"
                )
            elif location:
                with suppress(ProjectError):  # there is nothing any more
                    self._do(f"SELECT 1 AS one FROM parquet.{quoted(str(location), 'spark')} LIMIT 1")
                    left.append(f"{location}, which Spark has left when the table was dropped")
        return left

    def close(self) -> None:
        self._reader.close()

    def check(self, pointer: Pointer) -> None:
        """Raises StateError if a table of a pointer does not have the rows that were written to it: without them, rows
        would count as new. It reads no rows where the format of the table tells how many it has."""
        counts = " UNION ALL ".join(
            f"SELECT {number} AS number, count(*) AS rows FROM {full_name(pointer.schema, table.name)}"
            for number, table in enumerate(pointer.tables)
        )
        found = {row["number"]: row["rows"] for row in self._do(counts, pointer)}
        for number, table in enumerate(pointer.tables):
            if found[number] != table.rows:
                name = f"{pointer.schema}.{table.name}"
                what = f"the table {name} of acknowledged rows has {found[number]:,} of {count(table.rows, 'row')}"
                raise StateError(what, self._where, _RESTORE, code="S040")

    def missing(self, pointer: Pointer) -> StateError | None:
        """An error that names the tables of a pointer that are not there any more; None if all are."""
        lacking = sorted({table.name for table in pointer.tables} - set(self.names(pointer.prefix)))
        if not lacking:
            return None
        what = f"acknowledged rows are missing in Spark: {', '.join(f'{self.schema}.{name}' for name in lacking)}"
        return StateError(what, self._where, _RESTORE, code="S040")

    def _type(self, column: str, of: SqlType) -> str | None:
        own = {**OWN, GONE: "BOOLEAN"}
        return own[column] if column in own else type_in_spark(of)

    def _do(self, sql: str, pointer: Pointer | None = None) -> list[dict[str, Any]]:
        return self.explained(partial(self._reader.execute, sql), pointer)

    def explained(self, do: Callable[[], T], pointer: Pointer | None = None) -> T:
        try:
            return do()
        except Exception as error:
            if not is_sparks(error):
                raise
            lacking: RetlError | None = None
            if pointer:
                with suppress(RetlError):
                    lacking = self.missing(pointer)
            raise lacking or self._in_words(error) from None

    def _in_words(self, error: Exception) -> RetlError:
        text = text_of(error)
        if GONE_AWAY.search(text):
            hint = "nothing is lost: run it again when Spark answers"
            return BusyError("the connection to Spark was lost", self._where, hint, code="B004")
        if CANCELLED.search(text):
            hint = "nothing is lost: run it again, once Spark lets such jobs end"
            return BusyError("Spark has cancelled a statement of retl", self._where, hint, code="B005")
        if large := too_large(text, "acknowledged rows", self._where):
            return large
        what = " ".join(_END.split(text.strip())[0].split()) or type(error).__name__
        hint = f"create the schema {self.schema}, and let the user of retl create, read and drop tables in it"
        return ProjectError(f"state_schema {self.schema}: {of_warehouse(what)}", self._where, hint, code="P147")


def table_of(batch: Any) -> Any:
    import pyarrow

    return pyarrow.Table.from_batches([batch])


def current_rows(pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], of: str | None = None) -> str:
    """A SELECT of the rows that the tables of a pointer have; with `of`, a view, those whose keys it has."""
    types = {table.name: types_from(table.columns) for table in pointer.tables}
    return current_sql(pointer, types, columns, key, of)
