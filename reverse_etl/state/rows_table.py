"""Creates the table of acknowledged rows, in the form in which many rows are written and read in little time.

DuckDB tries several compressions on each column of strings, which takes as long as all else that it does to write rows.
Where most values differ, it is told to use FSST, which it would choose. DuckDB's newest format has none any more, and
what it has instead is slower to write, and larger.
"""

from collections.abc import Collection, Mapping

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.model import MANY, SEEN, mostly_distinct
from reverse_etl.plan.tables import OUTBOX, STATE
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.state.contents import OWN_COLUMNS

FILE_FORMAT = "STORAGE_VERSION 'v1.2.0'"  # of DuckDB: the oldest that has all types of columns
_FORMATS_WITH_FSST = ("v1.2.0+",)  # states of retl before have the newest format


def create_rows(
    connection: DuckDBPyConnection,
    table: str,
    columns: Mapping[str, SqlType],
    distinct: Collection[str],
    own: Mapping[str, str] = OWN_COLUMNS,
) -> None:
    """Create a table for acknowledged rows with these columns of the model, of which `distinct` ones have mostly values
    that differ, and with these of retl."""
    told = [name for name in texts(columns) if name in distinct]
    fsst = dict.fromkeys(told, " USING COMPRESSION fsst") if told and _has_fsst(connection) else {}
    listed = [f"{identifier(name)} {of.text}{fsst.get(name, '')}" for name, of in columns.items()]
    listed += [f"{name} {of}" for name, of in own.items()]
    connection.execute(f"CREATE TABLE {table} ({', '.join(listed)})")


def distinct_in_outbox(connection: DuckDBPyConnection, columns: Mapping[str, SqlType]) -> list[str]:
    """The columns of strings of which most values differ, if the outbox has many rows."""
    values = {name: identifier(f"new.{name}") for name in texts(columns)}
    (rows,) = connection.execute(f"SELECT count(*) FROM {OUTBOX}").fetchall()[0]
    return mostly_distinct(connection, values, f"(FROM {OUTBOX} LIMIT {SEEN})") if rows >= MANY else []


def texts(columns: Mapping[str, SqlType]) -> list[str]:
    return [name for name, of in columns.items() if of.family in ("varchar", "json")]


def _has_fsst(connection: DuckDBPyConnection) -> bool:
    described = f"SELECT tags FROM duckdb_databases() WHERE database_name = {literal(STATE)}"
    (tags,) = connection.execute(described).fetchall()[0]
    return tags.get("storage_version") in _FORMATS_WITH_FSST
