"""A catalog of products from a model, through syncs that are killed: in the end, it is what a query of the model says."""

import json
from collections.abc import Mapping
from typing import Any

import duckdb
import pytest

from tests.shop import Held, Shop, examples, running

PRODUCTS = """
    SELECT 'p' || i AS id, 'product ' || i AS title, CAST(i % 997 * 1.25 + {more} AS DECIMAL(9, 2)) AS price,
        i % 3 = 0 AS in_stock, TIMESTAMP '2026-11-01' + to_minutes(i) AS updated_at,
        ['t' || i % 7, 't' || i % 11] AS tags, {{'ml': i % 13, 'kind': 'k' || i % 5}} AS size,
        CASE WHEN i % 4 > 0 THEN 'n' || i END AS note
    FROM range({rows}) r(i) WHERE i % 211 <> {gone}
"""
FIRST = {"more": 0, "gone": -1}
# One row in a hundred has another price, and one in ten of these no note any more; some left the model.
SECOND = {"more": "CASE WHEN i % 100 = 7 THEN 1 ELSE 0 END", "gone": 5}


def products(rows: int, how: Mapping[str, Any]) -> str:
    sql = PRODUCTS.format(rows=rows, **how)
    emptied = "if(id LIKE 'p%107', NULL, note) AS note"
    return f"SELECT * REPLACE ({emptied}) FROM ({sql})" if how is SECOND else sql


def wanted(sql: str) -> dict[str, dict[str, Any]]:
    """What the catalog must have, by a query and no code of retl's."""
    iso = "strftime(updated_at, '%Y-%m-%dT%H:%M:%S.%gZ')"
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT to_json(t) FROM (SELECT * REPLACE ({iso} AS updated_at) FROM ({sql})) t"
        ).fetchall()
    items = [json.loads(text) for (text,) in rows]
    return {one["id"]: {name: value for name, value in one.items() if value is not None} for one in items}


def held(shop: Shop) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in shop.braze.catalog("products")}


def prove(shop: Shop, rows: int, kill_at: tuple[str, str]) -> None:
    """Each sync is killed while it waits for the answer to the request about an item, and run again: of the second, the
    items that are put have gone out, those that are deleted may have, and those that are patched have not."""
    options = {"on_removed": "delete", "allow_destructive": True, "guards": {"max_deletes": "1%"}}
    for how, one in zip((FIRST, SECOND), kill_at, strict=True):
        sql = products(rows, how)
        shop.sync("it", sql, mode="catalog_items", catalog="products", **options)
        answer = Held(shop.braze, matches=lambda id, one=one: id == one)
        arguments = ["sync", "it", "--threads", "1", *(["--create-catalog"] if how is FIRST else [])]
        with running(shop, answer, arguments) as process:
            process.kill()
            process.wait()
        answer.goes_out.set()
        shop.braze.clear_faults()
        assert held(shop) != wanted(sql)  # it was killed in the middle
        result = shop.run()
        assert (result.status, shop.run().delivery.requests) == ("success", 0)
        assert held(shop) == wanted(sql)


@pytest.mark.long
def test_catalog_is_what_the_model_says_after_kills_changes_and_removals(shop: Shop):
    rows = examples(3_000, 20_000)
    prove(shop, rows, ("p1500", "p5"))
    deleted = {one["id"] for r in shop.braze.requests() if r.method == "DELETE" for one in json.loads(r.body)["items"]}
    assert deleted == {f"p{i}" for i in range(rows) if i % 211 == 5}
