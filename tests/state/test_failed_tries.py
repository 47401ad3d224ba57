"""Tries of syncs that failed, or were skipped, without a run in their state: all are known that there is room for."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.runs.flaps import HowToLook
from reverse_etl.runs.site import collect
from reverse_etl.sandbox import Sandbox
from reverse_etl.state.failed_tries import MOST_BYTES, Try, kept, note_try, tried, with_one, written
from tests.shop import Retl, Shop, database, start

AT = datetime(2026, 11, 24, 23, 58, tzinfo=UTC)
ONE, MINUTE, DAY = "SELECT 'u1' AS external_id, 1 AS n", timedelta(minutes=1), timedelta(days=1)
NOWHERE = "SELECT * FROM nowhere"


@pytest.fixture
def shop(tmp_path: Path, braze: Sandbox) -> Shop:
    return Shop(tmp_path, braze).sync("it", NOWHERE).sync("later", "SELECT 'u1' AS external_id, 1 AS m", after="it")


def failed(minutes: int, sync: str = "it", why: str = "SQL error [P051]") -> Try:
    return Try(sync, "failed", AT + minutes * MINUTE, AT + minutes * MINUTE, (why,))


def tries_on_page(shop: Shop) -> dict[str, list[tuple[str, int, str]]]:
    site = collect(shop.project(), HowToLook(30, 1, shop.clock.utc()), "1.0")
    return {sync.name: [(one.status, one.times, one.why) for one in sync.tries] for sync in site.syncs}


@pytest.mark.long
def test_all_tries_that_left_no_run_stay_on_the_page_when_the_sync_succeeds(shop: Shop):
    shop.run_all("it", "later")
    shop.model("it", "SELECT oops")
    shop.clock.ahead = DAY
    shop.run_all("it", "later")
    shop.model("it", ONE)
    shop.clock.ahead = 2 * DAY
    assert [result.status for result in shop.run_all("it", "later")] == ["success", "success"]
    assert tries_on_page(shop) == {
        "it": [("failed", 1, "SQL error [P051] in models/it.sql:1")] * 2,
        "later": [("skipped", 1, "its predecessors had not succeeded: it")] * 2,
    }
    assert (shop.folder / ".retl/test/failed_tries.json").stat().st_mode & 0o077 == 0


@pytest.mark.long
@pytest.mark.parametrize("has_run", [False, True], ids=["first run", "later run"])
def test_run_that_is_killed_in_its_model_is_seen_by_status_and_page_and_noted_by_the_next(
    shop: Shop, retl: Retl, has_run: bool
):
    if has_run:
        assert shop.sync("it", ONE).run("it").status == "success"
    endless = "SELECT 'u' || sum(a.i * b.i) AS external_id, 1 AS n FROM range(10000000) a(i), range(10000000) b(i)"
    shop.sync("it", endless).write()
    left = shop.folder / ".retl/test/it/begun.json"
    with start(shop, "sync", "it") as process:
        process.wait_until(left.exists)
        assert status_of(retl, shop)["last_run"] == "running"
        process.kill()
        process.wait()
    begun = json.loads(left.read_text())["at"]
    for _ in range(2):  # to look at it changes nothing
        seen = status_of(retl, shop)
        assert (seen["last_run"], "killed before it had sent anything" in seen["message"]) == ("killed", True)
    site = collect(shop.project(), HowToLook(30, 1, datetime.now(UTC)), "1.0")
    page = next(one for one in site.syncs if one.name == "it")
    assert (page.status, [one.status for one in page.tries]) == ("killed", ["killed"])
    shop.model("it", "SELECT oops")
    again = retl("sync", "it", folder=shop.folder)
    assert (again.code, "was killed before it had sent anything" in again.err) == (2, True)
    assert status_of(retl, shop)["failures"] == 2
    shop.model("it", "SELECT 'u2' AS external_id, 1 AS n")
    assert retl("sync", "it", folder=shop.folder).code == 0
    seen = status_of(retl, shop)
    assert (seen["last_run"], seen["failures"], seen["message"], left.exists()) == ("success", 0, None, False)
    killed = next(one for one in tried(shop.project()) if one.status == "killed")
    assert (killed.sync, killed.at.isoformat()) == ("it", begun)


def status_of(retl: Retl, shop: Shop) -> dict[str, Any]:
    (found,) = json.loads(retl("status", "it", "--output", "json", folder=shop.folder).out)
    return dict(found)


@pytest.mark.long
def test_run_that_is_on_record_is_no_such_try(shop: Shop):
    shop.sync("it", ONE, guards={"max_requests": 0})
    assert shop.run("it").status == "blocked"
    assert tries_on_page(shop) == {"it": [], "later": []}


@pytest.mark.long
def test_last_try_that_a_version_before_has_noted_is_on_the_page(shop: Shop):
    shop.run("it")
    (shop.folder / ".retl/test/failed_tries.json").unlink()
    assert tries_on_page(shop)["it"] == [("failed", 1, "SQL error [P051] in models/it.sql:1")]


def test_same_failure_of_a_day_is_one_line_with_how_often():
    known = list[Try]()
    for one in (failed(0), failed(0, "other"), failed(1), failed(2), failed(3), failed(4, why="no such table")):
        known = with_one(known, one)
    assert [(one.sync, one.times, one.at, one.until) for one in known] == [
        ("other", 1, AT, AT),
        ("it", 2, AT, AT + MINUTE),
        ("it", 2, AT + 2 * MINUTE, AT + 3 * MINUTE),  # the next day
        ("it", 1, AT + 4 * MINUTE, AT + 4 * MINUTE),
    ]


def test_file_does_not_grow_and_a_sync_that_fails_most_pushes_out_its_own(shop: Shop):
    project, path = shop.project(), shop.folder / ".retl/test/failed_tries.json"
    many = [failed(minute, why=f"{minute} {'x' * 300}") for minute in range(1000)]
    found = kept([failed(0, "other"), *many])
    assert found == [failed(0, "other"), *many[1 - len(found) :]]
    assert len(found) > 500
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"tries": [written(one) for one in found]}))
    for minute in range(1000, 1005):
        note_try(project, failed(minute, why=f"{minute} {'x' * 300}"))
        assert path.stat().st_size <= MOST_BYTES
    assert tried(project)[0] == failed(0, "other")
    assert tried(project)[-1] == failed(1004, why=f"1004 {'x' * 300}")


@pytest.mark.parametrize("text", ["", "[]", '{"tries": 1}', '{"tries": [1, {"sync": "it", "at": "2026"}]}'])
def test_damaged_file_is_begun_again(shop: Shop, text: str):
    shop.run("it")
    (shop.folder / ".retl/test/failed_tries.json").write_text(text)
    shop.run("it")
    (one,) = tried(shop.project())
    assert (one.sync, one.status, one.times) == ("it", "failed", 1)


@pytest.mark.long
def test_earlier_runs_that_did_not_succeed_are_listed_beside_the_last_ones(shop: Shop):
    shop.sync("it", ONE, guards={"max_requests": 0}).run("it")
    shop.sync("it", ONE).run("it")
    more = "'x' || i AS run_id, started_at + to_minutes(i) AS started_at, finished_at + to_minutes(i) AS finished_at"
    with database(shop.folder / ".retl/test/it/state.duckdb") as state:
        state.execute(
            f"INSERT INTO runs SELECT runs.* REPLACE ({more}) FROM runs, range(1, 40) r(i) WHERE status = 'success'"
        )
    site = collect(shop.project(), HowToLook(30, 1, shop.clock.utc()), "1.0")
    (statuses,) = ([run.status for run in sync.runs] for sync in site.syncs if sync.name == "it")
    assert statuses == ["success"] * 30 + ["blocked"]
