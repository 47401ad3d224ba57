"""What responses of catalogs mean: by each error that Braze's pages list, and of any that is not as they say."""

import json
from typing import Any

import pytest

from reverse_etl.braze.answers import Answer, NamedErrors, Outcome, Verdict, judge
from reverse_etl.braze.catalogs import catalogs_of, creation, lack_of
from reverse_etl.braze.data_types import DataType
from reverse_etl.braze.modes import MODES

CALL = MODES["catalog_items", None].call
IDS = ("a", "b", "c")


def verdict(status: int, errors: Any, ids: tuple[str, ...] = IDS, message: str = "Invalid Request") -> Verdict:
    body = json.dumps({"errors": errors, "message": message}).encode()
    return judge(Answer(status, {}, body), len(ids), {"items"}, (), NamedErrors(CALL.errors, lambda: ids))


def error(id: str, *values: Any, parameters: tuple[str, ...] = ("id",)) -> dict[str, Any]:
    return {"id": id, "message": "no", "parameters": list(parameters), "parameter_values": list(values)}


# Of the pages of asynchronous items (catalogs: post_create, patch, put, delete).
NAMING = ["ids-not-strings", "ids-not-string", "ids-not-unique", "ids-too-large", "invalid-ids", "items-too-large"]
NAMING += ["invalid-keys-in-value-object", "too-deep-nesting-in-value-object", "unable-to-coerce-value"]


@pytest.mark.parametrize("id", NAMING)
def test_error_that_names_an_item_rejects_it_and_the_others_are_sent_again(id: str):
    found = verdict(400, [error(id, "b")])
    assert (found.outcome, found.rejected) == (Outcome.REFUSED, {1: f"{id}: no"})


@pytest.mark.parametrize("id", ["item-array-invalid", "items-missing-ids", "request-includes-too-many-items"])
def test_error_that_names_no_item_makes_retl_look_for_the_one_that_is_wrong(id: str):
    found = verdict(400, [{"id": id, "message": "no", "parameters": [], "parameter_values": []}])
    assert (found.outcome, found.rejected) == (Outcome.REFUSED, {})
    assert verdict(400, [error(id)], ids=("a",)).rejected == {0: f"{id}: no"}


@pytest.mark.parametrize(
    ("status", "id"),
    [
        (404, "catalog-not-found"),
        (400, "catalog-not-found"),
        (400, "invalid-fields"),
        (400, "company-size-limit-already-reached"),
        (400, "company-size-limit-surge"),
    ],
)
def test_error_that_every_other_request_would_get_stops_the_run_with_what_to_do(status: int, id: str):
    """`invalid-fields` names an item that is not the cause: the catalog lacks a field."""
    found = verdict(status, [error("invalid-ids", "a"), error(id, "b")])
    assert (found.outcome, found.rejected) == (Outcome.FORBIDDEN, {})
    assert found.why == f"Braze returned {status}: {id}: no"
    assert found.hint == CALL.errors.stops[id]


def test_several_errors_are_told_of_the_items_that_they_name():
    found = verdict(400, [error("ids-too-large", "a"), error("unable-to-coerce-value", "c", "elsewhere")])
    assert found.rejected == {0: "ids-too-large: no", 2: "unable-to-coerce-value: no"}


def test_values_of_several_parameters_may_be_objects_with_the_id():
    found = verdict(400, [error("unable-to-coerce-value", {"id": "c", "price": "x"}, parameters=("id", "price"))])
    assert found.rejected == {2: "unable-to-coerce-value: no"}


@pytest.mark.parametrize(
    "errors", [None, "x", [], [None], [{"id": 7}], [{"message": "no"}], {"id": "invalid-ids"}, [[["a"]]]]
)
def test_errors_of_another_form_reject_nothing_by_themselves(errors: Any):
    assert verdict(400, errors) == Verdict(Outcome.REFUSED, "Braze returned 400: Invalid Request", 400)
    assert verdict(404, errors).outcome is Outcome.FORBIDDEN


@pytest.mark.parametrize("values", [None, "b", [None], [["b"]], [7], [{}], [{"id": ["b"]}]])
def test_values_of_another_form_reject_nothing_by_themselves(values: Any):
    assert verdict(400, [{**error("invalid-ids"), "parameter_values": values}]).rejected == {}


def test_202_accepts_all_and_only_with_its_message():
    assert verdict(202, None, message="success").outcome is Outcome.ACCEPTED
    assert verdict(202, None, message="maybe").outcome is Outcome.UNKNOWN


def test_what_a_catalog_lacks_is_created_in_parts_and_json_becomes_an_object():
    wanted = {f"c{n}": DataType.NUMBER for n in range(60)} | {"json": DataType.ANY}
    assert not lack_of("drinks", {"n": DataType.NUMBER}, {"drinks": {"id": "string", "n": "number", "more": "time"}})
    lack = lack_of("drinks", wanted, {"drinks": {"id": "string", "c0": "number"}})
    requests = creation(lack, "what we sell")
    assert [one.path for one in requests] == ["/catalogs/drinks/fields"] * 2
    parts = [json.loads(one.body)["fields"] for one in requests]
    assert [len(part) for part in parts] == [50, 10]
    assert parts[1][-1] == {"name": "json", "type": "object"}
    assert not lack_of("drinks", {"json": DataType.ANY}, {"drinks": {"json": "array"}})


@pytest.mark.parametrize(
    "said", [{}, {"catalogs": None}, {"catalogs": [{}]}, {"catalogs": [{"name": "x", "fields": [1]}]}]
)
def test_list_of_catalogs_that_is_none_is_an_error(said: dict[str, Any]):
    with pytest.raises(ValueError, match="not a list of catalogs"):
        catalogs_of(said)
