"""Acknowledged rows that are in the warehouse (`plan/elsewhere.py`): what a run changed of them becomes a table there.

    SLICE ──> state ── the commit, as ever ──> state ── what is other now ──> delta_<run>, in the warehouse
    of the open run    on these rows alone                                    and the pointer, in `meta`

So the table of acknowledged rows in the state has rows only inside the transaction that commits a run. The delta is
written before that ends. If the process is killed in between, nothing points at it, and whoever commits the run writes
one of another name. What nothing points at is dropped after the commit; only what was there before it, so that a
process which was overtaken by another machine drops nothing of that one's.
"""

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import BusyError, ProjectError, RetlError, StateError
from reverse_etl.plan.elsewhere import (
    ADOPTED,
    GONE,
    POINTER,
    PREFIX,
    Adopted,
    Asked,
    Numbers,
    Pointer,
    RowTable,
    RowTables,
    new_pointer,
    pointer_of,
)
from reverse_etl.plan.tables import ABSENT_SINCE, ACKNOWLEDGED, META, PINS, SENT_AT, SLICE, UNSURE, USER
from reverse_etl.records.identity import who_of_acknowledged
from reverse_etl.records.layout import ROW_NUMBER
from reverse_etl.records.mapping import key_text
from reverse_etl.shared_state.object_store import StoreError
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.state.brought import BROUGHT, Brought
from reverse_etl.state.contents import OWN_COLUMNS, acknowledged_types, meta_of, mode_in, set_meta, types_of
from reverse_etl.words import count

_WHOLE_ROW = "[0-9a-f]{32}#[0-9]+"  # the key of a row that all columns identify: nobody can look for it by these
_MOVED = "retl_moved"  # rows of the commit that go to the warehouse
_ROWS_AT_ONCE = 100_000


class UnreachableError(StoreError):
    """The warehouse cannot be reached, or refuses: what a run has sent is in its journal, and nothing is lost."""


