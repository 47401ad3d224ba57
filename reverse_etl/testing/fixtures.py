"""The given rows of a unit test, as a SELECT that replaces a model, a seed, a source or the state. Pure.

The types of columns are those of what the rows replace, where that is known. Otherwise they are those of the values in
YAML: integers are BIGINT, other numbers DOUBLE, strings VARCHAR, lists LIST, mappings STRUCT, and unquoted dates and
timestamps DATE and TIMESTAMP.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.words import count

Rows = Sequence[Mapping[str, Any]]


def rows_sql(rows: Rows, types: Mapping[str, SqlType] | None) -> str:
    """A SELECT of the rows. `types` are all columns there are, or None if they are unknown.

    A column that a row omits is NULL. Names are case-insensitive, as in DuckDB.
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
    """The columns of rows that are not in `types`, with the index of the first row that has one."""
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
    """The rows of CSV text with a header; an empty field is NULL. Raises ValueError for a row of another width."""
    lines = [line for line in csv.reader(io.StringIO(text.strip()), skipinitialspace=True) if line]
    heading, *rows = lines or [[]]
    for number, row in enumerate(rows, 1):
        if len(row) != len(heading):
            raise ValueError(f"row {number} has {count(len(row), 'field')}, but the header has {len(heading)}")
    return [dict(zip(heading, (field or None for field in row), strict=True)) for row in rows]


def value_sql(value: Any) -> str:
    """A value of YAML as SQL, with the type it has in YAML."""
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
    """A date or timestamp of YAML as it is sent to Braze: 2026-11-23, 2026-11-23T08:15:00.000Z."""
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    return str(value)
