"""Hints about states, saved plans, stores, locks, files and the sandbox, followed to the letter: nothing is sent twice."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyrage
import pyrage.x25519
import pytest

from reverse_etl.sandbox import Fault, Sandbox
from tests.bucket import Bucket
from tests.cli.test_hints import MADE, USERS, VISITS, events, first_error, follow, run_in
from tests.runs.test_giving_up import hour, prune_past_a_row_that_was_given_up
from tests.shop import Held, Outcome, Retl, Shop, edit, running

NONE_SENT = "  0 records: nothing to send"
Run = Callable[[str], Outcome]


@pytest.fixture
def run(shop: Shop, retl: Retl) -> Run:
    """A command in the shop's folder."""
    return run_in(shop, retl)


@pytest.fixture
def synced(shop: Shop) -> Shop:
    """Two events have arrived."""
    shop.sync("it", VISITS.format(2), **MADE).run()
    return shop


def hint_of(outcome: Outcome) -> str:
    assert outcome.code in (1, 2)
    return first_error(outcome)[1]


def nothing_is_left(run: Run, shop: Shop) -> bool:
    """A run succeeds, and each of the two events is in Braze once."""
    return run("retl sync it").code == 0 and events(shop) == ["u0", "u1"]


# --- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_other_mode_under_another_name(shop: Shop, run: Run):
    shop.sync("it", USERS).run()
    shop.sync("it", VISITS.format(2), **MADE)
    assert hint_of(run("retl sync it")) == (
        "give the sync another name; or run `retl state reset it`, and every row is sent as users_track / events"
    )
    shop.syncs = []
    shop.sync("visits", VISITS.format(2), **MADE)
    assert run("retl sync visits").code == 0
    assert events(shop) == ["u0", "u1"]
    shop.syncs = []
    shop.sync("it", VISITS.format(2), **MADE)
    assert run("retl state reset it --yes").code == 0
    refused = run("retl sync it")  # what `visits` has sent is not sent again
    hint = hint_of(refused)
    assert hint == (
        "if the sync was renamed, run `retl state rename visits it`; without that state, Braze would count them twice"
    )
    assert run("retl state rename visits it").code == 0
    assert nothing_is_left(run, shop)


@pytest.mark.long
def test_other_key_of_the_workspace_is_accepted(synced: Shop, run: Run, monkeypatch: pytest.MonkeyPatch):
    with Sandbox() as other:
        there = synced.braze
        synced.braze = other
        synced.write()
        hint = hint_of(run("retl sync it"))
        assert hint == (
            "for the same workspace, run `retl state accept-workspace it`; another one needs a target of its own, "
            "or `retl state reset it`"
        )
        assert run("retl state accept-workspace it --yes").code == 0
        assert (run("retl sync it").code, events(synced)) == (0, [])
        assert run("retl state reset it --yes").code == 0
        assert (run("retl sync it").code, events(synced)) == (0, ["u0", "u1"])
        synced.braze = there


@pytest.mark.long
def test_type_is_accepted_or_cast_back(shop: Shop, run: Run):
    shop.sync("it", USERS).run()
    shop.sync("it", f"SELECT external_id, CAST(n AS VARCHAR) AS n FROM ({USERS})")
    hint = "CAST it back in the model, or run `retl sync it --accept-schema-change` to send its values again"
    assert hint_of(run("retl sync it")) == hint
    shop.sync("it", f"SELECT external_id, CAST(CAST(n AS VARCHAR) AS BIGINT) AS n FROM ({USERS})")
    assert NONE_SENT in run("retl plan it").out
    shop.sync("it", f"SELECT external_id, CAST(n AS VARCHAR) AS n FROM ({USERS})")
    follow(run, hint)
    assert NONE_SENT in run("retl plan it").out


RETYPED = "SELECT * REPLACE (CAST(external_id[2:] AS BIGINT) AS external_id) FROM ({})"
BY_KEY = {**MADE, "primary_key": "external_id"}
TWICE = (
    "CAST it back in the model; or, to send no row twice, undo this and run `retl sync it`; "
    "then do it again, and run `retl state reset it` and `retl state baseline it`"
)


