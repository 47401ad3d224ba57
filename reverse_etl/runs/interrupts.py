"""SIGINT (Ctrl-C), SIGTERM and SIGHUP: the first waits for the requests in flight, the second ends the process at once.

In both cases nothing is lost: requests and responses are in the journal, and the next run recovers them.

Python handles signals in the main thread: it plans syncs, and other threads send them. A first signal stops all
senders, and ends a plan that is being made.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from reverse_etl.delivery.sender import Sender
from reverse_etl.system.signals import SIGNALS, is_swallowed


class Interrupted(BaseException):  # like KeyboardInterrupt, which it replaces
    """A signal arrived while nothing was under way that has to be waited for, or while a sync was being planned."""


def _is_of_nohup(number: int) -> bool:
    """Whether it is to stay ignored. SIGINT is taken, which shells ignore in what they start in the background."""
    return number not in (signal.SIGINT, signal.SIGTERM) and signal.getsignal(number) == signal.SIG_IGN


class Interrupts:
    """Handles the signals of the process inside `taken`; `signal` is the one that arrived, or 0.

    `under_way` is how many syncs are being sent or committed in other threads.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.under_way = 0
        self.before_exit: Callable[[], None] = lambda: None  # what a second signal still waits for
        self.last_words: Callable[[Sequence[str]], None] = lambda syncs: None  # says what it leaves of those it stops
        self._taken = 0
        self._has_raised = False
        self._planning = False
        self._senders: dict[str, Sender] = {}  # by the names of the syncs

    @property
    def exit_code(self) -> int:
        return 128 + self.signal

    @contextmanager
    def taken(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._take) for number in SIGNALS if not _is_of_nohup(number)}
        try:
            with self._unswallowed():
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Inside the block, a signal raises Interrupted, whatever is under way elsewhere."""
        try:
            with self._unswallowed():
                self._planning = True
                yield
        finally:
            self._planning = self._has_raised = False

    @contextmanager
    def stopping(self, sync: str, sender: Sender) -> Iterator[None]:
        """Inside the block, a signal stops `sender`; so does one that has arrived before."""
        self._senders[sync] = sender
        try:
            if self.signal:
                sender.interrupt()
            yield
        finally:
            del self._senders[sync]

    def stop(self) -> None:
        """Stop all senders, as a signal would."""
        for sender in list(self._senders.values()):
            sender.interrupt()

    @contextmanager
    def _unswallowed(self) -> Iterator[None]:
        """Raises Interrupted where something on the way has made another error of it. DuckDB does, and it calls Python
        to read the rows of a warehouse: the handler may run inside."""
        try:
            yield
        except Exception as error:
            if self._has_raised or (self.signal and is_swallowed(error)):
                raise Interrupted from None
            raise

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._taken += 1  # a signal may arrive while another is being handled
        if self._taken > 1:
            self.before_exit()
            self.last_words(list(self._senders))
            os._exit(128 + number)
        self.signal = number
        self.stop()
        if self._planning or not self.under_way:
            self._has_raised = True
            raise Interrupted
