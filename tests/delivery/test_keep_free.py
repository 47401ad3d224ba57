"""`keep_free`: what a run leaves of the rate limits to others, in front of a server that others use, too."""

from collections import Counter
from pathlib import Path

import pytest

from reverse_etl.delivery.session import used_share
from reverse_etl.sandbox import Sandbox
from tests.shop import FakeClock, Shop

REQUESTS = 120
LIMIT, WINDOW_S = 30, 3.0
BY_OTHERS = 9  # in every window


def run_beside_others(folder: Path, keep_free: str, others: float) -> tuple[list[int], int, list[float]]:
    """What a run of REQUESTS requests used of every window, how many of them Braze refused, and its waits."""
    clock = FakeClock()
    with Sandbox(limits={"users_track": [(LIMIT, WINDOW_S)]}, others={"users_track": others}, clock=clock) as braze:
        limits = {"users_track": {"requests": LIMIT, "per_seconds": WINDOW_S}}
        shop = Shop(folder, braze, clock=clock, destination={"rate_limits": limits, "keep_free": keep_free})
        shop.sync("it", f"SELECT 'u' || i AS external_id, i AS n FROM range({75 * REQUESTS}) r(i)")
        result = shop.run(threads=1)
        assert (result.status, result.delivery.accepted) == ("success", 75 * REQUESTS)
        windows = Counter(int(request.at // WINDOW_S) for request in braze.requests() if request.status == 201)
        return [*windows.values()], sum(request.status == 429 for request in braze.requests()), clock.waits


@pytest.mark.parametrize(("keep_free", "most"), [("0%", 30), ("20%", 24), ("50%", 15), ("97%", 1)])
@pytest.mark.sampled(4)
def test_run_uses_of_every_window_what_is_not_kept_free(tmp_path, keep_free: str, most: int):
    used, refused, _ = run_beside_others(tmp_path / "shop", keep_free, others=0)
    assert max(used) <= most
    assert refused == 0


@pytest.mark.long
def test_others_find_their_share_free_even_if_they_use_more_than_it(tmp_path):
    """They make 9 requests of 30 where 20 %, so 6, are kept free: the run sees that, and waits for the next window."""
    used, refused, waits = run_beside_others(tmp_path / "shop", "20%", others=BY_OTHERS / WINDOW_S)
    assert max(used) + BY_OTHERS <= LIMIT
    assert refused == 0
    assert max(waits) >= 1  # for a window, not for the next start


@pytest.mark.long
def test_others_are_refused_beside_a_run_that_keeps_nothing_free(tmp_path):
    used, _, _ = run_beside_others(tmp_path / "shop", "0%", others=BY_OTHERS / WINDOW_S)
    assert max(used) + BY_OTHERS > LIMIT


def test_hour_of_a_contract_is_kept_free_by_what_its_headers_say(tmp_path):
    """Others have used 80 of 100 in 50 minutes; the run sends until 20 remain, and the rest in the next hour."""
    clock = FakeClock(start_s=1_790_000_000.0 // 3600 * 3600 + 3000)
    with Sandbox(limits={"users_track": [(100, 3600.0)]}, others={"users_track": 70 / 3000}, clock=clock) as braze:
        limits = {"users_track": {"requests": 100, "per_seconds": 3600}}
        shop = Shop(tmp_path / "shop", braze, clock=clock, destination={"rate_limits": limits, "keep_free": "20%"})
        shop.sync("it", f"SELECT 'u' || i AS external_id, i AS n FROM range({75 * 40}) r(i)")
        result = shop.run(threads=1)
        assert (result.status, result.delivery.accepted) == ("success", 75 * 40)
        hours = Counter(int(request.at // 3600) for request in braze.requests())
    assert list(hours.values()) == [11, 29]  # the one that shows 19 left is the last
    assert sum(clock.waits) == pytest.approx(600, abs=2)


def test_rate_limit_share_is_a_part_of_what_is_not_kept_free(tmp_path):
    with Sandbox() as braze:
        shop = Shop(tmp_path / "shop", braze, destination={"keep_free": "20%"})
        shop.sync("it", "SELECT 'u1' AS external_id, 1 AS n")
        assert used_share(shop.project(), 0.5) == pytest.approx(0.4)
