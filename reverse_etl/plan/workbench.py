"""retl's own DuckDB: it stores outbox and state, renders records and commits runs, whatever the warehouse is."""

from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import ProjectError
from reverse_etl.records.json_text import macros
from reverse_etl.sql.quoting import literal

MEMORY_LIMIT = "2000MB"  # DuckDB spills beyond it; the process takes some 10 % more
# It returns freed memory to the system in pieces of this size, not of 512 MB: then the process took up to 30 % more.
_FLUSHES = "SET allocator_flush_threshold = '16MB'; SET allocator_bulk_deallocation_flush_threshold = '16MB'"


def connect(spill_folder: Path | None = None, memory_limit: str | None = None) -> DuckDBPyConnection:
    """A connection in UTC with retl's functions. Without UTC, the state would depend on the machine.

    Raises ProjectError if `memory_limit` is not a size such as 512MB.
    """
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = 'UTC'; SET enable_progress_bar = false; {_FLUSHES}")
    try:
        connection.execute(f"SET memory_limit = {literal(memory_limit or MEMORY_LIMIT)}")
    except duckdb.Error as error:
        raise ProjectError(
            f'--memory-limit: "{memory_limit}" is not a valid size', hint="use a size such as 512MB or 4GB"
        ) from error
    if spill_folder:
        connection.execute(f"SET temp_directory = {literal(str(spill_folder))}")
    connection.execute(macros())
    return connection
