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


def test_pipeline_is_what_gitlab_takes():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"]
    command += ["--data-transform", "gitlab-ci", str(DEPLOY / "gitlab-ci.yml")]
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
    """Jobs of gitlab-ci.yml in a project in git, as a runner runs them: one shell, which ends at the first failure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "PATH": os.pathsep.join([str(TOOLS), os.environ["PATH"]]), "NO_COLOR": "1"}
        self.file = read("gitlab-ci.yml")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        ran = subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return ran.stdout.strip()

    def run(self, job: str, **variables: str) -> subprocess.CompletedProcess[str]:
        script = "set -eo pipefail\n" + "\n".join(self.file[job]["script"])
        environ = {**self.environ, **self.file["variables"], **variables}
        command = ["bash", "-c", script]
        return subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def pipeline(tmp_path: Path, retl: Retl) -> Pipeline:
    folder = tmp_path / "project"
    retl("init", str(folder))
    made = Pipeline(folder)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message=first")
    return made


@pytest.mark.long
def test_merge_request_gets_the_plan_of_what_it_changes(pipeline: Pipeline):
    base = pipeline.git("rev-parse", "HEAD")
    edit(pipeline.folder / "models" / "users_track.sql", "    first_name,", "    upper(first_name) as first_name,")
    ran = pipeline.run("review", CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert ran.returncode == 0, ran.stderr
    plan = (pipeline.folder / "plan.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in plan.splitlines() if line.startswith("| ")]
    assert [row for row in rows[1:] if row[2:] != ["0", "0"]] == [["users_track", "users_track / attributes", "0", "3"]]
    assert pipeline.git("worktree", "list").count("\n") == 0


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
