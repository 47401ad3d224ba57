"""A sync, or a target, with another name: its state is moved there, once, and nothing is sent again."""

import itertools
import os
import re
import shutil
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.moving import rename
from tests.bucket import Bucket
from tests.processes import Forked, command, dying
from tests.shop import KEY, SEEN, FakeClock, Held, Retl, Shop, edit, examples, running, some

EVENTS = {"mode": "users_track", "track_record_type": "events", "primary_key": "external_id"}
FEW = SEEN.replace("range(1000)", "range(3)")
MARK = "this is an older checkout, or a new sync of that name: for a new one, run `retl state reset old` once"


@pytest.fixture
def bucket() -> Any:
    with Bucket() as bucket:
        yield bucket


@pytest.fixture(params=["folder", "store"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, braze: Sandbox) -> Shop:
    """A sync that has sent three events under the name `old`; its state is in a folder, or in an object store."""
    shop = Shop(tmp_path / "shop", braze)
    if request.param == "store":
        bucket = request.getfixturevalue("bucket")
        shop.state, shop.environ = {"path": bucket.url}, {"BRAZE_API_KEY": KEY, **bucket.environ}
    shop.sync("old", FEW, **EVENTS).run()
    return shop


def renamed(shop: Shop, **keys: Any) -> Shop:
    """The sync as it is called now."""
    shop.syncs = []
    return shop.sync("new", f"{FEW} UNION ALL SELECT 'more', 'seen', TIMESTAMP '2026-11-24'", **EVENTS, **keys)


def sent(shop: Shop) -> list[str]:
    return sorted(event["external_id"] for event in shop.braze.events())


def in_environment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)


