"""The line that an error of DuckDB is about, if it names none and that is sure: what it quotes, or the clause that it
is about, is in the SQL just once."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb

from reverse_etl.sql.database import connect
from reverse_etl.sql.quoting import without_comments


class Found(NamedTuple):
    """A line of the SQL, which counts from 1, a word in it, and what to write there, if that is known."""

    line: int
    word: str
    hint: str | None = None


LAMBDA = "Deprecated lambda arrow (->) detected"
# https://duckdb.org/docs/stable/sql/functions/lambda
_TAKE_LAMBDAS = frozenset(
    f"{of}{name}" for of in ("", "list_", "array_") for name in ("apply", "transform", "filter", "reduce")
)
# Errors of values may quote one: only these quote the SQL alone.
_OF_SQL = (
    *(duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException),
    *(duckdb.IOException, duckdb.PermissionException),
)
_CLAUSES = {
    "Set operations can only apply": r"union|intersect|except",
    "GROUP BY term out of range": r"group\s+by",
    "Missing ASOF JOIN": r"asof",
    "at least one window function must appear": r"qualify",
}


def found_in(error: duckdb.Error, sql: str) -> Found | None:
    """Where in `sql` an error is from; None if that is not sure."""
    said = str(error)
    if LAMBDA in said:
        return next(_arrows(sql), None)
    if not isinstance(error, _OF_SQL):
        return None
    for begins, clause in _CLAUSES.items():
        if begins in said:
            return _once(rf"\b(?:{clause})\b", without_comments(sql))
    quoted = re.findall(r"""(?<!\w)(["'])(.+?)\1(?!\w)""", said.partition("Candidate")[0].partition("\n\n")[0])
    all_of_it = (_once(rf"(?<!\w){re.escape(text)}(?!\w)", sql) for _, text in quoted)
    return next(filter(None, all_of_it), None)


def _once(pattern: str, sql: str) -> Found | None:
    places = list(re.finditer(pattern, sql, re.IGNORECASE))
    return Found(sql.count("\n", 0, places[0].start()) + 1, places[0][0]) if len(places) == 1 else None


def _arrows(sql: str) -> Iterator[Found]:
    """The arguments that are written as `x -> ...`, of functions that take a lambda: elsewhere, `->` reads JSON."""
    try:
        with connect() as connection:
            ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        nodes = list(_lambdas(json.loads(tree)))
    except (duckdb.Error, ValueError, RecursionError):
        return
    written = sql.encode()
    for node in sorted(nodes, key=lambda one: int(one["query_location"])):
        begin, body = node["query_location"], node["expr"]["query_location"]
        before = written[begin:body].decode(errors="replace")
        names = re.sub(r"[()\s]+", " ", before.partition("->")[0]).strip()
        hint = f"write `lambda {names}: ...` in place of `{' '.join(before.partition('->')[0].split())} -> ...`"
        yield Found(written[:begin].count(b"\n") + 1, names.partition(",")[0], hint)


def _lambdas(part: Any) -> Iterator[Any]:
    if isinstance(part, list):
        for one in part:
            yield from _lambdas(one)
    elif isinstance(part, dict):
        if str(part.get("function_name", "")).lower() in _TAKE_LAMBDAS:
            given = (one.get("expression", {}) for one in part.get("arguments", ()))
            yield from (one for one in given if one.get("syntax_type") == "SINGLE_ARROW")
        for one in part.values():
            yield from _lambdas(one)
