"""How numbers, times and durations are written for people, everywhere. Pure."""

import json
import re
from datetime import UTC, datetime


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(time: datetime) -> str:
    """A time with a zone, as every message writes it: `2026-11-25 08:15 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """`0.2 s`, `3 min 20 s`, `1 h 5 min`; `unknown` of less than nothing: the clock was set back meanwhile."""
    if seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def rate(per_second: float) -> str:
    """A number per second: `795`, `0.8`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def one_line(text: str) -> str:
    """What others have said, in one line that every file and terminal can take."""
    return _UNPRINTABLE.sub(" ", text).strip()


# Line breaks, control characters of terminals, marks that turn the direction of writing, and halves of characters.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
