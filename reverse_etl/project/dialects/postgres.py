"""What PostgreSQL and DuckDB have in common beyond the core of `common.py`. tests/warehouses compares both.

Not here, as results differ: to_char(), round(), age(), extract(), regular expressions, casts of doubles and from texts.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Refusal, Translator, integer
from reverse_etl.project.dialects.row import ANY, Row, repaired, same

FUNCTIONS: dict[str, Row] = {
    **same("trim ltrim rtrim reverse md5", 1, kind="text"),
    **same("left right repeat", 2, kind="text"),
    **same("split_part lpad rpad translate", 3, kind="text"),
    **same("strpos", 2, kind="int"),
    **same("starts_with", 2, kind="bool"),
    **same("bool_and bool_or", 1, kind="bool"),
    **same("greatest least", ANY),
    **same("floor ceil ceiling", 1),
    **same("make_date", 3, kind="date"),
    **repaired("btrim", "trim(a0)", kind="text"),
    **repaired("char_length", "length(a0)", kind="int"),
    **repaired(
        "date_trunc",
        f"CASE WHEN {TESTS['timestamp'].replace('a0', 'a1')} THEN date_trunc(a0, a1)"
        " ELSE stop('date_trunc() returns the type of its value only for a timestamp: cast it') END",
        kind="timestamp",
        how="date_trunc() of a timestamp",
    ),
}
_TEXT = ("text", "int", "decimal", "bool", "date", "timestamp")
# By the type that is cast to: the kinds that become the same value.
_CASTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("VARCHAR", "TEXT"), _TEXT),
    **dict.fromkeys(("SMALLINT", "INT", "BIGINT", "DECIMAL"), ("int", "decimal")),
    "DOUBLE": ("int", "decimal", "double"),
    "BOOLEAN": ("bool", "int"),
    **dict.fromkeys(("DATE", "TIMESTAMP"), ("date", "timestamp")),
}
_TESTS = {**TESTS, "text": "typeof(a0) = 'VARCHAR'"}  # Postgres writes a JSON document in its own way
_UNITS = ("second", "minute", "hour", "day", "week", "month", "year")
_HINT = "cast it to another type, or leave this to `retl plan`"


def cast(core: Callable[[Translator, Any], exp.Expression]) -> Callable[[Translator, Any], exp.Expression]:
    """Casts that have the same result; whether a column's is one of them, DuckDB decides when it knows its type."""

    def of(by: Translator, node: exp.Cast) -> exp.Expression:
        target, kind = node.to.this.name, kind_of(node.this)
        same_of = _CASTS.get(target, ())
        if isinstance(node.this, exp.Literal) or (target in ("VARCHAR", "TEXT") and node.to.expressions):
            return core(by, node)
        if kind in same_of or kind == "null":
            return node
        if kind or not same_of:
            raise Refusal(f"{by.dialect}: this cast may have another result in DuckDB", _HINT)
        is_same = " OR ".join(_TESTS[one] for one in same_of)
        made = by.fill(
            f"CASE WHEN {is_same} THEN a1 ELSE stop('this cast may have another result in DuckDB') END", node.this, node
        )
        return with_kind(made, kind_of(node))

    return of


def division(by: Translator, node: exp.Div) -> exp.Expression:
    """By a number that is not 0: of integers the integer towards zero, of doubles the double."""
    one, kinds = integer(node.expression), {kind_of(node.this), kind_of(node.expression)}
    if one and kinds == {"int"}:
        return with_kind(by.fill("a0 // a1", node.this, node.expression), "int")
    if one and kinds == {"int", "double"}:
        return with_kind(node, "double")
    if one and kinds == {"int", None}:
        other = "stop('/ is translated of integers and of what is cast to float8')"
        made = by.fill(f"CASE WHEN {TESTS['int']} THEN a0 // a1 ELSE {other} END", node.this, node.expression)
        return with_kind(made, "int")
    raise Refusal(
        f"{by.dialect}: / is translated of integers or doubles, by a number that is not 0",
        "use CAST(x AS float8) / 100",
    )


def trim(by: Translator, node: exp.Trim) -> exp.Expression:
    if node.expression or node.args.get("position"):
        raise Refusal(f"{by.dialect}: trim() of other characters than blanks is not translated", "use replace()")
    return with_kind(node, "text")


def interval(by: Translator, node: exp.Interval) -> exp.Expression:
    """A number and its unit."""
    unit = str(node.args.get("unit") or "").lower().removesuffix("s")
    if isinstance(node.this, exp.Literal) and str(node.this.this).isdigit() and unit in _UNITS:
        return node
    raise Refusal(f"{by.dialect}: this interval is not translated", "use one number and one unit: interval '30 days'")
