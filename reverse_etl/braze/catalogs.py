"""Catalogs of a workspace: what a sync needs of one, what it lacks, and the requests that create that. Pure.

GET /catalogs ── catalogs_of() ──> the types of fields, by catalog
what a model returns ── lack_of() ──> Lack: the catalog is not there; or fields are not; or have other types
Lack ── creation() ──> requests
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from reverse_etl.braze.answers import errors_of
from reverse_etl.braze.data_types import DataType
from reverse_etl.braze.modes import MAX_DESCRIPTION, MAX_NEW_FIELDS, Call

READ_CATALOGS = Call("/catalogs", "catalogs", "catalogs.get", rows_per_request=1, method="GET")  # get_list_catalogs
CREATE_CATALOG = Call("/catalogs", "catalogs", "catalogs.create", rows_per_request=1)  # post_create_catalog
CREATE_FIELDS = Call(  # post_create_catalog_fields
    "/catalogs/{catalog}/fields", "catalog_fields", "catalogs.create_fields", rows_per_request=MAX_NEW_FIELDS
)
READ_ITEMS = Call(  # get_catalog_items_details_bulk
    "/catalogs/{catalog}/items", "catalog_item", "catalogs.get_items", rows_per_request=50, method="GET"
)
READ_ITEM = Call(  # get_catalog_item_details
    "/catalogs/{catalog}/items/{item}", "catalog_item", "catalogs.get_item", rows_per_request=1, method="GET"
)
Fields = Mapping[str, str]  # the types of fields by their names, as a response spells them
_OF_ANY = (DataType.OBJECT, DataType.ARRAY)  # what JSON text may be


@dataclass(frozen=True)
class Lack:
    """What a catalog lacks of the fields that are `wanted`: itself; or these `fields`; `retyped` are those that it has
    with another type. `more`: what it has besides."""

    catalog: str
    wanted: Mapping[str, DataType]
    is_missing: bool
    fields: Mapping[str, DataType]
    retyped: Mapping[str, str]
    more: Sequence[str] = ()

    @property
    def created(self) -> dict[str, str]:
        """The fields that are created, with their types: JSON text may be an object, or an array."""
        return {name: DataType.OBJECT if of is DataType.ANY else of for name, of in self.fields.items()}

    def __bool__(self) -> bool:
        return self.is_missing or bool(self.fields or self.retyped)


@dataclass(frozen=True)
class Asking:
    """A request that reads, the page of a list at a `cursor` if it has one."""

    address: str
    cursor: str | None = None
    body: bytes | None = None
    people: tuple[str, ...] = ()
    is_again: bool = False

    @property
    def path(self) -> str:
        return f"{self.address}?cursor={quote(self.cursor, safe='')}" if self.cursor else self.address


@dataclass(frozen=True)
class Creation:
    """A request that creates a catalog, or fields of one."""

    call: Call
    body: bytes
    people: tuple[str, ...] = ()
    is_again: bool = False

    @property
    def path(self) -> str:
        return self.call.path

    def curl(self, url: str, key_variable: str) -> str:
        """The same as a command for a shell; the API key is in the environment."""
        headers = f'-H "Authorization: Bearer ${key_variable}" -H "Content-Type: application/json"'
        return f"curl {url}{self.path} {headers} -d {shlex.quote(self.body.decode())}"


def catalogs_of(said: Mapping[str, Any]) -> dict[str, Fields]:
    """The catalogs that a response lists. Raises ValueError if it is no such list."""
    try:
        return {one["name"]: {field["name"]: field["type"] for field in one["fields"]} for one in said["catalogs"]}
    except (KeyError, TypeError) as error:
        raise ValueError("not a list of catalogs") from error


def items_of(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The items that a response has; none if it says that there is no such item. Raises ValueError if it is neither."""
    if any(error.get("id") == "item-not-found" for error in errors_of(said)):
        return []
    items = said.get("items")
    if not isinstance(items, list) or not all(isinstance(one, dict) and "id" in one for one in items):
        raise ValueError("not a list of items")
    return items


def next_cursor(link: str | None) -> str | None:
    """The cursor of the next page, by a `Link` header; None on the last page. Of its address, nothing else is used."""
    found = _NEXT.search(link or "")
    return next(iter(parse_qs(urlsplit(found[1]).query).get("cursor", [])), None) if found else None


_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next\b')


def lack_of(catalog: str, wanted: Mapping[str, DataType], known: Mapping[str, Fields]) -> Lack:
    """What Braze lacks to take items with these fields; `id` is one that every catalog has."""
    if catalog not in known:
        return Lack(catalog, wanted, True, wanted, {})
    there = known[catalog]
    retyped = {name: there[name] for name, of in wanted.items() if name in there and not _fits(of, there[name])}
    new = {name: of for name, of in wanted.items() if name not in there}
    return Lack(catalog, wanted, False, new, retyped, [name for name in there if name not in (*wanted, "id")])


def _fits(wanted: DataType, there: str) -> bool:
    return there == wanted or (wanted is DataType.ANY and there in _OF_ANY)


def creation(lack: Lack, description: str) -> list[Creation]:
    """The requests that create what is lacking, as far as that can be created: a field keeps its type."""
    fields = [{"name": name, "type": of} for name, of in lack.created.items()]
    if lack.is_missing:
        whole = {"name": lack.catalog, "description": description[:MAX_DESCRIPTION], "fields": [_ID, *fields]}
        return [Creation(CREATE_CATALOG, _body({"catalogs": [whole]}))]
    call = CREATE_FIELDS.at({"catalog": lack.catalog})
    parts = (fields[start : start + MAX_NEW_FIELDS] for start in range(0, len(fields), MAX_NEW_FIELDS))
    return [Creation(call, _body({"fields": some})) for some in parts]


_ID = {"name": "id", "type": "string"}


def _body(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
