"""A short torture; `make test-random` is a longer one, and `make torture` the long one."""

import pytest
from hypothesis import settings

from tests.shop import examples
from tests.torture import NAMES, torture


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_killed_syncs_lose_nothing_double_nothing_and_keep_no_doubt_to_themselves(name: str, seed: int):
    kills = examples(2, 20)
    row = torture(name, kills, seed, by_the_clock=not settings.default.derandomize)
    assert row.killed == kills
    assert (row.lost, row.sent_again, row.untold, row.doubled, row.unledgered) == (0, 0, 0, 0, 0)
