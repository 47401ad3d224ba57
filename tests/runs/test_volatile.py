"""Columns that are made of the time or of chance: named when a model is compiled, and when all rows have changed by them."""

import pytest

from tests.shop import Retl, Shop


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        pytest.param("now() AS synced_at", ["synced_at is made of now()"], id="the time"),
        pytest.param("current_timestamp AS a, TODAY() AS b", ["a is made of current_timestamp()", "b is made of today()"], id="in other words"),
        pytest.param("random() AS r, uuid() AS u", ["r is made of random()", "u is made of uuid()"], id="chance"),
        pytest.param("date_diff('day', DATE '2026-01-01', today()) AS days", ["days is made of today()"], id="inside"),
        pytest.param("age(TIMESTAMP '2026-01-01') AS age", ["age is made of age()"], id="a function that has it inside"),
        pytest.param("age(d, DATE '2026-01-01') AS age FROM (SELECT DATE '2026-02-02' AS d)", [], id="between two days"),
        pytest.param("CASE WHEN d > now() THEN 1 END AS later FROM (SELECT TIMESTAMPTZ '2026-01-01' AS d)", [], id="compared"),
        pytest.param("1 AS n WHERE now() > TIMESTAMPTZ '2026-01-01'", [], id="to choose rows"),
        pytest.param("1 AS n FROM (SELECT 1 AS x, now() AS at) WHERE at IS NOT NULL", [], id="not returned"),
        pytest.param("* FROM (SELECT 1 AS x, now() AS at)", ["at is made of now()"], id="returned by a star"),
    ],
)  # fmt: skip
def test_model_that_differs_in_every_run_is_named(shop: Shop, retl: Retl, columns: str, named: list[str]):
    shop.sync("it", f"SELECT 'u1' AS external_id,\n    {columns}")
    said = retl("compile", "it", folder=shop.folder)
    rest = ", so every row differs in every run"
    assert (said.code, said.err.splitlines()) == (0, [f"note: models/it.sql:2: {one}{rest}" for one in named])


def test_column_that_no_sync_sends_is_not_named(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, now() AS at", exclude_columns=["at"])
    assert retl("compile", "it", folder=shop.folder).err == ""


def warnings(shop: Shop) -> list[str]:
    said = [notice for notice in shop.listener.notices if "only in" in notice or "as new" in notice]
    shop.listener.notices.clear()
    return said


@pytest.mark.long
def test_rows_that_changed_only_by_the_time_are_counted(shop: Shop):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n,\n    now() AS synced_at FROM range(30) r(i)").run()
    assert warnings(shop) == []
    shop.run()
    why = "models/it.sql:2 uses now()"
    assert warnings(shop) == [f"it: warning: all 30 rows changed, only in synced_at: {why}"]
    shop.model("it", "SELECT 'u' || i AS external_id, i % 10 AS n,\n    now() AS synced_at FROM range(30) r(i)")
    shop.run()
    assert warnings(shop) == [f"it: warning: 10 rows changed, only in synced_at: {why}"]


@pytest.mark.long
def test_column_that_moves_in_all_rows_is_named_where_the_sql_does_not_tell(shop: Shop):
    shop.warehouse("CREATE TABLE users AS SELECT 'u' || i AS external_id, i AS n, 1 AS load FROM range(30) r(i)")
    shop.sync("it", "SELECT * FROM users").run()
    shop.warehouse("UPDATE users SET load = 2")
    shop.run()
    assert warnings(shop) == []  # as after a change of the model
    shop.warehouse("UPDATE users SET load = 4")
    shop.run()
    said = "it: warning: all 30 rows changed, as in the run before, only in load: see exclude_columns"
    assert warnings(shop) == [said]
    shop.warehouse("UPDATE users SET load = 3 WHERE n > 3")
    shop.run()
    assert warnings(shop) == []


@pytest.mark.long
def test_events_that_count_as_new_because_of_the_time_are_said(shop: Shop):
    model = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time,\n    now() AS at FROM range(3) r(i)"
    shop.sync("it", model, mode="users_track", track_record_type="events").run()
    assert warnings(shop) == []
    shop.run()
    assert warnings(shop) == ["it: warning: 3 rows count as new, possibly because of at: models/it.sql:2 uses now()"]
