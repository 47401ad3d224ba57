"""Renamed aliases and external ids: `users_alias_update`, `users_external_ids_rename` and `users_external_ids_remove`."""

import json
from typing import Any

import pytest

from reverse_etl.runs.outcome import CanaryResult
from reverse_etl.sandbox import Fault
from tests.bucket import Bucket
from tests.shop import Held, Retl, Shop, running

RENAME = {"mode": "users_external_ids_rename"}
REMOVE = {"mode": "users_external_ids_remove", "allow_destructive": True}
UPDATE = {"mode": "users_alias_update"}
PEOPLE = "SELECT 'u' || i AS external_id, i AS n FROM range(6) r(i)"


@pytest.fixture
def people(shop: Shop) -> Shop:
    """A shop whose users u0 ... u5 are in Braze."""
    shop.sync("people", PEOPLE).run("people")
    return shop


def rows(columns: str, *values: tuple[str, ...]) -> str:
    listed = ", ".join(f"({', '.join(repr(one) for one in row)})" for row in values)
    return f"SELECT * FROM (VALUES {listed}) AS t({columns})"


def renaming(shop: Shop, *pairs: tuple[str, str], **options: Any) -> Shop:
    return shop.sync("renames", rows("current_external_id, new_external_id", *pairs), **RENAME, **options)


def bodies(shop: Shop, path: str) -> list[Any]:
    return [json.loads(one.body) for one in shop.braze.requests() if one.path == path]


def ids(shop: Shop) -> list[str]:
    return sorted(user["external_id"] for user in shop.braze.profiles())


def invalid(shop: Shop, sync: str) -> list[tuple[str, str, str]]:
    return [(row.key, row.column, row.reason) for row in shop.run(sync).invalid]


def test_external_ids_are_renamed_once_and_what_braze_refuses_is_a_rejected_row(people: Shop):
    result = renaming(people, ("u1", "c1"), ("u2", "u3"), ("nobody", "c9")).run("renames")
    assert (result.status, result.delivery.accepted, result.delivery.rejected) == ("incomplete", 1, 2)
    assert bodies(people, "/users/external_ids/rename") == [
        {
            "external_id_renames": [
                {"current_external_id": "u1", "new_external_id": "c1"},
                {"current_external_id": "u2", "new_external_id": "u3"},
                {"current_external_id": "nobody", "new_external_id": "c9"},
            ]
        }
    ]
    assert people.rows_of("rejects", "key", "reason", sync="renames") == [
        ("nobody", "'current_external_id' is not the primary id of a user"),
        ("u2", "new_external_id is already in use"),
    ]
    assert people.run("renames").plan.to_send == 0
    assert ids(people) == ["c1", "u0", "u2", "u3", "u4", "u5"]


def test_aliases_are_renamed_once(people: Shop):
    people.sync(
        "aliases", "SELECT 'ann' AS alias_name, 'crm' AS alias_label, 'u1' AS external_id", mode="users_alias_new"
    )
    assert people.run("aliases").delivery.accepted == 1
    changed = rows("alias_label, old_alias_name, new_alias_name", ("crm", "ann", "anna"))
    assert people.sync("it", changed, **UPDATE).run("it").delivery.accepted == 1
    assert bodies(people, "/users/alias/update") == [
        {"alias_updates": [{"alias_label": "crm", "old_alias_name": "ann", "new_alias_name": "anna"}]}
    ]
    assert people.run("it").plan.to_send == 0
    assert people.braze.profile(alias=("anna", "crm"))["external_id"] == "u1"


REASON = "is in several rows that are to be renamed: in one run, Braze promises no order"


