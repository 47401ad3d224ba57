"""What `retl test` runs.

prepare()      the model of every unit test as SQL, with the given rows as its inputs; raises all errors in these
run_test()     the path of a run, from the model to the records, with a temporary state
check_data()   the data tests of a sync, on the warehouse

A unit test needs no warehouse, no network and no API key: DuckDB has the given rows, and nothing else.
"""

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from reverse_etl.braze.modes import is_deleting
from reverse_etl.delivery.batches import Batch, cut
from reverse_etl.engines.duckdb.engine import DuckDBEngine
from reverse_etl.engines.duckdb.seeds import seed_sql
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import DataError, Location, Problem, ProjectError, RetlError, nearest
from reverse_etl.masking import Keys
from reverse_etl.plan.actions import Intent
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.outbox import invalid_rows, read_records
from reverse_etl.plan.workbench import connect
from reverse_etl.project.models import (
    Compiled,
    Given,
    RunValues,
    compile_given,
    compile_model,
    source_name,
    without_rows,
)
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.readable import readable_by_models
from reverse_etl.project.spec import SPEC_FILE, Sync
from reverse_etl.project.spec_targets import WAREHOUSES
from reverse_etl.project.spec_tests import Input, UnitTest
from reverse_etl.records.layout import Layout, lay_out
from reverse_etl.records.mapping import closing
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.records import write_changes, write_records
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import without_end
from reverse_etl.sql.types import SqlType
from reverse_etl.state.commit import Ending
from reverse_etl.state.opening import open_state
from reverse_etl.state.state import State
from reverse_etl.testing.comparison import Difference, differences, invalid_differences
from reverse_etl.testing.fixtures import csv_rows, rows_sql, unknown_columns, value_sql

_IN_FULL = Keys(in_full=True)  # the rows are in syncs.yml or a fixture
_ALL = 10**9  # invalid rows are listed up to a limit elsewhere
_NO_ROWS = Given("SELECT NULL", Location(""))  # instead of rows with an error in them, to find further errors
Types = Mapping[str, SqlType]


@dataclass(frozen=True)
class Prepared:
    """A unit test that is ready to run. `acknowledged` are the rows in Braze, as if the model had returned them."""

    test: UnitTest
    sync: Sync
    model: Compiled
    layout: Layout
    acknowledged: Compiled | None


@dataclass(frozen=True)
class UnitTestResult:
    """The result of a unit test. error: it could not be run, because of the `errors`."""

    test: UnitTest
    status: Literal["pass", "fail", "error"]
    differences: Sequence[Difference]
    errors: Sequence[Problem]
    duration_s: float


# --- before a test runs ----------------------------------------------------------------------------------------------


class _WarehouseNeededError(ProjectError):
    """A model that DuckDB is not known to compute as the warehouse does."""


def prepare(project: LoadedProject, tests: Iterable[UnitTest]) -> list[Prepared | UnitTestResult]:
    """The tests, ready to run; the result of those whose model only the warehouse can run.

    Raises ProjectError with the errors in all others.
    """
    prepared, problems = list[Prepared | UnitTestResult](), dict[tuple[str, Location | None], Problem]()
    readable = readable_by_models(project)
    with TemporaryDirectory(prefix="retl-") as folder, connect(Path(folder)) as connection:
        engine = DuckDBEngine(connection, readable)
        engine.open()
        for test in tests:
            try:
                prepared.append(_Preparation(project, engine, test, Path(folder)).prepared())
            except _WarehouseNeededError as error:
                prepared.append(UnitTestResult(test, "error", (), error.problems, 0.0))
            except ProjectError as error:
                for problem in error.problems:
                    problems.setdefault(
                        (problem.message, problem.location), problem
                    )  # tests of one model share its errors
    if problems:
        raise ProjectError(sorted(problems.values(), key=lambda problem: problem.location or Location("")))
    return prepared


