"""Trino's functions of numbers, arrays and maps, and try()."""

from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Call, Translator, number


def _tried(by: Translator, node: exp.Anonymous) -> exp.Expression:
    """try(x): NULL where x fails. Casts and divisions inside are NULL by themselves."""
    by.tries += 1
    try:
        by.children(node)
    finally:
        by.tries -= 1
    inner = node.expressions[0]
    if any(call.name.lower() == "error" for call in inner.find_all(exp.Anonymous)):
        return exp.Paren(this=inner)  # DuckDB's TRY() takes no error(); what fails inside ends the run
    return with_kind(by.fill("TRY(a0)", inner), kind_of(inner))


def anonymous(by: Translator, node: exp.Anonymous) -> exp.Expression:
    """try() is seen before its argument is rewritten; other functions after."""
    if node.name.lower() == "try" and len(node.expressions) == 1:
        return _tried(by, node)
    by.children(node)
    return by.function(node)


def map_of(call: Call) -> exp.Expression:
    return call.by.fill("map(a0, a1)", *call.args) if call.args else call.by.fill("map([], [])")


PAIRS = "map_from_entries(list({'k': a0, 'v': a1}) FILTER (WHERE a0 IS NOT NULL))"


def lambda_on_entries(form: str) -> Any:
    """map_filter() and its like: a function of key and value, on the entries of a map."""

    def build(call: Call) -> exp.Expression:
        function = call.args[1]
        if not isinstance(function, exp.Lambda) or len(function.expressions) != 2:
            raise call.refuse("the second argument must be a function (k, v) -> ...")
        body = function.this.copy()
        fields = {one.name: field for one, field in zip(function.expressions, ("key", "value"), strict=True)}
        names = [
            node
            for node in body.find_all(exp.Column, exp.Identifier)
            if node.name in fields and not isinstance(node.parent, exp.Column | exp.Dot)
        ]
        for node in names:
            entry = exp.Dot(this=exp.to_identifier("retl_e"), expression=exp.to_identifier(fields[node.name]))
            if node is body:
                body = entry
            else:
                node.replace(entry)
        return call.by.fill(form, call.args[0], body)

    return build


def matching(form: str) -> Any:
    def build(call: Call) -> exp.Expression:
        if not isinstance(call.args[1], exp.Lambda):
            raise call.refuse("the second argument must be a function x -> ...")
        return call.fill(form)

    return build


def quantified(found: str, unless: str) -> Any:
    """any_match() and its like: `found` as soon as one element has it, NULL if one is NULL, else the contrary."""
    return matching(
        f"CASE WHEN list_contains(list_transform(a0, a1), {found}) THEN {unless}"
        " WHEN len(list_filter(list_transform(a0, a1), lambda e: e IS NULL)) > 0 THEN NULL"
        f" WHEN a0 IS NOT NULL THEN NOT {unless} END"
    )


FIRST_OF_EACH = "list_filter(a0, lambda e, i: list_position(a0, e) = i)"
_IN_OTHER = "list_position(a1, e) IS NOT NULL"
INTERSECT = f"CASE WHEN a1 IS NOT NULL THEN list_filter({FIRST_OF_EACH}, lambda e: {_IN_OTHER}) END"
EXCEPT = f"CASE WHEN a1 IS NOT NULL THEN list_filter({FIRST_OF_EACH}, lambda e: NOT ({_IN_OTHER})) END"
UNION = FIRST_OF_EACH.replace("a0", "(a0 || a1)")
OVERLAP = (
    f"CASE WHEN a0 IS NULL OR a1 IS NULL THEN NULL"
    f" WHEN len(list_filter(a0, lambda e: e IS NOT NULL AND {_IN_OTHER})) > 0 THEN true"
    " WHEN len(list_filter(a0 || a1, lambda e: e IS NULL)) > 0 THEN NULL ELSE false END"
)


