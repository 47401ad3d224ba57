"""A session of Spark Connect: it plans models, streams their rows, and interrupts what is running."""

import logging
import socket
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any
from urllib.parse import urlsplit

from reverse_etl.engines.pulled import Pulled, fit
from reverse_etl.engines.spark.errors import explained, unreachable
from reverse_etl.engines.spark.types import read_as
from reverse_etl.errors import Location, ProjectError, RetlError
from reverse_etl.project.models import Compiled
from reverse_etl.sql.quoting import quoted

CONNECT_TIMEOUT_S = 10
MOST_BYTES = 32_000_000  # of rows that are uploaded at once
PORT = 15002
_TRIES, _LONGEST_WAIT_MS = 6, 8000  # after 50, 200, 800, 3,200, 8,000 and 8,000 milliseconds: some 20 seconds in all
_MODEL = "FROM (\n{}\n) AS __model"


class SparkReader:
    """See `Reader`. Spark has no snapshot of several queries: each reads what is there when it begins."""

    def __init__(self, remote: str, token: str | None, where: Location) -> None:
        self._remote, self._token, self._where = remote, token, where
        self._session: Any = None

    def connect(self) -> None:
        builder = _builder(self._where)
        url = urlsplit(self._remote)
        address = (url.hostname or "", url.port or PORT)
        try:  # Spark's own client tries again for minutes
            socket.create_connection(address, CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise unreachable(f"{address[0]}:{address[1]}", error.strerror or str(error), self._where) from None
        remote = f"sc://{url.netloc}/" + (f";use_ssl=true;token={self._token}" if self._token else "")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pandas, which is not used here
                self._session = builder.remote(remote).create()
                self._try_again(_TRIES)
                self._session.conf.set("spark.sql.session.timeZone", "UTC")
        except Exception as error:
            if not is_sparks(error):
                raise
            raise unreachable(f"{address[0]}:{address[1]}", _first_line(error), self._where) from None

    def close(self) -> None:
        if self._session is not None:
            self._try_again(0)
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):
                session.interruptAll()
            with suppress(Exception):
                session.stop()

    def _try_again(self, times: int) -> None:
        """Let the client ask a server that does not answer so often, and not for ten minutes."""
        from pyspark.sql.connect.client.retries import DefaultPolicy

        self._session.client.set_retry_policies([DefaultPolicy(max_retries=times, max_backoff=_LONGEST_WAIT_MS)])

    def columns(self, model: Compiled) -> list[Pulled]:
        sql = f"SELECT * {_MODEL.format(model.sql)}"
        try:
            schema = self._query(sql).schema
        except Exception as error:
            if not is_sparks(error):
                raise
            raise self._in_words(error, model, sql) from None
        names = [field.name for field in schema.fields]
        read = [
            read_as(field.name, frozenset(_types(field.dataType)), field.dataType.simpleString()) for field in schema
        ]
        return fit(model, names, read)

    def select(self, model: Compiled, read: Sequence[Pulled], limit: int | None) -> str:
        columns = ", ".join(f"{one.there} AS {quoted(one.name, 'spark')}" for one in read)
        end = "" if limit is None else f" LIMIT {limit}"
        return f"SELECT {columns} {_MODEL.format(model.sql)}{end}"

    def schema(self, sql: str, model: Compiled) -> Any:
        try:
            return next(self._tables(f"SELECT * FROM (\n{sql}\n) AS __none LIMIT 0")).schema
        except Exception as error:
            if not is_sparks(error):
                raise
            raise self._in_words(error, model, sql) from None

    def stream(self, sql: str) -> Generator[Any]:
        for table in self._tables(sql):
            yield from table.to_batches()

    def execute(self, sql: str) -> list[dict[str, Any]]:
        """Execute a statement that is no model; its rows. Raises what Spark's client raises."""
        found = [row for table in self._tables(sql) for row in table.to_pylist()]
        return found

    def name_rows(self, view: str, rows: Any) -> Sequence[str]:
        """Let a name stand for the rows of a pyarrow.Table, in this session. More than one message can have go in
        parts, each of which has a name, too. Returns all of these names."""
        if self._session is None:
            self.connect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if rows.nbytes <= MOST_BYTES:
                self._session.createDataFrame(rows).createOrReplaceTempView(view)
                return [view]
            parts = []
            for number, part in enumerate(parts_of(rows)):
                parts.append(f"{view}_{number}")
                self._session.createDataFrame(part).createOrReplaceTempView(parts[-1])
            whole = reduce(lambda one, other: one.unionAll(other), map(self._session.table, parts))
            whole.createOrReplaceTempView(view)
        return [view, *parts]

    def cancel(self) -> None:
        if self._session is not None:
            with suppress(Exception):
                self._session.interruptAll()

    def explained(self, error: Exception, model: Compiled) -> RetlError:
        return self._in_words(error, model, "")

    def _query(self, sql: str) -> Any:
        if self._session is None:
            self.connect()
        return self._session.sql(sql)

    def _tables(self, sql: str) -> Iterator[Any]:
        """The rows of a query as pyarrow.Table, as they come; what the client's toArrow() puts together."""
        query = self._query(sql)
        client = self._session.client
        for item in client.to_table_as_iterator(query._plan.to_proto(client), {}):
            if hasattr(item, "to_batches"):  # the first is its schema, in Spark's types
                yield item

    def _in_words(self, error: Exception, model: Compiled, statement: str) -> RetlError:
        if isinstance(error, RetlError):
            return error
        return explained(text_of(error), type(error).__name__, model, statement)


def parts_of(rows: Any) -> Iterator[Any]:
    """A pyarrow.Table in parts that a message can have; of no rows, none. Copies: Spark's client does not take slices
    with NULLs in lists."""
    most = max(int(rows.num_rows * MOST_BYTES / max(rows.nbytes, 1)), 1)
    if 0 < rows.num_rows <= most:
        yield rows
        return
    import pyarrow

    for first in range(0, rows.num_rows, most):
        yield rows.take(pyarrow.array(range(first, min(first + most, rows.num_rows))))


def _builder(where: Location) -> Any:
    """What makes sessions. The client is loaded here only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pyspark.sql.connect.session import SparkSession
    except ImportError as error:
        what = "a warehouse in Spark needs a package that is not installed"
        raise ProjectError(what, where, 'install it: `pip install "reverse-etl[spark]"`', code="P121") from error
    warnings.filterwarnings("ignore", r"\[RETRIES_EXCEEDED\]")  # an error says it, too
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger", "pyspark"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return SparkSession.Builder()


def _types(of: Any) -> Iterator[str]:
    """The names of a type and of all types in it, without their parameters."""
    yield (
        of.typeName()
        if of.typeName() in ("timestamp_ntz", "struct", "array", "map")
        else of.simpleString().split("(")[0]
    )
    for inner in ("elementType", "keyType", "valueType"):
        if hasattr(of, inner):
            yield from _types(getattr(of, inner))
    for field in getattr(of, "fields", ()):
        yield from _types(field.dataType)


def is_sparks(error: Exception) -> bool:
    return type(error).__module__.startswith(("pyspark.", "grpc"))


def text_of(error: Exception) -> str:
    """What Spark says: the message alone, where there is one, and not the stack of its own."""
    return str(error).partition("JVM stacktrace")[0]


def _first_line(error: Exception) -> str:
    return text_of(error).strip().splitlines()[0]
