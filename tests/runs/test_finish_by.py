"""`--finish-by`: what a plan says of its end, and what a run does that would be late, or is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reverse_etl.api import Project
from reverse_etl.braze.modes import DELETE, MODES, Window
from reverse_etl.delivery.session import open_session
from reverse_etl.errors import ProjectError
from reverse_etl.report.as_json import preview_json
from reverse_etl.runs.due import Due
from reverse_etl.runs.finish_by import FinishBy, finish_by, forecast
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.preview import preview_syncs
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.scheduler import due_jobs
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Sandbox
from tests.shop import FakeClock, Retl, Shop

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
MANY = "SELECT 'u' || i AS external_id, i AS n FROM range({rows}) r(i)"
SLOW = {"rate_limits": {"users_track": {"requests": 60, "per_seconds": 60}}}  # one a second


def at(hour: int, minute: int = 0, day: int = 25) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


class At3(FakeClock):
    """It is three o'clock, and later only by waiting."""

    def utc(self) -> datetime:
        return NOW + timedelta(seconds=self.time_s - 1_790_000_000)


def within(seconds: float) -> FinishBy:
    return FinishBy(NOW + timedelta(seconds=seconds))


def slow(shop: Shop, requests: int = 50) -> Shop:
    shop.destination, shop.clock = SLOW, At3()
    return shop.sync("it", MANY.format(rows=75 * requests))


# --- which moment -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        pytest.param("07:00", at(3), at(7), id="later today"),
        pytest.param("07:00", at(7), at(7, day=26), id="now is not later"),
        pytest.param("7:05", at(8), at(7, 5, day=26), id="tomorrow"),
        pytest.param("07:00 Asia/Seoul", at(3), at(22), id="in a time zone"),
        pytest.param("07:00 Europe/Berlin", at(3), at(6), id="in another"),
        pytest.param(" 2026-11-26T07:00:00+09:00 ", at(3), at(22), id="one moment"),
        pytest.param(at(9), at(3), at(9), id="one moment, from Python"),
    ],
)
def test_time_of_day_is_the_next_one_in_utc_unless_it_names_a_zone(text: str | datetime, start, expected):
    assert finish_by(text, NOW).after(start) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "7 o'clock",
            '--finish-by: "7 o\'clock" is not a valid time\n'
            '  hint: use 07:00 (UTC), "07:00 Asia/Seoul", or 2026-11-25T07:00:00Z',
        ),
        (
            "24:00",
            '--finish-by: "24:00" is not a valid time\n'
            '  hint: use 07:00 (UTC), "07:00 Asia/Seoul", or 2026-11-25T07:00:00Z',
        ),
        ("07:00 Asia/Seol", '--finish-by: unknown time zone "Asia/Seol"\n  hint: did you mean "Asia/Seoul"?'),
        (
            "2026-11-26T07:00:00",
            '--finish-by: "2026-11-26T07:00:00" has no time zone\n'
            '  hint: use 07:00 (UTC), "07:00 Asia/Seoul", or 2026-11-25T07:00:00Z',
        ),
        ("2026-11-25T03:00:00Z", "--finish-by: 2026-11-25 03:00 UTC has passed\n  hint: use a later time"),
    ],
)
def test_what_is_no_time_to_finish_by_is_an_error(text: str, expected: str):
    with pytest.raises(ProjectError) as error:
        finish_by(text, NOW)
    assert str(error.value) == expected


# --- what a plan says -------------------------------------------------------------------------------------------------


def test_forecast_says_when_a_run_is_done_and_what_it_leaves_to_others():
    track = MODES["users_track", "attributes"].call
    windows = {"users_track": [Window(3000, 3)], "users": [Window(20_000, 60)]}
    coming = forecast({track: 36_000, DELETE: 600}, windows, share=0.8, starts_at=at(6, 51))
    assert [
        (load.rate_limit, load.requests, round(load.seconds), round(load.left_per_second)) for load in coming.loads
    ] == [
        ("users_track", 36_000, 45, 199),
        ("users", 600, 2, 67),
    ]
    assert coming.in_words(at(7)) == (
        "36,000 requests at 795/s, 600 requests at 267/s: done 8 min 12 s before 2026-11-25 07:00 UTC"
    )
    assert coming.in_words(at(6, 51)) == (
        "36,000 requests at 795/s, 600 requests at 267/s: done 47.5 s after 2026-11-25 06:51 UTC"
    )


