"""Sessions in Postgres, through ADBC: read-only, all of one run in one snapshot."""

import os
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reverse_etl.engines.postgres.errors import cannot_connect, explained, lost
from reverse_etl.engines.postgres.types import PgType, is_known, read_as
from reverse_etl.engines.pulled import Pulled, fit
from reverse_etl.errors import Location, ProjectError, RetlError
from reverse_etl.project.models import Compiled
from reverse_etl.sql.quoting import identifier

CONNECT_TIMEOUT_S = 10
_SETTINGS = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL statement_timeout = '{timeout_s}s'",
    "SET LOCAL application_name = 'retl'",
    "SET LOCAL TimeZone = 'UTC'",
)
_MODEL = "FROM (\n{}\n) AS __model"
_BATCHES = {"adbc.postgresql.batch_size_hint_bytes": str(4 * 1024 * 1024)}
# The types that a model returns; it does not run for them.
_TYPES = """WITH found AS (SELECT CAST(ARRAY[{types}] AS oid[]) AS oids FROM (SELECT 1) AS one LEFT JOIN (
{model}
) AS __model ON false)
SELECT CAST(own.typname AS text) AS name, CAST(own.typtype AS text) AS kind, CAST(element.typname AS text) AS element,
    CAST(element.typtype AS text) AS element_kind
FROM found, unnest(found.oids) WITH ORDINALITY AS each(oid, n)
JOIN pg_catalog.pg_type AS asked ON asked.oid = each.oid
JOIN pg_catalog.pg_type AS own ON own.oid = coalesce(nullif(asked.typbasetype, 0), asked.oid)
LEFT JOIN pg_catalog.pg_type AS element ON element.oid = own.typelem AND own.typcategory = 'A'
ORDER BY each.n"""


@dataclass
class _Session:
    """A connection with a transaction. `running` is the statement whose rows are being read."""

    connection: Any
    running: Any = None
    is_new: bool = True
    is_spoiled: bool = False  # its transaction has failed, or a statement was not read to its end


