"""Braze's e-commerce events: one that does not fit its schema is an invalid row, not an event that Braze drops."""

import json
import re

import pytest
import yaml

from reverse_etl.braze.ecommerce import EVENTS as NAMES
from tests.shop import Shop
from tests.test_docs import text_of

EVENTS = {"mode": "users_track", "track_record_type": "events"}
PRODUCT = {"product_id": "p1", "product_name": "Shirt", "variant_id": "p1-m", "quantity": 2, "price": 9.5}
CART = {"currency": "EUR", "source": "web", "cart_id": "c1"}
ORDER = {
    **{"currency": "EUR", "source": "web", "order_id": "o1", "cart_id": "c1"},
    **{"total_value": 22, "tax": 3.5, "shipping": 0, "total_discounts": 1.25, "metadata": {"gift": True}},
    "discounts": [{"code": "WINTER", "amount": 1.25, "type": "percentage"}],
    "products": [PRODUCT, {**PRODUCT, "image_url": "https://x.example/p", "metadata": {"size": "M"}}],
}
VIEWED = {
    **{
        "currency": "EUR",
        "source": "ios",
        "product_id": "p1",
        "product_name": "Shirt",
        "variant_id": "p1-m",
        "price": 0,
    },
    "type": ["price_drop"],
}
VALID = [
    ("ecommerce.product_viewed", VIEWED),
    ("ecommerce.cart_updated", {**CART, "total_value": 19, "products": [PRODUCT]}),
    ("ecommerce.cart_updated", {**CART, "action": "add", "products": [PRODUCT]}),
    ("ecommerce.checkout_started", {**CART, "checkout_id": "k1", "total_value": 19.0, "products": [PRODUCT]}),
    ("ecommerce.order_placed", ORDER),
    ("ecommerce.order_refunded", {key: ORDER[key] for key in ORDER if key not in ("cart_id", "tax", "shipping")}),
    ("seen", {"anything": [1], "price": "a lot"}),
    ("eCommerce order", {}),
]
CANCELLED = {**{key: value for key, value in ORDER.items() if key != "cart_id"}, "cancel_reason": "late"}


def rows(events: list[tuple[str, dict]]) -> str:
    """A model that returns these events, with their properties in one column."""
    values = [
        f"('u{number}', '{name}', '{json.dumps(properties)}'::JSON)" for number, (name, properties) in enumerate(events)
    ]
    columns = "external_id, name, properties, TIMESTAMP '2026-11-23' AS time"
    return f"SELECT {columns} FROM (VALUES {', '.join(values)}) AS t(external_id, name, properties)"


def found(shop: Shop) -> list[list[tuple[str, str]]]:
    """Column and reason of what is wrong with each event, in their order."""
    by_key: dict[int, list[tuple[str, str]]] = {}
    for row in shop.run().invalid:
        by_key.setdefault(int((row.identifier or "").partition(":u")[2]), []).append((row.column, row.reason))
    return [by_key[number] for number in sorted(by_key)]


def test_event_that_fits_its_schema_is_sent_and_costs_no_data_point(shop: Shop):
    shop.sync("it", rows(VALID), **EVENTS)
    result = shop.run()
    assert (result.status, result.plan.to_send, result.plan.data_points) == ("success", len(VALID), 2), result.invalid
    (body,) = shop.sent()
    events = sorted(json.loads(body)["events"], key=lambda event: event["external_id"])
    assert [event.get("properties", {}) for event in events] == [properties for _, properties in VALID]


def without(properties: dict, *names: str) -> dict:
    return {name: value for name, value in properties.items() if name not in names}


