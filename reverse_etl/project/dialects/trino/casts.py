"""Trino's casts: one that fails ends the query, and is NULL in try()."""

import re
from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.parse import place_of
from reverse_etl.project.dialects.rewrite import Refusal, Translator, text
from reverse_etl.project.dialects.trino.zones import wall, zone_in, zoned
from reverse_etl.project.dialects.zones import UTC_ZONE, zone

_STAMP = "'%Y-%m-%d %H:%M:%S.%g'"


_DOUBLE = "versions of Trino write a double in different ways: use CAST(CAST(x AS decimal(18, 2)) AS varchar)"


def _to_text(by: Translator, value: exp.Expression) -> exp.Expression:
    kind = kind_of(value)
    if kind == "double":
        raise Refusal(f"{by.dialect}: CAST of a double AS varchar is not translated: versions of Trino differ",
                      "use CAST(CAST(x AS decimal(18, 2)) AS varchar)")  # fmt: skip
    if kind == "timestamptz":
        shown = by.fill(f"strftime(a0, {_STAMP}) || a1", wall(by, value), text(f" {zone_in(value) or 'UTC'}"))
        return exp.Paren(this=shown)
    if kind == "timestamp":
        literal = value.this if isinstance(value, exp.Cast) else None
        if isinstance(literal, exp.Literal):
            return by.fill("CAST(a0 AS VARCHAR)", literal)
        return by.fill(f"strftime(a0, {_STAMP})", value)
    if kind == "json":
        return by.fill(_of_json(by), value)
    if kind == "text":
        return value.copy()
    forms = {
        "double": f"stop('{_DOUBLE}')",
        "timestamptz": f"strftime(TRY_CAST(a0 AS TIMESTAMP), {_STAMP}) || ' UTC'",
        "timestamp": f"strftime(TRY_CAST(a0 AS TIMESTAMP), {_STAMP})",
        "json": _of_json(by),
        "nested": "stop('only texts, numbers, booleans, dates and times become text')",
    }
    return by.by_kind(value, forms, "CAST(a0 AS VARCHAR)")


def _of_json(by: Translator) -> str:
    fails = "NULL" if by.tries else "stop('a JSON object or array does not become text: use json_format(x)')"
    scalar = "json_value(CAST(a0 AS VARCHAR), '$') ->> '$'"
    return f"CASE WHEN json_type(CAST(a0 AS VARCHAR)) IN ('OBJECT', 'ARRAY') THEN {fails} ELSE {scalar} END"


def _cut(by: Translator, made: exp.Expression, size: exp.Expression, value: exp.Expression) -> exp.Expression:
    """Only a text is cut; a number that is too long ends the query."""
    fails = "NULL" if by.tries else "stop('a value is longer than its varchar(n), and only texts are cut')"
    checked = f"CASE WHEN length(a0) > a1 THEN {fails} ELSE a0 END"
    if kind_of(value) == "text":
        return by.fill("left(a0, a1)", made, size)
    if kind_of(value):
        return by.fill(checked, made, size)
    return by.fill(
        f"CASE WHEN {TESTS['text'].replace('a0', 'a2')} THEN left(a0, a1) ELSE {checked} END", made, size, value
    )


_INTEGER = "[+-]?[0-9]+"


def _fails(by: Translator, what: str) -> str:
    """A text that is not what it should be ends the query in Trino, and is NULL in try()."""
    return "NULL" if by.tries else f"stop('a text is not {what}')"


