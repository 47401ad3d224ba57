"""The wheel in dist/, installed from an index into an environment of its own, and used outside the checkout."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
CHECKOUT = Path(sys.executable).parent  # whose output the other tests pin
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("RETL_", "BRAZE_", "PYTHON"))}
PASSING = r" *\(?\b\d+\.\d s\b\)?|\d{4}-\d\d-\d\d \d\d:\d\d UTC|[0-9a-f]{12,64}"  # durations, times, digests
FIRST_STEPS = {
    "retl ls": 2,  # no project yet
    "retl init": 0,
    "retl init --ci github": 0,
    "retl init .": 2,  # one is there
    "retl seed": 0,
    "retl test": 0,
    "retl plan": 0,
    "retl sync --all --max-changes 1": 1,  # a guard
    "retl sync --all": 0,
    "retl plan --detailed-exitcode": 0,
    "retl sync orders users_track": 0,
    "retl status": 0,
    "retl show customers": 0,
    "retl state show users_track": 0,
    "retl sync no_such_sync": 2,
    "retl sync --no-such-option": 2,
}
IMPORT_ALL = """
import pkgutil, reverse_etl
for module in pkgutil.walk_packages(reverse_etl.__path__, "reverse_etl."):
    if module.name not in ("reverse_etl.__main__", "reverse_etl.pytest_plugin"):
        __import__(module.name)
print(reverse_etl.__file__)
"""
NEEDS = {  # what a target asks for: which package, by which extra
    "state: {path: 's3://bucket/retl'}": ("needs the package obstore", "state"),
    "warehouse: {type: postgres}": ("needs a package", "postgres"),
    "warehouse: {type: spark, remote: 'sc://127.0.0.1:1'}": ("needs a package", "spark"),
}
PROJECT = """
version: 1
default_target: test
targets: {{test: {{{keys}, destination: {{type: braze, endpoint: sandbox}}}}}}
syncs: [{{name: people, model: people, mode: users_track, track_record_type: attributes, primary_key: external_id}}]
"""
READ_PAGE = """
from urllib.request import urlopen
from reverse_etl.sandbox import Sandbox
with Sandbox() as braze:
    print(urlopen(braze.url).read().decode())
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment for which nothing but the wheel was asked."""
    (wheel,) = (ROOT / "dist").glob("*.whl")  # `make test-wheel` builds it
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", wheel], check=True, cwd=folder, env=ENVIRON)
    return folder / "bin"


def run(tools: Path, folder: Path, *command: str) -> tuple[int, str, str]:
    """A command of an environment, called in a folder: its exit code, stdout and stderr."""
    done = subprocess.run(
        [tools / command[0], *command[1:]],
        cwd=folder,
        env={**ENVIRON, "COLUMNS": "120"},
        text=True,
        capture_output=True,
    )
    return done.returncode, done.stdout, done.stderr


def first_steps(tools: Path, folder: Path) -> list[tuple[int, str, list[str]]]:
    """What the first steps print in an empty folder, without what is another text every time. Syncs that overlap speak in
    any order."""
    folder.mkdir(parents=True)
    passing = re.compile(f"{PASSING}|{re.escape(str(folder))}")
    results = [run(tools, folder, *command.split(" ")) for command in FIRST_STEPS]
    return [(code, passing.sub("", out), sorted(passing.sub("", err).splitlines())) for code, out, err in results]


def test_version_is_that_of_the_project(tools: Path, tmp_path: Path):
    assert run(tools, tmp_path, "retl", "--version") == (0, f"retl {VERSION}\n", "")
    assert run(tools, tmp_path, "python", "-m", "reverse_etl", "--version") == (0, f"retl {VERSION}\n", "")


def test_every_module_finds_what_it_imports(tools: Path, tmp_path: Path):
    code, out, err = run(tools, tmp_path, "python", "-c", IMPORT_ALL)
    assert (code, err, Path(out.strip()).is_relative_to(tools.parent)) == (0, "", True)


def test_first_steps_end_and_print_as_in_the_checkout(tools: Path, tmp_path: Path):
    by_wheel = first_steps(tools, tmp_path / "wheel" / "shop")
    by_checkout = first_steps(CHECKOUT, tmp_path / "checkout" / "shop")
    assert [code for code, _, _ in by_wheel] == list(FIRST_STEPS.values())
    assert by_wheel == by_checkout
    sync = dict(zip(FIRST_STEPS, by_wheel, strict=True))["retl sync --all"]
    assert [line.partition(" in ")[0] for line in sync[1].splitlines()] == [
        "users_track: success, 3 of 3 rows accepted",
        "orders: success, 3 of 3 rows accepted",
        "newsletter: success, 3 of 3 rows accepted",
    ]


def test_sandbox_has_its_page(tools: Path, tmp_path: Path):
    code, out, err = run(tools, tmp_path, "python", "-c", READ_PAGE)
    assert (code, err, out) == (0, "", (ROOT / "reverse_etl/sandbox/page/assets/index.html").read_text() + "\n")


def test_page_of_a_project_has_its_style_and_script(tools: Path, tmp_path: Path):
    assert run(tools, tmp_path, "retl", "init")[0] == 0
    code, _, err = run(tools, tmp_path, "retl", "docs", "generate")
    assert (code, err) == (0, "wrote target/docs/index.html; open it in a browser\n")
    text, assets = (tmp_path / "target/docs/index.html").read_text(), ROOT / "reverse_etl/report/site/assets"
    assert all((assets / name).read_text() in text for name in ("page.css", "page.js"))


def test_pipeline_of_gitlab_is_written(tools: Path, tmp_path: Path):
    assert run(tools, tmp_path, "retl", "init", "--ci", "gitlab")[0] == 0
    assert "stages: [review, sync]" in (tmp_path / ".gitlab-ci.yml").read_text()


@pytest.mark.parametrize("key", NEEDS)
@pytest.mark.parametrize("command", ["plan", "sync --all", "status", "history", "rejects", "why u1", "debug"])
def test_package_of_an_extra_that_is_missing_is_named(tools: Path, tmp_path: Path, command: str, key: str):
    """`status`, `history`, `rejects` and `why` read the state alone."""
    warehouse = "" if key.startswith("warehouse") else "warehouse: {type: duckdb}, "
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "people.sql").write_text("SELECT 'u1' AS external_id, 'gold' AS tier")
    (tmp_path / "syncs.yml").write_text(PROJECT.format(keys=warehouse + key))
    code, out, err = run(tools, tmp_path, "retl", *command.split())
    package, extra = NEEDS[key]
    assert "Traceback" not in out + err
    if key.startswith("state") or command in ("plan", "sync --all", "debug"):
        said = out if command == "debug" else err
        assert (code in (1, 2), package in said, f'pip install "reverse-etl[{extra}]"' in said) == (True,) * 3, said
