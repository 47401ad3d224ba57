"""A warehouse that models run in, and whose rows come to DuckDB as Arrow, batch by batch.

    model ── Reader: SQL of the warehouse ──> Arrow ──> view in the workbench ──> SELECT of DuckDB ──> as with a file

DuckDB asks a view for its columns when a statement is bound, and for its rows each time that it scans it. So the model
runs when, and as often as, a statement reads it: once for what has changed, once more for data tests.
"""

import weakref
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.ahead import Ahead
from reverse_etl.engines.duckdb.as_json import as_text
from reverse_etl.engines.duckdb.changes import write_changes, write_first
from reverse_etl.engines.duckdb.checks import run_data_tests
from reverse_etl.engines.duckdb.common import count_common
from reverse_etl.engines.duckdb.connection import keep_inside
from reverse_etl.engines.duckdb.model import Form, columns, describe, first_rows
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Common, Comparison, First, Side, Suspicion
from reverse_etl.errors import DataError, Location, Problem, ProjectError, RetlError
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.elsewhere import Adopted, Pointer
from reverse_etl.project.models import Compiled
from reverse_etl.project.readable import Readable
from reverse_etl.records.layout import Layout
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.system.signals import interruptible

_REFUSED = "retl refuses: "  # begins what is said of a value that is to be refused
_QUOTE = '"'  # in which Postgres shows it
_MANY_ROWS = 10**12


@dataclass(frozen=True)
class Pulled:
    """A column of a model: SQL of the warehouse for what is read of it, and SQL of DuckDB for its value."""

    name: str
    there: str
    here: str


@dataclass(frozen=True)
class Unfit:
    """Why a column is not read, and what to return instead."""

    why: str
    hint: str


def fit(model: Compiled, names: Sequence[str], read: Sequence[Pulled | Unfit]) -> list[Pulled]:
    """The columns of a model, if they can be read. Raises ProjectError with all that cannot, or that have one name."""
    file = Location(model.file)
    problems = [
        Problem(f'the model returns several columns "{name}"', file, "rename one with AS", code="P061")
        for name in sorted({name.casefold() for name in names})
        if [other.casefold() for other in names].count(name) > 1
    ] or [Problem(one.why, file, one.hint, code="P063") for one in read if isinstance(one, Unfit)]
    if problems:
        raise ProjectError(problems)
    return [one for one in read if isinstance(one, Pulled)]


class Reader(Protocol):
    """Runs SQL in a warehouse. What goes wrong there is raised as a RetlError, without values."""

    def connect(self) -> None:
        """Raises ProjectError for wrong settings, or BusyError if the warehouse cannot be reached now."""

    def close(self) -> None:
        """Leaves no session open. May be called several times."""

    def columns(self, model: Compiled) -> list[Pulled]:
        """The columns of a model. It is planned, and does not run."""

    def select(self, model: Compiled, read: Sequence[Pulled], limit: int | None) -> str:
        """The statement that returns columns of a model, each under its name."""

    def schema(self, sql: str, model: Compiled) -> Any:
        """The pyarrow.Schema of what a statement with a model returns. It is planned, and does not run."""

    def stream(self, sql: str) -> Generator[Any]:
        """Run a statement; its rows as one pyarrow.RecordBatch after the other. Another thread may read them."""

    def cancel(self) -> None:
        """End the statements that are running, from another thread."""

    def explained(self, error: Exception, model: Compiled) -> RetlError:
        """What went wrong while a model ran, in retl's words."""


def refused(column: str, why: str) -> str:
    """The text of an error that ends a statement because of a value."""
    return f'{_REFUSED}column "{column}" {why}'


def of_refused(text: str, model: Compiled) -> DataError | None:
    """The error for a value of a model that was refused, if a text of the warehouse or of DuckDB says so."""
    _, marker, what = text.partition(_REFUSED)
    return DataError(f"{model.file}: {what.splitlines()[0].rstrip(_QUOTE)}", code="D011") if marker else None


def refusal(column: str, why: str) -> str:
    """SQL of DuckDB that ends a statement because of a value."""
    return f"error({literal(refused(column, why))})"


