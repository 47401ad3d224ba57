"""Date-times as Braze reads them. Pure: no clock.

ISO 8601, `yyyy-MM-ddTHH:mm:ss:SSSZ`, `yyyy-MM-ddTHH:mm:ss`, `yyyy-MM-dd HH:mm:ss`, `yyyy-MM-dd`, `MM/dd/yyyy` and
`ddd MM dd HH:mm:ss.TZD YYYY`; without a zone UTC, a date alone midnight UTC (attr).
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone

_ZONE = r"(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d)"
_ISO = re.compile(
    rf"(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)"
    rf"(?:[T ]{_CLOCK}(?::(?P<second>\d\d)(?:[.,:](?P<fraction>\d{{1,9}}))?)? ?{_ZONE}?)?",
    re.ASCII,
)
_AMERICAN = re.compile(r"(?P<month>\d\d)/(?P<day>\d\d)/(?P<year>\d{4})", re.ASCII)
_UNIX = re.compile(
    rf"[A-Z][a-z]{{2}} (?P<month>\d\d) (?P<day>\d\d) {_CLOCK}:(?P<second>\d\d)\.{_ZONE} (?P<year>\d{{4}})", re.ASCII
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
LAST_YEAR = 3000  # later years stay plain strings; inside nested data they are not stored (attr, nca)


def moment(text: object) -> datetime | None:
    """The time in a string, or None if it has none of the known formats."""
    if not isinstance(text, str):
        return None
    found = _ISO.fullmatch(text) or _AMERICAN.fullmatch(text) or _UNIX.fullmatch(text)
    if found is None:
        return None
    part = found.groupdict()
    try:
        return datetime(
            max(int(part["year"]), 1),  # Braze knows the year 0 (attr), Python does not
            int(part["month"]),
            int(part["day"]),
            int(part.get("hour") or 0),
            int(part.get("minute") or 0),
            int(part.get("second") or 0),
            int((part.get("fraction") or "0")[:6].ljust(6, "0")),
            _zone(part.get("zone")),
        )
    except ValueError:  # 31 February, 25 o'clock
        return None


def is_nested_time(text: object) -> bool:
    """Whether `{"$time": text}` would be kept inside a nested value."""
    found = moment(text)
    return found is not None and found.year <= LAST_YEAR


def is_day(text: object) -> bool:
    """Whether the string is an existing date in the form YYYY-MM-DD."""
    if not isinstance(text, str) or not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def iso(seconds: float) -> str:
    """Unix seconds as `2026-11-23T08:15:00.123Z`."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(seconds, 3))
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _zone(text: str | None) -> timezone:
    if text is None or text in {"Z", "UTC", "GMT"}:
        return UTC
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)
