"""A short torture of collectors; `make torture-collect` is the long one."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.shop import examples
from tests.torture_collect import torture


@pytest.mark.long
def test_killed_collectors_keep_what_they_acknowledged_and_nothing_twice(tmp_path: Path, seed: int):
    kills = examples(6, 40)
    row = torture(kills, seed, tmp_path / "collected", by_the_clock=not settings.default.derandomize)
    assert row.acknowledged > 0
    assert (row.lost, row.doubled, row.refused, row.torn, row.made_up) == (0, 0, 0, 0, 0)
