"""Runs of which nothing differs take no look at the SQL that renders: what they leave is the same."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.state.open_run import OpenRun
from tests.shop import Retl, Shop, database

PEOPLE = "SELECT 'u' || range AS external_id, range AS points, {changed} AS {name} FROM range(3)"
GROUP = "'11111111-2222-4333-8444-555555555555'"
SYNCS = {
    "attributes": ("'Ada'", "first_name", {}),
    "json": ("""CAST('{"a": 1}' AS JSON)""", "preferences", {"send": "all_columns"}),
    "consent": ("'subscribed'", "email_subscribe", {"on_removed": "clear"}),
    "set aside": ("'KR'", "country", {"skip_on_invalid_records": True, "primary_key": ["external_id", "points"]}),
    "struct": ("{'a': DATE '2026-11-23'}", "address", {"nulls": "omit"}),
    "incremental": ("TIMESTAMPTZ '2026-01-01'", "seen", {"incremental": {"cursor": "points", "lookback": 5}}),
    "deletes": ("'x'", "first_name", {"on_removed": "delete", "allow_destructive": True, "quarantine": "1 day"}),
}


def columns_of_plan(shop: Shop, retl: Retl) -> list[tuple[Any, ...]]:
    """The columns of the outbox that a plan has, and their types, but for the width of numbers that are summed up."""
    outcome = retl("plan", "it", "--out", "plan.retl", folder=shop.folder)
    assert outcome.code == 0, outcome.err
    with database(shop.folder / "plan.retl", "READ_ONLY") as connection:
        found = connection.execute(
            """SELECT column_name, CASE WHEN column_name NOT IN ('attributes', 'data_points') THEN data_type END
            FROM duckdb_columns() WHERE table_name = 'outbox' AND database_name = 'plan' ORDER BY ALL"""
        ).fetchall()
    return found


@pytest.mark.long
@pytest.mark.parametrize("case", SYNCS)
def test_outbox_without_records_has_the_columns_of_one_with_records(shop: Shop, retl: Retl, case: str):
    value, name, options = SYNCS[case]
    shop.sync("it", PEOPLE.format(changed=value, name=name), **options)
    shop.run()
    unchanged = columns_of_plan(shop, retl)
    shop.model("it", f"{PEOPLE.format(changed=value, name=name)} UNION ALL SELECT 'new', 9, {value}")
    assert unchanged == columns_of_plan(shop, retl)


@pytest.mark.long
def test_outbox_of_events_without_records_has_the_columns_of_one_with_records(shop: Shop, retl: Retl):
    events = (
        "SELECT 'u' || range AS external_id, 'e' AS name, TIMESTAMP '2026-01-01' AS time, 'x' AS note FROM range(3)"
    )
    shop.sync("it", events, mode="users_track", track_record_type="events")
    shop.run()
    unchanged = columns_of_plan(shop, retl)
    shop.model("it", f"{events} UNION ALL SELECT 'new', 'e', TIMESTAMP '2026-01-01', 'x'")
    assert unchanged == columns_of_plan(shop, retl)


def test_run_without_changes_forgets_what_was_invalid_and_keeps_its_rows(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, 'KR' AS country UNION ALL SELECT 'u2', 'Nowhere'")
    assert (shop.run().plan.left_out, len(shop.rows_of("rejects"))) == (1, 1)
    before = shop.rows_of("state", "external_id", "country")
    shop.model("it", "SELECT 'u1' AS external_id, 'KR' AS country UNION ALL SELECT 'u2', NULL")
    assert (shop.run().status, shop.rows_of("rejects")) == ("success", [])
    assert shop.rows_of("state", "external_id", "country") == before
    assert shop.rows_of("runs", "status") == [("incomplete",), ("success",)]


def test_run_that_is_killed_before_its_plan_is_complete_leaves_nothing_to_recover(shop: Shop):
    """Its database is a file that nothing was written to."""
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS points").run()
    left = shop.folder / ".retl/test/it/outbox.duckdb"
    with duckdb.connect(left):
        pass
    assert left.exists()
    assert (shop.run().status, left.exists(), len(shop.sent())) == ("success", False, 1)


def test_open_run_is_in_its_file_once_its_plan_is_complete_and_not_before(tmp_path: Path):
    """Its database keeps no log of its writes."""
    with duckdb.connect() as connection:
        run = OpenRun(connection, tmp_path)
        run.create()
        connection.execute("CREATE TABLE retl_run.main.changes AS SELECT 1 AS one")
        assert not (tmp_path / "outbox.duckdb.wal").exists()
        run.complete()
        assert [path.name for path in tmp_path.iterdir()] == ["outbox.duckdb"]


def test_state_is_whole_in_its_file_after_a_run_and_nothing_is_left_of_the_run(shop: Shop):
    """DuckDB merges no log by itself when a database is detached: that of the run is deleted anyway."""
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS points")
    for status in ("success", "success"):
        assert shop.run().status == status
        left = sorted(path.name for path in (shop.folder / ".retl/test/it").iterdir())
        assert left == ["has-run", "ledger", "lock", "state.duckdb"]
    with duckdb.connect(shop.folder / ".retl/test/it/state.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("success",), ("success",)]
