"""Who can read what retl keeps, and that git does not get it."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from reverse_etl.system.private_files import make_private
from tests.shop import Retl, Shop, some

PEOPLE = "SELECT 'u1' AS external_id, 'ada@example.com' AS email"
git = partial(subprocess.run, check=True, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def _open_umask():
    mask = os.umask(0o022)
    yield
    os.umask(mask)


@pytest.fixture
def synced(shop: Shop) -> Shop:
    shop.sync("it", PEOPLE).run()
    return shop


def modes(folder: Path) -> set[str]:
    """The permissions of a folder and all in it, except git's own file."""
    paths = [folder, *(path for path in folder.rglob("*") if path.name != ".gitignore")]
    return {oct(stat.S_IMODE(path.stat().st_mode)) for path in paths}


@pytest.mark.parametrize("place", [None, "states"])
def test_state_that_others_can_read_is_taken_from_them(place: str | None, shop: Shop):
    shop.state = {"path": place} if place else {}
    shop.sync("it", PEOPLE).run()
    folder = shop.folder / (place or ".retl") / "test"
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shop.model("it", PEOPLE.replace("ada", "eve"))
    assert shop.run().status == "success"
    assert modes(folder) == {"0o700", "0o600"}
    assert oct(stat.S_IMODE(folder.parent.stat().st_mode)) == ("0o755" if place else "0o700")  # that one is the user's


AS_ANOTHER_USER = """
import os
from pathlib import Path
from reverse_etl.errors import StateError
from reverse_etl.project.project import load_project
from reverse_etl.state.opening import state_of

project = load_project(Path().absolute())
os.setuid(65534)
try:
    with state_of(project, project.sync("it")):
        pass
except StateError as error:
    print(error)
"""


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_state_that_another_user_owns_is_refused_if_others_can_read_it(synced: Shop):
    """retl cannot take it from them."""
    folder, place = synced.folder.parent, Path(tempfile.mkdtemp())
    try:
        shutil.copytree(folder / "shop", place / "shop")
        git(["chmod", "-R", "a+rwX", str(place)])
        environ = {**os.environ, **synced.environ}
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER], cwd=place / "shop", env=environ, capture_output=True, text=True
        )
        assert (done.stderr, done.stdout.splitlines()) == (
            "",
            [
                f"others can read {place}/shop/.retl/test, which belongs to another user (user id 0)",
                "  hint: it contains personal data: run retl as that user, or `chown -R` it to the user that runs retl",
            ],
        )
    finally:
        shutil.rmtree(place)


def test_links_in_a_folder_of_retls_are_left_alone(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "folder/link").symlink_to(tmp_path / "elsewhere")
    make_private(tmp_path / "folder")
    assert oct((tmp_path / "elsewhere").stat().st_mode)[-3:] == "644"


COMMANDS = ["compile it", "plan it", "sync it", "debug", "state reset it --yes", "ls", "test", "show it", "status",
            "run-due", "plan it --out target/saved.plan"]  # fmt: skip


@pytest.mark.parametrize("command", some(COMMANDS))
def test_whatever_a_command_makes_is_its_owners_and_not_gits(command: str, shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    if command.endswith("saved.plan"):
        (shop.folder / "target").mkdir()
    if "reset" in command:
        shop.run()
        (shop.folder / ".retl/.gitignore").unlink()
    git(["git", "init", "-q"], cwd=shop.folder)
    retl(*command.split(), folder=shop.folder)
    made = [path for name in ("target", ".retl") for path in (shop.folder / name).rglob("*") if path.is_file()]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made if path.name != ".gitignore"} <= {"0o600"}
    shown = git(["git", "status", "--porcelain", "--untracked-files=all"], cwd=shop.folder).stdout
    assert sorted(line.split()[1] for line in shown.splitlines()) == ["models/it.sql", "syncs.yml", "warehouse.duckdb"]


def test_project_in_the_folder_of_its_states_is_not_hidden_from_git(shop: Shop):
    shop.state = {"path": "."}
    shop.sync("it", PEOPLE).run()
    assert not (shop.folder / ".gitignore").exists()
    assert (shop.folder / "test/.gitignore").exists()
    assert oct(shop.folder.stat().st_mode)[-3:] == "755"


def test_unit_test_writes_nothing_beside_its_own_folder(tmp_path: Path, shop: Shop, retl: Retl, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    shop.sync("it", PEOPLE)
    spec = (shop.folder / "syncs.yml").read_text()
    test = (
        "unit_tests: [{name: one, sync: it, given: [], expect: {records: [{external_id: u1, email: ada@example.com}]}}]"
    )
    (shop.folder / "syncs.yml").write_text(f"{spec}{test}\n")
    assert retl("test", folder=shop.folder).code == 0
    assert list((tmp_path / "tmp").iterdir()) == []


TRACKED = (
    ".retl/test/it/has-run",
    ".retl/test/it/lock",
    ".retl/test/it/state.duckdb",
    ".retl/test/plan.key",
    "saved.plan",
)


@pytest.mark.long
def test_debug_warns_of_a_state_or_a_plan_that_git_tracks(synced: Shop, retl: Retl):
    assert retl("plan", "it", "--full-refresh", "--out", "saved.plan", folder=synced.folder).code == 0
    git(["git", "init", "-q"], cwd=synced.folder)
    git(["git", "add", "syncs.yml"], cwd=synced.folder)
    done = retl("debug", folder=synced.folder)
    assert (done.code, "git" in done.out) == (0, False)
    git(["git", "add", "--force", ".retl", "saved.plan", "warehouse.duckdb"], cwd=synced.folder)
    done = retl("debug", folder=synced.folder)
    ledger = [str(path.relative_to(synced.folder)) for path in synced.folder.rglob(".retl/**/ledger/*")]
    assert len(ledger) == 2
    assert (done.code, [line for line in done.out.splitlines() if "git" in line]) == (
        0,
        [
            f"warn  git tracks {path}, which is private: `git rm --cached {path}`, and keep it out of git"
            for path in sorted([*ledger, *TRACKED])
        ],
    )


def test_debug_without_git_or_a_repository_says_nothing_of_it(
    synced: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert shutil.which("git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "git" not in retl("debug", folder=synced.folder).out
    git(["git", "init", "-q"], cwd=synced.folder)
    git(["git", "add", "--force", ".retl"], cwd=synced.folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = retl("debug", folder=synced.folder)
    assert (done.code, "git" in done.out) == (0, False)


def test_artifacts_are_private_under_any_umask(synced: Shop, retl: Retl):
    shutil.rmtree(synced.folder / "target", ignore_errors=True)
    before = os.umask(0)
    try:
        for arguments in (["compile"], ["plan"], ["sync", "it"]):
            assert retl(*arguments, folder=synced.folder).code == 0
    finally:
        os.umask(before)
    paths = [synced.folder / "target", *(synced.folder / "target").rglob("*")]
    assert {oct(path.stat().st_mode & 0o777) for path in paths} == {"0o700", "0o600"}
