"""Tables of acknowledged rows in Spark: written once, listed, dropped. See `plan/elsewhere.py`.

Nothing but CREATE TABLE AS, INSERT, SELECT and DROP is asked of Spark: so they may be Parquet, Delta or Iceberg, as the
schema has it.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from reverse_etl.engines.duckdb.model import types_from
from reverse_etl.engines.spark.errors import GONE_AWAY
from reverse_etl.engines.spark.known import all_named
from reverse_etl.engines.spark.reader import SparkReader, is_sparks, text_of
from reverse_etl.engines.spark.sieve import IS_UNCERTAIN, OWN, current_sql, full_name, moment
from reverse_etl.engines.spark.types import type_in_spark
from reverse_etl.errors import BusyError, Location, ProjectError, RetlError, StateError
from reverse_etl.masking import of_warehouse
from reverse_etl.plan.elsewhere import GONE, Pointer
from reverse_etl.plan.tables import SENT_AT
from reverse_etl.sql.quoting import literal, quoted
from reverse_etl.sql.types import SqlType
from reverse_etl.words import count

T = TypeVar("T")
_ROWS = "retl_rows"  # what rows that are uploaded are called in a session
_MOST_BYTES = 32_000_000  # of rows that are uploaded at once
_RESTORE = "restore what was dropped or changed, as a lake can; if that cannot be, see docs/engines.md"
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
        import pyarrow

        unfit = [f'"{name}" ({of.text})' for name, of in columns.items() if not self._type(name, of)]
        if unfit:
            what = f"acknowledged rows have columns that Spark does not store: {', '.join(unfit)}"
            raise ProjectError(what, self._where, "leave them where they are", code="P148")
        listed = ", ".join(
            f"CAST({quoted(column, 'spark')} AS {self._type(column, of)}) AS {quoted(column, 'spark')}"
            for column, of in columns.items()
        )
        begins = f"CREATE TABLE {full_name(self.schema, name)} AS"
        for batch in (part for whole in batches for part in _parts(whole)):
            rows = pyarrow.Table.from_batches([batch])
            self._explained(partial(self._reader.name_rows, _ROWS, rows))
            self._do(f"{begins} SELECT {listed} FROM {_ROWS}")
            begins = f"INSERT INTO {full_name(self.schema, name)}"

    def write_current(self, name: str, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str]) -> int:
        table, rows = full_name(self.schema, name), current_rows(pointer, columns, key)
        self._do(f"CREATE TABLE {table} AS {rows}", pointer)
        return int(next(iter(self._do(f"SELECT count(*) AS rows FROM {table}")[0].values())))

    def read(
        self, pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str], texts: Mapping[str, str | None] = {}
    ) -> Iterator[Any]:
        rows = current_rows(pointer, columns, key)
        if texts:
            rows = f"SELECT * FROM ({rows}) WHERE {' AND '.join(_has(*one) for one in texts.items())}"
        return self._stream(rows, pointer)

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
        import pyarrow

        self._explained(partial(self._reader.name_rows, _ROWS, pyarrow.Table.from_batches([users])))
        rows = current_rows(pointer, columns, key)
        sure = f"SELECT * FROM ({rows}) WHERE {quoted(SENT_AT, 'spark')} IS NOT NULL AND NOT {IS_UNCERTAIN}"
        named = " UNION ".join(f"SELECT {who} AS who FROM ({sure})" for who in all_named(columns))
        return self._stream(f"SELECT who FROM {_ROWS} INTERSECT ({named})", pointer) if named else iter(())

    def _stream(self, sql: str, pointer: Pointer) -> Iterator[Any]:
        batches = self._reader.stream(sql)
        while True:
            batch = self._explained(lambda: next(batches, None), pointer)
            if batch is None:
                return
            yield batch

    def try_out(self) -> None:
        """Raises ProjectError if tables cannot be made, or dropped: before anything is sent that they are to have."""
        name = f"retl_try_{secrets.token_hex(8)}"
        self._do(f"CREATE TABLE {full_name(self.schema, name)} AS SELECT 1 AS one")
        self.drop([name])

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._do(f"DROP TABLE IF EXISTS {full_name(self.schema, name)}")

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
        return self._explained(partial(self._reader.execute, sql), pointer)

    def _explained(self, do: Callable[[], T], pointer: Pointer | None = None) -> T:
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
        what = " ".join(_END.split(text.strip())[0].split()) or type(error).__name__
        hint = f"create the schema {self.schema}, and let the user of retl create, read and drop tables in it"
        return ProjectError(f"state_schema {self.schema}: {of_warehouse(what)}", self._where, hint, code="P147")


def _has(column: str, text: str | None) -> str:
    """SQL for: a column has a value that Spark writes so. In hexadecimal, as a backslash is not one in its strings."""
    wanted = "NULL" if text is None else f"X'{text.encode().hex()}'"
    return f"CAST({quoted(column, 'spark')} AS STRING) <=> CAST({wanted} AS STRING)"


def _parts(batch: Any) -> Iterator[Any]:
    """A batch in parts that a message can have. Copies: Spark's client does not take slices with NULLs in lists."""
    import pyarrow

    most = max(int(batch.num_rows * _MOST_BYTES / max(batch.nbytes, 1)), 1)
    if batch.num_rows <= most:
        yield batch
        return
    for first in range(0, batch.num_rows, most):
        yield batch.take(pyarrow.array(range(first, min(first + most, batch.num_rows))))


def current_rows(pointer: Pointer, columns: Mapping[str, SqlType], key: Sequence[str]) -> str:
    """A SELECT of the rows that the tables of a pointer have."""
    types = {table.name: types_from(table.columns) for table in pointer.tables}
    return current_sql(pointer, types, columns, key)