@pytest.mark.parametrize(
    ("pairs", "wrong"),
    [
        pytest.param([("a", "b"), ("b", "c"), ("d", "e")], {"a": REASON, "b": REASON}, id="a chain"),
        pytest.param([("a", "b"), ("b", "a")], {"a": REASON, "b": REASON}, id="a swap"),
        pytest.param([("a", "c"), ("b", "c")], {"a": REASON, "b": REASON}, id="one name for two"),
        pytest.param([("a", "a")], {"a": "is equal to {}"}, id="itself"),
    ],
)
@pytest.mark.parametrize("what", ["external_id", "alias_name"])
def test_nothing_is_renamed_twice_in_a_run(shop: Shop, what: str, pairs, wrong: dict[str, str]):
    if what == "external_id":
        renaming(shop, *pairs)
        now, new, sync = "current_external_id", "new_external_id", "renames"
        keys = {name: name for name, _ in pairs}
    else:
        now, new, sync = "old_alias_name", "new_alias_name", "it"
        shop.sync("it", rows("alias_label, old_alias_name, new_alias_name", *(("l", *one) for one in pairs)), **UPDATE)
        keys = {name: f'["l","{name}"]' for name, _ in pairs}
    assert sorted(invalid(shop, sync)) == sorted((keys[key], new, why.format(now)) for key, why in wrong.items())


def test_id_that_was_renamed_is_not_renamed_to_another_one(people: Shop):
    renaming(people, ("u1", "c1")).run("renames")
    renaming(people, ("u1", "c2"))
    why = "has changed: this current_external_id was renamed before"
    assert invalid(people, "renames") == [("u1", "new_external_id", why)]


def test_rename_without_a_response_is_in_doubt_as_a_second_one_would_be_an_error(people: Shop, retl: Retl):
    people.braze.add_fault(Fault("drop_after", path="/users/external_ids/rename"))
    result = renaming(people, ("u1", "c1")).run("renames")
    assert (result.delivery.in_doubt, people.run("renames").plan.held) == (1, 1)
    assert retl("resolve", "renames", "--mark-accepted", folder=people.folder).code == 0
    assert people.run("renames").plan.marked_accepted == 1
    assert people.rows_of("state", "current_external_id", "new_external_id", sync="renames") == [("u1", "c1")]


@pytest.mark.long
def test_only_deprecated_ids_are_removed_for_good_and_no_sync_creates_them_again(people: Shop, retl: Retl):
    renaming(people, ("u1", "c1")).run("renames")
    removed = people.sync("removed", rows("external_id", ("u1",), ("u2",)), **REMOVE).run("removed")
    assert (removed.status, removed.plan.deletes, removed.delivery.accepted) == ("incomplete", 2, 1)
    assert bodies(people, "/users/external_ids/remove") == [{"external_ids": ["u1", "u2"]}]
    assert people.rows_of("rejects", "key", "reason", sync="removed") == [("u2", "not a deprecated external_id")]
    assert people.run("removed").plan.to_send == 0
    many = "SELECT 'a' || i AS external_id FROM range(51) r(i)"
    (error,) = people.sync("removed", many, **REMOVE).run("removed").errors
    assert error.message == (
        "removed: guard max_deletes: 51 external ids would be removed; at most 50 are allowed (50, or 0.1% of 6 users in "
        "the target's states)"
    )
    people.sync("removed", many, mode="users_external_ids_remove")
    said = retl("plan", "removed", folder=people.folder)
    assert (said.code, "removes external ids" in said.err, "removing cannot be undone" in said.err) == (2, True, True)


def test_canary_reads_the_new_id(people: Shop):
    result = renaming(people, ("u1", "c1"), ("u2", "c2")).run("renames", canary=1)
    assert (result.status, result.canary) == ("success", CanaryResult(1, 1, 1, 2, 2, [], [], 0.025))


# --- the states of other syncs ---------------------------------------------------------------------------------------

RENAMED = "CASE external_id WHEN 'u1' THEN 'c1' WHEN 'u2' THEN 'c2' ELSE external_id END AS external_id"
SEEN = f"SELECT external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, n FROM ({PEOPLE})"
EVENTS = {"mode": "users_track", "track_record_type": "events"}
NEWS = f"""SELECT external_id, 'b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e1' || g AS subscription_group_id,
    'unsubscribed' AS subscription_state FROM ({PEOPLE}), range(2) t(g)"""
