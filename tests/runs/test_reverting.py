"""What a run has changed is taken back: cell by cell, as a plan that is reviewed and applied."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reverse_etl.plan.guards import of_saved_plan
from reverse_etl.runs.finish_by import out_of_time
from tests.shop import Outcome, Retl, Shop


def rows(*values: tuple[Any, ...], names: str = "external_id, tier, n") -> str:
    listed = ", ".join(str(value).replace("None", "NULL").replace(",)", ")") for value in values)
    return f"SELECT * FROM (VALUES {listed}) AS t({names})"


FIRST = rows(("u1", "basic", 1), ("u2", "basic", 2), ("u3", "gold", 3))
SECOND = rows(("u1", "gold", 1), ("u2", "gold", 20), ("u3", "gold", 3), ("u4", "basic", 4))


def profiles(shop: Shop) -> Mapping[str, Any]:
    """The custom attributes of all users, by external id."""
    return {profile["external_id"]: profile["custom_attributes"] for profile in shop.braze.profiles()}


def last_run(shop: Shop, sync: str = "it") -> str:
    return str(shop.rows_of("(SELECT run_id FROM runs ORDER BY finished_at DESC LIMIT 1)", "run_id", sync=sync)[0][0])


def revert(shop: Shop, retl: Retl, run: str, *options: str) -> Outcome:
    """Plan a revert, and apply it."""
    planned = retl("revert", run, *options, "--out", "revert.plan", folder=shop.folder)
    assert planned.code == 0, planned.err
    digest = re.search(r"its digest: (\w+)", planned.err)
    assert digest
    applied = retl("apply", "revert.plan", "--digest", digest[1], folder=shop.folder)
    assert applied.code == 0, applied.err
    return planned


@pytest.mark.long
def test_run_is_taken_back_and_pinned_values_stay(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    before = profiles(shop)
    shop.sync("it", SECOND)
    shop.run()
    run = last_run(shop)
    planned = revert(shop, retl, run, "--pin")
    assert planned.out.splitlines()[0] == f"it: 5 values of {run} to be reverted, pinned until the model returns others"
    assert profiles(shop) == {**before, "u4": {}}
    why = retl("why", "u1", "tier", folder=shop.folder).out
    assert f": reverts {run}\n" in why
    shop.run()
    assert profiles(shop) == {**before, "u4": {}}
    shop.sync("it", SECOND.replace("20", "21"))
    assert shop.run().plan.changed == 1
    assert profiles(shop) == {**before, "u2": {"tier": "basic", "n": 21}, "u4": {}}
    assert retl("revert", run, "--unpin", folder=shop.folder).out == (
        f"it: 4 values of {run} no longer pinned: the next run sends what the model returns\n"
    )
    shop.run()
    assert profiles(shop) == {
        "u1": {"tier": "gold", "n": 1},
        "u2": {"tier": "gold", "n": 21},
        "u3": {"tier": "gold", "n": 3},
        "u4": {"tier": "basic", "n": 4},
    }


@pytest.mark.long
def test_what_the_model_still_returns_is_refused_unless_it_is_pinned(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    shop.sync("it", SECOND)
    shop.run()
    run, sent = last_run(shop), len(shop.sent())
    refused = retl("revert", run, folder=shop.folder)
    assert (refused.code, refused.err) == (
        2,
        "syncs.yml:14:10: it: the model still returns 5 of 5 values to be reverted\n"
        "  hint: the next sync would send them again: pass --pin to hold them, or correct the model first\n",
    )
    shop.sync("it", FIRST)
    shown = retl("revert", run, folder=shop.folder)
    assert (shown.code, shown.out.splitlines()[0]) == (0, f"it: 5 values of {run} to be reverted")
    assert len(shop.sent()) == sent
    assert shop.rows_of("pins") == []


@pytest.mark.long
def test_cells_that_later_runs_have_changed_stay_and_are_counted(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    shop.sync("it", SECOND)
    shop.run()
    run = last_run(shop)
    shop.sync("it", SECOND.replace("20", "21").replace("('u4', 'basic', 4)", "('u4', 'basic', 5)"))
    shop.run()
    planned = revert(shop, retl, run, "--pin")
    assert planned.out.splitlines()[:2] == [
        f"it: 3 values of {run} to be reverted, pinned until the model returns others",
        "  not reverted: 2 values that a later run has changed",
    ]
    assert profiles(shop) == {
        "u1": {"tier": "basic", "n": 1},
        "u2": {"tier": "basic", "n": 21},
        "u3": {"tier": "gold", "n": 3},
        "u4": {"n": 5},
    }


@pytest.mark.long
def test_several_runs_go_back_to_before_the_first_of_them(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    before, runs = profiles(shop), []
    for sql in (SECOND, SECOND.replace("20", "21").replace("('u4', 'basic', 4)", "('u4', NULL, 5)")):
        shop.sync("it", sql)
        shop.run()
        runs.append(last_run(shop))
    revert(shop, retl, "..".join(runs), "--pin")
    assert profiles(shop) == {**before, "u4": {}}
    other = shop.sync("other", FIRST.replace("'u", "'v"))
    other.run("other")
    mixed = retl("revert", f"{runs[0]}..{last_run(shop, 'other')}", folder=shop.folder)
    assert mixed.err.splitlines()[-1] == "  hint: revert the runs of one sync at a time"


@pytest.mark.long
def test_revert_of_a_revert_is_the_run_again(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    shop.sync("it", SECOND)
    shop.run()
    after = profiles(shop)
    revert(shop, retl, last_run(shop), "--pin")
    again = revert(shop, retl, last_run(shop))  # the model returns what it takes back to, which needs no pin
    assert (profiles(shop), shop.rows_of("pins")) == (after, [])
    assert "not reverted" not in again.out
    assert shop.run().plan.unchanged == 4


@pytest.mark.long
def test_values_that_are_null_are_cleared_whatever_the_sync_does_with_nulls(shop: Shop, retl: Retl):
    for nulls in ("clear", "omit", "send"):
        name = f"it_{nulls}"
        shop.sync(name, rows((f"{nulls}1", None, 1)), nulls=nulls)
        shop.run(name)
        shop.sync(name, rows((f"{nulls}1", "gold", 1)), nulls=nulls)
        shop.run(name)
        revert(shop, retl, last_run(shop, name), "--pin")
        assert profiles(shop)[f"{nulls}1"] in ({"n": 1}, {"n": 1, "tier": None})


@pytest.mark.long
def test_columns_that_changed_since_are_counted(shop: Shop, retl: Retl):
    names = "external_id, tier, n, gone"
    shop.sync("it", rows(("u1", "a", 1, "x"), names=names))
    shop.run()
    shop.sync("it", rows(("u1", "b", 2, "y"), names=names))
    shop.run()
    run = last_run(shop)
    shop.sync("it", rows(("u1", "b", "two"), names="external_id, tier, n"))
    shop.run(accept_schema_change=True)
    planned = revert(shop, retl, run, "--pin")
    assert planned.out.splitlines()[:3] == [
        f"it: 1 value of {run} to be reverted, pinned until the model returns others",
        "  not reverted: 1 value that a later run has changed",
        "  not reverted: 1 value of columns that are no longer sent",
    ]
    assert profiles(shop)["u1"]["tier"] == "a"


@pytest.mark.long
def test_rows_that_were_sent_again_whole_keep_what_did_not_change(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    shop.sync("it", FIRST.replace("'basic', 2", "'gold', 2"))
    shop.run(full_refresh=True)
    run = last_run(shop)
    planned = revert(shop, retl, run, "--pin")
    assert planned.out.startswith(f"it: 1 value of {run} to be reverted")
    assert profiles(shop)["u2"] == {"tier": "basic", "n": 2}
    assert profiles(shop)["u3"] == {"tier": "gold", "n": 3}


@pytest.mark.long
def test_what_was_added_to_a_value_in_braze_is_not_taken_away(shop: Shop, retl: Retl):
    sql = """SELECT 'u1' AS external_id, '{"inc": %d}' AS visits, '%s' AS tier"""
    shop.sync("it", sql % (1, "a"), pre_formatted_fields=["visits"])
    shop.run()
    shop.sync("it", sql % (2, "b"), pre_formatted_fields=["visits"])
    shop.run()
    planned = revert(shop, retl, last_run(shop), "--pin")
    assert planned.out.splitlines()[1] == (
        "  not reverted: 1 value that were added to, or removed from, what Braze had (inc, add, remove)"
    )
    assert profiles(shop) == {"u1": {"tier": "a", "visits": 3}}


@pytest.mark.parametrize(
    ("mode", "sql"),
    [
        (
            {"mode": "users_track", "track_record_type": "events"},
            "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMPTZ '2026-11-25 08:00:00Z' AS time",
        ),
        ({"mode": "users_alias_new"}, "SELECT 'a' AS alias_name, 'l' AS alias_label, 'u1' AS external_id"),
        ({"mode": "users_identify"}, "SELECT 'a' AS alias_name, 'l' AS alias_label, 'u1' AS external_id"),
    ],
    ids=["events", "aliases", "identifications"],
)
def test_modes_that_braze_keeps_cannot_be_reverted(shop: Shop, retl: Retl, mode: dict[str, Any], sql: str):
    shop.sync("it", sql, **mode)
    shop.run()
    refused = retl("revert", last_run(shop), "--pin", folder=shop.folder)
    label = " / ".join(mode.values())
    said = f"syncs.yml:15:9: it: mode {label} cannot be reverted: Braze keeps what it was sent\n"
    assert (refused.code, refused.err) == (2, said)
    unknown = retl("revert", "20200101T000000-000000", folder=shop.folder)
    assert (unknown.code, unknown.err) == (
        2,
        'unknown run "20200101T000000-000000"\n  hint: `retl history` lists the runs\n',
    )


@pytest.mark.long
def test_subscription_goes_back_to_the_state_before_if_there_was_one(shop: Shop, retl: Retl):
    group = "78d1c7a3-9a94-4b0d-9a0f-5a8e0c2e1f00"
    of = f"SELECT external_id, '{group}' AS subscription_group_id, subscription_state FROM ({{}})"
    first = rows(("u1", "subscribed"), names="external_id, subscription_state")
    second = rows(("u1", "unsubscribed"), ("u2", "unsubscribed"), names="external_id, subscription_state")
    shop.sync("it", of.format(second), mode="subscription_status_set")
    shop.model("it", of.format(first))
    shop.run()
    shop.model("it", of.format(second))
    shop.run()
    planned = retl("revert", last_run(shop), "--pin", folder=shop.folder)
    left = "  not reverted: 1 value that Braze had none of before, and that cannot be cleared"
    assert (planned.code, planned.out.splitlines()[1]) == (0, left)
    assert "1 row withheld" in planned.out  # it would opt u1 in again


@pytest.mark.long
def test_rows_that_were_cleared_are_set_again_and_stay_until_the_model_returns_them(shop: Shop, retl: Retl):
    shop.sync("it", FIRST, on_removed="clear", guards={"max_removed": "100%"}).run()
    before = profiles(shop)
    shop.model("it", rows(("u1", "gold", 1), ("u3", "gold", 3)))
    shop.run()
    run = last_run(shop)
    assert profiles(shop) == {**before, "u1": {"tier": "gold", "n": 1}, "u2": {}}
    said = "it: the model still returns 1 of 3 values to be reverted, and lacks the rows of 2\n"
    assert said in retl("revert", run, folder=shop.folder).err
    planned = revert(shop, retl, run, "--pin")
    assert planned.out.splitlines()[0] == f"it: 3 values of {run} to be reverted, pinned until the model returns others"
    assert "not reverted" not in planned.out
    assert profiles(shop) == before
    again = shop.run()
    assert (again.plan.removed, again.plan.to_send, profiles(shop)) == (0, 0, before)
    shop.model("it", FIRST)  # the row is back, as it is: the pin ends
    assert shop.run().plan.to_send == 0
    assert shop.rows_of("pins") == []
    shop.model("it", rows(("u1", "basic", 1), ("u3", "gold", 3)))
    assert shop.run().plan.removed == 1
    assert profiles(shop)["u2"] == {}


@pytest.mark.long
def test_rows_that_the_next_sync_would_clear_again_are_refused_unless_they_are_pinned(shop: Shop, retl: Retl):
    shop.sync("it", FIRST, on_removed="clear", guards={"max_removed": "100%"}).run()
    shop.model("it", rows(("u1", "basic", 1), ("u3", "gold", 3)))
    shop.run()
    run = last_run(shop)
    refused = retl("revert", run, folder=shop.folder)
    assert (refused.code, refused.err.splitlines()) == (
        2,
        [
            "syncs.yml:14:10: it: the model still lacks the rows of 2 of 2 values to be reverted",
            "  hint: the next sync would clear them again: pass --pin to hold them, or correct the model first",
        ],
    )
    shop.model("it", FIRST)
    revert(shop, retl, run)
    assert (profiles(shop)["u2"], shop.run().plan.to_send) == ({"tier": "basic", "n": 2}, 0)


@pytest.mark.long
def test_rows_of_several_columns_and_users_are_set_again_by_what_the_ledger_has(shop: Shop, retl: Retl):
    names, key = "id, shop, external_id, tier", ["id", "shop"]
    options: dict[str, Any] = {"primary_key": key, "exclude_columns": key, "on_removed": "clear"}
    first = rows((1, "x", "u1", "a"), (2, "x", "u2", "b"), names=names)
    shop.sync("it", first, guards={"max_removed": "100%"}, **options).run()
    before = profiles(shop)
    shop.model("it", rows((1, "x", "u1", "a"), names=names))
    shop.run()
    assert profiles(shop)["u2"] == {}
    revert(shop, retl, last_run(shop), "--pin")
    assert (profiles(shop), shop.run().plan.to_send) == (before, 0)


@pytest.mark.long
def test_subscriptions_of_rows_that_were_cleared_stay_as_they_are(shop: Shop, retl: Retl):
    sql = rows(("u1", "subscribed", "a"), ("u2", "subscribed", "b"), names="external_id, email_subscribe, tier")
    shop.sync("it", sql, on_removed="clear", guards={"max_removed": "100%"}).run()
    shop.model("it", sql.replace(", ('u2', 'subscribed', 'b')", ""))
    shop.run()
    planned = revert(shop, retl, last_run(shop), "--pin")
    assert planned.out.splitlines()[1] == "  not reverted: 1 value of rows that left the model, and were not cleared"
    assert json.loads(shop.sent()[-1]) == {"attributes": [{"external_id": "u2", "tier": "b"}]}


@pytest.mark.long
def test_pin_ends_when_its_row_is_about_another_user(shop: Shop, retl: Retl):
    options: dict[str, Any] = {"primary_key": "id", "exclude_columns": ["id"]}
    sql = "SELECT 1 AS id, '{}' AS external_id, '{}' AS tier"
    shop.sync("it", sql.format("u1", "basic"), **options).run()
    shop.model("it", sql.format("u1", "gold"))
    shop.run()
    revert(shop, retl, last_run(shop), "--pin")
    assert (shop.run().plan.to_send, profiles(shop)["u1"]) == (0, {"tier": "basic"})
    shop.model("it", sql.format("u2", "gold"))
    shop.run()
    assert (profiles(shop)["u2"], shop.rows_of("pins")) == ({"tier": "gold"}, [])


@pytest.mark.long
def test_who_has_opted_out_is_not_opted_in_by_a_revert(shop: Shop, retl: Retl):
    sql = "SELECT 'u1' AS external_id, '%s' AS email_subscribe, '%s' AS tier"
    shop.sync("it", sql % ("subscribed", "a"))
    shop.run()
    shop.sync("it", sql % ("unsubscribed", "b"))
    shop.run()
    run = last_run(shop)
    planned = retl("revert", run, "--pin", "--out", "revert.plan", folder=shop.folder)
    assert "1 row withheld" in planned.out
    (profile,) = shop.braze.profiles()
    assert profile["email_subscribe"] == "unsubscribed"


@pytest.mark.long
def test_guards_hold_for_a_revert(shop: Shop, retl: Retl):
    shop.sync("it", FIRST, guards={"max_changes": 1})
    shop.run(skip_guards=["max_changes"])
    shop.sync("it", SECOND, guards={"max_changes": 1})
    shop.run(skip_guards=["max_changes"])
    planned = retl("revert", last_run(shop), "--pin", "--out", "revert.plan", folder=shop.folder)
    assert planned.code == 1
    tripped = (
        "syncs.yml:18:18: it: guard max_changes: 3 rows would be sent; at most 1 is allowed\n"
        "  hint: only if all of it is meant, run `retl apply FILE --skip-guard max_changes=3`\n"
    )
    assert planned.err.endswith(tripped)
    sent = len(shop.sent())
    assert retl("apply", "revert.plan", folder=shop.folder).err.endswith(tripped)
    assert retl("apply", "revert.plan", "--skip-guard", "max_changes=3", folder=shop.folder).code == 0
    assert len(shop.sent()) == sent + 1


@pytest.mark.long
def test_revert_that_would_be_late_leads_to_no_sync(shop: Shop, retl: Retl):
    for value in ("a", "b"):
        shop.sync("it", f"SELECT 'u' || i AS external_id, '{value}' AS v FROM range(225) r(i)")
        shop.run()
    shop.destination = {"rate_limits": {"users_track": {"requests": 1, "per_seconds": 36_000}}}
    shop.write()
    by = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert retl("revert", last_run(shop), "--pin", "--out", "revert.plan", folder=shop.folder).code == 0
    applied = retl("apply", "revert.plan", "--finish-by", by, folder=shop.folder)
    assert (applied.code, "guard finish_by: 3 requests at " in applied.err) == (1, True)
    way_out = "run `retl apply FILE` without --finish-by, or add --skip-guard finish_by to send what it can by then"
    assert applied.err.endswith(f"  hint: {way_out}\n")


def test_rest_of_a_saved_plan_that_ran_out_of_time_is_planned_again(shop: Shop):
    shop.sync("it", FIRST)
    sync = shop.project().sync("it")
    (problem,) = out_of_time(sync, datetime(2026, 12, 1, tzinfo=UTC))
    assert of_saved_plan(problem, sync).hint == "make the plan again, and apply it: it has the rest"


@pytest.mark.long
def test_pins_of_somebody_who_was_erased_are_erased(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    shop.sync("it", SECOND)
    shop.run()
    revert(shop, retl, last_run(shop), "--pin")
    assert {key for key, *_ in shop.rows_of("pins")} == {"u1", "u2", "u4"}
    assert retl("forget", "u2", "--yes", folder=shop.folder).code == 0
    assert {key for key, *_ in shop.rows_of("pins")} == {"u1", "u4"}


@pytest.mark.long
def test_status_says_what_is_pinned(shop: Shop, retl: Retl):
    shop.sync("it", FIRST)
    shop.run()
    shop.sync("it", SECOND)
    shop.run()
    run = last_run(shop)
    revert(shop, retl, run, "--pin")
    assert retl("status", folder=shop.folder).err == (
        f"it: reverts {run}\n"
        f"it: 5 values reverted and pinned: `retl revert {run} --unpin` lets the model decide again\n"
    )