class Elsewhere:
    """The acknowledged rows of one sync, if they are in a warehouse."""

    def __init__(
        self, connection: DuckDBPyConnection, schema: str, opened: Callable[[str], RowTables], sync: str
    ) -> None:
        self._connection, self._schema, self._open, self._sync = connection, schema, opened, sync
        self._opened: RowTables | None = None
        self._some = Brought(connection, lambda: self._tables)
        self.left: list[str] = []  # where people may be who were erased, though their tables were dropped
        self._before = SLICE  # the rows that the state has for a while, as they were
        self._adopted: Pointer | None = None  # tables that a baseline has written, before it is committed
        self._old: list[str] = []  # tables that were there before the commit, and that nothing points at after it

    @property
    def is_named(self) -> bool:
        """Whether it is recorded how its tables are called, or will be."""
        return not meta_of(self._connection).keys().isdisjoint((PREFIX, POINTER))

    def reserve(self) -> Pointer:
        """Record how the tables of a new state will be called: what a killed process leaves of them is found by it."""
        pointer = new_pointer(self._schema, self._sync, meta_of(self._connection))
        set_meta(self._connection, {PREFIX: pointer.prefix})
        return pointer

    def take_in(self, adopted: Adopted | None = None) -> None:
        """Put the rows that the open run may change into the state, inside the transaction that commits it. Those of
        `adopted` tables it does not have: they are acknowledged ones but for those that the run has come to again."""
        self._before, self._adopted = SLICE, adopted.pointer if adopted else None
        if adopted is None and has_slice(self._connection):
            self._connection.execute(f"INSERT INTO {ACKNOWLEDGED} BY NAME FROM {SLICE}")

    @contextmanager
    def shown(self, keys: Collection[str], *asked: Asked) -> Iterator[None]:
        """Inside the block, a transaction, the state has the rows with these keys, as people see them, and those that
        may be among those asked for. It keeps none of them."""
        self._connection.execute("BEGIN")
        try:
            self.bring(keys, *asked)
            yield
        finally:
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")

    @contextmanager
    def all_shown(self) -> Iterator[None]:
        """The same with all rows: of syncs that rename, which have few."""
        self._connection.execute("BEGIN")
        try:
            if pointer := self._some.pointer():
                self._some.bring(pointer, ACKNOWLEDGED)
            yield
        finally:
            with suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")

    def bring(self, keys: Collection[str], *asked: Asked) -> None:
        """Put these rows into the state, inside a transaction; `take_out` writes what is changed of them."""
        self._before = self.fetch(keys, *asked)
        if acknowledged_types(self._connection):
            self._connection.execute(f"INSERT INTO {ACKNOWLEDGED} BY NAME FROM {BROUGHT}")

    def fetch(self, keys: Collection[str], *asked: Asked) -> str:
        """Store these rows in a temporary table; returns its name."""
        pointer, types = self._some.pointer(), acknowledged_types(self._connection)
        if types:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {BROUGHT} AS FROM {ACKNOWLEDGED} LIMIT 0")
        if pointer is None:
            return BROUGHT
        self._some.want(keys)
        for one in asked:
            self._some.find(pointer, one)
        key = self._some.key()
        if ROW_NUMBER in key and any(re.fullmatch(_WHOLE_ROW, one) for one in keys):
            listed = ", ".join(map(literal, keys))
            self._some.bring(pointer, BROUGHT, where=f"{key_text(key, identifier)} IN ({listed})")
        self._some.bring_wanted(pointer)
        return BROUGHT

    def erase(self, asked: Asked, which: Callable[[str], str], name: str) -> int:
        """Write all rows to a new table, inside a transaction, but for those about somebody; returns how many these
        are. If a table has any of them, be it a row that was replaced or is gone, all tables are replaced.

        `which` makes of a SELECT of `row` and `who` another, of the `row` of those that are about them.
        """
        pointer, gone = self._some.pointer(), Numbers()
        if pointer is None:
            return 0
        self._old = self._tables.names(pointer.prefix)
        self._some.want(())
        if self._some.find(pointer, asked, which):
            gone = self._bring_theirs(pointer, which)
            pointer = self._without(pointer, gone, name)
            set_meta(self._connection, {POINTER: pointer.text()})
        self._forget_live(pointer)
        return gone.rows

    def _bring_theirs(self, pointer: Pointer, which: Callable[[str], str]) -> Numbers:
        """Store the rows that are about somebody, of those that are wanted, in BROUGHT; and let them have no pins."""
        connection = self._connection
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {BROUGHT} AS FROM {ACKNOWLEDGED} LIMIT 0")
        self._some.bring_wanted(pointer)
        families = {name: of.family for name, of in acknowledged_types(connection).items()}
        who = who_of_acknowledged(mode_in(connection), families)
        theirs = which(f"SELECT rowid AS row, {who} AS who FROM {BROUGHT}")
        connection.execute(f"DELETE FROM {BROUGHT} WHERE rowid NOT IN ({theirs})")
        keys = f"SELECT {key_text(self._some.key(), identifier)} FROM {BROUGHT}"
        connection.execute(f"DELETE FROM {PINS} WHERE key IN ({keys})")
        return self._numbers(BROUGHT)

    def _without(self, pointer: Pointer, gone: Numbers, name: str) -> Pointer:
        """A pointer to one new table with all rows but those in BROUGHT."""
        types, key = acknowledged_types(self._connection), self._some.key()
        listed = ", ".join(map(identifier, key))
        keys = self._connection.sql(f"SELECT {listed} FROM {BROUGHT}").to_arrow_table() if gone.rows else None
        table, numbers = pointer.new_name("base", name), pointer.numbers.moved(gone, Numbers())
        self._old.append(table)
        rows = self._tables.write_current(table, pointer, types, key, keys)
        if rows != numbers.rows:
            raise self._incomplete(rows, numbers.rows)
        columns = {column: of.text for column, of in types.items()}
        return replace(pointer, base=RowTable(table, rows, columns), deltas=(), numbers=numbers)

    @contextmanager
    def shows_adopted(self, adopted: Adopted, key: Sequence[str]) -> Iterator[None]:
        """Inside the block, ADOPTED has the named columns of each row that is adopted, but for those that the run has
        come to again. It can be read once."""
        import pyarrow

        types, gone = dict[str, SqlType](), None
        if has_slice(self._connection):
            gone = self._connection.sql(f"SELECT {', '.join(map(identifier, key))} FROM {SLICE}").to_arrow_table()
            types = {name: of for name, of in types_of(self._connection, SLICE).items() if name in key}
        failed = list[RetlError]()
        batches = _until_error(self._tables.named(adopted, types, gone), failed)
        first = next(batches, None)
        if first is None:
            yield
            return
        reader = pyarrow.RecordBatchReader.from_batches(first.schema, chain([first], batches))
        self._connection.register(ADOPTED, reader)
        try:
            yield
        except duckdb.Error:
            if failed:
                raise failed[0] from None
            raise
        finally:
            self._connection.execute("SELECT NULL").fetchall()
            self._connection.unregister(ADOPTED)

    def uncertain_rows(self, key: Sequence[str]) -> str | None:
        """A temporary table with the rows that are uncertain of their user; None if no row is in the warehouse."""
        pointer, types = self._some.pointer(), acknowledged_types(self._connection)
        if pointer is None:
            return None
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {BROUGHT} AS FROM {ACKNOWLEDGED} LIMIT 0")
        self._some.insert(self._tables.uncertain_rows(pointer, types, key), BROUGHT)
        return BROUGHT

    def count(self, asked: Asked, which: Callable[[str], str]) -> int:
        """How many rows in tables are about somebody, be they replaced or gone: see `erase`."""
        pointer = self._some.pointer()
        if pointer is None:
            return 0
        self._some.want(())
        return self._some.find(pointer, asked, which)

    def take_out(self, run_id: str, key: Sequence[str]) -> None:
        """Write what the run has changed of these rows to the warehouse, and let the pointer name it. The state keeps
        none of them."""
        types = acknowledged_types(self._connection)
        if not types:
            return
        meta = meta_of(self._connection)
        pointer = self._adopted or pointer_of(meta) or new_pointer(self._schema, self._sync, meta)
        before, after = self._numbers(self._before), self._numbers(ACKNOWLEDGED)
        moved = self._moved(pointer, types, key)
        if moved:
            pointer = self._written(pointer, types, key, run_id, moved, before, after)
        elif self._adopted:
            self._old = self._tables.names(pointer.prefix)
            self._forget_live(pointer)
        if moved or self._adopted:
            set_meta(self._connection, {POINTER: pointer.text()})
        self._connection.execute(f"DELETE FROM {ACKNOWLEDGED}; DROP TABLE IF EXISTS {_MOVED}")

    def _written(
        self,
        pointer: Pointer,
        types: Mapping[str, SqlType],
        key: Sequence[str],
        run_id: str,
        moved: int,
        before: Numbers,
        after: Numbers,
    ) -> Pointer:
        """A pointer to what is written to the warehouse. Raises UnreachableError: then the run is left as it is."""
        try:
            self._old = self._tables.names(pointer.prefix)
            columns = {name: of.text for name, of in types.items()}
            kind = "delta" if pointer.base else "base"
            table = RowTable(pointer.new_name(kind, run_id), moved, columns)
            with closing(self._batches()) as batches:  # an open result would be in the way of the rollback
                self._tables.write(table.name, types_of(self._connection, _MOVED), batches)
            pointer = replace(pointer.with_table(table), numbers=pointer.numbers.moved(before, after))
            self._old.append(table.name)
        except (BusyError, ProjectError) as error:
            if self._before is not SLICE or self._adopted:
                raise
            (problem, *_) = error.problems
            what = f"{self._sync}: {problem.message}: what its last run has sent is in the journal, not recorded yet"
            hint = f"{problem.hint}; the next command that opens the state records it first"
            raise UnreachableError(what, problem.location, hint, code="S041") from None
        if pointer.deltas and pointer.is_long:
            pointer = self._compacted(pointer, run_id, types, key)
        self._forget_live(pointer)
        return pointer

    def _compacted(self, pointer: Pointer, run_id: str, types: Mapping[str, SqlType], key: Sequence[str]) -> Pointer:
        """A pointer to one new table with all rows; if that fails, or is not all of them, to the same tables as before:
        what a run has sent is recorded in any case, and the next one tries again."""
        name = pointer.new_name("base", run_id)
        self._old.append(name)
        try:
            rows = self._tables.write_current(name, pointer, types, key)
        except RetlError:
            return pointer
        if rows != pointer.numbers.rows:
            return pointer
        columns = {column: of.text for column, of in types.items()}
        return replace(pointer, base=RowTable(name, rows, columns), deltas=())

    def move_in(self, run_id: str, key: Sequence[str]) -> None:
        """Let the warehouse have the rows that the state has, inside a transaction."""
        self._tables.try_out(new_pointer(self._schema, self._sync, meta_of(self._connection)).prefix)
        self.take_out(run_id, key)

    def move_out(self, key: Sequence[str], for_good: bool) -> None:
        """Let the state have the rows that the warehouse has, inside a transaction; `for_good`, the next tables will be
        called otherwise. Raises StateError if they are not all there."""
        pointer = pointer_of(meta_of(self._connection))
        assert pointer
        self._tables.check(pointer)
        rows = self._some.bring(pointer, ACKNOWLEDGED)
        if rows != pointer.numbers.rows:
            raise self._incomplete(rows, pointer.numbers.rows)
        dropped = [POINTER, *([PREFIX] if for_good else [])]
        self._connection.execute(f"DELETE FROM {META} WHERE key IN ({', '.join(map(literal, dropped))})")
        self._old = [table.name for table in pointer.tables]

    def _incomplete(self, rows: int, expected: int) -> StateError:
        what = f"{self._sync}: Spark returns {rows:,} of {count(expected, 'acknowledged row')}"
        return StateError(what, hint="restore its tables, then run this again", code="S040")

    def tidy(self) -> None:
        """Drop the tables that nothing points at any more, once other machines see the commit. Whatever is in the way
        of that: the next commit tries again."""
        with suppress(RetlError):
            self._tables.drop(self._old)
        self._old = []

    def drop_replaced(self) -> None:
        """The same, of tables with rows about somebody who was erased. Raises StateError if one of them stays."""
        try:
            self.left += self._tables.erase(self._old)
        except RetlError as error:
            (problem, *_) = error.problems
            what = f"{self._sync}: {problem.message}: tables that were replaced may still name who was erased"
            hint = f"{problem.hint}; the next command that opens the state drops them first"
            raise StateError(what, problem.location, hint, code="S039") from None
        self._old = []

    def sweep(self, former: Collection[Pointer] = ()) -> None:
        """Drop all tables of the state that nothing points at, which a process that was killed has left, and those of
        `former` states, which were reset."""
        pointer = self._some.pointer()
        for one in former:
            if one.schema == self._schema and (pointer is None or one.prefix != pointer.prefix):
                self._old = self._tables.names(one.prefix)
                self.drop_replaced()
        if pointer:
            self._old = self._tables.names(pointer.prefix)
            self._forget_live(pointer)
            self.drop_replaced()

    def _forget_live(self, pointer: Pointer) -> None:
        live = {table.name for table in pointer.tables}
        self._old = [name for name in self._old if name not in live]

    def close(self) -> None:
        if self._opened:
            self._opened.close()

    @property
    def _tables(self) -> RowTables:
        self._opened = self._opened or self._open(self._schema)
        return self._opened

    def _moved(self, pointer: Pointer, types: Mapping[str, SqlType], key: Sequence[str]) -> int:
        """Store the rows that are to be written, and the keys that are gone; how many these are."""
        names = ", ".join(identifier(name) for name in (*types, *OWN_COLUMNS))
        now = f"SELECT {names}, false AS {GONE} FROM {ACKNOWLEDGED}"
        if not pointer.base:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_MOVED} AS SELECT {names} FROM {ACKNOWLEDGED}")
        else:
            was = self._types_before()
            same_types = {name: of.text for name, of in was.items() if name not in OWN_COLUMNS} == {
                name: of.text for name, of in types.items()
            }
            if was and same_types:  # of another type, all are other rows now
                now = f"{now} EXCEPT SELECT {names}, false FROM {self._before}"
            gone = ""
            if was:
                same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM s.{name}" for name in map(identifier, key))
                keys = ", ".join(f"s.{name}" for name in map(identifier, key))
                left = f"SELECT {keys}, true AS {GONE} FROM {self._before} AS s ANTI JOIN {ACKNOWLEDGED} AS t ON {same}"
                gone = f" UNION ALL BY NAME ({left})"
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_MOVED} AS SELECT * FROM ({now}){gone}")
        return int(self._connection.execute(f"SELECT count(*) FROM {_MOVED}").fetchall()[0][0])

    def _batches(self) -> Generator[Any]:
        reader: Any = self._connection.sql(f"FROM {_MOVED}").to_arrow_reader(_ROWS_AT_ONCE)
        try:
            yield from reader
        finally:
            reader.close()

    def _types_before(self) -> Mapping[str, SqlType]:
        """Of the rows that the state has for a while; none if it has none."""
        is_there = self._before is not SLICE or has_slice(self._connection)
        return types_of(self._connection, self._before) if is_there else {}

    def _numbers(self, table: str) -> Numbers:
        if table == SLICE and not has_slice(self._connection):
            return Numbers()
        unsure, uncertain = f"{UNSURE} <> [{literal(USER)}]", f"list_contains({UNSURE}, {literal(USER)})"
        of_users = f"count(*) FILTER ({unsure}), count(*) FILTER ({uncertain})"
        counts = f"count(*), count({SENT_AT}), {of_users}, count({ABSENT_SINCE})"
        return Numbers(*self._connection.execute(f"SELECT {counts} FROM {table}").fetchall()[0])


