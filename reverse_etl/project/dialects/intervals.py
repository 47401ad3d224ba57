"""The windows of TD_INTERVAL: `-1d`, `-1d/now`, `-6M/1M`, `-1M/2018-09-02`. Weeks begin on Monday.

    DURATION[/OFFSET[/OFFSET..]]     DURATION = [+-]N unit, or a date; the last OFFSET = now, a duration, or a date

Without an offset the window ends where the unit of the reference time begins. Rules as in `TimeVector` and
`TimeWindow` of https://github.com/wvlet/airframe (airframe-metrics), whose examples the tests repeat.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "M": "month", "q": "quarter", "y": "year"}
_DURATION = re.compile(r"([+-]?\d+)([smhdwMqy])")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d))?(\)?)")


@dataclass(frozen=True)
class _Duration:
    count: int
    unit: str


def window(spec: str, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the window, in the zone of `now`. Raises ValueError for what the grammar does not have."""
    first, *offsets = spec.strip().split("/")
    date = _DATE.fullmatch(first)
    if date:
        start = _moment(date, now.tzinfo)
        if not offsets:
            return start, start + (timedelta(seconds=1) if date[2] else timedelta(days=1))
        return _in_order(start, _base(offsets, _Duration(1, "s"), now))
    duration = _duration(first)
    base = _base(offsets, duration, now) if offsets else truncate(now, duration.unit)
    return _in_order(add(truncate(base, duration.unit), duration), base)


def _base(offsets: list[str], duration: _Duration, now: datetime) -> datetime:
    *between, last = offsets
    date = _DATE.fullmatch(last)
    if last == "now":
        base = now
    elif date:
        base = _moment(date, now.tzinfo)
        base = base if date[3] else truncate(base, duration.unit)
    else:
        one = _duration(last)
        start, end = _in_order(truncate(now, one.unit), add(truncate(now, one.unit), one))
        base = start if one.count <= 0 else end
    for offset in between:
        base = add(base, _duration(offset))
    return base


def _duration(text: str) -> _Duration:
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(text)
    return _Duration(int(found[1]), found[2])


def _moment(date: re.Match[str], zone: tzinfo | None) -> datetime:
    return datetime.fromisoformat(f"{date[1]} {date[2] or '00:00:00'}").replace(tzinfo=zone)


def _in_order(one: datetime, other: datetime) -> tuple[datetime, datetime]:
    return (one, other) if one <= other else (other, one)


def truncate(at: datetime, unit: str) -> datetime:
    """Where the unit around a moment begins, by the clock of its zone."""
    if unit in "smh":
        second = at.second if unit == "s" else 0
        return at.replace(minute=0 if unit == "h" else at.minute, second=second, microsecond=0)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "w":
        return day - timedelta(days=day.weekday())
    months = {"d": day.month, "M": day.month, "q": (day.month - 1) // 3 * 3 + 1, "y": 1}
    return day.replace(month=months[unit], day=day.day if unit == "d" else 1)


def add(at: datetime, duration: _Duration) -> datetime:
    """A moment moved by so many units, by the clock of its zone."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    if duration.unit in seconds:
        return at + timedelta(seconds=duration.count * seconds[duration.unit])
    months = at.month - 1 + duration.count * {"M": 1, "q": 3, "y": 12}[duration.unit]
    year, month = at.year + months // 12, months % 12 + 1
    return at.replace(year=year, month=month, day=min(at.day, monthrange(year, month)[1]))
