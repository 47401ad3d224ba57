"""SQL that turns one value into JSON text, by its type. Pure: expressions in, expressions out.

`to_json` of DuckDB is not enough: it writes a space for the T of a timestamp, an unquoted NaN, and all digits of a
FLOAT. Numbers are never converted to DOUBLE here, so they keep all their digits.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

from reverse_etl.braze.lists import COUNTRIES, CURRENCIES, CURRENCIES_IN_USE, LANGUAGES, MAPPED_COUNTRIES, TIME_ZONES
from reverse_etl.braze.modes import (
    DOLLAR_KEYS,
    LAST_YEAR,
    MAX_ARRAY_ITEMS,
    MAX_ITEM_ARRAY,
    MAX_ITEM_DEPTH,
    MAX_ITEM_TEXT,
    MAX_JSON_BYTES,
    MAX_TEXT,
    SUGGESTIONS,
)
from reverse_etl.sql.quoting import identifier, literal, statement
from reverse_etl.sql.types import BEYOND_64_BITS, CLOCK_TIMES, INTEGERS, LISTS, MOMENTS, TEXTS, SqlType

_EXACT = INTEGERS - BEYOND_64_BITS | {"varchar", "boolean"}
_CALL = re.compile(r"\b(retl_[a-z_]+)\(")
ISO_TIME = literal('"%Y-%m-%dT%H:%M:%S.%gZ"')  # with its quotes, as JSON


def json_text(value: str, of: SqlType, nested_times: bool = False, inside_object: bool = False) -> str:
    """The JSON text of `value`, or NULL where it is NULL.

    A NULL inside a struct or a map is omitted, as a NULL column is; inside a list it is `null`. With `nested_times`, a
    timestamp inside an object is `{"$time": "..."}`. NaN and infinity become unquoted words, which are not valid JSON,
    so that a rule finds the row invalid.
    """
    if of.family in MOMENTS:
        text = _moment(value, of)
        return f"""'{{"$time":' || {text} || '}}'""" if nested_times and inside_object else text
    if of.family in TEXTS | CLOCK_TIMES:
        return _as_json(f"CAST({value} AS VARCHAR)")
    if of.family == "double" and _is_name(value):
        # The same digits in half of the time; zero and what has an exponent is written otherwise.
        return f"CASE WHEN abs({value}) BETWEEN 0.001 AND 1e15 THEN {_as_json(value)} ELSE CAST({value} AS VARCHAR) END"
    if of.family == "decimal" and of.precision == of.scale:
        return f"regexp_replace(CAST({value} AS VARCHAR), '^(-?)[.]', '\\10.')"  # DuckDB writes .5
    if of.family in LISTS:
        return _list(value, of, nested_times, inside_object)
    if of.family == "struct":
        return _struct(value, of, nested_times)
    if of.family == "map":
        return _map(value, of, nested_times)
    return f"CAST({value} AS VARCHAR)"


def _moment(value: str, of: SqlType) -> str:
    text = f"""strftime({value}, '"%Y-%m-%d"')"""
    if of.family != "date":
        text = f"strftime({timestamp(value)}, {ISO_TIME})"
    return f"CASE WHEN isfinite({value}) THEN {text} WHEN {value} IS NOT NULL THEN 'Infinity' END"


def timestamp(value: str) -> str:
    """A date or timestamp as a TIMESTAMP in UTC; the connection's time zone is UTC."""
    return f"CAST({value} AS TIMESTAMP)"


def _list(value: str, of: SqlType, nested_times: bool, inside_object: bool) -> str:
    if _is_exact(of):
        return _as_json(value)
    item = f"item{value.count('lambda') + value.count('item')}"
    text = json_text(item, of.children[0][1], nested_times, inside_object)
    items = f"list_transform({value}, lambda {item}: coalesce({text}, 'null'))"
    return f"'[' || array_to_string({items}, ',') || ']'"


