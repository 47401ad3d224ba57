"""The vocabulary of the tests: a small project in a folder, a Braze to send to, and `retl` as a process of its own."""

import os
import re
import subprocess
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import yaml
from hypothesis import settings
from jsonschema import Draft202012Validator

from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import open_session
from reverse_etl.plan.guards import skipped_guards
from reverse_etl.project.json_schema import json_schema
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Fault, Sandbox, local
from tests.canary import KEY
from tests.processes import Forked, command

local.DEFAULT_KEYS = {**local.DEFAULT_KEYS, KEY: {"*"}}  # every sandbox of the tests takes it, too
DATA = Path(__file__).parent / "data"
SCHEMA = Draft202012Validator(json_schema())
_DATABASES = threading.Lock()

MANY = "SELECT 'u' || i AS external_id, i AS n FROM range(1000) r(i)"
SEEN = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range(1000) r(i)"
EVENTS = {"mode": "users_track", "track_record_type": "events", "primary_key": "external_id"}
# After five requests it waits for an hour: whenever a signal is handled, nothing has gone out since it came.
FIVE_REQUESTS = {"rate_limits": {"users_track": {"requests": 6, "per_seconds": 3600}}}


def examples(few: int, many: int) -> int:
    """How many of them a test draws: in `make test`, and in `make test-random`."""
    return few if settings.default.derandomize else many


def some(cases: Iterable[Any], every: int = 2) -> list[Any]:
    """Every second of a row of costly cases in `make test`, and all of them in `make test-random`."""
    return list(cases)[:: examples(every, 1)]


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
    more: dict[str, Any] = field(default_factory=dict)  # other keys of syncs.yml
    engine: dict[str, Any] = field(default_factory=lambda: {"type": "duckdb", "path": "warehouse.duckdb"})
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
                    "warehouse": self.engine,
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
            **self.more,
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
        options["skip_guards"] = skipped_guards(options.get("skip_guards", ()), "skip_guards")
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


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Retl = Callable[..., Outcome]


def erased_from(said: Outcome) -> dict[str, tuple[int, ...]]:
    """What `retl forget` says that it has erased, by sync: acknowledged rows, rejected ones, those in doubt."""
    return {sync: numbers[:3] for sync, numbers in all_erased_from(said).items()}


def all_erased_from(said: Outcome) -> dict[str, tuple[int, ...]]:
    """The same, and lines of the ledger."""
    assert said.code == 0, said.err
    heading, *rows = said.out.split("receipt: ")[0].splitlines()
    assert re.split(r"  +", heading.strip()) == [
        "erased from",
        "acknowledged",
        "rejected",
        "in doubt",
        "lines of the ledger",
    ]
    cells = (row.split() for row in rows if not row.startswith(("deleted ", "Braze ")))
    return {sync: tuple(int(number.replace(",", "")) for number in numbers) for sync, *numbers in cells}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def start(shop: Shop, *arguments: str) -> Forked:
    """`retl` as a process of its own."""
    return Forked(command, shop.folder, {**os.environ, **shop.environ, "COLUMNS": "200"}, *arguments)


@contextmanager
def running(
    shop: Shop, until: str | Held, arguments: Sequence[str] = ("sync", "it", "--threads", "1")
) -> Iterator[Forked]:
    """A command as a process of its own, from the moment on at which it waits for an answer: that of user `until`."""
    answer = until if isinstance(until, Held) else Held(shop.braze, external_ids=[until])
    shop.destination = {**shop.destination, "timeout_s": 600}
    shop.write()
    with start(shop, *arguments) as process:
        process.wait_until(answer.is_held.is_set)
        yield process


class LettingGo(FakeClock):
    """A clock on which the other process ends while somebody waits."""

    def __init__(self, process: Forked | subprocess.Popen[str], after_waits: int) -> None:
        super().__init__()
        self.process, self.after_waits = process, after_waits

    def wait(self, wait_s: float, stop: Any) -> None:
        super().wait(wait_s, stop)
        if len(self.waits) == self.after_waits:
            self.process.kill()
            self.process.wait()
