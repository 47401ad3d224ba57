"""What Braze would refuse or drop and retl did not announce: models of right and wrong values, made up at random, are
sent to the sandbox, which has its own reading of Braze's pages. Each disagreement is a mistake on one of both sides.

A value is SQL of the type of its column; JSON texts stand for objects and arrays. `{n}` is the number of the row.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reverse_etl.runs.outcome import RunResult
from reverse_etl.sandbox import LoggedRequest, Sandbox
from tests.shop import Shop

ROWS = 30
GROUP = "5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a"


def _text(*values: str) -> Sequence[str]:
    return ["NULL", *(f"'{value}'" for value in values), "''", "' '"]


def _long(*lengths: int) -> Sequence[str]:
    return [f"repeat('x', {length})" for length in lengths]


def _json(*values: Any) -> Sequence[str]:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return ["NULL", *("'" + text.replace("'", "''") + "'::JSON" for text in texts)]


_EMAILS = _text(
    *("a@b.co", "A.B+c@EXAMPLE.com", "a@b", "a b@c.de", " a@b.co", "a@b.co ", "x", "@b.co", "a@", "a@@b.co", ".a@b.co"),
    *("a.@b.co", "a..b@c.de", 'a"b@c.de', "a@1.2.3.4", "a@b.123", "a@b.c", "a@-b.co", "a@b-.co", "a@b_c.co", "ü@b.co"),
    *("a@bü.de", "a@xn--b-xga.de", "a@gmail.com", "ab@gmail.com", "a!b@hotmail.com", "a..b@live.de", "a!b@c.de"),
    *("a-b.c@outlook.com", "a@x.example", "a@b..co", "a@b.co.", "null"),
)
_LONG_EMAILS = [f"repeat('a', {n}) || '@b.co'" for n in (64, 65)] + [
    f"'a@' || repeat('b', {n}) || '.co'" for n in (63, 64)
]
_PHONES = _text(
    "+14155552671", "4155552671", "0151", "+49 (151) 123-4567", "call me", "+", "+1", "12345678901234567890"
)
_TIMES = _text(
    *(
        "2026-11-23",
        "2026-11-23T08:15:00Z",
        "2026-11-23 08:15:00+02",
        "yesterday",
        "23.11.2026",
        "2026-02-30",
        "3001-01-01",
    ),
    *("1790000000", "2026-11-23T25:00:00Z", "0000-01-01", "11/23/2026", "2026-11-23T08:15:00.123456789Z"),
)
_PLACES = _json(
    {"longitude": 13.4, "latitude": 52.5},
    {"longitude": 181, "latitude": 0},
    {"longitude": 0, "latitude": -90.5},
    {"longitude": 13.4},
    {"longitude": "13.4", "latitude": "52.5"},
    {"longitude": None, "latitude": 1},
    {"latitude": True, "longitude": 1},
    {"longitude": 1, "latitude": 2, "accuracy": 3},
    {},
    [13.4, 52.5],
    "null",
)
_GROUPS = _json(
    [{"subscription_group_id": GROUP, "subscription_state": "subscribed"}],
    [{"subscription_group_id": GROUP.upper(), "subscription_state": "unsubscribed", "use_double_opt_in_logic": True}],
    [{"subscription_group_id": GROUP, "subscription_state": "opted_in"}],
    [{"subscription_group_id": "g1", "subscription_state": "subscribed"}],
    [{"subscription_group_id": 5, "subscription_state": "subscribed"}],
    [{"subscription_group_id": GROUP}],
    [{"subscription_group_id": GROUP, "subscription_state": None}],
    [{}],
    ["g1"],
    [None],
    [],
    {},
)
_TOKENS = _json(
    [{"app_id": "app", "token": "t{n}"}],
    [{"app_id": "app", "token": "t{n}", "device_id": "d" * 8}],
    [{"app_id": "app", "token": "t{n}", "device_id": "d" * 255}],
    [{"app_id": "app", "token": "t{n}", "device_id": "d" * 256}],
    [{"app_id": "app", "token": "t{n}", "device_id": "d" * 7}],
    [{"app_id": "app", "token": "t{n}", "device_id": 12345678}],
    [{"app_id": "app", "token": "t{n}", "device_id": None}],
    [{"app_id": "app"}],
    [{"token": "t{n}"}],
    [{"app_id": "app", "token": ""}],
    [{"app_id": "", "token": "t{n}"}],
    [{"app_id": 5, "token": "t{n}"}],
    ["t{n}"],
    [],
    {},
)
_ACCOUNTS = _json(
    {"id": "1", "likes": ["a"], "num_friends": 3},
    {"id": 1, "screen_name": "a", "followers_count": 1, "friends_count": 2, "statuses_count": 3},
    {"id": "1", "name": "a"},
    {"id": None},
    {"id": 1.5},
    {"likes": "a"},
    {},
    [],
)
_NESTED = (
    *({"a": 1}, {"a": {"b": [1, "x", {"c": True}]}}, {"a": None}, {"a": [1, None]}, {"a b": 1}, {"a.b": 1}, {"a$": 1}),
    *(
        {"": 1},
        {"k" * 255: 1},
        {"k" * 256: 1},
        {"a": "x" * 255},
        {"a": "x" * 256},
        {str(n): "x" * 250 for n in range(400)},
    ),
    *({"a": {"$time": "2026-11-23"}}, {"a": {"$time": "soon"}}, {"a": {"$time": "3001-01-01"}}, {"a": {"$time": None}}),
    *([], [1, 2, 1], ["x" * 256], [1, None], [{"a": 1}], [{"a": 1}, 2], [[1]], list(range(500)), list(range(501))),
    *([{"n": n} for n in range(600)], [{"x": "x" * 250}] * 400, {"a": 12345678901234567890123}, 5, '"text"', True, 1.5),
    *({"a\tb": 1}, {"a": "\ud83d\ude00" * 255}, {"$time": "2026-11-23"}, {"a": {"$time": "2026-11-23T08:15:00Z"}}),
)
_OPERATORS = (
    *(
        {"inc": 1},
        {"inc": -1},
        {"inc": "1"},
        {"inc": 1.5},
        {"inc": None},
        {"inc": 1, "a": 2},
        {"add": ["a"]},
        {"add": "a"},
    ),
    *({"add": [{"a": 1}]}, {"add": [None]}, {"remove": ["a"]}, {"remove": 1}, {"add": ["a"], "remove": ["b"]}),
    *({"$add": [{"a": 1}]}, {"$add": [1]}, {"$add": {"a": 1}}, {"$add": [{"a": None}]}, {"$remove": [{"a": 1}]}),
    *({"$remove": [{"$identifier_key": "a", "$identifier_value": 1}]}, {"$update": [{"$new_object": {"a": 1}}]}),
    {"$update": [{"$identifier_key": "a", "$identifier_value": 1, "$new_object": {"a": 2}}]},
    {"$update": [{"$identifier_key": "a", "$identifier_value": 1}]},
)
ATTRIBUTES: Mapping[str, Sequence[str]] = {
    "email": [*_EMAILS, *_LONG_EMAILS],
    "phone": [*_PHONES, *_long(300)],
    **{name: [*_text("Ann", "Zoë"), *_long(255, 256)] for name in ("first_name", "last_name", "home_city")},
    "country": _text("DE", "de", "Germany", "Australia", "ZZ", "D", " DE", "DEU", "UK", "EU"),
    "language": _text("de", "DE", "en-US", "no", "nb", "fil", "xx", "German", "iw"),
    "time_zone": _text(
        *(
            "Europe/Berlin",
            "europe/berlin",
            "UTC",
            "Mars/X",
            "Eastern Time (US & Canada)",
            "GMT+2",
            "+02:00",
            "Etc/GMT+2",
        ),
        *("CET", "Asia/Calcutta", "Berlin", "EST5EDT"),
    ),
    "gender": _text("M", "F", "O", "N", "P", "m", "female"),
    "dob": _text("1990-01-01", "1990-13-01", "01.01.1990", "1990-1-1", "1990-01-01 00:00:00", "0001-01-01"),
    "current_location": _PLACES,
    "image_url": [*_text("https://x.example/1.png", "x"), *_long(255, 256, 1024, 1025)],
    **{f"date_of_{which}_session": _TIMES for which in ("first", "last")},
    "marked_email_as_spam_at": _TIMES,
    **{f"{which}_subscribe": _text("opted_in", "subscribed", "unsubscribed", "no") for which in ("email", "push")},
    **{f"email_{what}_tracking_disabled": _text("true", "false", "maybe", "1") for what in ("open", "click")},
    "subscription_groups": _GROUPS,
    "push_tokens": _TOKENS,
    "facebook": _ACCOUNTS,
    "twitter": _ACCOUNTS,
    "_merge_objects": ["NULL", "true", "false"],
    "_update_existing_only": ["NULL", "false"],
    "text": [*_text("a", "3001-01-01T00:00:00Z"), *_long(255, 256), "repeat('é', 255)"],
    "number": ["NULL", "1.5", "'nan'::DOUBLE", "'inf'::DOUBLE", "1e308", "-0.0"],
    "whole": ["NULL", "1::HUGEINT", "1e30::HUGEINT", "18446744073709551615::HUGEINT"],
    "flag": ["NULL", "true", "false"],
    "moment": [
        "NULL",
        "TIMESTAMP '2026-11-23 08:15:00'",
        "TIMESTAMP '9999-12-31'",
        "TIMESTAMP '0044-03-15 (BC)'",
        "'infinity'::TIMESTAMP",
    ],
    "day": ["NULL", "DATE '2026-11-23'", "DATE '3001-01-01'", "'infinity'::DATE"],
    "list": ["NULL", "['a', 'b', 'a']", "[NULL]", "[]", "[repeat('x', 256)]", "[' ']"],
    "numbers": ["NULL", "range(500)", "range(501)", "[1, NULL]"],
    "gaps": ["NULL", "[1.5]", "['nan'::DOUBLE]"],
    "struct": ["NULL", "{'a': 1, 'b c': 'x'}", "{'a': NULL, 'b c': NULL}"],
    "times": ["NULL", "{'at': TIMESTAMP '2026-11-23'}", "{'at': TIMESTAMP '3001-01-01'}"],
    "json": _json(*_NESTED, *_OPERATORS),
    " padded ": ["NULL", "1"],
    "a.b $c": ["NULL", "1"],
    "n" * 255: ["NULL", "1"],
    "alias": ["NULL", "'x'"],
}
_PROPERTIES: Mapping[str, Sequence[str]] = {
    "text": [*_text("a"), *_long(255, 256)],
    "number": ["NULL", "1.5", "'nan'::DOUBLE"],
    "moment": ["NULL", "TIMESTAMP '2026-11-23 08:15:00'", "TIMESTAMP '9999-12-31'"],
    "list": ["NULL", "['a']", "[repeat('x', 256)]", "[NULL]"],
    "json": _json(*_NESTED),
    "app_id": _text("app"),
    "_update_existing_only": ["NULL", "false"],
}
_BAGS = (
    *(
        {"a": 1},
        {"time": "x"},
        {"event_name": "x"},
        {"price": 1},
        {"product_id": "x"},
        {"$a": 1},
        {"": 1},
        {"k" * 256: 1},
    ),
    *({"a": "x" * 256}, {"a": {"b": "x" * 256}}, {"a": {"$time": "soon"}}, {"a": {"$time": "2026-11-23"}}, {"a": None}),
    *(
        {f"p{n}": n for n in range(256)},
        {f"p{n}": n for n in range(257)},
        {"a": ["x" * 250] * 399},
        {"a": ["x" * 250] * 401},
    ),
    *({str(n): "x" * 250 for n in range(256)}, {}, [], [1], {"a": [1, None]}, {"a": {"$b": 1}}, {"a": {"time": 1}}),
)
EVENTS: Mapping[str, Sequence[str]] = {
    "name": [*_text("seen", "Seen it", "$seen", "ecommerce.OrderPlaced", "ECOMMERCE.x"), *_long(255, 256)],
    "time": _TIMES,
    "properties": _json(*_BAGS),
    **_PROPERTIES,
}
PURCHASES: Mapping[str, Sequence[str]] = {
    "product_id": [*_text("p1"), *_long(255, 256)],
    "currency": _text("EUR", "eur", "EURO", "ZZZ", "XAU"),
    "price": ["NULL", "9.99", "-1", "'nan'::DOUBLE", "0"],
    "quantity": ["NULL", "1", "0", "100", "101", "-1"],
    "time": _TIMES,
    "properties": _json(*_BAGS),
    **_PROPERTIES,
}
_LINE = {"product_id": "p1", "product_name": "Tea", "variant_id": "v1", "quantity": 2, "price": 4.5}
_ANY_EVENT = {
    **{
        name: ["x", "", 5, None, "x" * 256, True, "EUR"]
        for name in ("source", "product_id", "product_name", "variant_id")
    },
    **{
        name: ["x", 5, None, "x" * 256] for name in ("cart_id", "checkout_id", "order_id", "cancel_reason", "image_url")
    },
    "currency": ["EUR", "eur", "EURO", "ZZZ", 5, None],
    **{name: [0, 9.5, -1, "9", None] for name in ("price", "total_value", "subtotal_value", "tax", "shipping")},
    "total_discounts": [0, 1.5, -1, "x"],
    "quantity": [1],
    "action": ["add", "remove", "replace", "clear", 1],
    "type": [["price_drop"], ["sale"], [], "price_drop", [1]],
    "metadata": [{}, {"a": 1}, [], "x", {"a": "x" * 256}],
    "discounts": [[], [{"code": "x", "amount": 1, "type": "x"}], [{"code": 1}], [1], {}],
    "products": [
        *(
            [_LINE],
            [_LINE, {**_LINE, "metadata": {"a": 1}}],
            [],
            [1],
            {},
            [{**_LINE, "sku": 1}],
            [{"product_id": "p1"}],
        ),
        *(
            [{**_LINE, "quantity": 1.5}],
            [{**_LINE, "price": "4"}],
            [{**_LINE, "quantity": -1}],
            [{**_LINE, "price": -1}],
        ),
    ],
    "own": [1],
}
_SHOP_EVENTS = (
    "product_viewed",
    "cart_updated",
    "checkout_started",
    "order_placed",
    "order_cancelled",
    "order_refunded",
)
_USUAL = {
    "currency": "EUR",
    "source": "web",
    "products": [_LINE],
    "total_value": 9,
    "cart_id": "c1",
    "checkout_id": "c1",
    "order_id": "o1",
    "cancel_reason": "late",
    **{name: value for name, value in _LINE.items() if name != "quantity"},
}
_OF_EVENT = {
    "product_viewed": "currency source product_id product_name variant_id price",
    "cart_updated": "currency source products total_value cart_id",
    "checkout_started": "currency source products total_value checkout_id",
    "order_placed": "currency source products total_value order_id",
    "order_cancelled": "currency source products total_value order_id cancel_reason",
    "order_refunded": "currency source products total_value order_id",
}
FIELDS = {"attributes": ATTRIBUTES, "events": EVENTS, "purchases": PURCHASES}
_NEEDED = {
    "attributes": {},
    "events": {"name": "'seen'", "time": "'2026-11-23'"},
    "purchases": {"product_id": "'p1'", "currency": "'EUR'", "price": "9.99", "time": "'2026-11-23'"},
}
RECORD_TYPES = (*FIELDS, "ecommerce")


def model(draw: random.Random, record_type: str) -> str:
    """A model of ROWS rows: of some columns each row has a random value, mostly in one of them."""
    if record_type == "ecommerce":
        return " UNION ALL ".join(_shop_event(draw, n) for n in range(ROWS))
    fields, needed = FIELDS[record_type], _NEEDED[record_type]
    columns = sorted({*needed, *draw.sample(sorted(fields), 8)})
    if record_type != "attributes" and draw.random() < 0.5:
        columns = [name for name in columns if name in {*needed, "properties", "app_id"}]
    return " UNION ALL ".join(_row(draw, n, columns, fields, needed) for n in range(ROWS))


def _row(
    draw: random.Random, n: int, columns: Sequence[str], fields: Mapping[str, Sequence[str]], needed: Mapping[str, str]
) -> str:
    odd = set(draw.sample(columns, min(len(columns), draw.choice((1, 1, 1, 2, len(columns))))))
    ids = [f"'u{n}'"] * 20 + ["repeat('x', 986) || '{n}'", "repeat('x', 988)", "' u{n} '"]
    values = {"external_id": draw.choice(ids)}
    for name in columns:
        values[name] = draw.choice(fields[name]) if name in odd else needed.get(name, fields[name][0])
    listed = ", ".join(f'{_cast(sql, name, fields)} AS "{name}"' for name, sql in values.items())
    return "SELECT " + listed.replace("{n}", str(n))


def _cast(sql: str, name: str, fields: Mapping[str, Sequence[str]]) -> str:
    """NULL in the type of the column, so that all rows have the same."""
    if sql != "NULL" or name not in fields:
        return sql
    other = next(value for value in fields[name] if value != "NULL")
    return f"CASE WHEN false THEN {other} END"


def _shop_event(draw: random.Random, n: int) -> str:
    kind = draw.choice(_SHOP_EVENTS)
    properties = {name: _USUAL[name] for name in _OF_EVENT[kind].split()}
    for name in draw.sample(sorted(_ANY_EVENT), draw.choice((0, 1, 1, 1, 2))):
        properties[name] = draw.choice(_ANY_EVENT[name])
    if draw.random() < 0.2:
        del properties[draw.choice(sorted(properties))]
    text = json.dumps(properties).replace("'", "''")
    time = "TIMESTAMP '2026-11-23'"
    return f"SELECT 'u{n}' AS external_id, 'ecommerce.{kind}' AS name, {time} AS time, '{text}'::JSON AS properties"


def disagreements(shop: Shop, record_type: str, draw: random.Random) -> Iterator[str]:
    """Send a model; what the sandbox refused or dropped of it although retl had announced nothing.

    The first type of an attribute is not kept: which one that is, only Braze knows.
    """
    kind = "events" if record_type == "ecommerce" else record_type
    how = {"mode": "users_track", "track_record_type": kind, "skip_on_invalid_records": True}
    after, noticed = len(shop.braze.requests()), len(shop.listener.notices)
    shop.sync(record_type, model(draw, record_type), **how)
    result = shop.run(record_type)
    yield from _unannounced(shop.braze, after, result, shop.listener.notices[noticed:])


def _unannounced(braze: Sandbox, after: int, result: RunResult, notices: Sequence[str]) -> Iterator[str]:
    if result.errors:
        yield f"the run ended: {[problem.message for problem in result.errors]}"
    for request in braze.requests(after):
        for error in json.loads(request.answer).get("errors", []):
            yield f"refused: {error['type']}: {_object(request, error['input_array'], error['index'])}"
    by_number = {request.number: request for request in braze.requests(after)}
    for drop in braze.silent_drops():
        name = drop.field.removeprefix("properties.")
        said = (f'column "{name}" ', f"warning: {name} of ")
        if drop.request in by_number and not any(what in notice for what in said for notice in notices):
            one = _object(by_number[drop.request], drop.input_array, drop.index, drop.field)
            yield f"dropped: {drop.field}: {drop.reason}: {one}"


def _object(request: LoggedRequest, array: str, index: int, field: str = "") -> str:
    one = json.loads(request.body)[array][index]
    for name in field.split(".", 1) if field.startswith("properties.") else [field] if field else []:
        one = one[name]
    return json.dumps(one)[:300]
