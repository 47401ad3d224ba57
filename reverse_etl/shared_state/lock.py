"""The lock of a shared state: part of its head, so that who has lost it can change nothing of the head either."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from reverse_etl.errors import AtWorkError, StateError
from reverse_etl.shared_state.head import HEAD, LEASE, Head, Holder, in_the_way, may_go_on, new_holder
from reverse_etl.shared_state.names import as_list, kept_list
from reverse_etl.shared_state.object_store import ObjectStore, Version
from reverse_etl.shared_state.place import StatePlace, was_moved
from reverse_etl.shared_state.reading import left_of, look, lost_head
from reverse_etl.system.file_lock import wait_for

RENEW_EVERY_S = 20.0
RETRY_EVERY_S = 2.0


class OvertakenError(StateError):
    """Another machine took over the lock or updated the state: the local copy is outdated."""


class HeadLock:
    """The head of one shared state, which this process alone may change while it holds the lock, as holder `token`."""

    def __init__(self, place: StatePlace, objects: ObjectStore, clock: Callable[[], datetime], token: str) -> None:
        self.objects, self.token, self.now = objects, token, clock
        self.dead_owner: str | None = None
        self.kept: str | None = None
        self.head = Head(sync=place.sync, target=place.target)
        self._place = place
        self._turn = threading.RLock()
        self._version: Version | None = None
        self._lost: str | None = None
        self._is_overtaken = False
        self._on_lost: Callable[[str, str], None] | None = None
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    def take(self, last_token: str | None, to_reset: bool = False) -> None:
        """Acquire the lock. `last_token` was that of the last command on this machine. Raises AtWorkError, which
        identifies the holder, and StateError if the state was moved, or its head is lost, unless it is taken `to_reset`
        the state: then what is left of a lost one is `kept`, in a list of that name."""
        for _ in range(5):
            self._look()
            if self._version is None:
                self._heed_lost(to_reset)
                self.objects.check(f"check-{self.token}")
            if self.head.moved and not to_reset:
                raise was_moved(self._place, self.head.moved.sync, self.head.moved.target)
            host, before = socket.gethostname(), self.head.holder
            # This process holds the lock of the folder, so a command that used it before has ended.
            dead_token = last_token if before and before.host == host else None
            holder = in_the_way(self.head, self.now(), dead_token)
            if holder:
                raise self._busy(holder)
            self.dead_owner = str(before) if before else None
            if self._swap(self.head.held_by(new_holder(self.token, host, os.getpid(), self.now()))):
                self._beating = threading.Thread(target=self._beat, name="retl-state-lock", daemon=True)
                self._beating.start()
                return
        raise self._busy(self.head.holder)

    def let_go(self, is_whole: bool) -> None:
        """Release the lock, if this process still holds it. If the store cannot be reached, the lock expires."""
        self._stop_beating()
        holder = self.head.holder
        if holder and holder.token == self.token and not self._is_overtaken:
            with suppress(StateError):
                self.move(lambda head: head.released(is_whole))

    def move(self, change: Callable[[Head], Head], is_done: Callable[[Head], bool] = lambda head: False) -> None:
        """Change the head, unless it `is_done`. Raises OvertakenError if another machine has taken over the lock.

        A write that seemed to have failed may have been stored: then the head has changed, but the lock is still held.
        """
        with self._turn:
            while not self._is_overtaken:
                assert self.head.holder, "the lock was released before"
                if is_done(self.head) or self._swap(change(self.head)):
                    return
                found = look(self.objects)
                if found and found[0].holder and found[0].holder.token == self.token:
                    self.head, self._version = found
                else:
                    self._is_overtaken = True
            raise self._overtaken()

    def move_and_let_go(self, change: Callable[[Head], Head], is_done: Callable[[Head], bool]) -> None:
        """Change the head for the last time, and release the lock, in one write."""
        self._stop_beating()
        try:
            self.move(lambda head: change(head).released(False), lambda head: is_done(head) and head.holder is None)
        except OvertakenError:
            found = look(self.objects)
            if found is None or not is_done(found[0]):
                raise
            self.head, self._version = found  # a write that seemed to have failed had released it

    def refuse_overtaken(self) -> None:
        """Raises OvertakenError if another machine is known to have taken over the lock: what follows is in vain."""
        if self._is_overtaken:
            raise self._overtaken()

    def _busy(self, holder: Holder | None) -> AtWorkError:
        who = f": {holder}; its lock expires in {self._seconds_left(holder):,.0f} s unless renewed" if holder else ""
        what = f'sync "{self._place.sync}" on target "{self._place.target}" is already running{who}'
        return AtWorkError(what, hint=wait_for(self._place.sync), code="B001")

    def _seconds_left(self, holder: Holder) -> float:
        return max(0.0, (holder.until - self.now()).total_seconds())

    def _look(self) -> None:
        sync, target = self._place.sync, self._place.target
        self.head, self._version = look(self.objects) or (Head(sync=sync, target=target), None)
        if (self.head.sync, self.head.target) != (sync, target):
            what = f'{self.objects.url} belongs to sync "{self.head.sync}" on target "{self.head.target}"'
            raise StateError(what, hint="use a separate state.path for each project", code="S008")

    def _heed_lost(self, to_reset: bool) -> None:
        left = left_of(self.objects)
        if left and not to_reset:
            raise lost_head(self._place, self.objects)
        if left:
            self.kept = kept_list(self.now())
            self.objects.write(self.kept, as_list(left))

    def _swap(self, head: Head) -> bool:
        data = head.to_json()
        swapped = self.objects.swap(HEAD, data, self._version) if self._version else self.objects.create(HEAD, data)
        if swapped:
            self.head, self._version = head, swapped
        return swapped is not None

    def _overtaken(self) -> OvertakenError:
        by = None
        with suppress(StateError):
            found = look(self.objects)
            by = found[0].holder if found else None
        what = f"another machine took over the state at {self.objects.url}{f': {by}' if by else ''}"
        hint = "it knows what was sent from here, up to the last few seconds; see docs/state.md"
        return OvertakenError(what, hint=hint, code="S023")

    # --- while it is held --------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Keep renewing the lock, until it is released or lost."""
        renewed_s, wait_s = time.monotonic(), RENEW_EVERY_S
        while not self._over.wait(wait_s):
            began_s = time.monotonic()
            try:
                self.move(lambda head: head.renewed(self.now()))
                renewed_s, wait_s = began_s, RENEW_EVERY_S
            except OvertakenError as error:
                self.lose(error)
                return
            except StateError as error:
                wait_s = RETRY_EVERY_S
                if time.monotonic() - renewed_s > LEASE.total_seconds() - RENEW_EVERY_S or not self._is_in_time():
                    self.lose(error)
                    return

    def _stop_beating(self) -> None:
        self._over.set()
        if self._beating:
            self._beating.join()

    def lose(self, error: StateError) -> None:
        """Record that the lock is lost, and stop who wanted to know."""
        problem = error.problems[0]
        with self._turn:
            first, self._lost = self._lost is None, self._lost or problem.message
        if first and self._on_lost:
            self._on_lost(f"lost the state lock: {problem.message}", problem.hint or "")

    def _is_in_time(self) -> bool:
        holder = self.head.holder
        return holder is not None and may_go_on(holder, self.now())

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
