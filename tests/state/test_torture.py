"""A short torture; `make torture` is the long one."""

import pytest

from tests.torture import CASES, torture


@pytest.mark.parametrize("name", CASES)
def test_killed_syncs_lose_nothing_double_nothing_and_keep_no_doubt_to_themselves(name: str):
    row = torture(name, kills=3, seed=7)
    assert row.killed == 3
    assert (row.lost, row.sent_again, row.untold, row.doubled) == (0, 0, 0, 0)