FAULTY = [
    ("ecommerce.product_viewed", without(VIEWED, "source"), ("source", "is missing")),
    ("ecommerce.product_viewed", {**VIEWED, "price": "9"}, ("price", "is not a number")),
    ("ecommerce.product_viewed", {**VIEWED, "product_id": 7}, ("product_id", "is not a string")),
    ("ecommerce.product_viewed", {**VIEWED, "image_url": None}, ("image_url", "is not a string")),
    ("ecommerce.product_viewed", {**VIEWED, "type": ["cheap"]}, ("type", "is not one of price_drop, back_in_stock")),
    ("ecommerce.product_viewed", {**VIEWED, "type": "price_drop"}, ("type", "is not a JSON array")),
    (
        "ecommerce.product_viewed",
        {**VIEWED, "products": []},
        ("", "contains a key that is not in Braze's schema of this event"),
    ),
    ("ecommerce.cart_updated", {**CART, "products": [PRODUCT]}, ("total_value", "is missing")),
    (
        "ecommerce.cart_updated",
        {**CART, "action": "set", "products": []},
        ("total_value", "is missing"),
        ("action", "is not one of add, remove, replace"),
    ),
    ("ecommerce.order_placed", {**ORDER, "order_id": None}, ("order_id", "is missing")),
    (
        "ecommerce.order_placed",
        {**ORDER, "currency": "Euro", "tax": -1},
        ("currency", "is not a currency of ISO 4217"),
        ("tax", "is negative"),
    ),
    (
        "ecommerce.order_placed",
        {**ORDER, "coupon": "x"},
        ("", "contains a key that is not in Braze's schema of this event"),
    ),
    ("ecommerce.order_placed", {**ORDER, "metadata": "gift"}, ("metadata", "is not a JSON object")),
    (
        "ecommerce.order_placed",
        {**ORDER, "products": [7]},
        ("products[]", "is not a JSON object"),
        *((f"products[].{name}", "is missing") for name in PRODUCT),
    ),
    (
        "ecommerce.order_placed",
        {**ORDER, "products": [PRODUCT, {**without(PRODUCT, "variant_id"), "quantity": 1.5, "size": 1}]},
        ("products[]", "contains a key that is not in Braze's schema of it"),
        ("products[].variant_id", "is missing"),
        ("products[].quantity", "is not an integer"),
    ),
    ("ecommerce.order_placed", {**ORDER, "discounts": [{"code": 1}]}, ("discounts[].code", "is not a string")),
    ("ecommerce.order_cancelled", without(CANCELLED, "cancel_reason"), ("cancel_reason", "is missing")),
    (
        "ecommerce.order_cancelled",
        {**CANCELLED, "cart_id": "c1", "cancel_reason": "late"},
        ("", "contains a key that is not in Braze's schema of this event"),
    ),
]


def test_event_that_does_not_fit_is_invalid_with_all_that_is_wrong_and_is_not_sent(shop: Shop):
    shop.sync(
        "it", rows([(name, properties) for name, properties, *_ in FAULTY]), **EVENTS, skip_on_invalid_records=True
    )
    expected = [
        sorted((f"properties.{column}".rstrip("."), reason) for column, reason in reasons) for _, _, *reasons in FAULTY
    ]
    assert [sorted(one) for one in found(shop)] == expected
    assert shop.sent() == []


def test_name_that_only_looks_like_an_ecommerce_event_is_invalid(shop: Shop):
    typed = ["ecommerce.OrderPlaced", "eCommerce.order_placed", " ecommerce.order_placed", "ecommerce.", "commerce.x"]
    shop.sync("it", rows([(name, {}) for name in typed]), **EVENTS, skip_on_invalid_records=True)
    assert found(shop) == [[("name", "begins with ecommerce., but is none of Braze's e-commerce events")]] * 4


COLUMNS = """'u1' AS external_id, 'ecommerce.order_placed' AS name, TIMESTAMP '2026-11-23' AS time, 'EUR' AS currency,
    'web' AS source, 12 AS order_id, 22::DECIMAL(9, 2) AS total_value,
    [{'product_id': 'p1', 'product_name': 'Shirt', 'variant_id': 'p1-m', 'quantity': 2, 'price': 9.5}] AS products"""


def test_columns_are_properties_and_those_that_are_null_are_not_sent(shop: Shop):
    fits = COLUMNS.replace("12 AS", "'o1' AS")
    columns = "NULL::VARCHAR AS cart_id, NULL::VARCHAR AS coupon, {'tax': 3} AS properties"
    shop.sync("it", f"SELECT {fits}, {columns}", **EVENTS)
    assert shop.run().status == "success"
    (event,) = json.loads(shop.sent()[0])["events"]
    assert event["properties"] == {
        **{"tax": 3, "currency": "EUR", "source": "web", "order_id": "o1", "total_value": 22.0},
        "products": [PRODUCT],
    }


