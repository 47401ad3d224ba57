"""Several subscription groups in one request: fewer requests, opt-outs first, and no kind of identifier beside another."""

import json
from typing import Any

import pytest

from reverse_etl.sandbox import Fault
from tests.shop import Held, Shop, running

MODE = {"mode": "subscription_status_set"}


def rows(groups: int, users: int, state: str = "'subscribed'") -> str:
    return f"""SELECT 'u' || u AS external_id, 'g' || g AS subscription_group_id, {state} AS subscription_state
    FROM range({groups}) a(g), range({users}) b(u)"""


def sent(shop: Shop) -> list[list[dict[str, Any]]]:
    """The groups of each request, in the order in which they came in."""
    return [json.loads(one.body)["subscription_groups"] for one in shop.braze.requests()]


def sizes(shop: Shop) -> list[dict[str, int]]:
    return [{one["subscription_group_id"]: len(one["external_ids"]) for one in request} for request in sent(shop)]


@pytest.mark.parametrize(
    ("groups", "users", "expected"),
    [
        pytest.param(3, 60, [{"g0": 50, "g1": 50, "g2": 50}, {"g0": 10, "g1": 10, "g2": 10}], id="fifty of each group"),
        pytest.param(
            27, 1, [{f"g{n}": 1 for n in sorted(map(str, range(27)))[:25]}, {"g8": 1, "g9": 1}], id="25 groups"
        ),
        pytest.param(1, 60, [{"g0": 50}, {"g0": 10}], id="one group"),
        pytest.param(20, 200, [{f"g{n}": 50 for n in range(20)}] * 4, id="4 requests, instead of 80"),
    ],
)
@pytest.mark.sampled(4)
def test_requests_have_several_groups_and_the_plan_counts_them(shop: Shop, groups: int, users: int, expected):
    result = shop.sync("it", rows(groups, users), **MODE).run(threads=1)
    assert sizes(shop) == expected
    assert result.plan.requests == {"/v2/subscription/status/set": len(expected)}
    assert (result.delivery.accepted, shop.run().plan.to_send) == (groups * users, 0)


@pytest.mark.long
def test_whole_body_has_each_group_once(shop: Shop):
    shop.sync("it", rows(2, 2, "if(g = 0, 'subscribed', 'unsubscribed')"), **MODE).run()
    shop.sync("it", rows(2, 2), **MODE).run(skip_guards=["max_resubscribed=2"])
    shop.sync("it", rows(3, 2, "if(u = 0, 'subscribed', 'unsubscribed')"), **MODE).run()

    def group(name: str, state: str, *users: str) -> dict[str, Any]:
        return {"subscription_group_id": name, "subscription_state": state, "external_ids": list(users)}

    assert sent(shop) == [
        [group("g1", "unsubscribed", "u0", "u1")],
        [group("g0", "subscribed", "u0", "u1")],
        [group("g1", "subscribed", "u0", "u1")],
        [group(name, "unsubscribed", "u1") for name in ("g0", "g1", "g2")],
        [group("g2", "subscribed", "u0")],
    ]


def test_opt_outs_of_all_groups_are_answered_before_the_first_opt_in(shop: Shop):
    shop.sync("it", rows(4, 130, "if(u % 2 = 0, 'subscribed', 'unsubscribed')"), **MODE).run(threads=4)
    states = [{one["subscription_state"] for one in request} for request in sent(shop)]
    assert states == [{"unsubscribed"}] * 2 + [{"subscribed"}] * 2


def test_identifiers_of_one_kind_are_in_a_request(shop: Shop):
    by_kind = f"""SELECT CASE WHEN u = 0 THEN external_id END AS external_id,
        CASE WHEN u = 1 THEN 'a@example.com' END AS email, CASE WHEN u = 2 THEN '+14155552671' END AS phone,
        subscription_group_id, subscription_state FROM ({rows(3, 3).replace("AS external_id", "AS external_id, u")})"""
    result = shop.sync("it", by_kind, **MODE).run()
    assert result.plan.requests == {"/v2/subscription/status/set": 3}
    kinds = [{next(name for name in one if name.endswith("s")) for one in request} for request in sent(shop)]
    assert sorted(map(sorted, kinds)) == [["emails"], ["external_ids"], ["phones"]]
    assert [len(request) for request in sent(shop)] == [3, 3, 3]


def test_row_that_braze_refuses_is_found_among_several_groups(shop: Shop):
    one_bad = rows(5, 9).replace("'u' || u", "if(u = 7 AND g = 3, 'bad', 'u' || u)")
    shop.braze.add_fault(Fault("status", status=400, external_ids=["bad"], times=None))
    result = shop.sync("it", one_bad, **MODE).run()
    assert (result.status, result.delivery.accepted, result.delivery.rejected) == ("incomplete", 44, 1)
    assert shop.rows_of("rejects", "key") == [('["bad","g3"]',)]


@pytest.mark.long
def test_run_that_is_killed_between_requests_of_several_groups_sends_the_rest(shop: Shop):
    shop.sync("it", rows(30, 60), **MODE)
    shop.braze.add_fault(Fault("drop_after", path="/v2/subscription/status/set", times=1))
    with running(shop, Held(shop.braze, path="/v2/subscription/status/set")) as process:
        process.kill()
    shop.braze.clear_faults()
    assert shop.run().status == "success"
    assert shop.rows_of("state", "count(*)") == [(1800,)]
    counted = [
        (one["subscription_group_id"], user)
        for request in sent(shop)
        for one in request
        for user in one["external_ids"]
    ]
    assert len(set(counted)) == 1800
