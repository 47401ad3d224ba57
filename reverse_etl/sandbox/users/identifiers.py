"""Which user an object identifies. Pure: only shapes and strings; `people.py` finds the users."""

from collections.abc import Iterable, Mapping
from typing import TypeGuard

from reverse_etl.sandbox.exact import Json

STRONG = ("external_id", "user_alias", "braze_id")
Alias = tuple[str, str]  # (label, name)


def is_text(value: Json) -> TypeGuard[str]:
    """A string that can name something."""
    return isinstance(value, str) and value != ""


def is_alias(value: Json) -> bool:
    return isinstance(value, dict) and is_text(value.get("alias_name")) and is_text(value.get("alias_label"))


def alias_of(sent: Mapping[str, Json]) -> Alias:
    return sent["alias_label"], sent["alias_name"]


def identifier_text(one: Json) -> str:
    """The identifier in an object: an id, an alias name, an email or a phone; empty if there is none. Of a merge it is
    that of the user who is merged, of a rename the present one; of an item of a catalog its id."""
    if not isinstance(one, dict):
        return one if isinstance(one, str) else ""
    if isinstance(one.get("identifier_to_merge"), dict):
        return identifier_text(one["identifier_to_merge"])
    alias = one.get("user_alias")
    names = one if not isinstance(alias, dict) else alias
    others = map(one.get, ("braze_id", "email", "phone", "current_external_id", "old_alias_name", "id"))
    candidates = (one.get("external_id"), names.get("alias_name"), *others)
    return next((text for text in candidates if isinstance(text, str)), "")


def identifiers(body: Json) -> Iterable[str]:
    """The identifiers of all objects in all arrays of a body."""
    arrays = body.values() if isinstance(body, dict) else ()
    for objects in arrays:
        for one in objects if isinstance(objects, list) else ():
            yield identifier_text(one)
            if isinstance(one, dict):  # a group of users (sub2)
                lists = map(one.get, ("external_ids", "emails", "phones"))
                yield from (text for ids in lists if isinstance(ids, list) for text in ids if isinstance(text, str))
