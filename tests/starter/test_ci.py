"""The workflow of `retl init --ci github`: its steps, run as GitHub runs them, in a fresh project."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from reverse_etl.starter.ci import filled_in, installed_from
from tests.shop import Retl

TOOLS = Path(sys.executable).parent  # of the virtual environment
WORKFLOW = Path(".github/workflows/retl.yml")
TOOK = re.compile(r" \((\d+ min )?[\d.]+ s\)")
IS_POSTED = "${{ !cancelled() && github.event.pull_request.head.repo.full_name == github.repository }}"

# A stand-in for GitHub's own command: keeps comments in comments.json, as its API does, and lists those of the bot.
GH = """#!{python}
import json, os, re, sys
from pathlib import Path
store = Path(os.environ["RUNNER_TEMP"]) / "comments.json"
comments = json.loads(store.read_text()) if store.exists() else []
arguments = sys.argv[1:]
assert arguments.pop(0) == "api", arguments
options, method, body, place = set(), "GET", None, None
while arguments:
    one = arguments.pop(0)
    if one in ("--method", "--field", "--jq"):
        value = arguments.pop(0)
        method = value if one == "--method" else method
        body = Path(value.removeprefix("body=@")).read_text() if one == "--field" else body
    elif one.startswith("--"):
        options.add(one)
    else:
        place = one
assert os.environ["GH_TOKEN"] == "a token"
if os.environ.get("REFUSED"):
    sys.exit("HTTP 403: Resource not accessible by integration")
if method == "GET":
    assert place == "repos/me/shop/issues/7/comments"
    for comment in comments:
        if comment["body"].startswith("<!-- retl plan -->"):
            print(comment["id"])
elif method == "POST":
    assert place == "repos/me/shop/issues/7/comments"
    comments.append({{"id": 100 + len(comments), "body": body, "edits": 0}})
else:
    (comment,) = [one for one in comments if place == f"repos/me/shop/issues/comments/{{one['id']}}"]
    comment["body"], comment["edits"] = body, comment["edits"] + 1
