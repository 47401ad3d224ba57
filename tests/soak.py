"""Many runs on a simulated clock: what a run takes, sends up and leaves behind must not grow with their number.

    make soak               (1,000 runs of each kind, of local states and of shared ones; --runs, --only, --rows)

The clock is simulated: a run every quarter of an hour. Those of a shared state are on two machines in turn, and some are
killed as they write to the store. Braze and the store are in a process of their own, so that CPU time is that of runs.
Each line is the mean of a tenth of the runs. Of a kind that `keep` bounds, the first runs fill what is kept.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from reverse_etl.delivery.session import open_session
from reverse_etl.project.project import load_project
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Fault, Sandbox
from tests.bucket import Bucket
from tests.processes import Forked
from tests.shop import KEY, FakeClock, Shop, Silent, database

EVERY = timedelta(minutes=15)
TENTHS = 10
LOOKS = 20  # in a tenth, at what lies around: it goes up with each run, and down with each base
FLAT_FROM = 2  # tenths: until then, there is less to look through, and less to fold
MAY_GROW = 0.10
CHANGED = 100  # rows, in a run
MACHINES = ("one", "two")


@dataclass(frozen=True)
class Kind:
    """What a model does from run to run: SQL over the table t(n, v, seen_at) of the warehouse, which `moves` before each."""

    options: Mapping[str, Any]
    sql: str
    first: str
    moves: Sequence[str] = ()
    rejected: Sequence[str] = ()  # users whose objects Braze rejects


_TRACK = {"mode": "users_track", "track_record_type": "attributes"}
_COLUMNS = ", ".join(f"'value ' || hash(v * {i}) % 1000000 AS c{i}" for i in range(1, 8))
_ROWS = "CREATE TABLE t AS SELECT n, n AS v, $at::TIMESTAMP AS seen_at FROM range($rows) r(n)"
_CHANGE = f"UPDATE t SET v = v + 1000000007 WHERE n IN (SELECT (i * 7919 + $run * {CHANGED}) % $rows FROM range({CHANGED}) r(i))"
_NEW = f"INSERT INTO t SELECT 10000000 + $run * {CHANGED} + i, 0, $at FROM range({CHANGED}) r(i)"
_OLD_GO = "DELETE FROM t WHERE seen_at < $at - INTERVAL 3 DAY"
_EVENT = "'seen' AS name, seen_at AS time, n FROM t"
_EVENTS = f"SELECT 'u' || n % 9973 AS external_id, {_EVENT}"
_SINCE = "{% if is_incremental() %} WHERE time > {{ cursor() }} {% endif %}"

KINDS: Mapping[str, Kind] = {
    "small changes": Kind(_TRACK, f"SELECT 'u' || n AS external_id, {_COLUMNS} FROM t", _ROWS, [_CHANGE]),
    "unchanged": Kind(_TRACK, f"SELECT 'u' || n AS external_id, {_COLUMNS} FROM t", _ROWS),
    "keep expiry": Kind(
        {
            **_TRACK,
            "track_record_type": "events",
            "primary_key": "n",
            "incremental": {"cursor": "time", "lookback": "1 hour", "retention": "1 day"},
            "on_in_doubt": "resend",
        },
        f"SELECT * FROM ({_EVENTS}) {_SINCE}",
        "CREATE TABLE t (n BIGINT, v BIGINT, seen_at TIMESTAMP)",
        [_NEW, _OLD_GO],
    ),
    "refused event": Kind(
        {
            **_TRACK,
            "track_record_type": "events",
            "primary_key": "n",
            "incremental": {"cursor": "time", "lookback": "1 hour", "retention": "1 day"},
            "on_in_doubt": "resend",
        },
        f"SELECT * FROM (SELECT CASE n WHEN 1 THEN 'bad' ELSE 'u' || n % 9973 END AS external_id, {_EVENT}) {_SINCE}",
        "CREATE TABLE t AS SELECT 1::BIGINT AS n, 0::BIGINT AS v, $at::TIMESTAMP AS seen_at",
        [_NEW, _OLD_GO.replace("WHERE", "WHERE n > 1 AND")],
        rejected=["bad"],
    ),
    "come and go": Kind(
        {**_TRACK, "keep_removed": "1 day"},
        f"SELECT 'u' || n AS external_id, {_COLUMNS} FROM t",
        _ROWS,
        [f"DELETE FROM t WHERE n IN (SELECT n FROM t ORDER BY n LIMIT {CHANGED})", _NEW],
    ),
    "invalid": Kind(
        {**_TRACK, "skip_on_invalid_records": True},
        f"SELECT CASE WHEN n % 1000 > 0 THEN 'u' || n ELSE '' END AS external_id, n, {_COLUMNS} FROM t",
        _ROWS,
        [_CHANGE],
    ),
    "deletes": Kind(
        {"mode": "users_delete", "allow_destructive": True, "guards": {"max_deletes": 10**9}},
        "SELECT 'u' || n AS external_id FROM t",
        "CREATE TABLE t (n BIGINT, v BIGINT, seen_at TIMESTAMP)",
        [_NEW, _OLD_GO],
    ),
}


class Services:
    """Braze and a store, for a process of their own."""

    def start(self, rejected: Sequence[str] = ()) -> tuple[str, str, dict[str, str]]:
        """The address of Braze, the URL of the store, and the variables that lead to it."""
        self._braze, self._bucket = Sandbox(log_bodies=0).__enter__(), Bucket().__enter__()
        if rejected:
            self._braze.add_fault(Fault("object_error", external_ids=list(rejected)))
        return self._braze.url, self._bucket.url, self._bucket.environ

    def kill_at_write(self, number: int, pid: int) -> None:
        """Kill a process as it makes its `number`th write to the store from now on."""
        self._bucket.at_write(number, lambda: os.kill(pid, signal.SIGKILL))

    def taken(self) -> tuple[int, int, int]:
        """Bytes that went up to the store so far, bytes that are there, and writes."""
        return self._bucket.bytes_up, self._bucket.bytes_at_rest(), self._bucket.writes

    def ledger(self) -> int:
        """Bytes of the ledger, which are not among those that are there."""
        return self._bucket.bytes_at_rest(ledger=True)

    def settle(self) -> None:
        """Wait until what a killed process had asked of the store is done."""
        self._bucket.settle()

    def state(self) -> tuple[int, int, list[str]]:
        """Bytes of the base of the state, and of its log; and what else lies there, and nobody names."""
        head, names = self._bucket.head(), set(self._bucket.names())
        assert head.state
        assert names >= set(self._bucket.named())
        log = sum(stored.size for stored in head.log.objects())
        return head.state.size, log, sorted(names - set(self._bucket.named()))


class _Manager(BaseManager):
    pass


_Manager.register("Services", Services)


def run(folder: Path, environ: Mapping[str, str], ahead: timedelta) -> RunResult:
    """One run of the sync in a folder, that much later than it is."""
    project = load_project(folder, environ=environ)
    with open_session(project) as session:
        options = Options(clock=FakeClock(ahead=ahead), threads=1)
        return next(run_jobs(jobs_of(project, project.spec.syncs, options, Silent()), session))


def waits_to_run(folder: Path, environ: Mapping[str, str], ahead: timedelta) -> None:
    """The same in a process of its own, as soon as it may; never, if the process that lets it has ended before."""
    parent = multiprocessing.parent_process()
    assert parent
    while not (folder / "go").exists():
        parent.join(0.005)
        if not parent.is_alive():
            return
    run(folder, environ, ahead)


@dataclass
class Tenth:
    """The runs of a tenth: sums, also of what was there whenever somebody looked."""

    runs: int = 0
    killed: int = 0
    failed: int = 0
    cpu_s: float = 0.0
    rows: int = 0
    up: int = 0
    writes: int = 0
    looks: int = 0
    at_rest: int = 0
    base: int = 0  # the largest, as is the log
    log: int = 0
    unnamed: list[str] = field(default_factory=list)  # what lay there after a run that ended
    ledger: int = 0  # when it ended
    local: int = 0

    def cells(self) -> list[str]:
        n = self.runs - self.killed
        return [
            f"{1000 * self.cpu_s / n:,.0f} ms", f"{self.rows / n:,.0f}", f"{self.up / self.runs:,.0f}",
            f"{self.writes / self.runs:.1f}", f"{self.at_rest / self.looks:,.0f}", f"{self.local / self.looks:,.0f}",
            str(self.killed),
        ]  # fmt: skip


HEADING = ("kind", "runs", "CPU", "rows read", "bytes up", "writes", "bytes at rest", "local bytes", "killed")


@dataclass
class Soak:
    """One kind in one place: `shared` by two machines, or the folder of one."""

    name: str
    shared: bool
    folder: Path
    runs: int
    rows: int
    chance: random.Random
    environ: dict[str, str] = field(default_factory=lambda: {"BRAZE_API_KEY": KEY})
    tenths: list[Tenth] = field(default_factory=list)

    def begin(self, services: Any) -> None:
        self.services = services
        kind = KINDS[self.name]
        braze, bucket, environ = services.start(kind.rejected)
        self.environ |= environ
        self.machines = []
        for machine in MACHINES[: 1 + self.shared]:
            place = type("Braze", (), {"url": braze})()  # its address is all that a project needs
            shop = Shop(self.folder / machine, place, state={"path": bucket} if self.shared else {})
            shop.engine = {"type": "duckdb", "path": "../warehouse.duckdb"}
            shop.sync("it", kind.sql, **kind.options)
            self.machines.append(shop)
        self.write(kind.first, 0)

    def write(self, sql: str, number: int) -> None:
        at = FakeClock(ahead=number * EVERY).utc().replace(tzinfo=None)
        values = {"rows": self.rows, "run": number, "at": at}
        with database(self.folder / "warehouse.duckdb") as connection:
            connection.execute(sql, {name: value for name, value in values.items() if f"${name}" in sql})

    def go_on(self) -> Iterator[Tenth]:
        """All runs, a tenth after the other."""
        run(self.machines[0].folder, self.environ, timedelta())
        before, size = self.services.taken(), self.runs // TENTHS
        for number in range(1, self.runs + 1):
            if (number - 1) % size == 0:
                self.tenths.append(Tenth())
            last = self.tenths[-1]
            was_killed = self.one(number, last)
            if self.shared and not was_killed:
                base, log, unnamed = self.services.state()
                last.base, last.log = max(last.base, base), max(last.log, log)
                last.unnamed += unnamed
            if number % max(1, size // LOOKS) == 0:
                last.looks += 1
                last.at_rest += self.services.taken()[1]
                last.local += sum(p.stat().st_size for p in self.folder.glob("*/.retl/**/*") if p.is_file())
            if number % size == 0:
                last.ledger = self.services.ledger()
                now = self.services.taken()
                last.up, last.writes, before = now[0] - before[0], now[2] - before[2], now
                yield last

    def one(self, number: int, tenth: Tenth) -> bool:
        """A run; whether it was killed."""
        for sql in KINDS[self.name].moves:
            self.write(sql, number)
        folder = self.machines[-1 if self.chance.random() < 0.1 else 0].folder
        tenth.runs += 1
        if self.shared and self.chance.random() < 0.05:
            self.kill(folder, number)
            tenth.killed += 1
            return True
        began_s = time.process_time()
        result = run(folder, self.environ, number * EVERY)
        tenth.cpu_s += time.process_time() - began_s
        tenth.failed += result.status not in ("success", "incomplete")
        assert result.plan, result.errors
        tenth.rows += result.plan.rows
        return False

    def kill(self, folder: Path, number: int) -> None:
        """A run that is killed at one of its writes to the store."""
        with Forked(waits_to_run, folder, self.environ, number * EVERY) as process:
            self.services.kill_at_write(self.chance.randrange(1, 7), process.pid)
            (folder / "go").touch()
            process.wait()
            self.services.kill_at_write(0, 0)
            self.services.settle()
        (folder / "go").unlink()

    def grown(self) -> list[str]:
        """What has grown since there was something to look through, with the figures."""
        flat = self.tenths[FLAT_FROM:]
        figures = {
            "CPU": [one.cpu_s / max(1, one.runs - one.killed) for one in flat],
            "rows read": [one.rows / max(1, one.runs - one.killed) for one in flat],
            "bytes up": [one.up / one.runs for one in flat],
            "bytes at rest": [one.at_rest / one.looks for one in flat],
            "local bytes": [one.local / one.looks for one in flat],
        }
        return [f"{what} {_ratio(of):.2f}x" for what, of in figures.items() if _ratio(of) > 1 + MAY_GROW]


def _ratio(figures: Sequence[float]) -> float:
    """The second half to the first: both have runs of all sorts, such as those that write a new base."""
    half = len(figures) // 2
    first, second = sum(figures[:half]) / half, sum(figures[-half:]) / half
    return second / first if first else 1.0


@contextmanager
def services() -> Iterator[Any]:
    with chdir(Path(__file__).parents[1]), _Manager(ctx=multiprocessing.get_context("forkserver")) as manager:
        yield manager.Services()


def soak(name: str, shared: bool, runs: int, rows: int, seed: int = 1) -> Iterator[Tenth | Soak]:
    """The tenths of one kind as they end, and then all of it."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, services() as there:
        one = Soak(name, shared, Path(folder), runs, rows, random.Random(f"{name} {seed}"))
        one.begin(there)
        yield from one.go_on()
        yield one


def main() -> None:
    parser = argparse.ArgumentParser(description="Many runs on a simulated clock: nothing may grow with their number.")
    parser.add_argument("--runs", type=int, default=1000, help="of each kind")
    parser.add_argument("--rows", type=int, default=20_000, help="of the models that stay the same size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--place", choices=["shared", "local"])
    asked = parser.parse_args()
    print(f"seed {asked.seed}\n| {' | '.join(HEADING)} |\n|{'---|' * len(HEADING)}", flush=True)
    grown = 0
    for place in [asked.place] if asked.place else ["shared", "local"]:
        for name in [asked.only] if asked.only else KINDS:
            for number, found in enumerate(soak(name, place == "shared", asked.runs, asked.rows, asked.seed), 1):
                if isinstance(found, Tenth):
                    until = number * asked.runs // TENTHS
                    print(f"| {name}, {place} | {until:,} | {' | '.join(found.cells())} |", flush=True)
                else:
                    more = found.grown()
                    grown += bool(more)
                    print(f"{name}, {place}: {'grows: ' + ', '.join(more) if more else 'flat'}", flush=True)
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
