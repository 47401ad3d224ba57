"""The clock of a run, and waiting until another process releases a lock. Tests bring a clock that does not wait."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from reverse_etl.errors import BusyError

LOOK_EVERY_S = 0.5
T = TypeVar("T")


class Clock:
    """Monotonic time in seconds, for intervals, and UTC, which machines share."""

    def now_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def wait(self, wait_s: float, stop: threading.Event) -> None:
        """Wait `wait_s` seconds, or until `stop` is set."""
        stop.wait(wait_s)


def when_free(attempt: Callable[[], T], wait_s: float, clock: Clock, say: Callable[[str], None]) -> T:
    """The result of `attempt`, which is retried while it raises BusyError, for at most `wait_s` seconds.

    `say` is called once, with what it waits for. Raises the last BusyError when the time is up.
    """
    until_s, has_said = clock.now_s() + wait_s, False
    while True:
        try:
            return attempt()
        except BusyError as error:
            left_s = until_s - clock.now_s()
            if left_s <= 0:
                raise
            if not has_said:
                say(f"waiting up to {wait_s:g} s: {error.problems[0].message}")
                has_said = True
            clock.wait(min(LOOK_EVERY_S, left_s), threading.Event())
