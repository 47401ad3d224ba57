"""The state of a sync that several machines share: its lock, the local copy, and what a lost machine had sent.

    <state.path>/<target>/<sync>/
      head.json                         see `head.py`
      state-<generation>-<random>.duckdb    the state; the previous one is kept too
      run-<token>/outbox.duckdb             a run that is sending, or could not be committed:
      run-<token>/journal-000001.jsonl ...  see `journal_shipping.py`

    .retl/<target>/<sync>/copy.json     what the files next to it (see `state.py`) are a copy of

`SharedState` is what an open `State` uses: `announce` before the first request, `move` when a run has ended.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reverse_etl.errors import BusyError, StateError
from reverse_etl.shared_state.head import (
    KEPT_RUNS,
    LEASE,
    Head,
    Holder,
    Moved,
    RunInFlight,
    in_the_way,
    may_go_on,
    new_holder,
    read_head,
)
from reverse_etl.shared_state.journal_shipping import ShippedJournal, fetch_journal, segment_name
from reverse_etl.shared_state.object_store import ObjectStore, Version
from reverse_etl.shared_state.place import StatePlace, was_moved
from reverse_etl.system.file_lock import WAIT

HEAD = "head.json"
RENEW_EVERY_S = 20.0
RETRY_EVERY_S = 2.0
LOCAL_RUN = ("journal.jsonl", "outbox.duckdb", "outbox.duckdb.wal")  # in the order in which they are deleted


class OvertakenError(StateError):
    """Another machine took over the lock or updated the state: the local copy is outdated."""


@dataclass(frozen=True)
class LocalCopy:
    """What the local files are: a copy of the state object `base` under `url`, with local changes if `is_changed`.

    `token` is that of the last command on this machine, `run_token` that of the last one that announced a run.
    """

    url: str | None = None
    base: str | None = None
    is_changed: bool = False
    token: str | None = None
    run_token: str | None = None


class SharedState:
    """The state of one sync in a store, locked by this process. Created by `acquired`."""

    def __init__(
        self, place: StatePlace, objects: ObjectStore, clock: Callable[[], datetime], may_be_moved: bool = False
    ) -> None:
        self.objects, self.folder = objects, place.folder
        self.dead_owner: str | None = None
        self.notes: list[str] = []
        self._place, self._sync, self._target, self._now = place, place.sync, place.target, clock
        self._may_be_moved = may_be_moved
        self._copy = _read_copy(place.folder)
        self._token, self._token_before = secrets.token_hex(8), self._copy.token
        self._turn = threading.RLock()
        self._head = Head(sync=place.sync, target=place.target)
        self._version: Version | None = None
        self._lost: str | None = None
        self._is_overtaken = False
        self._on_lost: Callable[[str, str], None] | None = None
        self._over = threading.Event()
        self._beating: threading.Thread | None = None
        self._journal: ShippedJournal | None = None
        self._end: str | None = None  # the segment that keeps an overtaken machine from sending

    @property
    def url(self) -> str:
        return self.objects.url

    # --- the lock ----------------------------------------------------------------------------------------------------

    def take(self) -> None:
        """Acquire the lock. Raises BusyError, which identifies its holder."""
        for _ in range(5):
            self._look()
            if self._version is None:
                self.objects.check(f"check-{self._token}")
            if self._head.moved and not self._may_be_moved:
                raise was_moved(self._place, self._head.moved.sync, self._head.moved.target)
            host, before = socket.gethostname(), self._head.holder
            # This process holds the lock of the folder, so a command that used it before has ended.
            dead_token = self._copy.token if before and before.host == host else None
            holder = in_the_way(self._head, self._now(), dead_token)
            if holder:
                raise self._busy(holder)
            self.dead_owner = str(before) if before else None
            mine = new_holder(self._token, host, os.getpid(), self._now())
            if self._swap(self._head.held_by(mine)):
                self._save_copy(replace(self._copy, token=self._token))
                self._beating = threading.Thread(target=self._beat, name="retl-state-lock", daemon=True)
                self._beating.start()
                return
        raise self._busy(self._head.holder)

    def let_go(self) -> None:
        """Release the lock, if this process still holds it. If the store cannot be reached, the lock expires."""
        self._over.set()
        if self._beating:
            self._beating.join()
        is_whole = self._journal is not None and self._journal.is_whole
        holder = self._head.holder
        if holder and holder.token == self._token and not self._is_overtaken:
            with suppress(StateError):
                self._move(lambda head: head.released(is_whole))

    def _busy(self, holder: Holder | None) -> BusyError:
        who = f": {holder}; its lock expires in {self._seconds_left(holder):,.0f} s unless renewed" if holder else ""
        what = f'sync "{self._sync}" on target "{self._target}" is already running{who}'
        return BusyError(what, hint=WAIT, code="B001")

    def _seconds_left(self, holder: Holder) -> float:
        return max(0.0, (holder.until - self._now()).total_seconds())

    def _look(self) -> None:
        self._head, self._version = look(self.objects) or (Head(sync=self._sync, target=self._target), None)
        if (self._head.sync, self._head.target) != (self._sync, self._target):
            what = f'{self.url} belongs to sync "{self._head.sync}" on target "{self._head.target}"'
            raise StateError(what, hint="use a separate state.path for each project", code="S008")

    def _swap(self, head: Head) -> bool:
        data = head.to_json()
        swapped = self.objects.swap(HEAD, data, self._version) if self._version else self.objects.create(HEAD, data)
        if swapped:
            self._head, self._version = head, swapped
        return swapped is not None

    def _move(self, change: Callable[[Head], Head], is_done: Callable[[Head], bool] = lambda head: False) -> None:
        """Change the head, unless it `is_done`. Raises OvertakenError if another machine has taken over the lock.

        A write that seemed to have failed may have been stored: then the head has changed, but the lock is still held.
        """
        with self._turn:
            while not self._is_overtaken:
                if is_done(self._head) or self._swap(change(self._head)):
                    return
                found = look(self.objects)
                if found and found[0].holder and found[0].holder.token == self._token:
                    self._head, self._version = found
                else:
                    self._is_overtaken = True
            raise self._overtaken()

    def _overtaken(self) -> OvertakenError:
        by = None
        with suppress(StateError):
            found = look(self.objects)
            by = found[0].holder if found else None
        what = f"another machine took over the state at {self.url}{f': {by}' if by else ''}"
        hint = "it knows what was sent from here, up to the last few seconds; see docs/state.md"
        return OvertakenError(what, hint=hint, code="S023")

    def _beat(self) -> None:
        """Keep renewing the lock, until it is released or lost."""
        renewed_s, wait_s = time.monotonic(), RENEW_EVERY_S
        while not self._over.wait(wait_s):
            began_s = time.monotonic()
            try:
                self._move(lambda head: head.renewed(self._now()))
                renewed_s, wait_s = began_s, RENEW_EVERY_S
            except OvertakenError as error:
                self._lose(error)
                return
            except StateError as error:
                wait_s = RETRY_EVERY_S
                if time.monotonic() - renewed_s > LEASE.total_seconds() - RENEW_EVERY_S or not self._is_in_time():
                    self._lose(error)
                    return

    def _lose(self, error: StateError) -> None:
        problem = error.problems[0]
        with self._turn:
            first, self._lost = self._lost is None, self._lost or problem.message
        if first and self._on_lost:
            self._on_lost(f"lost the state lock: {problem.message}", problem.hint or "")

    def _is_in_time(self) -> bool:
        holder = self._head.holder
        return holder is not None and may_go_on(holder, self._now())

    def may_send(self) -> bool:
        """Whether the lock is held, as far as known without asking the store: it may expire while a machine sleeps."""
        return self._lost is None and self._is_in_time()

    @contextmanager
    def stopping(self, stop: Callable[[str, str], None]) -> Iterator[None]:
        """Inside the block, `stop` is called once if the lock is lost."""
        self._on_lost = stop
        if self._lost:
            stop(f"lost the state lock: {self._lost}", "")
        try:
            yield
        finally:
            self._on_lost = None

    # --- the local copy ----------------------------------------------------------------------------------------------

    def bring_copy(self) -> None:
        """Make the local files match the head: its state, and a run that is to be recovered."""
        head, copy = self._head, self._copy
        is_our_run = bool(
            head.sending and copy.run_token == head.sending.token and self._path("journal.jsonl").exists()
        )
        if copy.url not in (None, self.url):
            self._refuse_another_place()
            if copy.is_changed and self._path("state.duckdb").exists():
                self.notes.append(f"changes that were not uploaded to {copy.url} are kept in {self._put_aside()}")
            copy = LocalCopy(copy.url, "of another place", token=self._token)
        elif copy.url is None and self._path("state.duckdb").exists():
            copy = self._take_up(copy)
        is_right = copy.base == (head.state.name if head.state else None)
        is_right = is_right and (head.state is None or self._path("state.duckdb").exists())
        if head.sending and not is_our_run:
            self._drop_local_run(said=not is_right)
            if copy.is_changed or not is_right:
                self._fetch_state()
            self._fetch_run(head.sending)
        elif not is_right:
            self._drop_local_run(said=True)
            self._fetch_state()
        else:
            self._save_copy(replace(copy, url=self.url))

    def _take_up(self, copy: LocalCopy) -> LocalCopy:
        """A local state from before it was shared: it becomes the initial state of the store, or a backup."""
        if self._head.generation == 0 and self._head.sending is None:
            self.notes.append(f"the state in this folder becomes the initial state at {self.url}")
            return replace(copy, is_changed=True)
        self.notes.append(f"{self.url} already has a state; the one in this folder is kept in {self._put_aside()}")
        return replace(copy, base="aside")

    def _put_aside(self) -> Path:
        aside = self._path(f"before-sharing-{self._now():%Y%m%dT%H%M%S}.duckdb")
        self._path("state.duckdb").rename(aside)
        return aside

    def _refuse_another_place(self) -> None:
        if self._head.generation == 0 and self._copy.base:
            what = f"{self.url} is empty, but {self.folder} is a copy of {self._copy.url}"
            hint = f"copy the objects there, or set state.path back to that of {self._copy.url}"
            raise StateError(what, hint=hint, code="S025")

    def _drop_local_run(self, said: bool) -> None:
        """Drop a run of this machine that has been recovered since, by another machine or by this one."""
        state = self._head.state
        by_us = bool(state and self._token_before and self._token_before in state.name)
        if said and not by_us and self._path("journal.jsonl").exists():
            self.notes.append(
                "another machine recovered a run that was cut off here; "
                "responses that only this machine saw are ignored"
            )
        for name in LOCAL_RUN:
            self._path(name).unlink(missing_ok=True)

    def _fetch_state(self) -> None:
        head, path = self._head, self._path("state.duckdb")
        self._path("state.duckdb.wal").unlink(missing_ok=True)
        if head.state:
            self.objects.download(head.state, path)
        else:
            path.unlink(missing_ok=True)
        base = head.state.name if head.state else None
        self._save_copy(LocalCopy(self.url, base, False, self._token, None))

    def _fetch_run(self, sending: RunInFlight) -> None:
        self.objects.download(sending.outbox, self._path("outbox.duckdb"))
        path = self._path("journal.jsonl")
        self._end = fetch_journal(self.objects, sending.folder, sending.is_whole, path)

    def _path(self, name: str) -> Path:
        return self.folder / name

    def _save_copy(self, copy: LocalCopy) -> None:
        unfinished = self._path("copy.json.part")
        unfinished.write_text(json.dumps(asdict(copy)))
        unfinished.replace(self._path("copy.json"))
        self._copy = copy

    # --- a run -------------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[Mapping[str, Any], ...]:
        """Runs that changed nothing, and are not recorded in the state."""
        return self._head.runs

    @property
    def is_behind(self) -> bool:
        """Whether the local files have changes that the store does not have."""
        return self._copy.is_changed

    @property
    def is_sending(self) -> bool:
        return self._head.sending is not None

    def will_change(self) -> None:
        """Record that the local state is about to change, in case this process is killed before the upload."""
        if not self._copy.is_changed:
            self._save_copy(replace(self._copy, is_changed=True))

    def announce(self, run_id: str, outbox: Path) -> None:
        """Upload the outbox, and record in the head that its records may be sent from now on."""
        sending = RunInFlight(
            token=self._token, run_id=run_id, outbox=self.objects.upload(f"run-{self._token}/outbox.duckdb", outbox)
        )
        self._save_copy(replace(self._copy, run_token=self._token))
        self._move(lambda head: head.announcing(sending))

    def journal(self, path: Path) -> ShippedJournal:
        """The journal of the run that was announced."""
        self._journal = ShippedJournal(path, self.objects, f"run-{self._token}", self.may_send)
        return self._journal

    def move(self, state: Path, keep_before: bool = True, users: int | None = None) -> None:
        """Upload the local state, which knows so many users, as the next generation; no run is left to recover then.

        Raises OvertakenError, and changes nothing, if another machine has taken over the lock.
        """
        old = self._head
        name = f"state-{old.generation + 1}-{self._token}-{secrets.token_hex(2)}.duckdb"
        stored = self.objects.upload(name, state).model_copy(update={"users": users})
        try:
            retl = version("reverse-etl")
            self._move(
                lambda head: head.moved_to(stored, self._now(), retl, keep_before),
                is_done=lambda head: head.state == stored,
            )
        except OvertakenError:
            self._clear([name])
            raise
        self._save_copy(LocalCopy(self.url, name, False, self._token, None))
        gone = [old.before, None if keep_before else old.state]
        self._clear([*(stored.name for stored in gone if stored), *self._objects_of(old.sending)])

    def note_run(self, run: dict[str, Any]) -> bool:
        """Record a run that changed nothing in the head only; False if it contains too many of them already."""
        if len(self._head.runs) >= KEPT_RUNS or self._head.state is None:
            return False
        old = self._head.sending
        self._move(lambda head: head.with_run(run))
        self._save_copy(replace(self._copy, is_changed=False))
        self._clear(self._objects_of(old))
        return True

    def settle(self) -> None:
        """Record that no run is left to recover, as nothing was sent."""
        old = self._head.sending
        if old:
            self._move(lambda head: head.settled())
            self._clear(self._objects_of(old))

    def hand_over(self, moved: Moved) -> None:
        """Leave the mark that the state is that of another name now, and delete what is here."""
        old = self._head
        self._move(lambda head: head.moved_away(moved), is_done=lambda head: head.moved == moved)
        self._save_copy(LocalCopy(self.url, None, False, self._token, None))
        self._clear([stored.name for stored in (old.state, old.before) if stored])

    def reset(self) -> str | None:
        """Reset the state in the store; returns the address of the old one."""
        old = self._head
        self._move(lambda head: head.moved_to(None, self._now(), version("reverse-etl"), keep_before=False))
        self._path("copy.json").unlink(missing_ok=True)
        self._clear([*([old.before.name] if old.before else []), *self._objects_of(old.sending)])
        return f"{self.url}/{old.state.name}" if old.state else None

    def older(self) -> list[str]:
        """Addresses of states and runs in the store other than the current state."""
        present = {HEAD, self._head.state.name if self._head.state else HEAD}
        names = [name for name in self.objects.names() if name not in present]
        return [f"{self.url}/{name}" for name in names if "journal-" not in name]

    def _objects_of(self, sending: RunInFlight | None) -> list[str]:
        if sending is None:
            return []
        with suppress(StateError):
            names = [name for name in self.objects.names() if name.startswith(f"{sending.folder}/")]
            return [name for name in names if name != self._end]
        return [sending.outbox.name, segment_name(sending.folder, 1)]

    def _clear(self, names: list[str]) -> None:
        """Delete objects; one that is left behind does no harm, as nothing refers to it."""
        with suppress(StateError):
            self.objects.delete(names)


def look(objects: ObjectStore) -> tuple[Head, Version] | None:
    """The current head; None if there is none."""
    found = objects.read(HEAD)
    if found is None:
        return None
    data, seen = found
    try:
        return read_head(data), seen
    except ValueError as error:
        hint = "restore an older version of that object; docs/state.md says what to do if there is none"
        raise StateError(f"{objects.url}/{HEAD} {error}", hint=hint, code="S021") from error


def bring_for_reading(place: StatePlace, objects: ObjectStore, into: Path) -> Path:
    """A file with the state as the store has it, without its lock: the local copy, if it is that, or else `into`, where
    it is downloaded. There is no such file if the store has no state."""
    found = look(objects)
    stored, copy = found[0].state if found else None, _read_copy(place.folder)
    if stored is None:
        return into
    if (copy.url, copy.base, copy.is_changed) == (objects.url, stored.name, False) and place.state.exists():
        return place.state
    objects.download(stored, into)
    return into


@contextmanager
def acquired(
    place: StatePlace, objects: ObjectStore, clock: Callable[[], datetime], may_be_moved: bool = False
) -> Iterator[SharedState]:
    """A shared state, with its lock held inside the block. Raises BusyError if another machine holds it, and StateError
    if it was moved to another name, unless it `may_be_moved`."""
    shared = SharedState(place, objects, clock, may_be_moved)
    try:
        shared.take()
        yield shared
    finally:
        shared.let_go()


def _read_copy(folder: Path) -> LocalCopy:
    try:
        return LocalCopy(**json.loads((folder / "copy.json").read_text()))
    except FileNotFoundError:
        return LocalCopy()
    except (ValueError, TypeError) as error:
        hint = f"move {folder} elsewhere: it is a copy, and will be downloaded again"
        raise StateError(f"{folder / 'copy.json'} is damaged", hint=hint, code="S025") from error


def refuse_copy(folder: Path) -> None:
    """Raises StateError if the folder is a copy of a shared state, which may be outdated."""
    copy = _read_copy(folder)
    if copy.base:
        what = f"{folder} is a copy of the state at {copy.url}, but the target no longer sets state.path"
        unused = f"if nobody else uses that state, delete {folder / 'copy.json'} to continue from the copy"
        hint = f"set state.path again; or, {unused}"
        raise StateError(what, hint=hint, code="S025")
