"""Which line of a model makes one of its columns: best effort, by names alone. Pure.

From the outermost SELECT inwards: a column that is only passed on leads to the subquery or WITH that it comes from.
"""

from collections.abc import Iterator, Mapping

from sqlglot import Expr, exp, parse_one
from sqlglot.errors import SqlglotError

_DEPTH = 50


def line_of(sql: str, column: str, dialect: str) -> int | None:
    """The line of `sql`, from 1, of the expression of a column; None if it cannot be told."""
    if dialect == "duckdb":  # which takes both for the quotes of names, and sqlglot one of them
        sql = sql.replace("`", '"')
    try:
        return _line_in(parse_one(sql, dialect=dialect), column.casefold(), {}, 0)
    except (SqlglotError, RecursionError):
        return None


def _line_in(found: Expr | None, column: str, around: Mapping[str, Expr], depth: int) -> int | None:
    query = found.unnest() if isinstance(found, exp.Subquery) else found
    if not isinstance(query, exp.Query) or depth > _DEPTH:
        return None
    named = {**around, **{cte.alias.casefold(): cte.this for cte in query.ctes}}
    while isinstance(query, exp.SetOperation):
        query = query.left.unnest() if isinstance(query.left, exp.Subquery) else query.left
    if not isinstance(query, exp.Select):
        return None
    passed_on = None
    for one in query.selects:
        if one.alias_or_name.casefold() == column:
            inner = one.unalias()
            if not isinstance(inner, exp.Column):
                return _line(one)
            passed_on = inner
    if passed_on is None and not query.is_star:
        return None
    name = passed_on.name.casefold() if passed_on is not None else column
    table = passed_on.table.casefold() if passed_on is not None else ""
    for alias, source in _sources(query, named):
        deeper = _line_in(source, name, named, depth + 1) if table in ("", alias) else None
        if deeper is not None:
            return deeper
    return _line(passed_on) if passed_on is not None else None


def _sources(query: exp.Select, named: Mapping[str, Expr]) -> Iterator[tuple[str, Expr]]:
    origin = query.args.get("from_") or query.args.get("from")
    tables = [origin.this] if origin is not None else []
    for table in [*tables, *(join.this for join in query.args.get("joins") or [])]:
        alias = table.alias_or_name.casefold()
        if isinstance(table, exp.Subquery):
            yield alias, table
        elif isinstance(table, exp.Table) and table.name.casefold() in named:
            yield alias, named[table.name.casefold()]


def _line(one: Expr) -> int | None:
    lines = [line for node in one.find_all(exp.Identifier) if (line := node.meta.get("line"))]
    return min(lines) if lines else None