# Column: what is wrong with it, its code, reason and hint, and what follows the hint.
WRONG = {
    "name": (
        *("'ecommerce.Order_Placed'", "R053", "begins with ecommerce., but is none of Braze's e-commerce events"),
        f"use one of {', '.join(NAMES)}; or a name that does not begin with ecommerce.",
        "'ecommerce.order_placed'",
    ),
    "currency": (
        *("'eur '", "R011", "is not a currency of ISO 4217"),
        *("upper(trim(currency)), or map it: CASE currency WHEN ... THEN ... END", "upper(trim('eur '))"),
    ),
    "source": (
        *("NULL", "R001", "is missing"),
        *("set a value: Braze drops the event without it (every e-commerce event)", "'web'"),
    ),
    "order_id": ("12", "R051", "is not a string", "CAST(order_id AS VARCHAR)", "CAST(12 AS VARCHAR)"),
    "total_value": (
        *("'22'", "R051", "is not a number"),
        *("CAST(total_value AS DECIMAL(18, 2))", "CAST('22' AS DECIMAL(18, 2))"),
    ),
    "tax": ("-1", "R052", "is negative", "send amounts as positive numbers, that of a refund, too", "1"),
    "coupon": (
        *("'x'", "R050", "is not in Braze's schema of this event"),
        *("put it into metadata: {'coupon': ...} AS metadata; or set it to NULL for these events", "NULL"),
    ),
    "discounts": (
        "'none'",
        "R016",
        "is not a JSON array",
        "return a list: [...] AS discounts, or list() of a group",
        "[]",
    ),
}
IN_PRODUCTS = {
    "products[]": ("R050", "contains a key that is not in Braze's schema of it", "put your own keys into its metadata"),
    "products[].variant_id": (
        *("R001", "is missing"),
        "set a value in each element of products: Braze drops the event without it",
    ),
    "products[].price": ("R051", "is not a number", "CAST(price AS DECIMAL(18, 2))"),
}


@pytest.mark.long
def test_what_follows_the_hints_is_sent(shop: Shop):
    """All at once; of an event whose name is wrong, nothing else is known."""
    for left_out in ([name for name in WRONG if name != "name"], ["name"]):
        values = {name: WRONG[name][0 if name in left_out else 4] for name in WRONG}
        products = "[{'product_id': 'p1', 'product_name': 'Shirt', 'size': 'M', 'quantity': 2, 'price': '9.5'}]"
        if left_out == ["name"]:
            products = f"[{PRODUCT!s}]"
        columns = ", ".join(f"{sql} AS {name}" for name, sql in values.items())
        sql = f"SELECT 'u1' AS external_id, now() AS time, {columns}, {products} AS products"
        found = {row.column: (row.code, row.reason, row.hint) for row in shop.sync("it", sql, **EVENTS).run().invalid}
        assert found == {name: WRONG[name][1:4] for name in left_out} | (IN_PRODUCTS if "name" not in left_out else {})
    columns = ", ".join(f"{fixed} AS {name}" for name, (*_, fixed) in WRONG.items())
    sql = (
        f"SELECT 'u1' AS external_id, now() AS time, {columns}, [{PRODUCT}] AS products, {{'coupon': 'x'}} AS metadata"
    )
    result = shop.sync("it", sql, **EVENTS).run()
    assert (result.status, result.delivery.accepted) == ("success", 1), result.invalid


