"""A few models of `make attack`, kind `values`; more of them there."""

import random
from pathlib import Path

import pytest

from reverse_etl.sandbox import Sandbox
from tests.canary import KEY
from tests.disagreements import RECORD_TYPES, disagreements
from tests.shop import Shop, examples


@pytest.mark.parametrize("record_type", RECORD_TYPES)
def test_what_the_sandbox_refuses_or_drops_was_announced(record_type: str, seed: int, tmp_path: Path):
    for number in range(examples(1, 10)):
        with Sandbox(keys={KEY: {"*"}}, keep_first_type=False) as braze:
            shop = Shop(tmp_path / str(number), braze)
            assert list(disagreements(shop, record_type, random.Random(f"{seed} {number}"))) == []
