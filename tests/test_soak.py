"""`make soak`, in short: what runs on two machines upload, with kills, and how often they write."""

import pytest

from tests.soak import KINDS, Soak, Tenth, soak

pytestmark = pytest.mark.long
RUNS, ROWS = 40, 2_000
RECORDS = 19_000  # bytes of the 100 records of a run
LEDGER = 100 * 7 * 12  # ... of their changed cells in the ledger, each 12 at most


def tenths(name: str, runs: int = RUNS) -> list[Tenth]:
    found = list(soak(name, True, runs, ROWS))
    assert isinstance(found[-1], Soak)
    return [one for one in found if isinstance(one, Tenth)]


def test_runs_with_small_changes_upload_no_more_than_five_times_their_records():
    found = tenths("small changes")
    assert sum(one.failed for one in found) == 0
    assert sum(one.up for one in found) < 5 * RECORDS * RUNS
    assert found[-1].at_rest / found[-1].looks < 2 * found[0].at_rest / found[0].looks
    assert 0 < found[-1].ledger < LEDGER * RUNS


def test_run_that_changes_nothing_makes_two_small_writes():
    found = tenths("unchanged", RUNS // 2)
    assert sum(one.failed for one in found) == 0
    assert sum(one.writes for one in found) < 3 * RUNS // 2  # those of killed runs, and each piece of the log, too
    assert sum(one.up for one in found) < 8_000 * RUNS // 2


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"small changes", "unchanged"}))
def test_other_kinds_upload_what_they_change(name: str):
    found = [one for one in soak(name, True, 10, ROWS) if isinstance(one, Tenth)]
    assert sum(one.failed for one in found) == 0
    assert found[-1].up < 200_000
