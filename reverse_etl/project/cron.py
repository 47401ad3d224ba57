"""When a sync is due: cron lines, time zones, and the moments they name. Pure: the clock is passed in.

    0 3 * * *   Europe/Berlin
    ─┬───────   ────┬────────
     Cron.line      Cron.zone      latest(now) <= now < following(now)

A moment is a time in UTC. cronsim decides which moments a line names, as Debian's cron does: a fixed time that the
clock skips is taken right after the gap, one that it shows twice the first time; a line with a star in the minute or
the hour follows the clock on the wall.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from reverse_etl.errors import nearest

NICKNAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 'write minute, hour, day of the month, month, day of the week: "*/15 * * * *", "30 7 * * mon-fri", or @daily'
# How far to look back for the latest moment; at last for longer than a leap day on a Monday takes to come back.
_LOOK_BACK = [timedelta(minutes=n) for n in (2, 30, 6 * 60)] + [timedelta(days=n) for n in (8, 400, 60 * 366)]


class ScheduleProblem(ValueError):  # noqa: N818 - a mistake of the file, as errors.Problem
    """A cron line or a zone that cannot be used, and the way out."""

    def __init__(self, what: str, hint: str | None) -> None:
        super().__init__(what)
        self.hint = hint


@dataclass(frozen=True)
class Cron:
    """A cron line, read by the clocks of a zone."""

    line: str
    zone: str = "UTC"

    def latest(self, now: datetime) -> datetime | None:
        """The last moment that is not after `now`; None if there was none in a lifetime."""
        for span in _LOOK_BACK:
            found = None
            for moment in self._from(now - span):
                if moment > now:
                    break
                found = moment
            if found:
                return found
        return None

    def following(self, now: datetime) -> datetime | None:
        """The first moment after `now`; None if there is none in a lifetime."""
        return next((moment for moment in self._from(now) if moment > now), None)

    def due(self, now: datetime, done: datetime | None) -> datetime | None:
        """The moment to run for now, given the last one that a run went well for; None if that is done.

        However many moments were missed, only the latest is due.
        """
        latest = self.latest(now)
        return None if latest is None or (done is not None and done >= latest) else latest

    def _from(self, start: datetime) -> Iterator[datetime]:
        """Moments in their order, from about `start` on: where the clock goes back, some may lie just before it.

        Only forward: backwards, cronsim loses the moments of an hour that the clock shows twice.
        """
        line = NICKNAMES.get(self.line.strip().lower(), self.line)
        for moment in CronSim(line, start.astimezone(_zone(self.zone))):
            yield moment.astimezone(UTC)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def check_line(line: str) -> None:
    """Raises ScheduleProblem unless `line` is one that comes due."""
    text = line.strip().lower()
    if text.startswith("@") and text not in NICKNAMES:
        raise ScheduleProblem(f'"{line}" is no cron line', nearest(text, NICKNAMES))
    if text not in NICKNAMES and len(text.split()) != 5:
        raise ScheduleProblem(f'"{line}" is no cron line: it has {len(text.split())} fields, not 5', _FIELDS)
    try:
        comes = Cron(line).following(datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ScheduleProblem(f'"{line}" is no cron line: {str(error).lower()}', _FIELDS) from error
    if comes is None:
        raise ScheduleProblem(f'"{line}" never comes due: there is no such day', _FIELDS)


def check_zone(name: str) -> None:
    """Raises ScheduleProblem unless `name` is a zone of the IANA database."""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:  # not there; a folder of zones; no name at all
        hint = nearest(name, available_timezones()) or "zones are named as Asia/Seoul, Europe/Berlin, UTC"
        raise ScheduleProblem(f'there is no time zone "{name}"', hint) from error
