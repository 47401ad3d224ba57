"""Items of catalogs: many at once (asynchronous, 202) and one by one (synchronous), and read back page by page.

Asynchronous requests are checked at once, and a bad item refuses all; what they then find to be impossible (an item
that is there already, or is not) only the log of silent drops tells. Both are guesses.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from reverse_etl.sandbox.catalogs.catalogs import MAX_NAME, PLAIN_NAME, the_catalog
from reverse_etl.sandbox.catalogs.errors import MESSAGES, refuse
from reverse_etl.sandbox.catalogs.store import Catalog, Item, drop_item, find_item, items, put_item, touch
from reverse_etl.sandbox.catalogs.values import UnfitError, change_array, checked_change, fit, is_array_change
from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import Answer, PagedAnswer, Settings
from reverse_etl.sandbox.store import Transaction

MAX_ITEMS = 50  # in a request; the "16,000" in two leads is the rate limit (cat-items)
PAGE = 50  # (cat-list-items)

# Many at once


def create_many(work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str) -> Answer:
    """New items; one that is there already stays as it is (cat-items; the last a guess)."""
    catalog, sent = _many(work, body, catalog_name)
    fitted = _fitted(catalog, sent)
    for index, (id, item) in enumerate(fitted.items()):
        if find_item(work, catalog.name, id) is None:
            put_item(work, catalog.name, id, _without_nulls(item))
        else:
            work.drop("items", index, "", "the item already exists")
    return _accepted(work, catalog)


def update_many(work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str) -> Answer:
    """Some fields of known items (cat-patch)."""
    catalog, sent = _many(work, body, catalog_name)
    fitted = _fitted(catalog, sent, is_patch=True)
    for index, (id, changes) in enumerate(fitted.items()):
        stored = find_item(work, catalog.name, id)
        if stored is None:
            work.drop("items", index, "", "no such item")
            continue
        try:
            put_item(work, catalog.name, id, _patched(stored, changes, catalog))
        except UnfitError as unfit:
            work.drop("items", index, "", MESSAGES[unfit.id])
    return _accepted(work, catalog)


def replace_many(work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str) -> Answer:
    """Whole items; unknown ones are created (cat-put, which says so of single items)."""
    catalog, sent = _many(work, body, catalog_name)
    for id, item in _fitted(catalog, sent).items():
        put_item(work, catalog.name, id, _without_nulls(item))
    return _accepted(work, catalog)


def delete_many(work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str) -> Answer:
    """Items by their ids, other fields do not matter (cat-delete-items)."""
    catalog, sent = _many(work, body, catalog_name)
    for index, one in enumerate(sent):
        if not drop_item(work, catalog.name, one["id"]):
            work.drop("items", index, "", "no such item")
    return _accepted(work, catalog)


def _many(work: Transaction, body: Mapping[str, Json], catalog_name: str) -> tuple[Catalog, list[Item]]:
    catalog, sent = the_catalog(work, catalog_name), _objects(body, MAX_ITEMS)
    ids: list[Json] = [one.get("id") for one in sent]
    if missing := ids.count(None):
        # as printed (cat-delete-items)
        refuse("items-missing-ids", message=f"There are {missing} item(s) that do not have ids")
    if others := [id for id in ids if not isinstance(id, str)]:
        refuse("ids-not-strings", ["id"], others)
    for id in ids:
        _check_id(str(id), "id")
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        refuse("ids-not-unique", ["id"], twice)
    return catalog, sent


def _accepted(work: Transaction, catalog: Catalog) -> Answer:
    touch(work, catalog.name)
    return 202, {"message": "success"}


# One by one


def create_one(
    work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str, item_id: str
) -> Answer:
    """A new item (cat-post)."""
    catalog, item = _one(work, body, catalog_name, item_id)
    if find_item(work, catalog.name, item_id) is not None:
        refuse("item-already-exists", ["item_id"], [item_id])
    put_item(work, catalog.name, item_id, _without_nulls(item))
    touch(work, catalog.name)
    return 201, {"message": "success"}


def update_one(
    work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str, item_id: str
) -> Answer:
    """Some fields of a known item (cat-patch)."""
    catalog, changes = _one(work, body, catalog_name, item_id, is_patch=True)
    stored = _stored(work, catalog, item_id)
    try:
        put_item(work, catalog.name, item_id, _patched(stored, changes, catalog))
    except UnfitError as unfit:
        refuse(unfit.id, ["id"], [item_id])
    touch(work, catalog.name)
    return 200, {"message": "success"}


def replace_one(
    work: Transaction, body: Mapping[str, Json], settings: Settings, *, catalog_name: str, item_id: str
) -> Answer:
    """A whole item; an unknown one is created (cat-put)."""
    catalog, item = _one(work, body, catalog_name, item_id)
    put_item(work, catalog.name, item_id, _without_nulls(item))
    touch(work, catalog.name)
    return 200, {"message": "success"}


def delete_one(work: Transaction, body: Json, settings: Settings, *, catalog_name: str, item_id: str) -> Answer:
    """An item; an unknown one is a 400 here, though a 404 elsewhere (cat-delete-item)."""
    catalog = the_catalog(work, catalog_name)
    if not drop_item(work, catalog.name, item_id):
        refuse("item-not-found", ["item_id"], [item_id])
    touch(work, catalog.name)
    return 202, {"message": "success"}


def get_one(
    work: Transaction, query: Mapping[str, Json], settings: Settings, *, catalog_name: str, item_id: str
) -> Answer:
    """(cat-get)"""
    stored = _stored(work, the_catalog(work, catalog_name), item_id)
    return 200, {"items": [{"id": item_id, **stored}], "message": "success"}


def _one(
    work: Transaction, body: Mapping[str, Json], catalog_name: str, item_id: str, *, is_patch: bool = False
) -> tuple[Catalog, Item]:
    catalog, sent = the_catalog(work, catalog_name), _objects(body, 1)
    _check_id(item_id, "item_id")
    if "id" in sent[0]:
        refuse("id-in-body", ["id"], [sent[0]["id"]])
    return catalog, _fitted(catalog, [{"id": item_id, **sent[0]}], is_patch=is_patch)[item_id]


def _stored(work: Transaction, catalog: Catalog, item_id: str) -> Item:
    stored = find_item(work, catalog.name, item_id)
    return refuse("item-not-found", ["item_id"], [item_id], status=404) if stored is None else stored


# Read back


def get_many(work: Transaction, query: Mapping[str, Json], settings: Settings, *, catalog_name: str) -> PagedAnswer:
    """50 items, and a `Link` header to the pages before and after, if there are any (cat-list-items).

    In Braze's example a cursor is base64 of `skip:50`, and so it is here.
    """
    catalog = the_catalog(work, catalog_name)
    cursor = next(iter(query.get("cursor", [])), None)
    skip = 0 if cursor is None else _skip(cursor)
    page = [{"id": id, **item} for id, item in items(work, catalog.name, skip, PAGE)]
    links = []
    if cursor is not None and catalog.num_items > PAGE:
        links.append(_link(catalog, max(skip - PAGE, 0), "prev"))
    if skip + PAGE < catalog.num_items:
        links.append(_link(catalog, skip + PAGE, "next"))
    return 200, {"items": page, "message": "success"}, {"link": ",".join(links)} if links else {}


def _skip(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    found = re.fullmatch(r"skip:([0-9]{1,15})", text)
    return int(found[1]) if found else refuse("invalid-cursor", ["cursor"], [cursor])


def _link(catalog: Catalog, skip: int, relation: str) -> str:
    cursor = base64.b64encode(f"skip:{skip}".encode()).decode()
    return f'</catalogs/{catalog.name}/items?cursor={cursor}>; rel="{relation}"'


# Checks


def _objects(body: Mapping[str, Json], most: int) -> list[Item]:
    sent = body.get("items")
    if not isinstance(sent, list) or not sent or not all(isinstance(one, dict) for one in sent):
        refuse("item-array-invalid", ["items"])
    if len(sent) > most:
        refuse("request-includes-too-many-items", ["items"])
    return sent


def _check_id(id: str, parameter: str) -> None:
    if len(id) > MAX_NAME:
        refuse("ids-too-large", [parameter], [id])
    if not PLAIN_NAME.fullmatch(id):
        refuse("invalid-ids", [parameter], [id])


def _fitted(catalog: Catalog, sent: list[Item], *, is_patch: bool = False) -> dict[str, Item]:
    """id -> values in the types of their fields. The first kind of error is reported, with all its items."""
    problems: dict[str, list[str]] = {}
    fitted = {}
    for one in sent:
        try:
            fitted[one["id"]] = _fitted_item(catalog, one, is_patch)
        except UnfitError as unfit:
            problems.setdefault(unfit.id, []).append(one["id"])
    for problem, ids in problems.items():
        refuse(problem, ["id"], ids)
    return fitted


def _fitted_item(catalog: Catalog, sent: Item, is_patch: bool) -> Item:
    if sent.keys() - catalog.fields.keys():
        raise UnfitError("invalid-fields")
    values = {name: (catalog.fields[name], value) for name, value in sent.items() if name != "id"}
    return {
        name: checked_change(value) if is_patch and is_array_change(kind, value) else fit(kind, value)
        for name, (kind, value) in values.items()
    }


def _patched(stored: Item, changes: Item, catalog: Catalog) -> Item:
    """Fields that were not sent stay, null removes (a guess); arrays may be added to and taken from (cat-patch)."""
    new = {
        name: change_array(stored.get(name), value) if is_array_change(catalog.fields[name], value) else value
        for name, value in changes.items()
    }
    return _without_nulls({**stored, **new})


def _without_nulls(item: Item) -> Item:
    return {name: value for name, value in item.items() if value is not None}
