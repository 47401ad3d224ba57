"""What each mode sends: whole payloads, from SQL to the bytes on the wire."""

import json

import pytest

from tests.shop import Shop, examples

ALIAS = "'7f3a' AS alias_name, 'cookie' AS alias_label"
ONE_OF_EACH = ["attributes", "events", "purchases", "new alias", "identify by alias", "delete", "subscription status"]


@pytest.mark.parametrize(
    ("options", "sql", "path", "body"),
    [
        pytest.param(
            {"mode": "users_track", "track_record_type": "attributes"},
            "SELECT 7 AS external_id, 'a@example.com' AS email, 'Ada' AS first_name, NULL AS tier, true AS vip",
            "/users/track",
            {"attributes": [{"external_id": "7", "email": "a@example.com", "first_name": "Ada", "vip": True}]},
            id="attributes",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "attributes", "pre_formatted_fields": ["prefs"]},
            "SELECT 'u1' AS external_id, true AS `_merge_objects`, '{\"a\": [1]}' AS prefs, {'b': 2} AS s",
            "/users/track",
            {"attributes": [{"external_id": "u1", "_merge_objects": True, "prefs": {"a": [1]}, "s": {"b": 2}}]},
            id="nested attributes, merged",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "attributes"},
            """SELECT 'u1' AS external_id, {'size': 'M', 'key': 1, 'value': 2, 'child': {'size': 3}} AS s,
                [1, 2]::INTEGER[2] AS sizes, MAP {'size': 'L'} AS m""",
            "/users/track",
            {
                "attributes": [
                    {
                        "external_id": "u1",
                        "s": {"size": "M", "key": 1, "value": 2, "child": {"size": 3}},
                        "sizes": [1, 2],
                        "m": {"size": "L"},
                    }
                ]
            },
            id="fields of a struct, whatever their names",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "attributes"},
            f"SELECT {ALIAS}, 'gold' AS tier, false AS _update_existing_only",
            "/users/track",
            {
                "attributes": [
                    {
                        "user_alias": {"alias_name": "7f3a", "alias_label": "cookie"},
                        "tier": "gold",
                        "_update_existing_only": False,
                    }
                ]
            },
            id="attributes of an alias",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "attributes"},
            "SELECT 'a@example.com' AS email, '+4915112345678' AS phone, 'gold' AS tier",
            "/users/track",
            {"attributes": [{"email": "a@example.com", "phone": "+4915112345678", "tier": "gold"}]},
            id="attributes by e-mail",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "events"},
            """SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23 08:15:00.123' AS time,
                '/shoes' AS page, 41 AS seconds, NULL::INTEGER AS nothing""",
            "/users/track",
            {
                "events": [
                    {
                        "external_id": "u1",
                        "name": "seen",
                        "time": "2026-11-23T08:15:00.123Z",
                        "properties": {"page": "/shoes", "seconds": 41},
                    }
                ]
            },
            id="events",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "events"},
            "SELECT 'u1' AS external_id, 'seen' AS name, 1700000000 AS time, {'a': NULL, 'b': [1]} AS properties, 2 AS c",
            "/users/track",
            {
                "events": [
                    {
                        "external_id": "u1",
                        "name": "seen",
                        "time": "2023-11-14T22:13:20.000Z",
                        "properties": {"b": [1], "c": 2},
                    }
                ]
            },
            id="events with a properties column, time in unix seconds",
        ),
        pytest.param(
            {"mode": "users_track", "track_record_type": "purchases", "primary_key": "line"},
            """SELECT 'u1' AS external_id, 17 AS product_id, 'KRW' AS currency, 89000.50::DECIMAL(18, 2) AS price,
                2 AS quantity, '2026-11-23T17:15:00+09:00' AS time, 'shop' AS app_id, 5 AS line""",
            "/users/track",
            {
                "purchases": [
                    {
                        "external_id": "u1",
                        "product_id": "17",
                        "currency": "KRW",
                        "price": 89000.50,
                        "quantity": 2,
                        "time": "2026-11-23T08:15:00.000Z",
                        "app_id": "shop",
                        "properties": {"line": 5},
                    }
                ]
            },
            id="purchases",
        ),
        pytest.param(
            {"mode": "users_alias_new"},
            f"SELECT {ALIAS}, NULL AS external_id",
            "/users/alias/new",
            {"user_aliases": [{"alias_name": "7f3a", "alias_label": "cookie"}]},
            id="new alias",
        ),
        pytest.param(
            {"mode": "users_alias_new"},
            f"SELECT {ALIAS}, 7 AS external_id",
            "/users/alias/new",
            {"user_aliases": [{"alias_name": "7f3a", "alias_label": "cookie", "external_id": "7"}]},
            id="new alias of a user",
        ),
        pytest.param(
            {"mode": "users_identify"},
            f"SELECT 'u1' AS external_id, {ALIAS}",
            "/users/identify",
            {
                "aliases_to_identify": [
                    {"user_alias": {"alias_name": "7f3a", "alias_label": "cookie"}, "external_id": "u1"}
                ]
            },
            id="identify by alias",
        ),
        pytest.param(
            {"mode": "users_identify"},
            "SELECT 'u1' AS external_id, 'a@example.com' AS email, ['unidentified'] AS prioritization",
            "/users/identify",
            {
                "emails_to_identify": [
                    {"email": "a@example.com", "external_id": "u1", "prioritization": ["unidentified"]}
                ]
            },
            id="identify by e-mail",
        ),
        pytest.param(
            {"mode": "users_delete", "allow_destructive": True},
            "SELECT 7 AS external_id",
            "/users/delete",
            {"external_ids": ["7"]},
            id="delete",
        ),
        pytest.param(
            {"mode": "users_delete", "allow_destructive": True, "pre_formatted_fields": ["user_alias"]},
            """SELECT '{"alias_name": "7f3a", "alias_label": "cookie"}' AS user_alias""",
            "/users/delete",
            {"user_aliases": [{"alias_name": "7f3a", "alias_label": "cookie"}]},
            id="delete by alias, as JSON text",
        ),
        pytest.param(
            {"mode": "subscription_status_set"},
            """SELECT 'u1' AS external_id, 'g1' AS subscription_group_id, 'subscribed' AS subscription_state,
                true AS use_double_opt_in_logic""",
            "/v2/subscription/status/set",
            {
                "subscription_groups": [
                    {
                        "subscription_group_id": "g1",
                        "subscription_state": "subscribed",
                        "use_double_opt_in_logic": True,
                        "external_ids": ["u1"],
                    }
                ]
            },
            id="subscription status",
        ),
        pytest.param(
            {"mode": "subscription_status_set"},
            "SELECT 'a@example.com' AS email, 'g1' AS subscription_group_id, 'unsubscribed' AS subscription_state",
            "/v2/subscription/status/set",
            {
                "subscription_groups": [
                    {"subscription_group_id": "g1", "subscription_state": "unsubscribed", "emails": ["a@example.com"]}
                ]
            },
            id="subscription status by e-mail",
        ),
    ],
)
@pytest.mark.sampled(3)
def test_mode_sends_its_payload_once(shop: Shop, request: pytest.FixtureRequest, options, sql, path, body):
    result = shop.sync("it", sql, **options).run()
    (sent,) = shop.braze.requests()
    assert (result.status, sent.path, json.loads(sent.body)) == ("success", path, body)
    if examples(0, 1) or request.node.callspec.id in ONE_OF_EACH:
        assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_requests_hold_no_more_than_braze_takes(shop: Shop):
    deleting = {"mode": "users_delete", "allow_destructive": True, "guards": {"max_deletes": 51}}
    shop.sync("attributes", "SELECT 'u' || i AS external_id, i AS n FROM range(151) r(i)").run()
    shop.sync("gone", "SELECT 'u' || i AS external_id FROM range(51) r(i)", **deleting)
    shop.run("gone")
    sizes = [sum(request.records.values()) for request in shop.braze.requests()]
    assert sorted(sizes) == [1, 1, 50, 75, 75]


