"""Catalogs and their items in the sandbox file, within a request's transaction. Rules of Braze live elsewhere."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from reverse_etl.sandbox.exact import Json, dumps, loads
from reverse_etl.sandbox.store import Transaction

Item = dict[str, Json]  # without its id


@dataclass(frozen=True)
class Catalog:
    """`fields`: name -> type, `id` first."""

    name: str
    description: str
    fields: Mapping[str, str]
    num_items: int
    updated_at: float


def catalogs(work: Transaction) -> list[Catalog]:
    """All of them, in the order they were made."""
    return [_catalog(row) for row in work.db.execute(f"{_CATALOG} ORDER BY id")]


def find_catalog(work: Transaction, name: str) -> Catalog | None:
    row = work.db.execute(f"{_CATALOG} WHERE name = ?", [name]).fetchone()
    return None if row is None else _catalog(row)


def add_catalog(work: Transaction, name: str, description: str, fields: Mapping[str, str]) -> None:
    query = "INSERT INTO catalogs (name, description, fields, updated_at) VALUES (?, ?, ?, ?)"
    work.db.execute(query, [name, description, dumps(dict(fields)), work.now])


def set_fields(work: Transaction, catalog: Catalog, fields: Mapping[str, str]) -> None:
    """Fields that are no more take their values in all items along."""
    work.db.execute("UPDATE catalogs SET fields = ? WHERE name = ?", [dumps(dict(fields)), catalog.name])
    if catalog.fields.keys() - fields.keys():
        for id, item in items(work, catalog.name):
            put_item(work, catalog.name, id, {name: value for name, value in item.items() if name in fields})
    touch(work, catalog.name)


def drop_catalog(work: Transaction, name: str) -> None:
    """The catalog, and its items."""
    work.db.execute("DELETE FROM catalog_items WHERE catalog = ?", [name])
    work.db.execute("DELETE FROM catalogs WHERE name = ?", [name])


def touch(work: Transaction, name: str) -> None:
    work.db.execute("UPDATE catalogs SET updated_at = ? WHERE name = ?", [work.now, name])


def items(work: Transaction, catalog: str, skip: int = 0, most: int = -1) -> list[tuple[str, Item]]:
    """Items with their ids, in the order they were made."""
    query = "SELECT id, value FROM catalog_items WHERE catalog = ? ORDER BY number LIMIT ? OFFSET ?"
    return [(id, loads(value)) for id, value in work.db.execute(query, [catalog, most, skip]).fetchall()]


def find_item(work: Transaction, catalog: str, id: str) -> Item | None:
    query = "SELECT value FROM catalog_items WHERE catalog = ? AND id = ?"
    row = work.db.execute(query, [catalog, id]).fetchone()
    return None if row is None else loads(row[0])


def put_item(work: Transaction, catalog: str, id: str, item: Item) -> None:
    """Make an item, or give a known one this content at its old place."""
    work.db.execute(_PUT, [catalog, id, dumps(item), work.number])


def drop_item(work: Transaction, catalog: str, id: str) -> bool:
    query = "DELETE FROM catalog_items WHERE catalog = ? AND id = ?"
    return work.db.execute(query, [catalog, id]).rowcount == 1


_CATALOG = (
    "SELECT name, description, fields, (SELECT count(*) FROM catalog_items WHERE catalog = catalogs.name), updated_at "
    "FROM catalogs"
)
_PUT = (
    "INSERT INTO catalog_items (catalog, id, value, request) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (catalog, id) DO UPDATE SET value = excluded.value, request = excluded.request"
)


def _catalog(row: sqlite3.Row) -> Catalog:
    name, description, fields, num_items, updated_at = row
    return Catalog(name, description, loads(fields), num_items, updated_at)
