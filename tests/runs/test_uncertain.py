"""Records to which Braze responds success without doing anything, as their user does not exist."""

import json

import pytest

from tests.shop import Retl, Shop

ALIASES = {"mode": "users_alias_new"}
IDENTIFY = {"mode": "users_identify"}
NOBODY = "that no sync of this target has sent: Braze responds success and does nothing if they do not exist"


def users(*names: str, more: str = "1 AS n") -> str:
    return f"SELECT unnest({list(names)}) AS external_id, {more}"


def aliases(*names: str) -> str:
    return f"SELECT 'a' || u AS alias_name, 'cookie' AS alias_label, u AS external_id FROM (SELECT unnest({list(names)}) AS u)"


def requests(shop: Shop) -> list[str]:
    """What was sent since the last time."""
    bodies = shop.sent()
    seen = shop.more.pop("x-seen", 0)
    shop.more["x-seen"] = len(bodies)
    return bodies[seen:]


@pytest.mark.long
def test_alias_of_a_user_who_is_not_there_yet_is_sent_again_when_another_sync_has_sent_the_user(shop: Shop):
    shop.sync("aliases", aliases("u1", "u2"), **ALIASES).sync("people", users("u1"))
    first = shop.run("aliases")
    assert (first.status, first.plan.uncertain, first.delivery.accepted) == ("success", 2, 2)
    assert shop.listener.notices == [f"aliases: 2 rows are for users {NOBODY}"]
    assert shop.braze.profile("u1") is None
    again = shop.run("aliases")
    assert (again.plan.to_send, again.plan.uncertain) == (0, 0)
    shop.run("people")
    shop.listener.notices.clear()
    third = shop.run("aliases")
    assert (third.plan.to_send, third.plan.uncertain, third.delivery.accepted) == (1, 0, 1)
    assert shop.listener.notices == ["aliases: 1 row is sent again: another sync has sent its user since"]
    assert shop.braze.profile("u1")["user_aliases"] == [{"alias_name": "au1", "alias_label": "cookie"}]
    assert shop.run("aliases").plan.to_send == 0


@pytest.mark.long
def test_in_one_command_nothing_is_uncertain_where_a_sync_runs_after_that_of_its_users(shop: Shop):
    shop.sync("people", users("u1")).sync("aliases", aliases("u1"), **ALIASES, after="people")
    assert [result.plan.uncertain for result in shop.run_all("people", "aliases")] == [0, 0]
    assert [result.plan.to_send for result in shop.run_all("people", "aliases")] == [0, 0]


@pytest.mark.long
def test_alias_email_and_phone_to_identify_must_be_known_and_their_id_need_not(shop: Shop):
    row = "SELECT NULL AS alias_name, NULL AS alias_label, NULL AS email, NULL AS phone, ['unidentified'] AS prioritization"
    rows = " UNION ALL BY NAME ".join(
        [
            f"{row}, NULL AS external_id WHERE false",
            "SELECT 'a1' AS alias_name, 'cookie' AS alias_label, 'u1' AS external_id",
            "SELECT 'a2' AS alias_name, 'cookie' AS alias_label, 'u2' AS external_id",
            "SELECT 'Ann@example.com' AS email, ['unidentified'] AS prioritization, 'u3' AS external_id",
            "SELECT '+1 415 555 2671' AS phone, ['unidentified'] AS prioritization, 'u4' AS external_id",
        ]
    )
    shop.sync("identify", rows, **IDENTIFY)
    shop.sync("aliases", "SELECT 'a1' AS alias_name, 'cookie' AS alias_label", **ALIASES)
    shop.sync(
        "leads", "SELECT 'ann@example.com' AS email, 1 AS n UNION ALL SELECT 'bob@example.com', 1", primary_key="email"
    )
    result = shop.run_all("aliases", "leads", "identify")[-1]
    assert (result.plan.to_send, result.plan.uncertain) == (4, 2)
    shop.sync("phones", "SELECT 'x' AS external_id, '+14155552671' AS phone")
    shop.run("phones")
    assert (shop.run("identify").plan.to_send, shop.run("identify").plan.to_send) == (1, 0)


