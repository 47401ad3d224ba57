"""When a sync is due: cron expressions, time zones, and the scheduled times they define. Pure: the clock is passed in.

    0 3 * * *   Europe/Berlin
    ─┬───────   ────┬────────
     Cron.line      Cron.zone      latest(now) <= now < following(now)

Scheduled times are in UTC. cronsim decides which times an expression matches, as Debian's cron does: a fixed time that
a clock change skips runs right after the gap, one that occurs twice runs the first time; an expression with a star in
the minute or the hour follows wall-clock time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from reverse_etl.errors import nearest
from reverse_etl.words import count

NICKNAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = 'use five fields, minute hour day month weekday, such as "*/15 * * * *" or "30 7 * * mon-fri"; or @daily'
# How far to look back for the latest time; the last span is longer than a leap day on a Monday takes to recur.
_LOOK_BACK = [timedelta(minutes=n) for n in (2, 30, 6 * 60)] + [timedelta(days=n) for n in (8, 400, 60 * 366)]


class ScheduleProblem(ValueError):  # noqa: N818 - a mistake of the file, as errors.Problem
    """A cron expression or a time zone that cannot be used, and a hint."""

    def __init__(self, what: str, hint: str | None, *, code: str) -> None:
        super().__init__(what)
        self.hint, self.code = hint, code


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone. What it schedules begins `delay` after each scheduled time."""

    line: str
    zone: str = "UTC"
    delay: timedelta = timedelta()

    def latest(self, now: datetime) -> datetime | None:
        """The last scheduled time whose run may have begun by `now`; None if there was none in 60 years."""
        return _latest(self.line, self.zone, now - self.delay)

    def following(self, now: datetime) -> datetime | None:
        """When the next run after `now` begins: a scheduled time, and its delay; None if there is none in 50 years."""
        before = now - self.delay
        moment = _following(self.line, self.zone, before)
        return moment and moment + self.delay

    def due(self, now: datetime, done: datetime | None) -> datetime | None:
        """The scheduled time to run for now, given the last one that a run succeeded for; None if none is due.

        However many scheduled times were missed, only the latest is due.
        """
        latest = self.latest(now)
        return None if latest is None or (done is not None and done >= latest) else latest

    def missed(self, done: datetime) -> datetime | None:
        """The first scheduled time after the last one that a run succeeded for."""
        return _following(self.line, self.zone, done)


# Hundreds of syncs share a few schedules, and a command asks at one moment.


@lru_cache(maxsize=1000)
def _latest(line: str, zone: str, now: datetime) -> datetime | None:
    for span in _LOOK_BACK:
        found = None
        for moment in _from(line, zone, now - span):
            if moment > now:
                break
            found = moment
        if found:
            return found
    return None


@lru_cache(maxsize=1000)
def _following(line: str, zone: str, now: datetime) -> datetime | None:
    return next((moment for moment in _from(line, zone, now) if moment > now), None)


def _from(line: str, zone: str, start: datetime) -> Iterator[datetime]:
    """Scheduled times in order, from about `start` on: where the clock goes back, some may be just before it.

    Only forward: backward, cronsim loses the times of an hour that occurs twice.
    """
    for moment in CronSim(NICKNAMES.get(line.strip().lower(), line), start.astimezone(_zone(zone))):
        yield moment.astimezone(UTC)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def check_line(line: str) -> None:
    """Raises ScheduleProblem unless `line` is a cron expression that comes due."""
    text = line.strip().lower()
    if text.startswith("@") and text not in NICKNAMES:
        raise ScheduleProblem(f'"{line}" is not a valid cron expression', nearest(text, NICKNAMES), code="P022")
    if text not in NICKNAMES and len(text.split()) != 5:
        what = f'"{line}" is not a valid cron expression: it has {count(len(text.split()), "field")}, not 5'
        raise ScheduleProblem(what, _FIELDS, code="P022")
    try:
        comes = Cron(line).following(datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ScheduleProblem(
            f'"{line}" is not a valid cron expression: {str(error).lower()}', _FIELDS, code="P022"
        ) from error
    if comes is None:
        raise ScheduleProblem(f'"{line}" is never due: no such date exists', _FIELDS, code="P022")


def check_zone(name: str) -> None:
    """Raises ScheduleProblem unless `name` is a time zone of the IANA database."""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:  # not there; a folder of zones; no name at all
        hint = nearest(name, available_timezones()) or "use an IANA name: Asia/Seoul, Europe/Berlin, UTC"
        raise ScheduleProblem(f'unknown time zone "{name}"', hint, code="P023") from error
