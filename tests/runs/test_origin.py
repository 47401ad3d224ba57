"""Where a run comes from is in the state, for runs that have something to do."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.runs.origin import commit_of, started_by
from tests.shop import Retl, Shop


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=ann", "-c", "user.email=ann@x.example", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def committed(shop: Shop) -> Shop:
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS points")
    git(shop.folder, "init")
    git(shop.folder, "add", "syncs.yml", "models")
    git(shop.folder, "commit", "-m", "first")
    return shop


def test_run_has_its_commit_and_says_whether_files_differed_from_it(committed: Shop):
    commit = git(committed.folder, "rev-parse", "HEAD").strip()
    assert committed.run().status == "success"
    committed.model("it", "SELECT 'u1' AS external_id, 2 AS points")
    committed.run()
    found = committed.rows_of("runs", "epoch_us(finished_at)", "git_commit", "git_dirty")
    assert [row[1:] for row in found] == [(commit, False), (commit, True)]


def test_commit_is_found_in_packed_refs_in_worktrees_and_detached(committed: Shop, tmp_path: Path):
    commit = git(committed.folder, "rev-parse", "HEAD").strip()
    git(committed.folder, "pack-refs", "--all")
    git(committed.folder, "worktree", "add", str(tmp_path / "other"), "-b", "other")
    (tmp_path / "none").mkdir()
    found = [commit_of(folder) for folder in (committed.folder, tmp_path / "other" / "models", tmp_path / "none")]
    assert found == [commit, commit, None]
    git(committed.folder, "checkout", "--detach")
    assert commit_of(committed.folder / "models") == commit


def test_run_that_has_nothing_to_do_asks_nobody(committed: Shop):
    committed.run()
    committed.run()
    assert committed.rows_of("runs", "started_by IS NULL")[-1] == (True,)


@pytest.mark.long
def test_compiled_sql_is_kept_once_whatever_time_is_in_it(shop: Shop):
    for points in (1, 2, 2, 3):
        shop.sync("it", f"SELECT 'u1' AS external_id, {points} AS points, '{{{{ run_started_at }}}}' AS at").run()
    texts = [text for (text,) in shop.rows_of("sqls", "sql")]
    assert len(texts) == 3
    assert all("'{{ run_started_at }}' AS at" in text for text in texts)


@pytest.mark.parametrize(
    ("environ", "by"),
    [
        (
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7"},
            "https://github.com/a/b/actions/runs/7",
        ),
        ({"CI_JOB_URL": "https://gitlab.example/a/-/jobs/7"}, "https://gitlab.example/a/-/jobs/7"),
        ({"BUILD_URL": "https://u:pw@ci.example/job/7"}, "https://ci.example/job/7"),
        (
            {"AIRFLOW_CTX_DAG_ID": "daily", "AIRFLOW_CTX_DAG_RUN_ID": "scheduled__7"},
            "airflow daily scheduled__7",
        ),
    ],
)
def test_ci_says_at_which_address_its_run_is(shop: Shop, environ: dict[str, Any], by: str):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS points")
    shop.environ |= environ
    assert started_by(shop.project()) == by


def test_applied_plan_has_its_digest(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS points")
    said = retl("plan", "it", "--out", "plan.retl", folder=shop.folder)
    assert retl("apply", "plan.retl", folder=shop.folder).code == 0
    ((digest, by),) = shop.rows_of("runs", "plan_digest", "started_by")
    assert (digest in said.out + said.err, "@" in by) == (True, True)