@pytest.mark.parametrize("options", [BY_KEY, MADE], ids=["primary_key", "whole row"])
def test_type_of_a_key_is_not_accepted_where_rows_count_twice(shop: Shop, run: Run, options: dict[str, Any]):
    """Each row would be a new one: by the command, by a plan, and by the Python API."""
    shop.sync("it", VISITS.format(2), **options).run()
    shop.sync("it", RETYPED.format(VISITS.format(2)), **options)
    for command in ("sync it", "sync it --accept-schema-change", "plan it --accept-schema-change --out p"):
        what, hint = first_error(run(f"retl {command}"))
        assert what == 'it: the model changed the type of "external_id" from VARCHAR to BIGINT'
        assert hint == TWICE
    assert shop.run(accept_schema_change=True).status == "failed"
    assert events(shop) == ["u0", "u1"]
    cast, undone, done = TWICE.split(";")
    assert cast == "CAST it back in the model"
    shop.sync(
        "it", RETYPED.format(VISITS.format(2)).replace("CAST(external_id[2:] AS BIGINT)", "external_id"), **options
    )
    assert nothing_is_left(run, shop)
    shop.sync("it", VISITS.format(3), **options)
    follow(run, undone)
    shop.sync("it", RETYPED.format(VISITS.format(3)), **options)
    follow(run, done)
    assert run("retl sync it").code == 0
    assert events(shop) == ["u0", "u1", "u2"]


@pytest.mark.parametrize(
    ("sql", "options", "hint"),
    [
        (
            "SELECT external_id FROM ({})",
            {"mode": "users_delete", "allow_destructive": True},
            TWICE.replace("send no row twice", "delete nothing again"),
        ),
        (
            "SELECT external_id, 'subscribed' AS email_subscribe FROM ({})",
            {},
            "CAST it back in the model; or run `retl state reset it`, then `retl sync it --read-first`, "
            "which asks Braze who has opted out: every other row is sent again",
        ),
        (
            "FROM ({})",
            {"on_removed": "clear"},
            "CAST it back in the model; or run `retl state reset it`, and every row is sent again",
        ),
    ],
    ids=["deletes", "consent", "on_removed"],
)
def test_type_of_a_key_is_not_accepted_where_rows_delete_clear_or_opt_in(
    shop: Shop, run: Run, sql: str, options: dict[str, Any], hint: str
):
    shop.sync("it", sql.format(USERS), **options).run()
    sent = len(shop.sent())
    shop.sync("it", sql.format(RETYPED.format(USERS)), **options)
    assert hint_of(run("retl sync it --accept-schema-change")) == hint
    assert len(shop.sent()) == sent


def test_type_of_a_key_is_accepted_where_rows_are_sent_again_without_harm(shop: Shop, run: Run):
    """A plan shows them as new ones, even if a key of the state is not of the new type."""
    shop.sync("it", USERS).run()
    shop.sync("it", RETYPED.format(USERS))
    assert hint_of(run("retl sync it")).startswith("CAST it back in the model, or run `retl sync it --accept-sch")
    assert "20 added" in run("retl plan it --accept-schema-change").out
    assert run("retl sync it --accept-schema-change").code == 0
    assert NONE_SENT in run("retl plan it").out


@pytest.mark.long
def test_pruned_rows_do_not_count_as_new(shop: Shop, run: Run):
    sql = f"SELECT *, TIMESTAMP '2026-01-01' + INTERVAL (CAST(external_id[2:] AS INTEGER)) DAY AS at FROM ({VISITS})"
    incremental = {"cursor": "at", "lookback": "1 day", "retention": "1 second"}
    options = {**MADE, "primary_key": ["external_id", "time"], "exclude_columns": ["at"]}
    shop.sync("it", sql.format(20), **options, incremental=incremental).run()
    shop.clock.ahead = timedelta(minutes=1)
    shop.run()
    sent = len(events(shop))
    shop.sync("it", sql.format(20), **options)
    assert hint_of(run("retl sync it")) == "set `incremental: {cursor: at}` again"
    shop.sync("it", sql.format(20), **options, incremental=incremental)
    assert run("retl sync it").code == 0
    assert len(events(shop)) == sent == 20


@pytest.mark.long
def test_row_before_what_was_pruned_is_sent_with_a_later_cursor(shop: Shop, run: Run):
    prune_past_a_row_that_was_given_up(shop, lambda: run("retl resolve it --give-up --key bad").code)
    assert hint_of(run("retl resolve it --resend --key bad")) == "give it a later cursor in the model"
    shop.braze.clear_faults()
    shop.warehouse("UPDATE seen SET seen_at = ? WHERE id = 'bad'", hour(4))
    assert shop.run().delivery.accepted == 1