def test_contract_of_50_objects_is_kept(shop: Shop):
    shop.destination = {"max_objects_per_request": 50}
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(100) r(i)").run()
    assert [sum(request.records.values()) for request in shop.braze.requests()] == [50, 50]


def test_delete_keeps_one_kind_of_identifier_to_a_request(shop: Shop):
    shop.sync(
        "gone",
        """SELECT i AS row, CASE WHEN i % 2 = 0 THEN 'u' || i END AS external_id,
            CASE WHEN i % 2 = 1 THEN {'alias_name': 'n' || i, 'alias_label': 'l'} END AS user_alias
        FROM range(4) r(i)""",
        mode="users_delete",
        allow_destructive=True,
        primary_key="row",
        exclude_columns="row",
    )
    shop.run()
    bodies = sorted(shop.sent())
    assert [json.loads(body) for body in bodies] == [
        {"external_ids": ["u0", "u2"]},
        {"user_aliases": [{"alias_name": "n1", "alias_label": "l"}, {"alias_name": "n3", "alias_label": "l"}]},
    ]


def test_subscription_requests_hold_one_state_of_a_group(shop: Shop):
    shop.sync(
        "news",
        """SELECT 'u' || i AS external_id, 'g' AS subscription_group_id,
            if(i % 2 = 0, 'subscribed', 'unsubscribed') AS subscription_state FROM range(4) r(i)""",
        mode="subscription_status_set",
    )
    shop.run()
    groups = [json.loads(body)["subscription_groups"] for body in sorted(shop.sent())]
    assert groups == [
        [{"subscription_group_id": "g", "subscription_state": "subscribed", "external_ids": ["u0", "u2"]}],
        [{"subscription_group_id": "g", "subscription_state": "unsubscribed", "external_ids": ["u1", "u3"]}],
    ]


