"""Rate limits and retry arithmetic: numbers in, numbers out."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reverse_etl.braze.modes import Window
from reverse_etl.braze.rate_limit_headers import exhausted_wait_s, shared_wait_s, throttled_wait_s
from reverse_etl.delivery.pacing import CATCH_UP_S, SHARE_OF_LIMIT, Pacer, last_start_s
from reverse_etl.delivery.retry import RetryPolicy, next_wait_s

DATE = "Mon, 23 Nov 2026 08:15:00 GMT"
NOW = 1795421700  # the same moment


def starts_of(pacer: Pacer, asked_s: Iterable[float], late_s: Iterable[float]) -> list[float]:
    """When requests start that were asked for at these times, one after the other, and woke up so late."""
    starts, now_s = [], 0.0
    for asked, late in zip(asked_s, late_s, strict=True):
        now_s = max(now_s, asked)
        wait_s = pacer.reserve(now_s)
        while True:
            now_s += wait_s + late if wait_s > 0 else 0
            if (wait_s := pacer.start(now_s)) <= 0:
                break
        starts.append(now_s)
    return starts


@given(
    requests=st.integers(1, 50),
    per_seconds=st.sampled_from([0.5, 3, 60]),
    share=st.floats(0.05, 1),
    times=st.lists(st.tuples(st.floats(0, 90), st.floats(0, 0.5)), min_size=1, max_size=200),
)
def test_no_window_ever_holds_more_starts_than_its_share(requests, per_seconds, share: float, times):
    asked, late = sorted(at for at, _ in times), [late for _, late in times]
    starts = starts_of(Pacer([Window(requests, per_seconds)], share), asked, late)
    most = max(1, int(requests * share * SHARE_OF_LIMIT))
    for index, start in enumerate(starts):
        assert sum(s - start < per_seconds - 1e-6 for s in starts[index:]) <= most


def test_starts_are_spread_evenly():
    pacer = Pacer([Window(10, 10)])
    assert [round(pacer.reserve(0.0), 3) for _ in range(4)] == [0, 1, 2, 3]


def test_time_lost_by_waking_up_late_is_made_up_for():
    pacer = Pacer([Window(1000, 1)])
    times = starts_of(pacer, [0.0] * 5000, [0.03 if n % 100 == 0 else 0.0002 for n in range(5000)])
    assert 5 / SHARE_OF_LIMIT - 0.1 <= times[-1] < 5.2


def test_idle_time_gives_no_more_than_a_second_of_starts():
    pacer = Pacer([Window(10, 1)])
    pacer.reserve(0.0)
    assert [round(pacer.reserve(100.0), 3) for _ in range(13)] == [0] * 11 + [0.1, 0.2]


def test_narrowest_of_several_short_windows_counts():
    pacer = Pacer([Window(3000, 3), Window(60, 60)])
    assert round([pacer.reserve(0.0) for _ in range(7)][-1], 2) == 6


def test_hourly_limit_may_be_used_up_at_once_and_then_waits_for_the_hour():
    pacer = Pacer([Window(100, 1), Window(1000, 3600)])
    most = int(1000 * SHARE_OF_LIMIT)
    starts = [pacer.reserve(0.0) for _ in range(most + 1)]
    assert starts[most - 1] < 10
    assert starts[most] == pytest.approx(3660)


ROUNDED_S = 1e-9  # a start is a time of day plus a wait, and neither is exact


@given(
    windows=st.lists(st.tuples(st.integers(1, 40), st.sampled_from([3, 100, 600])), min_size=1, max_size=3),
    share=st.floats(0.05, 1),
    waits=st.lists(st.floats(0, 120), min_size=1, max_size=200),
)
@example(windows=[(3, 3), (5, 100)], share=0.5, waits=[0.0] * 4)  # a burst does not reach back over a long wait
def test_no_long_window_ever_holds_more_starts_than_its_share(windows, share: float, waits):
    pacer, now_s, starts = Pacer([Window(*window) for window in windows], share), 0.0, []
    for wait in waits:
        starts.append(now_s + pacer.reserve(now_s))
        now_s += wait
    assert all(later > start - ROUNDED_S for start, later in pairwise(starts))
    for requests, per_seconds in windows:
        if per_seconds > 60:
            most = max(1, int(requests * share * SHARE_OF_LIMIT))
            for index, start in enumerate(starts):
                assert sum(s < start + per_seconds - ROUNDED_S for s in starts[index:]) <= most


def test_share_leaves_room_for_others():
    whole, half = Pacer([Window(10, 1)]), Pacer([Window(10, 1)], share=0.5)
    waits = [[pacer.reserve(0.0) for _ in range(10)][-1] for pacer in (whole, half)]
    assert waits[1] == pytest.approx(2 * waits[0])


def test_starts_that_come_late_in_a_heap_do_not_pass_the_limit():
    pacer = Pacer([Window(100, 1)])
    most = int(100 * SHARE_OF_LIMIT)
    assert [pacer.start(7.0) for _ in range(most)] == [0.0] * most
    assert (pacer.start(7.25), pacer.start(8.0)) == (0.75, 0.0)


def test_pause_holds_everybody_back():
    pacer = Pacer([Window(1000, 1)])
    pacer.pause(0.0, 7.0)
    assert (pacer.reserve(1.0), pacer.is_paused(6.9), pacer.is_paused(7.0)) == (6.0, True, False)


def test_starts_after_a_pause_are_spread_again_once_a_second_is_made_up_for():
    pacer = Pacer([Window(20, 10)])
    pacer.pause(0.0, 10.0)
    assert [round(pacer.reserve(0.0), 3) for _ in range(5)] == [10, 10, 10, 10.5, 11]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        pytest.param({"retry-after": "7"}, 7, id="Retry-After in seconds"),
        pytest.param({"retry-after": "Mon, 23 Nov 2026 08:15:09 GMT", "date": DATE}, 9, id="Retry-After as a date"),
        pytest.param({"retry-after": "2", "x-ratelimit-reset": "9"}, 2, id="Retry-After goes first"),
        pytest.param({"x-ratelimit-retry-after": "4"}, 4, id="X-RateLimit-Retry-After"),
        pytest.param({"x-ratelimit-reset": "3"}, 3, id="Reset in seconds"),
        pytest.param({"x-ratelimit-reset": str(NOW + 5), "date": DATE}, 5, id="Reset as an epoch"),
        pytest.param({"x-ratelimit-reset": str(NOW + 5)}, 1, id="epoch without a Date"),
        pytest.param({"retry-after": "0"}, 0.05, id="never nothing"),
        pytest.param({"retry-after": "-5"}, 1, id="negative"),
        pytest.param({"retry-after": "86400"}, 60, id="never a day"),
        pytest.param({"retry-after": "soon"}, 1, id="nonsense"),
        pytest.param({"retry-after": "nan"}, 1, id="not a number"),
        pytest.param({}, 1, id="nothing said"),
    ],
)
def test_wait_after_429_is_what_the_server_says_within_bounds(headers, wait_s):
    assert throttled_wait_s(headers) == wait_s


def test_nobody_starts_when_the_window_is_used_up():
    assert (
        exhausted_wait_s({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}) == 1
    )  # headers count whole seconds
    assert exhausted_wait_s({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "40"}) == 40
    assert exhausted_wait_s({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "2"}) == 0
    assert exhausted_wait_s({}) == 0


# --- what is kept free for others -------------------------------------------------------------------------------------


def said(remaining: object, limit: object = 100, reset: object = NOW + 40) -> dict[str, str]:
    names = ("x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset")
    given = {name: value for name, value in zip(names, (remaining, limit, reset), strict=True) if value is not None}
    return {"date": DATE, **{name: str(value) for name, value in given.items()}}


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        pytest.param(said(19), 40, id="less than the share remains: until the window ends"),
        pytest.param(said(20), 0, id="the share remains"),
        pytest.param(said(19, reset=40), 40, id="Reset in seconds"),
        pytest.param(said(19, reset=NOW - 5), 0, id="the window has ended"),
        pytest.param(said(19, reset=NOW + 86_400), 600, id="longer than any window"),
        pytest.param(said(19, reset=86_400), 600, id="longer than any window, in seconds"),
        pytest.param(said(None), 0, id="no Remaining"),
        pytest.param(said(19, limit=None), 0, id="no Limit"),
        pytest.param(said(19, reset=None), 0, id="no Reset"),
        pytest.param(said(19, reset="soon"), 0, id="Reset is nonsense"),
        pytest.param(said(19, reset="nan"), 0, id="Reset is not a number"),
        pytest.param(said(19, reset="-7"), 0, id="Reset is negative"),
        pytest.param(said("few"), 0, id="Remaining is nonsense"),
        pytest.param(said("-1"), 0, id="Remaining is negative"),
        pytest.param(said("1_9"), 0, id="a number only for Python"),
        pytest.param(said("\u0661"), 0, id="a digit of another script"),
        pytest.param(said(19, limit="9" * 5000), 0, id="a limit that no contract has"),
        pytest.param(said(19, limit=0), 0, id="a limit of nothing"),
        pytest.param({}, 0, id="no headers"),
    ],
)
def test_share_for_others_is_waited_for_as_the_headers_say_within_bounds(headers: dict[str, str], wait_s: float):
    assert shared_wait_s(headers, keep_free=0.2, most_s=600) == wait_s


def test_wait_for_a_window_that_is_not_known_is_a_minute():
    assert shared_wait_s(said(19, reset=3600), keep_free=0.2, most_s=3) == 60


def test_nothing_is_waited_for_if_nothing_is_kept_free():
    assert shared_wait_s(said(0), keep_free=0.0, most_s=600) == 0


@given(
    remaining=st.none() | st.text(max_size=12) | st.integers(-5, 2000),
    limit=st.none() | st.text(max_size=12) | st.integers(-5, 2000),
    reset=st.none() | st.text(max_size=12) | st.floats() | st.integers(),
    most_s=st.floats(0.1, 3600),
)
def test_headers_never_do_more_than_wait_within_bounds(remaining, limit, reset, most_s: float):
    assert 0 <= shared_wait_s(said(remaining, limit, reset), 0.2, most_s) <= max(60, most_s)


def test_pacer_waits_until_the_end_of_a_window_of_which_others_have_left_less_than_the_share():
    pacer = Pacer([Window(100, 60)], share=0.8, keep_free=0.2)
    pacer.heed(5.0, said(20))
    assert not pacer.is_paused(5.0)
    pacer.heed(5.0, said(19))
    assert (pacer.is_paused(44.9), pacer.is_paused(45.0)) == (True, False)
    assert [pacer.reserve(45.0) for _ in range(3)] == [0.0, 0.75, 1.5]  # no burst, as after other pauses


# --- how long it takes ------------------------------------------------------------------------------------------------


@given(
    windows=st.lists(
        st.tuples(st.integers(1, 1000), st.sampled_from([0.5, 1, 3, 60, 100, 600, 3600])), min_size=1, max_size=3
    ),
    share=st.floats(0.05, 1),
    requests=st.integers(1, 600),
)
@example(windows=[(3000, 3)], share=0.8, requests=500)
@example(windows=[(300, 3), (250, 3600)], share=0.8, requests=600)  # as with monthly active users: burst and hour
def test_time_that_requests_take_is_that_of_the_pacer(windows, share: float, requests: int):
    limits = [Window(*window) for window in windows]
    took_s = starts_of(Pacer(limits, share), [0.0] * requests, [0.0] * requests)[-1]
    assert took_s * (1 - ROUNDED_S) <= last_start_s(requests, limits, share) <= took_s * 1.001 + CATCH_UP_S


def test_no_requests_take_no_time():
    assert (last_start_s(0, [Window(1, 60)]), last_start_s(1, [Window(1, 60)]), last_start_s(2, [])) == (0, 0, 0)


def test_waits_double_up_to_a_bound_and_end():
    policy = RetryPolicy(tries=7, first_wait_s=1, max_wait_s=10, give_up_after_s=100)
    assert [next_wait_s(n, 0, policy, 1.0) for n in range(1, 8)] == [1, 2, 4, 8, 10, 10, None]
    assert next_wait_s(1, 100, policy, 1.0) is None


@given(attempt=st.integers(1, 5), jitter=st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_half_of_a_wait(attempt, jitter):
    policy = RetryPolicy()
    full, jittered = (next_wait_s(attempt, 0, policy, j) for j in (1.0, jitter))
    assert full is not None
    assert jittered is not None
    assert full / 2 <= jittered <= full
