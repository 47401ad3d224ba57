"""How fast `retl` is, each figure beside its yardstick of the same run: make bench

Prints a table with a verdict for each line, and writes bench/RESULTS.md. Runs for some ten minutes; `--sizes 1 10 50`
takes 50 million rows too, `--only collect start` a part of it (see PARTS), `--in-spark 1` compares a million rows in
Spark. `--before REV` measures the code of another commit, too, line by line in turns (see BESIDE), and says how the
figure of each line compares with its. Everything it makes lies in .bench/.
"""

import argparse
import compileall
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import many, spark, warehouses
from bench.peers.compare import make_table, run_peer, sink, stats
from bench.peers.venvs import ROOT, python_of
from reverse_etl.state.erasures import Erasures

WORK = ROOT / ".bench"
CERTIFICATE = WORK / "certificate"
RETL = [sys.executable, "-m", "reverse_etl"]
UNCHECKED = [sys.executable, "-m", "bench.unchecked"]
CEILING = 1000  # requests a second, of 75 rows: Braze's own limit
SENDING_S = 60
COLLECT_S = 10
WIDE_ROWS = 200_000
SERVERS = {"sail": "Sail", "spark": "Apache Spark"}  # that rows are compared in, each a part
PARTS = (
    *("diff", "erased", "checks", "ledger", "engines", *SERVERS, "wide", "sending", "many", "collect", "start"),
    "peers",
)
BESIDE = ("diff", "erased", "checks", "ledger", "wide", "sending", "many", "start")  # also of an earlier commit
BEFORE: ContextVar[Path | None] = ContextVar("BEFORE", default=None)  # the code that is measured, if it is not ours
TICKS = os.sysconf("SC_CLK_TCK")
MODEL = """select * replace (case when {{ var('changed', 0) }} = 1 and hash(external_id) % 100 = 7
    then text_0 || '!' else text_0 end as text_0) from users"""


@dataclass(frozen=True)
class Sample:
    at: float
    cpu_s: float
    resident_mb: float


@dataclass
class Measured:
    """A process from its start to its end; `samples` are taken ten times a second."""

    wall_s: float = 0.0
    began_at: float = 0.0  # unix seconds
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    samples: list[Sample] = field(default_factory=list)


def measure(command: Sequence[str | Path], cwd: Path, url: str = "https://127.0.0.1:9") -> Measured:
    """Run a command to its end, in a project of the bench or beside it. Ends the bench if the command fails."""
    paths = os.pathsep.join(str(path) for path in (BEFORE.get(), ROOT) if path)
    environ = {**os.environ, "SINK": url, "REQUESTS_CA_BUNDLE": str(CERTIFICATE / "ca.pem"), "PYTHONPATH": paths}
    found, began, done = Measured(began_at=time.time()), time.monotonic(), threading.Event()
    with (WORK / "last.log").open("w") as log:
        process = subprocess.Popen([str(part) for part in command], cwd=cwd, env=environ, stdout=log, stderr=log)
        sampler = threading.Thread(target=_sample, args=(process.pid, found.samples, done))
        sampler.start()
        _, status, used = os.wait4(process.pid, 0)
        done.set()
        sampler.join()
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed: {(WORK / 'last.log').read_text()}")
    found.wall_s, found.cpu_s = time.monotonic() - began, used.ru_utime + used.ru_stime
    found.peak_mb = used.ru_maxrss * 1024 / 1e6
    return found


def _sample(pid: int, samples: list[Sample], done: threading.Event) -> None:
    while not done.wait(0.1):
        try:
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            return
        cpu_s = (int(times[11]) + int(times[12])) / TICKS
        samples.append(Sample(time.time(), cpu_s, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))


@dataclass(frozen=True)
class Line:
    """A line of the table; `ratio` and `bound` are for the verdict, which is none without a bound. `before` is the same
    line, measured with the code of an earlier commit."""

    what: str
    measured: Measured
    rows: int = 0
    ratio: float | None = None
    yardstick: str = ""
    bound: float | None = None
    at_least: bool = False
    unit: str = "x"
    before: "Line | None" = None

    @property
    def compared(self) -> str:
        """What was measured, in multiples of what it was before: seconds if there are any, and otherwise the figure."""
        if self.before is None:
            return ""
        now, then = self.measured, self.before.measured
        if now.cpu_s and then.cpu_s:
            return f"{now.wall_s / then.wall_s:.2f}x wall, {now.cpu_s / then.cpu_s:.2f}x CPU"
        return f"{self.ratio / self.before.ratio:.2f}x" if self.ratio and self.before.ratio else ""

    @property
    def verdict(self) -> str:
        if self.bound is None or self.ratio is None:
            return ""
        good = self.ratio >= self.bound if self.at_least else self.ratio <= self.bound
        asked = f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"
        return f"{'met' if good else '**not met**'}: {asked}"

    def cells(self) -> Iterator[str]:
        m = self.measured
        yield self.what
        yield f"{m.wall_s:.1f}" if m.wall_s else ""
        yield f"{m.cpu_s:.1f}" if m.cpu_s else ""
        yield f"{m.peak_mb:,.0f}" if m.peak_mb else ""
        yield f"{self.rows / m.wall_s:,.0f}" if self.rows and m.wall_s else ""
        yield f"{self.ratio:.2f}{self.unit} {self.yardstick}" if self.ratio is not None else ""
        yield self.verdict
        yield self.compared