def test_identifier_of_each_row_is_the_first_that_it_has(shop: Shop):
    shop.sync(
        "seen",
        """SELECT * FROM (VALUES
            (1, 'u1', 'a@example.com', '+822100001'), (2, NULL, 'b@example.com', '+822100002'), (3, NULL, NULL, '+822100003')
        ) t(row, external_id, email, phone), (SELECT 'seen' AS name, TIMESTAMP '2026-11-23' AS time)""",
        mode="users_track",
        track_record_type="events",
        primary_key="row",
        exclude_columns="row",
    )
    shop.run()
    common = {"name": "seen", "time": "2026-11-23T00:00:00.000Z"}
    assert json.loads(shop.sent()[0])["events"] == [
        {"external_id": "u1", **common},
        {"email": "b@example.com", **common},
        {"phone": "+822100003", **common},
    ]


def test_excluded_columns_name_rows_without_being_sent(shop: Shop):
    shop.sync(
        "it",
        "SELECT 5 AS customer, 'u1' AS external_id, 'gold' AS tier, now() AS loaded_at",
        primary_key="customer",
        exclude_columns=["customer", "loaded_at"],
    )
    shop.run()
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","tier":"gold"}]}']
    assert shop.run().delivery.requests == 0


# --- what it costs ---------------------------------------------------------------------------------------------------

ATTRIBUTES = """
    SELECT 'u1' AS external_id, 'a@example.com' AS email, 'Ada' AS first_name, 'gold' AS tier, NULL AS city,
        'subscribed' AS email_subscribe, [1, 2, 3] AS favourites,
        {'size': 'M', 'home': {'zip': '1', 'gone': NULL}} AS profile, MAP {'a': 1, 'b': NULL} AS scores,
        {'at': TIMESTAMP '2026-11-23', 'tags': ['x']} AS visit,
        '{"a": {"b": [{"c": 1}], "d": {"$time": "2026-11-23"}}}' AS document
"""
COSTS = {
    "attributes": (ATTRIBUTES, {"pre_formatted_fields": ["document"]}, 13),
    "added to an array": (
        """SELECT 'u1' AS external_id, '{"add": ["a", "b"]}' AS colours, '{"inc": 2}' AS visits,
        '{"$add": [{"id": 1}], "$remove": [{"$identifier_key": "id", "$identifier_value": 2}]}' AS pets""",
        {"pre_formatted_fields": ["colours", "visits", "pets"]},
        5,
    ),
    "by e-mail": ("SELECT 'a@example.com' AS email, 'Ada' AS first_name, '+4915112345678' AS phone", {}, 2),
    "part of the key": ("SELECT 'u1' AS external_id, 'x' AS a, 'y' AS b", {"primary_key": ["external_id", "a"]}, 2),
    "events": (
        "SELECT 'u1' AS external_id, 'seen' AS name, now() AS time, 'x' AS page FROM range(3)",
        {"mode": "users_track", "track_record_type": "events"},
        3,
    ),
    "purchases": (
        """SELECT 'u1' AS external_id, 'p' AS product_id, 'EUR' AS currency, 1.5 AS price, now() AS time, q AS quantity
        FROM (VALUES (NULL), (6)) quantities(q)""",
        {"mode": "users_track", "track_record_type": "purchases"},
        7,
    ),
    "deleted": ("SELECT 'u1' AS external_id", {"mode": "users_delete", "allow_destructive": True}, 0),
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.sampled(3)
def test_plan_and_braze_count_the_same_data_points(shop: Shop, name: str):
    sql, options, points = COSTS[name]
    result = shop.sync("it", sql, **options).run()
    counts = shop.braze.counts()
    assert (result.status, result.plan.data_points, counts["data_points"]) == ("success", points, points)
    assert result.plan.attributes == counts["attributes_written"]


@pytest.mark.long
def test_clearing_costs_what_setting_to_null_costs(shop: Shop):
    shop.sync("it", ATTRIBUTES, pre_formatted_fields=["document"], on_removed="clear", guards={"max_removed": "100%"})
    shop.run()
    before = shop.braze.counts()["data_points"]
    shop.model("it", f"SELECT * FROM ({ATTRIBUTES}) WHERE false")
    result = shop.run(skip_guards=["empty_model"])
    assert result.plan.data_points == shop.braze.counts()["data_points"] - before == 8
