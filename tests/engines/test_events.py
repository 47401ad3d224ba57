"""Events whose key is the whole row: what was acknowledged, or is in doubt, is not sent again for being written otherwise."""

import json
from collections import Counter

import pytest

from reverse_etl.sandbox import Fault
from tests.shop import Retl, Shop, database, some

EVENTS = {"mode": "users_track", "track_record_type": "events"}
MODEL = "SELECT user AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, CAST(p AS JSON) AS properties FROM seen"
A, A_ALSO, B = '{"x": 1, "y": 2}', '{"y":2, "x":1}', '{"x": 2, "y": 1}'


def seen(shop: Shop, *rows: tuple[str, str]) -> None:
    shop.warehouse(
        f"""CREATE OR REPLACE TABLE seen ("user" VARCHAR, p VARCHAR);
        INSERT INTO seen VALUES {", ".join(["(?, ?)"] * len(rows))}""",
        *(value for row in rows for value in row),
    )


def sent(shop: Shop) -> Counter[str]:
    return Counter(json.dumps(event["properties"]) for event in json.loads(shop.sent()[-1])["events"])


@pytest.mark.long
@pytest.mark.parametrize("how", some([{}, {"incremental": {"cursor": "time"}}]), ids=str)
def test_event_with_its_json_written_otherwise_is_the_same_event(shop: Shop, how: dict[str, object]):
    seen(shop, ("u1", A), ("u2", A), ("u3", B))
    shop.sync("it", MODEL, **EVENTS, **how).run()
    seen(shop, ("u1", A_ALSO), ("u2", A), ("u3", B), ("u4", A_ALSO))
    result = shop.run()
    assert (result.plan.rows, result.plan.added, result.plan.unchanged) == (4, 1, 3)
    assert [event["external_id"] for event in json.loads(shop.sent()[-1])["events"]] == ["u4"]
    assert [row[0] for row in shop.rows_of("state", "properties", "external_id")].count(A_ALSO) == 2
    assert (shop.run().plan.unchanged, len(shop.sent())) == (4, 2)


@pytest.mark.long
def test_equal_events_are_counted_however_they_are_written(shop: Shop):
    seen(shop, ("u1", A), ("u1", A_ALSO), ("u1", A))
    shop.sync("it", MODEL, **EVENTS).run()
    seen(shop, ("u1", A_ALSO), ("u1", A_ALSO), ("u1", A), ("u1", A))
    assert shop.run().plan.added == 1
    seen(shop, *[("u1", A)] * 5)
    assert (shop.run().plan.added, shop.run().plan.unchanged) == (1, 5)
    seen(shop, ("u1", A), ("u1", B))
    assert shop.run().plan.added == 1
    assert sent(shop) == {B: 1}


@pytest.mark.long
@pytest.mark.parametrize("decision", [None, "--resend", "--mark-accepted"])
def test_event_in_doubt_is_recognized_however_it_is_written(shop: Shop, retl: Retl, decision: str | None):
    seen(shop, ("u1", A), ("u2", B))
    shop.sync("it", MODEL, **EVENTS)
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 2
    if decision:
        assert retl("resolve", "it", decision, "--yes", folder=shop.folder).code == 0
    seen(shop, ("u1", A_ALSO), ("u1", A_ALSO), ("u2", B))
    plan = shop.run().plan
    assert (plan.to_send, plan.held, plan.marked_accepted) == {
        None: (1, 2, 0),
        "--resend": (3, 0, 0),
        "--mark-accepted": (1, 0, 2),
    }[decision]
    plan = shop.run().plan
    assert (plan.to_send, plan.held) == (0, 0 if decision else 2)
    assert len(shop.rows_of("in_doubt")) == (0 if decision else 2)


@pytest.mark.long
@pytest.mark.parametrize("key", some([["external_id", "p"], ["p"]]), ids=str)
def test_event_in_doubt_is_recognized_by_a_key_that_is_written_otherwise(shop: Shop, key: list[str]):
    seen(shop, ("u1", A), ("u2", B))
    model = MODEL.replace("AS properties", "AS p, 'home' AS page")
    shop.sync("it", model, **EVENTS, primary_key=key, exclude_columns=["p"])
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 2
    seen(shop, ("u1", A_ALSO), ("u2", B), ("u3", '{"x": 2.0, "y": 1}'))
    shop.model("it", model.replace("home", "shop"))
    plan = shop.run().plan
    assert (plan.to_send, plan.held) == (1, 2)
    assert [event["external_id"] for event in json.loads(shop.sent()[-1])["events"]] == ["u3"]
    assert (shop.run().plan.to_send, shop.run().plan.held) == (0, 2)


@pytest.mark.long
def test_event_in_doubt_that_a_collation_numbered_is_held(shop: Shop):
    """The version before numbered home and Home as 1 and 2."""
    shop.warehouse("CREATE TABLE pages (external_id VARCHAR, page VARCHAR COLLATE nocase)")
    shop.warehouse("INSERT INTO pages VALUES ('u1', 'home'), ('u1', 'Home')")
    shop.sync("it", "SELECT *, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM pages", **EVENTS)
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 2
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("UPDATE in_doubt SET key = replace(key, '#1', '#2') WHERE body LIKE '%Home%'")
    assert (shop.run().plan.held, len(shop.sent())) == (2, 1)
    shop.warehouse("INSERT INTO pages VALUES ('u1', 'Home')")
    plan = shop.run().plan
    assert (plan.held, plan.to_send) == (2, 1)
