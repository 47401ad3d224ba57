"""SIGINT (Ctrl-C) and SIGTERM: the first waits for the requests in flight, the second ends the process at once.

In both cases nothing is lost: requests and responses are in the journal, and the next run recovers them.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from reverse_etl.delivery.sender import Sender
from reverse_etl.system.signals import SIGNALS, is_swallowed


class Interrupted(BaseException):  # like KeyboardInterrupt, which it replaces
    """A signal arrived while no requests were being sent: there is nothing to wait for."""


class Interrupts:
    """Handles the signals of the process inside `taken`; `signal` is the one that arrived, or 0."""

    def __init__(self) -> None:
        self.signal = 0
        self.before_exit: Callable[[], None] = lambda: None  # what a second signal still waits for
        self._taken = 0
        self._sender: Sender | None = None

    @property
    def exit_code(self) -> int:
        return 128 + self.signal

    @contextmanager
    def taken(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        except RuntimeError as error:
            if self.signal and is_swallowed(error):
                raise Interrupted from None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def stopping(self, sender: Sender) -> Iterator[None]:
        """Inside the block, a first signal stops `sender` instead of ending the command."""
        self._sender = sender
        try:
            yield
        finally:
            self._sender = None

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._taken += 1  # a signal may arrive while another is being handled
        if self._taken > 1:
            self.before_exit()
            os._exit(128 + number)
        self.signal = number
        if self._sender is None:
            raise Interrupted
        self._sender.interrupt()
