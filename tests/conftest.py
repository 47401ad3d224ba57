"""What pytest gives to all tests."""

import gc
import os
import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from reverse_etl.cli import main
from reverse_etl.report import progress
from reverse_etl.sandbox import Sandbox
from tests.canary import is_leaked, leaks, shows_people
from tests.processes import HANG_S, end_all, retl_in_a_folder
from tests.shop import KEY, Outcome, Retl, Shop

progress.LINE_EVERY_S = HANG_S  # how far a run is, it tells on a slow machine only: what is printed is the same on all
# `make test` draws the same each time, on any machine; `make test-random` draws more, and each time something else.
settings.register_profile(
    "retl", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("retl"), derandomize=False, print_blob=True, max_examples=100)


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # retl is started some two hundred times: compiled once, not each time


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("retl")


@pytest.hookimpl(tryfirst=True)  # before `-m` looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that is `sampled(n)`, every n-th case stays as it is, and the others are `long`."""
    seen = Counter[str]()
    for item in items:
        if sampled := item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if seen[test] % sampled.args[0]:
                item.add_marker("long")
            seen[test] += 1


def pytest_collection_finish() -> None:
    """What is imported and collected stays: not looking through it again and again saves a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: a third of the time, a test waits for a process, a thread or a disk."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(autouse=True)
def _no_secret_is_left_anywhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the files of a test, its own aside. What commands print is searched where it is captured."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder and "test_canary" not in request.node.name:
        assert leaks(folder) == []


@pytest.fixture
def tools() -> Iterator[Path]:
    """A folder for PATH, with `retl` in it."""
    with retl_in_a_folder() as folder:
        yield folder


@pytest.fixture
def braze() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def shop(tmp_path: Path, braze: Sandbox) -> Shop:
    return Shop(tmp_path / "shop", braze)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of what a test draws without hypothesis: one for ever, or in `make test-random` the one of that day."""
    if settings.default.derandomize:
        return 7
    chosen = request.config.getoption("--hypothesis-seed")
    seed = random.randrange(2**32) if chosen is None else int(chosen)
    print(f"--hypothesis-seed={seed}")  # pytest shows it if the test fails
    return seed


@pytest.fixture
def retl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Retl:
    """The command, run in a folder (`tmp_path` unless told): exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BRAZE_API_KEY", KEY)

    def run(*arguments: str, folder: Path = tmp_path) -> Outcome:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["retl", *arguments])
        capsys.readouterr()
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        captured = capsys.readouterr()
        assert not is_leaked(captured.out + captured.err)
        assert shows_people(arguments, captured.out + captured.err) == []
        return Outcome(code, without_codes(captured.out), without_codes(captured.err))

    return run


def without_codes(said: str) -> str:
    """What a command said, without the codes of errors: tests/test_codes.py is about these, the others about the words."""
    return re.sub(r" \[[A-Z][0-9]{3}\]$", "", said, flags=re.MULTILINE)


@pytest.fixture(scope="session")
def written_starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("init", "seed"):
            patch.setattr(sys, "argv", ["retl", command])
            with pytest.raises(SystemExit, match="0"):
                main()
    return folder


@pytest.fixture
def starter(retl: Retl, tmp_path: Path, written_starter: Path) -> Path:
    """The folder of a project that `retl init` wrote, with its seeds loaded."""
    shutil.copytree(written_starter, tmp_path, dirs_exist_ok=True)
    return tmp_path