def sliced(call: Call) -> exp.Expression:
    start, length = call.whole(1, "start"), call.whole(2, "length")
    if not start or length < 0:
        raise call.refuse("the start must not be 0, and the length not below 0")
    end = start + length - 1 if start > 0 else min(start + length - 1, -1)
    if not length:
        return call.by.fill("list_slice(a0, 1, 0)", call.args[0])
    return call.by.fill("list_slice(a0, a1, a2)", call.args[0], number(start), number(end))


def sequence(call: Call) -> exp.Expression:
    kinds = {kind_of(arg) for arg in call.args[:2]}
    if kinds == {"date"}:
        down = call.by.fill("INTERVAL (CASE WHEN a0 <= a1 THEN 1 ELSE -1 END) DAY", *call.args[:2])
        step = call.args[2] if len(call.args) == 3 else down
        return call.by.fill(
            "list_transform(generate_series(CAST(a0 AS TIMESTAMP), CAST(a1 AS TIMESTAMP), a2), lambda d: CAST(d AS DATE))",
            *call.args[:2],
            step,
        )
    if kinds == {"int"}:
        return _whole_numbers(call)
    raise call.refuse(
        "whether it is of dates or of integers is not known here", "CAST(x AS date), or CAST(x AS bigint)"
    )


def _whole_numbers(call: Call) -> exp.Expression:
    """Down as well as up; a step that leads away from the end ends the query in Trino."""
    if len(call.args) == 2:
        return call.fill("generate_series(a0, a1, CASE WHEN a0 <= a1 THEN 1 ELSE -1 END)")
    fails = "NULL" if call.by.tries else "stop('sequence(): the step leads away from the end')"
    return call.fill(f"CASE WHEN sign(a1 - a0) * sign(a2) < 0 THEN {fails} ELSE generate_series(a0, a1, a2) END")


def array_join(call: Call) -> exp.Expression:
    listed = "list_transform(a0, lambda e: CAST(e AS VARCHAR))"
    if len(call.args) == 3:
        listed = "list_transform(a0, lambda e: coalesce(CAST(e AS VARCHAR), a2))"
    return call.fill(f"array_to_string({listed}, a1)")


def reduced(call: Call) -> exp.Expression:
    finish = call.args[3]
    is_same = (
        isinstance(finish, exp.Lambda)
        and len(finish.expressions) == 1
        and finish.this.sql() == finish.expressions[0].sql()
    )
    if not is_same:
        raise call.refuse("the last argument must be s -> s")
    return call.by.fill("list_reduce(a0, a1, a2)", call.args[0], call.args[2], call.args[1])


def exact_percentile(call: Call) -> exp.Expression:
    return call.by.fill("quantile_disc(a0, a1)", *call.args)


def averaged(call: Call) -> exp.Expression:
    """Of decimals Trino keeps the scale, which DuckDB does not."""
    kind = kind_of(call.args[0])
    stop = "avg of a decimal is rounded to its scale: use avg(CAST(x AS double))"
    if kind == "decimal":
        raise call.refuse("of a decimal it is rounded to its scale", "use avg(CAST(x AS double))")
    if kind:
        return call.fill("avg(a0)")
    return call.fill(f"avg(CASE WHEN {TESTS['decimal']} THEN stop('{stop}') ELSE a0 END)")


def by_two(function: str) -> Any:
    def build(call: Call) -> exp.Expression:
        return call.fill(f"{function}(a0, a1)")

    return build


def none_null(function: str, call: Call) -> exp.Expression:
    args = [f"a{position}" for position in range(len(call.args))]
    return call.fill(
        f"CASE WHEN {' OR '.join(f'{arg} IS NULL' for arg in args)} THEN NULL ELSE {function}({', '.join(args)}) END"
    )


def cardinality(call: Call) -> exp.Expression:
    kind = kind_of(call.args[0])
    if kind == "list":
        return call.fill("len(a0)")
    if kind == "map":
        return call.fill("cardinality(a0)")
    return call.fill(
        "coalesce(json_array_length(to_json(CASE WHEN typeof(a0) LIKE 'MAP(%' THEN NULL ELSE a0 END)), len(json_keys(to_json(a0))))"
    )