def against(what: str, measured: Measured, yard: Measured, name: str, bound: float, rows: int) -> Iterator[Line]:
    """Two lines: wall and CPU seconds against those of a yardstick."""
    yield Line(what, measured, rows, measured.wall_s / yard.wall_s, f"wall of {name}", bound)
    yield Line(f"{what}: CPU", Measured(), 0, measured.cpu_s / yard.cpu_s, f"CPU of {name}", bound)


# --- the parts -------------------------------------------------------------------------------------------------------


def project(rows: int) -> Path:
    """A fresh project over a table of so many rows."""
    table = WORK / f"users-{rows}.duckdb"
    make_table(table, rows)
    return project_over(own(f"project-{rows}"), table, MODEL)


def own(name: str) -> Path:
    """A folder of the bench for the code that is measured."""
    return (BEFORE.get() or WORK) / name


def project_over(folder: Path, table: Path, model: str) -> Path:
    """A fresh project in a folder, with one model over a table."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "people.sql").write_text(model)
    (folder / "syncs.yml").write_text(
        f"""version: 1
targets:
  bench:
    warehouse: {{type: duckdb, path: {table}}}
    destination: {{type: braze, endpoint: "{{{{ env_var('SINK') }}}}", api_key: "{{{{ env_var('KEY', 'k') }}}}"}}
syncs:
  - {{name: people, model: people, mode: users_track, track_record_type: attributes, primary_key: external_id}}
