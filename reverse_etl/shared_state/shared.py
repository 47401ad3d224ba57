"""The state of a sync that several machines share: its lock, the local copy, and what a lost machine had sent.

    <state.path>/<target>/<sync>/
      head.json                             see `head.py`
      state-<generation>-<random>.duckdb.gz     the base of the state, see `log.py`
      log-<generation>-<random>.gz              what was added to it
      run-<token>/outbox.duckdb.gz          a run that is sending, or could not be committed:
      run-<token>/journal-000001.jsonl ...  see `journal_shipping.py`
      before-reset-<time>.json              the head of a state that was reset
      before-lost-<time>.json               the names of what was left of one, if its head was lost

    .retl/<target>/<sync>/copy.json     what the files next to it (see `state.py`) are a copy of; see `local_copy.py`

`SharedState` is what an open `State` uses: `announce` before the first request, `move` when a run has ended.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reverse_etl.errors import StateError
from reverse_etl.shared_state.garbage import delete_garbage
from reverse_etl.shared_state.head import HEAD, Content, Moved, RunInFlight
from reverse_etl.shared_state.journal_shipping import ShippedJournal, fetch_journal, segment_name
from reverse_etl.shared_state.local_copy import UNFINISHED, CopyFiles, LocalCopy, Position
from reverse_etl.shared_state.lock import HeadLock
from reverse_etl.shared_state.log import Log, Piece, crc_of, is_long
from reverse_etl.shared_state.names import is_moved_here, kept_head
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.reading import catch_up, drop_log, fetch_state, is_at, position_of

LOCAL_RUN = ("journal.jsonl", "outbox.duckdb", "outbox.duckdb.wal")  # in the order in which they are deleted


class SharedState:
    """The state of one sync in a store, locked by this process. Created by `acquired`."""

    def __init__(self, place: StatePlace, objects: ObjectStore, clock: Callable[[], datetime]) -> None:
        self.objects, self.folder, self.notes = objects, place.folder, list[str]()
        self.files = CopyFiles(place.folder)
        self._token, self._token_before = secrets.token_hex(8), self.files.copy.token
        self.lock = HeadLock(place, objects, clock, self._token)
        self._journal: ShippedJournal | None = None
        self._end: str | None = None  # the segment that keeps an overtaken machine from sending

    @property
    def url(self) -> str:
        return self.objects.url

    def take(self, to_reset: bool = False) -> None:
        """Acquire the lock. See `HeadLock.take`."""
        self.lock.take(self._token_before, to_reset)
        self.files.save(replace(self.files.copy, token=self._token))

    def let_go(self) -> None:
        """Release the lock, if this process still holds it."""
        self.lock.let_go(self._journal is not None and self._journal.is_whole)

    # --- the local copy ----------------------------------------------------------------------------------------------

    def bring_copy(self) -> None:
        """Make the local files match the head: its state, and a run that is to be recovered."""
        head, copy = self.lock.head, self.files.copy
        self._refuse_newer_log()
        for name in UNFINISHED:
            self._path(name).unlink(missing_ok=True)
        is_our_run = bool(
            head.sending and copy.run_token == head.sending.token and self._path("journal.jsonl").exists()
        )
        if copy.url not in (None, self.url):
            self._refuse_another_place()
            if copy.is_changed and self.files.state.exists():
                self.notes.append(f"changes that were not uploaded to {copy.url} are kept in {self._put_aside()}")
            copy = LocalCopy(copy.url, "of another place", token=self._token)
        elif copy.url is None and self.files.state.exists():
            copy = self._take_up(copy)
        self.files.copy = copy
        is_right = is_at(head, self.files)
        if head.sending and not is_our_run:
            self._drop_local_run(said=not is_right)
            if copy.is_changed or not is_right:
                self._fetch_state()
            self._fetch_run(head.sending)
        elif not is_right:
            if not is_our_run:
                self._drop_local_run(said=True)
            self._fetch_state(copy.run_token if is_our_run else None)
        else:
            if not copy.is_changed and head.state:
                self.files.cut_log(head.log.size)  # a command that changed nothing that counts, or was killed
            self.files.save(replace(copy, url=self.url))

    def _refuse_newer_log(self) -> None:
        """DuckDB reads what an older version wrote, and not the reverse."""
        theirs, ours = self.lock.head.duckdb, version("duckdb")
        if _numbers(theirs) > _numbers(ours):
            what = f"the state at {self.url} was written with DuckDB {theirs}; this machine has {ours}"
            raise StateError(what, hint=f'upgrade it: `pip install "duckdb>={theirs}"`', code="S033")

    def _take_up(self, copy: LocalCopy) -> LocalCopy:
        """A local state from before it was shared: it becomes the initial state of the store, or a backup."""
        if self.lock.head.generation == 0 and self.lock.head.sending is None:
            self.notes.append(f"the state in this folder becomes the initial state at {self.url}")
            return replace(copy, is_changed=True)
        self.notes.append(f"{self.url} already has a state; the one in this folder is kept in {self._put_aside()}")
        return replace(copy, base="aside")

    def _put_aside(self) -> Path:
        aside = self._path(f"before-sharing-{self.lock.now():%Y%m%dT%H%M%S}.duckdb")
        if self.files.log.exists():
            self.files.log.rename(aside.with_name(f"{aside.name}.wal"))
        self.files.state.rename(aside)
        return aside

    def _refuse_another_place(self) -> None:
        copy = self.files.copy
        if self.lock.head.generation == 0 and copy.base:
            what = f"{self.url} is empty, but {self.folder} is a copy of {copy.url}"
            hint = f"copy the objects there, or set state.path back to that of {copy.url}"
            raise StateError(what, hint=hint, code="S025")

    def _drop_local_run(self, said: bool) -> None:
        """Drop a run of this machine that has been recovered since, by another machine or by this one."""
        head, before = self.lock.head, self._token_before
        by_us = bool(before and (before in head.revision or (head.state and before in head.state.name)))
        if said and not by_us and self._path("journal.jsonl").exists():
            self.notes.append(
                "another machine recovered a run that was cut off here; "
                "responses that only this machine saw are ignored"
            )
        for name in LOCAL_RUN:
            self._path(name).unlink(missing_ok=True)

    def _fetch_state(self, run_token: str | None = None) -> None:
        head, files = self.lock.head, self.files
        is_same_base = head.state is not None and files.copy.base == head.state.name
        if not (is_same_base and catch_up(self.objects, head, files)):
            fetch_state(self.objects, head, files.state)
        base = head.state.name if head.state else None
        files.save(LocalCopy(self.url, base, False, self._token, run_token), position_of(head, files))

    def _fetch_run(self, sending: RunInFlight) -> None:
        self.objects.download(sending.outbox, self._path("outbox.duckdb"))
        path = self._path("journal.jsonl")
        self._end = fetch_journal(self.objects, sending.folder, sending.is_whole, path)

    def _path(self, name: str) -> Path:
        return self.folder / name

    # --- a run -------------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[Mapping[str, Any], ...]:
        """Runs that an older retl noted in the head, and that are not recorded in the state."""
        return self.lock.head.runs

    @property
    def is_behind(self) -> bool:
        """Whether the local files have changes that the store does not have."""
        return self.files.copy.is_changed

    @property
    def is_sending(self) -> bool:
        return self.lock.head.sending is not None

    def will_change(self) -> None:
        """Record that the local state is about to change, in case this process is killed before the upload."""
        if not self.files.copy.is_changed:
            self.files.save(replace(self.files.copy, is_changed=True))

    def announce(self, run_id: str, outbox: Path) -> None:
        """Upload the outbox, and record in the head that its records may be sent from now on."""
        stored = self.objects.upload(f"run-{self._token}/outbox.duckdb.gz", outbox)
        sending = RunInFlight(token=self._token, run_id=run_id, outbox=stored)
        self.files.save(replace(self.files.copy, run_token=self._token))
        self.lock.move(lambda head: head.announcing(sending))

    def journal(self, path: Path) -> ShippedJournal:
        """The journal of the run that was announced."""
        self._journal = ShippedJournal(path, self.objects, f"run-{self._token}", self.lock.may_send)
        return self._journal

    def next_revision(self) -> str:
        """What the state is to contain when it is uploaded next."""
        return f"{self._token}-{secrets.token_hex(4)}"

    def needs_base(self) -> bool:
        """Whether the state must be uploaded as a whole, after its log was merged into it: as there is no base yet, as
        it is none any more, or as the log is long."""
        base, files = self.lock.head.state, self.files
        if base is None or base.unpacked is None or files.copy.base != base.name or not files.is_base():
            return True
        if self.lock.head.duckdb not in ("", version("duckdb")):  # no log is of two versions
            return True
        log, size = self.lock.head.log, files.log_size()
        if is_moved_here(base.name):  # once it has changed, nobody takes what was moved for the state any more
            return True
        return size < log.size or is_long(log, size, base)

    def move(self, content: Content, is_last: bool = False) -> None:
        """Upload the local state as the next generation: what was added to the log; or all of it, if it `needs_base`.
        No run is left to recover then. The lock is released, too, if this `is_last`.

        Raises OvertakenError, and changes nothing, if another machine has taken over the lock. What was uploaded stays
        then: should that machine have seen it, it goes on from there.
        """
        self.lock.refuse_overtaken()
        old, needs_base = self.lock.head, self.needs_base()
        name = f"{old.generation + 1}-{self._token}-{secrets.token_hex(2)}"
        state, log = old.state, Log()
        if needs_base or self.lock.head.log.next_piece()[1]:
            self.delete_garbage()  # now and then
        if needs_base:
            state = self.objects.upload(f"state-{name}.duckdb.gz", self.files.state)
        else:
            log = self._next_log(f"log-{name}.gz")
        new = {stored.name for stored in (state, *log.objects()) if stored}
        retl, now = version("reverse-etl"), self.lock.now()
        change = self.lock.move_and_let_go if is_last else self.lock.move
        change(
            lambda head: head.moved_to(state, now, retl, log, content), lambda head: head.revision == content.revision
        )
        before = {stored.name for stored in old.objects()}
        base = state.name if state else None
        copy = LocalCopy(self.url, base, False, self._token, None)
        self.files.save(copy, Position(base, log.size, log.crc, self.files.stamp()))
        self._clear([*(before - new), *self._objects_of(old.sending)])

    def _next_log(self, name: str) -> Log:
        files, log = self.files, self.lock.head.log
        size = files.log_size()
        crc = crc_of(files.log_bytes(log.size, size), log.crc)
        with_tail = log.with_tail(files.log_bytes(log.tail_start, size), size, crc)
        if with_tail:
            return with_tail
        start, level = log.next_piece()
        stored = self.objects.upload(name, files.log, start)
        return log.with_piece(Piece(stored=stored, start=start, end=size, level=level), crc)

    def settle(self) -> None:
        """Record that no run is left to recover, as nothing was sent."""
        old = self.lock.head.sending
        if old:
            self.lock.move(lambda head: head.settled())
            self._clear(self._objects_of(old))

    def hand_over(self, moved: Moved) -> None:
        """Leave the mark that the state is that of another name now, and delete what is here."""
        old = self.lock.head
        self.lock.move(lambda head: head.moved_away(moved), is_done=lambda head: head.moved == moved)
        self.files.save(LocalCopy(self.url, None, False, self._token, None))
        self._clear([stored.name for stored in old.objects()])

    def reset(self) -> str | None:
        """Reset the state in the store; returns the address of the head of the old one, or of a list of what is left of
        it, if that is lost."""
        old, now = self.lock.head, self.lock.now()
        kept = kept_head(now) if old.state else None
        if kept:
            self.objects.write(kept, old.model_copy(update={"holder": None, "sending": None}).to_json())
        content = Content(revision=self.next_revision())
        self.lock.move(lambda head: head.moved_to(None, now, version("reverse-etl"), Log(), content))
        self._path("copy.json").unlink(missing_ok=True)
        drop_log(self.files.state)
        self._clear([*([old.before.name] if old.before else []), *self._objects_of(old.sending)])
        kept = kept or self.lock.kept
        return f"{self.url}/{kept}" if kept else None

    def older(self) -> list[str]:
        """Addresses of states and runs in the store other than the current state and its ledger."""
        present = {HEAD, *(stored.name for stored in self.lock.head.objects())}
        names = [name for name in self.objects.names() if name not in present and not name.startswith("ledger/")]
        return [f"{self.url}/{name}" for name in names if "journal-" not in name]

    def delete_garbage(self) -> None:
        """Delete what killed runs have left in the store."""
        delete_garbage(self.lock)

    def _objects_of(self, sending: RunInFlight | None) -> list[str]:
        if sending is None:
            return []
        if self._journal and sending.token == self._token:
            return [sending.outbox.name, *self._journal.objects()]
        with suppress(StateError):
            names = [name for name in self.objects.names() if name.startswith(f"{sending.folder}/")]
            return [name for name in names if name != self._end]
        return [sending.outbox.name, segment_name(sending.folder, 1)]

    def _clear(self, names: Iterable[str]) -> None:
        """Delete objects; one that is left behind does no harm, as nothing refers to it."""
        with suppress(StateError):
            self.objects.delete(names)


def _numbers(of_version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", of_version)[:3]]


@contextmanager
def acquired(
    place: StatePlace, objects: ObjectStore, clock: Callable[[], datetime], to_reset: bool = False
) -> Iterator[SharedState]:
    """A shared state, with its lock held inside the block. Raises BusyError if another machine holds it, and StateError
    if it was moved to another name, or its head is lost, unless it is acquired `to_reset` it."""
    shared = SharedState(place, objects, clock)
    try:
        shared.take(to_reset)
        yield shared
    finally:
        shared.let_go()
