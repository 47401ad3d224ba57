"""Time: the clock of a run, and waiting until another process lets go. Tests bring a clock that does not wait."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from reverse_etl.errors import BusyError

LOOK_EVERY_S = 0.5
T = TypeVar("T")


class Clock:
    """Time that only goes forward, in seconds, and the time of day, which machines share."""

    def now_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def wait(self, wait_s: float, stop: threading.Event) -> None:
        """Wait so long, or until `stop` is set."""
        stop.wait(wait_s)


def when_free(attempt: Callable[[], T], wait_s: float, clock: Clock, say: Callable[[str], None]) -> T:
    """What `attempt` returns, tried again while it raises BusyError, for `wait_s` seconds at most.

    `say` is told once what is waited for. Raises the last BusyError when the time is up.
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
