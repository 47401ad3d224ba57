"""Hive's functions of numbers, arrays and maps."""

from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects.hive.texts import META
from reverse_etl.project.dialects.kinds import kind_of
from reverse_etl.project.dialects.rewrite import Call, integer


def none_null(function: str) -> Any:
    def build(call: Call) -> exp.Expression:
        args = [f"a{position}" for position in range(len(call.args))]
        if len(args) < 2:
            raise call.refuse("one argument is not enough")
        return call.fill(
            f"CASE WHEN {' OR '.join(f'{arg} IS NULL' for arg in args)} THEN NULL ELSE {function}({', '.join(args)}) END"
        )

    return build


def size(call: Call, of_null: str = "-1") -> exp.Expression:
    kind = kind_of(call.args[0])
    if kind in ("map", "list"):
        return call.fill(f"coalesce({'cardinality' if kind == 'map' else 'len'}(a0), {of_null})")
    of_list = "json_array_length(to_json(CASE WHEN typeof(a0) LIKE 'MAP(%' THEN NULL ELSE a0 END))"
    return call.fill(f"CAST(coalesce({of_list}, len(json_keys(to_json(a0))), {of_null}) AS INTEGER)")


def pairs(call: Call) -> exp.Expression:
    if len(call.args) % 2 or not call.args:
        raise call.refuse("it needs keys and values in turn")
    keys, values = call.args[::2], call.args[1::2]
    if len({key.sql() for key in keys}) < len(keys):
        raise call.refuse("a key is there twice")
    return exp.Anonymous(
        this="map", expressions=[exp.Array(expressions=[one.copy() for one in half]) for half in (keys, values)]
    )


def structure(call: Call) -> exp.Expression:
    if len(call.args) % 2 or not call.args:
        raise call.refuse("it needs names and values in turn")
    names = [call.text(position, "name") for position in range(0, len(call.args), 2)]
    pairs = [exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=value.copy())
             for name, value in zip(names, call.args[1::2], strict=True)]  # fmt: skip
    return exp.Struct(expressions=pairs)


def str_to_map(call: Call) -> exp.Expression:
    pair = call.text(1, "separator") if len(call.args) > 1 else ","
    key = call.text(2, "separator") if len(call.args) > 2 else ":"
    if (set(pair) | set(key)) & META or len(pair) != 1 or len(key) != 1:
        raise call.refuse("the separators must be one character each, and not one of regular expressions")
    before = f"split_part(e, '{key}', 1)"
    entry = f"{{'k': {before}, 'v': CASE WHEN contains(e, '{key}') THEN substr(e, length({before}) + 2) END}}"
    # The last of equal keys wins: a part goes if a later one has its key.
    later = f"len(list_filter(string_split(a0, '{pair}')[i + 1:], lambda f: split_part(f, '{key}', 1) = {before})) = 0"
    form = f"map_from_entries(list_transform(list_filter(string_split(a0, '{pair}'), lambda e, i: {later}), lambda e: {entry}))"
    return call.by.fill(form, call.args[0])


def percentile(call: Call) -> exp.Expression:
    return call.by.fill("quantile_cont(a0, a1)", *call.args)


def pmod(call: Call) -> exp.Expression:
    if integer(call.args[1]):
        return call.fill("((a0 % a1) + a1) % a1")
    return call.fill("((a0 % NULLIF(a1, 0)) + a1) % NULLIF(a1, 0)")


def as_double(function: str) -> Any:
    """An aggregate, of texts as numbers: Hive reads them as doubles."""

    def build(call: Call) -> exp.Expression:
        value = call.args[0]
        if kind_of(value) == "text":
            value = call.by.fill("TRY_CAST(a0 AS DOUBLE)", value)
        return call.by.fill(f"{function}(a0)", value)

    return build


def rounded(call: Call) -> exp.Expression:
    """Half up, by the digits that a double is written with."""
    digits = call.whole(1, "number of digits") if len(call.args) == 2 else 0
    exact = (
        f"TRY_CAST(round(TRY_CAST(a0 AS DECIMAL(38, 15)), {digits}) AS DOUBLE)"
        if digits >= 0
        else f"round(TRY_CAST(a0 AS DOUBLE), {digits})"
    )
    forms = {
        "double": f"coalesce({exact}, round(TRY_CAST(a0 AS DOUBLE), {digits}))",
        "text": f"round(TRY_CAST(a0 AS DOUBLE), {digits})",
    }
    if kind_of(call.args[0]) in ("int", "decimal"):
        return call.by.fill(f"round(a0, {digits})", call.args[0])
    if kind_of(call.args[0]) is None:
        return call.by.fill(
            f"round(CASE WHEN typeof(a0) IN ('DOUBLE', 'FLOAT') THEN TRY_CAST(a0 AS DECIMAL(38, 15)) ELSE a0 END, {digits})",
            call.args[0],
        )
    return call.by.by_kind(call.args[0], forms, f"round(a0, {digits})")
