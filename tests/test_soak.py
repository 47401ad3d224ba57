"""`make soak`, in short: what runs on two machines upload, with kills, how often they write, and what they leave."""

import pytest

from reverse_etl.shared_state.log import SHARE_OF_BASE
from tests.soak import CHANGED, KINDS, Soak, Tenth, soak

pytestmark = pytest.mark.long
RUNS, ROWS = 20, 2_000
STATE = 45 * ROWS  # bytes of it, packed: 30 to 36 a row, as rows lie in another order each time
RECORDS = 19_000  # bytes of the records of a run
PIECE = 10_000  # ... of what it adds to the log, with that of a killed run before it
LEDGER = CHANGED * 7 * 12  # ... of its changed cells in the ledger, each 12 at most


def tenths(name: str, runs: int) -> list[Tenth]:
    found = list(soak(name, True, runs, ROWS))
    assert isinstance(found[-1], Soak)
    tenths = [one for one in found if isinstance(one, Tenth)]
    assert sum(one.failed for one in tenths) == 0
    assert [one.unnamed for one in tenths] == [[]] * len(tenths)  # nor what a killed run before has left
    return tenths


def test_runs_with_small_changes_upload_no_more_than_five_times_their_records():
    """A file of DuckDB's has the blocks of its last merge, and at most as many of the one before, until they are used
    again. So a base is up to twice the state, whatever the number of runs."""
    found = tenths("small changes", RUNS)
    assert sum(one.killed for one in found) == 2
    assert sum(one.up for one in found) < 5 * RECORDS * RUNS
    assert max(one.base for one in found) < 2 * STATE
    assert max(one.log for one in found) < SHARE_OF_BASE * 2 * STATE + PIECE
    assert 0 < found[-1].ledger < LEDGER * (RUNS + 1)  # that of the first run is smaller: its rows are new


def test_run_that_changes_nothing_makes_two_small_writes():
    found = tenths("unchanged", RUNS)
    assert sum(one.writes for one in found) < 3 * RUNS  # those of killed runs, and each piece of the log, too
    assert sum(one.up for one in found) < 8_000 * RUNS


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"small changes", "unchanged"}))
def test_other_kinds_upload_what_they_change(name: str):
    assert tenths(name, 10)[-1].up < 200_000
