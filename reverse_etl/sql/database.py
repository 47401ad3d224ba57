"""DuckDB's databases, opened so that nothing is downloaded that was not asked for.

By itself DuckDB finds out what kind of database a file is, and downloads the extension that reads it.
"""

from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

CONFIG: dict[str, Any] = {"autoinstall_known_extensions": False}


def connect(path: Path | None = None, read_only: bool = False, **config: Any) -> DuckDBPyConnection:
    """A connection to a DuckDB file, which is created if it does not exist, or to memory. Raises duckdb.Error."""
    name = ":memory:" if path is None else str(path.absolute())  # never the address of a service, such as md:name
    connection = duckdb.connect(name, read_only=read_only, config={**CONFIG, **config})
    connection.execute("SET enable_progress_bar = false")  # which DuckDB prints in a notebook, and with python -c
    return connection


def detach_whole(connection: DuckDBPyConnection, name: str) -> None:
    """Detach a database whose file is used without its log: DuckDB may have been told not to merge them by itself."""
    connection.execute(f"CHECKPOINT {name}; DETACH {name}")
