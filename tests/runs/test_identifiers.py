"""Rows of one sync that have different identifiers: an e-mail address here, a phone number there."""

import json
from typing import Any

import pytest

from reverse_etl.sandbox import Fault
from tests.shop import Retl, Shop

GROUPS = {"mode": "subscription_status_set"}
NEWS = """SELECT external_id, email, phone, 'g1' AS subscription_group_id, subscription_state
    FROM (VALUES {}) t(external_id, email, phone, subscription_state)"""
PEOPLE = ", ".join(f"('u{n}', '{n}@x.de', '+4915155500{n}')" for n in range(5))
ROWS = (
    "('u0', NULL, NULL, 'subscribed'), (NULL, '1@x.de', NULL, 'subscribed'), (NULL, NULL, '+49151555002', 'subscribed')"
)


@pytest.fixture
def news(shop: Shop) -> Shop:
    """Five people that Braze knows, of whom none has a state in the group."""
    return shop.sync("people", f"SELECT * FROM (VALUES {PEOPLE}) t(external_id, email, phone)")


def states(shop: Shop) -> dict[str, str | None]:
    return {one["external_id"]: one["subscription_groups"].get("g1") for one in shop.braze.profiles()}


def groups(shop: Shop, before: int = 0) -> list[dict[str, Any]]:
    bodies = [json.loads(request.body) for request in shop.braze.requests() if "subscription" in request.path]
    return sorted((group for body in bodies[before:] for group in body["subscription_groups"]), key=json.dumps)


@pytest.mark.long
def test_one_sync_sets_the_state_of_rows_with_an_email_with_a_phone_and_with_an_external_id(news: Shop):
    news.run("people")
    news.sync("news", NEWS.format(ROWS), **GROUPS)
    assert news.run("news").status == "success"
    to = {"subscription_group_id": "g1", "subscription_state": "subscribed"}
    assert groups(news) == [
        {**to, "emails": ["1@x.de"]},
        {**to, "external_ids": ["u0"]},
        {**to, "phones": ["+49151555002"]},
    ]
    yes = "subscribed"
    assert states(news) == {"u0": yes, "u1": yes, "u2": yes, "u3": None, "u4": None}
    assert (news.run("news").plan.unchanged, len(groups(news))) == (3, 3)
    news.sync("news", NEWS.format(ROWS.replace("+49151555002', 's", "+49151555002', 'uns")), **GROUPS)
    assert news.run("news").plan.changed == 1
    assert groups(news, before=3) == [{**to, "subscription_state": "unsubscribed", "phones": ["+49151555002"]}]
    assert states(news) == {"u0": yes, "u1": yes, "u2": "unsubscribed", "u3": None, "u4": None}


@pytest.mark.long
@pytest.mark.parametrize(
    "key", [{}, {"primary_key": ["phone", "email", "external_id", "subscription_group_id"]}], ids=str
)
def test_row_with_two_identifiers_or_with_none_is_invalid_and_the_others_go(news: Shop, key: dict[str, Any]):
    news.run("people")
    bad = "(NULL, '3@x.de', '+49151555003', 'subscribed'), (NULL, NULL, NULL, 'subscribed'), (NULL, NULL, NULL, 'x')"
    news.sync("news", NEWS.format(f"{ROWS}, {bad}"), **GROUPS, **key, skip_on_invalid_records=True)
    result = news.run("news")
    assert (result.plan.invalid, result.delivery.accepted, states(news)["u3"]) == (3, 3, None)
    assert {(row.column, row.reason) for row in result.invalid if row.column != "subscription_state"} == {
        ("external_id", "is ambiguous: more than one of external_id, email, phone is set"),
        ("external_id", "is NULL in the primary key, and so are email, phone"),
    }


def test_row_without_any_of_several_identifiers_stops_a_run_that_skips_no_invalid_rows(news: Shop):
    news.sync("news", NEWS.format(f"{ROWS}, (NULL, NULL, NULL, 'subscribed')"), **GROUPS)
    assert [str(problem) for problem in news.run("news").errors] == [
        'syncs.yml:17:3: news: primary_key "external_id, email, phone" is NULL in 1 row of the model\n'
        "  hint: set a value, or exclude them in models/news.sql: "
        "WHERE external_id IS NOT NULL OR email IS NOT NULL OR phone IS NOT NULL"
    ]


