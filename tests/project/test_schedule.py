"""Which moments a cron line names, and which of them is due."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from reverse_etl.project.cron import NICKNAMES, Cron, ScheduleProblem, check_line, check_zone

MINUTE = timedelta(minutes=1)
ZONES = ["UTC", "Asia/Seoul", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]
LINES = [
    *("* * * * *", "*/15 * * * *", "5 * * * *", "0 */2 * * *", "7-50/13 1-3 * * *", "* 2 * * *", "0,30 2 * * *"),
    *("30 2 * * *", "15 1 * * *", "0 0 * * *", "45 23 * * mon-fri", "0 0 1 * *", "30 2 L * *", "0 12 29 2 *"),
    *("0 0 31 * *", "0 9 * * 1#1", "@hourly", "@daily"),
]
# Around the days on which clocks of the zones change, a leap day, ends of months, and any day.
TURNS = [datetime(*day, tzinfo=UTC) for day in [(2026, 3, 29), (2026, 10, 25), (2026, 3, 8), (2026, 11, 1)]]
DAYS = [
    *TURNS,
    datetime(2028, 2, 29, tzinfo=UTC),
    datetime(2027, 1, 31, tzinfo=UTC),
    datetime(2026, 11, 25, tzinfo=UTC),
]
CRONS = st.builds(Cron, st.sampled_from(LINES), st.sampled_from(ZONES))
NOWS = st.builds(
    lambda day, seconds: day + timedelta(seconds=seconds),
    st.sampled_from(DAYS),
    st.floats(-36 * 3600, 36 * 3600),
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def moments(cron: Cron, first: str, last: str) -> list[str]:
    """All moments from `first` to `last`, on the clocks of the zone."""
    found, at = [], utc(first) - MINUTE
    while (following := cron.following(at)) and following <= utc(last):
        found.append(following)
        at = following
    return [moment.astimezone(ZoneInfo(cron.zone)).strftime("%d %H:%M%z") for moment in found]


# --- what a line names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "zone", "first", "last", "expected"),
    [
        pytest.param(
            *("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00+01:00", "2026-03-30T12:00+02:00"),
            ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"],
            id="a time that the clock skips: right after",
        ),
        pytest.param(
            *("0,15,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", "2026-03-29T12:00+02:00"),
            ["29 03:00+0200", "29 03:15+0200", "29 03:30+0200"],
            id="several that it skips: once",
        ),
        pytest.param(
            *("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00+02:00", "2026-10-26T12:00+01:00"),
            ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"],
            id="a time that the clock shows twice: the first time",
        ),
        pytest.param(
            *("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:30+02:00", "2026-10-25T03:00+01:00"),
            ["25 01:30+0200", "25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100"],
            id="every half hour goes on in the hour that comes twice",
        ),
        pytest.param(
            *("0 * * * *", "America/New_York", "2026-03-08T00:00-05:00", "2026-03-08T04:00-04:00"),
            ["08 00:00-0500", "08 01:00-0500", "08 03:00-0400", "08 04:00-0400"],
            id="every hour has no hole where the clock jumps",
        ),
        pytest.param(
            *("30 1 * * *", "America/New_York", "2026-10-31T00:00-04:00", "2026-11-02T12:00-05:00"),
            ["31 01:30-0400", "01 01:30-0400", "02 01:30-0500"],
            id="New York in autumn",
        ),
        pytest.param(
            *("30 2 * * *", "Asia/Seoul", "2026-03-28T00:00+09:00", "2026-03-29T12:00+09:00"),
            ["28 02:30+0900", "29 02:30+0900"],
            id="Seoul's clock does not change",
        ),
        pytest.param(
            *("0 0 29 2 *", "UTC", "2024-01-01T00:00+00:00", "2032-12-31T00:00+00:00"),
            ["29 00:00+0000"] * 3,
            id="a leap day",
        ),
        pytest.param(
            *("0 0 31 * *", "UTC", "2026-01-01T00:00+00:00", "2026-06-30T00:00+00:00"),
            ["31 00:00+0000"] * 3,
            id="months without a 31st are left out",
        ),
        pytest.param(
            *("0 6 L * *", "UTC", "2026-01-01T00:00+00:00", "2026-04-30T23:00+00:00"),
            ["31 06:00+0000", "28 06:00+0000", "31 06:00+0000", "30 06:00+0000"],
            id="the last day of a month",
        ),
    ],
)
def test_line_names_its_moments(line: str, zone: str, first: str, last: str, expected: Sequence[str]):
    assert moments(Cron(line, zone), first, last) == expected


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_nickname_is_a_line_that_comes_due(nickname: str):
    check_line(nickname.upper())
    assert Cron(nickname).following(DAYS[-1]) == Cron(NICKNAMES[nickname]).following(DAYS[-1])


def shown_minutes(cron: Cron, day: date) -> list[datetime]:
    """The moments of a day as cron(8) describes them, minute by minute; a second reading of the rules."""
    line, zone = NICKNAMES.get(cron.line, cron.line), ZoneInfo(cron.zone)

    def names(clock: datetime) -> bool:
        return next(CronSim(line, clock - MINUTE)) == clock

    midnight = datetime(day.year, day.month, day.day)
    if "*" in (line.split()[0][0], line.split()[1][0]):
        start = midnight.replace(tzinfo=zone).astimezone(UTC)
        every = [start + n * MINUTE for n in range(26 * 60)]
        on_clock = [(at, at.astimezone(zone).replace(tzinfo=None)) for at in every]
        return [at for at, clock in on_clock if clock.date() == day and names(clock.replace(fold=0))]
    clocks = [midnight + n * MINUTE for n in range(24 * 60)]
    found = set()
    for clock in filter(names, clocks):
        at = clock.replace(tzinfo=zone).astimezone(UTC)
        while at.astimezone(zone).replace(tzinfo=None, fold=0) != clock:  # skipped: the first minute that is there
            clock += MINUTE
            at = clock.replace(tzinfo=zone).astimezone(UTC)
        found.add(at)
    return sorted(found)


@pytest.mark.long
@given(CRONS, st.sampled_from(DAYS))
@example(Cron("30 2 * * *", "Europe/Berlin"), TURNS[0])
@example(Cron("30 2 * * *", "Europe/Berlin"), TURNS[1])
@example(Cron("* 2 * * *", "Europe/Berlin"), TURNS[1])
def test_moments_of_a_day_are_those_that_cron_describes(cron: Cron, day: datetime):
    expected = shown_minutes(cron, day.date())
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(cron.zone)).astimezone(UTC)
    found, at = [], start - timedelta(seconds=1)
    while (following := cron.following(at)) and following.astimezone(ZoneInfo(cron.zone)).date() == day.date():
        found.append(following)
        at = following
    assert found == expected


# --- what is due -----------------------------------------------------------------------------------------------------


@given(CRONS, NOWS)
@example(Cron("30 2 * * *", "Europe/Berlin"), utc("2026-10-25T02:10+01:00"))
@example(Cron("30 2 * * *", "Europe/Berlin"), utc("2026-03-29T03:10+02:00"))
def test_nothing_lies_between_the_latest_moment_and_the_following(cron: Cron, now: datetime):
    latest, following = cron.latest(now), cron.following(now)
    assert latest is not None
    assert following is not None
    assert latest <= now < following
    assert cron.following(latest) == following
    assert cron.latest(following) == following
    assert cron.latest(following - timedelta(microseconds=1)) == latest


@given(CRONS, st.sampled_from(DAYS), st.lists(st.integers(0, 4000), min_size=1, max_size=60))
def test_each_moment_is_run_once_or_missed_for_a_later_one(cron: Cron, day: datetime, pauses: list[int]):
    """Looked at again and again, at whatever distance: never twice for one moment, never none while one is open."""
    now, done, ran = day - timedelta(hours=12), None, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        due = cron.due(now, done)
        if due:
            assert due == cron.latest(now)
            ran.append(due)
            done = due
        assert cron.due(now, done) is None
    assert ran == sorted(set(ran))
    assert ran[0] == cron.latest(day - timedelta(hours=12) + timedelta(seconds=pauses[0]))
    for before, after in pairwise(ran):
        assert cron.latest(after - timedelta(microseconds=1)) >= before


@given(CRONS, NOWS, st.lists(st.booleans(), min_size=1, max_size=5))
def test_moment_stays_due_until_a_run_goes_well(cron: Cron, now: datetime, goes_well: list[bool]):
    done, first = None, cron.latest(now)
    for well in goes_well:
        assert cron.due(now, done) == (first if done is None else None)
        done = done or (first if well else None)


def test_many_missed_moments_are_due_once():
    cron, now = Cron("*/15 * * * *"), utc("2026-11-25T08:07Z")
    assert cron.due(now, utc("2026-11-20T08:00Z")) == utc("2026-11-25T08:00Z")
    assert cron.due(now, utc("2026-11-25T08:00Z")) is None


def test_run_by_hand_after_the_moment_counts_for_it_and_one_before_does_not():
    cron, now = Cron("0 8 * * *", "Asia/Seoul"), utc("2026-11-25T09:00+09:00")
    assert cron.due(now, utc("2026-11-25T08:30+09:00")) is None
    assert cron.due(now, utc("2026-11-25T07:59:59+09:00")) == utc("2026-11-25T08:00+09:00")


# --- mistakes --------------------------------------------------------------------------------------------------------

FIELDS = 'use five fields, minute hour day month weekday, such as "*/15 * * * *" or "30 7 * * mon-fri"; or @daily'


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("0 25 * * *", '"0 25 * * *" is not a valid cron expression: bad hour', FIELDS),
        ("0 8 * *", '"0 8 * *" is not a valid cron expression: it has 4 fields, not 5', FIELDS),
        ("0 0 8 * * *", '"0 0 8 * * *" is not a valid cron expression: it has 6 fields, not 5', FIELDS),
        ("0 0 31 2 *", '"0 0 31 2 *" is not a valid cron expression: bad day-of-month', FIELDS),
        ("* * */20 * 1L", '"* * */20 * 1L" is never due: no such date exists', FIELDS),
        ("@dialy", '"@dialy" is not a valid cron expression', 'did you mean "@daily"?'),
    ],
)
def test_line_that_cannot_be_used_is_refused(line: str, what: str, hint: str):
    with pytest.raises(ScheduleProblem) as raised:
        check_line(line)
    assert (str(raised.value), raised.value.hint) == (what, hint)


@pytest.mark.parametrize("name", ["Asia/Soul", "Asia", "", "../Berlin", "/etc/passwd"])
def test_zone_that_is_not_there_is_refused(name: str):
    with pytest.raises(ScheduleProblem, match="unknown time zone"):
        check_zone(name)


def test_zone_has_a_nearest_name():
    with pytest.raises(ScheduleProblem) as raised:
        check_zone("Asia/Soul")
    assert raised.value.hint == 'did you mean "Asia/Seoul"?'
