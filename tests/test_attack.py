"""A few rounds of `make attack`; more of them there."""

import pytest

from tests.attack import KINDS, attack
from tests.shop import examples


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "values"])  # those: test_disagreements.py
@pytest.mark.parametrize("number", range(examples(1, 2)))
def test_whatever_the_world_does_nothing_is_doubled_lost_in_silence_or_leaked(
    kind: str, number: int, seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tests.attack.MANY", 2)
    attack(kind, number, seed)
