"""The vocabulary of the tests: a small project in a folder, and a Braze to send to."""

import gc
import os
import random
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator

from reverse_etl.cli import main
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import open_session
from reverse_etl.project.json_schema import json_schema
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.report import progress
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Fault, Sandbox
from tests.processes import HANG_S, end_all, retl_in_a_folder

KEY = "sandbox"
progress.LINE_EVERY_S = HANG_S  # how far a run is, it tells on a slow machine only: what is printed is the same on all
SCHEMA = Draft202012Validator(json_schema())
# `make test` draws the same each time, on any machine; `make test-random` draws more, and each time something else.
settings.register_profile(
    "retl", derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("retl"), derandomize=False, print_blob=True, max_examples=100)


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # retl is started some two hundred times: compiled once, not each time


def pytest_configure(config: pytest.Config) -> None:
    """Here, as this file is loaded twice: as a plugin, and as the module that tests import from."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("retl")


def examples(few: int, many: int) -> int:
    """How many of them a test draws: in `make test`, and in `make test-random`."""
    return few if settings.default.derandomize else many


class FakeClock:
    """A clock that goes forward only when somebody waits: no test sleeps. `ahead` of the machine's time of day."""

    def __init__(self, start_s: float = 1_790_000_000.0, ahead: timedelta = timedelta()) -> None:
        self.time_s = start_s
        self.waits: list[float] = []
        self.ahead = ahead

    def utc(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def __call__(self) -> float:
        return self.time_s

    def now_s(self) -> float:
        return self.time_s

    def wait(self, wait_s: float, stop: Any) -> None:
        self.waits.append(wait_s)
        self.time_s += wait_s


class Silent:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, sync: Any, text: str) -> None:
        self.notices.append(f"{sync.name}: {text}")

    def planning(self, sync: Any) -> Any:
        return nullcontext()

    def planned(self, sync: Any, plan: Any) -> None:
        pass

    def sending(self, sync: Any, plan: Any, sender: Any) -> Any:
        return nullcontext()


_DATABASES = threading.Lock()


@cache
def one_duckdb() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@contextmanager
def database(path: Path, how: str = "READ_WRITE") -> Iterator[duckdb.DuckDBPyConnection]:
    """A file of DuckDB's, made if it is not there, and closed after the block: in one DuckDB that stays open, since a
    new one takes eight times as long."""
    name = f'"{path.stem}"'
    with _DATABASES, one_duckdb().cursor() as connection:
        connection.execute(f"ATTACH '{path}' AS {name} ({how}); USE {name}")
        try:
            yield connection
        finally:
            connection.execute(f"USE memory; DETACH {name}")


@cache
def validate(syncs_yml: str) -> None:
    """What retl takes, editors take."""
    SCHEMA.validate(yaml.load(syncs_yml, yaml.CSafeLoader))


@dataclass
class Shop:
    """A project in a folder with a warehouse, and a Braze that it sends to."""

    folder: Path
    braze: Sandbox
    syncs: list[dict[str, Any]] = field(default_factory=list)
    destination: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=lambda: {"BRAZE_API_KEY": KEY})
    clock: FakeClock = field(default_factory=FakeClock)
    listener: Silent = field(default_factory=Silent)

    def __post_init__(self) -> None:
        (self.folder / "models").mkdir(parents=True, exist_ok=True)
        self.warehouse("SELECT 1")
        self.write()

    def warehouse(self, sql: str, *values: object) -> None:
        """Do something to the warehouse."""
        with database(self.folder / "warehouse.duckdb") as connection:
            connection.execute(sql, list(values) or None)

    def model(self, name: str, sql: str) -> None:
        (self.folder / "models" / f"{name}.sql").write_text(textwrap.dedent(sql), encoding="utf-8")

    def sync(self, name: str, sql: str, **options: Any) -> "Shop":
        """A sync over a model of its own; attributes unless it says otherwise. A second call with the name replaces it."""
        self.model(name, sql)
        mode = {"mode": "users_track", "track_record_type": "attributes"} if "mode" not in options else {}
        self.syncs = [sync for sync in self.syncs if sync["name"] != name]
        self.syncs.append({"name": name, "model": name, **mode, **options})
        self.write()
        return self

    def write(self) -> None:
        spec = {
            "version": 1,
            "default_target": "test",
            "targets": {
                "test": {
                    "warehouse": {"type": "duckdb", "path": "warehouse.duckdb"},
                    "destination": {
                        "type": "braze",
                        "endpoint": self.braze.url,
                        "api_key": "{{ env_var('BRAZE_API_KEY') }}",
                        **self.destination,
                    },
                    **({"state": self.state} if self.state else {}),
                }
            },
            "syncs": self.syncs,
        }
        text = yaml.dump(spec, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
        (self.folder / "syncs.yml").write_text(text)

    def project(self) -> LoadedProject:
        return load_project(self.folder, environ=self.environ)

    def run(self, *names: str, policy: RetryPolicy | None = None, **options: Any) -> RunResult:
        """Run one sync (the only one, if none is named); its result."""
        return self.run_all(*(names or [self.syncs[0]["name"]]), policy=policy, **options)[0]

    def run_all(self, *names: str, policy: RetryPolicy | None = None, **options: Any) -> list[RunResult]:
        project = self.project()
        validate((self.folder / "syncs.yml").read_text().replace(self.braze.url, "https://rest.iad-01.braze.com"))
        chosen = Options(clock=self.clock, policy=policy or RetryPolicy(), **{"threads": 4, **options})
        with open_session(project) as session:
            return list(run_jobs(jobs_of(project, [project.sync(n) for n in names], chosen, self.listener), session))

    def rows_of(self, table: str, *columns: str, sync: str | None = None) -> list[tuple[Any, ...]]:
        """What a table of a sync's state holds (the first sync's, if none is named)."""
        path = self.folder / ".retl/test" / (sync or self.syncs[0]["name"]) / "state.duckdb"
        with database(path, "READ_ONLY") as connection:
            shown = ", ".join(columns) or "CAST(COLUMNS(*) AS VARCHAR)"
            return connection.execute(f"SELECT {shown} FROM {table} ORDER BY ALL").fetchall()

    def sent(self) -> list[str]:
        """The bodies of all requests so far."""
        return [request.body for request in self.braze.requests()]


class Held:
    """The answer to a request, which waits: the request is taken, `is_held` is set, and it goes out by `goes_out`.

    The request is the first one that a fault with `choice` hits, such as external_ids=["u1"].
    """

    def __init__(self, braze: Sandbox, **choice: Any) -> None:
        self.is_held, self.goes_out = threading.Event(), threading.Event()
        braze.add_fault(Fault("delay", until=self._may_go_out, **choice))

    def _may_go_out(self) -> bool:
        self.is_held.set()
        return self.goes_out.is_set()


def pytest_collection_finish() -> None:
    """What is imported and collected stays: not looking through it again and again saves a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores: a third of the time, a test waits for a process, a thread or a disk."""
    return max(len(os.sched_getaffinity(0)) * 3 // 2, 1)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test() -> Iterator[None]:
    yield
    end_all()


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


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Retl = Callable[..., Outcome]


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
        return Outcome(code, captured.out, captured.err)

    return run


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


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DATA = Path(__file__).parent / "data"
