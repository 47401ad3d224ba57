"""Uploads the journal of a run while it grows, so that another machine can recover the run if this one is lost.

    run-<token>/journal-000001.jsonl      {"reserved": 4999}
    run-<token>/journal-000002.jsonl      lines of the journal, then {"reserved": 15000}
    ...

Other machines do not know what is sent after the last segment. So a record is sent only if an earlier segment has
announced that it may be (`reserved`). A machine that takes over treats the records up to there without a response as
possibly received; those after it were not sent. It also writes the next segment itself (`taken_over`), which ends the
journal for every writer: a machine that only seemed to be lost can upload no more segments, and so sends nothing more.
"""

import errno
import json
import threading
from collections.abc import Callable
from datetime import datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from reverse_etl.delivery.journal import Journal
from reverse_etl.errors import StateError
from reverse_etl.shared_state.object_store import ObjectStore

EVERY_S = 2.0  # at most this much of the responses is lost with a machine
TAKEN_OVER = b'{"taken_over":true}\n'
AHEAD = 5_000  # at least this many records may be sent beyond those already sent


class ShippedJournal(Journal):
    """A journal whose lines are uploaded soon after. `is_whole`: at its end, all of them are in the store."""

    def __init__(self, path: Path, objects: ObjectStore, folder: str, may_send: Callable[[], bool]) -> None:
        super().__init__(path)
        self.is_whole = False
        self._objects, self._folder, self._may_send = objects, folder, may_send
        self._turn = threading.Condition()
        self._segment = 1
        self._unsure: tuple[bytes, int, int, int] | None = None  # a segment that may or may not be in the store
        self._read = 0  # bytes of the journal that are in the store
        self._reserved = -1
        self._highest = -1  # the last record that was sent, or waits to be
        self._highest_before = -1
        self._done = self._is_taken_over = False
        self._thread = threading.Thread(target=self._run, name="retl-journal-relay", daemon=True)
        self._thread.start()

    def sent(self, first: int, last: int, durable: bool, objects: int | None = None, at: datetime | None = None) -> int:
        """As in `Journal`; waits until the store has recorded that these records may be sent."""
        with self._turn:
            self._highest = max(self._highest, last)
            if self._highest + self._window() // 2 > self._reserved:
                self._turn.notify_all()
            while last > self._reserved and self._may_go_on():
                self._turn.wait(0.1)
        if not self._may_go_on():
            why = "another machine took over" if self._is_taken_over else "the state lock expired"
            raise OSError(errno.ETIME, why)
        return super().sent(first, last, durable, objects, at)

    def objects(self) -> list[str]:
        """The names of its segments, with one that may not be in the store."""
        return [segment_name(self._folder, number) for number in range(1, self._segment + 1)]

    def _may_go_on(self) -> bool:
        return self._may_send() and not self._is_taken_over

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._turn:
            self._done = True
            self._turn.notify_all()
        self._thread.join()
        super().__exit__(kind, error, tb)

    def _run(self) -> None:
        while True:
            with self._turn:
                wants_more = self._highest + self._window() // 2 > self._reserved
                if not self._done and not wants_more:
                    self._turn.wait(EVERY_S)
                done = self._done
            try:
                self._bring(reserve=not done)
                if done:
                    self._bring(reserve=False)  # the upload before may have been a repeated one
            except (StateError, OSError):  # if it lasts, the thread that renews the lock reports it
                if done or self._is_taken_over:
                    return
                with self._turn:
                    self._turn.wait(1)
                continue
            if done:
                self.is_whole = True
                return

    def _bring(self, reserve: bool) -> None:
        """Upload what is new as one segment. A failed upload is repeated unchanged: it may have been stored."""
        segment, read, upto, highest = self._unsure or self._next(reserve)
        if not segment:
            return
        self._unsure = segment, read, upto, highest
        if self._objects.create(segment_name(self._folder, self._segment), segment) is None:
            self._is_taken_over = True
            raise StateError("another machine took over the run", code="S023")
        with self._turn:
            self._unsure = None
            self._segment += 1
            self._read, self._reserved, self._highest_before = read, upto, highest
            self._turn.notify_all()

    def _next(self, reserve: bool) -> tuple[bytes, int, int, int]:
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        with self._turn:
            highest = self._highest
            upto = max(self._reserved, highest + self._window() if reserve else -1)
        reservation = json.dumps({"reserved": upto}).encode() + b"\n" if upto > self._reserved else b""
        return data + reservation, self._read + len(data), upto, highest

    def _window(self) -> int:
        """How far ahead to reserve: twice the records that were sent since the last segment."""
        return max(AHEAD, 2 * (self._highest - self._highest_before))


def segment_name(folder: str, number: int) -> str:
    return f"{folder}/journal-{number:06}.jsonl"


def fetch_journal(objects: ObjectStore, folder: str, is_whole: bool, path: Path) -> str:
    """Write the journal of a run to `path` as it is in the store, and end it there; returns the last segment's name.

    Unless it is whole, a last line marks all reserved records as sent without a response; those that have a response
    keep it (`outcomes.sql`). That line has the number 0, as it is not a request.
    """
    reserved, name = -1, ""
    with path.open("wb") as file:
        for number in count(1):
            name = segment_name(folder, number)
            segment = _read_or_end(objects, name)
            if segment == TAKEN_OVER:
                break
            for line in segment.splitlines(keepends=True):
                if line.startswith(b'{"reserved"'):
                    reserved = _reserved(line)
                else:
                    file.write(line)
        if reserved >= 0 and not is_whole:
            file.write(json.dumps({"sent": 0, "first": 0, "last": reserved}).encode() + b"\n")
    return name


def _read_or_end(objects: ObjectStore, name: str) -> bytes:
    """A segment; if it does not exist, it is created as the one that ends the journal."""
    while True:
        found = objects.read(name)
        if found:
            return found[0]
        if objects.create(name, TAKEN_OVER):
            return TAKEN_OVER


def _reserved(line: bytes) -> int:
    entry: dict[str, Any] = json.loads(line)
    return int(entry["reserved"])