def test_row_that_is_not_there_is_found_as_the_hint_says(shop: Shop, run: Run):
    shop.sync("it", USERS, primary_key=["external_id", "n"]).run()
    assert hint_of(run("retl state show it --key u1")) == (
        "`retl state show it` shows the primary key; write several columns as a JSON array"
    )
    assert "external_id, n" in run("retl state show it").out
    assert run("""retl state show it --key '["u1","1"]'""").code == 0


@pytest.mark.long
def test_doubt_that_was_decided_is_decided_otherwise_by_its_key(synced: Shop, run: Run):
    synced.sync("it", VISITS.format(3), **MADE)
    with running(synced, "u2") as process:
        process.kill()
        process.wait()
    synced.braze.clear_faults()
    assert run("retl sync it").code == 1
    assert run("retl resolve it --mark-accepted").code == 0
    assert hint_of(run("retl resolve it --resend")) == (
        "to change what was decided, name rows with --key or --keys-from"
    )
    ((key, _),) = synced.rows_of("in_doubt", "key", "resolution")
    assert run(f"retl resolve it --resend --yes --key '{key}'").code == 0
    hint = "pass a UTF-8 text file with one key per line, as `retl rejects` shows them, or - for stdin"
    assert hint_of(run("retl resolve it --resend --yes --keys-from keys.txt")) == hint
    (synced.folder / "keys.txt").write_text(f"{key}\n")
    assert run("retl resolve it --mark-accepted --keys-from keys.txt").code == 0


def test_rows_in_doubt_are_not_sent_again_before_somebody_has_looked_in_braze(synced: Shop, run: Run):
    """They have arrived, and only their answer is missing: without a question, each of them would count twice."""
    synced.sync("it", VISITS.format(4), **MADE)
    synced.braze.add_fault(Fault("drop_after"))
    assert run("retl sync it").code == 1
    assert first_error(run("retl resolve it --resend")) == (
        "2 rows of it will be sent again, and may be in Braze: those that did arrive count twice",
        "check in Braze first: if none of them arrived, pass --yes; if all did, --mark-accepted instead",
    )
    (key,), _ = synced.rows_of("in_doubt", "key")
    assert first_error(run(f"retl resolve it --resend --key '{key}'"))[0].startswith("1 row of it will be sent again")
    assert synced.rows_of("in_doubt", "resolution") == [(None,)] * 2
    assert events(synced) == ["u0", "u1", "u2", "u3"]  # all of them did
    assert run("retl resolve it --mark-accepted").code == 0
    assert run("retl sync it").code == 0
    assert events(synced) == ["u0", "u1", "u2", "u3"]


# --- damage ----------------------------------------------------------------------------------------------------------


def _broken(path: Path) -> None:
    path.write_bytes(b"x" * 9000)


