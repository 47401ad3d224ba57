"""Rate limits: fixed windows, shared by families of endpoints. Pure: counts and a time in, a verdict out.

Windows are fixed, not rolling, and start at multiples of their length (limits, rec21; for 3 seconds derived).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Windows = Sequence[tuple[int, float]]  # (requests, seconds), all of them apply

Contract = Literal["data points", "mau"]  # what /users/track is limited by: requests, or monthly active users

EXPORT, LIGHT_EXPORT = "users_export_ids", "users_export_ids_light"
DEFAULTS: Mapping[str, Windows] = {
    "users_track": [(3000, 3.0)],  # contracts with data points (limits, track)
    "users": [(20_000, 60.0)],  # alias/new, alias/update, identify, merge, delete: one pool (limits)
    "external_ids_rename": [(1000, 60.0)],  # (limits)
    "external_ids_remove": [(1000, 60.0)],
    "subscription_status_set": [(5000, 60.0)],  # v1 and v2 together (limits-old)
    EXPORT: [(250, 60.0)],  # onboarded from 2024-08-22 (limits)
    LIGHT_EXPORT: [(40, 1.0)],  # ... with fields_to_export and without messages received (limits)
    "general": [(250_000, 3600.0)],  # (limits)
    "names": [(1000, 3600.0)],  # of attributes, events and products: one pool (getattr-live)
    "catalogs": [(50, 60.0)],  # create, list, delete (limits)
    "catalog_fields": [(50, 60.0)],  # (limits)
    "catalog_items": [(16_000, 60.0)],  # many at once (limits)
    "catalog_item": [(50, 60.0)],  # one by one, and lists (limits)
}


BY_USERS: Mapping[str, Windows] = {  # contracts by monthly active users: an hourly limit with a burst (limits, track)
    "users_track": [(250_000, 3600.0), (3000, 3.0)]  # how many is in the contract: these are a guess
}
OLDER_EXPORTS: Mapping[str, Windows] = {EXPORT: [(2500, 60.0)]}  # of customers from before 2024-08-22 (limits)


def from_texts(texts: Sequence[str]) -> dict[str, Windows]:
    """`users_track=1000/60` is 1,000 requests in 60 s, `users_track=none` no limit; of one name, all apply.

    Raises ValueError with a message for the user.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for text in texts:
        family, _, window = text.partition("=")
        match = re.fullmatch(r"([0-9]+)/([0-9]+(?:\.[0-9]+)?)", window)
        if not match and window != "none":
            raise ValueError(f"{text!r} must have the form NAME=REQUESTS/SECONDS or NAME=none")
        found.setdefault(family, []).extend([(int(match[1]), float(match[2]))] if match else [])
    table(found)  # knows the families, and what a window may be
    return dict(found)


def others_from_texts(texts: Sequence[str]) -> dict[str, float]:
    """`users_track=300/3` is what others use of a limit: 300 requests in 3 s, evenly. As requests per second.

    Raises ValueError with a message for the user.
    """
    found = dict[str, float]()
    for family, windows in from_texts(texts).items():
        if len(windows) != 1:
            raise ValueError(f"{family!r} must be given once, as {family}=REQUESTS/SECONDS")
        ((requests, seconds),) = windows
        found[family] = requests / seconds
    return found


@dataclass(frozen=True)
class Used:
    """How many requests a window has seen, and when it began (unix seconds)."""

    start: float
    requests: int


@dataclass(frozen=True)
class Verdict:
    """Whether a request may pass, the counts after it, and the headers of the response."""

    allowed: bool
    used: tuple[Used, ...]
    headers: Mapping[str, str]


def table(overrides: Mapping[str, Windows] | None, contract: Contract = "data points") -> dict[str, Windows]:
    """The limits of every family; `users_export_ids` on its own applies to all exports."""
    chosen = dict(overrides or {})
    _check_names(chosen)
    for name, windows in chosen.items():
        if any(limit < 0 or seconds <= 0 for limit, seconds in windows):
            raise ValueError(f"rate limit {name!r}: requests must not be negative, and seconds must be positive")
    limits = {**DEFAULTS, **(BY_USERS if contract == "mau" else {}), **chosen}
    if EXPORT in chosen and LIGHT_EXPORT not in chosen:
        del limits[LIGHT_EXPORT]  # light exports then count with the others
    return limits


def rates(others: Mapping[str, float]) -> dict[str, float]:
    """Requests per second of others, by family."""
    _check_names(others)
    if any(rate < 0 for rate in others.values()):
        raise ValueError("requests per second of others must not be negative")
    return dict(others)


def _check_names(families: Iterable[str]) -> None:
    if unknown := sorted(set(families) - set(DEFAULTS)):
        raise ValueError(f"unknown rate limit {unknown[0]!r}; expected one of {', '.join(sorted(DEFAULTS))}")


def take(
    windows: Windows, used: Sequence[Used], now: float, cost: int = 1, *, others: float = 0.0, is_mau: bool = False
) -> Verdict:
    """Count a request in every window, or in none if one of them is full (429s are not counted: a guess).

    `used` is the last known count of each window, or shorter if nothing was counted yet; `cost` 0 only looks.
    `others` make so many requests per second, evenly from the start of each window on, as long as it has room.
    `is_mau`: headers are those of contracts by monthly active users.
    """
    current = [_current(seconds, used[n] if n < len(used) else None, now) for n, (_, seconds) in enumerate(windows)]
    taken = [int(others * (now - count.start)) for count in current]
    full = [
        count.start + seconds
        for (limit, seconds), count, by_others in zip(windows, current, taken, strict=True)
        if count.requests + by_others + cost > limit
    ]
    after = tuple(Used(count.start, count.requests + cost * (not full)) for count in current)
    shown = [Used(count.start, count.requests + by_others) for count, by_others in zip(after, taken, strict=True)]
    if not is_mau:
        headers = _headers(windows, shown)
    elif full:
        headers = {"x-ratelimit-retry-after": str(_whole(max(full) - now))}  # and none of the others (track)
    else:
        headers = _hourly_headers(windows, shown, now)
    return Verdict(not full, after, headers)


def _current(seconds: float, last: Used | None, now: float) -> Used:
    start = math.floor(now / seconds) * seconds
    return last if last is not None and last.start == start else Used(start, 0)


def _headers(windows: Windows, used: Sequence[Used]) -> dict[str, str]:
    """Headers of the window with the least left, of the later one if two have the same (with several: a guess)."""
    if not windows:
        return {}
    ends = [
        (max(limit - count.requests, 0), count.start + seconds, limit)
        for (limit, seconds), count in zip(windows, used, strict=True)
    ]
    remaining, end, limit = min(ends, key=lambda one: (one[0], -one[1]))
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": str(math.ceil(end)),  # end of the window, UTC epoch seconds (limits)
    }


def _hourly_headers(windows: Windows, used: Sequence[Used], now: float) -> dict[str, str]:
    """Headers of the longest window alone, whose end is told in seconds from now: nothing shows the burst (track)."""
    if not windows:
        return {}
    (limit, seconds), count = max(zip(windows, used, strict=True), key=lambda one: one[0][1])
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(max(limit - count.requests, 0)),
        "x-ratelimit-reset": str(_whole(count.start + seconds - now)),
    }


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
