"""Time zones as Java spells them, for DuckDB and for Python."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

# java.time.ZoneId.SHORT_IDS, https://docs.oracle.com/en/java/javase/17/docs/api/java.base/java/time/ZoneId.html
_SHORT = {
    **{"ACT": "Australia/Darwin", "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires"},
    **{"ART": "Africa/Cairo", "AST": "America/Anchorage", "BET": "America/Sao_Paulo", "BST": "Asia/Dhaka"},
    **{"CAT": "Africa/Harare", "CNT": "America/St_Johns", "CST": "America/Chicago", "CTT": "Asia/Shanghai"},
    **{"EAT": "Africa/Addis_Ababa", "ECT": "Europe/Paris", "IET": "America/Indiana/Indianapolis"},
    **{"IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "MIT": "Pacific/Apia", "NET": "Asia/Yerevan"},
    **{"NST": "Pacific/Auckland", "PLT": "Asia/Karachi", "PNT": "America/Phoenix", "PRT": "America/Puerto_Rico"},
    **{"PST": "America/Los_Angeles", "SST": "Pacific/Guadalcanal", "VST": "Asia/Ho_Chi_Minh"},
    **{"EST": "-05:00", "MST": "-07:00", "HST": "-10:00"},
    # Treasure Data's examples also use the names of summer times, as fixed offsets.
    **{"EDT": "-04:00", "CDT": "-05:00", "MDT": "-06:00", "PDT": "-07:00"},
    **{"Z": "UTC", "GMT": "UTC", "UT": "UTC"},
}
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d\d))?")


@dataclass(frozen=True)
class Zone:
    """A zone by its name in DuckDB; `info` is the same for Python."""

    name: str
    info: tzinfo

    @property
    def fixed_offset(self) -> timedelta | None:
        """Its offset from UTC, if it has been the same since 2000, in winter and in summer."""
        found = {datetime(year, month, 1, tzinfo=UTC).astimezone(self.info).utcoffset()
                 for year in range(2000, 2038) for month in (1, 7)}  # fmt: skip
        return found.pop() if len(found) == 1 else None


UTC_ZONE = Zone("UTC", UTC)


def zone(name: str) -> Zone | None:
    """The zone of that name; None if it is not known, or has half hours that DuckDB has no name for."""
    spelled = _SHORT.get(name.upper(), name)
    if spelled.upper() in ("UTC", "ETC/UTC"):
        return UTC_ZONE
    offset = _OFFSET.fullmatch(spelled)
    if offset:
        return _of_offset(offset[1], int(offset[2]), int(offset[3] or 0))
    known = _known().get(spelled.lower())
    return Zone(known, ZoneInfo(known)) if known else None


@cache
def _known() -> dict[str, str]:
    return {one.lower(): one for one in available_timezones()}


def _of_offset(sign: str, hours: int, minutes: int) -> Zone | None:
    if minutes or hours > 12:
        return None
    if not hours:
        return UTC_ZONE
    turned = "-" if sign == "+" else "+"  # POSIX counts the other way round
    return Zone(f"Etc/GMT{turned}{hours}", timezone(timedelta(hours=hours if sign == "+" else -hours)))
