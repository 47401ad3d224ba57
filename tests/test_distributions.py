"""What the wheel and the sdist hold: no file is forgotten, and none comes along."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pathspec
import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME = f"reverse_etl-{PROJECT['project']['version']}"
IGNORED = pathspec.GitIgnoreSpec.from_lines((ROOT / ".gitignore").read_text(encoding="utf-8").splitlines())
KINDS = (
    ".py",
    ".sql",
    "/py.typed",
    "/report/site/assets/",
    "/sandbox/page/assets/",
    "/starter/github.yml",
    "/starter/gitlab.yml",
    "/starter/project/",
)


def build(kind: str, folder: Path, source: Path = ROOT) -> Path:
    """The wheel or the sdist of `source`, built without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def files(*names: str) -> Iterator[str]:
    """The files of these names, and those in folders of these names, without what git ignores."""
    for name in names:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            relative = file.relative_to(ROOT).as_posix()
            if file.is_file() and not IGNORED.match_file(relative):
                yield relative


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


def test_wheel_holds_the_whole_package_and_nothing_else(wheel: Path):
    metadata = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    package = [path for path in (ROOT / "reverse_etl").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    with ZipFile(wheel) as archive:
        assert set(archive.namelist()) == {*(path.relative_to(ROOT).as_posix() for path in package), *metadata}


def test_package_holds_code_and_what_it_reads():
    """A file of another kind is added to KINDS on purpose, or not at all."""
    found = {name: next(filter(name.__contains__, KINDS), None) for name in files("reverse_etl")}
    assert [name for name, kind in found.items() if kind is None] == []
    assert set(found.values()) == set(KINDS)


def test_wheel_has_the_command_and_the_pytest_plugin(wheel: Path):
    with ZipFile(wheel) as archive:
        assert archive.read(f"{NAME}.dist-info/entry_points.txt").decode() == (
            "[console_scripts]\nretl = reverse_etl.__main__:program\n\n[pytest11]\nbraze_sandbox = reverse_etl.pytest_plugin\n"
        )


@pytest.mark.long
def test_sdist_holds_what_make_demo_and_make_test_need(sdist: Path):
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    always = {".gitignore", "PKG-INFO", "README.md", "pyproject.toml"}
    with tarfile.open(sdist) as archive:
        assert set(archive.getnames()) == {f"{NAME}/{name}" for name in {*files(*(i[1:] for i in included)), *always}}


@pytest.mark.long
def test_make_finds_in_the_sdist_every_file_that_it_starts_from(sdist: Path, tmp_path: Path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    makefile = (tmp_path / NAME / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
    command = ["make", "--dry-run", "--no-print-directory", *targets]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=tmp_path / NAME, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_wheel_of_the_sdist_is_the_same_to_the_byte(wheel: Path, sdist: Path, tmp_path: Path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / "again", tmp_path / NAME)
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())
