"""Where the hashes of a state do not fit into memory, they are joined alone first: what differs is the same."""

from collections.abc import Mapping
from typing import Any

import pytest

from reverse_etl.engines.duckdb import changes
from tests.shop import Shop
from tests.state.test_computed import changes_first, outbox

BEFORE = "SELECT 'u' || i AS external_id, i AS n, 'a' AS note, ['x'] AS tags FROM range(2000) r(i)"
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "unchanged": (BEFORE, {}),
    "some changed": (f"SELECT * REPLACE (CASE WHEN n % 100 = 7 THEN 'b' ELSE note END AS note) FROM ({BEFORE})", {}),
    "some gone, some new": (
        f"SELECT * REPLACE ('u' || n AS external_id) FROM (SELECT * REPLACE (n + 20 AS n) FROM ({BEFORE}))",
        {"on_removed": "clear"},
    ),
    "all changed": (f"SELECT * REPLACE ('c' AS note) FROM ({BEFORE})", {}),
    "other columns": (f"SELECT * EXCLUDE (note), n % 2 AS odd FROM ({BEFORE})", {}),
    "none left": (f"SELECT * FROM ({BEFORE}) WHERE n < 0", {"on_removed": "clear"}),
    "twins": (
        f"SELECT * FROM ({BEFORE}) UNION ALL SELECT * FROM ({BEFORE}) WHERE n < 3",
        {"skip_on_invalid_records": True},
    ),
    "changed twins": (
        f"SELECT * FROM ({BEFORE}) UNION ALL SELECT * REPLACE ('z' AS note) FROM ({BEFORE}) WHERE n < 3",
        {"skip_on_invalid_records": True},
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_differs_is_the_same(shop: Shop, case: str, monkeypatch: pytest.MonkeyPatch):
    sql, options = MODELS[case]
    shop.sync("it", BEFORE, **options).run()
    shop.sync("it", sql, **options)
    at_once = outbox(shop, changes_first)
    monkeypatch.setattr(changes, "_BYTES_IN_JOIN", 10**9)
    assert outbox(shop, changes_first) == at_once


def test_a_model_that_returns_other_rows_each_time_is_compared_as_it_is_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(changes, "_BYTES_IN_JOIN", 10**9)
    shop.sync("it", BEFORE, on_removed="clear").run()
    changing = (
        f"SELECT * REPLACE (CASE WHEN n < 100 THEN CAST(random() * 1e6 AS BIGINT) ELSE n END AS n) FROM ({BEFORE})"
    )
    run = shop.sync("it", changing, on_removed="clear").run()
    assert (run.plan.rows, run.plan.added, run.plan.removed) == (2000, 0, 0)
    assert 95 <= run.plan.changed <= 100
    assert run.delivery.accepted == run.plan.changed
    assert shop.sync("it", BEFORE, on_removed="clear").run().plan.changed == run.plan.changed


def test_the_rows_of_a_model_are_counted_once(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changes, "_BYTES_IN_JOIN", 10**9)
    shop.sync("it", BEFORE).run()
    run = shop.sync("it", MODELS["some changed"][0]).run()
    assert (run.plan.rows, run.plan.changed, run.plan.unchanged) == (2000, 20, 1980)