SYNCS: dict[str, tuple[str, dict[str, Any]]] = {
    "attributes": (f"SELECT *, 'unsubscribed' AS email_subscribe FROM ({PEOPLE})", {"on_removed": "clear"}),
    "seen": (SEEN, EVENTS),
    "seen by key": (SEEN, {**EVENTS, "primary_key": ["n", "external_id"]}),
    "news": (NEWS, {"mode": "subscription_status_set"}),
    "aliases": (
        f"SELECT 'a' || n AS alias_name, 'crm' AS alias_label, external_id FROM ({PEOPLE})",
        {"mode": "users_alias_new"},
    ),
}


def all_of(shop: Shop, before: str = "*") -> list[str]:
    """The syncs of all kinds; their models return the new ids once `before` is RENAMED."""
    for name, (sql, options) in SYNCS.items():
        columns = "*" if before == "*" else f"* REPLACE ({before})"
        shop.sync(name.replace(" ", "_"), f"SELECT {columns} FROM ({sql})", **options)
    return [name.replace(" ", "_") for name in SYNCS]


@pytest.mark.long
def test_rows_of_all_syncs_move_to_the_new_ids_and_nothing_is_sent_again(shop: Shop):
    names = all_of(shop)
    assert {result.status for result in shop.run_all(*names)} == {"success"}
    renaming(shop, ("u1", "c1"), ("u2", "c2")).run("renames")
    all_of(shop, RENAMED)
    sent = len(shop.braze.requests())
    again = shop.run_all(*names)
    assert [(result.status, result.plan.to_send, result.plan.removed) for result in again] == [("success", 0, 0)] * 5
    assert len(shop.braze.requests()) == sent
    assert [notice for notice in shop.listener.notices if "renamed since" in notice] == [
        f"{name}: {rows} acknowledged rows have external ids that were renamed since: moved to the new ones"
        for name, rows in zip(names, (2, 2, 2, 4, 2), strict=True)
    ]
    said = shop.rows_of("opt_outs", "identifier", sync="news")
    assert sorted({json.loads(one)["external_id"] for (one,) in said}) == ["c1", "c2", "u0", "u3", "u4", "u5"]
    assert [result.plan.to_send for result in shop.run_all(*names)] == [0] * 5


@pytest.mark.long
def test_model_with_old_ids_sends_nothing_and_deletes_nobody(people: Shop):
    people.sync("people", PEOPLE, on_removed="delete", allow_destructive=True, guards={"max_removed": "100%"})
    people.run("people")
    renaming(people, ("u1", "c1")).run("renames")
    sent = len(people.braze.requests())
    failed = people.run("people")
    assert [(error.message, error.code) for error in failed.errors] == [
        ("people: the model returns 1 row with an external id that renames has renamed", "S042")
    ]
    assert (len(people.braze.requests()), "c1" in ids(people)) == (sent, True)
    people.sync("people", f"SELECT * REPLACE ({RENAMED.replace('c2', 'u2')}) FROM ({PEOPLE})")
    assert people.run("people").plan.to_send == 0


@pytest.mark.long
def test_ids_that_are_renamed_again_and_back_are_followed(people: Shop):
    renaming(people, ("u1", "c1")).run("renames")
    renaming(people, ("u1", "c1"), ("c1", "d1")).run("renames")
    people.sync("people", PEOPLE.replace("'u' || i", "if(i = 1, 'd1', 'u' || i)"))
    assert people.run("people").plan.to_send == 0
    people.sync("removed", rows("external_id", ("u1",), ("c1",)), suppresses=False, **REMOVE).run("removed")
    renaming(people, ("u1", "c1"), ("c1", "d1"), ("d1", "u1")).run("renames")
    people.sync("people", PEOPLE)
    plan = people.run("people").plan
    assert (plan.to_send, plan.removed, ids(people)[1]) == (0, 0, "u1")


