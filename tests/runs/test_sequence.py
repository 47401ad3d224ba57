"""Several syncs in one command: their order, and how long one waits for what another has sent."""

import json
import signal

import pytest

from reverse_etl.errors import ProjectError
from tests.shop import Retl, Shop, edit, start

USERS = "SELECT 'u1' AS external_id, 'Ada' AS first_name"
ALIASES = "SELECT 'cookie' AS alias_label, 'a1' AS alias_name, 'u1' AS external_id"
IDENTIFY = "SELECT 'u1' AS external_id, 'a1' AS alias_name, 'cookie' AS alias_label"
EVENTS = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"


def chain(shop: Shop, **waits: object) -> Shop:
    """users, then their aliases, then who is who, then events; each after the one before, which it `waits` for."""
    shop.sync("users", USERS)
    shop.sync("aliases", ALIASES, mode="users_alias_new", after=waits.get("aliases", "users"))
    shop.sync("who", IDENTIFY, mode="users_identify", after=waits.get("who", "aliases"))
    shop.sync("events", EVENTS, mode="users_track", track_record_type="events", after=waits.get("events", "who"))
    return shop


@pytest.mark.long
def test_sync_waits_until_braze_has_applied_what_its_predecessor_sent(shop: Shop):
    chain(
        shop, aliases={"sync": "users", "wait": "5 minutes"}, who=["users", {"sync": "aliases", "wait": "90 seconds"}]
    )
    assert [result.status for result in shop.run_all("users", "aliases", "who")] == ["success"] * 3
    assert shop.clock.waits == [300.0, 90.0]
    assert shop.listener.notices == [
        "aliases: waiting 5 min 0 s until Braze has applied what users has sent (after: wait)",
        "who: waiting 1 min 30 s until Braze has applied what aliases has sent (after: wait)",
    ]


@pytest.mark.long
def test_sync_waits_for_nobody_who_sent_nothing_in_this_run(shop: Shop):
    chain(shop, aliases={"sync": "users", "wait": "5 minutes"})
    shop.run("users")
    shop.run_all("users", "aliases")
    shop.run("aliases")
    assert (shop.clock.waits, shop.listener.notices) == ([], [])


@pytest.mark.long
def test_only_what_is_left_of_the_longest_wait_is_waited_for(shop: Shop):
    chain(
        shop,
        aliases={"sync": "users", "wait": "1 minute"},
        who=[{"sync": "users", "wait": "2 minutes"}, {"sync": "aliases", "wait": "30 seconds"}],
    )
    shop.run_all("users", "aliases", "who")
    assert shop.clock.waits == [60.0, 60.0]


@pytest.mark.long
def test_dependence_is_pointed_out_once_in_a_command(shop: Shop):
    chain(shop).run_all("users", "aliases", "who", "events")
    said = "users has just sent requests, which Braze may take minutes to apply"
    assert shop.listener.notices == [f"aliases: {said}; to wait, write `{{sync: users, wait: 5 minutes}}` in `after`"]


@pytest.mark.long
def test_nothing_is_pointed_out_where_no_call_depends_on_another(shop: Shop):
    groups = "SELECT 'u1' AS external_id, 'g' AS subscription_group_id, 'unsubscribed' AS subscription_state"
    shop.sync("users", USERS)
    shop.sync("events", EVENTS, mode="users_track", track_record_type="events", after="users")
    shop.sync("groups", groups, mode="subscription_status_set", after=["users", "events"])
    shop.run_all("users", "events", "groups")
    assert shop.listener.notices == []


@pytest.mark.long
def test_ctrl_c_ends_a_wait_and_keeps_what_was_done(shop: Shop):
    chain(shop, aliases={"sync": "users", "wait": "5 minutes"})
    with start(shop, "sync", "users", "aliases") as process:
        process.wait_until(lambda: "aliases: waiting 5 min 0 s until" in process.err)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert len(shop.sent()) == 1
    results = json.loads((shop.folder / "target" / "run_results.json").read_text())["results"]
    assert [(result["sync"], result["status"]) for result in results] == [
        ("users", "success"),
        ("aliases", "interrupted"),
    ]


def test_order_is_that_of_mappings_too_and_their_mistakes_have_places(shop: Shop, retl: Retl):
    chain(shop, aliases={"sync": "users", "wait": "5 minutes"})
    shop.syncs.reverse()
    shop.write()
    listed = json.loads(retl("ls", "--output", "json", folder=shop.folder).out)
    assert [(sync["name"], sync["after"]) for sync in listed] == [
        ("users", []),
        ("aliases", ["users"]),
        ("who", ["aliases"]),
        ("events", ["who"]),
    ]
    for old, new, message in (
        ("sync: users", "sync: user", 'syncs.yml:26:11: "after" in sync "aliases" refers to an unknown sync: "user"'),
        (
            "wait: 5 minutes",
            "wait: soon",
            'syncs.yml:27:11: "wait" in sync "aliases" must be a time such as "5 minutes", or 0',
        ),
        ("sync: users\n", "wait: 0\n", 'syncs.yml:27:5: duplicate key "wait"'),
        ("sync: users", "sync: who", 'cycle in "after": who -> aliases -> who'),
    ):
        shop.write()
        edit(shop.folder / "syncs.yml", old, new)
        with pytest.raises(ProjectError) as caught:
            shop.project()
        assert message in str(caught.value)
