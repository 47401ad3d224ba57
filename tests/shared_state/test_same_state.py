"""Whatever happened: a machine that takes over has the state of the one that ran, table by table, and little is uploaded."""

import json
import shutil
import signal
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reverse_etl.errors import DataError
from reverse_etl.plan.actions import Intent
from reverse_etl.runs.forgetting import Forgetting, asked_for, forget
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.run import baseline, jobs_of
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.shared_state.local_copy import CopyFiles
from reverse_etl.shared_state.reading import fetch_state, look
from reverse_etl.state.edit import reset, resolve
from reverse_etl.state.opening import state_of
from reverse_etl.state.places import place_of
from tests.bucket import Bucket
from tests.ledger.replay import check, lines_of
from tests.processes import Forked
from tests.shop import KEY, FakeClock, Shop, examples

pytestmark = pytest.mark.long

Tables = dict[str, tuple[list[str], list[tuple[Any, ...]]]]
FOLDER = ".retl/test/it"
HOUR = timedelta(hours=1)


def tables(path: Path) -> Tables:
    """All that a state has: the columns and the rows of each table."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, Path(f"{path}.wal")):
            if file.exists():
                shutil.copy(file, folder)
        with duckdb.connect(Path(folder) / path.name) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
            found = {}
            for name in sorted(names):
                rows = connection.sql(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {name} ORDER BY ALL")
                types = connection.sql(f"FROM {name}")
                found[name] = ([f"{n} {t}" for n, t in zip(types.columns, types.types, strict=True)], rows.fetchall())
            return found


def in_store(bucket: Bucket) -> Tables:
    head, _ = look(bucket.objects())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.duckdb"
        fetch_state(bucket.objects(), head, path)
        return tables(path)


def shop_of(folder: Path, braze: Sandbox, bucket: Bucket | None) -> Shop:
    environ = {"BRAZE_API_KEY": KEY, **(bucket.environ if bucket else {})}
    return Shop(folder, braze, state={"path": bucket.url} if bucket else {}, environ=environ)


def model(rows: dict[str, str | None], column: str = "a", of: str = "VARCHAR") -> str:
    listed = ", ".join(f"('{user}', {'NULL' if value is None else repr(value)})" for user, value in rows.items())
    return f"SELECT external_id, CAST(v AS {of}) AS {column} FROM (VALUES {listed}) t(external_id, v)"


# --- the same as without a store ---------------------------------------------------------------------------------------

EVENTS = {
    "track_record_type": "events",
    "mode": "users_track",
    "primary_key": "n",
    "incremental": {"cursor": "time", "retention": "1 hour"},
}
ATTRIBUTES = {"skip_on_invalid_records": True, "guards": {"max_removed": "100%", "empty_model": False}}
HISTORY: list[tuple[str, dict[str, Any]]] = [
    (model({f"u{i}": str(i) for i in range(50)}), {}),
    (model({f"u{i}": str(i) for i in range(50)}), {}),
    (model({f"u{i}": str(i * 2) for i in range(60)}), {}),
    (model({**{f"u{i}": "x" for i in range(40)}, "": "invalid"}), {"on_removed": "clear"}),
    (model({f"u{i}": "x" for i in range(45)}, "b"), {}),
    (model({f"u{i}": str(i) for i in range(45)}, "b", "INTEGER"), {"accept": True}),
    (model({f"u{i}": str(i) for i in range(45)}, "b", "INTEGER"), {}),
    (model({f"u{i}": None for i in range(3000)}, "b"), {"accept": True}),
    (model({f"u{i}": "later" for i in range(0, 3000, 7)}, "b"), {}),
]


def without_chance(found: Tables) -> Tables:
    """Without times, and names that are drawn."""
    drawn = {
        "run_id",
        "counts",
        "_retl_run_id",
        "_retl_sent_at",
        "started_at",
        "finished_at",
        "scheduled_time",
        "rejected_at",
        "_retl_absent_since",
        "ledger",
    }
    kept = {}
    for name, (columns, rows) in found.items():
        places = [i for i, column in enumerate(columns) if column.split()[0] not in drawn]
        shown = [tuple(row[i] for i in places) for row in rows]
        if name == "meta":
            shown = [row for row in shown if row[0] not in ("revision", "version", "workspace", "salt", "last_run")]
            shown = [(key, value.split(",")[0] if key == "to_send" else value) for key, value in shown]  # rows, a run
        kept[name] = ([columns[i] for i in places], sorted(shown, key=str))
    return kept


def test_state_that_machines_share_is_the_one_that_a_folder_would_have(braze: Sandbox, tmp_path: Path):
    with Bucket() as bucket, Sandbox() as another:
        shared = [shop_of(tmp_path / name, braze, bucket) for name in ("one", "two", "three")]
        alone = shop_of(tmp_path / "alone", another, None)
        for number, (sql, options) in enumerate(HISTORY):
            accept = options.get("accept", False)
            how = {name: value for name, value in options.items() if name != "accept"}
            results = []
            for shop in (shared[number % 3], alone):
                shop.sync("it", sql, **ATTRIBUTES, **how)
                results.append(shop.run(accept_schema_change=accept))
            assert results[0].delivery, results[0]
            assert results[0].delivery == results[1].delivery
            assert without_chance(in_store(bucket)) == without_chance(tables(alone.folder / FOLDER / "state.duckdb"))
        there, here = (lines(shop) for shop in (shared[1], alone))
        assert len(here) > 3000
        assert there == here


def lines(shop: Shop) -> list[tuple[Any, ...]]:
    """The ledger, without what differs: names of runs, and which of the threads was first."""
    with state_of(shop.project(), shop.project().sync("it"), None, shop.clock) as state:
        return [line[1:-1] for line in lines_of(state)]


def test_events_that_expire_go_from_all_machines(braze: Sandbox, tmp_path: Path):
    with Bucket() as bucket:
        shops = [shop_of(tmp_path / name, braze, bucket) for name in ("one", "two")]
        for hour in range(12):
            shop = shops[hour % 2]
            shop.clock = FakeClock(ahead=hour * HOUR)
            at = f"TIMESTAMP '{shop.clock.utc():%Y-%m-%d %H:%M:%S}'"
            rows = f"SELECT {hour * 100} + i AS n, 'u' || i AS external_id, 'seen' AS name, {at} AS time FROM range(100) r(i)"
            shop.sync("it", rows, **EVENTS)
            assert shop.run().delivery.accepted == 100
            assert tables(shop.folder / FOLDER / "state.duckdb") == in_store(bucket)
        assert len(in_store(bucket)["state"][1]) <= 300
        assert len(braze.events()) == 1200


def test_rows_that_left_the_model_are_forgotten_on_all_machines(braze: Sandbox, tmp_path: Path):
    with Bucket() as bucket:
        shops = [shop_of(tmp_path / name, braze, bucket) for name in ("one", "two")]
        kept = []
        for day, users in enumerate(("u1 u2 u3", "u2 u3", "u3", "u1 u3")):
            shop = shops[day % 2]
            shop.clock = FakeClock(ahead=day * 24 * HOUR)
            rows = f"SELECT unnest(string_split('{users}', ' ')) AS external_id, 'KR' AS country"
            shop.sync("it", rows, **ATTRIBUTES, keep_removed="20 hours")
            shop.run()
            columns, found = in_store(bucket)["state"]
            assert (columns, found) == tables(shop.folder / FOLDER / "state.duckdb")["state"]
            at = [column.split()[0] for column in columns].index("external_id")
            kept.append(sorted(row[at] for row in found))
        assert kept == [["u1", "u2", "u3"], ["u1", "u2", "u3"], ["u2", "u3"], ["u1", "u3"]]
        sent = [
            one["external_id"] for shop in shops[:1] for body in shop.sent() for one in json.loads(body)["attributes"]
        ]
        assert sorted(sent) == ["u1", "u1", "u2", "u3"]  # who comes back is sent again


# --- any history -------------------------------------------------------------------------------------------------------

USERS = st.sampled_from([f"u{i}" for i in range(8)])
ROWS = st.dictionaries(USERS, st.sampled_from(["x", "y", "z" * 300, None]), min_size=1)


class Machines(RuleBasedStateMachine):
    """Two machines run, are killed, and are told things by hand, in any order. Events of eight users, with a value."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="same-"))
        self.braze, self.bucket = Sandbox(log_bodies=0).__enter__(), Bucket().__enter__()
        self.shops = [shop_of(self.folder / name, self.braze, self.bucket) for name in ("one", "two")]
        self.rows: dict[str, str | None] = {}
        self.commands, self.hours = 0, 0
        self.last: Shop | None = None

    def teardown(self) -> None:
        try:
            if self.last:
                self.everybody_knows_the_same()
        finally:
            self.bucket.__exit__(None, None, None)
            self.braze.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def machine(self, number: int) -> Shop:
        """One of them, an hour later than before: no lock of a dead machine is left."""
        shop = self.shops[number]
        self.hours += 1
        self.commands += 1
        shop.clock = FakeClock(ahead=self.hours * HOUR)
        self.write(shop)
        self.last = shop
        return shop

    def write(self, shop: Shop) -> None:
        values = ", ".join(f"('{user}', {'NULL' if v is None else repr(v)})" for user, v in sorted(self.rows.items()))
        rows = f"(VALUES {values}) t(who, v)" if values else "(SELECT '' AS who, '' AS v WHERE false)"
        sql = f"SELECT who AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, v, who || coalesce(v, '') AS k FROM {rows}"
        shop.destination = {"max_objects_per_request": 2}
        shop.sync(
            "it", sql, mode="users_track", track_record_type="events", primary_key="k", guards={"empty_model": False}
        )

    @rule(number=st.integers(0, 1), rows=ROWS, weather=st.sampled_from(["", "", "drop_after", "object_error"]))
    def run(self, number: int, rows: dict[str, str | None], weather: str) -> None:
        self.rows.update(rows)
        shop = self.machine(number)
        if weather:
            self.braze.add_fault(Fault(weather, external_ids=["u2"]) if weather == "object_error" else Fault(weather))
        result = shop.run(threads=1)
        self.braze.clear_faults()
        assert result.delivery is not None, result.errors

    @rule(number=st.integers(0, 1), rows=ROWS, write=st.integers(1, 9))
    def is_killed(self, number: int, rows: dict[str, str | None], write: int) -> None:
        """At one of its writes to the store."""
        self.rows.update(rows)
        shop = self.machine(number)
        running: list[Forked] = []
        self.bucket.at_write(write, lambda: running[0].kill())
        with Forked(command_later, shop.folder, shop.environ, self.hours) as process:
            running.append(process)
            (shop.folder / "go").touch()
            code = process.wait()
        (shop.folder / "go").unlink()
        self.bucket.at_write(0, lambda: None)
        assert code in (0, 1, -signal.SIGKILL), process.err
        if code == -signal.SIGKILL:
            self.last = None  # what it has is not known to anybody

    @rule(number=st.integers(0, 1))
    def decides(self, number: int) -> None:
        shop = self.machine(number)
        project = shop.project()
        try:
            resolve(project, project.sync("it"), "mark_accepted", [])
        except DataError:
            self.last = None  # nothing was in doubt

    @rule(number=st.integers(0, 1), user=USERS)
    def forgets(self, number: int, user: str) -> None:
        shop = self.machine(number)
        how = Forgetting(shop.project(), print, clock=shop.clock)
        forget(how, asked_for(how, user), in_braze=False)
        listed = b"".join(bytes(self.bucket.objects().read(name)[0]) for name in self.bucket.names() if "run-" in name)
        assert listed == b""
        for name, (_, rows) in in_store(self.bucket).items():
            assert not [row for row in rows if user in map(str, row) and name != "runs"]

    @rule(number=st.integers(0, 1))
    def starts_over(self, number: int) -> None:
        shop = self.machine(number)
        project = shop.project()
        reset(place_of(project, project.sync("it")))
        job = jobs_of(project, [project.sync("it")], Options(clock=shop.clock, intent=Intent.BASELINE), shop.listener)[
            0
        ]
        baseline(job)

    @invariant()
    def store_has_what_the_machine_has_that_ran(self) -> None:
        if self.last is None or CopyFiles(self.last.folder / FOLDER).copy.is_changed:
            return
        there = in_store(self.bucket)
        assert there == tables(self.last.folder / FOLDER / "state.duckdb")
        assert self.bucket.head().holder is None
        named = {"head.json", *(stored.name for stored in self.bucket.head().objects())}
        assert {name for name in self.bucket.names() if name.startswith(("state-", "log-"))} >= named - {"head.json"}
        columns, runs = there.get("runs", ([], []))
        (column,) = [number for number, name in enumerate(columns) if name.startswith("ledger ")] or [0]
        ledgers = {f"ledger/{run[column]}.zip" for run in runs if run[column]}
        assert {name for name in self.bucket.names() if name.startswith("ledger/")} >= ledgers

    def everybody_knows_the_same(self) -> None:
        before = len(self.braze.events())
        for shop in self.shops:
            self.hours += 1
            shop.clock = FakeClock(ahead=self.hours * HOUR)
            self.write(shop)
            shop.run(threads=1)
            assert tables(shop.folder / FOLDER / "state.duckdb") == in_store(self.bucket)
        after = len(self.braze.events())
        self.last.run(threads=1)
        assert len(self.braze.events()) == after >= before
        with state_of(self.last.project(), self.last.project().sync("it"), None, self.last.clock) as state:
            check(state)


def command_later(folder: Path, environ: dict[str, str], hours: int) -> None:
    """A run in a process of its own, that many hours later, as soon as it may."""
    from tests.soak import waits_to_run

    waits_to_run(folder, environ, hours * HOUR)


TestMachines = Machines.TestCase
TestMachines.settings = settings(max_examples=examples(2, 30), stateful_step_count=examples(10, 25))
