"""A mode is a row of a table: one that is added from outside, and about no user, is sent, compared and deleted."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import requests

from reverse_etl.braze.modes import MODES, RATE_LIMITS, Call, Deletion, Field, Kind, Mode, Shape, Slot, Window
from reverse_etl.delivery.session import open_session
from reverse_etl.project.project import LoadedProject
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from tests.shop import KEY, Shop

ITEMS = Call("/catalogs/drinks/items", "catalog_items", "catalogs.replace_items", rows_per_request=50, method="PUT")
DELETED = Call("/catalogs/drinks/items", "catalog_items", "catalogs.delete_items", rows_per_request=50, method="DELETE")
CATALOG_ITEMS = Mode(
    name="catalog_items",
    record_type=None,
    call=ITEMS,
    slots=(Slot("items"),),
    kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
    identifiers=(),
    exclusive=(),
    key_fields=("id",),
    deletion=Deletion(DELETED, (Slot("items"),)),
    about="item",
    fields=(Field("id", Shape.ID, required=True), Field("title", Shape.TEXT), Field("price", Shape.NUMBER)),
)
DRINKS = "SELECT 'd' || i AS id, 'drink ' || i AS title, i * 1.5 AS price FROM range({rows}) r(i)"


@pytest.fixture
def drinks(shop: Shop, monkeypatch) -> Shop:
    monkeypatch.setitem(MODES, ("catalog_items", None), CATALOG_ITEMS)
    monkeypatch.setitem(RATE_LIMITS, "catalog_items", Window(16_000, 60))
    kinds = {"id": "string", "title": "string", "price": "number"}
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    catalog = {"catalogs": [{"name": "drinks", "fields": fields}]}
    made = requests.post(f"{shop.braze.url}/catalogs", json=catalog, headers={"Authorization": f"Bearer {KEY}"})
    assert made.status_code == 201, made.text
    return shop.sync("it", DRINKS.format(rows=120))


def in_the_mode(project: LoadedProject, **options: Any) -> LoadedProject:
    """syncs.yml knows the modes of the table only, so its sync is given the other one here."""
    syncs = [
        sync.model_copy(update={"mode_name": "catalog_items", "track_record_type": None, **options})
        for sync in project.spec.syncs
    ]
    return replace(project, spec=replace(project.spec, syncs=syncs))


def run(shop: Shop, skip: Mapping[str, int | None] | None = None, **more: Any) -> RunResult:
    project = in_the_mode(shop.project(), **more)
    options = Options(threads=1, clock=shop.clock, skip_guards=skip or {})
    with open_session(project) as session:
        (result,) = run_jobs(jobs_of(project, project.spec.syncs, options, shop.listener), session)
    return result


def calls(shop: Shop) -> list[tuple[str, str, int]]:
    return [(one.method, one.path, len(json.loads(one.body)["items"])) for one in shop.braze.requests()[1:]]


def test_records_that_are_about_no_user_are_sent_by_the_method_of_the_table_and_compared(drinks: Shop):
    result = run(drinks)
    assert (result.status, result.delivery.accepted) == ("success", 120)
    assert calls(drinks) == [("PUT", ITEMS.path, rows) for rows in (50, 50, 20)]
    assert result.plan.requests == {"PUT /catalogs/drinks/items": 3}
    items = drinks.braze.catalog("drinks")
    assert len(items) == 120
    assert items[3] == {"id": "d3", "title": "drink 3", "price": 4.5}
    drinks.sync("it", f"SELECT id, title, if(id = 'd3', 9, price) AS price FROM ({DRINKS.format(rows=120)})")
    assert [run(drinks).delivery.accepted, run(drinks).delivery.accepted] == [1, 0]
    assert drinks.braze.catalog("drinks")[3] == {"id": "d3", "title": "drink 3", "price": 9}


def test_item_that_braze_refuses_is_found_and_the_others_are_sent(drinks: Shop):
    drinks.sync("it", f"SELECT if(id = 'd7', 'no blanks', id) AS id, title, price FROM ({DRINKS.format(rows=20)})")
    result = run(drinks)
    assert (result.status, result.delivery.accepted, result.delivery.rejected) == ("incomplete", 19, 1)
    assert [key for key, *_ in drinks.rows_of("rejects", "key")] == ["no blanks"]


def test_items_that_leave_the_model_are_deleted_by_the_call_of_the_table_under_the_guard(drinks: Shop):
    assert run(drinks, on_removed="delete").status == "success"
    drinks.sync("it", f"SELECT * FROM ({DRINKS.format(rows=120)}) WHERE price < 90")
    blocked = run(drinks, {"max_removed": None}, on_removed="delete")
    assert [problem.message for problem in blocked.errors] == [
        "it: guard max_deletes: 60 items would be deleted; at most 50 are allowed (50, or 0.1% of 120 items in the state)"
    ]
    assert "items, for good" in blocked.errors[0].hint
    result = run(drinks, {"max_removed": None, "max_deletes": 60}, on_removed="delete")
    assert (result.status, result.plan.deletes, result.delivery.accepted) == ("success", 60, 60)
    assert calls(drinks)[3:] == [("DELETE", DELETED.path, rows) for rows in (50, 10)]
    assert json.loads(drinks.braze.requests()[-1].body)["items"][0].keys() == {"id"}
    assert {item["id"] for item in drinks.braze.catalog("drinks")} == {f"d{n}" for n in range(60)}
    assert run(drinks, on_removed="delete").delivery.requests == 0
