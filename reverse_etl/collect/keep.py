"""Segments of the log become Parquet files, these become larger ones, and what is old goes. No step can be half done.

    log/20261129T211500.jsonl
      ─ every minute ─> postback/opt_outs/20261129T211500-20261129T211500.parquet    of each table; the segment goes
      ─ after an hour ─> postback/opt_outs/20261129T210000-20261129T215900.parquet   the files in it go an hour later
      ─ after a day ─> postback/opt_outs/20261129T000012-20261129T235900.parquet

A file appears whole, under its name, or not at all. What is done again after a kill writes the same file again.
Segments are converted in their order, and only what is before all that is still in the log is merged: so a file never
covers records that it does not have.

Whoever removes or rewrites files holds `.maintenance`; whoever reads them holds nothing.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.collect.erasing import drop_erasings, erasings, strip
from reverse_etl.collect.log import segments
from reverse_etl.collect.parquet import UNFINISHED, connected, flush, write
from reverse_etl.project.collected import (
    GRACE,
    LOG,
    LOG_SUFFIX,
    MAINTENANCE,
    Part,
    current,
    parts_of,
    segment,
)
from reverse_etl.project.spec_collect import NAME_PATTERN
from reverse_etl.sql.quoting import literal
from reverse_etl.system.clock import Clock
from reverse_etl.system.platforms import flush_folder, lock_now, open_to_lock
from reverse_etl.system.private_files import private_files
from reverse_etl.words import count

EVERY_S = 60.0
DAMAGED_SUFFIX = ".damaged"
_HOUR, _DAY = len("20261129T21"), len("20261129")  # characters of a segment's name
_COLUMNS = """{
  source: 'VARCHAR', "table": 'VARCHAR', received_at: 'TIMESTAMPTZ',
  records: 'STRUCT(record_id VARCHAR, "time" BIGINT, record VARCHAR)[]'
}"""

KeepOf = Callable[[str, str], timedelta | None]  # how long a table of a source is kept; None: for ever


@contextmanager
def maintenance(folder: Path) -> Iterator[bool]:
    """Whether nobody else rewrites the files below `folder` during the block. Raises OSError."""
    number = open_to_lock(folder / MAINTENANCE)
    try:
        is_ours = True
        try:
            lock_now(number)
        except BlockingIOError:
            is_ours = False
        yield is_ours
    finally:
        os.close(number)


def tables(folder: Path) -> Iterator[Path]:
    """The folders of all tables that anything was ever collected for."""
    for path in sorted(folder.glob("*/*")):
        if path.parent.name != LOG and path.is_dir() and _is_name(path.name) and _is_name(path.parent.name):
            yield path


def _is_name(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(NAME_PATTERN, text) is not None


# --- segments become Parquet files -----------------------------------------------------------------------------------


def convert(folder: Path, name: str, say: Callable[[str], None]) -> None:
    """Write the records of a segment to a file of each table, then remove it. It must be over.

    Records about persons who were erased meanwhile are left out, and lines that are damaged are set aside in a file
    beside it. Raises OSError and duckdb.Error; then it is as before.
    """
    path, whom = folder / LOG / f"{name}{LOG_SUFFIX}", erasings(folder)
    with connected() as connection, _readable(connection, path, say) as lines:
        for source, table in lines.execute('SELECT DISTINCT source, "table" FROM arrived ORDER BY ALL').fetchall():
            rows = f"""
                    SELECT record.time AS time, received_at, record.record_id AS record_id, record.record AS record
                    FROM (
                        SELECT received_at, unnest(records) AS record FROM arrived
                        WHERE source = {literal(source)} AND "table" = {literal(table)}
                    )"""
            file = folder / source / table / Part(name, name).name
            write(connection, rows, file, partial(strip, whom=whom))
    path.unlink()
    flush_folder(path.parent)


@contextmanager
def _readable(connection: DuckDBPyConnection, path: Path, say: Callable[[str], None]) -> Iterator[DuckDBPyConnection]:
    """The lines of a segment as the view `arrived`."""
    clean = path.with_suffix(UNFINISHED)
    try:
        if not _can_read(connection, path):
            damaged = _copy_whole_lines(path, clean)
            if damaged:
                aside = path.with_suffix(DAMAGED_SUFFIX)
                _save(aside, b"\n".join(damaged) + b"\n")
                say(f"{count(len(damaged), 'damaged line')} of {path}: set aside in {aside.name}; the others are kept")
            connection.execute(f"CREATE OR REPLACE VIEW arrived AS {_lines(clean)}")
        yield connection
    finally:
        clean.unlink(missing_ok=True)


def _can_read(connection: DuckDBPyConnection, path: Path) -> bool:
    """Whether all lines of a segment can be read; then they are the view `arrived`."""
    connection.execute(f"CREATE OR REPLACE VIEW arrived AS {_lines(path)}")
    try:
        found = connection.execute(
            """SELECT DISTINCT source, "table", received_at IS NULL OR records IS NULL OR len(records) = 0
               OR list_bool_or([one.record_id IS NULL OR one.record IS NULL OR one.time IS NULL FOR one IN records])
               FROM arrived"""
        ).fetchall()
    except (duckdb.InvalidInputException, duckdb.ConversionException):
        return False
    return all(_is_name(source) and _is_name(table) and not is_odd for source, table, is_odd in found)


def _lines(path: Path) -> str:
    return f"SELECT * FROM read_ndjson({_file(path)}, columns = {_COLUMNS}, hive_partitioning = false)"


def _copy_whole_lines(path: Path, clean: Path) -> list[bytes]:
    """Copy the lines that are as the log writes them; the others, without a last one that has no end."""
    damaged = []
    with private_files(), path.open("rb") as lines, clean.open("wb") as kept:
        for line in lines:
            if (
                not line.endswith(b"\n") or line.isspace()
            ):  # killed while it was written; nobody was told that it is here
                continue
            if _is_whole(line):
                kept.write(line)
            else:
                damaged.append(line.rstrip(b"\n"))
    return damaged


def _is_whole(line: bytes) -> bool:
    try:
        entry: Any = json.loads(line.decode())
        records = entry["records"]
        datetime.fromisoformat(entry["received_at"])
        return (
            _is_name(entry["source"])
            and _is_name(entry["table"])
            and len(records) > 0
            and all(_types(one) == _TYPES for one in records)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


_TYPES = {"record_id": str, "time": int, "record": str}


def _types(record: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in record.items()}


# --- files become larger ones ----------------------------------------------------------------------------------------


def to_merge(parts: Sequence[Part], now: datetime, before: str | None) -> list[list[Part]]:
    """Which files become one: those of a day that is over, and those of an hour that is. Pure.

    Only what is older than the segment `before`, if there is one.
    """
    there = [part for part in current(parts) if before is None or part.last < before]
    found = []
    for length in (_DAY, _HOUR):
        over = [part for part in there if part.first[:length] == part.last[:length] < segment(now)[:length]]
        periods = sorted({part.first[:length] for part in over})
        groups = [[part for part in over if part.first[:length] == period] for period in periods]
        groups = [some for some in groups if len(some) > 1]
        found += groups
        there = [part for part in there if not any(part in some for some in groups)]
    return found


def merge(folder: Path, now: datetime) -> None:
    """Write larger files. Raises OSError and duckdb.Error; what is written by then stays."""
    before = min(segments(folder), default=None)
    for table in tables(folder):
        for group in to_merge(_parts(table), now, before):
            listed = ", ".join(_file(table / part.name) for part in group)
            with connected() as connection:
                files = f"read_parquet([{listed}], hive_partitioning = false)"
                rows = f"SELECT time, received_at, record_id, record FROM {files}"
                write(connection, rows, table / Part(group[0].first, group[-1].last).name)


# --- what is old goes ------------------------------------------------------------------------------------------------


def drop(folder: Path, now: datetime, keep_of: KeepOf) -> None:
    """Remove what is superseded, what is older than it is kept, and what was left unfinished. Raises OSError."""
    for table in tables(folder):
        parts = _parts(table)
        there, keep = current(parts), keep_of(table.parent.name, table.name)
        for part in parts:
            covers = [other for other in there if other.covers(part)]
            is_superseded = any(_age(table / other.name, now) > GRACE for other in covers)
            if is_superseded or part.is_over(now - GRACE, keep):
                (table / part.name).unlink(missing_ok=True)
        for unfinished in table.glob(f".*{UNFINISHED}"):
            unfinished.unlink(missing_ok=True)
    for unfinished in (folder / LOG).glob(f"*{UNFINISHED}"):
        unfinished.unlink(missing_ok=True)
    keep = keep_of("", "")  # of a table that is not declared
    for aside in (folder / LOG).glob(f"*{DAMAGED_SUFFIX}"):
        if keep is not None and _age(aside, now) > keep:
            aside.unlink(missing_ok=True)


def _parts(table: Path) -> list[Part]:
    return parts_of(path.name for path in table.iterdir())


def _age(path: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(path.stat().st_mtime, now.tzinfo)


# --- files -----------------------------------------------------------------------------------------------------------


def _save(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    with private_files():
        unfinished.write_bytes(data)
    flush(unfinished)
    os.replace(unfinished, path)
    flush_folder(path.parent)


def _file(path: Path) -> str:
    """A path in SQL, where DuckDB would take some characters for patterns."""
    return literal(re.sub(r"[\[*?]", r"[\g<0>]", str(path.absolute())))


# --- every minute ----------------------------------------------------------------------------------------------------


class Keeper:
    """Does all of this every minute, in a thread of its own, and at the end once more."""

    def __init__(
        self,
        folder: Path,
        rotate: Callable[[], str | None],
        keep_of: KeepOf,
        clock: Clock,
        say: Callable[[str], None],
        also: Iterable[Callable[[], None]] = (),
    ) -> None:
        """`rotate` ends the segment that is written, and names the latest that is over; `also` is done every minute."""
        self._folder, self._rotate, self._keep_of = folder, rotate, keep_of
        self._clock, self._say, self._also = clock, say, tuple(also)
        self._told: str | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collect-keep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def keep(self) -> None:
        """What is done every minute. What cannot be done is told once, and tried again the next time."""
        told = None
        try:
            with maintenance(self._folder) as is_ours:
                if is_ours:
                    self._work()
        except Exception as error:  # noqa: BLE001  # whatever it is, the log goes on
            told = f"cannot write Parquet files: {reason(error)}; the log has all records, and it is tried every minute"
        if told and told != self._told:
            self._say(told)
        if self._told and not told:
            self._say("Parquet files are written again")
        self._told = told

    def _work(self) -> None:
        over = self._rotate()
        for name in segments(self._folder):
            if over is not None and name <= over:
                convert(self._folder, name, self._say)
        now = self._clock.utc()
        drop(self._folder, now, self._keep_of)  # first: a full disk needs room
        merge(self._folder, now)
        drop_erasings(self._folder, now)

    def _run(self) -> None:
        self.keep()  # what the one before has left
        while not self._end.wait(EVERY_S):
            self.keep()
            for action in self._also:
                action()


def reason(error: Exception) -> str:
    """Why, without what DuckDB quotes: it may be a value."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = re.search(r"No space left on device|File too large|Permission denied|Read-only file system", str(error))
    return found[0] if found else type(error).__name__