def _to_int(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    do = "TRY_CAST" if by.tries else "CAST"
    said = "CAST(a0 AS VARCHAR)"
    forms = {
        "text": f"CASE WHEN NOT regexp_full_match({said}, '{_INTEGER}') THEN {_fails(by, 'an integer')} ELSE {do}({said} AS {target}) END",
        "double": f"{do}(round(TRY_CAST(a0 AS DOUBLE)) AS {target})",
    }
    return by.by_kind(value, forms, f"{do}(a0 AS {target})")


_DIGITS = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"


def _to_number(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    do = "TRY_CAST" if by.tries else "CAST"
    said = "trim(CAST(a0 AS VARCHAR))"
    forms = {
        "text": f"CASE WHEN NOT regexp_full_match({said}, '{_DIGITS}') THEN {_fails(by, 'a number')} ELSE {do}({said} AS {target}) END"
    }
    return by.by_kind(value, forms, f"{do}(a0 AS {target})")


def _to_bool(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    said = "lower(CAST(a0 AS VARCHAR))"
    forms = {
        "text": f"CASE WHEN {said} IN ('t', 'true', '1') THEN true WHEN {said} IN ('f', 'false', '0') THEN false"
        f" WHEN a0 IS NOT NULL THEN {_fails(by, 'a boolean')} END"
    }
    return by.by_kind(value, forms, "TRY_CAST(a0 AS BOOLEAN)")


_DAY = r"\s*\d{4}-\d\d?-\d\d?\s*"


_TIME = r"\s*\d{4}-\d\d?-\d\d?( \d\d?:\d\d?(:\d\d?(\.\d+)?)?)?\s*"


def to_date(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    if kind_of(value) == "timestamptz":
        return by.fill("CAST(a0 AS DATE)", wall(by, value))
    if not by.tries:
        return by.fill("CAST(a0 AS DATE)", value)
    forms = {"text": f"CASE WHEN regexp_full_match(CAST(a0 AS VARCHAR), '{_DAY}') THEN TRY_CAST(a0 AS DATE) END"}
    return by.by_kind(value, forms, "TRY_CAST(a0 AS DATE)")


def _to_timestamp(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    if kind_of(value) == "timestamptz":
        return wall(by, value)
    if not by.tries:
        return by.fill("CAST(a0 AS TIMESTAMP)", value)
    forms = {"text": f"CASE WHEN regexp_full_match(CAST(a0 AS VARCHAR), '{_TIME}') THEN TRY_CAST(a0 AS TIMESTAMP) END"}
    return by.by_kind(value, forms, "TRY_CAST(a0 AS TIMESTAMP)")


_SUFFIX = re.compile(r"(.*\d)\s+([A-Za-z][\w/+-]*)|(.*:\d\d(?:\.\d+)?)\s*(Z|[+-]\d\d:?\d\d)")


def _to_moment(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    """`timestamp '2026-11-23 10:00:00 Asia/Tokyo'`, and casts to a time with a zone."""
    if isinstance(value, exp.Literal):
        found = _SUFFIX.fullmatch(value.name.strip())
        if found:
            at = zone(found[2] or found[4])
            if at is None:
                raise Refusal(
                    f'{by.dialect}: time zone "{found[2] or found[4]}" is not known here',
                    "use a name such as Asia/Tokyo",
                )
            return zoned(
                by.fill("(CAST(a0 AS TIMESTAMP) AT TIME ZONE a1)", text((found[1] or found[3]).strip()), text(at.name)),
                at,
            )
        return zoned(by.fill("(CAST(a0 AS TIMESTAMP) AT TIME ZONE 'UTC')", value), UTC_ZONE)
    if kind_of(value) == "timestamptz":
        return value.copy()
    if kind_of(value) in ("timestamp", "date"):
        return zoned(by.fill("(CAST(a0 AS TIMESTAMP) AT TIME ZONE 'UTC')", value), UTC_ZONE)
    return by.fill(f"{'TRY_CAST' if by.tries else 'CAST'}(a0 AS TIMESTAMPTZ)", value)


def _to_json(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    if isinstance(value, exp.Anonymous) and value.name.lower() == "row":
        raise Refusal(f"{by.dialect}: a row without names as JSON is not translated: versions of Trino differ",
                      "name its fields: CAST(row(x) AS row(name varchar))")  # fmt: skip
    return by.fill("to_json(a0)", value)


_CASTS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), ("int", _to_int)),
    **dict.fromkeys(("FLOAT", "DOUBLE"), ("double", _to_number)),
    "DECIMAL": ("decimal", _to_number),
    "BOOLEAN": ("bool", _to_bool),
    "DATE": ("date", to_date),
    "TIMESTAMP": ("timestamp", _to_timestamp),
    "TIMESTAMPTZ": ("timestamptz", _to_moment),
    "JSON": ("json", _to_json),
}


_INSIDE = (*_CASTS, "VARCHAR", "TEXT", "ARRAY", "MAP", "STRUCT", "LIST")


def cast(by: Translator, node: exp.Cast) -> exp.Expression:
    if isinstance(node, exp.TryCast):
        by.tries += 1
    try:
        return _cast(by, node)
    finally:
        by.tries -= isinstance(node, exp.TryCast)


def _cast(by: Translator, node: exp.Cast) -> exp.Expression:
    by.children(node)
    by.place = place_of(node)
    target = node.to.this.name
    if target in ("VARCHAR", "TEXT"):
        made = _to_text(by, node.this)
        size = node.to.expressions[0].this if node.to.expressions else None
        return with_kind(made if size is None else _cut(by, made, size, node.this), "text")
    if target in ("ARRAY", "MAP", "STRUCT"):
        inner = {one.this.name for one in node.to.find_all(exp.DataType)}
        if inner <= set(_INSIDE) - {"TIMESTAMPTZ"}:
            return with_kind(node, {"ARRAY": "list", "MAP": "map"}.get(target))
    if target not in _CASTS:
        raise Refusal(f"{by.dialect}: CAST AS {node.to.sql(dialect='trino')} is not translated")
    kind, build = _CASTS[target]
    named = {"DECIMAL": node.to.sql(dialect="duckdb") if node.to.expressions else "DECIMAL(38, 0)", "INT": "INTEGER"}
    literal = isinstance(node.this, exp.Literal) and target == "TIMESTAMP" and _SUFFIX.fullmatch(node.this.name.strip())
    made = _to_moment(by, node.this, target) if literal else build(by, node.this, named.get(target, target))
    at = made.meta.get("zone")
    return made if at else with_kind(made, kind)
