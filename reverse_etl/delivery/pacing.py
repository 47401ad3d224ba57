"""When the next request may start, under the windows of a rate limit. Pure: the caller brings the clock."""

from collections import deque
from collections.abc import Mapping, Sequence

from reverse_etl.braze.modes import Window
from reverse_etl.braze.rate_limit_headers import shared_wait_s

SHARE_OF_LIMIT = 0.9935  # of a limit, within any window of starts: requests arrive less evenly than they left
CATCH_UP_S = 1.0  # threads wake up late, and a 429 costs whole seconds: starts lost within this time are made up for
EVEN_WINDOW_MAX_S = 60  # windows up to here are filled evenly
BUCKETS = 60


class Pacer:
    """Paces the requests under all windows of one rate limit, for all senders that share it. Not thread-safe.

    Starts are spaced evenly under windows of up to EVEN_WINDOW_MAX_S seconds, and counted as they are made. A longer
    window may be used up as fast as the short ones allow; then requests wait until it has moved on. Times are seconds
    of any monotonic clock.

    `share` is the fraction of every window that is used, `keep_free` the one that is kept free for others: part of what
    is not used, and not used either where others have taken the rest, as far as responses say so.
    """

    def __init__(self, windows: Sequence[Window], share: float = 1.0, keep_free: float = 0.0) -> None:
        self.keeps_free = keep_free > 0
        self._keep_free, self._longest_s = keep_free, max((w.per_seconds for w in windows), default=0.0)
        short = [window for window in windows if window.per_seconds <= EVEN_WINDOW_MAX_S]
        long = [window for window in windows if window.per_seconds > EVEN_WINDOW_MAX_S]
        self._spacing_s = _spacing_s(short, share)
        self._started = [(deque[float](maxlen=_most(w, share)), w.per_seconds) for w in short]
        self._counts = [_Count(_most(w, share), w.per_seconds) for w in long]
        self._due_s: float | None = None  # when the next start would be, had none been late
        self._last_s = 0.0
        self.paused_until_s = 0.0

    def reserve(self, now_s: float) -> float:
        """Reserve the next start; returns the seconds to wait for it."""
        due_s = now_s if self._due_s is None else self._due_s
        start_s = max(now_s, due_s, self.paused_until_s, self._last_s)
        for count in self._counts:
            start_s = count.room_from_s(start_s)
        for count in self._counts:
            count.add(start_s)
        self._last_s, self._due_s = start_s, max(due_s, start_s - CATCH_UP_S) + self._spacing_s
        return start_s - now_s

    def start(self, now_s: float) -> float:
        """Start now, as reserved; returns the seconds to wait first, if too many requests have just started."""
        waits = (times[0] + per_s - now_s for times, per_s in self._started if len(times) == times.maxlen)
        wait_s = max(waits, default=0.0)
        if wait_s <= 0:
            for times, _ in self._started:
                times.append(now_s)
        return wait_s

    def pause(self, now_s: float, wait_s: float) -> None:
        """Start nothing for `wait_s` seconds, as the server demanded."""
        self.paused_until_s = max(self.paused_until_s, now_s + wait_s)

    def heed(self, now_s: float, headers: Mapping[str, str]) -> None:
        """Pause if a response says that others have left less of the window than is to be kept free.

        Starts that are lost by it are not made up for: others have had them.
        """
        wait_s = shared_wait_s(headers, self._keep_free, self._longest_s)
        if wait_s:
            self.pause(now_s, wait_s)
            self._due_s = max(self._due_s or 0.0, now_s + wait_s)

    def is_paused(self, now_s: float) -> bool:
        """Whether a pause is in effect; a start that was reserved before it has to be reserved again."""
        return now_s < self.paused_until_s


def last_start_s(requests: int, windows: Sequence[Window], share: float = 1.0) -> float:
    """When the last of so many requests starts, in seconds after the first, if a Pacer alone decides.

    Windows are filled one after another; a wider one is made of the narrower ones in it.
    """
    if requests < 1:
        return 0.0
    ordered = sorted(windows, key=lambda window: window.per_seconds)
    spacing_s = _spacing_s([window for window in ordered if window.per_seconds <= EVEN_WINDOW_MAX_S], share)
    return _start_s(requests - 1, ordered, spacing_s, share)


def _start_s(before: int, ordered: Sequence[Window], spacing_s: float, share: float) -> float:
    """When a request starts that has so many before it."""
    if not ordered:
        return before * spacing_s
    *narrower, widest = ordered
    filled, rest = divmod(before, _most(widest, share))
    is_even = widest.per_seconds <= EVEN_WINDOW_MAX_S
    cycle_s = widest.per_seconds if is_even else widest.per_seconds * (1 + 1 / BUCKETS)
    waited_s = filled * cycle_s + _start_s(rest, narrower, spacing_s, share)
    return max(waited_s, _start_s(before, narrower, spacing_s, share)) if filled else waited_s


def _spacing_s(short: Sequence[Window], share: float) -> float:
    return max((window.per_seconds / (window.requests * share) for window in short), default=0.0)


def _most(window: Window, share: float) -> int:
    return max(1, int(window.requests * share * SHARE_OF_LIMIT))


class _Count:
    """Starts within a long window, counted in BUCKETS buckets: memory does not grow with the limit.

    A bucket is dropped when all of it is a whole window old, so the limit is never exceeded.
    """

    def __init__(self, most: int, per_s: float) -> None:
        self._most, self._per_s, self._bucket_s = most, per_s, per_s / BUCKETS
        self._buckets = deque[tuple[float, int]]()  # when a bucket began, and its starts
        self._total = 0

    def room_from_s(self, start_s: float) -> float:
        """The earliest time, not before `start_s`, at which one more start is allowed."""
        while self._buckets and self._buckets[0][0] + self._bucket_s + self._per_s <= start_s:
            self._total -= self._buckets.popleft()[1]
        while self._total >= self._most:
            began_s, starts = self._buckets.popleft()
            self._total -= starts
            start_s = max(start_s, began_s + self._bucket_s + self._per_s)
        return start_s

    def add(self, start_s: float) -> None:
        if self._buckets and start_s < self._buckets[-1][0] + self._bucket_s:
            began_s, starts = self._buckets.pop()
            self._buckets.append((began_s, starts + 1))
        else:
            self._buckets.append((start_s, 1))
        self._total += 1