@pytest.mark.long
def test_update_of_an_unknown_user_goes_out_again_with_all_its_columns(shop: Shop):
    update = "SELECT unnest(['u1', 'u2']) AS external_id, true AS _update_existing_only, {} AS n, 'x' AS text"
    shop.sync("updates", update.format(1)).sync("people", users("u1", more="'y' AS other"))
    assert shop.run("updates").plan.uncertain == 2
    shop.run("people")
    shop.sync("updates", update.format(2))
    requests(shop)
    result = shop.run("updates")
    assert (result.plan.added, result.plan.changed, result.plan.uncertain) == (1, 1, 1)
    sent = {one["external_id"]: one for one in json.loads(requests(shop)[0])["attributes"]}
    assert sent == {
        "u1": {"external_id": "u1", "_update_existing_only": True, "n": 2, "text": "x"},
        "u2": {"external_id": "u2", "_update_existing_only": True, "n": 2},
    }


@pytest.mark.long
def test_attributes_of_an_alias_are_uncertain_unless_they_may_create_it(shop: Shop):
    row = "SELECT 'a1' AS alias_name, 'cookie' AS alias_label, 1 AS n"
    shop.sync("by_default", row).sync("creates", row.replace("1 AS n", "1 AS m") + ", false AS _update_existing_only")
    assert shop.run("by_default").plan.uncertain == 1
    assert shop.run("creates").plan.uncertain == 0
    assert shop.run("by_default").plan.to_send == 1


@pytest.mark.long
def test_event_that_may_have_counted_is_not_sent_again(shop: Shop):
    row = "SELECT 'u1' AS external_id, 'seen' AS name, now()::DATE AS time, true AS _update_existing_only"
    shop.sync("events", row, mode="users_track", track_record_type="events").sync("people", users("u1"))
    assert shop.run("events").plan.uncertain == 1
    shop.run("people")
    assert shop.run("events").plan.to_send == 0


@pytest.mark.long
def test_plan_says_what_is_uncertain_and_changes_nothing(shop: Shop, retl: Retl):
    shop.sync("aliases", aliases("u1"), **ALIASES).sync("people", users("u1"))
    shop.run_all("aliases", "people")
    before = shop.rows_of("state")
    said = retl("plan", "aliases", "--output", "json", folder=shop.folder)
    assert [(plan["to_send"], plan["uncertain"]) for plan in json.loads(said.out)] == [(1, 0)]
    assert shop.rows_of("state") == before
    shop.sync("aliases", aliases("u1", "u2"), **ALIASES)
    assert f"  1 row is for a user {NOBODY}" in retl("plan", "aliases", folder=shop.folder).out
    ended = retl("sync", "aliases", folder=shop.folder)
    assert (ended.code, "; 1 for users that no sync of this target has sent" in ended.out) == (0, True)


@pytest.mark.long
def test_no_other_state_is_read_for_syncs_without_such_rows(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    shop.sync("aliases", "SELECT 'a1' AS alias_name, 'cookie' AS alias_label, NULL AS external_id", **ALIASES)
    shop.sync("people", users("u1")).sync("creates", users("u1", more="false AS _update_existing_only"))
    shop.run("people")
    (shop.folder / ".retl/test/people/state.duckdb").write_text("not readable")
    for name in ("aliases", "creates"):
        assert (shop.run(name).status, shop.run(name).plan.uncertain) == ("success", 0)


@pytest.mark.long
def test_state_that_cannot_be_read_knows_nobody(shop: Shop):
    shop.sync("aliases", aliases("u1"), **ALIASES).sync("people", users("u1"))
    shop.run("people")
    (shop.folder / ".retl/test/people/state.duckdb").write_text("not readable")
    assert (shop.run("aliases").status, shop.run("aliases").plan.to_send) == ("success", 0)
