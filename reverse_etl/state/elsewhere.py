"""Acknowledged rows that are in the warehouse (`plan/elsewhere.py`): what a run changed of them becomes a table there.

    SLICE ──> state ── the commit, as ever ──> state ── what is other now ──> delta_<run>, in the warehouse
    of the open run    on these rows alone                                    and the pointer, in `meta`

So the table of acknowledged rows in the state has rows only inside the transaction that commits a run. The delta is
written before that ends. If the process is killed in between, nothing points at it, and whoever commits the run writes
one of another name. What nothing points at is dropped after the commit; only what was there before it, so that a
process which was overtaken by another machine drops nothing of that one's.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.errors import BusyError, ProjectError, RetlError, StateError
from reverse_etl.plan.elsewhere import (
    GONE,
    POINTER,
    Numbers,
    Pointer,
    RowTable,
    RowTables,
    new_pointer,
    pointer_of,
)
from reverse_etl.plan.tables import ABSENT_SINCE, ACKNOWLEDGED, META, SENT_AT, SLICE, UNSURE, USER
from reverse_etl.project.project import LoadedProject
from reverse_etl.shared_state.object_store import StoreError
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import INTEGERS, SqlType
from reverse_etl.state.contents import OWN_COLUMNS, acknowledged_types, meta_of, set_meta, types_of
from reverse_etl.words import count

_SHOWN = "retl_shown"  # rows of the warehouse that somebody looks at
_WRITTEN_ALIKE = INTEGERS | {"varchar", "boolean", "date"}  # by DuckDB and by Spark
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
        self._old: list[str] = []  # tables that were there before the commit, and that nothing points at after it

    def take_in(self) -> None:
        """Put the rows that the open run may change into the state, inside the transaction that commits it."""
        if has_slice(self._connection):
            self._connection.execute(f"INSERT INTO {ACKNOWLEDGED} BY NAME FROM {SLICE}")

    def take_out(self, run_id: str, key: Sequence[str]) -> None:
        """Write what the run has changed of these rows to the warehouse, and let the pointer name it. The state keeps
        none of them."""
        types = acknowledged_types(self._connection)
        if not types:
            return
        pointer = pointer_of(meta_of(self._connection)) or new_pointer(self._schema, self._sync)
        before, after = self._numbers(SLICE), self._numbers(ACKNOWLEDGED)
        moved = self._moved(pointer, types, key)
        if moved:
            pointer = self._written(pointer, types, key, run_id, moved, before, after)
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
            table = RowTable(_name(pointer, kind, run_id), moved, columns)
            self._tables.write(table.name, types_of(self._connection, _MOVED), self._batches())
            pointer = replace(pointer.with_table(table), numbers=pointer.numbers.moved(before, after))
            self._old.append(table.name)
        except (BusyError, ProjectError) as error:
            (problem, *_) = error.problems
            what = f"{self._sync}: {problem.message}: what its last run has sent is in the journal, not recorded yet"
            hint = f"{problem.hint}; the next command that opens the state records it first"
            raise UnreachableError(what, problem.location, hint, code="S041") from None
        if pointer.deltas and pointer.is_long:
            pointer = self._compacted(pointer, run_id, types, key)
        live = {table.name for table in pointer.tables}
        self._old = [name for name in self._old if name not in live]
        return pointer

    def _compacted(self, pointer: Pointer, run_id: str, types: Mapping[str, SqlType], key: Sequence[str]) -> Pointer:
        """A pointer to one new table with all rows; if that fails, or is not all of them, to the same tables as before:
        what a run has sent is recorded in any case, and the next one tries again."""
        name = _name(pointer, "base", run_id)
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
        self._tables.try_out()
        self.take_out(run_id, key)

    def move_out(self, key: Sequence[str]) -> None:
        """Let the state have the rows that the warehouse has, inside a transaction. Raises StateError if they are not
        all there."""
        pointer = pointer_of(meta_of(self._connection))
        assert pointer
        self._tables.check(pointer)
        rows = self._bring(pointer, key, ACKNOWLEDGED)
        if rows != pointer.numbers.rows:
            what = f"{self._sync}: Spark returns {rows:,} of {count(pointer.numbers.rows, 'acknowledged row')}"
            raise StateError(what, hint="restore its tables, then run this again", code="S040")
        self._connection.execute(f"DELETE FROM {META} WHERE key = '{POINTER}'")
        self._old = [table.name for table in pointer.tables]

    def row_with(self, key: Sequence[str], text: str) -> str | None:
        """A temporary table with the row that has a key, as people write it, if there is one. None if nobody can tell
        by the key: Spark writes values of these types otherwise."""
        types, pointer = acknowledged_types(self._connection), pointer_of(meta_of(self._connection))
        if any(name not in types or types[name].family not in _WRITTEN_ALIKE for name in key):
            return None
        texts = [text]
        if len(key) > 1:
            with suppress(ValueError):
                texts = json.loads(text)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_SHOWN} AS FROM {ACKNOWLEDGED} LIMIT 0")
        if pointer and isinstance(texts, list) and len(texts) == len(key):
            self._bring(pointer, key, _SHOWN, dict(zip(key, texts, strict=True)))
        return _SHOWN

    def uncertain_rows(self, key: Sequence[str]) -> str | None:
        """A temporary table with the rows that are uncertain of their user; None if no row is in the warehouse."""
        pointer = pointer_of(meta_of(self._connection))
        if pointer is None or pointer.base is None:
            return None
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_SHOWN} AS FROM {ACKNOWLEDGED} LIMIT 0")
        self._insert(self._tables.uncertain_rows(pointer, acknowledged_types(self._connection), key), _SHOWN)
        return _SHOWN

    def _bring(
        self, pointer: Pointer, key: Sequence[str], into: str, texts: Mapping[str, str | None] | None = None
    ) -> int:
        """Insert the rows of the warehouse into a table, or those of them with such a key; how many these are."""
        return self._insert(self._tables.read(pointer, acknowledged_types(self._connection), key, texts or {}), into)

    def _insert(self, batches: Iterator[Any], into: str) -> int:
        import pyarrow

        types = acknowledged_types(self._connection)
        own = ", ".join(f"CAST({name} AS {of}) AS {name}" for name, of in OWN_COLUMNS.items())
        model = ", ".join(f"CAST({identifier(name)} AS {of.text}) AS {identifier(name)}" for name, of in types.items())
        rows = 0
        for batch in batches:
            rows += batch.num_rows
            self._connection.register(_MOVED, pyarrow.Table.from_batches([batch]))
            self._connection.execute(f"INSERT INTO {into} BY NAME SELECT {model}, {own} FROM {_MOVED}").fetchall()
            self._connection.unregister(_MOVED)
        return rows

    def tidy(self) -> None:
        """Drop the tables that nothing points at any more, once other machines see the commit. Whatever is in the way
        of that: the next commit tries again."""
        with suppress(RetlError):
            self._tables.drop(self._old)
        self._old = []

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
            was = types_of(self._connection, SLICE) if has_slice(self._connection) else {}
            same_types = {name: of.text for name, of in was.items() if name not in OWN_COLUMNS} == {
                name: of.text for name, of in types.items()
            }
            if was and same_types:  # of another type, all are other rows now
                now = f"{now} EXCEPT SELECT {names}, false FROM {SLICE}"
            gone = ""
            if was:
                same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM s.{name}" for name in map(identifier, key))
                keys = ", ".join(f"s.{name}" for name in map(identifier, key))
                left = f"SELECT {keys}, true AS {GONE} FROM {SLICE} AS s ANTI JOIN {ACKNOWLEDGED} AS t ON {same}"
                gone = f" UNION ALL BY NAME ({left})"
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_MOVED} AS SELECT * FROM ({now}){gone}")
        return int(self._connection.execute(f"SELECT count(*) FROM {_MOVED}").fetchall()[0][0])

    def _batches(self) -> Iterator[Any]:
        reader: Any = self._connection.sql(f"FROM {_MOVED}").to_arrow_reader(_ROWS_AT_ONCE)
        try:
            yield from reader
        finally:
            reader.close()

    def _numbers(self, table: str) -> Numbers:
        if table == SLICE and not has_slice(self._connection):
            return Numbers()
        unsure, uncertain = f"{UNSURE} <> [{literal(USER)}]", f"list_contains({UNSURE}, {literal(USER)})"
        of_users = f"count(*) FILTER ({unsure}), count(*) FILTER ({uncertain})"
        counts = f"count(*), count({SENT_AT}), {of_users}, count({ABSENT_SINCE})"
        return Numbers(*self._connection.execute(f"SELECT {counts} FROM {table}").fetchall()[0])


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


def refuse_undone(project: LoadedProject, what: str) -> None:
    """Raises ProjectError for what does not reach acknowledged rows that are in the warehouse yet."""
    if project.spec.target.rows_in:
        message = f"{what} does not reach acknowledged rows that are in Spark yet"
        where = project.spec.in_target("warehouse", "diff")
        hint = "set diff: local, move them with `retl state move NAME` for each sync, and move them back after it"
        raise ProjectError(message, where, hint, code="P148")


def has_slice(connection: DuckDBPyConnection) -> bool:
    """Whether the open run has rows of the warehouse that it may change."""
    database, schema, table = SLICE.split(".")
    query = "SELECT 1 FROM duckdb_tables() WHERE (database_name, schema_name, table_name) = (?, ?, ?)"
    return bool(connection.execute(query, [database, schema, table]).fetchall())


def _name(pointer: Pointer, kind: str, run_id: str) -> str:
    """No two attempts share a name: what one of them writes, another one never replaces."""
    return f"{pointer.prefix}_{kind}_{run_id.replace('-', '_').lower()}_{secrets.token_hex(3)}"
