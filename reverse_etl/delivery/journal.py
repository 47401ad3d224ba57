"""Requests and responses, one line each, written to disk before anything relies on them.

    {"sent": 17, "first": 1200, "last": 1274, "objects": 75, "at": 1795680000.123}   request 17 is about to be sent
    {"answered": 17, "outcome": "accepted", "at": 1795680000.456, "status": 201, "rejected": [{"seq": 1203, ...}]}
    {"answered": 18, "outcome": "in_doubt", "at": 1795680000.789, "status": 500, "why": "Braze returned 500"}
    {"untaken": [{"seq": 1207, "reason": "..."}]}                                    accepted, and read back otherwise

`seq` numbers a record in the outbox; a request contains the records from `first` to `last` that are to be sent. A
request without an "answered" line is in doubt. If the process is killed, every complete line survives. `at` is unix
time in seconds, and a rejected record has its `reason`.
"""

import errno
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from reverse_etl.system.platforms import BINARY, flush_file

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # made once: `json.dumps` makes one for each value


class Journal:
    """Appends to one file; safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY, 0o600)
        self._size = os.fstat(self._file).st_size
        self._broken: OSError | None = None
        self._lock = threading.Condition()
        self._requests = 0
        self._written = 0  # lines handed to the system
        self._durable = 0  # lines that a loss of power would leave
        self._syncing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._file)

    def sent(self, first: int, last: int, durable: bool, objects: int | None = None, at: datetime | None = None) -> int:
        """Record that a request of so many objects is about to be sent, and return its number.

        `durable` waits until the line is on disk: needed where it is not safe to send the request twice, as a power
        failure could lose the line. A killed process alone loses nothing that was written.
        """
        with self._lock:
            self._requests += 1
            request = self._requests
            of_request = f"{_member('objects', objects)}{_member('at', _seconds(at))}"
            line = self._append(f'"sent":{request},"first":{first},"last":{last}{of_request}')
        if durable:
            self._wait_for_disk(line)
        return request

    def answered(
        self,
        request: int,
        outcome: str,
        rejected: Mapping[int, str],
        why: str | None = None,
        status: int | None = None,
        at: datetime | None = None,
    ) -> None:
        """Record the outcome of a request; `rejected` are the reasons of the rejected records, by seq.

        `why` it is in doubt, if it is; `status` is that of the HTTP response, if there was one.
        """
        members = f'"answered":{request},"outcome":"{outcome}"{_member("at", _seconds(at))}{_member("status", status)}'
        if why:
            members += f',"why":{_ENCODE(why)}'
        if rejected:
            members += f',"rejected":{_listed(rejected)}'
        with self._lock:
            self._append(members)

    def untaken(self, records: Mapping[int, str]) -> None:
        """Record that Braze does not have these records, which it accepted: the reasons, by seq."""
        with self._lock:
            self._append(f'"untaken":{_listed(records)}')

    def _append(self, members: str) -> int:
        """Write a complete line, an object of JSON with these members, or none: nothing after half a line could be
        read."""
        if self._broken:
            raise self._broken
        data = f"{{{members}}}\n".encode()
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            self._broken = error
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        self._written += 1
        return self._written

    def _wait_for_disk(self, line: int) -> None:
        """One thread flushes for all threads that wait."""
        with self._lock:
            while self._durable < line:
                if self._syncing:
                    self._lock.wait()
                    continue
                self._syncing, upto = True, self._written
                self._lock.release()
                try:
                    flush_file(self._file)
                finally:
                    self._lock.acquire()
                    self._syncing = False
                    self._lock.notify_all()
                self._durable = upto


def _member(name: str, number: float | None) -> str:
    """A member of an object, after others; nothing for none. An encoder of JSON takes six times as long for a line."""
    return f',"{name}":{number}' if number else ""


def _listed(reasons: Mapping[int, str]) -> str:
    return _ENCODE([{"seq": seq, "reason": reason} for seq, reason in reasons.items()])


def _seconds(at: datetime | None) -> float | None:
    return round(at.timestamp(), 3) if at else None