class _Preparation:
    """One test on its way to SQL; errors in its given rows are collected in `problems`."""

    def __init__(self, project: LoadedProject, engine: DuckDBEngine, test: UnitTest, folder: Path) -> None:
        self.project, self.engine, self.test, self.folder = project, engine, test, folder
        self.sync = project.sync(test.sync)
        self.values = _run_values(project, test)
        self.problems: list[Problem] = []

    def prepared(self) -> Prepared:
        """The test, ready to run. Raises ProjectError with all its errors."""
        inputs = {_name(one): number for number, one in enumerate(self.test.given) if not one.is_this}
        given = {name: self._given(number, self._types(name)) for name, number in inputs.items()}
        model = self._compiled({name: rows or _NO_ROWS for name, rows in given.items()})
        for name in inputs.keys() - set(model.refs):
            used = ", ".join(_input(other) for other in model.refs)
            what = f'{self._inside}: no model of sync "{self.sync.name}" uses {self.test.given[inputs[name]].input}'
            hint = f"remove it, or use one of the inputs: {used}" if used else "remove it"
            self._problem(what, self.test.where("given", inputs[name], "input"), hint, code="P090")
        self._stop_at_problems()
        columns = self.engine.describe(model)
        layout = lay_out(self.sync, model.file, columns)
        this = next((number for number, one in enumerate(self.test.given) if one.is_this), None)
        acknowledged = self._given(this, dict(columns)) if this is not None else None
        self._stop_at_problems()
        file = f"target/compiled/unit_tests/{self.test.name}.this.sql"
        return Prepared(
            self.test,
            self.sync,
            model,
            layout,
            self._written(compile_given(self.sync.model, acknowledged, file)) if acknowledged else None,
        )

    @property
    def _inside(self) -> str:
        return f'unit test "{self.test.name}"'

    def _problem(self, what: str, where: Location, hint: str | None = None, *, code: str) -> None:
        self.problems.append(Problem(what, where, hint, code))

    def _stop_at_problems(self) -> None:
        if self.problems:
            raise ProjectError(self.problems)

    def _written(self, compiled: Compiled) -> Compiled:
        self.project.write_compiled(compiled)
        return compiled

    def _compiled(self, given: Mapping[str, Given]) -> Compiled:
        file = f"target/compiled/unit_tests/{self.test.name}.sql"
        try:
            values = replace(self.values, given=given)
            return self._written(compile_model(self.sync.model, self.project.models, values, file))
        except ProjectError as error:
            own = self.project.spec.dialect
            if own != "duckdb" and not self.problems and all(one.code == "P050" for one in error.problems):
                hint = f"it needs {WAREHOUSES[own]}: unit tests run in DuckDB, which is not known to do the same here"
                raise _WarehouseNeededError([replace(one, hint=hint) for one in error.problems]) from error
            what = f"{self._inside} ({self.test.where()})"
            told = (replace(problem, message=f"{what}: {problem.message}") for problem in error.problems)
            raise ProjectError([*self.problems, *told]) from error

    def _types(self, name: str) -> Types | None:
        """All columns of an input with their types, if they follow from the project alone.

        Those of a seed are in its file, those of a table of `collect` in syncs.yml; those of a model follow if it is
        built from these only.
        """
        known = {seed: Given(seed_sql(path), Location(str(path))) for seed, path in self.project.seeds.items()}
        collect = self.project.spec.collect
        for source, of in collect.sources.items() if collect else ():
            for table, found in of.tables.items():
                known[source_name(source, table)] = Given(without_rows(found), Location(SPEC_FILE))
        try:
            if name in self.project.models:
                values = replace(self.values, given=known, cursor=None)
                return dict(self.engine.describe(compile_model(name, self.project.models, values)))
            return dict(self.engine.describe(compile_given(name, known[name], ""))) if name in known else None
        except RetlError:
            return None  # an error in it does not matter, as its rows are given

    def _given(self, number: int, types: Types | None) -> Given | None:
        """The SQL of the rows of an input; None if there is an error in them."""
        one, path = self.test.given[number], ("given", number)
        where = self.test.where(*path)
        try:
            text = self._text(one, number)
            if one.rows is None and text is None:
                return self._seed(one, number)
            if one.format == "sql":
                return Given(without_end((text or "").strip()), where)
            rows = csv_rows(text) if text is not None else one.rows
        except ProjectError as error:
            self.problems.extend(error.problems)
            return None
        except ValueError as error:
            self._problem(f"{self._inside}: {one.input}: {error}", self._place_of_rows(one, number), code="P090")
            return None
        if types is None and one.format == "csv":
            types = self._types_of_csv(text or "")
        if types is None and not rows:
            what = f"{self._inside}: {one.input} has no rows, and the project does not say which columns it has"
            self._problem(
                what, where, "use `format: sql` with `rows: select null as a_column where false`", code="P090"
            )
            return None
        for column, row in unknown_columns(rows, types).items():
            place = self.test.key_at(*path, "rows", row, column) if text is None else self._place_of_rows(one, number)
            self._problem(
                f'{self._inside}: {one.input} has no column "{column}"',
                place,
                nearest(column, types or ()),
                code="P090",
            )
        return Given(rows_sql(rows, types), where)

    def _text(self, one: Input, number: int) -> str | None:
        if one.fixture is not None:
            return self.project.fixture(f"{one.fixture}.{one.format}", self._place_of_rows(one, number))
        return one.rows if isinstance(one.rows, str) else None

    def _place_of_rows(self, one: Input, number: int) -> Location:
        return self.test.where("given", number, "fixture" if one.fixture is not None else "rows")

    def _seed(self, one: Input, number: int) -> Given | None:
        path = self.project.seeds.get(one.ref or "")
        if path is None:
            what = f'{self._inside}: {one.input} has no "rows", and is not a seed, whose rows could come from its file'
            self._problem(what, self.test.where("given", number), 'add "rows"', code="P090")
            return None
        return Given(seed_sql(path), self.test.where("given", number))

    def _types_of_csv(self, text: str) -> Types:
        """The types that DuckDB detects in CSV, as in a seed."""
        path = self.folder / "given.csv"
        path.write_text(text.strip() + "\n", encoding="utf-8")
        return dict(self.engine.describe(compile_given("csv", Given(seed_sql(path), Location("")), "")))


