"""What is known of the type of a value from the SQL alone: its kind, or None. DuckDB's own test of it, for the rest."""

from typing import Any

from sqlglot import exp

TESTS = {
    "text": "typeof(a0) IN ('VARCHAR', 'JSON')",
    "int": "typeof(a0) IN ('TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT', 'UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT')",
    "double": "typeof(a0) IN ('DOUBLE', 'FLOAT')",
    "decimal": "typeof(a0) LIKE 'DECIMAL%'",
    "bool": "typeof(a0) = 'BOOLEAN'",
    "date": "typeof(a0) = 'DATE'",
    "timestamptz": "typeof(a0) = 'TIMESTAMP WITH TIME ZONE'",
    "timestamp": "typeof(a0) IN ('TIMESTAMP', 'TIMESTAMP_S', 'TIMESTAMP_MS', 'TIMESTAMP_NS')",
    "list": "typeof(a0) LIKE '%[]'",
    "json": "typeof(a0) = 'JSON'",
    "nested": "(typeof(a0) LIKE '%]' OR typeof(a0) LIKE 'STRUCT(%' OR typeof(a0) LIKE 'MAP(%')",
    "map": "typeof(a0) LIKE 'MAP(%'",
}
NUMBERS = ("int", "decimal", "double")  # each takes in those before it

_OF_TYPE = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT", "INT128"), "int"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "double"),
    **dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), "text"),
    "DECIMAL": "decimal",
    "BOOLEAN": "bool",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMPTZ": "timestamptz",
    "JSON": "json",
    "ARRAY": "list",
    "LIST": "list",
    "MAP": "map",
}
_BOOLEAN = (exp.Predicate, exp.Connector, exp.Not, exp.Boolean, exp.Exists)


def with_kind(node: exp.Expression, kind: str | None) -> exp.Expression:
    """The same node, known to be of that kind."""
    if kind:
        node.meta["kind"] = kind
    return node


def kind_of(node: Any) -> str | None:
    """The kind of a value, or None if the SQL does not say it."""
    if not isinstance(node, exp.Expression):
        return None
    if "kind" in node.meta:
        return str(node.meta["kind"])
    if isinstance(node, exp.Literal):
        return "text" if node.is_string else _of_number(str(node.this))
    if isinstance(node, exp.CurrentDate):
        return "date"
    if isinstance(node, exp.Null):
        return "null"
    if isinstance(node, exp.Cast):  # and TryCast
        return _OF_TYPE.get(node.to.this.name)
    if isinstance(node, exp.Case | exp.If):
        return _common(node)
    if isinstance(node, exp.Paren | exp.Neg | exp.Alias | exp.Window | exp.Filter | exp.Order):
        return kind_of(node.this)
    if isinstance(node, exp.Add | exp.Sub | exp.Mul | exp.Mod):
        return _wider(kind_of(node.this), kind_of(node.expression))
    if isinstance(node, exp.Array):
        return "list"
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select) and len(node.this.expressions) == 1:
        return kind_of(node.this.expressions[0])
    return "bool" if isinstance(node, _BOOLEAN) else None


def _of_number(digits: str) -> str:
    return "double" if "e" in digits.lower() else "decimal" if "." in digits else "int"


def _wider(one: str | None, other: str | None) -> str | None:
    if one in NUMBERS and other in NUMBERS:
        return max(one, other, key=NUMBERS.index)
    return "double" if "double" in (one, other) else None


def _common(node: Any) -> str | None:
    """The kind that all branches of CASE share; NULL is of any."""
    branches = [branch.args.get("true") for branch in node.args.get("ifs") or ()]
    branches += [node.args.get("true"), node.args.get("false"), node.args.get("default")]
    found = {kind_of(branch) for branch in branches if branch is not None} - {"null"}
    return found.pop() if len(found) == 1 else None
