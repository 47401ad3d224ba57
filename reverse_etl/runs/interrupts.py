"""Ctrl-C and SIGTERM: the first lets what is in flight come to an end, the second ends the process at once.

Neither loses anything: what was sent and answered is in the journal, and the next run folds it in.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from reverse_etl.delivery.sender import Sender
from reverse_etl.system.signals import SIGNALS, is_swallowed


class Interrupted(BaseException):  # as KeyboardInterrupt, whose place it takes
    """A signal came while nothing was being sent; there is nothing to bring to an end."""


class Interrupts:
    """Takes the signals of the process while it is entered; `signal` is the one that came, or 0."""

    def __init__(self) -> None:
        self.signal = 0
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
        """While this is entered, a first signal stops `sender` instead of ending the command."""
        self._sender = sender
        try:
            yield
        finally:
            self._sender = None

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._taken += 1  # one signal may come in the middle of the handling of another
        if self._taken > 1:
            os._exit(128 + number)
        self.signal = number
        if self._sender is None:
            raise Interrupted
        self._sender.interrupt()
