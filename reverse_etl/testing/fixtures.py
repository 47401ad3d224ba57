"""Rows that a unit test gives, as a SELECT that stands in for a model, a seed, a source or the state. Pure.

The types of columns are those of what the rows stand in for, where that is known. Otherwise they are those of the
values in YAML: whole numbers are BIGINT, others DOUBLE, texts VARCHAR, lists LIST, mappings STRUCT, and dates and times
without quotes DATE and TIMESTAMP.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType

Rows = Sequence[Mapping[str, Any]]


def rows_sql(rows: Rows, types: Mapping[str, SqlType] | None) -> str:
    """A SELECT of the rows. `types` are all columns there are, or None if nobody knows them.

    A column that a row leaves out is NULL. Names are matched as DuckDB does, in any case.
    """
    names = list(types) if types is not None else list({name.casefold(): name for row in rows for name in row}.values())
    columns = ", ".join(map(identifier, names))
    lines = []
    for row in rows:
        given = {name.casefold(): value for name, value in row.items()}
        cells = [_cell(given.get(name.casefold()), types[name] if types is not None else None) for name in names]
        lines.append(f"({', '.join(cells)})")
    if lines:
        return "SELECT * FROM (VALUES\n" + ",\n".join(lines) + f"\n) AS given({columns})"
    nulls = ", ".join(_cell(None, of) for of in (types or {}).values())
    return f"SELECT * FROM (VALUES ({nulls})) AS given({columns}) WHERE false"


def unknown_columns(rows: Rows, types: Mapping[str, SqlType] | None) -> dict[str, int]:
    """The columns of rows that are not among `types`, each with the number of the first row that has it."""
    if types is None:
        return {}
    known = {name.casefold() for name in types}
    unknown: dict[str, int] = {}
    for number, row in enumerate(rows):
        for name in row:
            if name.casefold() not in known:
                unknown.setdefault(name, number)
    return unknown


def csv_rows(text: str) -> list[dict[str, str | None]]:
    """The rows of a CSV text with a heading; an empty field is NULL. Raises ValueError for a row of another width."""
    lines = [line for line in csv.reader(io.StringIO(text.strip()), skipinitialspace=True) if line]
    heading, *rows = lines or [[]]
    for number, row in enumerate(rows, 1):
        if len(row) != len(heading):
            raise ValueError(f"row {number} has {len(row)} fields, the heading {len(heading)}")
    return [dict(zip(heading, (field or None for field in row), strict=True)) for row in rows]


def value_sql(value: Any) -> str:
    """A value of YAML as SQL, in the type it has there."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"CAST({value} AS BIGINT)" if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return f"CAST({literal(str(value))} AS DOUBLE)"
    if isinstance(value, datetime):
        return f"CAST({literal(str(value))} AS {'TIMESTAMPTZ' if value.tzinfo else 'TIMESTAMP'})"
    if isinstance(value, date):
        return f"CAST({literal(str(value))} AS DATE)"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_sql, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(str(key))}: {value_sql(item)}" for key, item in value.items()) + "}"
    return f"CAST({literal(str(value))} AS VARCHAR)"


def _cell(value: Any, of: SqlType | None) -> str:
    if of is None:
        return value_sql(value)
    if isinstance(value, list | dict) and of.family in ("varchar", "json"):
        value = json.dumps(value, ensure_ascii=False, default=text_of)
    return f"CAST({value_sql(value)} AS {of.text})"


def text_of(value: object) -> str:
    """A date or time of YAML as Braze is sent it: 2026-11-23, 2026-11-23T08:15:00.000Z."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    return str(value)
