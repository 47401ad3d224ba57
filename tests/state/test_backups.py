"""What lies beside a state: deleted when it is opened and old enough, and when somebody is erased."""

from datetime import timedelta
from pathlib import Path

import pytest

from reverse_etl.state import commit
from tests.shop import Retl, Shop, database

PEOPLE = "SELECT 'u' || n AS external_id, 'u' || n || '@example.com' AS email FROM range(3) AS r(n)"


@pytest.fixture
def folder(shop: Shop, retl: Retl) -> Path:
    """That of a state with backups of all sorts, and with what killed processes leave."""
    shop.sync("it", PEOPLE).run()
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    shop.run()
    folder = shop.folder / ".retl/test/it"
    for name in ("before-format-7.duckdb", "before-sharing-20261101T000000.duckdb", "state.next.duckdb"):
        (folder / name).write_bytes(b"u1@example.com")
    (folder / "spill").mkdir()
    (folder / "spill/duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"u1@example.com")
    return folder


def there(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    files = (path for path in files if path.parent != folder / "ledger")
    names = {str(path.relative_to(folder)) for path in files if path.name not in ("has-run", "lock", "state.duckdb")}
    return sorted({"before-reset" if name.startswith("before-reset") else name for name in names})


def test_what_killed_processes_left_goes_with_the_next_run_and_backups_after_a_month(shop: Shop, folder: Path):
    shop.run()
    assert there(folder) == ["before-format-7.duckdb", "before-reset", "before-sharing-20261101T000000.duckdb"]
    assert len([*folder.glob("before-reset-*/state.duckdb")]) == 1
    shop.clock.ahead = timedelta(days=31)
    shop.run()
    assert there(folder) == []
    assert len([*folder.glob("before-reset-*")]) == 1  # that there was a state is known for good


def test_backups_go_when_somebody_is_erased_and_are_named(shop: Shop, folder: Path, retl: Retl):
    said = retl("forget", "u1", "--yes", folder=shop.folder)
    assert said.code == 0, said.err
    for name in ("before-format-7.duckdb", "before-sharing-20261101T000000.duckdb", "before-reset-"):
        assert f"deleted .retl/test/it/{name}" in said.out
    assert there(folder) == []
    assert "not erased" not in said.err


@pytest.mark.long
def test_what_the_sandbox_logged_of_somebody_goes_when_they_are_erased(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    shop.destination = {"endpoint": "sandbox", "api_key": None}
    shop.write()
    assert retl("sync", "it", folder=shop.folder).code == 0
    file = shop.folder / ".retl/test/sandbox.sqlite"
    said = retl("forget", "u1", "--delete-in-braze", "--yes", folder=shop.folder)
    assert said.code == 0, said.err
    assert "deleted what sandbox.sqlite had of " in said.out
    left = b"".join(path.read_bytes() for path in file.parent.glob("sandbox.sqlite*"))
    assert b"u1@example.com" not in left


@pytest.mark.long
def test_runs_are_kept_by_number_and_the_latest_that_succeeded(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commit, "RUNS_KEPT", 3)
    monkeypatch.setattr(commit, "_RUNS_AT_A_TIME", 2)
    shop.sync("it", PEOPLE).run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        later = "'r' || n, started_at + n * INTERVAL 1 HOUR, finished_at + n * INTERVAL 1 HOUR, 'failed', NULL, counts"
        columns = "run_id, started_at, finished_at, status, message, counts"
        connection.execute(f"INSERT INTO runs ({columns}) SELECT {later} FROM runs, range(1, 5) AS r(n)")
    shop.clock.ahead = timedelta(days=1)
    shop.syncs[0]["guards"] = {"max_changes": 0}
    shop.sync("it", PEOPLE.replace("range(3)", "range(4)"), guards={"max_changes": 0}).run()
    assert [status for (status,) in shop.rows_of("runs", "status")] == ["blocked", "failed", "failed", "success"]
