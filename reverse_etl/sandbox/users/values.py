"""Values of custom attributes: what is kept, changed or dropped. Pure.

    sent            becomes
    null            removed
    scalar          itself
    array           itself, elements unique, at most 500 and 100 KB
    {"inc": n}      the stored integer plus n
    {"add", "remove": [..]}                  the stored array, changed
    {"$add", "$remove", "$update": [..]}     the stored array of objects, changed in this order
    object          itself, or with `_merge_objects` the stored object with it merged in

A value that breaks a rule drops the update of its attribute; the response is still a success (track, aoo).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Literal

from reverse_etl.sandbox.exact import Json, dumps, parse, size_bytes
from reverse_etl.sandbox.users.times import is_nested_time

MAX_NAME = 255  # characters (websdk)
MAX_TEXT = 255  # characters (types, sync)
MAX_ARRAY = 500  # elements; then the oldest drops out (types)
MAX_DEPTH = 100  # levels of arrays and objects: a guess, no page names a limit
MAX_BYTES = 100_000  # "100 KB" (attr, nca, aoo); the smaller reading of KB, a guess

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_BOOLEANS = {"1": True, "true": True, "t": True, "0": False, "false": False, "f": False}  # (manage)
Kind = Literal["boolean", "number", "string", "array", "object", "object array"]

SCALARS: Mapping[type, Kind] = {str: "string", int: "number", Decimal: "number", bool: "boolean"}


class DroppedError(Exception):
    """This update is silently not stored. `clears`: the old value is removed as well."""

    def __init__(self, reason: str, *, clears: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.clears = clears


def settle(stored: Json, sent: Json, *, merge: bool, lose: Callable[[str], None]) -> Json:
    """The value to store for a custom attribute; None removes it. Raises DroppedError if nothing is to change.

    `lose` is called for a part that is dropped while the rest is stored. `stored` is never changed in place.
    """
    if isinstance(sent, str):
        if len(sent) > MAX_TEXT:
            raise DroppedError(f"string longer than {MAX_TEXT} characters")
        return sent
    if isinstance(sent, dict):
        return _sized(_settle_object(stored, sent, merge, lose))
    if isinstance(sent, list):
        return _sized(_settle_array(sent, lose))
    return sent


def kind_of(value: Json) -> Kind | None:
    """The type that an attribute keeps; None for null and the empty array, which settle nothing.

    Integers and decimals are one type, and dates are strings (a guess).
    """
    match value:
        case dict():
            return "object"
        case [dict(), *_]:
            return "object array"
        case [_, *_]:
            return "array"
    return SCALARS.get(type(value))


def convert(value: Json, kind: Kind) -> Json:
    """A scalar as a value of another type, or None if there is none (types-faq, manage).

    That a boolean can be a string is a guess.
    """
    match kind, value:
        case "string", bool() | int() | Decimal():
            return dumps(value)
        case "number", str() if _NUMBER.fullmatch(value):
            return parse(value)
        case "boolean", str() | int() | Decimal():
            return _BOOLEANS.get(str(value))
    return None


def data_points(sent: Json) -> int:
    """What setting this value costs under legacy billing, whether or not it changed anything (dp)."""
    if not isinstance(sent, dict) or sent.keys() == {"$time"}:
        return 1  # an array set whole is 1, null is 1
    if _is_operator(sent, {"inc"}):
        return 1
    if _is_operator(sent, {"add", "remove"}) or _is_operator(sent, {"$add", "$remove", "$update"}):
        return sum(len(items) for items in sent.values() if isinstance(items, list))  # for $add and friends: a guess
    objects = [value for value in sent.values() if isinstance(value, dict) and value.keys() != {"$time"}]
    return len(sent) + sum(map(data_points, objects))  # 1 per key


def _is_operator(sent: Mapping[str, Json], words: set[str]) -> bool:
    return bool(sent) and sent.keys() <= words


def _sized(value: Json) -> Json:
    if size_bytes(value) > MAX_BYTES:
        raise DroppedError(f"more than {MAX_BYTES // 1000} KB")
    return value


def _settle_array(sent: list[Json], lose: Callable[[str], None]) -> list[Json]:
    for element in sent:
        _check_nested(element, depth=2)
    if any(isinstance(element, dict) for element in sent):
        return sent  # any count of objects, equal ones too (aoo); beside other values, too: a guess
    return _capped(_unique(sent), lose)


def _settle_object(stored: Json, sent: dict[str, Json], merge: bool, lose: Callable[[str], None]) -> Json:
    if _is_operator(sent, {"inc"}):
        return _increment(stored, sent["inc"])
    if _is_operator(sent, {"add", "remove"}):
        return _change_array(stored, sent, lose)
    if _is_operator(sent, {"$add", "$remove", "$update"}):
        return _change_objects(stored, sent, merge)
    _check_nested(sent)
    return _merged(stored, sent) if merge and isinstance(stored, dict) else sent


def _increment(stored: Json, by: Json) -> int:
    if not _is_integer(by):
        raise DroppedError("increment by something other than an integer")
    if stored is not None and not _is_integer(stored):
        raise DroppedError("increment of something other than an integer")  # integer attributes only (attr)
    total: int = (stored or 0) + by  # an unset attribute counts from 0: a guess
    return total


def _is_integer(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _change_array(stored: Json, sent: Mapping[str, Json], lose: Callable[[str], None]) -> list[Json]:
    added, removed = sent.get("add", []), sent.get("remove", [])
    if not isinstance(added, list) or not isinstance(removed, list):
        raise DroppedError("add or remove of something other than an array")
    if stored is not None and not (isinstance(stored, list) and kind_of(stored) != "object array"):
        raise DroppedError("add or remove on something other than an array")
    for element in added + removed:
        _check_nested(element)
        if isinstance(element, dict):
            raise DroppedError("add or remove of an object")  # those take $add and $remove (aoo)
    gone = {_identity(element) for element in removed}  # remove wins over add in one object: a guess
    return _capped([element for element in _unique([*(stored or []), *added]) if _identity(element) not in gone], lose)


def _unique(elements: Iterable[Json]) -> list[Json]:
    """Duplicates collapse, and adding an element again moves it to the end (types)."""
    latest: dict[Json, Json] = {}
    for element in elements:
        key = _identity(element)
        latest.pop(key, None)
        latest[key] = element
    return list(latest.values())


def _identity(element: Json) -> Json:
    """A hashable value, equal for equal JSON values. `True` is not 1, although Python says so."""
    if isinstance(element, bool):
        return (element,)
    return (dumps(element),) if isinstance(element, list | dict) else element


def _capped(elements: list[Json], lose: Callable[[str], None]) -> list[Json]:
    if len(elements) > MAX_ARRAY:
        lose(f"more than {MAX_ARRAY} elements in the array: the oldest were dropped")
    return elements[-MAX_ARRAY:]


def _change_objects(stored: Json, sent: Mapping[str, Json], merge: bool) -> list[Json]:
    """Operators of an array of objects; the order is always $add, $remove, $update (aoo)."""
    if not all(isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in sent.values()):
        raise DroppedError("array operator without an array of objects")
    if stored is not None and not (isinstance(stored, list) and all(isinstance(item, dict) for item in stored)):
        raise DroppedError("array operator on something other than an array of objects")
    for item in sent.get("$add", []):
        _check_nested(item)
    result = [*(stored or []), *sent.get("$add", [])]  # no uniqueness check (aoo)
    for item in sent.get("$remove", []):
        matches = _matcher(item)
        result = [one for one in result if not matches(one)]
    for item in sent.get("$update", []):
        matches, new = _matcher(item), item.get("$new_object")
        if not isinstance(new, dict):
            raise DroppedError("$update without $new_object")
        _check_nested(new)
        result = [(_merged(one, new) if merge else new) if matches(one) else one for one in result]
    return result


def _matcher(item: Mapping[str, Json]) -> Callable[[Mapping[str, Json]], bool]:
    key, wanted = item.get("$identifier_key"), item.get("$identifier_value")
    if not isinstance(key, str) or wanted is None:
        raise DroppedError("array operator without $identifier_key and $identifier_value")
    return lambda one: key in one and _identity(one[key]) == _identity(wanted)


def _merged(stored: Mapping[str, Json], sent: Mapping[str, Json]) -> dict[str, Json]:
    """At all depths; keys that were not sent stay (nca). Arrays inside are replaced (a guess)."""
    result = dict(stored)
    for key, value in sent.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and "$time" not in value
        result[key] = _merged(old, value) if both and isinstance(old, dict) else value
    return result


def _check_nested(value: Json, depth: int = 1) -> None:
    """One bad value spoils the whole attribute (track, aoo)."""
    match value:
        case None:
            raise DroppedError("null in a nested value")
        case str() if len(value) > MAX_TEXT:
            raise DroppedError(f"string longer than {MAX_TEXT} characters in a nested value")
        case list() | dict() if depth > MAX_DEPTH:
            raise DroppedError(f"more than {MAX_DEPTH} levels")
        case list():
            for element in value:
                _check_nested(element, depth + 1)
        case {"$time": text, **rest} if not rest:
            if not is_nested_time(text):
                raise DroppedError("invalid $time in a nested value")
        case dict():
            for key, inner in value.items():
                if len(key) > MAX_NAME or "." in key or "$" in key or any(map(str.isspace, key)):
                    raise DroppedError("key has a space, a dot, a dollar sign or more than 255 characters")  # (nca)
                _check_nested(inner, depth + 1)
