"""What a model returns: its columns, and its first rows."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import duckdb
from duckdb import DuckDBPyConnection
from duckdb.sqltypes import DuckDBPyType

from reverse_etl.engines.duckdb.as_json import as_text
from reverse_etl.engines.duckdb.errors import errors_of
from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.models import Compiled
from reverse_etl.sql.quoting import identifier
from reverse_etl.sql.types import SqlType, texts_in

_STREAMED = re.compile("PROJECTION|FILTER|UNION|UNNEST|RANGE|(?!CTE|RECURSIVE|DELIM)[A-Z_]+_SCAN")
MANY, SEEN = 122_880, 20_000  # rows: those that DuckDB compresses as one, and those that are looked at
Form = Callable[[str, SqlType], str]  # SQL of how a value of a type is shown


def first_rows(
    connection: DuckDBPyConnection, model: Compiled, limit: int, form: Form = as_text
) -> tuple[list[str], list[tuple[object, ...]]]:
    """The first rows of a model as strings: the names of the columns, and a tuple per row."""
    described = describe(connection, model)
    names = [name for name, _ in described]
    texts = ", ".join(form(identifier(name), of) for name, of in described)
    with errors_of(model, first_line=2):
        rows = connection.execute(f"SELECT {texts} FROM (\n{model.sql}\n) LIMIT {limit}").fetchall()
    return names, rows


def describe(connection: DuckDBPyConnection, model: Compiled) -> list[tuple[str, SqlType]]:
    """The columns that a model returns. Raises ProjectError if the model is not a single SELECT."""
    found = columns(connection, model)
    with errors_of(model, first_line=2):
        return _with_collations(connection, f"(\n{model.sql}\n)", found)


def refuse_other_statements(connection: DuckDBPyConnection, model: Compiled) -> None:
    """Raises ProjectError if a model is not a single SELECT, as DuckDB parses it."""
    with errors_of(model, first_line=1):
        statements = connection.extract_statements(model.sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements)
        raise ProjectError(
            f"a model must be a single SELECT; this one contains {kinds or 'nothing'}",
            Location(model.file),
            code="P052",
        )


def columns(connection: DuckDBPyConnection, model: Compiled) -> list[tuple[str, SqlType]]:
    """The same, without their collations: that takes half of the time."""
    refuse_other_statements(connection, model)
    with errors_of(model, first_line=2):
        # As a subquery, DuckDB allows no WITH d AS (DELETE ...), nor COPY.
        subquery = f"FROM (\n{model.sql}\n)"
        try:
            relation = connection.sql(subquery)
        except duckdb.Error:
            connection.execute(f"DESCRIBE {subquery}")  # whose error has the line
            raise
        if _may_be_alike(relation.columns):  # in a subquery, the second of one name becomes name_1
            relation = connection.sql(model.sql)
        return list(zip(relation.columns, (_stored(sql_type(of)) for of in relation.types), strict=True))


def _may_be_alike(names: Sequence[str]) -> bool:
    known = {name.casefold() for name in names}
    parts = (name.casefold().rpartition("_") for name in names)
    return any(number.isdigit() and before in known for before, _, number in parts)


def rows_expected(connection: DuckDBPyConnection, model: Compiled) -> int | None:
    """How many rows DuckDB expects of a model, before it runs it: a guess, where it filters, joins or groups."""
    operator = _plan(connection, model)
    return None if operator is None else _rows_of(operator)


def distinct_columns(connection: DuckDBPyConnection, model: Compiled, names: Collection[str]) -> list[str]:
    """Those of the columns of a model of which most values differ, as far as the first of many rows tell; none if
    DuckDB would look at all rows to return these."""
    operator = _plan(connection, model)
    if operator is None or (_rows_of(operator) or 0) < MANY or not _is_streamed(operator):
        return []
    with errors_of(model, first_line=2):
        values = {name: identifier(name) for name in names}
        return mostly_distinct(connection, values, f"(FROM (\n{model.sql}\n) LIMIT {SEEN})")


def mostly_distinct(connection: DuckDBPyConnection, values: Mapping[str, str], rows: str) -> list[str]:
    """The names of those `values`, SQL over a few of many `rows`, of which most differ."""
    differs = ", ".join(f"approx_count_distinct({value}) > count({value}) / 2" for value in values.values())
    if not differs:
        return []
    found = connection.execute(f"SELECT {differs} FROM {rows}").fetchall()[0]
    return [name for name, is_distinct in zip(values, found, strict=True) if is_distinct]


def _plan(connection: DuckDBPyConnection, model: Compiled) -> Mapping[str, Any] | None:
    """The first operator of DuckDB's plan of a model; None if it has an error."""
    try:
        found = connection.execute(f"EXPLAIN (FORMAT json) FROM (\n{model.sql}\n)").fetchall()
    except duckdb.Error:  # which the model raises again when it runs, with its line
        return None
    return cast(Mapping[str, Any], json.loads(found[0][1])[0])


