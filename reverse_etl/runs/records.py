"""Writes what a run is going to do: its changes, and the records that they become.

    first run     model ──────────────> OUTBOX         in one statement, as every row is new; CHANGES is a view of it
    other runs    model ──> CHANGES ──> OUTBOX         only what differs is stored; the warehouse is closed in between

A first run of a sync that opts users in or out, or that returns rows with one key, takes the way of the others.
"""

from dataclasses import replace
from functools import partial

from reverse_etl.delivery.session import Session
from reverse_etl.engines.duckdb.diff import first_sql
from reverse_etl.engines.engine import Comparison, Engine
from reverse_etl.plan.actions import Intent
from reverse_etl.plan.guards import MAX_RESUBSCRIBED
from reverse_etl.plan.outbox import opt_ins, opt_ins_withheld, taken_changes
from reverse_etl.plan.tables import OPT_OUTS
from reverse_etl.plan.workbench import store_packed
from reverse_etl.project.models import Compiled
from reverse_etl.project.spec_targets import is_loopback
from reverse_etl.records.consent import Consent, consent_columns
from reverse_etl.records.layout import Layout
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.read_first import read_opt_outs
from reverse_etl.state import pins
from reverse_etl.state.baseline import acknowledge, may_acknowledge
from reverse_etl.state.open_run import Taken
from reverse_etl.state.opt_outs import known_columns
from reverse_etl.state.state import State


def write_run(
    job: Job,
    state: State,
    engine: Engine,
    layout: Layout,
    model: Compiled,
    forgotten: str | None,
    session: Session | None,
) -> int:
    """Store the records of a run, and what is to be done with each; returns how many rows the model returned. Rows up
    to the cursor `forgotten` do not count as new. Closes the engine."""
    options, comparison = job.options, _comparison(state, layout, job.options)
    state.name_tables()
    pointer = state.reserve(layout) if options.intent is Intent.BASELINE else None
    adopted = pointer and engine.write_baseline(layout, model, comparison, pointer, state.suspicion())
    if adopted and adopted.pointer.base:
        engine.close()
        state.run.adopts, state.run.taken = adopted, Taken(adopted.rows, adopted.lines if adopted.rows else "")
        write_records(state, layout, forgotten, options)
        return adopted.pointer.base.rows
    if not (comparison.known or forgotten or options.read_first or consent_columns(layout)):
        rows = _write_first(state, engine, layout, model, comparison, options.intent)
        if rows is not None:
            engine.close()
            state.run.know_consent(())
            state.heed_erasures(layout, options.full_refresh)
            return rows
    rows = _write_changes(state, engine, layout, model, comparison)
    engine.close()
    if session and options.read_first:
        read_opt_outs(job, session, state, layout, taken_changes(layout, forgotten))
    write_records(state, layout, forgotten, options, options.read_first or knows_consent(job, state, layout))
    return rows


def write_changes(
    state: State, engine: Engine, layout: Layout, model: Compiled, options: Options, holds_pins: bool = True
) -> int:
    """Store what differs between a model and the state; returns how many rows the model returned. Cells that were
    reverted and pinned do not differ, unless it does not hold pins."""
    return _write_changes(state, engine, layout, model, _comparison(state, layout, options, holds_pins))


def _write_changes(state: State, engine: Engine, layout: Layout, model: Compiled, comparison: Comparison) -> int:
    rows = engine.write_changes(layout, model, comparison)
    if comparison.pinned:
        pins.hold(state.connection, layout, state.acknowledged)
    return rows


def _comparison(state: State, layout: Layout, options: Options, holds_pins: bool = True) -> Comparison:
    retyped = state.rows.retyped(layout, options.accept_schema_change)
    keys = state.keys(layout.key, options.show_values)
    contents, resends = state.rows.contents(), state.run.resends
    pinned = bool(holds_pins and layout.tracked and contents.pinned)
    which = (contents.types, retyped, options.full_refresh, bool(contents.unsure), resends, pinned)
    return Comparison(*which, keys, contents.rows, contents.absent, state.acknowledged)


def _write_first(
    state: State, engine: Engine, layout: Layout, model: Compiled, comparison: Comparison, intent: Intent
) -> int | None:
    if intent is Intent.BASELINE and may_acknowledge(state, layout):
        return acknowledge(state, layout, engine, model, comparison)
    changes, columns = first_sql(layout)
    if intent is not Intent.BASELINE:  # which has no records
        store_packed(state.connection, engine.rows_expected(model))
    return state.write_first(layout, changes, columns, intent, partial(engine.write_first, layout, model, comparison))


def knows_consent(job: Job, state: State, layout: Layout) -> bool:
    """Whether it is known who has opted out: by the state, or by the user, who declares what is in Braze. On this
    machine, nobody real can be opted in."""
    if job.options.intent is Intent.BASELINE or is_loopback(job.project.spec.target.destination.endpoint):
        return True
    return {column.name for column in consent_columns(layout)} <= known_columns(state.rows.meta())


def write_records(
    state: State, layout: Layout, forgotten: str | None, options: Options, knows_consent: bool = True
) -> None:
    """Store the records of the changes, and what is to be done with each. Rows up to the cursor `forgotten` do not
    count as new. Without `knows_consent`, opt-ins block the run."""
    intent, changes = options.intent, taken_changes(layout, forgotten)
    is_baseline = intent is Intent.BASELINE
    consent = Consent(OPT_OUTS, is_baseline, options.full_refresh and not is_baseline, not knows_consent)
    state.write_outbox(layout, changes, intent, consent)
    is_blank = state.run.is_blank
    most, found = options.skip_guards.get(MAX_RESUBSCRIBED), 0 if is_blank else opt_ins_withheld(state.connection)
    if not (knows_consent or is_blank):
        found += opt_ins(state.connection)
    if most is not None and 0 < found <= most:
        consent = replace(consent, lifts=True, is_unknown=False)
        state.write_outbox(layout, changes, intent, consent)
    if not consent.is_unknown:
        state.run.know_consent(column.name for column in consent_columns(layout))
    state.heed_erasures(layout, options.full_refresh)
