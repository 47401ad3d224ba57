"""SQL that shows one value: as text, or as JSON of its type. Pure.

Not what Braze receives (`records/json_text.py`): nothing is omitted or shortened, and what JSON has no form for is a
string. Numbers keep all their digits.
"""

from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import FLOATS, INTEGERS, LISTS, MOMENTS, SqlType


def as_text(value: str, of: SqlType) -> str:
    """The value as DuckDB writes it."""
    return f"CAST({value} AS VARCHAR)"


def as_json(value: str, of: SqlType) -> str:
    """The value as JSON text; `null` for NULL."""
    return f"coalesce({_json(value, of)}, 'null')"


def _json(value: str, of: SqlType) -> str:
    text = as_text(value, of)
    if of.family in INTEGERS | {"boolean", "json"}:
        return text
    if of.family == "decimal":
        return f"regexp_replace({text}, '^(-?)[.]', '\\10.')"  # DuckDB writes .5
    if of.family in FLOATS:
        return f"CASE WHEN isfinite({value}) THEN {text} ELSE {_string(text)} END"
    if of.family in MOMENTS:
        iso = f"replace({text}, ' ', 'T')"
        return _string(f"regexp_replace({iso}, '[+]00$', 'Z')" if "time zone" in of.family else iso)
    if of.family in LISTS:
        item = f"item{value.count('item')}"
        return f"'[' || array_to_string({_each(value, item, as_json(item, of.children[0][1]))}, ', ') || ']'"
    if of.family == "struct":
        fields = (f"{_key(name)} || {as_json(f'{value}.{identifier(name)}', child)}" for name, child in of.children)
        return f"CASE WHEN {value} IS NOT NULL THEN '{{' || concat_ws(', ', {', '.join(fields)}) || '}}' END"
    if of.family == "map":
        item = f"item{value.count('item')}"
        shown = as_json(f"{item}.value", dict(of.children)["value"])
        pair = f"{_string(f'CAST({item}.key AS VARCHAR)')} || ': ' || {shown}"
        entries = _each(f"map_entries({value})", item, pair)
        return f"CASE WHEN {value} IS NOT NULL THEN '{{' || array_to_string({entries}, ', ') || '}}' END"
    return _string(text)


def _string(text: str) -> str:
    return f"CAST(to_json({text}) AS VARCHAR)"


def _key(name: str) -> str:
    return f"{_string(literal(name))} || ': '"


def _each(values: str, item: str, what: str) -> str:
    return f"list_transform({values}, lambda {item}: {what})"
