"""Rows in Spark that are compared with Braze, sent again, and taken back: as if they were in the state."""

from typing import Any

import pyarrow
import pytest

from tests.runs.test_reverting import last_run, profiles, revert
from tests.runs.test_verify import tell, verified
from tests.shop import Retl, Shop
from tests.warehouses.conftest import Sail, Warehouse, comparing
from tests.warehouses.test_comparing import KEEPS, acknowledged, pointer, tables


def rows(*of: tuple[str, str | None, int | None]) -> pyarrow.Table:
    names = {"external_id": pyarrow.string(), "tier": pyarrow.string(), "n": pyarrow.int64()}
    return pyarrow.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in of], pyarrow.schema([*names.items()])
    )


FIRST = rows(("u1", "basic", 1), ("u2", "basic", 2), ("u3", "gold", 3))
SECOND = rows(("u1", "gold", 1), ("u2", "gold", 20), ("u3", "gold", 3), ("u4", "basic", 4))


@pytest.fixture
def spark(shop: Shop, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    comparing(shop, lasting, schema)
    found = Warehouse("sail-engine", shop)
    shop.sync("it", f"SELECT * FROM {found.put('people', FIRST)}", **KEEPS)
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.long
def test_what_differs_is_sent_again_after_a_repair_and_nothing_else(spark: Warehouse, lasting: Sail, schema: str):
    shop = spark.shop
    shop.run()
    spark.put("people", SECOND)
    shop.run()
    assert (verified(shop).rows, verified(shop).differing) == (4, 0)
    tell(shop, "/users/track", {"attributes": [{"external_id": "u1", "n": 99}, {"external_id": "u4", "tier": None}]})
    found = verified(shop, repair=True)
    assert (found.rows, found.differing, found.repaired) == (4, 2, 2)
    assert pointer(shop).numbers.unsure == 2
    result = shop.run()
    assert (result.status, result.plan.changed, pointer(shop).numbers.unsure) == ("success", 2, 0)
    assert verified(shop).differing == 0
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}


@pytest.mark.long
def test_sample_is_the_same_for_the_same_seed(spark: Warehouse):
    shop = spark.shop
    many = rows(*((f"u{n}", "gold", n) for n in range(200)))
    spark.put("people", many)
    shop.run()
    tell(shop, "/users/track", {"attributes": [{"external_id": f"u{n}", "n": -1} for n in range(0, 75)]})
    one, same, other = (verified(shop, 40, seed=seed).first for seed in (1, 1, 2))
    assert (one == same, one == other) == (True, False)


@pytest.mark.long
def test_run_is_taken_back_and_pinned_values_stay(spark: Warehouse, lasting: Sail, retl: Retl):
    shop = spark.shop
    shop.run()
    before = profiles(shop)
    spark.put("people", SECOND)
    shop.run()
    run = last_run(shop)
    refused = retl("revert", run, folder=shop.folder)
    assert "the model still returns 5 of 5 values to be reverted" in refused.err
    planned = revert(shop, retl, run, "--pin")
    assert planned.out.splitlines()[0] == f"it: 5 values of {run} to be reverted, pinned until the model returns others"
    assert profiles(shop) == {**before, "u4": {}}
    for _ in range(2):
        assert shop.run().plan.to_send == 0
    assert [row[:3] for row in acknowledged(shop, lasting)] == [
        ("u1", "basic", "1"),
        ("u2", "basic", "2"),
        ("u3", "gold", "3"),
        ("u4", None, None),
    ]
    spark.put("people", rows(*[("u2", "gold", 21) if one[0] == "u2" else one for one in ROWS_OF_SECOND]))
    assert shop.run().plan.changed == 1
    assert profiles(shop) == {**before, "u2": {"tier": "basic", "n": 21}, "u4": {}}
    assert "4 values" in retl("revert", run, "--unpin", folder=shop.folder).out
    shop.run()
    assert profiles(shop) == {
        "u1": {"tier": "gold", "n": 1},
        "u2": {"tier": "gold", "n": 21},
        "u3": {"tier": "gold", "n": 3},
        "u4": {"tier": "basic", "n": 4},
    }


ROWS_OF_SECOND: list[Any] = [tuple(row.values()) for row in SECOND.to_pylist()]


@pytest.mark.long
def test_row_that_left_the_model_is_set_again(spark: Warehouse, lasting: Sail, retl: Retl):
    shop = spark.shop
    shop.sync("it", f"SELECT * FROM {spark.put('people', FIRST)}", on_removed="clear", **KEEPS)
    shop.run()
    before = profiles(shop)
    spark.put("people", FIRST.slice(0, 2))
    shop.run()
    run = last_run(shop)
    assert len(acknowledged(shop, lasting)) == 2
    revert(shop, retl, run, "--pin")
    assert (profiles(shop), len(acknowledged(shop, lasting))) == (before, 3)
    assert shop.run().plan.to_send == 0
