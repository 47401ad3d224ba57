"""What was accepted, on disk before anybody is told so: a line for each request, in segments.

    log/20261129T211500.jsonl
    {"source": "postback", "table": "opt_outs", "received_at": "2026-11-29T21:15:00.123456Z", "records":
     [{"record_id": "9f2c...", "time": 1764450000, "record": "{\"email\":\"...\"}"}, ...]}

Lines of all requests that wait are written and flushed at once, by one thread. If that fails, they are cut off again,
the segment is over, and the next lines go to a new one: what was flushed before stays as it is. Of a process that is
killed, every line of an answered request is whole; a line without its end is that of a request without an answer.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from reverse_etl.collect.contract import Record
from reverse_etl.project.collected import LOG, LOG_SUFFIX, parts_of, segment, time_of
from reverse_etl.system.clock import Clock
from reverse_etl.system.platforms import BINARY, NO_LINK, flush_file, flush_folder

MAX_SEGMENT_BYTES = 64 * 1024 * 1024
T = TypeVar("T")
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def line_of(source: str, table: str, received_at: datetime, records: Iterable[Record]) -> bytes:
    """The line of a request."""
    entry = {
        "source": source,
        "table": table,
        "received_at": received_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "records": [{"record_id": one.record_id, "time": one.time, "record": one.text} for one in records],
    }
    return _ENCODE(entry).encode() + b"\n"


def segments(folder: Path) -> list[str]:
    """The names of the segments below the collector's folder, in their order. Raises OSError."""
    with suppress(FileNotFoundError):
        return sorted(path.stem for path in (folder / LOG).iterdir() if path.suffix == LOG_SUFFIX and _is_name(path))
    return []


def last_segment(folder: Path) -> str | None:
    """The latest segment that has left anything below the collector's folder. Raises OSError."""
    kept = parts_of(path.name for path in folder.glob("*/*/*"))
    return max([*segments(folder), *(part.last for part in kept)], default=None)


def _is_name(path: Path) -> bool:
    try:
        time_of(path.stem)
    except ValueError:
        return False
    return True


class Log(Generic[T]):
    """Appends lines, and says whose are on disk. Safe to use from many threads."""

    def __init__(self, folder: Path, told: Callable[[Sequence[T], OSError | None], None], clock: Clock) -> None:
        """`told` is called in the thread of the log: those whose lines are on disk, or why none of theirs is.

        Raises OSError.
        """
        self._folder = folder / LOG
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for one in (folder, folder.absolute().parent):
            flush_folder(one)
        self._told = told
        self._clock = clock
        self._name = self._before = last_segment(folder)
        self._file: int | None = None  # the open segment
        self._size = 0  # of what is durable in it
        self._writing = threading.Lock()  # held by who uses the file
        self._waiting: list[tuple[bytes, T]] = []
        self._is_ending = False
        self._ready = threading.Condition()
        self.failure: OSError | None = None  # of the latest write
        self.writes_since_s: float | None = None  # by the monotonic clock; None while nothing is being written
        self._thread = threading.Thread(target=self._run, name="collect-log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Write what waits, then close."""
        with self._ready:
            self._is_ending = True
            self._ready.notify()
        self._thread.join()
        self.rotate()

    def append(self, line: bytes, whose: T) -> None:
        """Write a line as soon as possible; returns at once."""
        with self._ready:
            self._waiting.append((line, whose))
            self._ready.notify()

    def rotate(self) -> str | None:
        """End the open segment, if there is one; the name of the latest that is over."""
        with self._writing:
            self._end_segment()
            return self._name

    def _run(self) -> None:
        while group := self._next():
            self.writes_since_s = self._clock.now_s()
            error = self._write([line for line, _ in group])
            self.writes_since_s = None
            self._told([whose for _, whose in group], error)

    def _next(self) -> list[tuple[bytes, T]]:
        """All that waits, as soon as something does; nothing when the log ends."""
        with self._ready:
            self._ready.wait_for(lambda: self._waiting or self._is_ending)
            group, self._waiting = self._waiting, []
            return group

    def _write(self, lines: Sequence[bytes]) -> OSError | None:
        with self._writing:
            try:
                data = b"".join(lines)
                file = self._opened()
                _write_all(file, data)
                flush_file(file)
            except Exception as error:  # noqa: BLE001  # without this thread, nobody would be answered any more
                self.failure = error if isinstance(error, OSError) else OSError(0, type(error).__name__)
                self._cut_off()
                return self.failure
            self.failure = None
            self._size += len(data)
            if self._size >= MAX_SEGMENT_BYTES:
                self._end_segment()
        return None

    def _opened(self) -> int:
        while self._file is None:
            name = segment(self._clock.utc(), self._name)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | NO_LINK | BINARY
            try:
                self._file = os.open(self._folder / f"{name}{LOG_SUFFIX}", flags, 0o600)
            except FileExistsError:  # whoever wrote it has not asked us
                self._name = name
                continue
            self._before, self._name, self._size = self._name, name, 0
            flush_folder(self._folder)
        return self._file

    def _cut_off(self) -> None:
        """End the segment before what could not be written: after a failure, nobody knows what a flush would do."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            if self._size == 0:
                with suppress(OSError):
                    os.unlink(self._folder / f"{self._name}{LOG_SUFFIX}")
                    self._name = self._before  # or names would run ahead of the clock while the disk is full
        self._end_segment()

    def _end_segment(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