def _run_values(project: LoadedProject, test: UnitTest) -> RunValues:
    values, overrides = project.run_values(), test.overrides
    macros = overrides.macros
    return replace(
        values,
        in_duckdb=True,
        vars={**values.vars, **overrides.vars},
        environ={**values.environ, **overrides.env_vars},
        run_started_at=macros.run_started_at or values.run_started_at,
        scheduled_time=macros.scheduled_time or macros.run_started_at or values.scheduled_time,
        cursor=value_sql(macros.cursor) if macros.is_incremental else None,
    )


def _name(one: Input) -> str:
    return one.ref or source_name(*(one.source or ("", "")))


def _input(name: str) -> str:
    return name if name.startswith("source(") else f"ref('{name}')"


# --- a test ----------------------------------------------------------------------------------------------------------


def run_test(project: LoadedProject, prepared: Prepared) -> UnitTestResult:
    """Run a unit test, and compare its result with the expected one."""
    test, began_s = prepared.test, time.monotonic()
    found: list[Difference] = []
    problems: Sequence[Problem] = ()
    try:
        with (
            TemporaryDirectory(prefix="retl-") as folder,
            open_state(
                StatePlace(Path(folder) / "states" / "test" / test.sync, test.sync, project.target_name)
            ) as state,
        ):
            engine = DuckDBEngine(state.connection, readable_by_models(project))
            engine.open()
            if prepared.acknowledged:
                _acknowledge(state, engine, prepared, prepared.acknowledged)
            _plan(state, engine, prepared.layout, prepared.model, Options(show_values=True))
            batches = cut(read_records(state.connection), {call.label: 1 for call in prepared.sync.calls})
            records = [_as_sent(prepared.sync, batch) for batch in batches]
            found += differences(test.expect.records or (), records)
            found += invalid_differences(test.expect.invalid or (), invalid_rows(state.connection, _IN_FULL, _ALL))
            state.run.drop()
    except RetlError as error:
        problems = error.problems
    status: Literal["pass", "fail", "error"] = "error" if problems else "fail" if found else "pass"
    return UnitTestResult(test, status, found, problems, time.monotonic() - began_s)


def _plan(state: State, engine: DuckDBEngine, layout: Layout, model: Compiled, options: Options) -> None:
    now = options.clock.utc()
    state.run.begin(secrets.token_hex(6), now, now, layout.mode.label)
    write_changes(state, engine, layout, model, options)
    write_records(state, layout, None, options)
    state.run.complete()


def _acknowledge(state: State, engine: DuckDBEngine, prepared: Prepared, rows: Compiled) -> None:
    """Put rows into the state, as `retl state baseline` does."""
    layout = lay_out(prepared.sync, rows.file, engine.describe(rows))
    _plan(state, engine, layout, rows, Options(intent=Intent.BASELINE, show_values=True))
    where = next(prepared.test.where("given", n) for n, one in enumerate(prepared.test.given) if one.is_this)
    invalid = [
        Problem(f"row {row.key} cannot have been acknowledged: {row.column} {row.reason}", where, row.hint, code="D008")
        for row in invalid_rows(state.connection, _IN_FULL)
    ]
    if invalid:
        raise DataError(invalid)
    state.finish(Ending("baselined", None, {}, state.clock.utc()))


def _as_sent(sync: Sync, batch: Batch) -> Any:
    """A record as it is in its request: an item of its array, or the request that deletes what it is about."""
    request = json.loads(batch.body(closing(sync.mode)), parse_float=Decimal)
    if is_deleting(batch.place.call) and not sync.mode.keeps:
        return request
    ((item,),) = request.values()
    return item


# --- data tests ------------------------------------------------------------------------------------------------------


def check_data(job: Job) -> tuple[DataTestResult, ...]:
    """Run the data tests of a sync on all rows that its model returns now. Neither the state nor Braze is read."""
    model = job.project.compile(job.sync.model)
    with connect(memory_limit=job.options.memory_limit) as connection:
        engine = engine_of(job.project, connection)
        job.when_free(engine.open)
        with engine.interruptible():
            layout = lay_out(job.sync, model.file, engine.describe(model))
            # Without a state there are no digests.
            return tuple(result.shown(Keys(layout.key)) for result in engine.run_data_tests(layout, model))
