"""The plan of a revert: what runs have changed goes back to what it was before, as records like those of any run.

chosen_runs()    the runs that `A..B` means, and whose they are
plan_revert()    ledger -> cells -> rows of the state as they were -> what differs, records, outbox

From there on it is a plan like any other: guards, preview, saved plan, `retl apply`, journal, ledger. Cells that are
pinned stay as they are now until the model returns another value: see `state/pins.py`.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from reverse_etl.engines.duckdb.diff import acts_on_gone
from reverse_etl.engines.duckdb.engine import DuckDBEngine
from reverse_etl.engines.engine import Engine, Side
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import ProjectError
from reverse_etl.ledger.lines import LINES
from reverse_etl.ledger.reverting import CELLS, REVERTED, WHY_NOT, Reverting, cells_sql, pivot_sql, rows_sql
from reverse_etl.plan.plan import read_plan
from reverse_etl.plan.tables import (
    ABSENCES,
    ABSENT_SINCE,
    ACKNOWLEDGED,
    CHANGES,
    IN_DOUBT,
    NEXT,
    NOTE,
    RUNS,
    SLICE,
    UNMARK,
)
from reverse_etl.plan.workbench import execute
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.readable import Readable
from reverse_etl.project.spec import Sync
from reverse_etl.records.expressions import new
from reverse_etl.records.layout import Layout, lay_out
from reverse_etl.records.mapping import key_text
from reverse_etl.runs.job import Job
from reverse_etl.runs.origin import commit_of, started_by
from reverse_etl.runs.preview import Preview, Save, preview_sync
from reverse_etl.runs.records import knows_consent, write_changes, write_records
from reverse_etl.runs.run import Planned, batch_sizes, opened, refuse_others
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state import pins as state_pins
from reverse_etl.state.history import past_runs
from reverse_etl.state.state import State
from reverse_etl.words import count

_ALL_RUNS = 1_000_000  # more than a state keeps


@dataclass(frozen=True)
class Chosen:
    """Runs of one sync, oldest first, and how they were named."""

    sync: Sync
    run_ids: Sequence[str]
    named: str


@dataclass(frozen=True)
class Reverted:
    """What a revert does, beside its plan: how many cells it takes back, and which it does not, by reason, in words."""

    cells: int
    left: Sequence[str]


def chosen_runs(project: LoadedProject, named: str) -> Chosen:
    """The run with this id, or all from the first to the last of `A..B`, with their sync. Raises ProjectError."""
    first, is_range, last = named.partition("..")
    of_sync = {}
    for sync in project.spec.syncs:
        for run in past_runs(project, [sync], _ALL_RUNS):
            of_sync[run.run_id] = sync
    for one in (first, last if is_range else first):
        if one not in of_sync:
            raise ProjectError(f'unknown run "{one}"', hint="`retl history` lists the runs", code="P143")
    sync = of_sync[first]
    if is_range and of_sync[last] is not sync:
        what = f"{first} is a run of {sync.name}, and {last} one of {of_sync[last].name}"
        raise ProjectError(what, hint="revert the runs of one sync at a time", code="P143")
    ids = [run.run_id for run in reversed(past_runs(project, [sync], _ALL_RUNS))]
    begin, end = sorted((ids.index(first), ids.index(last if is_range else first)))
    return Chosen(sync, ids[begin : end + 1], named)


def plan_revert(job: Job, state: State, chosen: Chosen, pins: bool) -> tuple[Planned, Reverted]:
    """Store the records that take back what the runs have changed in the outbox.

    Raises ProjectError if nothing of them can be taken back; or, unless it `pins` the cells, if the next run of the
    sync would send them again.
    """
    refuse_others(job, state)
    connection, layout = state.connection, _layout(job.sync, state)
    runs = _runs_with_ledger(state, chosen)
    with state.ledger.opened():
        reverting = Reverting(runs, layout, state.rows.types(), _acknowledged(state, runs))
        execute(connection, f"CREATE OR REPLACE TEMP TABLE {CELLS} AS {cells_sql(reverting)}")
    cells, left = _counted(state, chosen)
    if not cells:
        what = f"{job.sync.name}: nothing to revert: {chosen.named} changed nothing that can go back"
        raise ProjectError(what, hint=f"not reverted: {'; '.join(left)}" if left else None, code="P143")
    again, lacking = (0, 0) if pins else _returned_again(job, state, reverting.acknowledged)
    if again or lacking:
        of_all = f"of {count(cells, 'value')} to be reverted"
        what = f"the model still returns {again:,} {of_all}" + (
            f", and lacks the rows of {lacking:,}" if lacking else ""
        )
        hint = "the next sync would send them again: pass --pin to hold them, or correct the model first"
        if not again:
            what = f"the model still lacks the rows of {lacking:,} {of_all}"
            hint = "the next sync would clear them again: pass --pin to hold them, or correct the model first"
        raise ProjectError(f"{job.sync.name}: {what}", job.sync.where("model"), hint, code="P144")
    execute(connection, f"CREATE OR REPLACE TEMP TABLE {REVERTED} AS {pivot_sql(reverting)}")
    planned = _planned(job, state, reverting, chosen, pins)
    return planned, Reverted(cells, left)


def preview_revert(job: Job, chosen: Chosen, pins: bool, save: Save | None = None) -> tuple[Preview, Reverted]:
    """What a revert would do; `save` may save its plan. Sends nothing."""
    found: list[Reverted] = []

    def plan(job: Job, state: State) -> Planned:
        planned, reverted = plan_revert(job, state, chosen, pins)
        found.append(reverted)
        return planned

    preview = preview_sync(replace(job, applies=True), save, plan=plan)
    return preview, found[0]


def unpin(job: Job, chosen: Chosen) -> int:
    """Let the model decide again about the cells that these runs had written; returns how many of them were pinned."""
    with opened(job) as state, state.changing():
        return state_pins.unpin(state.connection, chosen.run_ids)


def _runs_with_ledger(state: State, chosen: Chosen) -> list[str]:
    """Those of the chosen runs that have changed something. Raises ProjectError if what they changed is not known."""
    listed = ", ".join(map(literal, chosen.run_ids))
    changed = "coalesce(TRY_CAST(json_extract_string(counts, '$.delivery.accepted') AS BIGINT), 0) > 0"
    rows = state.connection.execute(
        f"SELECT run_id, ledger, {changed} FROM {RUNS} WHERE run_id IN ({listed}) ORDER BY finished_at, run_id"
    ).fetchall()
    unknown = [run_id for run_id, ledger, has_changed in rows if has_changed and ledger is None]
    if unknown:
        what = f"{chosen.sync.name}: the ledger has no more what run {unknown[0]} has changed"
        raise ProjectError(what, chosen.sync.where("ledger"), "ledger: {keep: ...} says how long it does", code="P143")
    known = [run_id for run_id, ledger, _ in rows if ledger is not None]
    if not known:
        raise ProjectError(f"{chosen.sync.name}: nothing to revert: {chosen.named} changed nothing", code="P143")
    return known


def _layout(sync: Sync, state: State) -> Layout:
    """The layout of rows of the state, as if they were a model that returns only some of them."""
    if not sync.mode.is_reverted:
        what = f"{sync.name}: mode {sync.mode.label} cannot be reverted: Braze keeps what it was sent"
        raise ProjectError(what, sync.where("mode"), code="P143")
    known = state.rows.types()
    unsent = tuple(name for name in sync.exclude_columns if name in known)
    keeps_cursor = sync.incremental is not None and sync.incremental.cursor in known
    changed = {
        "on_removed": "ignore",
        "nulls": "clear" if sync.nulls == "omit" else sync.nulls,
        "data_tests": (),
        "exclude_columns": unsent,
        "pre_formatted_fields": tuple(name for name in sync.pre_formatted_fields if name in known),
        "shares": tuple(name for name in sync.shares if name in known),
        "consent": sync.consent.model_copy(update={"evidence": None}),
        **({} if keeps_cursor else {"incremental": None}),
    }
    layout = lay_out(sync.model_copy(update=changed), f"models/{sync.model}.sql", list(known.items()))
    return replace(layout, key=state.rows.key(), is_part=True)


def _counted(state: State, chosen: Chosen) -> tuple[int, list[str]]:
    """How many cells are taken back, and which not, in words."""
    connection = state.connection
    found = dict(connection.execute(f"SELECT coalesce(why, ''), count(*) FROM {CELLS} GROUP BY 1").fetchall())
    left = [f"{count(found[why], 'value')} {what}" for why, what in WHY_NOT.items() if why in found]
    doubted = ", ".join(map(literal, chosen.run_ids))
    (rows,) = connection.execute(f"SELECT count(*) FROM {IN_DOUBT} WHERE run_id IN ({doubted})").fetchall()[0]
    if rows:
        left.append(f"{count(rows, 'row')} in doubt since then: `retl rejects {chosen.sync.name}`")
    if unsure := state.rows.contents().unsure:
        left.append(
            f"what is not known of {count(unsure, 'row')}, for want of a clear response: the next sync sends it"
        )
    return found.get("", 0), left


def _acknowledged(state: State, runs: Collection[str]) -> str:
    """A table with the acknowledged rows that these runs have changed: of rows that are in the warehouse, a copy."""
    if state.elsewhere is None:
        return ACKNOWLEDGED
    keys = f"SELECT DISTINCT key FROM {LINES} WHERE list_contains($runs::VARCHAR[], run_id)"
    return state.elsewhere.fetch([key for (key,) in state.connection.execute(keys, {"runs": list(runs)}).fetchall()])


def _returned_again(job: Job, state: State, acknowledged: str) -> tuple[int, int]:
    """How many of the cells the model still returns as Braze has them, so that the next run would send these again; and
    how many are of rows that it lacks, which the next run would clear again."""
    project, sync = job.project, job.sync
    since = state.rows.reads_from(sync, full_refresh=False, dialect=project.spec.dialect)
    model = project.compile(sync.model, since.cursor if since else None)
    engine = engine_of(project, state.connection)
    job.when_free(engine.open)
    layout = lay_out(sync, model.file, engine.describe(model))
    _begin(job, state)
    try:
        with job.listener.planning(sync), engine.interruptible():
            return _unchanged_cells(job, state, engine, Side(layout, model), acknowledged)
    finally:
        state.run.drop()


def _unchanged_cells(job: Job, state: State, engine: Engine, of: Side, acknowledged: str) -> tuple[int, int]:
    """How many of the cells the model returns as the state has them, of rows that it returns; and how many are of rows
    that the state has no more, nor the model."""
    layout = of.layout
    write_changes(state, engine, layout, of.model, job.options, holds_pins=False)
    engine.close()
    flags = (f"CASE WHEN {identifier(f'changed.{name}')} THEN {literal(name)} END" for name in layout.tracked)
    names = f"list_filter([{', '.join(flags)}], lambda name: name IS NOT NULL)"
    changed = f"SELECT {key_text(layout.key, new)} AS key, kind, {names} AS names FROM {CHANGES}"
    absent = _absent(layout, state.run.facts()["absences"], acknowledged)
    found = execute(
        state.connection,
        f"""SELECT count(*) FILTER (NOT is_gone AND m.kind IS DISTINCT FROM 'removed' AND key NOT IN ({absent})
                AND NOT coalesce(list_contains(m.names, column_name), false)),
            count(*) FILTER (is_gone AND m.kind IS NULL)
        FROM {CELLS} LEFT JOIN ({changed}) AS m USING (key) WHERE why IS NULL""",
    )
    again, lacking = found.fetchall()[0]
    return int(again), int(lacking) if acts_on_gone(layout) else 0


def _absent(layout: Layout, has_absences: bool, acknowledged: str) -> str:
    """A SELECT of the keys of rows that the model does not return, as far as the state notes that."""
    key = key_text(layout.key, identifier)
    noted = f"SELECT {key} FROM {acknowledged} WHERE {ABSENT_SINCE} IS NOT NULL"
    if not has_absences:
        return noted
    gone, back = (f"SELECT {key} FROM {ABSENCES} WHERE {NEXT} = '{what}'" for what in (NOTE, UNMARK))
    return f"({noted} EXCEPT {back}) UNION ALL {gone}"


def _planned(job: Job, state: State, reverting: Reverting, chosen: Chosen, pins: bool) -> Planned:
    """The open run that sends REVERTED."""
    connection, layout = state.connection, reverting.layout
    model = job.project.compile(job.sync.model).read_by(rows_sql(reverting))
    engine = DuckDBEngine(connection, Readable())
    run_id = _begin(job, state)
    try:
        if reverting.acknowledged != ACKNOWLEDGED:
            connection.execute(f"CREATE TABLE {SLICE} AS FROM {reverting.acknowledged}")
        with job.listener.planning(job.sync), engine.interruptible():
            rows = write_changes(state, engine, layout, model, job.options, holds_pins=False)
            write_records(state, layout, None, job.options, knows_consent(job, state, layout))
            cells = f"FROM {CELLS} WHERE why IS NULL"
            of = f"CASE WHEN is_gone THEN {literal(state_pins.ROW)} ELSE column_name END AS column_name"
            begun = f"SELECT DISTINCT key, {of}, value, run_id {cells}{'' if pins else ' AND false'}"
            state_pins.note(connection, f"SELECT key, column_name {cells}", begun)
            of_whom = {"git_commit": commit_of(job.project.folder), "started_by": started_by(job.project)}
            state.run.came_from({**of_whom, "reverts": chosen.named})
            state.run.complete()
    except BaseException:
        state.run.drop()
        raise
    counted = read_plan(connection, run_id, rows, state.rows.count(), batch_sizes(job.project, job.sync))
    return Planned(counted, layout)


def _begin(job: Job, state: State) -> str:
    started_at = job.now()
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    state.run.begin(run_id, started_at, job.project.scheduled_time, job.sync.mode.label)
    return run_id
