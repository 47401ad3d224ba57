"""What a sender waits for while nothing moves, for those who show progress; what goes well is noted nowhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reverse_etl.braze.answers import Verdict
from reverse_etl.delivery.pacing import Pacer

NOTED_FROM_S = 1.0  # shorter waits are noted nowhere
UNANSWERED_FROM_S = 5.0  # Braze answers within one second


@dataclass(frozen=True)
class Waiting:
    """`retried` requests have failed and are not done yet, the last one as `why` and `status` say (0: no response).

    `next_s`: seconds until the next attempt, or, if none has failed, until the rate limit allows a request; None while
    there is nothing to wait for. `unanswered` requests are in flight, the first since `unanswered_s`; the next one of
    them times out in `timeout_s`.
    """

    retried: int = 0
    why: str = ""
    status: int = 0
    next_s: float | None = None
    unanswered: int = 0
    unanswered_s: float = 0.0
    timeout_s: float = 0.0


class Waits:
    """Which threads have a request that failed, and until when they wait. Each notes its own; any may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[int, Verdict] = {}
        self._until: dict[int, tuple[float, Pacer]] = {}

    def failed(self, verdict: Verdict) -> None:
        """The request of this thread has failed, and is retried."""
        with self._lock:
            self._failed.pop(threading.get_ident(), None)
            self._failed[threading.get_ident()] = verdict  # the last of all is at the end

    def done(self) -> None:
        """The request of this thread is not retried any more, if it was."""
        if not self._failed:
            return
        with self._lock:
            self._failed.pop(threading.get_ident(), None)

    @contextmanager
    def until(self, until_s: float, pacer: Pacer) -> Iterator[None]:
        """Inside the block, this thread waits until then, and as long as this pacer is paused."""
        with self._lock:
            self._until[threading.get_ident()] = until_s, pacer
        try:
            yield
        finally:
            with self._lock:
                del self._until[threading.get_ident()]

    def now(self, now_s: float, unanswered: tuple[int, float, float]) -> Waiting | None:
        """What is waited for; None if there is nothing. `unanswered`: see `Waiting`."""
        with self._lock:
            verdicts = list(self._failed.values())
            until = {who: max(until_s, pacer.paused_until_s) for who, (until_s, pacer) in self._until.items()}
            of_failed = [until_s for who, until_s in until.items() if who in self._failed]
        why, status = (verdicts[-1].why, verdicts[-1].status) if verdicts else ("", 0)
        next_s = min(of_failed if verdicts else until.values(), default=None)
        if not verdicts and next_s is None and not unanswered[0]:
            return None
        left_s = None if next_s is None else max(0.0, next_s - now_s)
        return Waiting(len(verdicts), why, status, left_s, *unanswered)
