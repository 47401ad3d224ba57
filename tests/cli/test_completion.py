"""Shells complete names of syncs, models and targets, without a run, a secret, or what takes long to import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shop import Shop

ASK = """
import sys
from reverse_etl.cli import main
try:
    main()
finally:
    heavy = {"duckdb", "sqlglot", "jinja2", "rich", "reverse_etl.project.reader"} & sys.modules.keys()
    print(sorted(heavy), file=sys.stderr)
"""


def completed(folder: Path, words: str) -> list[str]:
    """What bash offers behind `words`."""
    parts = words.split(" ")
    environ = {"_RETL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1)}
    asked = subprocess.run(
        [sys.executable, "-c", ASK, *parts[1:]],
        env={**os.environ, **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.stderr.splitlines()[-1:] == ["[]"], asked.stderr
    return asked.stdout.split()


@pytest.fixture
def project(shop: Shop) -> Path:
    """It has no environment variable that its target needs, and a model that fails."""
    shop.sync("users_track", "select {{ 1 / 0 }}").sync("users_alias", "select 1").model("customers", "select 1")
    (shop.folder / "syncs").mkdir()
    (shop.folder / "syncs" / "crm.yml").write_text("syncs:\n  - {name: orders}\n  - {name: \"{{ var('x') }}\"}\n")
    (shop.folder / "models" / "deep").mkdir()
    return shop.folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("retl sync ", ["users_track", "users_alias", "orders"]),
        ("retl sync users_t", ["users_track"]),
        ("retl plan --select +users_a", ["+users_alias"]),
        ("retl plan --select s", ["source:", "state:"]),
        ("retl sync users_track --target ", ["test"]),
        ("retl show cus", ["customers"]),
        ("retl state show o", ["orders"]),
    ],
)
def test_words_are_completed(project: Path, words: str, expected: list[str]):
    assert completed(project / "models" / "deep", words) == expected


@pytest.mark.long
@pytest.mark.parametrize("text", ["syncs: [", "- a", "", "syncs: {a: 1}\ntargets: 5\n"])
def test_project_that_cannot_be_read_completes_nothing(tmp_path: Path, text: str):
    (tmp_path / "syncs.yml").write_text(text)
    assert completed(tmp_path, "retl sync ") == []
    assert completed(tmp_path, "retl sync --target ") == []


@pytest.mark.long
def test_project_of_an_option_is_the_one(project: Path, tmp_path: Path):
    assert completed(tmp_path, f"retl sync --project-dir {project} users_t") == ["users_track"]


@pytest.mark.long
def test_ids_of_runs_are_completed_also_behind_two_dots(shop: Shop):
    for n in range(2):
        shop.sync("it", f"select 'u' as external_id, {n} as n").run()
    shop.sync("other", "select 'v' as external_id, 1 as n").run("other")
    ids = [run_id for (run_id,) in shop.rows_of("runs", "run_id", sync="it")]
    ids += [run_id for (run_id,) in shop.rows_of("runs", "run_id", sync="other")]
    assert sorted(completed(shop.folder, "retl why u --run ")) == sorted(ids)
    assert sorted(completed(shop.folder, "retl revert ")) == sorted(ids)
    assert completed(shop.folder, f"retl revert --target test {ids[0]}..{ids[1]}") == [f"{ids[0]}..{ids[1]}"]
    assert completed(shop.folder, "retl revert --target none ") == []
