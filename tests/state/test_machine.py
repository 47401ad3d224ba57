"""Whatever happens in whatever order: the state holds what was acknowledged, and a run to the end makes Braze the model."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import duckdb
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reverse_etl.plan.actions import Intent
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.edit import reset
from reverse_etl.state.look import sync_status
from tests.conftest import KEY, Shop
from tests.torture import PROCESSES, acknowledged, work

Row = dict[str, str | None]
USERS = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6"])
COLUMNS = ["a", "b", "c"]
VALUES = st.sampled_from(["x", "y", None])
WEATHER = {
    "fine": [],
    "the answer is lost": [Fault("drop_after")],
    "the request is lost": [Fault("drop_before", times=2)],
    "half an answer": [Fault("truncate")],
    "every answer is lost": [Fault("drop_after", times=None)],
    "forbidden in the middle": [Fault("status", status=401, skip=1)],
    "one user is refused": [Fault("object_error", external_ids=["u2"])],
    "unreadable": [Fault("status", status=400, body='{"message":"no"}')],
}


class Machine(RuleBasedStateMachine):
    """Attributes of six users. What was acknowledged is read off the stand-in's log, and off what killed runs left."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.columns = ["a", "b"]
        with Sandbox() as nobody:
            self.shop = Shop(self.folder / "shop", nobody, destination={"max_objects_per_request": 2})
            self.project_says()
        self.shop.warehouse("CREATE TABLE t (external_id VARCHAR PRIMARY KEY, a VARCHAR, b VARCHAR, c VARCHAR)")
        self.seen = 0
        self.acknowledged: dict[str, Row] = {}
        self.stale = {"c"}  # columns that retl was told to forget: their old values may stay in Braze
        self.is_folded = True  # whether a killed run may still wait to be folded in

    def teardown(self) -> None:
        try:
            self.make_it_true()
        finally:
            shutil.rmtree(self.folder)

    # --- the model moves ---------------------------------------------------------------------------------------------

    @initialize(values=st.lists(VALUES, min_size=9, max_size=9))
    def begin(self, values: list[str | None]) -> None:
        for user, n in (("u1", 0), ("u2", 3), ("u3", 6)):
            self.shop.warehouse("INSERT INTO t VALUES (?, ?, ?, ?)", user, *values[n : n + 3])

    @rule(user=USERS, column=st.sampled_from(COLUMNS), value=VALUES)
    def put(self, user: str, column: str, value: str | None) -> None:
        self.shop.warehouse("INSERT OR IGNORE INTO t (external_id) VALUES (?)", user)
        self.shop.warehouse(f"UPDATE t SET {column} = ? WHERE external_id = ?", value, user)

    @rule(user=USERS)
    def remove(self, user: str) -> None:
        self.shop.warehouse("DELETE FROM t WHERE external_id = ?", user)

    @rule(columns=st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"], ["b", "c"]]))
    def change_schema(self, columns: list[str]) -> None:
        self.columns = columns
        self.stale |= set(COLUMNS) - set(columns)

    # --- runs --------------------------------------------------------------------------------------------------------

    @rule(weather=st.sampled_from(sorted(WEATHER)))
    def run(self, weather: str) -> None:
        with self.braze() as braze:
            braze.add_fault(*WEATHER[weather])
            self.shop.run()
        self.look()
        self.is_folded = True

    @rule(records=st.integers(1, 6), weather=st.sampled_from(["fine", "the answer is lost"]))
    def run_and_be_killed(self, records: int, weather: str) -> None:
        with self.braze() as braze:
            process, number = PROCESSES.Process(target=work, args=(self.shop.folder,)), count(1)

            def kill_in_time(identifier: str) -> bool:
                if next(number) == records:
                    process.kill()
                return False

            braze.add_fault(*WEATHER[weather], Fault("delay", matches=kill_in_time, times=None))
            process.start()
            process.join(60)
            assert process.exitcode in (0, 1, -9)
        self.look()
        self.is_folded = False

    @rule()
    def ask_how_it_stands(self) -> None:
        """Folds a killed run in."""
        project = self.project()
        assert sync_status(project, project.sync("it")).last_run in (
            "never",
            "success",
            "incomplete",
            "failed",
            "killed",
        )
        self.is_folded = True

    @precondition(lambda self: self.acknowledged)
    @rule()
    def forget_everything(self) -> None:
        project = self.project()
        reset(project, project.sync("it"))
        self.acknowledged, self.stale, self.is_folded = {}, set(COLUMNS), True

    # --- what is true ------------------------------------------------------------------------------------------------

    @invariant()
    def state_is_what_was_acknowledged(self) -> None:
        if self.is_folded:
            assert self.in_state() == self.acknowledged

    def make_it_true(self) -> None:
        """Two more runs, undisturbed: Braze is the model, and there is nothing left to do."""
        with self.braze() as braze:
            self.shop.run(intent=Intent.RETRY)
            last = self.shop.run()
            assert (last.status, last.delivery.requests) == ("success", 0)
            for user, wanted in self.in_model().items():
                found = (braze.profile(user) or {"custom_attributes": {}})["custom_attributes"]
                sure = {name: value for name, value in wanted.items() if value is not None or name not in self.stale}
                assert {name: found.get(name) for name in sure} == sure

    # --- reading -----------------------------------------------------------------------------------------------------

    @contextmanager
    def braze(self) -> Iterator[Sandbox]:
        """A server of its own for each run, over one file: when it has ended, nothing is on its way any more."""
        with Sandbox(self.folder / "braze.sqlite", log_bodies=10**9, keep_first_type=False) as braze:
            self.shop.braze = braze
            self.project_says()
            yield braze

    def project_says(self) -> None:
        sql = f"SELECT external_id, {', '.join(self.columns)} FROM t"
        self.shop.sync("it", sql, guards={"empty_model": False})

    def project(self) -> LoadedProject:
        return load_project(self.shop.folder, environ={"BRAZE_API_KEY": KEY})

    def look(self) -> None:
        """Add what the last run got acknowledged to what was before; a column that the model dropped is forgotten."""
        with Sandbox(self.folder / "braze.sqlite", log_bodies=10**9) as braze:
            new = braze.requests(after=self.seen)
        self.seen += len(new)
        for body in acknowledged(self.shop.folder / ".retl/test/it", new):
            (record,) = body["attributes"]
            self.acknowledged.setdefault(record.pop("external_id"), {}).update(record)
        for user, row in self.acknowledged.items():
            self.acknowledged[user] = {name: row.get(name) for name in self.columns}

    def in_state(self) -> dict[str, Row]:
        path = self.shop.folder / ".retl/test/it/state.duckdb"
        if not path.exists():
            return {}
        with duckdb.connect(path, read_only=True) as connection:
            if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'state'").fetchone():
                return {}
            rows = connection.execute("SELECT to_json(state) FROM state WHERE _retl_sent_at IS NOT NULL").fetchall()
        found = [json.loads(text) for (text,) in rows]
        return {
            row.pop("external_id"): {name: value for name, value in row.items() if not name.startswith("_retl_")}
            for row in found
        }

    def in_model(self) -> dict[str, Row]:
        with duckdb.connect(self.shop.folder / "warehouse.duckdb") as connection:
            names = ", ".join(self.columns)
            rows = connection.execute(f"SELECT external_id, {names} FROM t").fetchall()
        return {user: dict(zip(self.columns, values, strict=True)) for user, *values in rows}


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=12, stateful_step_count=25)