def write_section(shop: Shop, title: str) -> None:
    """The models and syncs of a section of the page."""
    page = text_of("docs/ecommerce.md").split(f"\n## {title}\n")[1].split("\n## ")[0]
    for name, sql in re.findall(r"^```sql\n-- models/(\w+)\.sql[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        shop.model(name, sql)
    (syncs,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shop.syncs = yaml.safe_load(syncs)["syncs"]
    shop.write()


@pytest.mark.long
def test_example_of_each_event_is_taken_once_with_its_properties(shop: Shop):
    write_section(shop, "An example of each")
    shop.warehouse(
        """CREATE TABLE page_views AS SELECT 1 AS view_id, 'u1' AS customer_id, TIMESTAMP '2026-11-23' AS viewed_at,
            'p1' AS product_id, 'Shirt' AS product_name, 'p1-m' AS variant_id, 9.50::DECIMAL(9, 2) AS price;
        CREATE TABLE baskets AS SELECT 'b1' AS basket_id, 'u1' AS customer_id, 2 AS version,
            TIMESTAMP '2026-11-23' AS updated_at;
        CREATE TABLE basket_lines AS SELECT 'b1' AS basket_id, 'p1' AS product_id, 'Shirt' AS product_name,
            'p1-m' AS variant_id, 2 AS quantity, 9.50::DECIMAL(9, 2) AS price;
        CREATE TABLE checkouts AS SELECT 'k1' AS checkout_id, 'b1' AS basket_id, 'u1' AS customer_id,
            TIMESTAMP '2026-11-23' AS started_at;
        CREATE TABLE orders AS SELECT 'o1' AS order_id, 'b1' AS basket_id, 'u1' AS customer_id,
            TIMESTAMP '2026-11-23' AS placed_at, 4.00::DECIMAL(9, 2) AS discount, 'HELLO' AS code,
            TIMESTAMP '2026-11-23' AS cancelled_at, 'too late' AS cancel_reason, TIMESTAMP '2026-11-23' AS refunded_at,
            15.00::DECIMAL(9, 2) AS refunded"""
    )
    result = shop.run()
    assert (result.status, result.invalid, result.plan.data_points) == ("success", [], 0)
    (body,) = map(json.loads, shop.sent())
    shared = {"currency": "EUR", "source": "web"}
    cart, order = {**shared, "products": [PRODUCT], "total_value": 19.0}, {"order_id": "o1"}
    view = {"product_id": "p1", "product_name": "Shirt", "variant_id": "p1-m", "price": 9.5}
    discount = {"code": "HELLO", "amount": 4.0, "type": "voucher"}
    link = {"checkout_url": "https://shop.example/checkout/k1"}
    assert {one["name"].removeprefix("ecommerce."): one["properties"] for one in body["events"]} == {
        "product_viewed": {**shared, **view},
        "cart_updated": {**cart, "cart_id": "b1", "action": "replace"},
        "checkout_started": {**cart, "cart_id": "b1", "checkout_id": "k1", "metadata": link},
        "order_placed": {
            **{**cart, **order, "cart_id": "b1", "total_value": 15.0},
            **{"total_discounts": 4.0, "discounts": [discount]},
        },
        "order_cancelled": {**cart, **order, "cancel_reason": "too late"},
        "order_refunded": {**cart, **order, "total_value": 15.0},
    }
    assert shop.run().plan.to_send == 0


def test_example_of_the_page_sends_purchases_and_orders_from_one_model(shop: Shop):
    write_section(shop, "From purchases to orders")
    shop.warehouse(
        """CREATE TABLE order_lines AS FROM (VALUES
            ('u1', 'o1', TIMESTAMP '2026-11-23', 'p1', 'Shirt', 'p1-m', 2, 9.50::DECIMAL(9, 2), 'EUR'),
            ('u1', 'o1', TIMESTAMP '2026-11-23', 'p2', 'Hat', 'p2', 1, 3.00, 'EUR')
        ) AS t(customer_id, order_id, ordered_at, product_id, product_name, variant_id, quantity, price, currency)"""
    )
    results = shop.run_all(*(sync["name"] for sync in shop.syncs), threads=1)
    assert [(result.status, result.plan.data_points) for result in results] == [("success", 3), ("success", 0)]
    purchases, events = map(json.loads, shop.sent())
    whose = {"external_id": "u1", "time": "2026-11-23T00:00:00.000Z"}
    more = {"currency": "EUR", "properties": {"order_id": "o1"}}
    assert sorted(purchases["purchases"], key=lambda one: one["product_id"]) == [
        {**whose, **more, "product_id": "p1", "quantity": 2, "price": 9.5},
        {**whose, **more, "product_id": "p2", "quantity": 1, "price": 3.0},
    ]
    hat = {"product_id": "p2", "product_name": "Hat", "variant_id": "p2", "quantity": 1, "price": 3.0}
    properties = {"order_id": "o1", "currency": "EUR", "source": "web", "total_value": 22.0, "products": [PRODUCT, hat]}
    assert events["events"] == [{**whose, "name": "ecommerce.order_placed", "properties": properties}]
