"""Where a command finds its project, and which options the environment sets."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from reverse_etl.cli import app
from reverse_etl.cli import here as cli_here
from tests.shop import Retl, Shop

# Each of them says where, how fast, or how careful. What is in no message of a shell, and stays set, changes nothing else.
VARIABLES = {
    "--project-dir": "RETL_PROJECT_DIR",
    "--target": "RETL_TARGET",
    "--state": "RETL_STATE",
    "--log-format": "RETL_LOG_FORMAT",
    "--memory-limit": "RETL_MEMORY_LIMIT",
    "--wait": "RETL_WAIT",
    "--threads": "RETL_THREADS",
    "--rate-limit-share": "RETL_RATE_LIMIT_SHARE",
    "--fail-fast": "RETL_FAIL_FAST",
    "--read-first": "RETL_READ_FIRST",
}
# What must be typed each time: it answers a question, passes a guard, shows persons, sends again, or decides for good.
NEVER = {
    *("--yes", "--skip-guard", "--show-values", "--full-refresh", "--accept-schema-change", "--all", "--resend"),
    *("--mark-accepted", "--max-changes", "--max-removed", "--max-requests", "--max-data-points", "--vars"),
}


def parameters() -> Iterator[tuple[str, Any]]:
    """(command, parameter) of all commands, and of retl itself."""
    todo = [("retl", get_command(app))]
    while todo:
        name, command = todo.pop()
        yield from ((name, parameter) for parameter in command.params)
        todo += [(f"{name} {inner}", sub) for inner, sub in getattr(command, "commands", {}).items()]


def test_each_option_has_the_variable_of_the_table_in_every_command_and_no_other_has_one():
    found = [(name, parameter) for name, parameter in parameters() if parameter.param_type_name == "option"]
    assert len(found) > 150
    assert {
        (name, parameter.opts[0])
        for name, parameter in found
        if parameter.envvar != VARIABLES.get(parameter.opts[0])
        and not (name == "retl collect" and parameter.opts[0] == "--threads")
    } == set()
    assert {parameter.opts[0] for _, parameter in found} >= NEVER | VARIABLES.keys()
    assert NEVER.isdisjoint(VARIABLES)
    assert [name for name, one in parameters() if one.param_type_name != "option" and one.envvar] == []


def test_page_and_help_show_the_variables(retl: Retl):
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    shown = " ".join(retl("sync", "--help").out.split())
    for option, variable in VARIABLES.items():
        assert option == "--log-format" or f"Environment: `{variable}`." in page
        assert option == "--log-format" or f"env var: {variable}" in shown


@pytest.mark.parametrize("below", ["models", "models/crm/deep", "target"])
@pytest.mark.sampled(3)
def test_project_is_found_from_any_folder_below_it(shop: Shop, retl: Retl, below: str):
    shop.sync("it", "select 'u' as external_id, nope as n")
    folder = shop.folder / below
    folder.mkdir(parents=True, exist_ok=True)
    listed, failed = retl("ls", folder=folder), retl("show", "it", folder=folder)
    assert (listed.code, listed.out.splitlines()[1].split()[0]) == (0, "it")
    assert failed.err.startswith("models/it.sql:1: ")  # as with retl in the project's folder
    shop.sync("it", "select 'u' as external_id, 1 as n")
    assert retl("sync", "it", folder=folder).code == 0
    assert retl("status", "it", folder=shop.folder).out == retl("status", "it", folder=folder).out
    assert (shop.folder / "target" / "run_results.json").exists()


def test_files_of_options_are_relative_to_the_shell_and_files_of_the_project_to_the_project(shop: Shop, retl: Retl):
    (shop.folder / "data").mkdir()
    (shop.folder / "data" / "n.csv").write_text("n\n5\n")
    shop.sync("it", "select 'u' as external_id, n from 'data/n.csv'")
    assert retl("plan", "it", "--out", "p", folder=shop.folder / "models").code == 0
    assert (shop.folder / "models" / "p").exists()
    assert retl("apply", "p", folder=shop.folder / "models").code == 0
    assert shop.sent() == ['{"attributes":[{"external_id":"u","n":5}]}']


def test_closest_project_is_the_one(shop: Shop, retl: Retl):
    inner = shop.folder / "inner"
    (inner / "models").mkdir(parents=True)
    (inner / "syncs.yml").write_text((shop.folder / "syncs.yml").read_text().replace("test", "other"))
    (inner / "models" / "a.sql").write_text("select 1")
    assert retl("compile", folder=inner / "models").out == "select 1\n\n"


def test_project_of_another_user_is_not_taken(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    """Whoever may write to /tmp would decide what is run in all folders of it."""
    shop.sync("it", "select 'u' as external_id")
    (shop.folder / "models" / "mine").mkdir()
    owner = {shop.folder: 4711}
    stat = Path.stat
    monkeypatch.setattr(cli_here, "_is_trusted", lambda folder, here: owner.get(folder, 0) == stat(here).st_uid)
    refused = retl("ls", folder=shop.folder / "models")
    assert (refused.code, refused.err) == (
        2,
        f"syncs.yml not found in {shop.folder / 'models'}\n  hint: pass --project-dir {shop.folder}\n",
    )


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to somebody else")
def test_folder_belongs_to_who_runs_retl_or_to_whom_the_current_folder_belongs(tmp_path: Path):
    theirs, mine = tmp_path / "theirs", tmp_path / "theirs" / "mine"
    mine.mkdir(parents=True)
    os.chown(theirs, 4711, 4711)
    assert not cli_here._is_trusted(theirs, mine)
    os.chown(mine, 4711, 4711)
    assert cli_here._is_trusted(theirs, mine)


def test_variables_choose_project_and_target_and_the_command_line_goes_before_them(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    shop.sync("it", "select 'u' as external_id")
    text = (shop.folder / "syncs.yml").read_text()
    block = text[text.index("  test:") : text.index("syncs:")]
    (shop.folder / "syncs.yml").write_text(text.replace(block, block + block.replace("test:", "other:", 1)))
    monkeypatch.setenv("RETL_PROJECT_DIR", str(shop.folder))
    monkeypatch.setenv("RETL_TARGET", "other")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "target other" in retl("plan", "it", folder=elsewhere).out
    assert "target test" in retl("plan", "it", "--target", "test", folder=elsewhere).out
    assert retl("ls", "--project-dir", ".", folder=elsewhere).code == 2


def test_retry_is_of_the_target_of_the_last_run_whatever_the_environment_says(
    shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    shop.sync("it", "select 'u' as external_id, nope as n")
    assert retl("sync", "it", folder=shop.folder).code == 2
    shop.sync("it", "select 'u' as external_id, 1 as n")
    monkeypatch.setenv("RETL_TARGET", "nowhere")
    assert retl("retry", folder=shop.folder).code == 0
    assert len(shop.sent()) == 1


def test_reference_lists_the_variables():
    page = (
        (Path(__file__).parents[2] / "docs" / "reference.md").read_text().split("\n## Commands\n")[1].split("\n## ")[0]
    )
    assert set(re.findall(r"`(RETL_\w+)`", page)) == set(VARIABLES.values())
