"""Values of catalog items: what a field of each type takes. Pure.

Pages say that values are converted, and which error there is if they cannot be (cat-items); what is converted into
what is a guess, save that times come back as in the examples of the reading pages (cat-get).
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from reverse_etl.sandbox.exact import Json, dumps, parse
from reverse_etl.sandbox.users.times import iso, moment

MAX_TEXT = 5_000  # characters of a value (cat-items)
MAX_DEPTH = 50  # levels of an object (cat-items)
MAX_ELEMENTS = 100  # of an array, which holds strings only (types-live)

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


class UnfitError(ValueError):
    """The value does not fit its field. `id` is the error's name in the pages."""

    def __init__(self, id: str = "unable-to-coerce-value") -> None:
        super().__init__(id)
        self.id = id


def fit(kind: str, value: Json) -> Json:
    """The value as a field of this type keeps it; None stays None, which is no value. Raises UnfitError."""
    if value is None:
        return None
    kept = _KINDS[kind](value)
    if len(kept if isinstance(kept, str) else dumps(kept)) > MAX_TEXT:
        raise UnfitError("items-too-large")
    return kept


def is_array_change(kind: str, value: Json) -> bool:
    """Whether this is `$add` or `$remove`, or both, on an array: for PATCH alone (cat-patch)."""
    return kind == "array" and isinstance(value, dict) and bool(value) and value.keys() <= {"$add", "$remove"}


def checked_change(sent: Mapping[str, Json]) -> Mapping[str, Json]:
    for elements in sent.values():
        _array(elements)
    return sent


def change_array(stored: Json, sent: Mapping[str, Json]) -> Json:
    """`$add` appends, whatever is there already; then `$remove` takes every equal element (a guess, both)."""
    kept = [*(stored or []), *sent.get("$add", [])]
    return fit("array", [element for element in kept if element not in sent.get("$remove", [])])


def _string(value: Json) -> str:
    match value:
        case str():
            return value
        case bool() | int() | Decimal():
            return dumps(value)
    raise UnfitError


def _number(value: Json) -> Json:
    if _is_number(value):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return parse(value)
    raise UnfitError


def _boolean(value: Json) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise UnfitError


def _time(value: Json) -> str:
    found = moment(value)
    if found is None:
        raise UnfitError
    return iso(found.timestamp())


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise UnfitError
    _check_object(value, 1)
    return value


def _check_object(value: Json, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise UnfitError("too-deep-nesting-in-value-object")
    if isinstance(value, dict) and any("." in key or "$" in key for key in value):
        raise UnfitError("invalid-keys-in-value-object")
    inner = value.values() if isinstance(value, dict) else value
    for one in inner:
        if isinstance(one, dict | list):
            _check_object(one, depth + 1)


def _array(value: Json) -> list[Json]:
    if not isinstance(value, list) or len(value) > MAX_ELEMENTS or not all(isinstance(one, str) for one in value):
        raise UnfitError
    return value


def _geolocation(value: Json) -> list[Json]:
    """[longitude, latitude] (catalog)"""
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        raise UnfitError
    longitude, latitude = value
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise UnfitError
    return value


def _is_number(value: Json) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


_KINDS: Mapping[str, Callable[[Json], Json]] = {  # field type -> what makes a value of it (cat-create, catalog)
    "string": _string,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
    "object": _object,
    "array": _array,
    "geolocation": _geolocation,
}
TYPES = frozenset(_KINDS)