def _struct(value: str, of: SqlType, nested_times: bool) -> str:
    fields, is_whole = [], _has_all_fields(value, of) if _is_name(value) else None
    for name, child in of.children:
        inner = f"{value}.{identifier(name)}"
        label = f"CAST(to_json({literal(name)}) AS VARCHAR) || ':'"
        fields.append(f"{label} || {json_text(inner, child, nested_times, inside_object=True)}")
    whole = f"WHEN {is_whole} THEN {_as_json(value)} " if is_whole else ""
    return f"CASE {whole}WHEN {value} IS NOT NULL THEN '{{' || concat_ws(',', {', '.join(fields)}) || '}}' END"


def _as_json(value: str) -> str:
    return f"CAST(to_json({value}) AS VARCHAR)"


def _is_name(value: str) -> bool:
    """Whether SQL is the name of a column, and so can be repeated without computing anything twice."""
    return value.startswith('"') and value.count('"') == 2


def _is_exact(of: SqlType) -> bool:
    """Whether `to_json` writes values of this type as `json_text` does, in less time; NULL included."""
    return of.family in _EXACT or (of.family in LISTS and _is_exact(of.children[0][1]))


def _has_all_fields(value: str, of: SqlType) -> str | None:
    """SQL for: a struct and all structs in it have a value in every field, so that `to_json` writes it as `json_text`
    does; None if it may not do so."""
    if not all(name for name, _ in of.children):
        return None
    found = []
    for name, child in of.children:
        inner = f"{value}.{identifier(name)}"
        is_there = _has_all_fields(inner, child) if child.family == "struct" else f"{inner} IS NOT NULL"
        if is_there is None or (child.family != "struct" and not _is_exact(child)):
            return None
        found.append(is_there)
    return " AND ".join(found) or None


def _map(value: str, of: SqlType, nested_times: bool) -> str:
    entry = f"item{value.count('item')}"
    key = f"CAST(to_json(CAST({entry}.key AS VARCHAR)) AS VARCHAR)"
    text = json_text(f"{entry}.value", dict(of.children)["value"], nested_times, inside_object=True)
    entries = f"list_transform(map_entries({value}), lambda {entry}: {key} || ':' || {text})"
    filled = f"list_filter({entries}, lambda {entry}: {entry} IS NOT NULL)"
    return f"CASE WHEN {value} IS NOT NULL THEN '{{' || array_to_string({filled}, ',') || '}}' END"


def carried_over(value: str, before: SqlType, now: SqlType) -> str:
    """SQL for a value of type `before` as one of type `now`; NULL unless it is the same JSON."""
    if (
        before.unsendable()
        or now.unsendable()
        or ({"varchar"} & {before.family, now.family} and before.is_nested != now.is_nested)
    ):
        return f"CAST(NULL AS {now.text})"  # a VARCHAR may have been JSON text, or not
    cast = f"TRY_CAST(CAST({value} AS VARCHAR) AS {now.text})"  # from any type to any
    same = (f"{json_text(cast, now, times)} = {json_text(value, before, times)}" for times in (False, True))
    return f"CASE WHEN {' AND '.join(same)} THEN {cast} END"


def keys_within(value: str, of: SqlType) -> str | None:
    """SQL for the number of keys that an object sends, including those of objects inside it; 1 for an array.

    This is how Braze counts data points (user_guide: data points). None where the type does not say: JSON and maps.
    """
    if of.family in LISTS:
        return "1"
    return _fields_within(value, of) if of.family == "struct" else None


def _fields_within(value: str, of: SqlType) -> str | None:
    counts = []
    for name, child in of.children:
        inner = f"{value}.{identifier(name)}"
        within = _fields_within(inner, child) if child.family == "struct" else "0"
        if within is None or child.family in ("json", "map"):
            return None
        counts.append(f"CASE WHEN {inner} IS NULL THEN 0 ELSE 1 + {within} END")
    return f"({' + '.join(counts)})"


