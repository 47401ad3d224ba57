"""A mode is a row of a table: one that is added from outside, and about no user, is known to syncs.yml, sent, compared
and deleted."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import requests
import yaml
from jsonschema import Draft202012Validator

from reverse_etl.braze.modes import MODES, RATE_LIMITS, Call, Deletion, Field, Kind, Mode, Shape, Slot, Window
from reverse_etl.delivery.session import open_session
from reverse_etl.errors import ProjectError
from reverse_etl.project.json_schema import json_schema
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from tests.shop import KEY, Shop

ITEMS = Call("/catalogs/drinks/items", "shelves", "catalogs.replace_items", rows_per_request=50, method="PUT")
DELETED = Call("/catalogs/drinks/items", "shelves", "catalogs.delete_items", rows_per_request=50, method="DELETE")
SHELVED = Mode(
    name="shelved_drinks",
    record_type=None,
    call=ITEMS,
    slots=(Slot("items"),),
    kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
    identifiers=(),
    exclusive=(),
    key_fields=("id",),
    deletion=Deletion(DELETED, (Slot("items"),)),
    about="item",
    options=frozenset({"on_removed", "allow_destructive"}),
    fields=(Field("id", Shape.ID, required=True), Field("title", Shape.TEXT), Field("price", Shape.NUMBER)),
)
DRINKS = "SELECT 'd' || i AS id, 'drink ' || i AS title, i * 1.5 AS price FROM range({rows}) r(i)"


@pytest.fixture
def drinks(shop: Shop, monkeypatch) -> Shop:
    monkeypatch.setitem(MODES, ("shelved_drinks", None), SHELVED)
    monkeypatch.setitem(RATE_LIMITS, "shelves", Window(16_000, 60))
    kinds = {"id": "string", "title": "string", "price": "number"}
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    catalog = {"catalogs": [{"name": "drinks", "fields": fields}]}
    made = requests.post(f"{shop.braze.url}/catalogs", json=catalog, headers={"Authorization": f"Bearer {KEY}"})
    assert made.status_code == 201, made.text
    shop.destination = {"rate_limits": {"shelves": {"requests": 100, "per_seconds": 1}}}
    return shelved(shop, DRINKS.format(rows=120))


def shelved(shop: Shop, sql: str, **options: Any) -> Shop:
    return shop.sync("it", sql, mode="shelved_drinks", **options)


def run(shop: Shop, skip: Mapping[str, int | None] | None = None) -> RunResult:
    project = shop.project()
    options = Options(threads=1, clock=shop.clock, skip_guards=skip or {})
    with open_session(project) as session:
        (result,) = run_jobs(jobs_of(project, project.spec.syncs, options, shop.listener), session)
    return result


def calls(shop: Shop) -> list[tuple[str, str, int]]:
    return [(one.method, one.path, len(json.loads(one.body)["items"])) for one in shop.braze.requests()[1:]]


def test_syncs_yml_and_its_schema_know_a_mode_that_was_added_to_the_table(drinks: Shop):
    Draft202012Validator(json_schema()).validate(yaml.safe_load((drinks.folder / "syncs.yml").read_text()))
    with pytest.raises(ProjectError) as raised:
        drinks.sync("it", "SELECT 1", mode="shelved_drink", on_removed="delete").project()
    assert str(raised.value) == (
        'syncs.yml:19:9: "shelved_drink" is not a valid value for "mode" in sync "it"\n'
        '  hint: did you mean "shelved_drinks"?'
    )
    with pytest.raises(ProjectError) as raised:
        drinks.sync("it", "SELECT 1", mode="shelved_drinks", on_removed="delete", consent={}).project()
    assert [problem.with_code for problem in raised.value.problems] == [
        'syncs.yml:20:15: "on_removed: delete" in sync "it" deletes items [P019]\n'
        '  hint: if this is intended, add "allow_destructive: true" to the sync',
        'syncs.yml:21:3: "consent" in sync "it" is not supported by mode shelved_drinks [P017]\n  hint: remove it',
    ]


def test_records_that_are_about_no_user_are_sent_by_the_method_of_the_table_and_compared(drinks: Shop):
    result = run(drinks)
    assert (result.status, result.delivery.accepted) == ("success", 120)
    assert calls(drinks) == [("PUT", ITEMS.path, rows) for rows in (50, 50, 20)]
    assert result.plan.requests == {"PUT /catalogs/drinks/items": 3}
    items = drinks.braze.catalog("drinks")
    assert len(items) == 120
    assert items[3] == {"id": "d3", "title": "drink 3", "price": 4.5}
    shelved(drinks, f"SELECT id, title, if(id = 'd3', 9, price) AS price FROM ({DRINKS.format(rows=120)})")
    assert [run(drinks).delivery.accepted, run(drinks).delivery.accepted] == [1, 0]
    assert drinks.braze.catalog("drinks")[3] == {"id": "d3", "title": "drink 3", "price": 9}


def test_item_that_braze_refuses_is_found_and_the_others_are_sent(drinks: Shop):
    shelved(drinks, f"SELECT if(id = 'd7', 'no blanks', id) AS id, title, price FROM ({DRINKS.format(rows=20)})")
    result = run(drinks)
    assert (result.status, result.delivery.accepted, result.delivery.rejected) == ("incomplete", 19, 1)
    assert [key for key, *_ in drinks.rows_of("rejects", "key")] == ["no blanks"]


def test_items_that_leave_the_model_are_deleted_by_the_call_of_the_table_under_the_guard(drinks: Shop):
    deletes = {"on_removed": "delete", "allow_destructive": True}
    assert run(shelved(drinks, DRINKS.format(rows=120), **deletes)).status == "success"
    shelved(drinks, f"SELECT * FROM ({DRINKS.format(rows=120)}) WHERE price < 90", **deletes)
    blocked = run(drinks, {"max_removed": None})
    assert [problem.message for problem in blocked.errors] == [
        "it: guard max_deletes: 60 items would be deleted; at most 50 are allowed (50, or 0.1% of 120 items in the state)"
    ]
    assert "items, for good" in blocked.errors[0].hint
    result = run(drinks, {"max_removed": None, "max_deletes": 60})
    assert (result.status, result.plan.deletes, result.delivery.accepted) == ("success", 60, 60)
    assert calls(drinks)[3:] == [("DELETE", DELETED.path, rows) for rows in (50, 10)]
    assert json.loads(drinks.braze.requests()[-1].body)["items"][0].keys() == {"id"}
    assert {item["id"] for item in drinks.braze.catalog("drinks")} == {f"d{n}" for n in range(60)}
    assert run(drinks).delivery.requests == 0
