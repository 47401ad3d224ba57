"""Files in docs/examples/deploy are what their programs read, and do what the pages say of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reverse_etl.braze.client import Workspace
from reverse_etl.starter.ci import filled_in
from tests.shop import Retl, edit

DEPLOY = Path(__file__).parents[1] / "docs" / "examples" / "deploy"
UNITS = ("retl.service", "retl.timer", "retl-scheduler.service")
TOOLS = Path(sys.executable).parent


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def test_cron_job_is_what_kubernetes_takes():
    import kubernetes_validate

    for version in ("1.29", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(read("cronjob.yaml"), version, strict=True)


def test_cron_job_runs_one_pod_at_a_time_and_lets_requests_end():
    spec = read("cronjob.yaml")["spec"]
    job = spec["jobTemplate"]["spec"]
    assert (spec["concurrencyPolicy"], job["backoffLimit"]) == ("Forbid", 0)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > 2 * Workspace.timeout_s


@pytest.mark.parametrize("place", [".", "crm/shop"])
def test_pipeline_is_what_gitlab_takes(tmp_path: Path, place: str):
    spec = (DEPLOY.parents[2] / "syncs.yml").read_text(encoding="utf-8")
    (tmp_path / "gitlab-ci.yml").write_text(filled_in("gitlab", spec, place, "reverse-etl==1.2.3"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"]
    command += ["--data-transform", "gitlab-ci", str(tmp_path / "gitlab-ci.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs Debian's package systemd")
def test_units_are_what_systemd_takes(tmp_path: Path):
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/srv/retl/.venv/bin/retl", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


class Pipeline:
    """Jobs that `retl init --ci gitlab` wrote for a project in git, as a runner runs them: one shell, which ends at the
    first failure, in the root of the repository. Nothing has to be installed."""

    def __init__(self, top: Path, folder: Path) -> None:
        self.top, self.folder = top, folder
        fake = top.with_name("tools")
        fake.mkdir()
        (fake / "python").write_text('#!/bin/sh\n[ "$1 $2 $3" = "-m pip install" ]\n')
        (fake / "python").chmod(0o755)
        path = os.pathsep.join([str(fake), str(TOOLS), os.environ["PATH"]])
        self.environ = {**os.environ, "PATH": path, "NO_COLOR": "1", "CI_PROJECT_DIR": str(top)}
        self.file = yaml.safe_load((top / ".gitlab-ci.yml").read_text(encoding="utf-8"))

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        ran = subprocess.run(["git", *who, *arguments], cwd=self.top, check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    def run(self, job: str, **variables: str) -> subprocess.CompletedProcess[str]:
        steps = [*self.file["default"]["before_script"], *self.file[job]["script"]]
        environ = {**self.environ, **self.file["variables"], "RETL_PACKAGE": "reverse-etl", **variables}
        command = ["bash", "-c", "\n".join(["set -eo pipefail", *steps])]
        return subprocess.run(command, cwd=self.top, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(params=[".", "crm/shop"])
def pipeline(tmp_path: Path, retl: Retl, request: pytest.FixtureRequest) -> Pipeline:
    top = tmp_path / "repository"
    top.mkdir()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(top)], check=True)
    assert retl("init", str(top / request.param), "--ci", "gitlab").code == 0
    made = Pipeline(top, top / request.param)
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message=first")
    return made


@pytest.mark.long
def test_merge_request_gets_the_plan_of_what_it_changes(pipeline: Pipeline):
    base = pipeline.git("rev-parse", "HEAD")
    edit(pipeline.folder / "models" / "users_track.sql", "    first_name,", "    upper(first_name) as first_name,")
    ran = pipeline.run("review", CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert ran.returncode == 0, ran.stderr
    (path,) = pipeline.file["review"]["artifacts"]["paths"]
    plan = (pipeline.top / path).read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in plan.splitlines() if line.startswith("| ")]
    assert [row for row in rows[1:] if row[2:] != ["0", "0"]] == [["users_track", "users_track / attributes", "0", "3"]]
    assert pipeline.git("worktree", "list").count("\n") == 0


@pytest.mark.long
def test_merge_request_that_brings_the_project_is_planned_as_new(pipeline: Pipeline):
    pipeline.git("checkout", "--quiet", "--orphan", "before")
    pipeline.git("rm", "--quiet", "-r", "--cached", ".")
    pipeline.git("commit", "--quiet", "--allow-empty", "--message=nothing")
    base = pipeline.git("rev-parse", "HEAD")
    pipeline.git("checkout", "--quiet", "--force", "main")
    ran = pipeline.run("review", CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert (ran.returncode, "The target branch has no project: every row is new." in ran.stdout) == (0, True), (
        ran.stderr
    )


def test_pipeline_says_that_it_has_to_know_where_retl_comes_from(pipeline: Pipeline):
    ran = pipeline.run("review", RETL_PACKAGE="")
    assert ran.returncode != 0
    assert "RETL_PACKAGE: set it in .gitlab-ci.yml to what pip installs retl from" in ran.stderr


@pytest.mark.long
def test_default_branch_is_synced_only_where_the_state_outlives_the_runner(pipeline: Pipeline):
    ran = pipeline.run("sync", COMMAND="sync --all", RETL_TARGET="sandbox")
    assert (ran.returncode, ran.stdout) == (2, "target sandbox needs state: {path: ...}: this runner is discarded\n")
    spec = pipeline.folder / "syncs.yml"
    spec.write_text(
        spec.read_text(encoding="utf-8").replace("  sandbox: #", "  sandbox:\n    state: {path: states}\n    #")
    )
    subprocess.run([TOOLS / "retl", "seed"], cwd=pipeline.folder, check=True, capture_output=True)
    ran = pipeline.run("sync", COMMAND="sync --all", RETL_TARGET="sandbox")
    assert (ran.returncode, "3 syncs: 3 success" in ran.stderr) == (0, True), ran.stderr
