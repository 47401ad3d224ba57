"""Creates the table of acknowledged rows, in the form in which many rows are written and read in little time.

DuckDB tries several compressions on each column of strings, which takes as long as all else that it does to write rows.
Where most values differ, it is told to use FSST, which it would choose. DuckDB's newest format has none any more, and
what it has instead is slower to write, and larger.
"""

from collections.abc import Mapping

from duckdb import DuckDBPyConnection

from reverse_etl.plan.tables import OUTBOX, STATE
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.state.contents import OWN_COLUMNS

FILE_FORMAT = "STORAGE_VERSION 'v1.2.0'"  # of DuckDB: the oldest that has all types of columns
_FORMATS_WITH_FSST = ("v1.2.0+",)  # states of retl before have the newest format
_MANY, _SEEN = 122_880, 20_000  # rows: those that DuckDB compresses as one, and those that are looked at


def create_rows(connection: DuckDBPyConnection, table: str, columns: Mapping[str, SqlType]) -> None:
    """Create a table for acknowledged rows with these columns of the model, for the first rows of the outbox."""
    distinct = _mostly_distinct(connection, columns)
    fsst = dict.fromkeys(distinct, " USING COMPRESSION fsst")
    listed = [f"{identifier(name)} {of.text}{fsst.get(name, '')}" for name, of in columns.items()]
    own = [f"{name} {of}" for name, of in OWN_COLUMNS.items()]
    connection.execute(f"CREATE TABLE {table} ({', '.join([*listed, *own])})")


def _mostly_distinct(connection: DuckDBPyConnection, columns: Mapping[str, SqlType]) -> list[str]:
    """The columns of strings of which most values differ, if the outbox has many rows."""
    texts = [name for name, of in columns.items() if of.family in ("varchar", "json")]
    (rows,) = connection.execute(f"SELECT count(*) FROM {OUTBOX}").fetchall()[0]
    if rows < _MANY or not texts or not _has_fsst(connection):
        return []
    values = (identifier(f"new.{name}") for name in texts)
    differs = ", ".join(f"approx_count_distinct({value}) > count({value}) / 2" for value in values)
    found = connection.execute(f"SELECT {differs} FROM (FROM {OUTBOX} LIMIT {_SEEN})").fetchall()[0]
    return [name for name, is_distinct in zip(texts, found, strict=True) if is_distinct]


def _has_fsst(connection: DuckDBPyConnection) -> bool:
    described = f"SELECT tags FROM duckdb_databases() WHERE database_name = {literal(STATE)}"
    (tags,) = connection.execute(described).fetchall()[0]
    return tags.get("storage_version") in _FORMATS_WITH_FSST