def _of_newer(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")


def _of_other(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = 'other' WHERE key = 'sync'")


def _of_nobody(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE meta")


BASELINE = (
    "; or pause its schedule, run `retl state reset it`, "
    "then `retl state baseline it`: "
    "the old files are kept, and what the model returns by now counts as sent"
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("damage", "hint"),
    [
        (_broken, "restore the newest backup, if nothing was sent since, which would count twice; or"),
        (_of_newer, "upgrade retl: nothing is lost"),
        (_of_other, "restore the right file: the state of one sync says nothing about another"),
        (_of_nobody, "restore the right file, or"),
    ],
)
def test_damaged_state_is_restored_or_taken_over_from_braze(
    synced: Shop, run: Run, damage: Callable[[Path], None], hint: str
):
    path = synced.folder / ".retl/test/it/state.duckdb"
    shutil.copyfile(path, synced.folder / "backup")
    damage(path)
    found = hint_of(run("retl sync it"))
    assert found.startswith(hint)
    kept = path.read_bytes()
    shutil.copyfile(synced.folder / "backup", path)
    assert nothing_is_left(run, synced)
    path.write_bytes(kept)
    follow(run, found)  # nothing to do for the state of another sync
    if "`" in found:
        assert nothing_is_left(run, synced)


FINAL = {"mode": "users_delete", "allow_destructive": True}


def _sent(shop: Shop, array: str) -> list[Any]:
    return [one for body in shop.sent() for one in json.loads(body).get(array, [])]


def test_users_who_were_deleted_are_not_deleted_again_without_a_state(shop: Shop, run: Run):
    """They may have come back; and a backup does not know who was deleted since."""
    shop.sync("gone", f"SELECT external_id FROM ({USERS}) WHERE n < 2", **FINAL).run()
    _broken(shop.folder / ".retl/test/gone/state.duckdb")
    hint = hint_of(run("retl sync gone"))
    assert hint == (
        "restore the newest backup, if no user was deleted since, who would be deleted again; "
        "or pause its schedule, run `retl state reset gone`, then `retl state baseline gone`: the old files are kept, "
        "no user is deleted again, and what the model returns by now counts as sent"
    )
    assert first_error(run("retl plan gone"))[1] == hint  # which looks at a copy
    assert first_error(run("retl state reset gone"))[0] == (
        "the next run of gone deletes every user again that its model returns, also who came back"
    )
    follow(run, hint)
    shop.sync("gone", f"SELECT external_id FROM ({USERS}) WHERE n < 3", **FINAL)
    assert run("retl sync gone").code == 0
    assert _sent(shop, "external_ids") == ["u0", "u1", "u2"]


def test_reset_of_deletions_says_how_many_users_are_deleted_again(shop: Shop, run: Run):
    shop.sync("gone", f"SELECT external_id FROM ({USERS}) WHERE n < 2", **FINAL).run()
    assert first_error(run("retl state reset gone")) == (
        "the next run of gone deletes 2 users again that its model returns, also who came back",
        "to confirm, pass --yes; then, before the next run, `retl state baseline gone`, so that no user is deleted again",
    )
    assert first_error(run("retl sync gone --full-refresh"))[0] == (
        "every row of gone will be sent again, changed or not; "
        "gone deletes again every user that its model returns, whoever came back"
    )
    run("retl state reset gone --yes")
    assert run("retl state baseline gone --yes").code == 0
    assert run("retl sync gone").code == 0
    assert _sent(shop, "external_ids") == ["u0", "u1"]


def test_nobody_is_opted_in_again_and_no_opt_out_is_lost_without_a_state(shop: Shop, run: Run):
    """One has opted out in Braze since, another one in the warehouse, which Braze does not know yet."""
    sql = "SELECT * FROM (VALUES ('u1', 'subscribed'), ('u2', '{}')) t(external_id, email_subscribe)"
    shop.sync("it", sql.format("subscribed")).run()
    other = Shop(shop.folder.parent / "other", shop.braze)
    other.sync("it", "SELECT 'u1' AS external_id, 'unsubscribed' AS email_subscribe").run()
    shop.sync("it", sql.format("unsubscribed"))
    _broken(shop.folder / ".retl/test/it/state.duckdb")
    hint = hint_of(run("retl sync it"))
    assert hint == (
        "restore the newest backup, if no user was opted in since, who may have opted out by now; "
        "or run `retl state reset it`, then `retl sync it --read-first`: the old files are kept, "
        "and every row is sent again, but for opt-ins of users who have opted out in Braze"
    )
    asked = (
        "to confirm, pass --yes; then, if it opts users in, `retl sync it --read-first` asks Braze who has opted out"
    )
    assert first_error(run("retl state reset it")) == ("every row of it will be sent again, changed or not", asked)
    assert run("retl state reset it --yes").code == 0
    assert run("retl sync it --read-first").code == 1  # an opt-in is withheld, and listed
    states = {profile["external_id"]: profile["email_subscribe"] for profile in shop.braze.profiles()}
    assert states == {"u1": "unsubscribed", "u2": "unsubscribed"}


def test_state_that_is_older_than_what_lies_beside_it_is_restored_or_taken_over_from_braze(synced: Shop, run: Run):
    three = ["u0", "u1", "u2"]
    path, older = synced.folder / ".retl/test/it/state.duckdb", synced.folder / "backup"
    shutil.copyfile(path, older)
    synced.sync("it", VISITS.format(3), **MADE)
    assert run("retl sync it").code == 0
    newest = path.rename(synced.folder / "newest")
    shutil.copyfile(older, path)
    found = hint_of(run("retl sync it"))
    assert found.startswith("restore the newest state.duckdb, or")
    shutil.copyfile(newest, path)
    assert (run("retl sync it").code, events(synced)) == (0, three)
    shutil.copyfile(older, path)
    follow(run, found)
    assert (run("retl sync it").code, events(synced)) == (0, three)


@pytest.mark.long
@pytest.mark.parametrize("lost", ["state.duckdb", "journal.jsonl"])
def test_what_a_killed_run_needs_is_restored(synced: Shop, run: Run, lost: str):
    synced.sync("it", VISITS.format(3), **MADE)
    held = Held(synced.braze, external_ids=["u2"])
    with running(synced, held) as process:
        process.kill()
        process.wait()
    held.goes_out.set()
    synced.braze.clear_faults()
    path = synced.folder / ".retl/test/it" / lost
    kept = path.rename(synced.folder / "kept")
    hint = hint_of(run("retl sync it"))
    assert hint.startswith(
        ("restore it, or", "restore the newest backup, if nothing was sent since, which would count")
    )
    path.parent.mkdir(exist_ok=True)
    kept.rename(path)
    run("retl sync it")
    run("retl resolve it --mark-accepted")
    assert run("retl sync it").code == 0
    assert sorted(set(events(synced))) == sorted(events(synced))


def test_mark_of_a_move_that_is_damaged_is_deleted(synced: Shop, run: Run):
    (synced.folder / ".retl/test/it/moved.json").write_text("{")
    assert hint_of(run("retl sync it")) == "delete it if no sync was renamed"
    (synced.folder / ".retl/test/it/moved.json").unlink()
    assert nothing_is_left(run, synced)


def test_state_that_was_left_behind_is_moved(synced: Shop, run: Run):
    synced.state = {"path": "../elsewhere"}
    synced.write()
    moves = re.fullmatch(r"move that folder to the new location: `mv (\S+) (\S+)`", hint_of(run("retl sync it")))
    assert moves
    before, after = (synced.folder / one for one in moves.groups())
    after.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(before, after)
    assert nothing_is_left(run, synced)


@pytest.mark.long
def test_name_that_was_given_to_another_sync(synced: Shop, run: Run):
    synced.syncs = []
    synced.sync("new", VISITS.format(2), **MADE, renamed_from="it")
    assert run("retl sync new").code == 0
    synced.syncs = []
    synced.sync("new", VISITS.format(2), **MADE).sync("it", VISITS.format(2), **MADE)
    hint = hint_of(run("retl sync it"))
    assert hint == (
        "this is an older checkout, or a new sync of that name: for a new one, run `retl state reset it` once"
    )
    assert hint_of(run("retl state rename new it")) == "rename it in syncs.yml first"
    follow(run, hint)
    assert run("retl plan it").code == 0


def test_link_in_the_place_of_a_state_is_removed(shop: Shop, run: Run, tmp_path: Path):
    shop.sync("it", VISITS.format(2), **MADE)
    link = shop.folder / ".retl/test/it/state.duckdb"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    assert hint_of(run("retl sync it")) == (
        "remove it: retl does not write its state through links, which a pull request may bring"
    )
    link.unlink()
    assert nothing_is_left(run, shop)


@pytest.mark.long
def test_run_that_waits_follows_the_other(synced: Shop, run: Run):
    synced.sync("it", VISITS.format(3), **MADE)
    held = Held(synced.braze, external_ids=["u2"])
    with running(synced, held) as process:
        assert hint_of(run("retl sync it")) == (
            "run this again when it has ended; `retl sync it --wait 60` waits for that, for 60 seconds at most"
        )
        held.goes_out.set()
        process.wait()
    assert run("retl sync it --wait 60").code == 0
    assert events(synced) == ["u0", "u1", "u2"]


# --- saved plans -----------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(shop: Shop, run: Run) -> tuple[Shop, Path]:
    shop.sync("it", VISITS.format(2), **MADE)
    assert run("retl plan it --out p").code == 0
    return shop, shop.folder / "p"


def _newly_planned(run: Run, shop: Shop) -> None:
    assert run("retl plan it --out p").code == 0
    assert run("retl apply p").code == 0
    assert events(shop) == ["u0", "u1"]


@pytest.mark.long
def test_plan_that_was_applied_is_made_again(planned: tuple[Shop, Path], run: Run):
    assert run("retl apply p").code == 0
    assert hint_of(run("retl apply p")) == "create a new plan: `retl plan it --out FILE`"
    _newly_planned(run, planned[0])


@pytest.mark.long
def test_plan_that_was_changed_is_created_again_or_its_digest_passed(planned: tuple[Shop, Path], run: Run):
    shop, path = planned
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    sealed = "create it again where it is applied; or pass --digest with what `retl plan` printed when it was reviewed"
    assert hint_of(run("retl apply p")) == sealed
    assert (
        hint_of(run(f"retl apply p --digest {'0' * 64}")) == "it is not the file that was reviewed: create a new plan"
    )
    path.write_bytes(b"what")
    assert hint_of(run("retl apply p")) == "create one with `retl plan --out FILE`"
    printed = run("retl plan it --out p").err.splitlines()[-1].removeprefix("its digest: ")
    shutil.rmtree(shop.folder / ".retl/test/it")
    (shop.folder / ".retl/test/plan.key").unlink()
    assert hint_of(run("retl apply p")) == sealed
    assert run(f"retl apply p --digest {printed}").code == 0
    assert events(shop) == ["u0", "u1"]


@pytest.mark.long
def test_plan_of_another_target_is_applied_to_it(shop: Shop, run: Run):
    shop.sync("it", VISITS.format(2), **MADE)
    text = (shop.folder / "syncs.yml").read_text()
    target = text[text.index("  test:\n") : text.index("syncs:")]
    (shop.folder / "syncs.yml").write_text(
        text.replace(target, target + target.replace("  test:", "  other:")).replace(
            "default_target: test", "default_target: other"
        )
    )
    digest = run("retl plan it --out p --target test").err.splitlines()[-1].removeprefix("its digest: ")
    assert hint_of(run(f"retl apply p --digest {digest}")) == "pass --target test"
    assert run("retl apply p --target test").code == 0
    assert events(shop) == ["u0", "u1"]


@pytest.mark.long
def test_plan_is_encrypted_with_a_key_of_age(shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch):
    shop.sync("it", VISITS.format(2), **MADE)
    made = "generate a key pair with age-keygen: age1... encrypts, AGE-SECRET-KEY-1... also decrypts"
    assert hint_of(run("retl plan it --out p --encrypt")) == "set it to an age key; age-keygen generates one"
    monkeypatch.setenv("RETL_PLAN_KEY", "secret")
    assert hint_of(run("retl plan it --out p --encrypt")) == made
    identity = pyrage.x25519.Identity.generate()
    monkeypatch.setenv("RETL_PLAN_KEY", str(identity.to_public()))
    assert run("retl plan it --out p --encrypt").code == 0
    assert hint_of(run("retl apply p")) == made
    monkeypatch.delenv("RETL_PLAN_KEY")
    assert hint_of(run("retl apply p")) == "set RETL_PLAN_KEY to the matching age identity (AGE-SECRET-KEY-1...)"
    monkeypatch.setenv("RETL_PLAN_KEY", str(identity))
    assert run("retl apply p").code == 0
    assert events(shop) == ["u0", "u1"]


@pytest.mark.parametrize(
    ("command", "hint", "followed"),
    [
        ("plan it --out no/p", "make its folder writable for the current user, or use another one", "plan it --out p"),
        (
            "sync it --scheduled-time 2999-01-01T00:00:00Z",
            "use a time in the past: a future one has no data yet, and scheduled runs would wait until it has passed",
            "plan it",
        ),
        ("state rename it it", "rename it in syncs.yml first", None),
        ("sandbox --fault what", "use KIND:NAME=VALUE,NAME=VALUE; see docs/sandbox.md", None),
        ("sandbox --limit what=1/1", 'for the names, see "Endpoints" in docs/sandbox.md', None),
        ("sandbox --last 1 --file syncs.yml", "pass another file with --file", "sandbox --last 1 --file fresh.sqlite"),
        (
            "sandbox --last 1 --file syncs.yml/x",
            "move the file away that is where a folder must be",
            "sandbox --last 1 --file x.sqlite",
        ),
        (
            "sandbox --last 1 --file /proc/x.sqlite",
            "pass a path that can be written",
            "sandbox --last 1 --file x.sqlite",
        ),
    ],
)
@pytest.mark.sampled(4)
def test_hint_about_a_command(shop: Shop, run: Run, command: str, hint: str, followed: str | None):
    shop.sync("it", VISITS.format(2), **MADE)
    found = hint_of(run(f"retl {command}"))
    assert re.fullmatch(re.escape(hint).replace(re.escape("(.*)"), ".*"), found), found
    assert followed is None or run(f"retl {followed}").code == 0


def test_sandbox_outside_of_a_project_needs_its_file(retl: Retl, tmp_path: Path):
    assert hint_of(retl("sandbox", "--last", "1")) == "pass the sandbox file with --file"
    assert retl("sandbox", "--last", "1", "--file", "here.sqlite").code == 0


def test_sandbox_of_a_project_that_is_none_is_moved_away(starter: Path, retl: Retl):
    file = starter / ".retl/sandbox/sandbox.sqlite"
    file.parent.mkdir(parents=True)
    file.write_text("what")
    assert hint_of(retl("sync", "orders")) == "move the file away; the sandbox then creates a new, empty one"
    file.rename(starter / "away")
    assert retl("sync", "orders").code == 0


def test_workflow_that_is_there_is_moved_away(starter: Path, retl: Retl):
    (starter / ".git").mkdir()
    assert retl("init", "--ci", "github").code == 0
    assert hint_of(retl("init", "--ci", "github")) == "move it away, run this again, then compare the two"
    path = starter / ".github/workflows/retl.yml"
    path.rename(starter / "retl.yml")
    assert retl("init", "--ci", "github").code == 0
    assert path.read_text() == (starter / "retl.yml").read_text()


def test_workflow_needs_a_target_for_plans(starter: Path, retl: Retl):
    (starter / ".git").mkdir()
    spec = starter / "syncs.yml"
    whole = spec.read_text()
    spec.write_text(whole.replace("endpoint: sandbox", "endpoint: https://rest.iad-01.braze.com"))
    assert hint_of(retl("init", "--ci", "github")) == (
        "add one: sandbox: {warehouse: ..., destination: {type: braze, endpoint: sandbox}}"
    )
    spec.write_text(f"{whole}\n:")
    assert hint_of(retl("init", "--ci", "github")) == "run `retl ls` to see the errors"
    assert retl("ls").code == 2
    spec.write_text(whole)
    assert (retl("ls").code, retl("init", "--ci", "github").code) == (0, 0)


# --- artifacts -------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_artifact_that_cannot_be_read_is_made_again(starter: Path, retl: Retl):
    retl("sync", "orders")
    for text in ("{", "{}", '{"metadata": {"dbt_schema_version": "x"}}', '{"metadata": {"artifact": "run-results"}}'):
        (starter / "target/run_results.json").write_text(text)
        follow(lambda command: retl(*command.split()[1:]), "`retl sync --all`")
        assert retl("retry").code == 0
        (starter / "target/run_results.json").write_text(text)
        hint = hint_of(retl("retry"))
        assert hint == "run `retl sync --all` first, or retry one sync by name: `retl retry NAME`"
        assert retl("retry", "orders").code == 0


def test_folder_of_artifacts_that_is_a_file_is_made_a_folder(shop: Shop, run: Run):
    shop.sync("it", VISITS.format(2), **MADE)
    (shop.folder / "target").write_text("")
    assert hint_of(run("retl sync it")) == "move the file away that is where a folder must be"
    assert "hint: move the file away that is where a folder must be" in run("retl ls").err
    (shop.folder / "target").unlink()
    assert nothing_is_left(run, shop)


def test_exposures_are_written_where_they_can_be(shop: Shop, run: Run):
    shop.sync("it", VISITS.format(2), **MADE)
    edit(shop.folder / "syncs.yml", "version: 1\n", "version: 1\ndbt: {project_dir: dbt}\n")
    (shop.folder / "dbt/target").mkdir(parents=True)
    manifest = Path(__file__).parents[1] / "projects/dbt/manifest.json"
    shutil.copyfile(manifest, shop.folder / "dbt/target/manifest.json")
    assert hint_of(run("retl exposures --out no/where.yml")) == "pass --out a file that can be written"
    assert run("retl exposures --out exposures.yml").code == 0


# --- stores ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as one:
        yield one


@pytest.fixture
def shared(shop: Shop, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Two events have arrived, and the state is in a store."""
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    shop.environ |= bucket.environ
    shop.state = {"path": bucket.url}
    shop.sync("it", VISITS.format(2), **MADE).run()
    return shop


def _moved(path: str) -> Callable[[Shop, Bucket, pytest.MonkeyPatch], Any]:
    def move(shop: Shop, bucket: Bucket, patch: pytest.MonkeyPatch) -> None:
        shop.state = {"path": path.format(bucket.url)} if path else {}
        shop.write()

    return move


def _set(**values: str) -> Callable[[Shop, Bucket, pytest.MonkeyPatch], Any]:
    def change(shop: Shop, bucket: Bucket, patch: pytest.MonkeyPatch) -> None:
        for name, value in values.items():
            patch.setenv(name, value)

    return change


def _refusing(shop: Shop, bucket: Bucket, patch: pytest.MonkeyPatch) -> None:
    bucket.refuses = "credentials" not in os.environ.get("AWS_PROFILE", "")


STORES = {
    "bucket that is not there": (_moved("s3://nowhere/retl"), "create the bucket, or correct state.path"),
    "no permission": (
        _refusing,
        "check the credentials in the environment or .env; docs/state.md lists the permissions they need",
    ),
    "another path": (
        _moved("{}-moved"),
        "copy the objects there, or set state.path back to that of s3://",
    ),
    "no path": (_moved(""), "set state.path again; or, if nobody else uses that state, delete "),
    "no TLS": (
        _set(AWS_ENDPOINT_URL="http://minio.example.com:9000"),
        "use an https:// endpoint, or set AWS_ALLOW_HTTP=true if you own the network in between",
    ),
    "no address": (
        _set(AWS_ENDPOINT_URL="minio"),
        "set AWS_ENDPOINT_URL, or the equivalent for your store, to https://HOST or https://HOST:PORT",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", STORES)
def test_store_is_used_again_as_the_hint_says(
    shared: Shop, bucket: Bucket, run: Run, monkeypatch: pytest.MonkeyPatch, name: str
):
    trouble, hint = STORES[name]
    trouble(shared, bucket, monkeypatch)
    assert hint_of(run("retl sync it")).startswith(hint)
    bucket.refuses = False
    for variable, value in bucket.environ.items():
        monkeypatch.setenv(variable, value)
    shared.state = {"path": bucket.url}
    shared.write()
    assert nothing_is_left(run, shared)


@pytest.mark.long
def test_store_whose_path_is_given_up_goes_on_from_the_copy(shared: Shop, run: Run):
    shared.state = {}
    shared.write()
    delete = re.search(r"delete (\S+) to continue from the copy", hint_of(run("retl sync it")))
    assert delete
    Path(delete[1]).unlink()
    assert nothing_is_left(run, shared)


@pytest.mark.long
def test_objects_that_are_damaged_are_restored(shared: Shop, bucket: Bucket, run: Run):
    objects, folder = bucket.objects(), shared.folder / ".retl/test/it"
    (name,) = [name for name in bucket.names() if name.startswith("state")]
    head, _ = objects.read("head.json") or (b"", "")
    state, _ = objects.read(name) or (b"", "")
    shutil.rmtree(folder)
    objects.write(name, b"x" * len(state))
    assert hint_of(run("retl sync it")) == "something else wrote to it: restore an older version of the object"
    objects.delete([name])
    assert hint_of(run("retl sync it")) == (
        "restore it from the bucket's versions or a backup; "
        "docs/state.md says what to run in which mode if there is none"
    )
    objects.write(name, state)
    objects.write("head.json", b"{")
    assert hint_of(run("retl sync it")) == (
        "restore an older version of that object; docs/state.md says what to do if there is none"
    )
    objects.write("head.json", head)
    assert nothing_is_left(run, shared)
    (folder / "copy.json").write_text("{")
    assert hint_of(run("retl sync it")) == "move .retl/test/it elsewhere: it is a copy, and will be downloaded again"
    folder.rename(shared.folder / "elsewhere")
    assert nothing_is_left(run, shared)


@pytest.mark.long
def test_two_projects_have_a_path_each(shared: Shop, bucket: Bucket, run: Run, retl: Retl, tmp_path: Path):
    head, _ = bucket.objects().read("head.json") or (b"", "")
    bucket.objects("other").write("head.json", head)
    other = Shop(tmp_path / "other", shared.braze, state={"path": bucket.url})
    other.sync("other", VISITS.format(0), **MADE)
    assert hint_of(retl("sync", "other", folder=other.folder)) == "use a separate state.path for each project"
    other.state = {"path": f"{bucket.url}/other"}
    other.write()
    assert retl("sync", "other", folder=other.folder).code == 0
    assert nothing_is_left(run, shared)


# --- the way to others -----------------------------------------------------------------------------------------------


PROXY = "set it to http://HOST:PORT, with user and password in front of HOST if it needs them"


@pytest.mark.parametrize(
    ("variable", "value", "endpoint", "hint"),
    [
        ("HTTPS_PROXY", "socks5://127.0.0.1:1", "https://rest.iad-01.braze.com", PROXY),
        ("HTTPS_PROXY", "http://", "https://rest.iad-01.braze.com", PROXY),
        (
            "SSL_CERT_FILE",
            "no.pem",
            "https://127.0.0.1:9",
            "set SSL_CERT_FILE to a file of certificates in PEM format, or unset it",
        ),
    ],
)
def test_variable_that_names_no_way_is_unset(
    shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, endpoint: str, hint: str
):
    """It is refused before anything is contacted."""
    shop.sync("it", VISITS.format(2), **MADE)
    edit(shop.folder / "syncs.yml", shop.braze.url, endpoint)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert hint_of(run("retl sync it")) == hint
    monkeypatch.delenv(variable)
    edit(shop.folder / "syncs.yml", endpoint, shop.braze.url)
    assert nothing_is_left(run, shop)