@pytest.mark.long
def test_renamed_sync_goes_on_where_it_was_and_its_plan_moves_nothing_and_equals_what_is_sent(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    in_environment(shop, monkeypatch)
    renamed(shop, renamed_from="old")
    planned = retl("plan", "new", "--output", "json", folder=shop.folder)
    assert (planned.code, yaml.safe_load(planned.out)[0]["to_send"]) == (0, 1)
    assert (shop.folder / ".retl/test/old/state.duckdb").exists()
    assert not (shop.folder / ".retl/test/new/state.duckdb").exists()
    assert "new  success" in retl("status", folder=shop.folder).out.replace("   ", "  ")
    shop.syncs = []
    assert shop.sync("old", FEW, **EVENTS).run().delivery.requests == 0
    for keys in ({"renamed_from": "old"}, {}):  # the key may go once the state was moved
        assert renamed(shop, **keys).run().status == "success"
        assert sent(shop) == ["more", "u0", "u1", "u2"]
    assert shop.listener.notices[-1:] == ["new: moved the state of old here: it is the former name"]


@pytest.mark.long
def test_older_checkout_stops_after_its_state_was_moved_until_a_reset_and_takes_nothing_back(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    in_environment(shop, monkeypatch)
    renamed(shop, renamed_from="old").run()
    shop.syncs = []
    result = shop.sync("old", FEW, **EVENTS).run()
    assert (result.exit_code, [str(error) for error in result.errors]) == (
        1,
        [f"old: its state was moved to new, when it was renamed\n  hint: {MARK}"],
    )
    assert sent(shop) == ["more", "u0", "u1", "u2"]
    told = retl("status", "old", folder=shop.folder)
    assert (told.code, told.out.splitlines()[1].split()) == (1, ["old", "moved"])
    assert re.fullmatch(
        r"old: failed 1 time in a row, the last at .*; its state was moved to new, when .*\n.*\n", told.err
    )
    assert told.err.endswith(f"; its state was moved to new, when it was renamed\n  hint: {MARK}\n")
    renamed(shop, renamed_from="old")
    assert retl("state", "reset", "new", "--yes", folder=shop.folder).code == 0
    assert shop.run().delivery.accepted == 4
    shop.syncs = []
    shop.sync("old", "SELECT 'other' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time", **EVENTS)
    assert retl("state", "reset", "old", "--yes", folder=shop.folder).code == 0
    assert shop.run().status == "success"
    assert sent(shop) == sorted(2 * ["more", "u0", "u1", "u2"] + ["other"])


@pytest.mark.long
def test_first_run_stops_if_another_name_has_sent_its_events_until_the_state_is_renamed_by_hand(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    in_environment(shop, monkeypatch)
    result = renamed(shop).run()
    assert (result.exit_code, [error.message for error in result.errors]) == (
        1,
        ["new: 3 rows that it would send were sent by old"],
    )
    assert result.errors[0].hint == (
        "if the sync was renamed, add `renamed_from: old` to it; without that state, Braze would count them twice"
    )
    assert sent(shop) == ["u0", "u1", "u2"]
    for told in (retl("status", folder=shop.folder).err, retl("debug", folder=shop.folder).out):
        assert (
            "no sync claims the state of old: if the sync was renamed, add `renamed_from: old` to it; "
            "`retl state reset old` forgets what it has sent\n"
        ) in told
    for _ in range(2):
        told = retl("state", "rename", "old", "new", folder=shop.folder)
        assert (told.code, told.err) == (0, "new: the state of old is its own now\n")
    assert shop.run().delivery.accepted == 1
    nothing = retl("state", "rename", "older", "new", folder=shop.folder)
    assert (nothing.code, nothing.err) == (1, "new: it has a state of its own, and two states are not merged\n")
    claimed = retl("state", "rename", "new", "new", folder=shop.folder)
    assert (claimed.code, claimed.err) == (2, '"new" is the name of a sync\n  hint: rename it in syncs.yml first\n')


@pytest.mark.long
@pytest.mark.parametrize("shop", some(["folder", "store"]), indirect=True)
def test_beside_a_state_that_nobody_claims_new_rows_are_sent_and_after_its_reset_all_are(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    in_environment(shop, monkeypatch)
    shop.syncs = []
    shop.sync("newer", "SELECT 'newer' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-24' AS time", **EVENTS)
    assert shop.run().status == "success"
    assert retl("state", "reset", "old", "--yes", folder=shop.folder).code == 0
    assert renamed(shop).run().delivery.accepted == 4


def test_first_run_stops_if_another_name_has_its_events_in_doubt(tmp_path: Path, braze: Sandbox):
    shop = Shop(tmp_path / "shop", braze)
    braze.add_fault(Fault("status", status=500))
    assert shop.sync("old", FEW, **EVENTS).run().delivery.in_doubt == 3
    result = renamed(shop).run()
    assert [error.message for error in result.errors] == ["new: 3 rows that it would send were sent by old"]


@pytest.mark.long
@pytest.mark.parametrize("shop", some(["folder", "store"]), indirect=True)
def test_renamed_target_goes_on_with_all_its_states(shop: Shop, monkeypatch: pytest.MonkeyPatch, retl: Retl):
    in_environment(shop, monkeypatch)
    text = yaml.safe_load((shop.folder / "syncs.yml").read_text())
    text |= {"default_target": "prod", "targets": {"prod": text["targets"]["test"]}}
    (shop.folder / "syncs.yml").write_text(yaml.safe_dump(text, sort_keys=False))
    stopped = retl("sync", "old", folder=shop.folder)
    assert stopped.code == 1
    assert "old: 3 rows that it would send were sent by old on target test" in stopped.err
    assert "if the target was renamed, add `renamed_from: test` to it" in stopped.err
    assert (
        "no target claims the state of old on target test: if the target was renamed, add `renamed_from: test` to it; "
        "`retl state reset test/old` forgets what it has sent\n"
    ) in retl("status", folder=shop.folder).err
    text["targets"]["prod"]["renamed_from"] = "test"
    (shop.folder / "syncs.yml").write_text(yaml.safe_dump(text, sort_keys=False))
    moved = retl("sync", "old", folder=shop.folder)
    assert (moved.code, sent(shop)) == (0, ["u0", "u1", "u2"])
    assert "moved the state of old on target test here" in moved.err


@pytest.mark.long
@pytest.mark.parametrize("shop", some(["folder", "store"]), indirect=True)
def test_state_of_a_target_that_is_gone_is_reset_by_name(shop: Shop, monkeypatch: pytest.MonkeyPatch, retl: Retl):
    in_environment(shop, monkeypatch)
    text = yaml.safe_load((shop.folder / "syncs.yml").read_text())
    text |= {"default_target": "prod", "targets": {"prod": text["targets"]["test"]}}
    (shop.folder / "syncs.yml").write_text(yaml.safe_dump(text, sort_keys=False))
    assert retl("state", "reset", "test/older", "--yes", folder=shop.folder).err == (
        'unknown sync "test/older"\n  hint: one of: old\n'
    )
    asked = retl("state", "reset", "test/old", folder=shop.folder)
    assert (asked.code, asked.err.splitlines()[0]) == (
        2,
        "what test/old sent, which no target claims, will be forgotten",
    )
    reset = retl("state", "reset", "test/old", "--yes", folder=shop.folder)
    assert (reset.code, reset.err.startswith("test/old: state reset; the old state is in ")) == (0, True)
    assert "claims" not in retl("status", folder=shop.folder).err
    assert retl("sync", "old", folder=shop.folder).code == 0
    assert sent(shop) == sorted(2 * ["u0", "u1", "u2"])


@pytest.mark.long
def test_what_a_killed_run_had_sent_moves_too(tmp_path: Path, braze: Sandbox):
    shop = Shop(tmp_path / "shop", braze).sync("old", SEEN, **EVENTS)
    with running(shop, Held(braze, external_ids=["u300"]), ("sync", "old", "--threads", "1")) as process:
        process.kill()
    shop.syncs = []
    result = shop.sync("new", SEEN, **EVENTS, renamed_from="old").run()
    assert (result.plan.held, result.delivery.accepted) == (75, 625)
    assert len(sent(shop)) == len(set(sent(shop))) == 1000


@pytest.mark.long
def test_killed_at_any_moment_the_state_is_in_one_place(tmp_path: Path, braze: Sandbox, seed: int):
    before = Shop(tmp_path / "before", braze).sync("old", FEW, **EVENTS)
    before.run()
    for number in itertools.count(seed % 4 + 1, examples(9, 1)):
        shutil.copytree(before.folder, tmp_path / str(number))
        shop = renamed(Shop(tmp_path / str(number), braze), renamed_from="old")
        there = len(braze.events())
        with Forked(dying, number, shop.folder, {**os.environ, **shop.environ}, "sync", "new") as process:
            code = process.wait()
        assert shop.run().status == "success"
        assert len(braze.events()) == there + 1, number
        if code == 0:
            break
        assert code == -signal.SIGKILL, process.err
    assert number > 10


@pytest.mark.long
def test_store_has_the_state_under_one_name_whenever_a_machine_is_lost(tmp_path: Path, braze: Sandbox, seed: int):
    with Bucket() as bucket:
        environ = {"BRAZE_API_KEY": KEY, **bucket.environ}
        before = Shop(tmp_path / "before", braze, state={"path": bucket.url}, environ=environ)
        before.sync("old", FEW, **EVENTS).run()
        old, new = bucket.objects("old"), bucket.objects("new")
        stored = {name: (old.read(name) or (b"",))[0] for name in old.names()}
        for number in itertools.count(seed % 2 + 1, examples(6, 1)):
            new.delete(new.names())
            old.delete(old.names())
            for name, data in stored.items():
                old.write(name, data)
            there = len(braze.events())
            shutil.copytree(before.folder, tmp_path / str(number))
            shop = Shop(tmp_path / str(number), braze, state=before.state, environ=environ)
            renamed(shop, renamed_from="old")
            with Forked(command, shop.folder, {**os.environ, **environ}, "sync", "new") as process:
                bucket.at_write(number, process.kill)
                code = process.wait()
            another = Shop(tmp_path / f"another-{number}", braze, state=shop.state, environ=environ)
            another.clock = FakeClock(ahead=timedelta(hours=1))  # the locks of the lost machine have run out
            result = renamed(another, renamed_from="old").run()
            arrived = len(braze.events()) - there
            assert arrived == 1 or (arrived == 0 and result.plan.held == 1), number
            if code == 0:
                break
    assert number > 5


@pytest.mark.long
def test_renaming_by_hand_goes_on_where_a_machine_was_lost(tmp_path: Path, braze: Sandbox, seed: int):
    with Bucket() as bucket:
        environ = {"BRAZE_API_KEY": KEY, **bucket.environ}
        shop = Shop(tmp_path / "shop", braze, state={"path": bucket.url}, environ=environ)
        shop.sync("old", FEW, **EVENTS).run()
        old, new = bucket.objects("old"), bucket.objects("new")
        stored = {name: (old.read(name) or (b"",))[0] for name in old.names()}
        renamed(shop)
        for number in itertools.count(seed % 2 + 1, examples(2, 1)):
            for objects in (old, new):
                objects.delete(objects.names())
            for name, data in stored.items():
                old.write(name, data)
            there = len(braze.events())
            another = Shop(tmp_path / f"another-{number}", braze, state=shop.state, environ=environ)
            another.clock = FakeClock(ahead=timedelta(hours=1))  # the locks of the lost machine have run out
            shutil.copytree(shop.folder, tmp_path / str(number))
            with Forked(
                command, tmp_path / str(number), {**os.environ, **environ}, "state", "rename", "old", "new"
            ) as it:
                bucket.at_write(number, it.kill)
                code = it.wait()
            if code != 0:
                rename(renamed(another).project(), "old", another.project().sync("new"), another.clock)
            assert renamed(another).run().status == "success"
            assert len(braze.events()) == there + 1, number
            if code == 0:
                break
    assert number > 5


def test_former_name_is_one_that_no_sync_or_target_has_and_no_other_had(tmp_path: Path, braze: Sandbox, retl: Retl):
    shop = Shop(tmp_path / "shop", braze).sync("other", FEW, **EVENTS).sync("new", FEW, renamed_from="other", **EVENTS)
    shop.sync("a", FEW, renamed_from="old", **EVENTS).sync("b", FEW, renamed_from="old", **EVENTS)
    edit(shop.folder / "syncs.yml", "  test:\n", "  test:\n    renamed_from: test\n")
    told = retl("ls", folder=shop.folder)
    assert told.code == 2
    assert '"renamed_from" in sync "new" is the name of a sync: "other"\n  hint: remove it' in told.err
    assert '"renamed_from" in sync "b" is that of sync "a" too: "old"' in told.err
    assert '"renamed_from" in target "test" is the name of a target: "test"' in told.err