@pytest.mark.long
def test_ids_move_before_removed_ones_are_dropped(people: Shop):
    people.sync("seen", SEEN, **EVENTS).run("seen")
    renaming(people, ("u1", "c1")).run("renames")
    assert people.sync("removed", rows("external_id", ("u1",)), **REMOVE).run("removed").status == "success"
    people.sync("seen", f"SELECT * REPLACE ({RENAMED.replace('c2', 'u2')}) FROM ({SEEN})", **EVENTS)
    plan = people.run("seen").plan
    assert (plan.to_send, plan.suppressed, plan.unchanged) == (0, 0, 6)


@pytest.mark.long
def test_events_in_doubt_stay_in_doubt_under_the_new_id(people: Shop, retl: Retl):
    people.braze.add_fault(Fault("drop_after", path="/users/track"))
    assert people.sync("seen", SEEN, **EVENTS).run("seen").delivery.in_doubt == 6
    renaming(people, ("u1", "c1")).run("renames")
    people.sync("seen", f"SELECT * REPLACE ({RENAMED.replace('c2', 'u2')}) FROM ({SEEN})", **EVENTS)
    assert people.run("seen").plan.held == 6
    assert retl("resolve", "seen", "--mark-accepted", folder=people.folder).code == 0
    plan = people.run("seen").plan
    assert (plan.to_send, plan.marked_accepted, len(people.braze.events())) == (0, 6, 6)


@pytest.mark.long
@pytest.mark.parametrize("when", ["renaming", "moving"])
def test_what_is_killed_is_done_by_the_next_sync(people: Shop, monkeypatch: pytest.MonkeyPatch, when: str):
    """Before the rename is committed, and after that, before the other state has moved."""
    people.sync("seen", SEEN, **EVENTS).run("seen")
    renaming(people, ("u1", "c1"), ("u2", "c2"))
    if when == "renaming":
        answer = Held(people.braze, path="/users/track")
        people.sync("last", "SELECT 'u5' AS external_id, 5 AS m", after=["renames"])
        with running(people, answer, ("sync", "renames", "last", "--threads", "1")) as process:
            process.kill()
        answer.goes_out.set()
        people.braze.clear_faults()
    else:
        people.run("renames")
        with monkeypatch.context() as patch:
            patch.setattr("reverse_etl.state.renamed.set_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                people.run("seen")
    people.sync("seen", f"SELECT * REPLACE ({RENAMED}) FROM ({SEEN})", **EVENTS)
    plan = people.run("seen").plan
    assert (plan.to_send, plan.unchanged) == (0, 6)
    assert len(people.braze.events()) == 6


@pytest.mark.long
def test_machines_that_share_states_follow_renames(tmp_path, braze):
    with Bucket() as bucket:
        one, other = (Shop(tmp_path / name, braze, state={"path": bucket.url}) for name in ("one", "other"))
        for shop in (one, other):
            shop.environ |= bucket.environ
        one.sync("seen", SEEN, **EVENTS).run("seen")
        renaming(other, ("u1", "c1"), ("u2", "c2")).run("renames")
        renaming(one, ("u1", "c1"), ("u2", "c2"))
        one.sync("seen", f"SELECT * REPLACE ({RENAMED}) FROM ({SEEN})", **EVENTS)
        assert (one.run("seen").plan.to_send, len(one.braze.events())) == (0, 6)
        other.sync("seen", f"SELECT * REPLACE ({RENAMED}) FROM ({SEEN})", **EVENTS)
        assert other.run("seen").plan.to_send == 0


@pytest.mark.long
def test_whoever_is_erased_by_the_old_id_is_erased_under_the_new_one(people: Shop, retl: Retl):
    renaming(people, ("u1", "c1")).run("renames")
    people.sync("people", f"SELECT * REPLACE ({RENAMED.replace('c2', 'u2')}) FROM ({PEOPLE})").run("people")
    assert retl("forget", "u1", "--yes", folder=people.folder).code == 0
    assert people.rows_of("state", "*", sync="renames") == []
    assert people.rows_of("state", "external_id", sync="people") == [("u0",), ("u2",), ("u3",), ("u4",), ("u5",)]