def test_plan_says_its_end_and_what_is_left_to_others(shop: Shop, retl):
    slow(shop)
    shop.destination = {**SLOW, "keep_free": "20%"}
    shop.write()
    said = retl("plan", "--finish-by", "2099-01-01T00:00:00Z", folder=shop.folder)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[-3].endswith(
        ": 50 requests to /users/track, 1 min 2 s at the rate limit, which leaves 0.2 requests/s to others"
    )
    assert lines[-2].startswith("  50 requests at 0.78/s: done ")
    assert lines[-2].endswith(" before 2099-01-01 00:00 UTC (--finish-by)")


def test_plan_that_would_be_late_is_blocked_and_says_so(shop: Shop):
    result = preview(slow(shop), within(20))
    assert result["rate_limits"] == [
        {
            "rate_limit": "users_track",
            "requests": 50,
            "seconds": 49.0,
            "requests_per_second": 1.0,
            "left_per_second": 0.0,
        }
    ]
    assert [problem["code"] for problem in result["blocked_by"]] == ["X011"]
    times = ("2026-11-25T03:00:20+00:00", "2026-11-25T03:00:49+00:00")
    assert (result["finish_by"], result["estimated_end"]) == times


def test_plans_of_one_command_come_one_after_another(shop: Shop):
    slow(shop)
    shop.sync("other", MANY.format(rows=75 * 11).replace("'u'", "'v'"), after=[{"sync": "it", "wait": "5 minutes"}])
    ends = [one["estimated_end"] for one in previews(shop, within(3600))]
    assert ends == ["2026-11-25T03:00:49+00:00", "2026-11-25T03:05:59+00:00"]


def test_python_takes_a_time_of_day_or_a_moment(shop: Shop):
    project = Project(slow(shop).folder, environ=shop.environ)
    (found,) = project.plan_all(finish_by=datetime(2099, 1, 1, tzinfo=UTC))
    assert found.as_dict()["finish_by"] == "2099-01-01T00:00:00+00:00"
    assert project.plan("it", finish_by="07:00").as_dict()["finish_by"].endswith("T07:00:00+00:00")
    with pytest.raises(ProjectError, match=r'finish_by: "2099-01-01T00:00:00" has no time zone'):
        project.plan("it", finish_by=datetime(2099, 1, 1))


def test_plan_takes_the_share_of_the_limits_that_a_run_would_use(shop: Shop, retl: Retl):
    slow(shop)
    seconds = [
        json.loads(retl("plan", "it", "--rate-limit-share", share, "--output", "json", folder=shop.folder).out)[0][
            "seconds_at_rate_limit"
        ]
        for share in ("1", "0.5")
    ]
    assert seconds[1] == pytest.approx(2 * seconds[0], rel=0.05)


def previews(shop: Shop, by: FinishBy) -> list[dict[str, Any]]:
    project = shop.project()
    syncs = [project.sync(sync["name"]) for sync in shop.syncs]
    options = Options(finish_by=by, clock=shop.clock)
    return [preview_json(one) for one in preview_syncs(jobs_of(project, syncs, options, shop.listener))]


def preview(shop: Shop, by: FinishBy) -> dict[str, Any]:
    return previews(shop, by)[0]


# --- what a run does --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_run_that_would_be_late_sends_nothing_and_says_how_to(shop: Shop):
    result = slow(shop).run(finish_by=within(20))
    assert (result.status, result.exit_code, shop.sent()) == ("blocked", 1, [])
    (problem,) = result.errors
    assert problem.code == "X011"
    assert problem.message == ("it: guard finish_by: 50 requests at 1/s: done 29.0 s after 2026-11-25 03:00 UTC")
    assert problem.hint == (
        "run `retl sync it` without --finish-by, or add --skip-guard finish_by to send what it can by then"
    )
    assert shop.run().status == "success"