@dataclass
class Rows:
    """The rows of a model, as an object that DuckDB scans: it asks for the schema, and for each scan for a stream.

    Rows are read ahead of a scan; `begin` does so before it. `returned` is the number of rows of the last scan, None
    if it did not end; `error` is what ended it.
    """

    reader: Reader
    sql: str
    schema: Any
    returned: int | None = None
    error: BaseException | None = None
    _begun: Ahead | None = None  # what the next scan reads
    _open: list[Ahead] = field(default_factory=list)

    def begin(self) -> Ahead:
        """Let the model run now: its rows are read by the next scan."""
        if self._begun is None:
            self._begun = Ahead(self.reader.stream(self.sql), self.reader.cancel)
            self._open.append(self._begun)
        return self._begun

    def drop(self) -> None:
        """Read nothing more of what was begun."""
        for ahead in self._open:
            ahead.drop()
        self._begun = None
        self._open.clear()

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        import pyarrow

        self.returned, self.error = None, None
        return pyarrow.RecordBatchReader.from_batches(self.schema, self._batches()).__arrow_c_stream__()

    def _batches(self) -> Iterator[Any]:
        rows = 0
        try:
            ahead, self._begun = self.begin(), None
            try:
                for batch in ahead:
                    rows += batch.num_rows
                    yield batch
            finally:
                ahead.drop()
                self._open.remove(ahead)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise
        self.returned = rows


@dataclass(frozen=True)
class _Local:
    """A model as a SELECT of DuckDB on the rows that the warehouse returns."""

    model: Compiled
    rows: Rows


@dataclass(frozen=True)
class _Query(ModelQuery):
    """A model whose rows are counted as they come, and of which fewer columns can be read."""

    rows: Rows
    narrow: Callable[[Collection[str]], str]

    def rows_returned(self) -> int | None:
        return self.rows.returned

    def narrowed(self, names: Collection[str]) -> str:
        return self.narrow(names)