def _until_error(batches: Iterator[Any], failed: list[RetlError]) -> Iterator[Any]:
    """The same batches; what ends them is kept, as DuckDB, which reads them, does not pass it on."""
    try:
        yield from batches
    except RetlError as error:
        failed.append(error)
        raise


def elsewhere_of(connection: DuckDBPyConnection, place: StatePlace) -> Elsewhere | None:
    """Where the acknowledged rows of an attached state are, if not in it: where the target has them, or, if they are to
    be moved, where they are. Raises StateError if these are two."""
    rows = place.rows
    if rows is None or not rows.moves:
        refuse_rows_of_others(connection, place)
        schema = rows.schema if rows else None
    else:
        pointer = pointer_of(meta_of(connection))
        schema = pointer.schema if pointer else None
    return Elsewhere(connection, schema, rows.open, place.sync) if rows and schema else None


def refuse_rows_of_others(connection: DuckDBPyConnection, place: StatePlace) -> None:
    """Raises StateError if the acknowledged rows are not where the target has them: nothing is compared with others."""
    pointer, wanted = pointer_of(meta_of(connection)), place.rows.schema if place.rows else None
    there = pointer.schema if pointer else None
    if there == wanted:
        return
    if pointer is None:
        if (
            not acknowledged_types(connection)
            or not connection.execute(f"SELECT 1 FROM {ACKNOWLEDGED} LIMIT 1").fetchall()
        ):
            return
        what, hint = "its acknowledged rows are in the state, and the target has diff: engine", "set diff: local again"
    else:
        is_in = f"its acknowledged rows are in the schema {there} of Spark"
        what = f"{is_in}, and state_schema is {wanted}" if wanted else f"{is_in}, and the target has diff: local"
        hint = f"set diff: engine and state_schema: {there} again"
    hint = f"move them: `retl state move {place.sync}`; or {hint}"
    raise StateError(f"{place.sync}: {what}", hint=hint, code="S038")


def has_slice(connection: DuckDBPyConnection) -> bool:
    """Whether the open run has rows of the warehouse that it may change."""
    database, schema, table = SLICE.split(".")
    query = "SELECT 1 FROM duckdb_tables() WHERE (database_name, schema_name, table_name) = (?, ?, ?)"
    return bool(connection.execute(query, [database, schema, table]).fetchall())
