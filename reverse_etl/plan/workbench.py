"""retl's own DuckDB: it stores outbox and state, renders records and commits runs, whatever the warehouse is.

A model runs in it too, if the warehouse is DuckDB. Before that, `fence` restricts it to the files that models may
read, and to the folder of its own.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import ProjectError
from reverse_etl.records.json_text import functions_used
from reverse_etl.sql import database
from reverse_etl.sql.quoting import literal

MEMORY_LIMIT = "2000MB"  # DuckDB spills beyond it; the process takes some 10 % more
PACKED_FROM = 4_000_000  # rows
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z%]+)\s*")
# It returns freed memory to the system in pieces of this size, not of 512 MB: then the process took up to 30 % more.
_FLUSHES = {"allocator_flush_threshold": "16MB", "allocator_bulk_deallocation_flush_threshold": "16MB"}


def connect(own_folder: Path | None = None, memory_limit: str | None = None) -> DuckDBPyConnection:
    """A connection in UTC. Without UTC, the state would depend on the machine.

    `own_folder` is where it keeps its databases, and what does not fit into memory. Raises ProjectError if
    `memory_limit` is not a size such as 512MB.
    """
    connection = _ahead.taken() or _new()
    settings = [f"SET temp_directory = {literal(str(own_folder / 'spill'))}"] if own_folder else []
    settings += [f"SET memory_limit = {literal(memory_limit)}"] if memory_limit else []
    settings += _allowed(folders=[str(own_folder)]) if own_folder else []
    try:
        if settings:
            connection.execute("; ".join(settings))
    except duckdb.Error as error:
        connection.close()
        raise ProjectError(
            f'--memory-limit: "{memory_limit}" is not a valid size', hint="use a size such as 512MB or 4GB", code="P073"
        ) from error
    return connection


def _new() -> DuckDBPyConnection:
    config: dict[str, Any] = {"TimeZone": "UTC", "memory_limit": MEMORY_LIMIT, **_FLUSHES}
    return database.connect(**config)


class _Ahead:
    """A connection that a thread makes before it is needed: it takes 15 ms, outside of Python's lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._made: list[DuckDBPyConnection] = []

    def begin(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._make, name="retl-connect", daemon=True)
                with suppress(RuntimeError):  # no memory for a thread: who needs it makes it
                    thread.start()
                    self._thread = thread

    def taken(self) -> DuckDBPyConnection | None:
        """What was begun; None if nothing was, or if that has failed."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None:
                return None
            thread.join()
            return self._made.pop() if self._made else None

    def _make(self) -> None:
        with suppress(duckdb.Error):  # which who needs it gets
            self._made.append(_new())


_ahead = _Ahead()


def connect_ahead() -> None:
    """Let a thread begin with the next connection, which will be needed soon."""
    _ahead.begin()


def drop_ahead() -> None:
    """Close what was begun and is not needed."""
    if connection := _ahead.taken():
        connection.close()


def part_of(memory_limit: str | None, part: float) -> str | None:
    """A part of a memory limit; what is not a size is left as it is, for `connect` to refuse."""
    size = _SIZE.fullmatch(memory_limit or MEMORY_LIMIT)
    return f"{float(size[1]) * part:g}{size[2]}" if size else memory_limit


def limit_memory(connection: DuckDBPyConnection, memory_limit: str | None) -> None:
    """Let a connection, which may be fenced, take no more than this from now on, unless more of it is in use."""
    with suppress(duckdb.Error):
        connection.execute(f"SET memory_limit = {literal(memory_limit or MEMORY_LIMIT)}")


def execute(connection: DuckDBPyConnection, sql: str, values: Mapping[str, object] | None = None) -> DuckDBPyConnection:
    """Execute a statement that may use retl's functions: it defines those. Defining all of them takes 7 ms."""
    defined = functions_used(sql)
    if defined:
        connection.execute(defined)
    return connection.execute(sql, values) if values else connection.execute(sql)


def store_packed(connection: DuckDBPyConnection, rows: int | None) -> None:
    """Store what is written from now on in a third of the bytes, if it is of many rows, or if nobody knows of how many.

    That takes 0.7 s more for a million rows, which take 13 s to send; few rows are sent sooner without.
    """
    if rows is None or rows >= PACKED_FROM:
        connection.execute("SET force_compression = 'zstd'")


def allow(connection: DuckDBPyConnection, folders: Iterable[str] = (), files: Iterable[str] = ()) -> None:
    """Let a connection read and write in folders, with all that is in them, and files, even when it is fenced."""
    if settings := _allowed(folders, files):
        connection.execute("; ".join(settings))


def _allowed(folders: Iterable[str] = (), files: Iterable[str] = ()) -> list[str]:
    listed = {"allowed_directories": folders, "allowed_paths": files}
    texts = {setting: ", ".join(map(literal, dict.fromkeys(places))) for setting, places in listed.items()}
    return [f"SET {name} = list_concat(current_setting('{name}'), [{text}])" for name, text in texts.items() if text]


def fence(connection: DuckDBPyConnection) -> None:
    """Let a connection read and write nothing but what it is allowed. No SQL can undo this, nor load an extension."""
    # Of a model, which is a SELECT, nothing is set; a run sets these while it is written, and before it waits.
    allowed = "SET allowed_configs = ['force_compression', 'memory_limit']"
    connection.execute(f"{allowed}; SET enable_external_access = false; SET lock_configuration = true")