class PostgresReader:
    """See `Reader`. Without an `address`, libpq finds it in its environment variables and files."""

    def __init__(self, address: str | None, timeout_s: int, where: Location) -> None:
        self._address, self._timeout_s, self._where = address, timeout_s, where
        self._driver: Any = None
        self._adbc: Any = None
        self._pyarrow: Any = None
        self._database: Any = None
        self._sessions: list[_Session] = []
        self._ending = threading.Lock()  # no statement is closed while it is being canceled

    def connect(self) -> None:
        self._driver, self._adbc = _driver(self._where)
        if self._address and not self._address.startswith(("postgresql://", "postgres://")):
            hint = "write it as postgresql://[user[:password]@]host[:port]/database"
            raise ProjectError("the address of the warehouse is not a URI of Postgres", self._where, hint, code="P057")
        loading = threading.Thread(target=_load_pyarrow)  # it takes as long as to connect
        loading.start()
        try:
            self._free()
        finally:
            loading.join()
        self._pyarrow = _pyarrow(self._where)

    def close(self) -> None:
        for session in self._sessions:
            with suppress(Exception):
                session.connection.close()
        self._sessions.clear()
        if self._database is not None:
            with suppress(Exception):
                self._database.close()
            self._database = None

    def columns(self, model: Compiled) -> list[Pulled]:
        sql = f"SELECT * {_MODEL.format(model.sql)}"
        schema = self._planned(sql, model)
        self._ask_permission(sql, model)
        types = [_type_of(field) for field in schema]
        unknown = [n for n, of in enumerate(types) if not is_known(of.name)]
        for n, of in zip(unknown, self._types([schema.names[n] for n in unknown], model), strict=True):
            types[n] = of
        read = [read_as(name, of) for name, of in zip(schema.names, types, strict=True)]
        return fit(model, schema.names, read)

    def select(self, model: Compiled, read: Sequence[Pulled], limit: int | None) -> str:
        columns = ", ".join(f"{one.there} AS {identifier(one.name)}" for one in read)
        end = "" if limit is None else f" LIMIT {limit}"
        return f"SELECT {columns} {_MODEL.format(model.sql)}{end}"

    def schema(self, sql: str, model: Compiled) -> Any:
        return self._planned(sql, model)

    def stream(self, sql: str) -> Generator[Any]:
        session = self._free()
        return self._batches(session, self._statement(session, sql))

    def _batches(self, session: _Session, statement: Any) -> Generator[Any]:
        session.is_spoiled = True  # until it is read to its end
        try:
            statement.set_options(**_BATCHES)
            handle, _ = statement.execute_query()
            with self._pyarrow.RecordBatchReader.from_stream(handle) as batches:
                try:
                    yield from batches
                except GeneratorExit:
                    self._cancel(session)
                    raise
            session.is_spoiled = False
        finally:
            self._end(session)

    def cancel(self) -> None:
        for session in list(self._sessions):
            self._cancel(session)

    def explained(self, error: Exception, model: Compiled) -> RetlError:
        if isinstance(error, RetlError):
            return error
        return self._in_words(error, model, "")

    # --- sessions --------------------------------------------------------------------------------------------------

    def _session(self) -> _Session:
        try:
            if self._database is None:
                self._database = self._driver.connect(_with_timeout(self._address or "postgresql://"))
            connection = self._adbc.AdbcConnection(self._database)
        except self._adbc.Error as error:
            raise cannot_connect(str(error), self._where) from None
        return _Session(connection)

    def _begin(self, session: _Session) -> None:
        """Begin the transaction of a run, or another one after an error. LOCAL also holds behind a pooler."""
        try:
            if session.is_spoiled:
                session.connection.rollback()
            else:
                session.connection.set_autocommit(False)
            for setting in _SETTINGS:
                self._execute(session, setting.format(timeout_s=self._timeout_s))
        except self._adbc.Error as error:
            raise lost(str(error), self._where) from None
        session.is_spoiled, session.is_new = False, False

    def _free(self) -> _Session:
        """A session that reads nothing now; another one if there is none."""
        free = next((session for session in self._sessions if session.running is None), None)
        if free is None:
            free = self._session()
            self._sessions.append(free)
        if free.is_new or free.is_spoiled:
            self._begin(free)
        return free

    def _statement(self, session: _Session, sql: str) -> Any:
        statement = self._adbc.AdbcStatement(session.connection)
        statement.set_sql_query(sql)
        session.running = statement
        return statement

    def _cancel(self, session: _Session) -> None:
        with self._ending, suppress(Exception):
            if session.running is not None:
                session.running.cancel()

    def _end(self, session: _Session) -> None:
        """Close the statement of a session, which is free from then on."""
        with self._ending:
            session.running.close()
            session.running = None

    def _execute(self, session: _Session, sql: str) -> None:
        statement = self._statement(session, sql)
        try:
            statement.execute_update()
        finally:
            self._end(session)

    def _planned(self, sql: str, model: Compiled) -> Any:
        session = self._free()
        statement = self._statement(session, sql)
        try:
            return self._pyarrow.schema(statement.execute_schema())
        except Exception as error:
            session.is_spoiled = True
            if not self._is_drivers(error):
                raise
            raise self._in_words(error, model, sql) from None
        finally:
            self._end(session)

    def _ask_permission(self, sql: str, model: Compiled) -> None:
        """Raises ProjectError if the user may not read what a statement reads, which its schema does not show."""
        session, asked = self._free(), f"EXPLAIN {sql}"
        try:
            self._execute(session, asked)
        except self._adbc.Error as error:
            session.is_spoiled = True
            raise self._in_words(error, model, asked) from None

    def _types(self, names: Sequence[str], model: Compiled) -> list[PgType]:
        """The types of columns, by pg_type."""
        if not names:
            return []
        types = ", ".join(f"pg_typeof(__model.{identifier(name)})" for name in names)
        found = [row for batch in self.stream(_TYPES.format(types=types, model=model.sql)) for row in batch.to_pylist()]
        return [
            PgType(
                row["element"] or row["name"], kind=row["element_kind"] or row["kind"], is_array=bool(row["element"])
            )
            for row in found
        ]

    # --- the driver ------------------------------------------------------------------------------------------------

    def _is_drivers(self, error: Exception) -> bool:
        return isinstance(error, self._adbc.Error | OSError)

    def _in_words(self, error: Exception, model: Compiled, statement: str) -> RetlError:
        state = getattr(error, "sqlstate", None)
        details = {_text(name): _text(value) for name, value in getattr(error, "details", None) or ()}
        return explained(str(error), state, details, model, statement, self._timeout_s)


def _driver(where: Location) -> tuple[Any, Any]:
    """The driver, and the module of its connections and errors. They are loaded here only."""
    try:
        import adbc_driver_manager
        import adbc_driver_postgresql
    except ImportError as error:
        raise _not_installed(where) from error
    return adbc_driver_postgresql, adbc_driver_manager


def _pyarrow(where: Location) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise _not_installed(where) from error
    return pyarrow


def _load_pyarrow() -> None:
    with suppress(ImportError):
        import pyarrow  # noqa: F401


def _not_installed(where: Location) -> ProjectError:
    what = "a warehouse in Postgres needs a package that is not installed"
    return ProjectError(what, where, 'install it: `pip install "reverse-etl[postgres]"`', code="P121")


def _type_of(field: Any) -> PgType:
    """The type of a column, as far as the driver tells."""
    about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    name = about.get("POSTGRESQL:type", "")
    return PgType(name.removeprefix("_"), int(about.get("POSTGRESQL:typmod", -1)), is_array=name.startswith("_"))


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _with_timeout(address: str) -> str:
    if "connect_timeout" in address or os.environ.get("PGCONNECT_TIMEOUT"):
        return address
    return f"{address}{'&' if '?' in address else '?'}connect_timeout={CONNECT_TIMEOUT_S}"
