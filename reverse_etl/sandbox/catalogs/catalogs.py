"""Catalogs and their fields: make, list, delete. What is in them: `catalog_items.py`."""

import re
from collections.abc import Mapping

from reverse_etl.sandbox.catalogs.errors import refuse
from reverse_etl.sandbox.catalogs.store import Catalog, add_catalog, catalogs, drop_catalog, find_catalog, set_fields
from reverse_etl.sandbox.catalogs.values import TYPES
from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import Answer, Settings
from reverse_etl.sandbox.store import Transaction
from reverse_etl.sandbox.users.times import iso

MAX_NAME = 250  # characters of a catalog's, a field's and an item's name, and of a description (cat-create)
MAX_FIELDS = 500  # (cat-create, cat-fields)
MAX_NEW_FIELDS = 50  # in one request (cat-fields)
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)  # letters, numbers, hyphens, underscores (cat-create)


def the_catalog(work: Transaction, name: str) -> Catalog:
    """404 if there is none; the page on new fields has 400, all others 404 (cat-fields, cat-delete)."""
    return find_catalog(work, name) or refuse("catalog-not-found", ["catalog_name"], [name], status=404)


def create(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """One catalog (cat-create)."""
    sent = body.get("catalogs")
    if not isinstance(sent, list) or not sent or not all(isinstance(one, dict) for one in sent):
        refuse("catalog-array-invalid", ["catalogs"])
    if len(sent) > 1:
        refuse("too-many-catalog-atoms", ["catalogs"])
    name, description = sent[0].get("name"), sent[0].get("description")
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
        refuse("invalid-catalog-name", ["name"], [name])
    if len(name) > MAX_NAME:
        refuse("catalog-name-too-large", ["name"], [name])
    if find_catalog(work, name) is not None:
        refuse("catalog-name-already-exists", ["name"], [name])
    description = "" if description is None else description  # "required", but no error is named for it
    if not isinstance(description, str) or len(description) > MAX_NAME:
        refuse("description-too-long", ["description"], [description])
    fields = _fields(sent[0].get("fields"))
    if next(iter(fields.items()), None) != ("id", "string"):
        refuse("id-not-first-column", ["fields"])
    if len(fields) > MAX_FIELDS:
        refuse("too-many-fields", ["fields"])
    add_catalog(work, name, description, fields)
    return 201, {"catalogs": [_shown(the_catalog(work, name))], "message": "success"}


def listed(work: Transaction, query: Mapping[str, Json], settings: Settings) -> Answer:
    """All catalogs (cat-list)."""
    return 200, {"catalogs": [_shown(one) for one in catalogs(work)], "message": "success"}


def delete(work: Transaction, body: Json, settings: Settings, *, catalog_name: str) -> Answer:
    """A catalog with all its items (cat-delete)."""
    drop_catalog(work, the_catalog(work, catalog_name).name)
    return 200, {"message": "success"}


def create_fields(work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str) -> Answer:
    """Up to 50 new fields; asynchronous, here at once (cat-fields). Rules of single fields: those of (cat-create)."""
    catalog = the_catalog(work, catalog_name)
    fields = _fields(body.get("fields"))
    if len(fields) > MAX_NEW_FIELDS:
        refuse("request-includes-too-many-fields", ["fields"])
    if known := sorted(fields.keys() & catalog.fields.keys()):
        refuse("field-names-not-unique", ["name"], known)
    if len(catalog.fields) + len(fields) > MAX_FIELDS:
        refuse("catalog-exceeds-fields-limit", ["fields"])
    set_fields(work, catalog, {**catalog.fields, **fields})
    return 202, {"message": "success"}


def delete_field(work: Transaction, body: Json, settings: Settings, *, catalog_name: str, field_name: str) -> Answer:
    """One field with its values; `id` stays (cat-field-delete)."""
    catalog = the_catalog(work, catalog_name)
    if field_name == "id" or field_name not in catalog.fields:
        refuse("invalid-field-name", ["field_name"], [field_name], status=404)
    set_fields(work, catalog, {name: kind for name, kind in catalog.fields.items() if name != field_name})
    return 202, {"message": "success"}


def _fields(sent: Json) -> dict[str, str]:
    if not isinstance(sent, list) or not sent or not all(_is_field(one) for one in sent):
        refuse("invalid-fields", ["fields"], message="'fields' must be an array of objects with a 'name' and a 'type'")
    names = [one["name"] for one in sent]
    if bad := [name for name in names if not PLAIN_NAME.fullmatch(name)]:
        refuse("invalid-field-names", ["name"], bad)
    if long := [name for name in names if len(name) > MAX_NAME]:
        refuse("field-names-too-large", ["name"], long)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        refuse("field-names-not-unique", ["name"], twice)
    if unknown := [one["type"] for one in sent if one["type"] not in TYPES]:
        refuse("invalid-field-types", ["type"], unknown)
    return {one["name"]: one["type"] for one in sent}


def _is_field(one: Json) -> bool:
    return isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("type"), str)


def _shown(catalog: Catalog) -> dict[str, Json]:
    return {
        "description": catalog.description,
        "fields": [{"name": name, "type": kind} for name, kind in catalog.fields.items()],
        "name": catalog.name,
        "num_items": catalog.num_items,
        "updated_at": iso(catalog.updated_at).replace("Z", "+00:00"),  # as printed (cat-create)
    }