store.write_text(json.dumps(comments))
"""


# Nothing has to be installed, and pip takes a second to find that out: one test lets it.
PYTHON = """#!/bin/sh
[ "$1 $2 $3" = "-m pip install" ] && [ -z "$WITH_PIP" ] && exit 0
exec {python} "$@"
"""


@dataclass
class Job:
    """What a run of a job came to."""

    steps: list[str] = field(default_factory=list)
    code: int = 0
    out: str = ""
    err: str = ""
    summary: str = ""


class Runner:
    """A workspace and the commands of one of GitHub's runners. Steps run in order, in the shell that GitHub gives them."""

    def __init__(self, workspace: Path, base: Path, temp: Path, tools: Path) -> None:
        self.workspace, self.base, self.temp, self.tools = workspace, base, temp, tools
        self.hosted_by = "self-hosted"
        for folder in (temp / "bin", temp / "files"):
            folder.mkdir(parents=True)
        for name, text in {"gh": GH, "python": PYTHON}.items():
            command = temp / "bin" / name
            command.write_text(text.format(python=sys.executable))
            command.chmod(command.stat().st_mode | stat.S_IXUSR)

    @property
    def workflow(self) -> dict[str, Any]:
        return yaml.safe_load((self.workspace / WORKFLOW).read_text())

    def run(self, job: str, event: str = "pull_request", is_fork: bool = False, after: str = "", **environ: str) -> Job:
        """All steps of a job, or those after one that has run: what they read of it is still there."""
        done = Job()
        summary = self.temp / "files" / "summary.md"
        summary.write_text("")
        wanted = self.workflow["jobs"][job]
        known = {
            "${{ github.token }}": "a token",
            "${{ github.event.pull_request.number }}": "7",
            "${{ vars.RETL_TARGET }}": "sandbox",
        }
        steps = wanted["steps"]
        begin = [step.get("name") for step in steps].index(after) + 1 if after else 0
        for step in steps[begin:]:
            condition = step.get("if", "success()")
            is_wanted = {
                "success()": done.code == 0,
                "${{ !cancelled() }}": True,
                IS_POSTED: not is_fork,
            }[condition]
            name = step.get("name", step.get("uses"))
            if is_wanted:
                done.steps.append(name)
            if not is_wanted or "run" not in step:
                if is_wanted and step["uses"].startswith("actions/checkout@") and "path" in step.get("with", {}):
                    assert step["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
                    shutil.rmtree(self.workspace / step["with"]["path"], ignore_errors=True)
                    shutil.copytree(self.base, self.workspace / step["with"]["path"])
                continue
            said = {**self.workflow["env"], **wanted.get("env", {}), **step.get("env", {})}
            said = {key: "" if "secrets." in text else known.get(text, text) for key, text in said.items()}
            assert not any("${{" in text for text in (*said.values(), step["run"]))
            given = {
                "PATH": f"{self.temp / 'bin'}:{self.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(self.temp),
                "COLUMNS": "200",
                "PIP_NO_INDEX": "1",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "GITHUB_ACTIONS": "true",
                "GITHUB_EVENT_NAME": event,
                "GITHUB_REPOSITORY": "me/shop",
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_WORKSPACE": str(self.workspace),
                "RUNNER_ENVIRONMENT": self.hosted_by,
                "RUNNER_TEMP": str(self.temp / "files"),
                **said,
                "RETL_PACKAGE": "reverse-etl",  # it is installed already, so that pip asks nobody
                **environ,
            }
            script = self.temp / "files" / "step.sh"
            script.write_text(step["run"])
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
            folder = self.workspace / self.workflow["defaults"]["run"]["working-directory"]
            ran = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=120)
            done.out, done.err = done.out + ran.stdout, done.err + ran.stderr
            done.code = done.code or ran.returncode
        done.summary = summary.read_text()
        return done

    def comments(self) -> list[dict[str, Any]]:
        path = self.temp / "files" / "comments.json"
        return json.loads(path.read_text()) if path.exists() else []


@pytest.fixture
def workspace(retl: Retl, tmp_path: Path) -> Path:
    """A repository with what `retl init --ci github` wrote."""
    assert retl("init", "shop", "--ci", "github").code == 0
    return tmp_path / "shop"


@pytest.fixture
def workflow(workspace: Path) -> dict[str, Any]:
    return yaml.safe_load((workspace / WORKFLOW).read_text())


@pytest.fixture
def runner(workspace: Path, tmp_path: Path, tools: Path) -> Runner:
    """That repository, and a base branch that is the same."""
    shutil.copytree(workspace, tmp_path / "main")
    return Runner(workspace, tmp_path / "main", tmp_path / "runner", tools)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


