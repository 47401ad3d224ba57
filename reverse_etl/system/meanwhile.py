"""What a command does while it waits for something else."""

import threading
from collections.abc import Callable
from contextlib import suppress


class Meanwhile:
    """Work that nobody waits for yet: a thread does it from `begin` on, or `finish`, if it has not begun by then."""

    def __init__(self, work: Callable[[], None], delay_s: float = 0.0) -> None:
        self._work, self._delay_s = work, delay_s
        self._lock, self._is_wanted = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._is_begun = False
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Let a thread begin after the delay. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._begin_later, name="retl-meanwhile", daemon=True)
            with suppress(RuntimeError):  # no memory for a thread: `finish` does it
                self._thread.start()

    def finish(self) -> None:
        """Return when it is done. Raises what it has raised."""
        self._is_wanted.set()
        if self._claims():
            self._work()
        elif self._thread:
            self._thread.join()
            if self._error is not None:
                raise self._error

    def _begin_later(self) -> None:
        if not self._is_wanted.wait(self._delay_s) and self._claims():
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001  (a bug: who waits for the work gets it)
                self._error = error

    def _claims(self) -> bool:
        with self._lock:
            is_first, self._is_begun = not self._is_begun, True
        return is_first
