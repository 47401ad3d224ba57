"""`--read-first`: who has opted out in Braze is known before anything is sent, over the real HTTP of the sandbox."""

import json
from typing import Any

import pytest
import requests

from reverse_etl.sandbox import Fault
from tests.shop import KEY, Retl, Shop

NEWS = "6f1c2a3e-0b5d-4c7e-9a41-2d8e5f60b7a1"
GROUPS = {"mode": "subscription_status_set"}
OPT_IN = "SELECT unnest({}) AS external_id, 'opted_in' AS email_subscribe"


def tell(shop: Shop, path: str, body: dict[str, Any]) -> None:
    """What others do in Braze."""
    answer = requests.post(shop.braze.url + path, json=body, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.json()["message"] == "success", answer.text


def in_braze(shop: Shop, *attributes: dict[str, Any]) -> None:
    tell(shop, "/users/track", {"attributes": list(attributes)})


def known(shop: Shop) -> list[tuple[Any, ...]]:
    return [(json.loads(user), channel) for user, channel in shop.rows_of("opt_outs", "identifier", "channel")]


def posted(shop: Shop, path: str = "/users/track") -> list[Any]:
    return [json.loads(request.body) for request in shop.braze.requests() if request.path == path]


def test_who_has_opted_out_in_braze_is_not_opted_in_and_the_others_are(shop: Shop):
    in_braze(
        shop,
        {"external_id": "u1", "email_subscribe": "unsubscribed"},
        {"external_id": "u2", "email_subscribe": "subscribed", "push_subscribe": "unsubscribed"},
    )
    shop.sync("it", f"{OPT_IN.format(['u1', 'u2', 'new'])}, 'subscribed' AS push_subscribe, 1 AS n")
    result = shop.run(read_first=True)
    assert sorted((row.key, row.column, row.code) for row in result.withheld) == [
        ("u1", "email_subscribe", "R030"),
        ("u2", "push_subscribe", "R030"),
    ]
    assert shop.listener.notices[0] == "it: read the subscription states of 3 users in Braze: 2 have opted out"
    (export,) = posted(shop, "/users/export/ids")
    assert export == {
        "external_ids": ["new", "u1", "u2"],
        "fields_to_export": ["external_id", "user_aliases", "email", "phone", "email_subscribe", "push_subscribe"],
    } | {"external_ids": export["external_ids"]}
    assert sorted(export["external_ids"]) == ["new", "u1", "u2"]
    assert known(shop) == [({"external_id": "u1"}, "email_subscribe"), ({"external_id": "u2"}, "push_subscribe")]
    states = {user: shop.braze.profile(user) for user in ("u1", "u2", "new")}
    assert [(one["email_subscribe"], one["push_subscribe"]) for one in states.values()] == [
        ("unsubscribed", "subscribed"),
        ("opted_in", "unsubscribed"),
        ("opted_in", "subscribed"),
    ]
    again = shop.run()
    assert ([row.key for row in again.withheld], len(posted(shop, "/users/export/ids"))) == (["u1", "u2"], 1)


def test_users_are_asked_for_by_every_identifier_fifty_ids_at_once(shop: Shop):
    users = [{"external_id": f"u{n}", "email_subscribe": "unsubscribed"} for n in range(70)]
    alias = {"alias_name": "a1", "alias_label": "cookie"}
    in_braze(shop, *users)
    in_braze(shop, {"user_alias": alias, "_update_existing_only": False, "email_subscribe": "unsubscribed"})
    in_braze(shop, {"email": "Ann@example.com", "email_subscribe": "unsubscribed"})
    in_braze(shop, {"phone": "+14155552671", "push_subscribe": "unsubscribed"})
    rows = " UNION ALL BY NAME ".join(
        [
            "SELECT 'u' || i AS external_id FROM range(70) t(i)",
            "SELECT 'a1' AS alias_name, 'cookie' AS alias_label",
            "SELECT unnest(['ann@example.com', 'new@example.com']) AS email",
            "SELECT '+14155552671' AS phone",
        ]
    )
    states = "'opted_in' AS email_subscribe, 'opted_in' AS push_subscribe"
    sql = f"SELECT *, row_number() OVER () AS id, {states} FROM ({rows})"
    shop.sync("it", sql, primary_key="id", exclude_columns=["id"])
    result = shop.run(read_first=True)
    assert result.plan, result.errors
    assert result.plan.withheld == 73
    asked = posted(shop, "/users/export/ids")
    sizes = sorted(
        (name, len(body[name]) if isinstance(body[name], list) else 1) for body in asked for name in list(body)[:1]
    )
    expected = [("email_address", 1), ("email_address", 1), ("external_ids", 20), ("external_ids", 50)]
    assert sizes == [*expected, ("phone", 1), ("user_aliases", 1)]
    assert len(known(shop)) == 73


@pytest.mark.long
def test_groups_are_read_of_users_by_id_and_by_email(shop: Shop):
    for user, email in (("u1", "a@example.com"), ("u2", "b@example.com"), ("u3", "c@example.com")):
        in_braze(shop, {"external_id": user, "email": email})
    group = {"subscription_group_id": NEWS, "subscription_state": "unsubscribed"}
    tell(shop, "/v2/subscription/status/set", {"subscription_groups": [{**group, "external_ids": ["u1"]}]})
    tell(shop, "/v2/subscription/status/set", {"subscription_groups": [{**group, "emails": ["b@example.com"]}]})
    rows = "SELECT unnest(['u1', 'u3']) AS external_id, NULL AS email UNION ALL SELECT NULL, unnest(['B@example.com', 'x@y.example'])"
    shop.sync(
        "it", f"SELECT *, '{NEWS}' AS subscription_group_id, 'subscribed' AS subscription_state FROM ({rows})", **GROUPS
    )
    result = shop.run(read_first=True)
    assert (result.plan.withheld, result.delivery.accepted) == (2, 2), (result.errors, result.invalid)
    assert known(shop) == [
        ({"email": "B@example.com"}, f"subscription_groups:{NEWS}"),
        ({"external_id": "u1"}, f"subscription_groups:{NEWS}"),
    ]
    shop.sync(
        "more",
        f"SELECT unnest(['u1', 'u3']) AS external_id, [{{'subscription_group_id': '{NEWS}', "
        "'subscription_state': 'subscribed'}] AS subscription_groups, 1 AS m",
    )
    assert shop.run("more", read_first=True).plan.withheld == 1


def test_user_whose_id_was_renamed_is_found_by_the_former_one(shop: Shop):
    in_braze(shop, {"external_id": "old", "email_subscribe": "unsubscribed"}, {"external_id": "u2"})
    renames = [{"current_external_id": "old", "new_external_id": "new"}]
    tell(shop, "/users/external_ids/rename", {"external_id_renames": renames})
    shop.sync("it", OPT_IN.format(["old", "u2", "u3"]))
    assert [row.key for row in shop.run(read_first=True).withheld] == ["old"]


def test_groups_of_an_alias_cannot_be_read_and_nothing_is_sent(shop: Shop):
    shop.sync(
        "it",
        "SELECT 'a1' AS alias_name, 'cookie' AS alias_label, "
        f"[{{'subscription_group_id': '{NEWS}', 'subscription_state': 'subscribed'}}] AS subscription_groups",
    )
    (error,) = shop.run(read_first=True).errors
    assert (str(error.location), error.message, error.hint) == (
        "models/it.sql",
        "it: /subscription/user/status does not tell of users by user_alias",
        "identify them by external_id, email, phone; or return their opt-outs in the model: see docs/consent.md",
    )
    assert shop.sent() == []


def test_failed_read_sends_nothing_and_says_what_the_key_needs(shop: Shop):
    shop.sync("it", OPT_IN.format(["u1"]))
    shop.braze.add_fault(Fault("status", status=403, path="/users/export/ids", times=1))
    (error,) = shop.run(read_first=True).errors
    assert (error.code, error.message, error.hint) == (
        "S029",
        "/users/export/ids: Braze returned 403",
        "create a new API key with the permission users.export.ids: permissions of an existing key cannot be changed; "
        "then run it again: nothing was sent",
    )
    assert (posted(shop), known(shop)) == ([], [])
    shop.braze.add_fault(Fault("status", status=429, path="/users/export/ids", times=2, headers={"retry-after": "9"}))
    shop.braze.add_fault(Fault("status", status=503, path="/users/export/ids", times=1))
    assert shop.run(read_first=True).status == "success"
    assert len(posted(shop)) == 1


def test_plan_that_was_saved_before_braze_was_asked_is_stale(shop: Shop, retl: Retl):
    in_braze(shop, {"external_id": "u1", "email_subscribe": "unsubscribed"})
    shop.sync("it", OPT_IN.format(["u1"]))
    assert retl("plan", "it", "--out", "p.plan", folder=shop.folder).code == 0
    assert shop.run(read_first=True).plan.withheld == 1
    said = retl("apply", "p.plan", folder=shop.folder)
    assert (said.code, "the state has changed since it was created" in said.err) == (1, True), said
    assert posted(shop)[1:] == []


def test_only_users_who_would_be_opted_in_are_asked_for(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT * FROM (VALUES ('u1', 'unsubscribed'), ('u2', NULL)) AS t(external_id, email_subscribe)")
    shop.sync("other", "SELECT 'u1' AS external_id, 1 AS n")
    said = retl("sync", "it", "other", "--read-first", folder=shop.folder)
    assert said.code == 0
    assert "it: read the subscription states of 0 users in Braze: 0 have opted out" in said.err
    assert "other: --read-first: nothing to read, as no column says who may be contacted" in said.err
    assert posted(shop, "/users/export/ids") == []
