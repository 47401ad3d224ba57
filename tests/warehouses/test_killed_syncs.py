"""A short torture of syncs whose models run in Sail; `make torture-engines` is the long one."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.shop import examples, some
from tests.torture import CASES, COMPARED, ComparedInSpark, InSpark, torture
from tests.warehouses.conftest import SPARK, Sail


@pytest.mark.skipif(bool(SPARK), reason="its sessions take too long to begin")
@pytest.mark.parametrize("name", some(CASES))
@pytest.mark.long
def test_rows_are_neither_lost_nor_sent_twice_when_syncs_are_killed(name: str, sail: Sail, seed: int, tmp_path: Path):
    kills = examples(1, 6)
    by_the_clock = not settings.default.derandomize
    row = torture(name, kills, seed, by_the_clock, InSpark(sail.address, tmp_path))
    assert row.killed == kills
    assert (row.lost, row.sent_again, row.untold, row.doubled) == (0, 0, 0, 0)


@pytest.mark.long
@pytest.mark.skipif(bool(SPARK), reason="its sessions take too long to begin")
@pytest.mark.parametrize("name", some(COMPARED, every=7))
def test_the_same_where_rows_are_compared_in_spark(name: str, lasting: Sail, seed: int, tmp_path: Path):
    kills = examples(1, 6)
    by_the_clock = not settings.default.derandomize
    row = torture(name, kills, seed, by_the_clock, ComparedInSpark(lasting.address, tmp_path))
    assert row.killed == kills
    assert (row.lost, row.sent_again, row.untold, row.doubled, row.unledgered) == (0, 0, 0, 0, 0)
