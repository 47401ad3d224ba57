"""A state that is older than what lies beside it, as a backup that was put in its place, is refused: nothing is sent."""

import itertools
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.state import commit
from tests.processes import Forked, dying
from tests.shop import EVENTS, SEEN, Retl, Shop, database, examples, running

MORE = SEEN.replace("range(1000)", "range(1050)")
COMMANDS = [
    "sync it",
    "plan it",
    "status it",
    "debug",
    "history it",
    "rejects it",
    "resolve it --resend --yes",
    "why u1",
]
COMMANDS += ["state show it", "state baseline it --yes", "forget u1 --yes"]


def folder_of(shop: Shop) -> Path:
    return shop.folder / ".retl/test/it"


def put_back(shop: Shop, backup: Path, *names: str) -> None:
    for name in names:
        shutil.copy(backup / name, folder_of(shop) / name)


def backed_up(shop: Shop, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder_of(shop), tmp_path / "backup"))


def refused(shop: Shop) -> str:
    """What a run says that must not send; and it does not."""
    before = len(shop.braze.requests())
    result = shop.run()
    assert (result.status, result.exit_code, len(shop.braze.requests())) == ("failed", 1, before)
    assert result.errors[0].code == "S043"
    return result.errors[0].message.replace(str(folder_of(shop)), "...")


def last_run(shop: Shop) -> str:
    return str(shop.rows_of("runs", "arg_max(run_id, finished_at)")[0][0])


@pytest.mark.parametrize(
    ("options", "names", "known_by"),
    [
        ({}, ["state.duckdb"], "has-run"),
        ({}, ["state.duckdb", "has-run"], "ledger/"),
        ({"ledger": {"keep": 0}}, ["state.duckdb"], "has-run"),
    ],
    ids=["with a ledger", "that was copied over the folder", "without a ledger"],
)
def test_older_state_sends_nothing_again_and_every_command_says_so(
    shop: Shop, retl: Retl, tmp_path: Path, options: Any, names: list[str], known_by: str
):
    shop.sync("it", SEEN, **EVENTS, **options).run()
    backup = backed_up(shop, tmp_path)
    shop.sync("it", MORE, **EVENTS, **options).run()
    newest, run = shutil.copy(folder_of(shop) / "state.duckdb", tmp_path), last_run(shop)
    put_back(shop, backup, *names)
    what = f"state.duckdb is older than what lies beside it: {known_by} knows the run {run}, which it lacks"
    assert refused(shop) == f".../{what}"
    said = {line: retl(*line.split(), folder=shop.folder) for line in COMMANDS}
    found = {line: (one.code, what in one.err + one.out) for line, one in said.items()}
    assert found == dict.fromkeys(COMMANDS, (1, True))
    assert len(shop.braze.events()) == 1050
    shutil.copy(newest, folder_of(shop) / "state.duckdb")
    assert (shop.run().plan.unchanged, len(shop.braze.events())) == (1050, 1050)


def test_state_that_is_begun_anew_as_the_hint_says_sends_no_event_twice(shop: Shop, retl: Retl, tmp_path: Path):
    shop.sync("it", SEEN, **EVENTS).run()
    backup = backed_up(shop, tmp_path)
    shop.sync("it", MORE, **EVENTS).run()
    put_back(shop, backup, "state.duckdb")
    assert refused(shop)
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    assert (shop.run().plan.unchanged, len(shop.braze.events())) == (1050, 1050)


@pytest.mark.parametrize("since", ["a baseline", "a run that changed nothing", "nothing"])
def test_older_state_is_one_that_lacks_what_counts(shop: Shop, retl: Retl, tmp_path: Path, since: str):
    shop.sync("it", SEEN, **EVENTS, ledger={"keep": 0}).run()
    backup = backed_up(shop, tmp_path)
    if since == "a baseline":
        shop.sync("it", MORE, **EVENTS, ledger={"keep": 0})
        assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    elif since == "a run that changed nothing":
        shop.run()
    put_back(shop, backup, "state.duckdb")
    if since == "a baseline":
        assert refused(shop)
    else:
        assert (shop.run().plan.unchanged, len(shop.braze.events())) == (1000, 1000)


def test_what_a_killed_run_has_left_is_not_brought_into_an_older_state(shop: Shop, tmp_path: Path):
    shop.sync("it", SEEN, **EVENTS, ledger={"keep": 0}).run()
    backup = backed_up(shop, tmp_path)
    shop.sync("it", MORE, **EVENTS, ledger={"keep": 0}).run()
    newest = shutil.copy(folder_of(shop) / "state.duckdb", tmp_path)
    shop.sync("it", SEEN.replace("range(1000)", "range(1100)"), **EVENTS, ledger={"keep": 0})
    with running(shop, until="u1060") as process:
        process.kill()
    put_back(shop, backup, "state.duckdb")
    assert refused(shop)
    shutil.copy(newest, folder_of(shop) / "state.duckdb")
    assert shop.run().status == "incomplete"
    assert len(shop.braze.events()) == 1100