BASE = "Send the rows of the base branch to the sandbox"
HEADING = "<!-- retl plan -->\n### retl plan: what this pull request changes on target `sandbox`\n\n"
TABLE = (
    "| sync | mode | added | changed | removed | invalid | requests | at the rate limit | writes | data points |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


@pytest.mark.long
def test_pull_request_gets_one_comment_with_what_it_changes_and_the_next_push_updates_it(runner: Runner):
    """From a fork, its plan is in the summary only; so it is where the comment may not be posted, which fails nothing."""
    edit(runner.workspace / "models" / "users_track.sql", "first_name,", "upper(first_name) as first_name,")
    changed = (
        HEADING
        + TABLE
        + (
            "| users_track | users_track / attributes | 0 | 3 | 0 | 0 | 1 | 0.0 s | 3 attributes | 3 |\n"
            "| orders | users_track / purchases | 0 | 0 | 0 | 0 | 0 | 0.0 s | 0 purchases | 0 |\n"
            "| newsletter | subscription_status_set | 0 | 0 | 0 | 0 | 0 | 0.0 s |  | 0 |\n"
            "\n**users_track**: `first_name` 3\n"
        )
    )
    fork = runner.run("review", is_fork=True)
    assert (fork.code, fork.err.count("Traceback"), fork.steps[-1]) == (0, 0, "Plan"), fork.err
    assert (fork.summary, runner.comments()) == (changed, [])
    refused = runner.run("review", after="Plan", REFUSED="1")
    assert (refused.code, refused.steps, runner.comments()) == (0, ["Comment"], [])
    assert "::warning::the plan could not be posted; it is in the summary of the job" in refused.out
    assert runner.run("review", after="Plan").code == 0
    assert runner.comments() == [{"id": 100, "body": changed, "edits": 0}]
    edit(runner.workspace / "models" / "users_track.sql", "upper(first_name) as first_name,", "first_name,")
    assert runner.run("review", after=BASE).code == 0
    (comment,) = runner.comments()
    assert comment["edits"] == 1
    assert "| users_track | users_track / attributes | 0 | 0 | 0 | 0 | 0 |" in comment["body"]


def test_pull_request_needs_no_secret(workspace: Path, workflow: dict[str, Any]):
    assert "secrets." not in yaml.safe_dump(workflow["jobs"]["review"])
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["review"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "pull_request_target" not in (workspace / WORKFLOW).read_text()


@pytest.mark.long
def test_first_pull_request_of_a_project_shows_every_row(runner: Runner):
    shutil.rmtree(runner.base)
    runner.base.mkdir()
    done = runner.run("review", WITH_PIP="yes")
    assert done.code == 0
    assert "| orders | users_track / purchases | 3 | 0 | 0 | 0 | 1 |" in done.summary


@pytest.mark.long
def test_base_branch_that_cannot_be_sent_is_no_reason_to_fail_but_invalid_rows_are(runner: Runner):
    (runner.base / "models" / "orders.sql").write_text("select nothing from nowhere")
    done = runner.run("review")
    assert done.code == 0
    assert "::warning::not all rows of the base branch could be sent: the others are new in the plan" in done.out
    assert "| orders | users_track / purchases | 3 | 0 | 0 | 0 | 1 |" in done.summary
    assert "| users_track | users_track / attributes | 0 | 0 | 0 | 0 | 0 |" in done.summary
    edit(runner.workspace / "models" / "orders.sql", "'EUR' as currency", "'EURO' as currency")
    assert runner.run("review", after=BASE).code == 1
    (comment,) = runner.comments()
    assert "> orders: 3 of 3 rows are invalid, so nothing would be sent (syncs.yml:26:5)\n" in comment["body"]


@pytest.mark.long
def test_broken_sql_fails_the_job_with_exit_2_and_says_where(runner: Runner):
    shutil.rmtree(runner.base)
    runner.base.mkdir()
    edit(runner.workspace / "models" / "orders.sql", "price,", "prize,")
    done = runner.run("review")
    assert done.code == 2
    assert 'Referenced column "prize" not found in FROM clause' in done.err
    assert done.summary.startswith(HEADING + "~~~\n")
    assert 'Referenced column "prize" not found' in runner.comments()[0]["body"]


@pytest.mark.long
def test_names_that_are_not_in_the_lock_fail_the_job_if_there_is_one(runner: Runner, retl: Retl):
    assert retl("seed", folder=runner.workspace).code == 0
    assert retl("lock", folder=runner.workspace).code == 0
    assert "braze.lock.yml" not in runner.run("review").summary
    edit(runner.workspace / "models" / "orders.sql", "price,", "price, 1 as score,")
    done = runner.run("review")
    assert done.code == 1
    assert done.summary.endswith(
        "Not as in braze.lock.yml; run `retl lock` once it is reviewed:\n"
        '~~~\nproperty "score" of purchases: new, number (sync orders)\n~~~\n'
    )


@pytest.mark.long
def test_unit_test_that_fails_fails_the_job_before_anything_is_planned(runner: Runner):
    edit(runner.workspace / "models" / "users_track.sql", "tier,", "upper(tier) as tier,")
    done = runner.run("review")
    assert (done.code, done.steps[-2:], done.summary) == (1, ["Unit tests", "Comment"], "")
    assert "customers_without_orders_have_spent_nothing" in done.out + done.err


@pytest.mark.long
def test_broken_spec_fails_the_job_with_exit_2_before_anything_is_planned(runner: Runner):
    edit(runner.workspace / "syncs.yml", "primary_key: order_id", "primary_kee: order_id")
    done = runner.run("review")
    assert done.code == 2
    assert done.steps[-2:] == ["Validate", "Comment"]
    assert 'syncs.yml:31:5: unknown key "primary_kee"' in done.err
    assert (done.summary, runner.comments()) == ("", [])


@pytest.mark.long
def test_merge_sends_everything_and_its_summary_says_so_and_one_that_is_not_whole_fails_the_job(
    runner: Runner, retl: Retl
):
    assert retl("seed", folder=runner.workspace).code == 0
    done = runner.run("sync", event="push")
    assert done.code == 0, done.err
    assert TOOK.sub("", done.summary) == (
        "### retl sync --all: exit code 0\n~~~\n"
        "users_track: success, 3 of 3 rows accepted in 1 request, 16 attributes written\n"
        "orders: success, 3 of 3 rows accepted in 1 request\n"
        "newsletter: success, 3 of 3 rows accepted in 2 requests\n"
        "~~~\n"
    )
    assert "/users/track  201" in retl("sandbox", "--last", "10", folder=runner.workspace).out
    orders = runner.workspace / "models" / "orders.sql"
    edit(orders, "    order_id\n", "    order_id + 100 as order_id\n")
    edit(orders, "'EUR' as currency", "'EURO' as currency")
    again = runner.run("sync", event="push")
    assert (again.code, again.summary.count("nothing to send, 0 requests")) == (1, 2)
    assert "### retl sync --all: exit code 1" in again.summary
    assert "orders: blocked, 0 requests; 3 invalid" in again.summary
    assert again.steps[-1] == "actions/upload-artifact@v6"


@pytest.mark.long
def test_schedule_sends_what_is_due(runner: Runner, retl: Retl):
    assert retl("seed", folder=runner.workspace).code == 0
    edit(runner.workspace / "syncs.yml", "  - name: orders\n", '  - name: orders\n    schedule: "* * * * *"\n')
    due = runner.run("sync", event="schedule")
    assert due.code == 0, due.err
    assert TOOK.sub("", due.summary) == (
        "### retl run-due: exit code 0\n~~~\norders: success, 3 of 3 rows accepted in 1 request\n~~~\n"
    )


@pytest.mark.parametrize(
    ("state", "code"),
    [
        pytest.param("", 2, id="none"),
        pytest.param("    # state: {path: s3://bucket}\n", 2, id="commented out"),
        pytest.param('    state: {path: "s3://bucket"}\n', 0, id="there"),
    ],
)
def test_runner_that_forgets_is_refused_without_a_state_elsewhere(
    workspace: Path, workflow: dict[str, Any], state: str, code: int
):
    (step,) = [one for one in workflow["jobs"]["sync"]["steps"] if "outlives" in one.get("name", "")]
    edit(workspace / "syncs.yml", "  prod:\n", f"  prod:\n{state}")
    environ = {**os.environ, "RUNNER_ENVIRONMENT": "github-hosted", "RETL_TARGET": "prod"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=workspace, env=environ, capture_output=True, text=True)
    assert done.returncode == code
    assert ("::error file=syncs.yml::target prod needs state:" in done.stdout) == bool(code)


def test_no_two_runs_overlap_and_nothing_is_sent_before_a_target_is_named(workflow: dict[str, Any]):
    sync = workflow["jobs"]["sync"]
    assert sync["concurrency"] == {"group": "retl-sync", "cancel-in-progress": False}
    assert sync["if"] == (
        "github.event_name != 'pull_request' && github.ref == 'refs/heads/main' && vars.RETL_TARGET != ''"
    )


def test_workflow_says_that_it_has_to_know_where_retl_comes_from(runner: Runner):
    assert installed_from() == ""  # a folder of this machine, which no runner knows
    done = runner.run("review", RETL_PACKAGE="")
    assert done.code != 0
    assert "RETL_PACKAGE: set it in this workflow to what pip installs retl from" in done.err


def test_workflow_is_written_beside_a_project_that_is_there_and_over_nothing(retl: Retl, tmp_path: Path):
    (tmp_path / ".git").mkdir()
    assert retl("init", "crm/shop").code == 0
    before = (tmp_path / "crm/shop/syncs.yml").read_text()
    outcome = retl("init", "crm/shop", "--ci", "github")
    assert (outcome.code, outcome.err.splitlines()[0]) == (0, f"wrote {tmp_path / WORKFLOW}")
    written = yaml.safe_load((tmp_path / WORKFLOW).read_text())
    assert written["defaults"]["run"]["working-directory"] == "crm/shop"
    assert written["jobs"]["sync"]["steps"][-1]["with"]["path"] == "crm/shop/target/run_results.json"
    assert (tmp_path / "crm/shop/syncs.yml").read_text() == before
    again = retl("init", "crm/shop", "--ci", "github")
    assert (again.code, again.err) == (
        2,
        f"{tmp_path / WORKFLOW} already exists\n  hint: move it away, run this again, then compare the two\n",
    )


def test_second_workflow_is_refused_before_a_project_is_written(retl: Retl, tmp_path: Path):
    (tmp_path / "shop" / WORKFLOW).parent.mkdir(parents=True)
    (tmp_path / "shop" / WORKFLOW).write_text("mine")
    assert retl("init", "shop", "--ci", "github").code == 2
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [".github"]


def test_project_without_a_local_target_is_told_to_add_one(retl: Retl, tmp_path: Path):
    (tmp_path / "syncs.yml").write_text("targets: {prod: {destination: {type: braze, endpoint: 'https://x'}}}")
    outcome = retl("init", "--ci", "github")
    assert (outcome.code, outcome.err) == (
        2,
        "no target in syncs.yml has endpoint: sandbox, which plans of pull requests need\n"
        "  hint: add one: sandbox: {warehouse: ..., destination: {type: braze, endpoint: sandbox}}\n",
    )
    assert not (tmp_path / ".github").exists()


def test_workflow_names_the_variables_that_the_project_needs():
    spec = "targets: {local: {destination: {endpoint: sandbox}}}\nx: {{ env_var('B') }} {{ env_var(\"A\") }} {{ env_var('C', 'd') }}"
    text = filled_in("github", spec.replace("x: ", "# "), ".", "reverse-etl==1.0")
    step = yaml.safe_load(text)["jobs"]["sync"]["steps"][-2]
    assert step["env"] == {"A": "${{ secrets.A }}", "B": "${{ secrets.B }}"}
    assert yaml.safe_load(text)["env"] == {"RETL_PACKAGE": "reverse-etl==1.0", "REVIEW_TARGET": "local"}


def test_workflow_is_one_by_the_schema_of_workflows(workspace: Path):
    command = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ok -- validation done\n")


def test_shellcheck_finds_nothing_in_the_steps(workflow: dict[str, Any]):
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert steps
    for step in steps:
        text = re.sub(r"\$\{\{.*?\}\}", "value", step["run"])
        command = [TOOLS / "shellcheck", "--shell", "bash", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert (step.get("name"), done.returncode, done.stdout) == (step.get("name"), 0, "")
