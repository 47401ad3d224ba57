"""`retl flaps`: which columns and rows change most, at what cost, and why, from the ledgers of syncs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Cost
from reverse_etl.engines.duckdb.volatile import Volatile, volatile_columns
from reverse_etl.errors import Problem, RetlError, StateError
from reverse_etl.ledger.files import OFF
from reverse_etl.ledger.flapping import FLAP_RUNS, FLAPS, LEAVE_OUT, RULES, changes_sql, columns_sql, rows_sql, runs_sql
from reverse_etl.plan.tables import RUNS
from reverse_etl.plan.workbench import execute
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import Layout, layout_of_rows
from reverse_etl.state.copied import Seen, copy_of
from reverse_etl.state.look import is_there
from reverse_etl.state.state import State
from reverse_etl.words import count


@dataclass(frozen=True)
class FlappingColumn:
    """A column of a sync: how many of its cells were changed, of how many rows and in how many runs, and for how many
    data points. `reason` is `volatile`, one of RULES, or None; `what` says it in words, `hint` what to do."""

    sync: str
    column: str
    changes: int
    rows: int
    runs: int
    data_points: int
    reason: str | None = None
    what: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class FlappingRow:
    """A row of a sync, by its key as it is shown: how many of its cells were changed, and in how many runs."""

    sync: str
    key: str
    changes: int
    runs: int
    data_points: int


@dataclass(frozen=True)
class Flaps:
    """What changes most in all syncs, most changes first; what there is to say beside it, and which states cannot be
    read."""

    columns: Sequence[FlappingColumn]
    rows: Sequence[FlappingRow]
    notes: Sequence[str]
    errors: Sequence[Problem]


@dataclass(frozen=True)
class HowToLook:
    """At how many days before `now`, for how many columns and rows, and whether keys are shown in full."""

    days: int
    limit: int
    now: datetime
    in_full: bool = False

    @property
    def since(self) -> datetime:
        return self.now - timedelta(days=self.days)


def flaps(project: LoadedProject, syncs: Sequence[Sync], how: HowToLook) -> Flaps:
    """What changes most in these syncs. Neither blocks a sync that is running nor waits for one."""
    columns, rows = list[FlappingColumn](), list[FlappingRow]()
    notes, errors = list[str](), list[Problem]()
    for sync in syncs:
        try:
            if not is_there(project, sync):
                notes.append(f"{sync.name}: has not run yet")
                continue
            with copy_of(project, sync) as state:
                found, said = changes_of(state, project, sync, how, _layout(state, sync))
                columns, notes = [*columns, *found], [*notes, *said]
                rows += _rows(state, sync, how)
        except StateError as error:
            errors += error.problems
    columns.sort(key=lambda one: (-one.changes, one.sync, one.column))
    rows.sort(key=lambda one: (-one.changes, one.sync, one.key))
    return Flaps(columns[: how.limit], rows[: how.limit], notes, errors)


def changes_of(
    state: State | Seen, project: LoadedProject, sync: Sync, how: HowToLook, layout: Layout | None
) -> tuple[list[FlappingColumn], list[str]]:
    """What the columns of one sync have changed, and what there is to say beside it. `layout` is that of the rows of
    the state. FLAPS and FLAP_RUNS stay in its connection."""
    notes = [*_notes(state, sync, how)]
    run_ids = [run_id for (run_id,) in state.connection.execute(f"SELECT run_id FROM {FLAP_RUNS}").fetchall()]
    with state.ledger.opened(run_ids):
        execute(state.connection, f"CREATE OR REPLACE TEMP TABLE {FLAPS} AS {changes_sql(layout)}")
    return [*_columns(state.connection, project, sync, how)], notes


def _layout(state: State, sync: Sync) -> Layout | None:
    types = state.rows.types()
    return layout_of_rows(sync, list(types.items()), state.rows.key()) if types else None


def _notes(state: State | Seen, sync: Sync, how: HowToLook) -> Iterator[str]:
    """Choose the runs that count, and say of which nothing is known."""
    connection, since = state.connection, how.since.isoformat()
    execute(connection, f"CREATE OR REPLACE TEMP TABLE {FLAP_RUNS} AS {runs_sql(since)}")
    runs, first = connection.execute(f"SELECT count(*), epoch(min(finished_at)) FROM {FLAP_RUNS}").fetchall()[0]
    changed = "coalesce(TRY_CAST(json_extract_string(counts, '$.delivery.accepted') AS BIGINT), 0) > 0"
    unknown = f"SELECT count(*) FROM {RUNS} WHERE ledger IS NULL AND {changed} AND finished_at >= $since"
    (without,) = connection.execute(unknown, {"since": how.since}).fetchall()[0]
    where, ends = sync.where("ledger"), sync.mode.ends
    if ends:
        yield f"{sync.name}: of {ends.of}s that it {ends.does}s, the ledger keeps nothing, on purpose"
    elif sync.ledger.keep == OFF:
        yield f"{sync.name}: its ledger is off (ledger: {{keep: 0}}, {where}): what changes is not known"
    elif without:
        begins = f"begins {datetime.fromtimestamp(first, UTC):%Y-%m-%d}" if runs else "has nothing"
        of_them = f"{count(without, 'run')} of the last {count(how.days, 'day')} without one"
        yield f"{sync.name}: its ledger {begins}; {of_them}"
    elif not runs:
        yield f"{sync.name}: nothing was changed in the last {count(how.days, 'day')}"
    if runs and sync.send == "all_columns" and sync.mode.cost is Cost.ATTRIBUTES:
        yield f"{sync.name}: all columns of a changed row are sent (send: all_columns); counted is what has changed"


def _columns(
    connection: DuckDBPyConnection, project: LoadedProject, sync: Sync, how: HowToLook
) -> Iterator[FlappingColumn]:
    volatile = {one.column: one for one in _volatile(connection, project, sync)}
    for name, changes, rows, runs, cost, rule in execute(connection, columns_sql(how.limit)).fetchall():
        yield FlappingColumn(sync.name, name, changes, rows, runs, cost, *_reason(name, volatile.get(name), rule))


def _rows(state: State, sync: Sync, how: HowToLook) -> Iterator[FlappingRow]:
    keys = state.keys(in_full=how.in_full)
    for key, *numbers in execute(state.connection, rows_sql(how.limit)).fetchall():
        yield FlappingRow(sync.name, keys.shown(key), *numbers)


def _reason(column: str, volatile: Volatile | None, rule: str | None) -> tuple[str, str, str] | tuple[()]:
    if volatile:
        hint = f"{LEAVE_OUT}, or take its value from the data"
        return "volatile", f"{volatile.function}() in {volatile.where}", hint.format(column=column)
    return (rule, RULES[rule].what, RULES[rule].way_out.format(column=column)) if rule else ()


def _volatile(connection: DuckDBPyConnection, project: LoadedProject, sync: Sync) -> list[Volatile]:
    """The columns of the model as it is now that differ in every run; none if it cannot be compiled any more."""
    try:
        return volatile_columns(connection, project.compiled(sync.model))
    except RetlError:
        return []
