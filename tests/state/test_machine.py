"""Whatever happens in whatever order: the state holds what was acknowledged, and a run to the end makes Braze the model."""

import json
import shutil
import signal
import tempfile
from itertools import count
from pathlib import Path

import duckdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reverse_etl.plan.actions import Intent
from reverse_etl.project.project import LoadedProject, load_project
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.edit import reset
from reverse_etl.state.look import sync_status
from reverse_etl.state.places import place_of
from tests.processes import Forked
from tests.shop import KEY, Held, Shop, examples
from tests.torture import acknowledged, work

pytestmark = pytest.mark.long
Row = dict[str, str | None]
USERS = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6"])
COLUMNS = ["a", "b", "c"]
VALUES = st.sampled_from(["x", "y", None])
ROWS = st.dictionaries(USERS, st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUES)), min_size=1)
SCHEMAS = st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"], ["b", "c"]])
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
    """Attributes of six users. What was acknowledged is read off the stand-in's log, and off what killed runs left.

    What is drawn decides what happens, and nothing else: one thread sends, and who is killed is waiting for an answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.columns = ["a", "b"]
        self.braze = Sandbox(log_bodies=10**9, keep_first_type=False).__enter__()
        self.shop = Shop(self.folder / "shop", self.braze, destination={"max_objects_per_request": 2})
        self.rows: dict[str, Row] = {}  # of the model, now and before it moved last
        self.rows_before: dict[str, Row] = {}
        self.seen = 0
        self.acknowledged: dict[str, Row] = {}
        self.stale = {"c"}  # columns that retl was told to forget: their old values may stay in Braze
        self.runs = 0  # since everything was forgotten
        self.is_settled = False  # whether the state was just written, and no killed run waits to be folded in

    def teardown(self) -> None:
        try:
            self.make_it_true()
        finally:
            self.braze.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def move(self, rows: dict[str, Row] | None, leaves: str | None) -> None:
        """Let the model return these rows too, or else all that it returned before; and no longer the user who leaves."""
        self.rows, self.rows_before = {**self.rows, **rows} if rows else dict(self.rows_before), self.rows
        self.rows.pop(leaves, None)

    @rule(
        rows=ROWS | st.none(),
        leaves=st.one_of(st.none(), st.none(), USERS),
        columns=st.one_of(st.none(), st.none(), SCHEMAS),
        weather=st.sampled_from(sorted(WEATHER)),
        killed_at=st.none() | st.integers(1, 6),
        is_asked_for=st.booleans(),
    )
    def run(
        self,
        rows: dict[str, Row] | None,
        leaves: str | None,
        columns: list[str] | None,
        weather: str,
        killed_at: int | None,
        is_asked_for: bool,
    ) -> None:
        """After the model has moved on; killed while it waits for the answer to record `killed_at`, if it sends as many.

        Whoever asks how it stands then folds it in; otherwise the next run does.
        """
        self.move(rows, leaves)
        self.columns = columns or self.columns
        self.stale |= set(COLUMNS) - set(self.columns)
        self.runs += 1
        self.project_says()
        number = count(1)
        answer = Held(self.braze, matches=lambda _: next(number) == killed_at)
        self.braze.add_fault(*WEATHER[weather])
        if killed_at is None:
            self.shop.run(threads=1)
        else:
            with Forked(work, self.shop.folder, 1) as process:
                process.wait_for(answer.is_held)
            assert process.returncode in (0, 1, -signal.SIGKILL)
        self.look()
        if killed_at is not None and is_asked_for:
            project = self.project()
            last_run = sync_status(project, project.sync("it")).last_run
            assert last_run in ("success", "incomplete", "failed", "killed")
        self.is_settled = killed_at is None or is_asked_for

    @precondition(lambda self: self.runs > 2)  # how often is decided by draws alone; more often, nothing is old
    @rule()
    def forget_everything(self) -> None:
        project = self.project()
        reset(place_of(project, project.sync("it")))
        self.acknowledged, self.stale, self.runs, self.is_settled = {}, set(COLUMNS), 0, True

    # --- what is true ------------------------------------------------------------------------------------------------

    @invariant()
    def state_is_what_was_acknowledged(self) -> None:
        if self.is_settled:
            assert self.in_state() == self.acknowledged
            self.is_settled = False

    def make_it_true(self) -> None:
        """Two more runs, undisturbed: Braze is the model, and there is nothing left to do."""
        self.project_says()
        self.shop.run(intent=Intent.RETRY)
        last = self.shop.run()
        assert (last.status, last.delivery.requests) == ("success", 0)
        for user, row in self.rows.items():
            wanted = {name: row[name] for name in self.columns}
            found = (self.braze.profile(user) or {"custom_attributes": {}})["custom_attributes"]
            sure = {name: value for name, value in wanted.items() if value is not None or name not in self.stale}
            assert {name: found.get(name) for name in sure} == sure

    # --- reading -----------------------------------------------------------------------------------------------------

    def project_says(self) -> None:
        """Write down what the model returns by now."""
        rows = [{"external_id": user, **row} for user, row in sorted(self.rows.items())]
        columns = ", ".join(f"r.{name} AS {name}" for name in ["external_id", *self.columns])
        types = "STRUCT(external_id VARCHAR, a VARCHAR, b VARCHAR, c VARCHAR)[]"
        sql = f"SELECT {columns} FROM (SELECT unnest(CAST('{json.dumps(rows)}' AS JSON)::{types}) AS r)"
        self.shop.sync("it", sql, guards={"empty_model": False})

    def project(self) -> LoadedProject:
        self.project_says()
        return load_project(self.shop.folder, environ={"BRAZE_API_KEY": KEY})

    def look(self) -> None:
        """Add what the last run got acknowledged to what was before; a column that the model dropped is forgotten."""
        self.braze.clear_faults()
        new = self.braze.requests(after=self.seen)
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


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=examples(2, 40), stateful_step_count=examples(8, 25))
