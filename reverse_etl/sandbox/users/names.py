"""Names that are known to the workspace: custom attributes with their types, custom events, products.

A name appears by being sent, and stays; no call creates one.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import Answer, PagedAnswer, RefusedError, Settings
from reverse_etl.sandbox.store import Transaction
from reverse_etl.sandbox.users.values import Kind

ATTRIBUTES_PER_PAGE = 50  # (getattr)
EVENTS_PER_PAGE = 250  # (getev)
PRODUCTS_PER_PAGE = 250  # a guess
_WORDS: Mapping[
    Kind, str
] = {  # "Number" is the only one that a page prints; the others are those of the dashboard (getattr)
    "boolean": "Boolean",
    "number": "Number",
    "string": "String",
    "array": "Array",
    "object": "Object",
    "object array": "Array of Objects",
}


def custom_attributes(work: Transaction, query: Mapping[str, Json], settings: Settings) -> PagedAnswer:
    """50 attributes in the order of their names, and a `Link` header to the pages before and after (getattr).

    The form of the cursor is that of lists of items, a guess; so are `description` and `tag_names` of what only the
    API has sent.
    """
    cursor = next(iter(query.get("cursor", [])), None)
    skip = 0 if cursor is None else _skip(cursor)
    known = work.known_attributes(skip, ATTRIBUTES_PER_PAGE + 1)
    longest = work.longest_arrays([name for name, kind in known if kind in ("array", "object array")])
    shown: list[Json] = [
        {
            "name": name,
            "data_type": _WORDS[kind],
            "status": "Active",
            "array_length": longest.get(name),
            "description": None,
            "tag_names": [],
        }
        for name, kind in known[:ATTRIBUTES_PER_PAGE]
    ]
    links = [_link(max(skip - ATTRIBUTES_PER_PAGE, 0), "prev")] if skip else []
    links += [_link(skip + ATTRIBUTES_PER_PAGE, "next")] if len(known) > ATTRIBUTES_PER_PAGE else []
    return 200, {"attributes": shown, "message": "success"}, {"link": ",".join(links)} if links else {}


def _link(skip: int, relation: str) -> str:
    cursor = base64.b64encode(f"skip:{skip}".encode()).decode()
    return f'</custom_attributes?cursor={cursor}>; rel="{relation}"'


def _skip(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    found = re.fullmatch(r"skip:([0-9]{1,15})", text)
    if not found:
        raise RefusedError("'cursor' is invalid")  # a guess
    return int(found[1])


def events_list(work: Transaction, query: Mapping[str, Json], settings: Settings) -> Answer:
    """The names of 250 custom events; `page` counts from 0 (getev). Their order is a guess."""
    return 200, {"events": _names(work, query, "events", "name", EVENTS_PER_PAGE), "message": "success"}


def product_list(work: Transaction, query: Mapping[str, Json], settings: Settings) -> Answer:
    """The ids of products that were bought; `page` counts from 0 (prod)."""
    return 200, {"products": _names(work, query, "purchases", "product_id", PRODUCTS_PER_PAGE), "message": "success"}


def _names(work: Transaction, query: Mapping[str, Json], table: str, name: str, most: int) -> list[str]:
    text = next(iter(query.get("page", [])), "0")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise RefusedError("'page' must be a number")  # a guess
    return work.known_names(table, name, int(text) * most, most)