def _rows_of(operator: Mapping[str, Any]) -> int | None:
    while "Estimated Cardinality" not in operator["extra_info"] and operator["children"]:
        operator = operator["children"][0]
    expected = operator["extra_info"].get("Estimated Cardinality")
    return None if expected is None else int(expected)


def _is_streamed(operator: Mapping[str, Any]) -> bool:
    return bool(_STREAMED.fullmatch(operator["name"].strip())) and all(map(_is_streamed, operator["children"]))


def _with_collations(
    connection: DuckDBPyConnection, rows: str, found: Sequence[tuple[str, SqlType]]
) -> list[tuple[str, SqlType]]:
    """The columns of `rows`, with those marked that have a collation: only a comparison tells, when it is bound."""
    if not _has_collation(connection, rows, found):
        return list(found)
    return [(name, replace(of, collated=_has_collation(connection, rows, [(name, of)]))) for name, of in found]


def _has_collation(connection: DuckDBPyConnection, rows: str, found: Sequence[tuple[str, SqlType]]) -> bool:
    texts = [text for name, of in found for text in texts_in(identifier(name), of)]
    compared = ", ".join(f"""{text} = ('' COLLATE "binary")""" for text in texts)
    try:
        connection.execute(f"EXPLAIN SELECT {compared or 1} FROM {rows}")
    except duckdb.BinderException as error:
        if "collation" not in str(error):
            raise
        return True
    except duckdb.Error:  # a constant that cannot be computed, here or when the model runs: then nothing is known
        return True
    return False


def sql_type(of: DuckDBPyType) -> SqlType:
    family, text = str(of.id).lower(), str(of)
    if text == "JSON":
        return SqlType("json", text)
    if family == "decimal":
        sizes = dict(cast(list[tuple[str, int]], of.children))
        return SqlType(family, text, precision=sizes["precision"], scale=sizes["scale"])
    if family in ("struct", "map", "list", "array", "union"):
        inner = cast(list[tuple[str, DuckDBPyType | int]], of.children)  # an array has its length among them
        types = ((name, child) for name, child in inner if isinstance(child, DuckDBPyType))
        return SqlType(family, text, tuple((name, sql_type(child)) for name, child in types))
    return SqlType(family, text)


def types_from(texts: Mapping[str, str]) -> dict[str, SqlType]:
    """Types as DuckDB writes them, by the name of the column."""
    return {name: sql_type(DuckDBPyType(text)) for name, text in texts.items()}


def _stored(of: SqlType) -> SqlType:
    """The type in which changes and state store a column.

    A type whose name changes with its values (ENUM), or that says nothing (NULL), would look like a changed schema.
    """
    if of.family in ("enum", "null"):
        return SqlType("varchar", "VARCHAR")
    return SqlType("json", "JSON") if of.family == "variant" else of