TOO_LONG = 7
# What makes JSON text unacceptable to Braze, numbered from 1 as `retl_json_fault` returns it.
JSON_FAULTS: Mapping[int, tuple[str, str]] = {
    1: ("is not valid JSON", "json({column}) removes a comma too many; find the rest: WHERE NOT json_valid({column})"),
    2: (
        "contains NaN or infinity, which JSON cannot represent",
        "leave it out: NULL in a struct, list_filter() in a list",
    ),
    3: ("contains an integer that does not fit in 64 bits", "send it as a string: CAST(... AS VARCHAR)"),
    4: ("contains a nested null; Braze drops the whole value", "omit the key or the element"),
    5: ("contains an invalid $time; Braze drops the whole value", 'write {{"$time": "2026-11-23"}}'),
    6: (
        f"contains a key that is empty, longer than {MAX_TEXT} characters, or has a space, a dot or a $",
        "rename the key",
    ),
    TOO_LONG: (f"contains a string longer than {MAX_TEXT} characters", f"truncate it with left(..., {MAX_TEXT})"),
    8: (f"is larger than {MAX_JSON_BYTES // 1000} KB", "shorten it"),
    9: (f"has more than {MAX_ARRAY_ITEMS} elements; Braze drops the oldest", "shorten it with list_slice()"),
}


# The same of a catalog's item; those with a number in common are the same.
ITEM_FAULTS: Mapping[int, tuple[str, str]] = {
    **{number: JSON_FAULTS[number] for number in (1, 2, 3)},
    10: (f"is longer than {MAX_ITEM_TEXT} characters", "shorten it"),
    11: ("has a key with a dot or a $, which an item cannot have", "rename the key"),
    12: (f"is nested deeper than {MAX_ITEM_DEPTH} levels", "flatten it"),
    13: ("has an element that is not a string", "CAST the elements to VARCHAR"),
    14: (f"has more than {MAX_ITEM_ARRAY} elements", "shorten it with list_slice()"),
    15: ("is not a JSON object or array", "send it as a string: remove it from pre_formatted_fields, or CAST it"),
}


def functions_used(sql: str) -> str:
    """The statements that define the `retl_...` functions that an SQL text uses, and those that these need."""
    known, used, open_ = _functions(), set[str](), [sql]
    while open_:
        names = set(_CALL.findall(open_.pop())) & known.keys() - used
        used |= names
        open_ += [known[name] for name in names]
    return "\n".join(text for name, text in known.items() if name in used)


@cache
def _functions() -> Mapping[str, str]:
    """The statement that defines each function; one stands after those that it uses."""
    constants = {
        "max_text": str(MAX_TEXT),
        "max_json_bytes": str(MAX_JSON_BYTES),
        "max_item_text": str(MAX_ITEM_TEXT),
        "max_item_depth": str(MAX_ITEM_DEPTH),
        "max_item_array": str(MAX_ITEM_ARRAY),
        "max_array_items": str(MAX_ARRAY_ITEMS),
        "last_year": str(LAST_YEAR),
        "dollar_keys": f"[{', '.join(map(literal, DOLLAR_KEYS))}]",
        # A country may be a name in any case: whatever Braze can map (user_attributes_object).
        "country_pattern": literal(f"(?i:{_any_of((*COUNTRIES, *MAPPED_COUNTRIES))})"),
        "country_code_pattern": literal(_any_of(COUNTRIES)),
        "language_pattern": literal(_any_of(LANGUAGES)),
        "time_zone_pattern": literal(_any_of(TIME_ZONES)),
        "currency_pattern": literal(_any_of(CURRENCIES)),
        "currency_in_use_pattern": literal(_any_of(CURRENCIES_IN_USE)),
    }
    made = [f"CREATE OR REPLACE TEMP MACRO retl_{name}() AS {value};" for name, value in constants.items()]
    for name, uses in SUGGESTIONS.items():
        listed = (f"[{', '.join(map(literal, texts))}]" for texts in (uses.keys(), uses.values()))
        made.append(f"CREATE OR REPLACE TEMP MACRO retl_use_{name}(value) AS MAP({', '.join(listed)})[value];")
    made += re.findall(r"^CREATE .*?;$", statement(__name__, "macros"), flags=re.MULTILINE | re.DOTALL)
    return {_CALL.findall(text)[0]: text for text in made}


def _any_of(names: Iterable[str]) -> str:
    """A regular expression for one of these names. It takes a fifth of what a list of them takes in DuckDB."""
    return "|".join(map(re.escape, names))
