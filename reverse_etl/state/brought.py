"""Brings some of the acknowledged rows that are in the warehouse (`plan/elsewhere.py`): those with certain keys, or
that may be about certain people.

    keys, as people see them ──────────────────────────────────────┐
    whom rows are about ── the warehouse leaves out others ── FOUND ┴─ WANTED ──> BROUGHT
                           who is meant is decided here                 their keys   rows as they are

All of these are temporary tables, of one transaction or command.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.model import types_from
from reverse_etl.plan.elsewhere import Asked, Pointer, RowTables, pointer_of
from reverse_etl.records.identity import who_of_acknowledged
from reverse_etl.records.mapping import typed_keys
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.contents import OWN_COLUMNS, acknowledged_types, key_in, meta_of, mode_in

WANTED = "retl_wanted"  # keys of rows that are to be brought
BROUGHT = "retl_brought"  # rows that were brought, as the warehouse has them
_FOUND = "retl_found"  # rows that may be among those asked for
_BATCH = "retl_batch"


class Brought:
    """Rows of one state; `tables` opens those of the warehouse."""

    def __init__(self, connection: DuckDBPyConnection, tables: Callable[[], RowTables]) -> None:
        self._connection, self._tables = connection, tables

    def pointer(self) -> Pointer | None:
        """Where the rows are; None if there are none in the warehouse."""
        pointer = pointer_of(meta_of(self._connection))
        return pointer if pointer and pointer.base else None

    def key(self) -> list[str]:
        return key_in(self._connection)

    def want(self, keys: Collection[str]) -> None:
        """Let the rows with these keys be wanted, which are texts, as people see them."""
        types = acknowledged_types(self._connection)
        wanted = typed_keys({name: types[name] for name in self.key()}, "SELECT unnest($keys::VARCHAR[]) AS text")
        of_keys = {"keys": sorted(set(keys))}
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {WANTED} AS {wanted}", of_keys)

    def find(self, pointer: Pointer, asked: Asked, which: Callable[[str], str] | None = None) -> int:
        """Let the rows be wanted that may be among those asked for, or of these those `which` are; see `erase`. How
        many these are, with those that are not the latest with their key."""
        import pyarrow

        connection, mode, key, found = self._connection, mode_in(self._connection), self.key(), 0
        types = acknowledged_types(connection)
        for table, batch in self._tables().find(pointer, mode, key, asked):
            if not batch.num_rows:
                continue
            of = {name: of for name, of in types_from(table.columns).items() if name in batch.schema.names}
            columns = ", ".join(
                f"CAST({identifier(name)} AS {one.text}) AS {identifier(name)}" for name, one in of.items()
            )
            connection.register(_BATCH, pyarrow.Table.from_batches([batch]))
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {_FOUND} AS SELECT {columns} FROM {_BATCH}").fetchall()
            connection.unregister(_BATCH)
            who = who_of_acknowledged(mode, {name: one.family for name, one in of.items()})
            rows = f"SELECT rowid AS row, {who} AS who FROM {_FOUND}"
            chosen = f"WHERE rowid IN ({which(rows)})" if which else ""
            there = [name for name in key if name in of]  # one that was added to the key since is NULL
            keys = ", ".join(
                f"TRY_CAST({identifier(name)} AS {types[name].text}) AS {identifier(name)}" for name in there
            )
            connection.execute(f"INSERT INTO {WANTED} BY NAME SELECT {keys} FROM {_FOUND} {chosen}")
            found += connection.execute(f"SELECT count(*) FROM {_FOUND} {chosen}").fetchall()[0][0]
            connection.execute(f"DROP TABLE {_FOUND}")
        return found

    def bring_wanted(self, pointer: Pointer) -> None:
        """Store the rows that are wanted in BROUGHT."""
        wanted = self._connection.sql(f"SELECT DISTINCT * FROM {WANTED}").to_arrow_table()
        if wanted.num_rows:
            self.bring(pointer, BROUGHT, wanted)
        self._connection.execute(f"DROP TABLE {WANTED}")

    def bring(self, pointer: Pointer, into: str, of: Any = None, where: str = "true") -> int:
        """Insert the rows of the warehouse into a table, or those of them with these keys; how many these are."""
        types = acknowledged_types(self._connection)
        return self.insert(self._tables().read(pointer, types, self.key(), of), into, where)

    def insert(self, batches: Iterator[Any], into: str, where: str = "true") -> int:
        """Insert acknowledged rows into a table, as pyarrow.RecordBatch; how many came."""
        import pyarrow

        types = acknowledged_types(self._connection)
        own = ", ".join(f"CAST({name} AS {of_own}) AS {name}" for name, of_own in OWN_COLUMNS.items())
        model = ", ".join(
            f"CAST({identifier(name)} AS {one.text}) AS {identifier(name)}" for name, one in types.items()
        )
        rows = 0
        for batch in batches:
            rows += batch.num_rows
            self._connection.register(_BATCH, pyarrow.Table.from_batches([batch]))
            shown = f"SELECT * FROM (SELECT {model}, {own} FROM {_BATCH}) WHERE {where}"
            self._connection.execute(f"INSERT INTO {into} BY NAME {shown}").fetchall()
            self._connection.unregister(_BATCH)
        return rows