def test_killed_run_of_which_nothing_is_left_is_not_sent_again(shop: Shop):
    shop.sync("it", SEEN, **EVENTS, ledger={"keep": 0})
    with running(shop, until="u100") as process:
        process.kill()
    for name in ("outbox.duckdb", "journal.jsonl"):
        (folder_of(shop) / name).unlink()
    assert "has-run knows the run" in refused(shop)


def test_run_that_the_mark_names_is_never_dropped_from_the_history(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commit, "RUNS_KEPT", 2)
    monkeypatch.setattr(commit, "_RUNS_AT_A_TIME", 1)
    shop.sync("it", SEEN, **EVENTS).run()
    for _ in range(5):
        assert shop.run().status == "success"
    assert len(shop.rows_of("runs", "run_id")) == 3


def test_state_of_an_older_retl_goes_on_and_is_protected_from_then_on(shop: Shop, tmp_path: Path):
    shop.sync("it", SEEN, **EVENTS, ledger={"keep": 0}).run()
    mark = folder_of(shop) / "has-run"
    mark.write_text(mark.read_text().splitlines()[0])
    with database(folder_of(shop) / "state.duckdb") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'last_run'")
    backup = backed_up(shop, tmp_path)
    assert shop.run().plan.unchanged == 1000
    put_back(shop, backup, "state.duckdb")
    assert refused(shop)


@pytest.mark.parametrize("way", ["renamed", "reset", "copied"])
def test_state_that_is_moved_with_all_that_lies_beside_it_goes_on(shop: Shop, retl: Retl, tmp_path: Path, way: str):
    shop.sync("it", SEEN, **EVENTS).run()
    events = 1000
    if way == "renamed":
        shop.syncs.clear()
        shop.sync("other", SEEN, **EVENTS)
        assert retl("state", "rename", "it", "other", folder=shop.folder).code == 0
        assert (folder_of(shop).with_name("other") / "has-run").read_text().count("run: ") == 1
    elif way == "reset":
        assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
        events = 2000
    else:
        backup = backed_up(shop, tmp_path)
        shutil.rmtree(folder_of(shop))
        shutil.copytree(backup, folder_of(shop))
    for _ in range(2):
        assert shop.run(shop.syncs[0]["name"]).status == "success"
    assert len(shop.braze.events()) == events


@pytest.mark.parametrize("command", ["sync it", "state baseline it --yes"])
@pytest.mark.long
def test_command_that_is_killed_at_any_moment_goes_on_and_an_older_state_beside_what_it_left_sends_nothing_twice(
    shop: Shop, tmp_path: Path, seed: int, command: str
):
    few, more = (SEEN.replace("range(1000)", f"range({rows})") for rows in (3, 5))
    refusals = 0
    for number in itertools.count(seed % 3 + 1, examples(3, 1)):
        there = len(shop.braze.events())
        killed, older = (Shop(tmp_path / f"{what}-{number}", shop.braze) for what in ("killed", "older"))
        killed.sync("it", few, **EVENTS, ledger={"keep": 0}).run()
        backup = Path(shutil.copytree(folder_of(killed), tmp_path / f"backup-{number}"))
        for one in (killed, older):
            one.sync("it", more, **EVENTS, ledger={"keep": 0})
        with Forked(dying, number, killed.folder, {**os.environ, **killed.environ}, *command.split()) as process:
            code = process.wait()
        arrived = len(shop.braze.events()) - there - 3
        shutil.copytree(killed.folder / ".retl", older.folder / ".retl")
        for name in ("outbox.duckdb", "journal.jsonl", "state.duckdb.wal"):
            (folder_of(older) / name).unlink(missing_ok=True)
        put_back(older, backup, "state.duckdb")
        assert killed.run().status in ("success", "incomplete"), number
        sent = len(shop.braze.events())
        assert sent == there + (3 if command != "sync it" and sent == there + 3 else 5), number
        result = older.run()
        if arrived:
            assert (result.status, result.errors[0].code) == ("failed", "S043"), number
            assert len(shop.braze.events()) == sent
        refusals += result.status == "failed"
        if code == 0:
            break
        assert code == -signal.SIGKILL, process.err
    assert refusals
