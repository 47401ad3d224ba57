"""What the headers of a response say about a rate limit: how long to wait. Pure.

They are never trusted beyond waiting: what is missing, malformed or absurd changes nothing, and every wait is bounded.
"""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

MIN_WAIT_S, MAX_WAIT_S = 0.05, 60.0
_MOST_DIGITS = 9  # of a number of requests
_EPOCH = 1e9  # an X-RateLimit-Reset above this is a point in time, below it a number of seconds


def throttled_wait_s(headers: Mapping[str, str]) -> float:
    """Seconds to wait after a 429, within MIN_WAIT_S and MAX_WAIT_S.

    The first valid one of Retry-After, X-RateLimit-Retry-After and X-RateLimit-Reset counts (api_limits); a point in
    time is measured from the response's own Date, as clocks of two machines differ. `headers` have lower-case names.
    """
    for name in ("retry-after", "x-ratelimit-retry-after", "x-ratelimit-reset"):
        wait_s = _seconds(headers.get(name), headers.get("date"))
        if wait_s is not None:
            return min(MAX_WAIT_S, max(MIN_WAIT_S, wait_s))
    return 1.0


def exhausted_wait_s(headers: Mapping[str, str]) -> float:
    """Seconds for which no request may start because nothing remains of the window; 0 if something does.

    The headers count whole seconds, so the window may open up to one second earlier than they say. That is much of a
    window of seconds, and little of a window of minutes.
    """
    if headers.get("x-ratelimit-remaining", "").strip() != "0":
        return 0.0
    wait_s = throttled_wait_s(headers)
    return wait_s if wait_s > 3 else max(0.0, wait_s - 1)


def shared_wait_s(headers: Mapping[str, str], keep_free: float, most_s: float) -> float:
    """Seconds for which no request may start because less than the fraction `keep_free` remains of the window; 0 if
    more does. At most `most_s`, the length of the longest window that is known, or MAX_WAIT_S if that is longer.

    Rounded up to the window's end: the headers count whole seconds, and what remains until then is for others.
    """
    remaining, limit = (_requests(headers.get(f"x-ratelimit-{name}")) for name in ("remaining", "limit"))
    if remaining is None or limit is None or not remaining < keep_free * limit:
        return 0.0
    wait_s = _seconds(headers.get("x-ratelimit-reset"), headers.get("date"))
    return 0.0 if wait_s is None else min(max(most_s, MAX_WAIT_S), max(0.0, wait_s))


def _requests(value: str | None) -> int | None:
    """A number of requests; None if it is missing, or more than any contract has."""
    return int(value) if value and len(value) <= _MOST_DIGITS and value.isascii() and value.isdigit() else None


def _seconds(value: str | None, date: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return _until(value, date)
    if number != number or number < 0:
        return None
    if number < _EPOCH:
        return number
    now = _moment(date)
    return number - now if now is not None else None


def _until(value: str, date: str | None) -> float | None:
    """Retry-After may be an HTTP date."""
    then, now = _moment(value), _moment(date)
    return then - now if then is not None and now is not None else None


def _moment(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError, OSError, TypeError):  # OverflowError: a year that no calendar has
        return None
