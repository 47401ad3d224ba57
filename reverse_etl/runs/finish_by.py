"""`--finish-by`: until when a run has to be done, when it will be, and what it leaves of the rate limits to others.

    plan ── requests by rate limit ── windows of the contract, keep_free ──> Forecast ── finish_by ──> go, or blocked

Pure: the caller brings the time. While sending, the sender watches the time.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reverse_etl.braze.modes import Call, Window
from reverse_etl.delivery.pacing import last_start_s
from reverse_etl.errors import Problem, ProjectError
from reverse_etl.plan.guards import FINISH_BY
from reverse_etl.project.cron import Cron, ScheduleProblem, check_zone
from reverse_etl.project.spec import Sync
from reverse_etl.words import count, duration, moment, rate

_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?: +(\S+))?")
_FORMS = 'use 07:00 (UTC), "07:00 Asia/Seoul", or 2026-11-25T07:00:00Z'


@dataclass(frozen=True)
class FinishBy:
    """A time of day in a time zone, or one moment."""

    when: Cron | datetime

    def after(self, start: datetime) -> datetime:
        """The moment that is meant by what starts then: of a time of day, the next."""
        if isinstance(self.when, datetime):
            return self.when
        following = self.when.following(start)
        assert following is not None  # it comes every day
        return following


def finish_by(given: str | datetime, now: datetime, asked_by: str = "--finish-by") -> FinishBy:
    """`07:00` in UTC, as schedules; with an IANA name after it, in that time zone; or a moment with a time zone.

    Raises ProjectError for anything else, and for a moment that has passed.
    """
    text = given.isoformat() if isinstance(given, datetime) else given.strip()  # of subclasses, too
    if found := _TIME_OF_DAY.fullmatch(text):
        hour, minute, zone = found.groups(default="UTC")
        try:
            check_zone(zone)
        except ScheduleProblem as error:
            raise ProjectError(f"{asked_by}: {error}", hint=error.hint, code="P073") from error
        return FinishBy(Cron(f"{int(minute)} {int(hour)} * * *", zone))
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ProjectError(f'{asked_by}: "{text}" is not a valid time', hint=_FORMS, code="P073") from error
    if at.tzinfo is None:
        raise ProjectError(f'{asked_by}: "{text}" has no time zone', hint=_FORMS, code="P073")
    if at <= now:
        raise ProjectError(f"{asked_by}: {moment(at)} has passed", hint="use a later time", code="P073")
    return FinishBy(at.astimezone(UTC))


@dataclass(frozen=True)
class Load:
    """What a run uses of one rate limit: so many requests, the last of them so many seconds after the first; and what
    others may send per second meanwhile, because it is not used. Both rates are 0 if it takes no time."""

    rate_limit: str
    requests: int
    seconds: float
    per_second: float
    left_per_second: float


@dataclass(frozen=True)
class Forecast:
    """When a run that starts to send then will have started its last request, as far as the rate limits decide."""

    loads: Sequence[Load]
    starts_at: datetime

    @property
    def seconds(self) -> float:
        return sum(load.seconds for load in self.loads)

    @property
    def done_at(self) -> datetime:
        return self.starts_at + timedelta(seconds=self.seconds)

    def in_words(self, by: datetime) -> str:
        """`36,000 requests at 800/s: done 8 min 0 s before 2026-11-25 07:00 UTC`."""
        rates = ", ".join(f"{count(load.requests, 'request')}{_rate(load)}" for load in self.loads)
        spare_s = (by - self.done_at).total_seconds()
        return f"{rates}: done {duration(abs(spare_s))} {'before' if spare_s >= 0 else 'after'} {moment(by)}"


def _rate(load: Load) -> str:
    return f" at {rate(load.per_second)}/s" if load.per_second else ""


def forecast(
    requests: Mapping[Call, int], windows: Mapping[str, Sequence[Window]], share: float, starts_at: datetime
) -> Forecast:
    """The forecast of so many requests by call, under the windows of each rate limit, of which a fraction is used.

    Rate limits are used one after another, as a sync sends to one endpoint after another.
    """
    by_limit = dict[str, int]()
    for call, number in requests.items():
        by_limit[call.family] = by_limit.get(call.family, 0) + number
    return Forecast([_load(name, n, windows[name], share) for name, n in by_limit.items() if n], starts_at)


def _load(name: str, requests: int, windows: Sequence[Window], share: float) -> Load:
    seconds = last_start_s(requests, windows, share)
    used = (requests - 1) / seconds if seconds else 0.0
    return Load(name, requests, seconds, used, used * (1 - share) / share)


def too_late(sync: Sync, found: Forecast, by: datetime | None) -> Iterator[Problem]:
    """An error if a run cannot be done in time."""
    if by is not None and found.loads and found.done_at > by:
        yield _late(sync, found.in_words(by), f"add --skip-guard {FINISH_BY} to send what it can by then")


def passed(sync: Sync, by: datetime | None, now: datetime) -> Iterator[Problem]:
    """An error if a run would start when it should be done."""
    if by is not None and by <= now:
        yield _late(sync, f"{moment(by)} has passed", "use a later time")


def _late(sync: Sync, what: str, how: str) -> Problem:
    hint = f"run `retl sync {sync.name}` without --finish-by, or {how}"
    return Problem(f"{sync.name}: guard {FINISH_BY}: {what}", hint=hint, code="X011")


def out_of_time(sync: Sync, by: datetime | None) -> Iterator[Problem]:
    """An error of a run that ended in time, and not at its end."""
    if by is not None:
        what = f"{sync.name}: no more requests could start before {moment(by)} (--finish-by)"
        yield Problem(what, hint=f"send the rest with `retl sync {sync.name}`", code="X010")
