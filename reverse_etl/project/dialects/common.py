"""What BigQuery, Snowflake, PostgreSQL and Redshift share with DuckDB: a small core. The rest of them is refused.

Sources: the pages of each about its functions. What differs among them, such as `/`, round() and casts, is not here.
"""

from collections.abc import Mapping
from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects import clauses, postgres
from reverse_etl.project.dialects.kinds import kind_of
from reverse_etl.project.dialects.rewrite import Call, Family, Refusal, Translator, integer
from reverse_etl.project.dialects.row import ANY, Row, repaired, same


def _substr(call: Call) -> exp.Expression:
    if (integer(call.args[1]) or 0) < 1:
        raise call.refuse("the start must be 1 or more, as a number")
    return call.fill("substr(a0, a1)" if len(call.args) == 2 else "substr(a0, a1, a2)")


def _cast(by: Translator, node: exp.Cast) -> exp.Expression:
    target, kind = node.to.this.name, kind_of(node.this)
    is_same = {
        **dict.fromkeys(("VARCHAR", "TEXT"), kind in ("text", "int") and not node.to.expressions),
        **dict.fromkeys(("INT", "BIGINT", "DOUBLE", "DECIMAL"), kind == "int"),
        **dict.fromkeys(("DATE", "TIMESTAMP"), isinstance(node.this, exp.Literal)),
        "DATE": isinstance(node.this, exp.Literal) or kind in ("date", "timestamp"),
    }
    if not is_same.get(target):
        raise Refusal(
            f"{by.dialect}: this cast is not translated",
            "write this model in DuckDB SQL and remove config(dialect=...)",
        )
    return node


FUNCTIONS: dict[str, Row] = {
    **same("count", ANY, kind="int"),
    **same("sum min max", 1),
    **same("coalesce nullif abs row_number rank dense_rank ntile lag lead", ANY),
    **same("lower upper", 1, kind="text"),
    **same("length", 1, kind="int"),
    **same("replace", 3, kind="text"),
    **repaired("substr substring", (2, _substr), (3, _substr), kind="text", how="substr(), from 1 or more"),
    **repaired("current_date", "current_date", kind="date"),
}
_CORE = {name: None for name in clauses.SAME if name not in ("Interval", "Bracket", "Array", "Lambda")}
_RULES: dict[str, Any] = {
    **_CORE,
    **clauses.REFUSED,
    "Div": clauses.refuse("/ differs from DuckDB's, of integers and of decimals", "write this model in DuckDB SQL"),
    "Cast": _cast,
    "Like": clauses.like_with_backslash,
    "ILike": None,
}


def _family(name: str, functions: Mapping[str, Row] | None = None, **rules: Any) -> Family:
    return Family(name, {**FUNCTIONS, **(functions or {})}, {**_RULES, **rules}, {}, lambda unknown: None)


_OF_POSTGRES = {
    "Cast": postgres.cast(_cast),
    "Div": postgres.division,
    "Interval": postgres.interval,
    "Trim": postgres.trim,
}
FAMILIES = {
    "bigquery": _family("bigquery"),
    "postgres": _family("postgres", postgres.FUNCTIONS, **_OF_POSTGRES),
    "redshift": _family("redshift"),
    "snowflake": _family("snowflake", Like=None),
}
