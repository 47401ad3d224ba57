"""A model in another dialect in, one SELECT of DuckDB out, with everything that was rewritten."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlglot
from sqlglot import exp

from reverse_etl.errors import Location, Problem, ProjectError
from reverse_etl.project.dialects.common import FAMILIES
from reverse_etl.project.dialects.hive.table import HIVE
from reverse_etl.project.dialects.parse import mark_places, parser_of
from reverse_etl.project.dialects.rewrite import Family, Translator
from reverse_etl.project.dialects.spark import DATABRICKS, SPARK
from reverse_etl.project.dialects.trino.table import TRINO
from reverse_etl.project.dialects.trino.texts import refuse_bytes
from reverse_etl.project.dialects.trino.zones import refuse_lost_zones
from reverse_etl.words import count

TABLES: dict[str, Family] = {
    **{"athena": TRINO, "presto": TRINO, "trino": TRINO},
    **{"hive": HIVE, "spark": SPARK, "databricks": DATABRICKS},
    **FAMILIES,
}


@dataclass(frozen=True)
class Rewrite:
    """A part of a model that has another text in DuckDB, by the row of that name."""

    where: Location
    row: str
    before: str
    after: str


@dataclass(frozen=True)
class Translation:
    sql: str
    rewrites: tuple[Rewrite, ...]


def translate(sql: str, dialect: str, place: Callable[[int, int], Location], scheduled_time: datetime) -> Translation:
    """`place` maps a line and column of `sql`, from 1, to the model's file; 0 is unknown.

    Raises ProjectError, with every part that cannot be translated.
    """
    try:
        return _translated(sql, dialect, place, scheduled_time)
    except RecursionError as error:
        what, hint = f"{dialect} SQL that is nested too deep", "split the model: ref() of the inner part"
        raise ProjectError(what, place(0, 0), hint, code="P050") from error


def _translated(sql: str, dialect: str, place: Callable[[int, int], Location], scheduled_time: datetime) -> Translation:
    tree = _parsed(sql, dialect, place)
    mark_places(tree)

    def where(at: int | None) -> Location:
        if at is None:
            return place(0, 0)
        before = sql[:at]
        return place(before.count("\n") + 1, at - before.rfind("\n"))

    family = TABLES[dialect]
    by = Translator(family, dialect, scheduled_time, where, sql)
    name_columns(tree, family, by)
    made = by.translate(tree)
    if family is TRINO:
        refuse_lost_zones(made, by)
        refuse_bytes(made, by)
    if by.refusals:
        hint = "write this model in DuckDB SQL and remove config(dialect=...)"
        found = sorted(by.refusals, key=lambda one: one.at or 0)
        problems = [Problem(one.what, where(one.at), one.instead or hint, code="P050") for one in dict.fromkeys(found)]
        raise ProjectError(problems)
    rewrites = (
        Rewrite(where(one.at), one.what, one.before, one.after) for one in by.rewrites if one.before != one.after
    )
    text = made.sql(dialect="duckdb", pretty=True, unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False)
    return Translation(text, tuple(sorted(rewrites, key=lambda one: (one.where.line, one.where.column))))


_COMMENTS = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_BEGINS = re.compile(
    rf"{_COMMENTS}(?P<first>[A-Za-z]+)(?:\s+(?P<second>OVERWRITE|INTO|TABLE))?", re.DOTALL | re.IGNORECASE
)
# What queries begin with; other words begin statements that are no query.
_OF_QUERIES = ("select", "with", "values", "from", "table")


def _refuse_statements(sql: str, place: Callable[[int, int], Location]) -> None:
    found = _BEGINS.match(sql)
    if found and found["first"].lower() not in _OF_QUERIES:
        said = " ".join(word.upper() for word in found.groups() if word)
        at = found.start("first")
        where = place(sql.count("\n", 0, at) + 1, at - sql.rfind("\n", 0, at))
        hint = "keep its SELECT: retl writes no table, and sends the rows"
        raise ProjectError(f"a model must be a single SELECT; this one begins with {said}", where, hint, code="P050")


def _parsed(sql: str, dialect: str, place: Callable[[int, int], Location]) -> exp.Expression:
    _refuse_statements(sql, place)
    try:
        trees = [tree for tree in sqlglot.parse(sql, read=parser_of(dialect)) if tree is not None]
    except sqlglot.ParseError as error:
        first = error.errors[0]
        description = first["description"].split("<Token")[0].strip().rstrip(".")
        what = f'invalid {dialect} SQL: {description} near "{first["highlight"]}"'
        raise ProjectError(what, place(first["line"], 0), code="P050") from error
    except sqlglot.errors.TokenError as error:
        raise ProjectError(f"invalid {dialect} SQL: {error}", place(0, 0), code="P050") from error
    if len(trees) != 1:
        what = f"the model contains {count(len(trees), 'statement')}"
        raise ProjectError(what, place(0, 0), "a model must be a single SELECT", code="P050")
    if not isinstance(trees[0], exp.Query):
        what = f"a model must be a single SELECT; this one contains {trees[0].key.upper()}"
        hint = "keep its SELECT: retl writes no table, and sends the rows"
        raise ProjectError(what, place(0, 0), hint, code="P050")
    return trees[0]  # type: ignore[return-value]  # every query is an expression


_NAMES = {"hive": "_c{}", "trino": "_col{}"}


def name_columns(tree: exp.Expression, family: Family, by: Translator) -> None:
    """Give columns of the model without a name the one that the engine gives them."""
    outer = tree
    while isinstance(outer, exp.SetOperation | exp.Subquery):
        outer = outer.this
    for position, column in enumerate(outer.expressions if isinstance(outer, exp.Select) else ()):
        if isinstance(column, exp.Alias | exp.Column | exp.Star | exp.Dot | exp.Aliases):
            continue
        if family.name not in _NAMES:
            by.refusals.append(by.found(column, "this column has no name", "name it: AS name"))
            continue
        alias = exp.alias_(column.copy(), _NAMES[family.name].format(position))
        alias.meta["at"] = column.meta.get("at")
        column.replace(alias)
