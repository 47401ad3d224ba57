"""Reads states that nobody has open, one after the other, in one DuckDB: to start it takes longer than to read a state.

A state that needs more than that, such as the recovery of a killed run, is opened by whoever asks: see `opening.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.plan.tables import STATE
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql import database
from reverse_etl.sql.quoting import literal
from reverse_etl.state.contents import meta_of
from reverse_etl.state.erasing import SEEN
from reverse_etl.state.erasures import erasures_of
from reverse_etl.state.file import FORMAT, explain_disk_errors
from reverse_etl.state.older import beside, refuse_older
from reverse_etl.system.file_lock import at_work

_LEFT_BEHIND = ("outbox.duckdb", "state.duckdb.wal")  # by a process that was killed


class Glances:
    """One DuckDB, its `connection`, for states that are read one after the other. `meta` is what is known of the
    present one, by name."""

    connection: DuckDBPyConnection
    meta: Mapping[str, str]

    def __enter__(self) -> Self:
        self.connection = database.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.connection.close()

    @contextmanager
    def at(self, place: StatePlace) -> Iterator[DuckDBPyConnection | None]:
        """A connection to which the state is attached, read-only, inside the block; None if it has to be opened.

        Raises StateError if it is older than what is beside it, or if the block comes upon damage: a file may be whole
        as far as it has been read until then.
        """
        if not _may_be_read(place):
            yield None
            return
        connection, there = self.connection, beside(place)
        try:
            connection.execute(f"ATTACH {literal(str(place.state))} AS {STATE} (READ_ONLY)")
        except duckdb.Error:  # somebody has begun to use it, or it is damaged
            yield None
            return
        try:
            with explain_disk_errors(place):
                is_ready = self._is_up_to_date(place)
                if is_ready:
                    refuse_older(connection, place, there)
                yield connection if is_ready else None
        finally:
            with suppress(duckdb.Error):  # it is damaged
                connection.execute(f"DETACH {STATE}")

    def _is_up_to_date(self, place: StatePlace) -> bool:
        """Whether to open the state would change nothing of it."""
        try:
            self.meta = meta = meta_of(self.connection)
        except duckdb.Error:
            return False
        is_ours = (meta.get("format"), meta.get("sync"), meta.get("target")) == (str(FORMAT), place.sync, place.target)
        return is_ours and meta.get(SEEN, "") == erasures_of(place).version


def _may_be_read(place: StatePlace) -> bool:
    """Whether a state is on this machine alone, whole, and not in use."""
    if place.objects is not None or not place.state.exists() or place.state.is_symlink():
        return False
    is_left = any((place.folder / name).exists() for name in _LEFT_BEHIND)
    return not is_left and at_work(place.lock, place.sync, place.target) is None