def test_run_that_is_done_in_time_is_as_any_other(shop: Shop):
    result = slow(shop).run(finish_by=within(60))
    assert (result.status, result.delivery.accepted) == ("success", 75 * 50)


def test_run_that_skips_the_guard_sends_what_it_can_and_the_next_one_the_rest(shop: Shop):
    result = slow(shop).run(finish_by=within(20.5), skip_guards=["finish_by"], threads=1)
    assert (result.status, result.exit_code, result.delivery.accepted) == ("incomplete", 1, 75 * 21)
    assert (result.delivery.unsent, result.delivery.in_doubt) == (75 * 29, 0)
    (problem,) = result.errors
    assert (problem.message, problem.hint, problem.code) == (
        "it: no more requests could start before 2026-11-25 03:00 UTC (--finish-by)",
        "send the rest with `retl sync it`",
        "X010",
    )
    again = shop.run()
    assert (again.status, again.delivery.accepted, len(shop.sent())) == ("success", 75 * 29, 50)


def test_run_that_others_slow_down_ends_in_time(tmp_path):
    """The plan is right about the contract, and not about the others, who leave less than their share."""
    clock = At3()
    with Sandbox(limits={"users_track": [(30, 3.0)]}, others={"users_track": 8.0}, clock=clock) as braze:
        limits = {"rate_limits": {"users_track": {"requests": 30, "per_seconds": 3}}, "keep_free": "20%"}
        shop = Shop(tmp_path / "shop", braze, clock=clock, destination=limits)
        shop.sync("it", MANY.format(rows=75 * 100))
        began_s = clock.time_s
        result = shop.run(finish_by=within(15), threads=1)
        assert result.status == "incomplete"
        assert result.delivery.accepted + result.delivery.unsent == 75 * 100
        assert 0 < result.delivery.unsent < 75 * 100
        assert max(request.at for request in braze.requests()) < began_s + 15


def test_sync_that_has_nothing_to_send_is_not_late(shop: Shop):
    slow(shop).run()  # which takes 49 seconds
    assert shop.run(finish_by=within(50)).status == "success"


def test_sync_that_would_start_too_late_does_not_run_its_model(shop: Shop):
    result = slow(shop).run(finish_by=within(-1))
    assert (result.status, result.exit_code, result.plan) == ("blocked", 1, None)
    assert result.errors[0].message.endswith(" has passed")
    assert result.errors[0].hint == "run `retl sync it` without --finish-by, or use a later time"
    assert shop.run(finish_by=within(60)).status == "success"


@pytest.mark.parametrize(
    ("due_since", "by", "status"),
    [
        pytest.param(at(3, day=24), at(7, day=24), "blocked", id="since yesterday"),
        pytest.param(at(3), at(7), "success", id="since now"),
    ],
)
def test_what_is_due_has_to_be_done_by_the_time_after_it_was_due(shop: Shop, due_since, by, status: str):
    """So it is not sent right after seven, for which it would have been too late."""
    project = slow(shop).project()
    options = Options(finish_by=finish_by("07:00", NOW), clock=shop.clock, threads=1)
    (job,) = due_jobs(project, [Due(project.sync("it"), due_since)], options, shop.listener)
    assert job.finish_by == by
    with open_session(project) as session:
        assert [result.status for result in run_jobs([job], session)] == [status]


def test_syncs_behind_one_that_was_late_are_blocked_by_the_same_time(shop: Shop):
    slow(shop, 10)
    shop.sync("other", MANY.format(rows=75 * 30).replace("'u'", "'v'"))
    results = shop.run_all("it", "other", finish_by=within(20))
    assert [result.status for result in results] == ["success", "blocked"]
