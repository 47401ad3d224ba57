"""Parquet files: each appears whole, under its name, or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from duckdb import DuckDBPyConnection

from reverse_etl.sql.database import connect
from reverse_etl.sql.quoting import literal
from reverse_etl.system.platforms import BINARY, flush_folder
from reverse_etl.system.private_files import private_files

# Of the collector, whose memory shall not grow with what it keeps: a row group is written as soon as it is that large.
UNFINISHED = ".unfinished"
_MEMORY, _ROW_GROUP = "256MB", "8MB"


@contextmanager
def connected() -> Iterator[DuckDBPyConnection]:
    with connect(threads=1, memory_limit=_MEMORY, temp_directory="") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def write(
    connection: DuckDBPyConnection, rows: str, path: Path, before: Callable[[Path], object] | None = None
) -> None:
    """Write rows to a Parquet file, whole or not at all. Raises OSError and duckdb.Error.

    `before` is called with the file that is about to get this name.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    with private_files():
        for folder in (path.parent.parent, path.parent):
            if not folder.exists():
                folder.mkdir()
                flush_folder(folder.parent)
        try:
            how = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '{_ROW_GROUP}', USE_TMP_FILE false"
            connection.execute(f"COPY ({rows}) TO {literal(str(unfinished.absolute()))} ({how})")
            if before:
                before(unfinished)
            flush(unfinished)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    flush_folder(path.parent)


def flush(path: Path) -> None:
    number = os.open(path, os.O_RDWR | BINARY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
