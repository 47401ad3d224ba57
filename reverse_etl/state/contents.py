"""What an open state contains: what is known of it, by name; and the columns of its tables."""

import json
from collections.abc import Mapping

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import MODES, Mode
from reverse_etl.engines.duckdb.model import sql_type
from reverse_etl.plan.tables import ABSENT_SINCE, ACKNOWLEDGED, META, RUN_ID, SENT_AT, UNSURE
from reverse_etl.sql.quoting import literal
from reverse_etl.sql.types import SqlType

KEY_COLUMNS = "key"  # in `meta`: those of the last run, also if it was blocked, whose invalid rows are recorded
OWN_COLUMNS = {SENT_AT: "TIMESTAMPTZ", RUN_ID: "VARCHAR", UNSURE: "VARCHAR[]", ABSENT_SINCE: "TIMESTAMPTZ"}


def set_version(connection: DuckDBPyConnection, version: str) -> None:
    """Record that the state has changed: plans saved before are stale."""
    set_meta(connection, {"version": version})


def set_meta(
    connection: DuckDBPyConnection, known: Mapping[str, str | None], before: Mapping[str, str] | None = None
) -> None:
    """Record what is to be known of the attached state, by its name; None of it leaves it as it is. `before` is what is
    known, if that has been read."""
    before = meta_of(connection) if before is None else before
    new = {name: value for name, value in known.items() if value not in (None, before.get(name))}
    rows = ", ".join(f"({literal(name)}, {literal(str(value))})" for name, value in new.items())
    if rows:
        connection.execute(f"INSERT OR REPLACE INTO {META} VALUES {rows}")


def mode_in(connection: DuckDBPyConnection) -> Mode | None:
    """The mode in which the rows of the attached state were sent, if this version has it."""
    label = meta_of(connection).get("mode")
    return next((mode for mode in MODES.values() if mode.label == label), None)


def key_in(connection: DuckDBPyConnection) -> list[str]:
    """The primary key of the acknowledged rows of the attached state; none before the first run."""
    return list(key_of(meta_of(connection)))


def key_of(meta: Mapping[str, str]) -> tuple[str, ...]:
    """The same, by what is known of a state."""
    return tuple(json.loads(meta.get("primary_key", "[]")))


def meta_of(connection: DuckDBPyConnection) -> dict[str, str]:
    """What is known of the attached state, by its name."""
    return dict(connection.execute(f"SELECT key, value FROM {META}").fetchall())


def columns_of(connection: DuckDBPyConnection, table: str) -> dict[str, str]:
    """Names and types of a table's columns, in order."""
    return {name: of.text for name, of in types_of(connection, table).items()}


def acknowledged_columns(connection: DuckDBPyConnection) -> dict[str, str]:
    """The model's columns in the table of acknowledged rows, without retl's own; none before the first run."""
    return {name: of.text for name, of in acknowledged_types(connection).items()}


def acknowledged_types(connection: DuckDBPyConnection) -> dict[str, SqlType]:
    """The same columns, with what is known of their types."""
    try:
        columns = types_of(connection, ACKNOWLEDGED)
    except duckdb.CatalogException:  # there is no such table yet; asking for it takes longer than trying
        return {}
    return {name: of for name, of in columns.items() if name not in OWN_COLUMNS}


def types_of(connection: DuckDBPyConnection, table: str) -> dict[str, SqlType]:
    """Of a table that is not read: a tenth of what DESCRIBE takes."""
    rows = connection.sql(f"FROM {table}")
    return {name: sql_type(of) for name, of in zip(rows.columns, rows.types, strict=True)}
