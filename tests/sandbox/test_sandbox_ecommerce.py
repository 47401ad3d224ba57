"""The recommended e-commerce events against the sandbox: closed schemas, and what becomes of other names."""

import json
from typing import Any

import pytest
import requests

from reverse_etl.sandbox import Sandbox

T0 = "2026-11-23T08:15:00Z"
LINE = {"product_id": "p1", "product_name": "Tea", "variant_id": "v1", "quantity": 2, "price": 4.5}
SHOWN = {"product_id": "p1", "product_name": "Tea", "variant_id": "v1", "price": 4.5}
SHOP = {"currency": "EUR", "source": "web"}
LINES = {**SHOP, "products": [LINE], "total_value": 9}
SMALLEST = {
    "ecommerce.product_viewed": {**SHOP, **SHOWN},
    "ecommerce.cart_updated": {**LINES, "cart_id": "c1"},
    "ecommerce.checkout_started": {**LINES, "checkout_id": "c1"},
    "ecommerce.order_placed": {**LINES, "order_id": "o1"},
    "ecommerce.order_cancelled": {**LINES, "order_id": "o1", "cancel_reason": "late"},
    "ecommerce.order_refunded": {**LINES, "order_id": "o1"},
}
FREE = {"metadata": {"any": ["thing"], "depth": {"x": 1}}}
URLS = {"image_url": "https://x.example/1.png", "product_url": "https://x.example/1"}
PARTS = {"subtotal_value": 8, "tax": 0.5, "shipping": 0.5}
DISCOUNTS = {"total_discounts": 1, "discounts": [{"code": "TEA", "amount": 1, "type": "fixed"}, {}]}
OPTIONAL: dict[str, dict[str, Any]] = {
    "ecommerce.product_viewed": {**URLS, "type": ["price_drop", "back_in_stock"]},
    "ecommerce.cart_updated": {**PARTS, "action": "replace"},
    "ecommerce.checkout_started": {**PARTS, "cart_id": "c1"},
    "ecommerce.order_placed": {**PARTS, **DISCOUNTS, "cart_id": "c1"},
    "ecommerce.order_cancelled": {**PARTS, **DISCOUNTS},
    "ecommerce.order_refunded": DISCOUNTS,
}
WIDE = {**LINE, **URLS, **FREE}
LARGEST = {
    name: {**smallest, **FREE, **OPTIONAL[name], **({"products": [WIDE, LINE]} if "products" in smallest else {})}
    for name, smallest in SMALLEST.items()
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def braze(sandbox):
    requests.post(f"{sandbox.url}/_sandbox/reset")
    return sandbox


def send(braze: Sandbox, *events: tuple[str, Any]) -> list[str | None]:
    """The error of each event, or None."""
    objects = [{"external_id": "u1", "name": name, "time": T0, "properties": properties} for name, properties in events]
    body = {"events": objects}
    answer = requests.post(f"{braze.url}/users/track", json=body, headers={"Authorization": "Bearer sandbox"}).json()
    errors = {error["index"]: error for error in answer.get("errors", [])}
    assert all(error["input_array"] == "events" for error in errors.values())
    return [errors[index]["type"] if index in errors else None for index in range(len(events))]


def dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=float)


def changed(event: str, change: dict[str, Any]) -> dict[str, Any]:
    """The largest event with other values; without those that are set to None."""
    return {name: value for name, value in {**LARGEST[event], **change}.items() if value is not None}


def test_event_of_its_schema_is_kept_and_costs_no_data_point(braze):
    events = [*SMALLEST.items(), *LARGEST.items()]
    assert send(braze, *events) == [None] * 12
    assert [(event["name"], dumps(event["properties"])) for event in braze.events()] == [
        (name, dumps(properties)) for name, properties in events
    ]
    assert (braze.counts()["data_points"], braze.silent_drops()) == (0, [])


def test_event_without_a_required_property_is_refused(braze):
    cases = [(name, key) for name, properties in SMALLEST.items() for key in properties]
    for name, key in cases:
        without = {other: value for other, value in LARGEST[name].items() if other != key}
        missing = f"The property '#/' did not contain a required property of '{key}'"
        assert send(braze, (name, without)) == [missing]
    assert len(cases) == 32
    assert send(braze, ("ecommerce.order_placed", None)) == [
        "The property '#/' did not contain a required property of 'currency'"
    ]


def test_total_of_a_changed_cart_is_optional(braze):
    carts = [changed("ecommerce.cart_updated", {"total_value": None, "action": action}) for action in ("add", "remove")]
    assert send(braze, *(("ecommerce.cart_updated", cart) for cart in carts)) == [None, None]