@dataclass
class PulledEngine:
    """See `Engine`. Diff, checks and data tests are those of DuckDB, on a view."""

    workbench: DuckDBPyConnection
    reader: Reader
    _columns: dict[str, list[Pulled]] = field(default_factory=dict)
    _views: dict[tuple[str, tuple[str, ...] | None, int | None], _Local] = field(default_factory=dict)

    def open(self) -> None:
        weakref.finalize(self, self.reader.close)  # a command that only looks does not close it
        self.reader.connect()
        keep_inside(self.workbench, Readable())

    def close(self) -> None:
        self._end_results()
        for number in range(len(self._views)):
            self.workbench.unregister(_view(number))
        self._leave()
        self._views.clear()

    def describe(self, model: Compiled) -> list[tuple[str, SqlType]]:
        with self._explained(model):
            return describe(self.workbench, self._local(model).model)

    def columns(self, model: Compiled) -> list[tuple[str, SqlType]]:
        with self._explained(model, goes_on=True):
            return columns(self.workbench, self._local(model).model)

    def count_common(self, one: Side, other: Side, compared: Sequence[str]) -> Common | None:
        with self._explained(one.model, goes_on=True):
            mine, others = (self._narrowed(side, compared) for side in (one, other))
            return count_common(self.workbench, mine, others, compared)

    def first_rows(
        self, model: Compiled, limit: int, form: Form = as_text
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        with self._explained(model):
            return first_rows(self.workbench, self._local(model, limit=limit).model, limit, form)

    def run_data_tests(self, layout: Layout, model: Compiled) -> tuple[DataTestResult, ...]:
        with self._explained(model):
            return run_data_tests(self._query(layout, model))

    def rows_expected(self, model: Compiled) -> int | None:
        return None

    def distinct_columns(self, model: Compiled, names: Collection[str]) -> Sequence[str]:
        return ()

    def write_changes(self, layout: Layout, model: Compiled, comparison: Comparison) -> int:
        with self._explained(model):
            query = self._query(layout, model)
            if comparison.known and layout.cursor is None:
                query = replace(query, model=query.model.read_by(as_of_many(query.model.sql, layout.columns[0].name)))
            query.rows.begin()
            return write_changes(query, comparison)

    def write_first(self, layout: Layout, model: Compiled, comparison: Comparison, first: First) -> int | None:
        with self._explained(model):
            return write_first(self._query(layout, model), comparison, first)

    def write_baseline(
        self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer, suspicion: Suspicion
    ) -> Adopted | None:
        """The state has the acknowledged rows."""
        return None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """See `Engine`. If it ends with an error, nothing more is read: no session stays open."""
        try:
            with self._interrupting():
                yield
        except BaseException:
            self._leave()
            raise

    def _end_results(self) -> None:
        """No view comes or goes while a result is open."""
        self.workbench.execute("SELECT NULL").fetchall()

    def _leave(self) -> None:
        """Let no session stay open."""
        for local in self._views.values():
            local.rows.drop()
        self.reader.close()

    def _interrupting(self) -> AbstractContextManager[None]:
        return interruptible(self.workbench, self.reader.cancel)

    def _query(self, layout: Layout, model: Compiled) -> _Query:
        local = self._local(model)

        def narrow(names: Collection[str]) -> str:
            return self._local(model, tuple(sorted(names))).model.sql

        return _Query(self.workbench, layout, local.model, local.rows, narrow)

    def _narrowed(self, side: Side, compared: Sequence[str]) -> Side:
        """A side that reads only whom a row is about, and what is compared."""
        who = {part for name in side.layout.identifiers for part in side.layout.columns_of(name)}
        return Side(side.layout, self._local(side.model, tuple(sorted(who.union(compared)))).model)

    def _local(self, model: Compiled, names: tuple[str, ...] | None = None, limit: int | None = None) -> _Local:
        """A model as a view; with fewer columns, or rows, the warehouse returns less."""
        asked = (model.sql, names, limit)
        if asked not in self._views:
            with self._interrupting():
                read = self._read(model, names)
                self._views[asked] = self._as_view(model, read, self.reader.select(model, read, limit))
        return self._views[asked]

    def _read(self, model: Compiled, names: Collection[str] | None = None) -> list[Pulled]:
        """The columns of a model, or some of them, and how they are read."""
        if model.sql not in self._columns:
            self._columns[model.sql] = self.reader.columns(model)
        return [one for one in self._columns[model.sql] if names is None or one.name in names]

    def _as_view(self, model: Compiled, read: Sequence[Pulled], sql: str) -> _Local:
        """A view of the rows that a statement returns, which has these columns of a model."""
        rows = Rows(self.reader, sql, self.reader.schema(sql, model))
        view = _view(len(self._views))
        self._end_results()
        self.workbench.register(view, rows)
        values = ", ".join(f"{one.here} AS {identifier(one.name)}" for one in read)
        return _Local(model.read_by(f"SELECT {values} FROM {view}\n"), rows)

    def _raise_what_ended(self, rows: Rows, model: Compiled) -> None:
        """DuckDB makes another error of what ended a stream; of a signal, too, that arrived while it was read."""
        if isinstance(rows.error, Exception):
            raise self.reader.explained(rows.error, model) from None
        if rows.error is not None:
            raise rows.error from None

    @contextmanager
    def _explained(self, model: Compiled, goes_on: bool = False) -> Iterator[None]:
        """Raises what has ended a stream instead of what DuckDB makes of it. No session stays open, unless it goes on
        with other models."""
        for local in self._views.values():
            local.rows.error = None
        try:
            yield
        except (duckdb.Error, RetlError) as error:
            if not goes_on:
                self._leave()
            for local in self._views.values():
                self._raise_what_ended(local.rows, local.model)
            found = [one for one in (of_refused(str(each), model) for each in _chain(error)) if one]
            if found:
                raise found[-1] from None  # the last is DuckDB's own
            raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__


def as_of_many(sql: str, column: str) -> str:
    """The same SELECT, of which DuckDB expects many rows. It knows nothing of a view, expects one row, and would keep
    all columns of all rows in memory for a join, to look them up there for each row of the state."""
    no_row = f"SELECT NULL AS {identifier(column)} FROM range({_MANY_ROWS}) LIMIT (SELECT 0)"
    return f"{sql.rstrip()} UNION ALL BY NAME ({no_row})\n"


def _view(number: int) -> str:
    return f"retl_model_{number}"