def test_two_rows_of_one_phone_are_one_key_and_two_rows_without_an_email_are_not(news: Shop):
    one, other = "+14155552671", "+14155552672"
    twice = f"(NULL, NULL, '{one}', 'subscribed'), (NULL, NULL, '{one}', 'unsubscribed'), (NULL, NULL, '{other}', 'subscribed')"
    news.sync("news", NEWS.format(twice), **GROUPS, skip_on_invalid_records=True)
    result = news.run("news")
    assert [row.reason for row in result.invalid] == ["is not unique: occurs 2 times"] * 2
    assert {group["phones"][0]: group["subscription_state"] for group in groups(news)} == {
        one: "unsubscribed",  # an opt-out goes out, whatever else is wrong with its row
        other: "subscribed",
    }


@pytest.mark.long
def test_identifier_that_is_added_to_a_model_sends_no_row_again(news: Shop):
    news.run("people")
    only_email = "SELECT '1@x.de' AS email, 'g1' AS subscription_group_id, 'subscribed' AS subscription_state"
    news.sync("news", only_email, **GROUPS).run("news")
    news.sync("news", NEWS.format(ROWS), **GROUPS)
    plan = news.run("news").plan
    assert (plan.added, plan.changed, plan.unchanged) == (2, 0, 1)
    assert (news.run("news").plan.unchanged, states(news)["u2"]) == (3, "subscribed")
    news.sync("news", only_email, **GROUPS)
    assert [problem.message for problem in news.run("news").errors] == [
        "news: the primary key was (external_id, email, phone, subscription_group_id) so far, "
        "and is now (email, subscription_group_id)"
    ]


@pytest.mark.long
def test_row_whose_request_got_no_response_is_sent_again_and_no_other(news: Shop):
    news.run("people")
    news.sync("news", NEWS.format(ROWS), **GROUPS).run("news")
    news.braze.add_fault(Fault("drop_after", times=None))
    news.sync("news", NEWS.format(ROWS.replace("+49151555002', 's", "+49151555002', 'uns")), **GROUPS)
    assert news.run("news").delivery.accepted == 0
    news.braze.clear_faults()
    plan = news.run("news").plan
    assert (plan.changed, plan.unchanged) == (1, 2)
    assert states(news) == {"u0": "subscribed", "u1": "subscribed", "u2": "unsubscribed", "u3": None, "u4": None}
    assert news.run("news").plan.unchanged == 3


@pytest.mark.long
def test_users_to_delete_and_users_with_attributes_may_have_different_identifiers_too(shop: Shop, retl: Retl):
    rows = """SELECT CASE WHEN i < 2 THEN 'u' || i END AS external_id,
        CASE WHEN i = 2 THEN 'ann' END AS alias_name, CASE WHEN i = 2 THEN 'shop' END AS alias_label FROM range(3) r(i)"""
    shop.sync("gone", rows, mode="users_delete", allow_destructive=True, suppresses=False)
    shop.sync("people", f"SELECT *, 1 AS n FROM ({rows})", on_removed="clear", guards={"max_removed": "100%"})
    assert [one.status for one in shop.run_all("gone", "people")] == ["success", "success"]
    assert sorted(shop.sent()) == [
        '{"attributes":[{"external_id":"u0","n":1},{"external_id":"u1","n":1},'
        '{"user_alias":{"alias_name":"ann","alias_label":"shop"},"n":1}]}',
        '{"external_ids":["u0","u1"]}',
        '{"user_aliases":[{"alias_name":"ann","alias_label":"shop"}]}',
    ]
    assert [one.plan.unchanged for one in shop.run_all("gone", "people")] == [3, 3]
    shop.model("people", f"SELECT *, 1 AS n FROM ({rows}) WHERE alias_name IS NULL")
    assert (shop.run("people").plan.removed, shop.run("people").plan.unchanged) == (1, 2)
    assert '"user_alias":{"alias_name":"ann","alias_label":"shop"}' in shop.sent()[-1]
