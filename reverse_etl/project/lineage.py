"""Which columns a model returns, which line makes one of them, and which tables it names: best effort, by names alone.
Pure.

From the outermost SELECT inwards: a column that is only passed on leads to the subquery or WITH that it comes from.
"""

from collections.abc import Iterator, Mapping

from sqlglot import Expr, exp, parse_one
from sqlglot.errors import SqlglotError

_DEPTH = 50


def line_of(sql: str, column: str, dialect: str) -> int | None:
    """The line of `sql`, from 1, of the expression of a column; None if it cannot be told."""
    try:
        return _line_in(_parsed(sql, dialect), column.casefold(), {}, 0)
    except (SqlglotError, RecursionError):
        return None


def tables_named(sql: str, dialect: str) -> set[str]:
    """The tables that SQL names, as `schema.table`; none if it cannot be told."""
    try:
        query = _parsed(sql, dialect)
        named = {cte.alias.casefold() for cte in query.find_all(exp.CTE)}
        tables = [table for table in query.find_all(exp.Table) if table.name]
        found = [table for table in tables if table.db or table.name.casefold() not in named]
        return {".".join(part.name for part in table.parts) for table in found}
    except (SqlglotError, RecursionError):
        return set()


def columns_named(sql: str, dialect: str) -> set[str]:
    """The columns that SQL returns, of those that it names; none if it cannot be told."""
    try:
        return _names_in(_parsed(sql, dialect), {}, 0)
    except (SqlglotError, RecursionError):
        return set()


def texts_of(sql: str, column: str, dialect: str) -> list[str] | None:
    """The texts that a column can have, where the outermost SELECTs write them down; None if that cannot be told."""
    try:
        found = dict.fromkeys(_texts_in(_parsed(sql, dialect), column.casefold()))
    except (SqlglotError, RecursionError):
        return None
    return None if None in found else [text for text in found if text is not None]


def _names_in(found: Expr | None, around: Mapping[str, Expr], depth: int) -> set[str]:
    query = found.unnest() if isinstance(found, exp.Subquery) else found
    if not isinstance(query, exp.Query) or depth > _DEPTH:
        return set()
    named = {**around, **{cte.alias.casefold(): cte.this for cte in query.ctes}}
    if isinstance(query, exp.SetOperation):
        return _names_in(query.left, named, depth + 1)
    if not isinstance(query, exp.Select):
        return set()
    names = {one.alias_or_name for one in query.selects if isinstance(one, exp.Alias | exp.Column) and not one.is_star}
    if any(
        isinstance(one, exp.Star) and not any(one.args.values()) for one in query.selects
    ):  # which leaves out nothing
        names = names.union(*(_names_in(source, named, depth + 1) for _, source in _sources(query, named)))
    return names


def _texts_in(query: Expr, column: str) -> Iterator[str | None]:
    """The texts, and None for anything else."""
    if isinstance(query, exp.Subquery):
        yield from _texts_in(query.unnest(), column)
    elif isinstance(query, exp.SetOperation):
        yield from _texts_in(query.left, column)
        yield from _texts_in(query.right, column)
    elif isinstance(query, exp.Select):
        of_column = [one.unalias() for one in query.selects if one.alias_or_name.casefold() == column]
        yield from _results(of_column[0]) if len(of_column) == 1 else (None,)
    else:
        yield None


def _results(value: Expr) -> Iterator[str | None]:
    if isinstance(value, exp.Case):
        results = [*(one.args["true"] for one in value.args["ifs"]), value.args.get("default")]
        for result in results:
            yield from _results(result) if result is not None else (None,)
    else:
        yield value.name if isinstance(value, exp.Literal) and value.is_string else None


def _parsed(sql: str, dialect: str) -> Expr:
    if dialect == "duckdb":  # which takes both for the quotes of names, and sqlglot one of them
        sql = sql.replace("`", '"')
    return parse_one(sql, dialect=dialect)


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