"""
    )
    return folder


def duckdb_script(sql: str) -> list[str | Path]:
    """DuckDB alone, with the memory that retl gives it."""
    settings = f"SET memory_limit = '2000MB'; SET temp_directory = '{WORK / 'spill'}'"
    code = f"import duckdb; c = duckdb.connect(); c.execute({settings!r}); c.execute({sql!r})"
    return [sys.executable, "-c", code]


def diff(rows: int) -> Iterator[Line]:
    """What it costs to find out what has changed."""
    folder, million = project(rows), f"{rows // 1_000_000}M"
    table, state = WORK / f"users-{rows}.duckdb", folder / ".retl/bench/people/state.duckdb"
    parquet = WORK / "out.parquet"
    attach = f"ATTACH '{table}' AS w (READ_ONLY); "
    copy = measure(duckdb_script(f"{attach} COPY (SELECT * FROM w.users) TO '{parquet}'"), WORK)
    parquet.unlink()
    yield Line(f"{million}: COPY model TO parquet (yardstick)", copy, rows)
    baseline = measure([*RETL, "state", "baseline", "people", "--yes"], folder)
    bound = 2.0 if rows >= 10_000_000 else None  # of fewer rows, the start of a command weighs more
    yield Line(f"{million}: state baseline", baseline, rows, baseline.wall_s / copy.wall_s, "wall of COPY", bound)
    size = state.stat().st_size
    bare = measure(duckdb_script(f"{attach} ATTACH '{state}' AS s (READ_ONLY); {bare_diff(table)}"), WORK)
    yield Line(f"{million}: bare diff of two tables (yardstick)", bare, rows, bare.wall_s / copy.wall_s, "wall of COPY")
    unchanged = measure([*RETL, "sync", "people"], folder)
    yield from against(f"{million}: sync, nothing changed", unchanged, copy, "COPY", 2.0, rows)
    little = measure([*RETL, "sync", "people", "--memory-limit", "512MB"], folder)
    yield Line(f"{million}: the same in 512MB", little, rows, little.wall_s / unchanged.wall_s, "wall of it", 2.0)
    with sink(CERTIFICATE, "--latency", "0.02") as url:
        changed = measure([*RETL, "sync", "people", "--vars", "{changed: 1}"], folder, url)
    yield from against(f"{million}: sync, 1 % changed and sent", changed, copy, "COPY", 2.3, rows)
    peak = max(unchanged.peak_mb, changed.peak_mb)
    yield Line(f"{million}: peak memory", Measured(peak_mb=peak), 0, peak / 1000, "", 2.5, unit=" GB")
    plain = WORK / "plain.duckdb"
    plain.unlink(missing_ok=True)
    measure(duckdb_script(f"{attach} ATTACH '{plain}' AS p; CREATE TABLE p.t AS SELECT * FROM w.users"), WORK)
    ratio = size / plain.stat().st_size
    plain.unlink()
    yield Line(f"{million}: state at rest", Measured(), 0, ratio, "size of the table", 1.2)
    left = sorted(path.name for path in state.parent.iterdir())
    assert left == ["ledger", "lock", "state.duckdb"], left


def engines(rows: int, scaled: dict[int, float]) -> Iterator[Line]:
    """What it costs to find out that nothing has changed, where the model runs in Postgres."""
    million, table = f"{rows // 1_000_000}M", WORK / f"users-{rows}.duckdb"
    best = dict[str, Measured]()
    for name, found in warehouses.measured(rows, project, measure, table, RETL):
        best[name] = min(best.get(name, found), found, key=lambda one: one.wall_s)
    file, ours, driver = best["duckdb"], best["postgres"], best["driver"]
    scaled[rows] = ours.wall_s / rows
    yield Line(f"{million} from Postgres: driver alone (yardstick)", driver, rows)
    what = f"{million} from Postgres: sync, nothing changed"
    yield Line(what, ours, rows, ours.wall_s / driver.wall_s, "wall of the driver", 1.3)
    yield Line(f"{what}: CPU", Measured(), 0, ours.cpu_s / file.cpu_s, "CPU with a DuckDB file", 5.0)
    bound = 0.7 if rows <= 1_000_000 else 2.5
    yield Line(f"{what}: peak memory", Measured(peak_mb=ours.peak_mb), 0, ours.peak_mb / 1000, "", bound, unit=" GB")


def compared(rows: int, server: str) -> Iterator[Line]:
    """The same, where rows are compared in Spark."""
    million, table = f"{rows // 1_000_000}M", WORK / f"users-{rows}.duckdb"
    found = dict(spark.measured(rows, project, measure, table, RETL, server))
    bare, ours = (min((found[name], found[f"{name} again"]), key=lambda one: one.wall_s) for name in ("bare", "retl"))
    what = f"{million} compared in {server}"
    yield Line(f"{what}: state baseline", found["baseline"], rows)
    yield Line(f"{what}: bare diff of two tables (yardstick)", bare, rows)
    yield from against(f"{what}: sync, nothing changed", ours, bare, "the bare diff", 1.3, rows)
    yield Line(f"{what}: nothing changed: to retl", Measured(), 0, found["bytes"] / 1e6, "", 1.0, unit=" MB")
    yield Line(f"{what}: plan, 1 % changed", found["changed"], rows)
    yield Line(f"{what}: plan, 1 % changed: to retl", Measured(), 0, found["changed bytes"] / 1e6, unit=" MB")


def erased(rows: int) -> Iterator[Line]:
    """What it costs that a million users were erased, none of whom the model has."""
    folder, million, found = project(rows), f"{rows // 1_000_000}M", dict[bool, list[Measured]]()
    planned = [*RETL, "plan", "people", "--vars", "{changed: 1}"]
    measure([*RETL, "state", "baseline", "people", "--yes"], folder)
    for _ in range(3):
        for is_erased in (False, True):
            shutil.rmtree(folder / ".retl/bench/.erased", ignore_errors=True)
            if is_erased:
                erase_a_million(Erasures(folder / ".retl/bench/.erased"))
            measure([*RETL, "sync", "people"], folder)  # which compares the state with them
            found.setdefault(is_erased, []).append(measure(planned, folder))
    best = {is_erased: min(runs, key=lambda m: m.cpu_s) for is_erased, runs in found.items()}
    yield Line(f"{million}: plan, 1 % changed (yardstick)", best[False], rows)
    ratio = best[True].cpu_s / best[False].cpu_s
    yield Line(f"{million}: the same, and 1M users erased: CPU", best[True], rows, ratio, "CPU of it", 1.05)


def erase_a_million(erasures: Erasures) -> None:
    assert erasures.key  # which is made before there are hashes
    erasures.record((f"{number * 1_461_501:040x}" for number in range(1_000_000)), datetime.now(UTC))


def checks(rows: int) -> Iterator[Line]:
    """What it costs a plan that rows are judged by the rules, and that a million users were erased."""
    folder, million = project(rows), f"{rows // 1_000_000}M"
    erase_a_million(Erasures(folder / ".retl/bench/.erased"))

    def plan(how: Sequence[str], *options: str) -> Measured:
        return measure([*how, "plan", "people", *options], folder)

    for what, options in (("a first run", ()), ("1 % changed", ("--vars", "{changed: 1}"))):
        if options:
            measure([*RETL, "state", "baseline", "people", "--yes"], folder)
        checked, unchecked = in_turns(lambda how, options=options: plan(how, *options), RETL, UNCHECKED, times=5)
        yield Line(f"{million}: plan of {what}, without rules and erasures (yardstick)", unchecked, rows)
        ratio = checked.cpu_s / unchecked.cpu_s
        yield Line(f"{million}: plan of {what}, with both: CPU", checked, rows, ratio, "CPU of it", 1.15)


def ledger(rows: int) -> Iterator[Line]:
    """What it costs to write down what a run has changed, one cell of each row, and how much of the disk that takes."""
    table, million = WORK / f"users-{rows}.duckdb", f"{rows // 1_000_000}M"
    make_table(table, rows)
    for what, cell in (
        ("numbers", "count_0 + {{ var('step', 0) }} as count_0"),
        # No file has them in less than 12 bytes, without their keys: two texts of 12 digits of 4 bits each.
        ("random texts", "left(md5(text_0 || {{ var('step', 0) }}), 12) as text_0"),
    ):
        kept, without, files = with_and_without_ledger(table, f"select * replace ({cell}) from users")
        yield Line(f"{million} of {what} changed and sent, without a ledger (yardstick)", without, rows)
        name = f"{million} of {what} changed and sent, with a ledger"
        yield Line(name, kept, rows, kept.wall_s / without.wall_s, "wall of it", 1.05)
        yield Line(f"{name}: CPU", Measured(), 0, kept.cpu_s / without.cpu_s, "CPU of it")
        size = sum(file.stat().st_size for file in files) / (len(files) / 2) / rows
        yield Line(f"{million} of {what} changed: a cell in the ledger", Measured(), 0, size, "", 12, unit=" bytes")


def with_and_without_ledger(table: Path, model: str) -> tuple[Measured, Measured, list[Path]]:
    """The same runs with a ledger and without, each over a model that differs by `step`; and its files."""
    spec, folders, steps = "primary_key: external_id", {}, {True: 0, False: 0}
    with sink(CERTIFICATE, "--latency", "0.02") as url:
        for is_kept in steps:
            folders[is_kept] = folder = project_over(own(f"project-ledger-{is_kept}"), table, model)
            if not is_kept:
                file = folder / "syncs.yml"
                file.write_text(file.read_text().replace(spec, f"{spec}, ledger: {{keep: 0}}"))
            measure([*RETL, "state", "baseline", "people", "--yes"], folder, url)

        def run(is_kept: bool) -> Measured:
            steps[is_kept] += 1
            return measure([*RETL, "sync", "people", "--vars", f"{{step: {steps[is_kept]}}}"], folders[is_kept], url)

        kept, without = in_turns(run, True, False)
    files = sorted((folders[True] / ".retl/bench/people/ledger").iterdir())[2:]  # the first two are of the baseline
    assert len(files) == 2 * steps[True], files
    return kept, without, files


def in_turns(run: Callable[[Any], Measured], *choices: Any, times: int = 3) -> list[Measured]:
    """Of each choice, the run that took the least CPU time: others use the machine, too."""
    found = [[run(choice) for choice in choices] for _ in range(times)]
    return [min(runs, key=lambda one: one.cpu_s) for runs in zip(*found, strict=True)]


def bare_diff(table: Path) -> str:
    import duckdb

    with duckdb.connect(table, read_only=True) as connection:
        names = [name for name, *_ in connection.execute("DESCRIBE users").fetchall() if name != "external_id"]
    differs = " OR ".join(f"n.{name} IS DISTINCT FROM o.{name}" for name in names)
    on = "ON n.external_id = o.external_id"
    return f"SELECT count(*) FROM w.users n LEFT JOIN s.state o {on} WHERE o.external_id IS NULL OR {differs}"


def sending() -> Iterator[Line]:
    """A minute and more at Braze's ceiling: TLS, 100 ms to an answer, 75 rows of 20 columns to a request."""
    rows = 75 * CEILING * (SENDING_S + 12)
    folder = project(rows)
    with sink(CERTIFICATE, "--latency", "0.1") as url, largest(folder / ".retl/bench/people/outbox.duckdb") as sizes:
        run = measure([*RETL, "sync", "people"], folder, url)
        seen = stats(url, CERTIFICATE)
    first, last = int(seen["first"]), int(seen["last"])
    per_second = [seen["per_second"].get(str(second), 0) for second in range(first, last + 1)]
    windows = [sum(per_second[n : n + SENDING_S]) / SENDING_S for n in range(1, len(per_second) - SENDING_S)]
    rate, began = max(windows), first + 1 + windows.index(max(windows))
    part = [sample for sample in run.samples if began <= sample.at < began + SENDING_S]
    cores = (part[-1].cpu_s - part[0].cpu_s) / (part[-1].at - part[0].at)
    growth = part[-1].resident_mb - part[len(part) // 6].resident_mb
    yield Line("first run, to the last row", run, rows)
    share = rate / CEILING * 100
    yield Line(
        f"requests/s over {SENDING_S} s",
        Measured(),
        0,
        share,
        f"of 1,000/s, {seen['refused']} refused",
        99,
        at_least=True,
        unit=" %",
    )
    yield Line("cores while sending", Measured(), 0, cores, "", 1.3, unit="")
    yield Line("memory gained while sending", Measured(), 0, growth, "", 50, unit=" MB")
    yield Line(
        f"{rows / 1e6:.1f}M: outbox of a first run", Measured(), 0, sizes[-1] / rows / 1000, "", 0.33, unit=" KB a row"
    )
    assert seen["rows"] == rows
    yield from bare_loops(cores / rate)
    yield from on_half_a_core()
    copy, plan = first_request(project(1_000_000), WORK / "users-1000000.duckdb")
    yield from against("1M: a first run, to its first request", plan, copy, "COPY", 3.0, 1_000_000)


def first_request(folder: Path, table: Path) -> tuple[Measured, Measured]:
    """COPY of a table; a first run over it, to its first request, with the memory that all of it took."""
    parquet = WORK / "out.parquet"
    copy = measure(duckdb_script(f"ATTACH '{table}' AS w (READ_ONLY); COPY (FROM w.users) TO '{parquet}'"), WORK)
    parquet.unlink()
    with sink(CERTIFICATE, "--latency", "0.02") as url:
        run = measure([*RETL, "sync", "people"], folder, url)
        first = stats(url, CERTIFICATE)["first"]
    cpu_s = max((sample.cpu_s for sample in run.samples if sample.at <= first), default=0.0)
    plan = Measured(wall_s=first - run.began_at, cpu_s=cpu_s, peak_mb=run.peak_mb)
    return copy, plan


@contextmanager
def largest(file: Path) -> Iterator[list[int]]:
    """How many bytes a file has at most within the block: the last of the list, after it."""
    sizes, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            with suppress(FileNotFoundError):
                sizes.append(max(sizes[-1], file.stat().st_size))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sizes
    finally:
        done.set()
        watcher.join()


def wide() -> Iterator[Line]:
    """First runs over rows of many columns, and of columns that are JSON."""
    kinds = ("'text ' || {}", "CAST({} AS INTEGER)", "{} / 100.0::DOUBLE", "TIMESTAMP '2026-01-01' + to_seconds({})")
    numbers = [f"CAST(hash(i + {n}) % 100000 AS BIGINT)" for n in range(299)]
    columns = [f"{kinds[n % 4].format(number)} AS column_{n}" for n, number in enumerate(numbers)]
    documents = [
        f"json_object('plan', 'p' || {n}, 'n', {n}, 'tags', ['a', 'b'], 'in', {{'x': {n}, 'y': 'z'}}) AS json_{column}"
        for column, n in enumerate(numbers[:20])
    ]
    for what, listed in (("300 columns", columns), ("20 columns of JSON", documents)):
        table = WORK / f"wide-{len(listed)}-{WIDE_ROWS}.duckdb"
        if not table.exists():
            select = f"SELECT 'user-' || i AS external_id, {', '.join(listed)} FROM range({WIDE_ROWS}) AS numbers(i)"
            measure(duckdb_script(f"ATTACH '{table}' AS w; CREATE TABLE w.users AS {select}"), WORK)
        folder = project_over(own("project-wide"), table, "select * from users")
        copy, plan = first_request(folder, table)
        whose = f"{WIDE_ROWS:,} rows, {what}"
        yield Line(f"{whose}: COPY TO parquet (yardstick)", copy, WIDE_ROWS)
        name = f"{whose}: a first run, to its first request"
        yield from against(name, plan, copy, "COPY", 6.0, WIDE_ROWS)


def many_syncs() -> Iterator[Line]:
    """Twenty first runs in one command."""
    table = WORK / f"users-{many.ROWS}.duckdb"
    make_table(table, many.ROWS)
    folder, limits_s = many.project(own("many"), table), many.limits_alone_s(CEILING)
    with sink(CERTIFICATE, "--latency", "0.1") as url:
        run = measure([*RETL, "sync", "--all"], folder, url)
        seen = stats(url, CERTIFICATE)
    rows = many.SYNCS * many.ROWS
    assert seen["rows"] == rows
    yield Line(f"what the rate limit needs for {seen['requests']:,.0f} requests (yardstick)", Measured(wall_s=limits_s))
    what = f"{many.SYNCS} syncs x {many.ROWS:,} rows, all new"
    yield Line(what, run, rows, run.wall_s / limits_s, "of what the limit needs", 1.1)
    yield Line(f"{what}: peak memory", Measured(peak_mb=run.peak_mb), 0, run.peak_mb / 1000, "", 2.5, unit=" GB")
    yield from unchanged_syncs()


def unchanged_syncs() -> Iterator[Line]:
    """A hundred syncs in one command, of which nothing has changed; and what is said of three hundred."""
    table = WORK / f"users-{many.UNCHANGED_ROWS}.duckdb"
    make_table(table, many.UNCHANGED_ROWS)
    folder, asked = many.project(own("unchanged"), table, many.UNCHANGED_SYNCS), [*RETL, "sync", "--all"]
    opens = [sys.executable, "-c", many.open_files(table)]
    with sink(CERTIFICATE, "--latency", "0.02") as url:
        measure(asked, folder, url)
        bare, run = in_turns(lambda command: measure(command, folder, url), opens, asked)
        one_s = bare.wall_s / many.UNCHANGED_SYNCS
        yield Line(f"{many.UNCHANGED_SYNCS} DuckDBs that start and read a file (yardstick)", bare)
        what = f"{many.UNCHANGED_SYNCS} syncs x {many.UNCHANGED_ROWS:,} rows, nothing changed"
        yield Line(what, run, 0, run.wall_s / bare.wall_s, "wall of these", many.AT_MOST["sync"])
        folder = many.project(own("listed"), table, many.LISTED_SYNCS, "@yearly")
        measure([*RETL, "run-due"], folder, url)
        for name in ("status", "history", "run-due"):
            (said,) = in_turns(lambda command: measure([*RETL, command], folder, url), name)
            what = f"retl {name} of {many.LISTED_SYNCS} syncs"
            yield Line(what, said, 0, said.wall_s / one_s, "wall of one of these", many.AT_MOST[name])


def bare_loops(our_cpu_s: float) -> Iterator[Line]:
    """Clients alone, with bodies that are ready and no limit; `our_cpu_s` is what a request costs retl."""
    count = 30_000
    clients = {
        "bare loop of `requests`": ([sys.executable, "-m", "bench.bare"], 0.45),
        "bare libcurl, in C": ([python_of("bench"), "-m", "bench.bare_curl"], None),
    }
    for name, (command, bound) in clients.items():
        with sink(CERTIFICATE, "--latency", "0.1", "--requests", "1000000") as url:
            bare = measure([*command, "--url", url, "--requests", str(count)], WORK, url)
            seen = stats(url, CERTIFICATE)
        assert seen["requests"] == count
        yield Line(f"{name}, ready-made bodies (yardstick)", bare, count * 75)
        what = f"CPU of a request, read and written down too, by {name}"
        yield Line(what, Measured(), 0, our_cpu_s / bare.cpu_s * count, "CPU of it", bound)


def on_half_a_core() -> Iterator[Line]:
    """The same on one core that somebody else keeps busy: as many requests as it takes, with no limit in the way."""
    rows = 75 * 12_000
    folder, core = project(rows), min(os.sched_getaffinity(0))
    alone = (
        f"import os, sys; os.sched_setaffinity(0, [{core}]); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    pinned: list[str | Path] = [sys.executable, "-c", alone]
    with sink(CERTIFICATE, "--latency", "0.1") as url:
        busy = subprocess.Popen([*pinned, "-c", "while True: pass"])
        try:
            run = measure([*pinned, *RETL[1:], "sync", "people"], folder, url)
        finally:
            busy.kill()
            busy.wait()
        seen = stats(url, CERTIFICATE)
    assert seen["rows"] == rows
    rate = seen["requests"] / (seen["last"] - seen["first"])
    yield Line(
        "on one core, shared with a busy loop: requests/s", run, rows, rate / CEILING * 100, "of 1,000/s", unit=" %"
    )


def collect() -> Iterator[Line]:
    """Webhooks: 64 clients, beside the same server that writes nothing. The log becomes Parquet all five seconds."""
    for records, what in ((1, "an event per request"), (100, "100 events per request")):
        found: dict[bool, list[tuple[dict[str, float], Measured]]] = {}
        for _ in range(3):
            for is_kept in (False, True):
                found.setdefault(is_kept, []).append(collected(COLLECT_S, records, is_kept))
        best = {is_kept: max(runs, key=lambda run: rate(run[0])) for is_kept, runs in found.items()}
        yield collected_line(f"collect, {what}: the same server that writes nothing (yardstick)", *best[False])
        ratio = rate(best[True][0]) / rate(best[False][0])
        yield collected_line(f"collect, {what}", *best[True], ratio, "requests/s of it", 0.5)
    said, run = collected(6 * COLLECT_S, 1, True)
    yield collected_line(f"collect, an event per request, over {6 * COLLECT_S} s", said, run)
    growth = run.samples[-1].resident_mb - run.samples[len(run.samples) // 6].resident_mb
    yield Line("memory gained while collecting", Measured(), 0, growth, "", 50, unit=" MB")


def rate(said: dict[str, float]) -> float:
    return said["requests"] / said["seconds"]


def collected_line(
    what: str,
    said: dict[str, float],
    run: Measured,
    ratio: float | None = None,
    yardstick: str = "",
    bound: float | None = None,
) -> Line:
    """A line whose rows are records."""
    run.wall_s = said["seconds"]
    return Line(what, run, int(said["records"]), ratio, yardstick, bound, at_least=True)


def collected(seconds: int, records: int, is_kept: bool) -> tuple[dict[str, float], Measured]:
    """What clients were answered in so many seconds, and what it took of the collector. All of it is looked for."""
    folder, ready, run = WORK / "collected", WORK / "collect.json", Measured()
    shutil.rmtree(folder, ignore_errors=True)
    ready.unlink(missing_ok=True)
    options = [] if is_kept else ["--nothing"]
    command = [sys.executable, "-m", "bench.collect"]
    done = threading.Event()
    server = subprocess.Popen([*command, "serve", folder, "--ready-file", ready, *options], cwd=ROOT)
    while not ready.exists():
        assert server.poll() is None
        time.sleep(0.01)
    sampler = threading.Thread(target=_sample, args=(server.pid, run.samples, done))
    sampler.start()
    url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
    asked = [*command, "load", url, "--seconds", str(seconds), "--records", str(records)]
    said = json.loads(subprocess.run(asked, cwd=ROOT, check=True, capture_output=True).stdout)
    done.set()
    sampler.join()
    server.terminate()
    _, status, used = os.wait4(server.pid, 0)
    server.returncode = os.waitstatus_to_exitcode(status)
    assert server.returncode == 0
    run.cpu_s, run.peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6
    if is_kept:
        assert kept_in(folder) >= said["records"]
    return said, run


def kept_in(folder: Path) -> int:
    import duckdb

    with duckdb.connect() as connection:
        sql = f"SELECT count(DISTINCT record_id) FROM read_parquet('{folder}/postback/currents/*.parquet')"
        return int(connection.execute(sql).fetchall()[0][0])


def start() -> Iterator[Line]:
    best = {}
    for name, command in (("help", [*RETL, "--help"]), ("typer", [sys.executable, "-c", "import typer"])):
        best[name] = min((measure(command, WORK) for _ in range(7)), key=lambda m: m.wall_s)
    ratio = best["help"].wall_s / best["typer"].wall_s
    yield Line("retl --help", best["help"], 0, ratio, "wall of `import typer`", 2.5)


def peers() -> Iterator[Line]:
    """The same rows to the same sink, with what users would pick instead."""
    rows, rates = 300_000, {}
    folder = project(rows)
    table, options = WORK / f"users-{rows}.duckdb", ["--latency", "0.1"]
    with sink(CERTIFICATE, *options) as url:
        ours = measure([*RETL, "sync", "people"], folder, url)
    yield Line("retl, 300,000 rows", ours, rows)
    for peer, of, bound in (("script", rows, 3.0), ("dlt", rows, 20.0), ("drt", 30_000, 20.0)):
        said = run_peer(peer, table, of, CERTIFICATE, options)
        found = Measured(wall_s=said["wall_s"], cpu_s=said["cpu_s"], peak_mb=said["peak_mb"])
        rates[peer] = of / found.wall_s
        ratio = rows / ours.wall_s / rates[peer]
        yield Line(f"{peer}, {of:,} rows", found, of, ratio, "its rows/s, by retl", bound, at_least=True)


# --- the table -------------------------------------------------------------------------------------------------------

HEADING = ("", "wall s", "CPU s", "peak MB", "rows/s", "ratio", "verdict", "commit before")


def lines(parts: Sequence[str], sizes: Sequence[int], in_spark: int, before: Path | None = None) -> Iterator[Line]:
    """All lines of some parts; so many millions of rows are compared in Spark. With the code of an earlier commit,
    those of BESIDE are measured with it, too."""

    def measured(name: str, part: Callable[[], Iterator[Line]]) -> Iterator[Line]:
        return part() if before is None or name not in BESIDE else in_lockstep(part, before)

    scaled: dict[int, float] = {}
    if "diff" in parts:
        for size in sizes:
            for line in measured("diff", partial(diff, size * 1_000_000)):
                if line.what.endswith("sync, nothing changed"):
                    scaled[size] = line.measured.wall_s / size
                yield line
        whole = [(sizes[0], sizes[-1])] if len(sizes) > 2 else []
        for small, large in [*pairwise(sizes), *whole]:
            ratio = scaled[large] / scaled[small]
            yield Line(f"{small}M -> {large}M: time per row", Measured(), 0, ratio, "", 1.2)
    if "engines" in parts:
        per_row: dict[int, float] = {}
        for size in sizes:
            yield from engines(size * 1_000_000, per_row)
        for small, large in pairwise(per_row):
            what = f"{small // 1_000_000}M -> {large // 1_000_000}M from Postgres: time per row"
            yield Line(what, Measured(), 0, per_row[large] / per_row[small], "", 1.2)
    for part, server in SERVERS.items():
        if part in parts and server in spark.SERVERS:
            yield from compared(in_spark * 1_000_000, server)
    for name, part in (
        ("erased", partial(erased, sizes[-1] * 1_000_000)),
        ("checks", partial(checks, 1_000_000)),
        ("ledger", partial(ledger, 1_000_000)),
        ("wide", wide),
        ("sending", sending),
        ("many", many_syncs),
        ("collect", collect),
        ("start", start),
        ("peers", peers),
    ):
        if name in parts:
            yield from measured(name, part)


def in_lockstep(part: Callable[[], Iterator[Line]], before: Path) -> Iterator[Line]:
    """The lines of a part, each measured with the code of an earlier commit right after ours."""
    ours, theirs = part(), part()
    for line in ours:
        token = BEFORE.set(before)
        try:
            then = next(theirs, None)
        finally:
            BEFORE.reset(token)
        yield replace(line, before=then)


def code_of(revision: str) -> Path:
    """The code of a commit, in a folder whose name is that of the commit; made now if it is not there."""
    asked = ["git", "rev-parse", "--short", f"{revision}^{{commit}}"]
    commit = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    folder = WORK / f"before-{commit}"
    if not folder.exists():
        unfinished = folder.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        packed = subprocess.run(["git", "archive", commit, "reverse_etl"], cwd=ROOT, check=True, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(unfinished, filter="data")
        compileall.compile_dir(unfinished, quiet=1)
        unfinished.rename(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.run")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10], help="millions of rows")
    parser.add_argument("--in-spark", type=int, default=5, help="millions of rows that are compared there")
    parser.add_argument("--only", nargs="+", default=list(PARTS))
    parser.add_argument("--before", metavar="REV", help="measure the code of this commit, too, in turns with ours")
    parser.add_argument("--write", action="store_true", help="bench/RESULTS.md")
    asked = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(ROOT / "reverse_etl", quiet=1)  # as pip does: what is measured is not the compiler
    if {"diff", "ledger", "engines", *SERVERS, "wide", "sending", "many", "peers"} & set(asked.only) and not (
        CERTIFICATE / "ca.pem"
    ).exists():
        subprocess.run([python_of("bench"), "-m", "bench.certificate", CERTIFICATE], cwd=ROOT, check=True)
    text = [f"| {' | '.join(HEADING)} |", f"|{'---|' * len(HEADING)}"]
    print("\n".join(text), flush=True)
    before = code_of(asked.before) if asked.before else None
    for line in lines(asked.only, asked.sizes, asked.in_spark, before):
        text.append(f"| {' | '.join(line.cells())} |")
        print(text[-1], flush=True)
    if asked.write:
        write(text, [] if set(asked.only) == set(PARTS) else asked.only, before)


def write(text: list[str], parts: Sequence[str], before: Path | None = None) -> None:
    """The results; of `parts` alone, their lines replace those of the same names, or come after the others."""
    file = ROOT / "bench" / "RESULTS.md"
    about = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of a shared machine, {platform.system()}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "urllib3"))
    if before:
        versions += f", beside commit {before.name.removeprefix('before-')}"
    head = f"# What `make bench` measured\n\n{about}, Python {platform.python_version()}, {versions}.\n\n"
    if parts and file.exists():
        head, table = file.read_text().split("|", 1)
        for part in parts:  # it may be another machine, so each says when it was measured
            head = re.sub(rf"^`{part}`: .*\n\n", "", head, flags=re.MULTILINE) + f"`{part}`: {about}, {versions}.\n\n"
        new = {named(line): line for line in text}
        old = f"|{table}".splitlines()
        text = [*(new.pop(named(line), line) for line in old), *new.values()]
    file.write_text(head + "\n".join(text) + "\n")


def named(line: str) -> str:
    """What a line of the table is about."""
    return line.split("|")[1].strip()


if __name__ == "__main__":
    main()
