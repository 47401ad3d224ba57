"""A first run makes records of rows as the model returns them: the same ones as if it had stored the rows first."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.shop import Shop

ROWS = """
    SELECT 'u' || i AS external_id, CASE WHEN i % 3 > 0 THEN i END AS n, i / 7 AS half, repeat('x', 250 + i % 10) AS text,
        CASE i % 5 WHEN 0 THEN '{"a": 1}' WHEN 1 THEN '{"a": null}' WHEN 2 THEN 'null' ELSE '{"inc": 2}' END::JSON AS doc,
        CASE WHEN i % 4 > 0 THEN [i, i + 1] END AS list, {'a': i, 'b': CASE WHEN i % 2 = 0 THEN 'b' END} AS object,
        CASE i % 6 WHEN 0 THEN 'infinity'::TIMESTAMP ELSE TIMESTAMP '2026-11-23 10:00:00.5' END AS at,
        CASE i % 7 WHEN 0 THEN 'XX' ELSE 'DE' END AS country
    FROM range(60) r(i)
"""
EVENTS = """
    SELECT 'u' || i % 20 AS external_id, CASE WHEN i % 9 > 0 THEN 'seen' END AS name, TIMESTAMP '2026-11-23' AS time,
        i AS n, '{"a": ' || i || '}' AS properties
    FROM range(60) r(i)
"""
TWINS = "SELECT * REPLACE ('twin' AS external_id, 0 AS n) FROM ({}) LIMIT 2"
KEPT = "CAST(COLUMNS(* EXCLUDE (_retl_sent_at, _retl_run_id)) AS VARCHAR)"
WAYS = {
    "attributes": (ROWS, {"skip_on_invalid_records": True}),
    "attributes, all that is sent": (ROWS, {"skip_on_invalid_records": True, "nulls": "send", "send": "all_columns"}),
    "attributes, strict": (ROWS, {"skip_on_invalid_records": True, "strict": True}),
    "events": (
        EVENTS,
        {
            "skip_on_invalid_records": True,
            "track_record_type": "events",
            "mode": "users_track",
            "primary_key": ["external_id", "n"],
            "pre_formatted_fields": ["properties"],
        },
    ),
}


def records(bodies: list[str]) -> Counter[str]:
    arrays = (json.loads(body) for body in bodies)
    return Counter(json.dumps(one) for of in arrays for array in of.values() for one in array)


@pytest.mark.parametrize(("model", "options"), WAYS.values(), ids=WAYS.keys())
@pytest.mark.sampled(4)
def test_records_are_the_same_as_if_rows_had_to_be_set_aside_first(shop: Shop, model: str, options: dict[str, Any]):
    first = shop.sync("it", model, **options).run()
    sent, acknowledged = records(shop.sent()), shop.rows_of("state", KEPT)
    assert shop.run().plan.to_send == 0
    shutil.rmtree(shop.folder / ".retl")
    set_aside = shop.sync("it", f"{model} UNION ALL ({TWINS.format(model)})", **options).run()
    assert records(shop.sent()) - sent == sent
    assert shop.rows_of("state", KEPT) == acknowledged
    one, other = (replace(run.plan, run_id="", rows=0, invalid=0, added=0, not_sent={}) for run in (first, set_aside))
    assert one == other
    assert (first.plan.added + 2, first.plan.invalid + 2) == (set_aside.plan.added, set_aside.plan.invalid)


def test_row_is_acknowledged_as_it_was_sent_though_the_model_returns_other_values_each_time(shop: Shop):
    shop.sync("it", "SELECT uuid()::VARCHAR AS external_id, random() AS v FROM range(50)").run()
    sent = {one["external_id"]: one["v"] for body in shop.sent() for one in json.loads(body)["attributes"]}
    assert dict(shop.rows_of("state", "external_id", "v")) == sent


def test_model_without_rows_sends_nothing_and_the_next_run_sends_what_is_there_then(shop: Shop):
    rows = "SELECT 'u' || i AS external_id, i AS n FROM range({}) r(i)"
    empty = shop.sync("it", rows.format(0)).run()
    assert (empty.status, empty.plan.rows, shop.sent()) == ("success", 0, [])
    assert shop.sync("it", rows.format(3)).run().delivery.accepted == 3


def test_value_that_the_model_cannot_cast_is_said_with_its_line_and_nothing_is_left_behind(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id,\n    CAST(text AS INTEGER) AS n\nFROM (VALUES ('x')) AS t(text)")
    (error,) = shop.run().errors
    assert (
        error.message == "Conversion Error: Could not convert string *** to INT32 when casting from source column text"
    )
    assert str(error.location) == "models/it.sql:2"
    assert sorted(path.name for path in (shop.folder / ".retl/test/it").iterdir()) == ["lock", "state.duckdb"]
