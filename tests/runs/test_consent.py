"""Opt-outs go first, whatever else a run has to send; who has opted out is opted in again only if somebody says so."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import ANY

import pytest

from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.runs.outcome import RunResult
from reverse_etl.sandbox import Fault, Sandbox
from tests.shop import Held, Retl, Shop, database, examples, running

GROUP, OTHER_GROUP = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
GROUPS = {"mode": "subscription_status_set"}
ROWS = "CREATE OR REPLACE TABLE rows AS SELECT * FROM (VALUES {}) t({})"


def bodies(shop: Shop) -> list[dict[str, Any]]:
    """What each request so far contained: attributes by user, or groups with their state."""
    return [json.loads(body) for body in shop.sent()]


def attributes(shop: Shop) -> list[list[dict[str, Any]]]:
    return [sorted(body["attributes"], key=lambda one: one["external_id"]) for body in bodies(shop)]


def rows(shop: Shop, columns: str, *values: str) -> None:
    shop.warehouse(ROWS.format(", ".join(f"({value})" for value in values), columns))


def withheld(result: RunResult) -> list[tuple[str, str]]:
    return [(row.key, row.column) for row in result.withheld]


def opt_outs(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows_of("opt_outs", "identifier", "channel")


U1 = '{"external_id":"u1"}'


def test_opt_outs_are_sent_before_opt_ins_whatever_their_order_in_the_model(shop: Shop):
    rows(shop, "external_id, email_subscribe, n", "'u1', 'opted_in', 1", "'u2', 'unsubscribed', 2", "'u3', NULL, 3")
    shop.sync("it", "SELECT * FROM rows")
    assert shop.run().exit_code == 0
    assert attributes(shop) == [
        [{"external_id": "u2", "email_subscribe": "unsubscribed", "n": 2}],
        [{"external_id": "u1", "email_subscribe": "opted_in", "n": 1}, {"external_id": "u3", "n": 3}],
    ]


def test_opt_outs_of_groups_are_sent_before_opt_ins(shop: Shop):
    columns = "external_id, subscription_group_id, subscription_state"
    rows(shop, columns, "'u1', 'a', 'subscribed'", "'u2', 'b', 'unsubscribed'", "'u3', 'a', 'unsubscribed'")
    shop.sync("it", "SELECT * FROM rows", **GROUPS)
    assert shop.run().exit_code == 0
    sent = [body["subscription_groups"] for body in bodies(shop)]
    assert [[(one["subscription_state"], one["external_ids"]) for one in groups] for groups in sent] == [
        [("unsubscribed", ["u3"]), ("unsubscribed", ["u2"])],
        [("subscribed", ["u1"])],
    ]


def test_rejected_opt_out_does_not_hold_back_the_rest(shop: Shop, braze: Sandbox):
    rows(shop, "external_id, email_subscribe", "'u1', 'opted_in'", "'u2', 'unsubscribed'")
    shop.sync("it", "SELECT * FROM rows")
    braze.add_fault(Fault("object_error", external_ids=["u2"]))
    result = shop.run()
    assert (result.status, result.delivery.rejected, result.delivery.accepted) == ("incomplete", 1, 1)
    assert [[one["external_id"] for one in batch] for batch in attributes(shop)] == [["u2"], ["u1"]]


def test_no_opt_in_is_sent_while_an_opt_out_has_no_answer(shop: Shop, braze: Sandbox):
    """Two of them, so that one is answered while the other is not."""
    rows(shop, "external_id, email_subscribe", "'u1', 'opted_in'", "'u2', 'unsubscribed'", "'u3', 'unsubscribed'")
    shop.destination["max_objects_per_request"] = 1
    shop.sync("it", "SELECT * FROM rows")
    braze.add_fault(Fault("status", status=500, external_ids=["u3"], times=None))
    result = shop.run()
    assert result.status == "failed"
    assert {one["external_id"] for batch in attributes(shop) for one in batch} == {"u2", "u3"}


@pytest.mark.long
def test_opt_out_goes_out_even_if_another_column_is_invalid(shop: Shop, retl: Retl):
    """Whether the other rows are sent or not: the row itself stays invalid, and its opt-out is sent once."""
    columns = "external_id, email_subscribe, gender, n"
    rows(shop, columns, "'u1', 'unsubscribed', 'x', 1", "'u2', 'opted_in', 'F', 2", "'u3', 'unsubscribed', 'M', 3")
    shares = {"shares": ["email_subscribe", "gender", "n"], "strict": True}
    shop.sync("it", "SELECT * FROM rows", skip_on_invalid_records=True, **shares)
    shop.sync("other", "SELECT * FROM rows", **shares)
    result = shop.run()
    assert (result.status, result.plan.invalid, result.plan.opt_outs, result.delivery.accepted) == (
        "incomplete",
        1,
        1,
        3,
    )
    assert [(row.key, row.column) for row in result.invalid] == [("u1", "gender")]
    out = {"external_id": "u1", "email_subscribe": "unsubscribed"}
    assert attributes(shop) == [
        [out, {"external_id": "u3", "email_subscribe": "unsubscribed", "gender": "M", "n": 3}],
        [{"external_id": "u2", "email_subscribe": "opted_in", "gender": "F", "n": 2}],
    ]
    assert shop.run().delivery.requests == 0
    assert opt_outs(shop) == [(U1, "email_subscribe"), ('{"external_id":"u3"}', "email_subscribe")]
    said = retl("sync", "other", folder=shop.folder)
    assert said.code == 1
    assert "other: 1 of 3 rows is invalid, so only opt-outs were sent" in said.err
    assert said.out.startswith("other: blocked, 2 of 2 rows accepted in 1 request, 2 attributes written; 1 invalid")
    assert attributes(shop)[2:] == [[out, {"external_id": "u3", "email_subscribe": "unsubscribed"}]]
    rows(shop, columns, "'u1', 'opted_in', 'F', 1", "'u2', 'opted_in', 'F', 2", "'u3', 'unsubscribed', 'M', 3")
    assert withheld(shop.run()) == [("u1", "email_subscribe")]
    assert attributes(shop)[3:] == [[{"external_id": "u1", "gender": "F", "n": 1}]]
    assert retl("forget", "u1", "--yes", folder=shop.folder).code == 0
    assert opt_outs(shop) == [('{"external_id":"u3"}', "email_subscribe")]


def test_row_that_opts_out_and_in_opts_out_first(shop: Shop):
    rows(shop, "external_id, email_subscribe, push_subscribe", "'u1', 'opted_in', 'unsubscribed'")
    shop.sync("it", "SELECT * FROM rows")
    assert shop.run().exit_code == 0
    out = {"external_id": "u1", "push_subscribe": "unsubscribed"}
    assert attributes(shop) == [[out], [{**out, "email_subscribe": "opted_in"}]]
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_opt_in_after_an_opt_out_is_withheld_and_the_rest_goes(shop: Shop, retl: Retl):
    columns = "external_id, email_subscribe, n"
    rows(shop, columns, "'u1', 'unsubscribed', 1", "'u2', 'unsubscribed', 1", "'u3', 'subscribed', 1")
    shop.sync("it", "SELECT * FROM rows")
    assert shop.run().exit_code == 0
    rows(shop, columns, "'u1', 'subscribed', 2", "'u2', 'opted_in', 1", "'u3', 'subscribed', 1", "'u4', 'opted_in', 1")
    planned, ran = retl("plan", "it", folder=shop.folder), retl("sync", "it", folder=shop.folder)
    assert attributes(shop)[2:] == [
        [{"external_id": "u1", "n": 2}, {"external_id": "u4", "email_subscribe": "opted_in", "n": 1}]
    ]
    assert (planned.code, ran.code) == (0, 1)
    assert "2 rows withheld" in planned.out
    comment = retl("plan", "it", "--output", "markdown", folder=shop.folder).out
    assert "**it**: withheld of 2 rows: `email_subscribe` would end an opt-out that Braze has acknowledged\n" in comment
    assert ran.out.startswith("it: incomplete, 2 of 2 rows accepted in 1 request, 3 attributes written; 2 withheld")
    listed = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    why = "would end an opt-out that Braze has acknowledged"
    assert [(row["key"], row["status"], row["column"], row["reason"], row["code"]) for row in listed] == [
        ("u1", "withheld", "email_subscribe", why, "R030"),
        ("u2", "withheld", "email_subscribe", why, "R030"),
    ]
    again = shop.run()
    assert (again.exit_code, again.delivery.requests, len(withheld(again))) == (1, 0, 2)


def test_opt_in_after_an_opt_out_is_sent_with_later_evidence(shop: Shop):
    sql = "SELECT external_id, email_subscribe, agreed_at FROM rows"
    columns = "external_id, email_subscribe, agreed_at"
    rows(shop, columns, *(f"'u{n}', 'unsubscribed', TIMESTAMPTZ '2020-01-01'" for n in range(1, 4)))
    shop.sync("it", sql, consent={"evidence": "agreed_at"})
    assert shop.run().exit_code == 0
    later = "'u1', 'opted_in', now() + INTERVAL 1 HOUR"
    rows(shop, columns, later, "'u2', 'opted_in', TIMESTAMPTZ '2020-01-01'", "'u3', 'opted_in', NULL")
    result = shop.run()
    assert withheld(result) == [("u2", "email_subscribe"), ("u3", "email_subscribe")]
    assert attributes(shop)[1:] == [[{"external_id": "u1", "email_subscribe": "opted_in"}]]
    assert [identifier for identifier, _ in opt_outs(shop)] == ['{"external_id":"u2"}', '{"external_id":"u3"}']


@pytest.mark.long
def test_opt_in_after_an_opt_out_is_sent_if_their_number_is_typed(shop: Shop, retl: Retl):
    columns = "external_id, subscription_group_id, subscription_state"
    rows(shop, columns, *(f"'u{n}', 'a', 'unsubscribed'" for n in range(3)))
    shop.sync("it", "SELECT * FROM rows", **GROUPS)
    assert shop.run().exit_code == 0
    rows(shop, columns, *(f"'u{n}', 'a', 'subscribed'" for n in range(3)))
    for guard in ("max_resubscribed", "max_resubscribed=2"):
        said = retl("sync", "it", "--skip-guard", guard, folder=shop.folder)
        assert (said.code, len(bodies(shop))) == (1, 1)
        what = "it: guard max_resubscribed: 3 rows would end opt-outs, and --skip-guard max_resubscribed=N needs their number; "
        assert f"{what}check them first: `retl rejects it`\n" in said.err
    assert retl("sync", "it", "--skip-guard", "max_resubscribed=3", folder=shop.folder).code == 0
    assert bodies(shop)[1]["subscription_groups"][0]["subscription_state"] == "subscribed"
    assert opt_outs(shop) == []


@pytest.mark.long
def test_full_refresh_sends_opt_outs_and_no_opt_in(shop: Shop):
    """A row of which nothing is left is not sent; what is new in it, the next run sends."""
    columns = "external_id, email_subscribe, subscription_groups, n"
    group = f"{{{{subscription_group_id: '{GROUP}', subscription_state: '{{}}'}}}}"
    groups = f"[{group}, {group.replace(GROUP, OTHER_GROUP)}]"
    both = groups.format("unsubscribed", "subscribed")
    first = ("'u1', 'opted_in', NULL, 1", "'u2', 'unsubscribed', NULL, NULL", f"'u3', NULL, {both}, NULL")
    rows(shop, columns, *first)
    shop.sync("it", "SELECT * FROM rows")
    assert shop.run().exit_code == 0
    before = len(shop.sent())
    rows(shop, columns, *first, "'u4', 'opted_in', NULL, NULL")
    assert shop.run(full_refresh=True).exit_code == 0
    a, b = (
        {"subscription_group_id": name, "subscription_state": state}
        for name, state in ((GROUP, "unsubscribed"), (OTHER_GROUP, "subscribed"))
    )
    assert attributes(shop)[:before] == [
        [{"external_id": "u2", "email_subscribe": "unsubscribed"}, {"external_id": "u3", "subscription_groups": [a]}],
        [
            {"external_id": "u1", "email_subscribe": "opted_in", "n": 1},
            {"external_id": "u3", "subscription_groups": [a, b]},
        ],
    ]
    assert attributes(shop)[before:] == [
        [{"external_id": "u2", "email_subscribe": "unsubscribed"}, {"external_id": "u3", "subscription_groups": [a]}],
        [{"external_id": "u1", "n": 1}],
    ]
    assert shop.run().exit_code == 0
    assert attributes(shop)[before + 2 :] == [[{"external_id": "u4", "email_subscribe": "opted_in"}]]


@pytest.mark.long
def test_null_does_not_end_an_opt_out(shop: Shop):
    """Neither in a row, nor where its row leaves the model."""
    columns = "external_id, email_subscribe, n"
    rows(shop, columns, "'u1', 'unsubscribed', 1", "'u2', 'unsubscribed', 1", "'u3', 'opted_in', 1")
    shop.sync("it", "SELECT * FROM rows", on_removed="clear", guards={"max_removed": "100%"})
    assert shop.run().exit_code == 0
    rows(shop, columns, "'u1', NULL, 1", "'u3', NULL, 1")
    assert withheld(shop.run()) == [("u1", "email_subscribe")]
    clears = {"_update_existing_only": True, "n": None}
    assert attributes(shop)[2:] == [[{"external_id": "u2", **clears}, {"external_id": "u3", "email_subscribe": None}]]
    rows(shop, columns, "'u2', 'opted_in', 1")
    assert ("u2", "email_subscribe") in withheld(shop.run())


@pytest.mark.long
def test_opt_out_is_sent_of_a_row_that_is_held_for_another_reason(shop: Shop, braze: Sandbox):
    """In doubt, rejected before, or one of two rows with one key: nobody can tell which is right, except to opt out."""
    columns = "external_id, email_subscribe, points"
    rows(shop, columns, *(f"'{user}', NULL, '{{\"inc\": 1}}'" for user in ("doubtful", "rejected")))
    options = {"pre_formatted_fields": ["points"], "skip_on_invalid_records": True}
    shop.sync("it", "SELECT * FROM rows", **options)
    shop.destination["max_objects_per_request"] = 1
    shop.write()
    braze.add_fault(Fault("status", external_ids=["doubtful"]))
    braze.add_fault(Fault("object_error", external_ids=["rejected"], times=2))
    assert (shop.run().delivery.in_doubt, shop.run().plan.held) == (1, 1)
    before = len(shop.sent())
    out = [f"'{user}', 'unsubscribed', '{{\"inc\": 1}}'" for user in ("doubtful", "rejected", "twin")]
    rows(shop, columns, *out, "'twin', 'opted_in', NULL")
    shop.run()
    first = [batch[0] for batch in attributes(shop)[before:]]
    assert {"external_id": "doubtful", "email_subscribe": "unsubscribed"} in first
    assert {"external_id": "twin", "email_subscribe": "unsubscribed"} in first
    assert [one for one in first if one.get("email_subscribe") == "opted_in"] == []
    assert {identifier for identifier, _ in opt_outs(shop)} >= {'{"external_id":"doubtful"}', '{"external_id":"twin"}'}
    assert shop.rows_of("in_doubt", "key") == [("doubtful",)]


@pytest.mark.long
def test_opt_out_that_may_have_arrived_is_not_ended_either(shop: Shop, braze: Sandbox):
    """The process is killed before the answer; the row then says the opposite."""
    rows(shop, "external_id, email_subscribe", "'u1', 'opted_in'")
    shop.sync("it", "SELECT * FROM rows")
    assert shop.run().exit_code == 0
    rows(shop, "external_id, email_subscribe", "'u1', 'unsubscribed'", "'u2', 'opted_in'")
    with running(shop, Held(braze, external_ids=["u1"])) as process:
        process.kill()
    rows(shop, "external_id, email_subscribe", "'u1', 'opted_in'", "'u2', 'opted_in'")
    assert withheld(shop.run()) == [("u1", "email_subscribe")]
    assert attributes(shop)[1:] == [
        [{"external_id": "u1", "email_subscribe": "unsubscribed"}],
        [{"external_id": "u2", "email_subscribe": "opted_in"}],
    ]


def lose_an_answer(shop: Shop) -> RunResult:
    """A run whose first request arrives, and gets no response."""
    shop.braze.add_fault(Fault("drop_after"))
    result = shop.run(policy=RetryPolicy(tries=1))
    assert (result.status, len(result.delivery.unclear)) == ("failed", 1)
    return result


def unclear(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows_of("opt_outs WHERE is_unclear", "identifier", "channel")


@pytest.mark.long
def test_opt_out_without_an_answer_goes_first_when_its_row_opts_in_elsewhere_by_then(shop: Shop):
    columns = "external_id, email_subscribe, push_subscribe"
    rows(shop, columns, "'u1', 'unsubscribed', NULL", "'u2', NULL, 'opted_in'")
    shop.sync("it", "SELECT * FROM rows")
    lose_an_answer(shop)
    assert unclear(shop) == [(U1, "email_subscribe")]
    rows(shop, columns, "'u1', 'unsubscribed', 'opted_in'", "'u2', NULL, 'opted_in'")
    assert shop.run().exit_code == 0
    out = {"external_id": "u1", "email_subscribe": "unsubscribed"}
    both = [{**out, "push_subscribe": "opted_in"}, {"external_id": "u2", "push_subscribe": "opted_in"}]
    assert attributes(shop) == [[out], [out], both]
    assert (opt_outs(shop), unclear(shop)) == ([(U1, "email_subscribe")], [])


@pytest.mark.long
def test_opt_out_of_an_invalid_row_is_sent_until_it_is_answered(shop: Shop):
    rows(shop, "external_id, email_subscribe, gender", "'u1', 'unsubscribed', 'x'")
    shop.sync("it", "SELECT * FROM rows", skip_on_invalid_records=True, strict=True)
    lose_an_answer(shop)
    assert [shop.run().delivery.requests for _ in range(3)] == [1, 0, 0]
    assert attributes(shop) == [[{"external_id": "u1", "email_subscribe": "unsubscribed"}]] * 2


@pytest.mark.long
def test_opt_out_goes_first_again_after_an_opt_in_without_an_answer(shop: Shop):
    """Braze has acknowledged it before, and may have the opt-in now. So it is with a row that is invalid by then."""
    columns = "external_id, email_subscribe, push_subscribe, gender, agreed_at"
    agreed = "now() + INTERVAL 1 HOUR"
    rows(shop, columns, *(f"'u{n}', 'unsubscribed', NULL, 'F', {agreed}" for n in (1, 2)))
    options = {"consent": {"evidence": "agreed_at"}, "skip_on_invalid_records": True, "strict": True}
    shop.sync("it", "SELECT external_id, email_subscribe, push_subscribe, gender, agreed_at FROM rows", **options)
    assert shop.run().exit_code == 0
    rows(shop, columns, *(f"'u{n}', 'opted_in', NULL, 'F', {agreed}" for n in (1, 2)))
    lose_an_answer(shop)
    assert len(unclear(shop)) == len(opt_outs(shop)) == 2
    before = len(shop.sent())
    rows(
        shop,
        columns,
        *(
            f"{said}, NULL::TIMESTAMPTZ"
            for said in ("'u1', 'unsubscribed', 'opted_in', 'F'", "'u2', 'unsubscribed', NULL, 'x'")
        ),
    )
    result = shop.run()
    assert (result.delivery.accepted, [row.key for row in result.invalid]) == (3, ["u2"])
    outs = [{"external_id": user, "email_subscribe": "unsubscribed"} for user in ("u1", "u2")]
    assert attributes(shop)[before:] == [outs, [{**outs[0], "push_subscribe": "opted_in"}]]
    assert (unclear(shop), shop.run().delivery.requests) == ([], 0)


@pytest.mark.long
def test_opt_in_that_is_acknowledged_ends_an_unclear_opt_out(shop: Shop):
    columns = "external_id, email_subscribe, agreed_at"
    rows(shop, columns, "'u1', 'unsubscribed', NULL::TIMESTAMPTZ")
    shop.sync("it", "SELECT * FROM rows", consent={"evidence": "agreed_at"})
    lose_an_answer(shop)
    rows(shop, columns, "'u1', 'opted_in', now() + INTERVAL 1 HOUR")
    assert shop.run().exit_code == 0
    assert opt_outs(shop) == []


@pytest.mark.long
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "without an answer"])
def test_opt_in_is_not_taken_for_unchanged_after_an_opt_out_that_was_sent_without_its_row(shop: Shop, is_lost: bool):
    """Braze had it before: the opt-in is withheld, or sent with later evidence."""
    columns, never = "external_id, email_subscribe, gender, agreed_at", "NULL::TIMESTAMPTZ"
    row, other = f"'{{}}', 'subscribed', 'F', {never}", f"'{{}}', 'unsubscribed', 'x', {never}"
    rows(shop, columns, row.format("u1"), row.format("u2"))
    sql = "SELECT external_id, email_subscribe, gender, agreed_at FROM rows"
    shop.sync("it", sql, consent={"evidence": "agreed_at"}, skip_on_invalid_records=True, strict=True)
    assert shop.run().exit_code == 0
    rows(shop, columns, other.format("u1"), other.format("u2"))
    if is_lost:
        lose_an_answer(shop)
    else:
        assert shop.run().delivery.accepted == 2
    before = len(shop.sent())
    rows(shop, columns, row.format("u1"), "'u2', 'subscribed', 'F', now() + INTERVAL 1 HOUR")
    result = shop.run()
    assert (result.exit_code, withheld(result)) == (1, [("u1", "email_subscribe")])
    assert attributes(shop)[before:] == [[{"external_id": "u2", "email_subscribe": "subscribed"}]]
    assert (opt_outs(shop), shop.run().delivery.requests) == ([(U1, "email_subscribe")], 0)


@pytest.mark.long
def test_opt_in_stays_withheld_after_the_rest_of_its_row_was_sent(shop: Shop):
    """Of a row that was acknowledged with it, and whose opt-out may have arrived."""
    columns = "external_id, email_subscribe, n"
    rows(shop, columns, "'u1', 'subscribed', 1")
    shop.sync("it", "SELECT * FROM rows")
    assert shop.run().exit_code == 0
    rows(shop, columns, "'u1', 'unsubscribed', 1")
    lose_an_answer(shop)
    rows(shop, columns, "'u1', 'subscribed', 2")
    for requests in (1, 0, 0):
        result = shop.run()
        assert (withheld(result), result.delivery.requests) == ([("u1", "email_subscribe")], requests)
    assert attributes(shop)[2:] == [[{"external_id": "u1", "n": 2}]]


@pytest.mark.long
def test_opt_out_goes_along_with_a_changed_email(shop: Shop):
    """It may end it in Braze. A sync that does not know of the opt-out warns."""
    columns = "external_id, email, email_subscribe"
    rows(shop, columns, "'u1', 'a@example.com', 'unsubscribed'", "'u2', 'b@example.com', 'unsubscribed'")
    shop.sync("it", "SELECT * FROM rows", shares=["email"])
    shop.sync("other", "SELECT external_id, email FROM rows", shares=["email"])
    assert [result.exit_code for result in shop.run_all("it", "other")] == [0, 0]
    before = len(shop.sent())
    rows(shop, columns, "'u1', 'a@example.org', 'unsubscribed'", "'u2', 'b@example.org', 'opted_in'")
    shop.listener.notices.clear()
    it, _ = shop.run_all("it", "other")
    assert withheld(it) == [("u2", "email_subscribe")]
    assert attributes(shop)[before:][0] == [
        {"external_id": "u1", "email": "a@example.org", "email_subscribe": "unsubscribed"},
        {"external_id": "u2", "email": "b@example.org", "email_subscribe": "unsubscribed"},
    ]
    assert [notice for notice in shop.listener.notices if "email" in notice] == [
        "it: 2 opt-outs are sent along with a changed email, which may end it in Braze",
        "other: warning: a changed email may subscribe 2 users who may have opted out: "
        "add a column email_subscribe, which is sent along",
    ]


@pytest.mark.long
def test_row_of_a_group_that_left_the_model_and_returns_as_an_opt_in_is_withheld_and_valid(shop: Shop):
    columns = "external_id, subscription_group_id, subscription_state"
    for state, condition in (("unsubscribed", "true"), ("unsubscribed", "false"), ("subscribed", "true")):
        rows(shop, columns, f"'u1', 'a', '{state}'")
        shop.sync("it", f"SELECT * FROM rows WHERE {condition}", **GROUPS)
        result = shop.run(skip_guards=["empty_model"])
    assert (withheld(result), result.invalid) == ([('["u1","a"]', "subscription_state")], [])


def test_new_state_opts_nobody_in_where_somebody_real_may_have_opted_out(shop: Shop, retl: Retl):
    """Not on this machine, as the other tests show. A baseline tells, and so does a number that is typed."""
    rows(shop, "external_id, email_subscribe", "'u1', 'opted_in'", "'u2', 'subscribed'", "'u3', 'unsubscribed'")
    shop.destination["endpoint"] = "https://rest.iad-01.braze.com"
    shop.sync("it", "SELECT * FROM rows")
    planned = retl("plan", "it", folder=shop.folder)
    assert "it: 2 rows would opt users in, and the state does not know who has opted out" in planned.err
    hint = "ask Braze: `retl sync it --read-first`; a baseline would lose opt-outs that Braze does not have"
    assert f"hint: {hint}\n" in planned.err
    assert "1 record" in planned.out  # the opt-out is sent nevertheless
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    rows(shop, "external_id, email_subscribe", "'u1', 'opted_in'", "'u2', 'subscribed'", "'u4', 'opted_in'")
    planned = retl("plan", "it", folder=shop.folder)
    assert ("opted out" in planned.err, "1 record" in planned.out) == (False, True)


@pytest.mark.long
def test_state_of_the_version_before_knows_who_has_opted_out(shop: Shop, braze: Sandbox):
    """From its acknowledged rows, in all forms."""
    group = f"{{subscription_group_id: '{GROUP}', subscription_state: 'unsubscribed'}}"
    rows(
        shop,
        "external_id, email_subscribe, subscription_groups",
        f"'u1', 'unsubscribed', [{group}]",
        "'u2', NULL, NULL",
    )
    shop.sync("it", "SELECT * FROM rows")
    shop.sync(
        "groups",
        "SELECT external_id, 'b' AS subscription_group_id, 'unsubscribed' AS subscription_state FROM rows",
        **GROUPS,
    )
    assert [result.exit_code for result in shop.run_all("it", "groups")] == [0, 0]
    for sync in ("it", "groups"):
        with database(shop.folder / f".retl/test/{sync}/state.duckdb") as state:
            known = state.execute("SELECT identifier, channel FROM opt_outs ORDER BY ALL").fetchall()
            state.execute("DROP TABLE opt_outs; DELETE FROM meta WHERE key = 'consent'")
            state.execute("ALTER TABLE rejects DROP COLUMN cursor; ALTER TABLE state DROP COLUMN _retl_absent_since")
            for column in ("git_commit", "git_dirty", "sql_md5", "started_by", "plan_digest", "ledger"):
                state.execute(f"ALTER TABLE runs DROP COLUMN {column}")
            state.execute("DROP TABLE sqls; DROP TABLE pins")
            state.execute("UPDATE meta SET value = '5' WHERE key = 'format'")
        assert shop.run(sync).exit_code == 0
        assert shop.rows_of("opt_outs", sync=sync) == [(*row, ANY, "true") for row in known]
        assert shop.rows_of("meta", "value", sync=sync).count(('["email_subscribe", "subscription_groups"]',)) == (
            sync == "it"
        )


# --- random histories -------------------------------------------------------------------------------------------------

USERS, FIELDS = ("u1", "u2", "u3", "u4"), ("email_subscribe", "push_subscribe")
STATES = (None, "unsubscribed", "unsubscribed", "opted_in", "subscribed")
LOST = ("drop_after", "status", None)


@dataclass
class History:
    """What was said to Braze so far, by user and field: `is_out` where the last word that it may have got is an opt-out
    that no opt-in has ended since; `answered` where Braze has acknowledged it, and may have got no opt-in since."""

    shop: Shop
    random: Random
    rows: dict[str, dict[str, str | None]] = field(default_factory=dict)
    is_out: dict[tuple[str, str], bool] = field(default_factory=dict)
    answered: set[tuple[str, str]] = field(default_factory=set)
    seen: int = 0

    def change(self) -> None:
        """Let some users say something else, with evidence or without, some of them in rows that are invalid."""
        for user in USERS:
            if self.random.random() < 0.6:
                gender = self.random.choice(["F", "F", "F", "unknown"])
                agreed = self.random.choice([None, "2020-01-01 00:00:00", "2099-01-01 00:00:00"])
                said = {name: self.random.choice(STATES) for name in FIELDS}
                self.rows[user] = {**said, "gender": gender, "agreed_at": agreed}
        values = [
            ", ".join("NULL" if value is None else f"'{value}'" for value in (user, *row.values()))
            for user, row in self.rows.items()
        ]
        nobody = "NULL, NULL, NULL, NULL, NULL"
        rows(self.shop, f"external_id, {', '.join(FIELDS)}, gender, agreed_at", *(values or [nobody]))

    def check(self, result: RunResult) -> None:
        """What this run has sent."""
        requests, self.seen = self.shop.braze.requests()[self.seen :], len(self.shop.sent())
        first, ins = dict[tuple[str, str], int](), dict[tuple[str, str], int]()
        outs, known = set[tuple[str, str]](), set(self.answered)
        for number, request in enumerate(requests):
            for record in json.loads(request.body)["attributes"]:
                for name in FIELDS:
                    said = (record["external_id"], name)
                    if record.get(name) == "unsubscribed":
                        outs.add(said)
                        if said not in known:
                            first.setdefault(said, number)
                        if (request.status, request.fault) == (201, None):
                            self.answered.add(said)
                    elif record.get(name):
                        ins.setdefault(said, number)
                        self.answered.discard(said)
                    elif name in record:
                        assert not self.is_out.get(said), "a NULL ends an opt-out"
        assert max(first.values(), default=-1) < min(ins.values(), default=len(requests))
        if result.status != "failed":
            said = {(user, name) for user, row in self.rows.items() for name in FIELDS if row[name] == "unsubscribed"}
            assert said <= self.answered
        for (user, name), _ in ins.items():
            asked = (self.rows[user]["agreed_at"] or "").startswith("2099")
            assert asked or not self.is_out.get((user, name))
        listed = set(withheld(result))
        for user, row in self.rows.items():
            for name in FIELDS:
                opts_in = row[name] in ("opted_in", "subscribed") and row["gender"] == "F"
                asked = (row["agreed_at"] or "").startswith("2099")
                if opts_in and not asked and self.is_out.get((user, name)):
                    assert (user, name) in listed
        self.is_out |= dict.fromkeys(ins, False) | dict.fromkeys(outs, True)


@pytest.mark.long
def test_no_history_opts_anybody_in_who_has_not_asked_for_it(tmp_path: Path, braze: Sandbox, seed: int):
    """Whatever is lost on the way: in no run does an opt-in leave before an opt-out, and what is withheld is listed.

    An opt-out that was not accepted is no opt-out of the state; here it counts as one, unless Braze has rejected it.
    """
    for number in range(examples(3, 40)):
        random = Random(seed + number)
        shop = Shop(tmp_path / f"shop{number}", braze)
        shop.destination["max_objects_per_request"] = random.choice([1, 2, 75])
        agreed_at = "CAST(agreed_at AS TIMESTAMP) AS agreed_at"
        sql = f"SELECT external_id, {', '.join(FIELDS)}, gender, {agreed_at} FROM rows WHERE external_id IS NOT NULL"
        shop.sync("it", sql, consent={"evidence": "agreed_at"}, skip_on_invalid_records=random.random() < 0.7)
        history = History(shop, random, seen=len(shop.sent()))
        for _ in range(5):
            history.change()
            lost: Any = random.choice(LOST)
            if lost:
                braze.add_fault(Fault(lost, times=random.choice([1, 9]), skip=random.choice([0, 1])))
            history.check(shop.run(policy=RetryPolicy(tries=2), threads=random.choice([1, 3])))
            braze.clear_faults()