ONLY_IN = {
    "ecommerce.product_viewed": {"products": [], "total_value": 1, "cart_id": "c1", "quantity": 1},
    "ecommerce.cart_updated": {"checkout_id": "c1", "order_id": "o1", "total_discounts": 1, "product_id": "p1"},
    "ecommerce.checkout_started": {"action": "add", "order_id": "o1", "discounts": []},
    "ecommerce.order_placed": {"cancel_reason": "late", "checkout_id": "c1"},
    "ecommerce.order_cancelled": {"cart_id": "c1"},
    "ecommerce.order_refunded": {"tax": 1, "shipping": 1, "subtotal_value": 1, "cart_id": "c1"},
}


def test_property_of_another_event_is_refused(braze):
    for name, more in ONLY_IN.items():
        (problem,) = send(braze, (name, {**LARGEST[name], **more}))
        extra = dumps(list(more))
        assert problem == (
            f"The property '#/' contains additional properties {extra} outside of the schema when none are allowed"
        )


NOT_NUMBER = "The property '{}' of type string did not match the following type: number"
NOT_STRING = "The property '{}' of type integer did not match the following type: string"
VIEWED, CART, PLACED = "ecommerce.product_viewed", "ecommerce.cart_updated", "ecommerce.order_placed"


@pytest.mark.parametrize(
    ("event", "change", "problem"),
    [
        pytest.param(VIEWED, {"price": "4.50"}, NOT_NUMBER.format("#/price"), id="text for a number"),
        pytest.param(VIEWED, {"product_id": 1}, NOT_STRING.format("#/product_id"), id="number for a text"),
        pytest.param(
            VIEWED, {"price": -1}, "The property '#/price' did not have a minimum value of 0, inclusively", id="below 0"
        ),
        pytest.param(
            VIEWED,
            {"type": ["sale"]},
            "The property '#/type/0' value \"sale\" did not match one of the following values: price_drop, back_in_stock",
            id="not on the list",
        ),
        pytest.param(
            VIEWED,
            {"type": "price_drop"},
            "The property '#/type' of type string did not match the following type: array",
            id="text for an array",
        ),
        pytest.param(
            VIEWED,
            {"metadata": []},
            "The property '#/metadata' of type array did not match the following type: object",
            id="array for an object",
        ),
        pytest.param(VIEWED, {"currency": "EURO"}, "'currency' must be an ISO 4217 currency", id="currency"),
        pytest.param(
            CART,
            {"action": "clear"},
            "The property '#/action' value \"clear\" did not match one of the following values: add, remove, replace",
            id="action",
        ),
        pytest.param(
            CART,
            {"products": [LINE, {**LINE, "quantity": 1.5}]},
            "The property '#/products/1/quantity' of type number did not match the following type: integer",
            id="half a quantity",
        ),
        pytest.param(
            CART,
            {"products": [{**LINE, "sku_abcd": 1}]},
            "The property '#/products/0' contains additional properties [\"sku_abcd\"] outside of the schema when none "
            "are allowed",
            id="field of one's own in a product",
        ),
        pytest.param(
            CART,
            {"products": [{"product_id": "p1"}]},
            "The property '#/products/0' did not contain a required property of 'product_name'",
            id="half a product",
        ),
        pytest.param(
            PLACED,
            {"discounts": [{"code": 5}]},
            NOT_STRING.format("#/discounts/0/code"),
            id="discount",
        ),
        pytest.param(
            PLACED,
            {"total_value": True},
            "The property '#/total_value' of type boolean did not match the following type: number",
            id="boolean",
        ),
        pytest.param(PLACED, {"order_id": 7}, NOT_STRING.format("#/order_id"), id="numeric order id"),
    ],
)
def test_event_against_its_schema_is_refused(braze, event, change, problem):
    assert send(braze, (event, changed(event, change)), ("seen", {})) == [problem, None]
    assert [event["name"] for event in braze.events()] == ["seen"]


def test_null_is_not_a_value_of_a_schema(braze):
    assert send(braze, (PLACED, {**LARGEST[PLACED], "cart_id": None})) == [
        "The property '#/cart_id' of type null did not match the following type: string"
    ]


def test_event_may_be_larger_than_others(braze):
    event = {**LARGEST[PLACED], "metadata": {str(n): "x" * 250 for n in range(385)}}
    assert len(dumps(event)) > 100_000
    assert send(braze, (PLACED, event)) == [None]
    event["metadata"] |= {str(n): "x" * 250 for n in range(395)}
    assert send(braze, (PLACED, event)) == ["Invalid 'properties' field"]


def test_other_spelling_is_a_custom_event_like_any_other(braze):
    """Without a check, without an error, and at its price."""
    names = ["ecommerce.OrderPlaced", "Ecommerce.order_placed", "ecommerce.order_placed ", "ecommerce.wishlist"]
    assert send(braze, *((name, {"anything": 1}) for name in names)) == [None] * 4
    assert [event["name"] for event in braze.events()] == names
    assert braze.counts()["data_points"] == 4
