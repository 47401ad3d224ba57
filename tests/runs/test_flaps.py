"""`retl flaps` names what changes too often, and says by what."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.shop import EVENTS, FakeClock, Outcome, Retl, Shop, running

ROWS = 20  # of which every second has real changes
# By the rule that is to hold of a column: its value in run n of row i. What is real is not judged.
COLUMNS = {
    "clock": ["TIMESTAMP '2026-01-01' + INTERVAL (n) HOUR", "100 + n + i", "DATE '2020-01-01' + n"],
    "time": [
        "CASE WHEN i % 2 = 0 THEN TIMESTAMP '2026-01-01' + INTERVAL (n + i) HOUR ELSE TIMESTAMP '2026-01-01' END",
        "{'id': i, 'at': CASE WHEN i % 2 = 0 THEN (DATE '2026-01-01' + n)::VARCHAR END}",
    ],
    "rounding": ["i + 0.1 + i * n * 1e-9", "[0.5, i * 1e6 + 0.25 + n * 0.001]", "'score ' || (1e5 + n * 1e-3)::VARCHAR"],
    "order": ["CASE WHEN n % 2 = 0 THEN ['a', 'b', 'c'] ELSE ['c', 'a', 'b'] END"],
    "spelling": ["CASE n WHEN 1 THEN 'New York' WHEN 2 THEN 'new york' WHEN 3 THEN 'NewYork' ELSE ' New York' END"],
    "back_and_forth": ["CASE WHEN (i + n) % 2 = 0 THEN 'a' ELSE 'b' END"],
    None: [
        "CASE WHEN i % 2 = 0 THEN n * n * i END",
        "10000000 + CASE WHEN i % 2 = 0 THEN n ELSE 0 END",
        "'x' || (n * i)",
        "CASE WHEN n = 4 THEN 'A' ELSE 'a' END",  # once only
    ],
}  # fmt: skip
WHY = {f"{rule or 'real'}_{number}": rule for rule, of in COLUMNS.items() for number in range(len(of))}


def model(n: int) -> str:
    cells = ", ".join(f"{sql} AS {rule or 'real'}_{at}" for rule, of in COLUMNS.items() for at, sql in enumerate(of))
    return f"SELECT 'u' || i AS external_id, {cells} FROM (SELECT i, {n} AS n FROM range({ROWS}) r(i))"


def asked(retl: Retl, shop: Shop, *arguments: str) -> Outcome:
    return retl("flaps", *arguments, folder=shop.folder)


def in_json(retl: Retl, shop: Shop, *arguments: str) -> dict[str, Any]:
    said = asked(retl, shop, *arguments, "--output", "json")
    assert said.code == 0, said.err
    return json.loads(said.out)


@pytest.mark.long
def test_each_column_has_the_rule_that_holds_of_its_changes(shop: Shop, retl: Retl):
    for n in range(1, 5):
        shop.sync("it", model(n)).run()
    found = in_json(retl, shop, "--limit", "100")
    assert {one["column"]: one["reason"] for one in found["columns"]} == WHY
    by_name = {one["column"]: one for one in found["columns"]}
    numbers = ("changes", "rows", "runs", "data_points")
    assert [by_name["clock_0"][name] for name in numbers] == [60, 20, 3, 60]
    assert [by_name["time_1"][name] for name in numbers] == [30, 10, 3, 60]  # an object of two keys
    assert sum(one["changes"] for one in found["columns"]) == sum(one["changes"] for one in found["rows"])
    assert {one["runs"] for one in found["rows"]} == {3}


CLOCK = "SELECT 'u' || i AS external_id, i AS n,\n    now() AS synced_at FROM range(3) r(i)"


@pytest.mark.long
def test_column_that_is_made_of_the_time_is_named_with_its_line_and_the_way_out(shop: Shop, retl: Retl):
    for _ in range(3):
        shop.sync("it", CLOCK).run()
    said = asked(retl, shop, "--days", "7")
    assert [line.split() for line in said.out.splitlines()] == [
        ["sync", "column", "changes", "rows", "runs", "data", "points", "why"],
        ["it", "synced_at", "6", "3", "2", "6", "now()", "in", "models/it.sql:2"],
        [],
        ["sync", "row", "changes", "runs", "data", "points"],
        *(["it", f"u{number}", "2", "2", "2"] for number in range(3)),
    ]
    way_out = "it: synced_at: leave it out (`exclude_columns: [synced_at]`), or take its value from the data"
    assert said.err.splitlines() == [way_out]
    shop.sync("it", CLOCK, exclude_columns=["synced_at"])
    assert shop.run().plan.to_send == 0


@pytest.mark.long
def test_keys_that_are_personal_are_masked_as_in_why_which_takes_them(shop: Shop, retl: Retl):
    for n in range(2):
        shop.sync("it", f"SELECT 'ann@x.example' AS email, {n} AS n").run()
    (row,) = in_json(retl, shop)["rows"]
    assert "ann" not in row["key"]
    assert json.loads(retl("why", row["key"], "--output", "json", folder=shop.folder).out)["cells"]
    assert in_json(retl, shop, "--show-values")["rows"][0]["key"] == "ann@x.example"


@pytest.mark.long
def test_only_the_last_days_and_the_chosen_syncs_count(shop: Shop, retl: Retl):
    for n in range(3):
        shop.clock = FakeClock(ahead=timedelta(days=n - 40))
        shop.sync("it", f"SELECT 'u1' AS external_id, {n} AS n", ledger={"keep": "90 days"})
        shop.sync("other", f"SELECT 'u1' AS external_id, {n} AS m", ledger={"keep": "90 days"}).run_all("it", "other")
    found = in_json(retl, shop, "it", "other")
    assert (found["columns"], found["notes"]) == (
        [],
        [f"{it}: nothing was changed in the last 30 days" for it in ("it", "other")],
    )
    assert [(one["sync"], one["changes"]) for one in in_json(retl, shop, "--days", "60")["columns"]] == [
        ("it", 2),
        ("other", 2),
    ]
    assert [one["sync"] for one in in_json(retl, shop, "--days", "60", "--select", "oth*")["columns"]] == ["other"]
    assert [one["changes"] for one in in_json(retl, shop, "it", "--days", "40")["columns"]] == [2]


@pytest.mark.long
def test_ledger_that_is_off_gone_or_has_nothing_is_told(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS n", ledger={"keep": 0})
    assert asked(retl, shop).err == "it: has not run yet\n"
    shop.run()
    off = "it: its ledger is off (ledger: {keep: 0}, syncs.yml:18:5): what changes is not known\n"
    assert (asked(retl, shop).code, asked(retl, shop).out, asked(retl, shop).err) == (0, "", off)
    shop.sync("it", "SELECT 'u1' AS external_id, 2 AS n")
    without = "1 run of the last 30 days without one"
    assert asked(retl, shop).err == f"it: its ledger has nothing; {without}\n"
    shop.run()
    assert f"; {without}\n" in asked(retl, shop).err


@pytest.mark.long
def test_sync_that_deletes_has_no_ledger_on_purpose(shop: Shop, retl: Retl):
    shop.sync("gone", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True).run()
    assert asked(retl, shop).err == "gone: of users that it deletes, the ledger keeps nothing, on purpose\n"


@pytest.mark.long
def test_all_columns_of_a_changed_row_are_no_changes(shop: Shop, retl: Retl):
    for n in range(2):
        shop.sync("it", f"SELECT 'u1' AS external_id, {n} AS n, 1 AS m", send="all_columns").run()
    found = in_json(retl, shop)
    said = "it: all columns of a changed row are sent (send: all_columns); counted is what has changed"
    assert ([one["column"] for one in found["columns"]], found["notes"]) == (["n"], [said])


@pytest.mark.long
def test_state_that_cannot_be_read_hides_no_other(shop: Shop, retl: Retl):
    for n in range(2):
        shop.sync("it", f"SELECT 'u1' AS external_id, {n} AS n").run("it")
    shop.sync("other", "SELECT 'u1' AS external_id, 1 AS m").run("other")
    (shop.folder / ".retl/test/other/state.duckdb").write_bytes(b"damaged")
    said = asked(retl, shop, "--output", "json")
    found = json.loads(said.out)
    assert ([one["column"] for one in found["columns"]], said.code) == (["n"], 1)
    assert [error["code"] for error in found["errors"]] == ["S006"]
    assert said.err.startswith("cannot use .retl/test/other/state.duckdb: ")


@pytest.mark.long
def test_events_change_nothing(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time", **EVENTS).run()
    assert (asked(retl, shop).out, in_json(retl, shop)["columns"]) == ("", [])


@pytest.mark.long
def test_state_that_a_sync_is_using_is_read_as_it_was_before(shop: Shop, retl: Retl):
    for n in range(2):
        shop.sync("it", f"SELECT 'u1' AS external_id, {n} AS n").run()
    before = in_json(retl, shop)
    shop.model("it", "SELECT 'u1' AS external_id, 5 AS n")
    with running(shop, "u1"):
        assert in_json(retl, shop) == before
    assert [one["changes"] for one in before["columns"]] == [1]
