"""The story of a run, top to bottom.

state_of()     what the destination has acknowledged; a killed run is folded in first        opening, state
plan_sync()    model -> changes -> records, all written down in the outbox                   models, columns, diff,
                                                                                             mapping, rules
why_stop()     invalid rows, data tests and guards: go, or stop with nothing sent            data_tests, guards
send()         batches, rate limit, retries; every answer goes to the journal                sender, braze, journal
finish()       outbox + journal -> state, in one transaction                                 fold

Around it: `preview` looks and sends nothing, `apply` sends what was looked at, `several` runs one sync after the other,
`scheduler` those that are due.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from reverse_etl.braze.modes import DELETE, Call, Mode
from reverse_etl.delivery.batches import cut
from reverse_etl.delivery.sender import Delivery, Route, Sender
from reverse_etl.delivery.session import Session
from reverse_etl.engines.duckdb.changes import write_changes
from reverse_etl.engines.duckdb.checks import run_data_tests
from reverse_etl.engines.duckdb.connection import attach_warehouse, detach_warehouse
from reverse_etl.engines.duckdb.diff import changes_sql, taken_changes
from reverse_etl.engines.duckdb.model import describe
from reverse_etl.errors import Mistake
from reverse_etl.plan.data_tests import failed, warnings
from reverse_etl.plan.guards import DATA_TESTS, Counts, tripped
from reverse_etl.plan.outbox import invalid_rows, read_records
from reverse_etl.plan.plan import Plan, read_plan
from reverse_etl.project.models import Compiled
from reverse_etl.project.project import Project
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import Layout, lay_out
from reverse_etl.records.mapping import closing, order_sql, outbox_sql
from reverse_etl.records.rules import rules
from reverse_etl.runs.outcome import Listener, Options, RunResult
from reverse_etl.state.commit import Ending, Fates, final_status
from reverse_etl.state.opening import state_of
from reverse_etl.state.state import Intent, State
from reverse_etl.system.clock import when_free
from reverse_etl.system.signals import interruptible


def run_sync(project: Project, sync: Sync, session: Session, options: Options, listener: Listener) -> RunResult:
    """Send what changed in one model since this sync last ran.

    The outbox is complete before the first request, and the state moves only by what was answered. Raises RetlError for
    what goes wrong before the first request; whatever happens after it is in the result.
    """
    started_at = datetime.now(UTC)
    with opened(project, sync, options, listener) as state:
        plan, _ = plan_sync(project, sync, state, options, listener)
        return carry_out(project, sync, state, plan, session, options, listener, started_at)


def carry_out(
    project: Project,
    sync: Sync,
    state: State,
    plan: Plan,
    session: Session,
    options: Options,
    listener: Listener,
    started_at: datetime,
) -> RunResult:
    """Send the open run of a state, unless something says stop, and end it."""
    scheduled_time, planned_at = state.scheduled_time(), datetime.now(UTC)
    listener.planned(sync, plan)
    for warning in warnings(plan.data_tests, DATA_TESTS in options.force_guards):
        listener.notice(sync, warning)
    invalid = invalid_rows(state.connection)
    mistakes = why_stop(sync, plan, options)
    delivery = None
    if not mistakes:
        delivery = send(project, sync, state, plan, session, options, listener)
        mistakes = [Mistake(f"{sync.name}: {delivery.stopped}", hint=delivery.hint)] if delivery.stopped else []
    status = _status(plan, delivery)
    message = "; ".join(mistake.what for mistake in mistakes) or None
    ending = Ending(status, message, plan.counts, datetime.now(UTC))
    fates = state.finish(ending, moves_state=delivery is not None)
    status = final_status(status, fates)
    return RunResult(
        sync=sync.name,
        mode=sync.spec.label,
        target=project.target_name,
        status=status,
        exit_code=0 if status == "success" else 1,
        mistakes=mistakes,
        scheduled_time=scheduled_time,
        started_at=started_at,
        duration_s=(datetime.now(UTC) - started_at).total_seconds(),
        plan=plan,
        fates=fates,
        invalid=invalid,
        planned_at=planned_at,
    )


@contextmanager
def opened(project: Project, sync: Sync, options: Options, listener: Listener) -> Iterator[State]:
    """The state of a sync, as soon as it is free; what a killed run turned out to have done is said."""
    with ExitStack() as stack:
        opening = partial(state_of, project, sync, options.memory_limit, options.clock)
        state = when_free(
            lambda: stack.enter_context(opening()),
            options.wait_s,
            options.clock,
            lambda text: listener.notice(sync, text),
        )
        if state.dead_owner:
            listener.notice(sync, f"{state.dead_owner}, ended without letting go of this sync: taken over")
        if state.recovered:
            listener.notice(sync, f"the last run was killed; of what it sent, {_in_words(state.recovered)}")
        for note in state.notes:
            listener.notice(sync, note)
        yield state


def plan_sync(project: Project, sync: Sync, state: State, options: Options, listener: Listener) -> tuple[Plan, Layout]:
    """Write down, in the outbox, everything that a run would send. Leaves no outbox behind if that fails."""
    since = state.reads_from(sync, options.full_refresh)
    if since and since.open_from == since.start:
        listener.notice(sync, f"reads from {since.start} on, as a row from then is not in Braze")
    model = project.compile(sync.model, since.cursor if since else None)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    connection = state.connection
    place = project.spec.in_target("warehouse", "path")
    when_free(
        lambda: attach_warehouse(connection, project.warehouse, place),
        options.wait_s,
        options.clock,
        lambda text: listener.notice(sync, text),
    )
    layout = lay_out(sync, model.file, describe(connection, model))
    state.begin(run_id, datetime.now(UTC), project.scheduled_time)
    try:
        with listener.planning(sync), interruptible(connection):
            tested = run_data_tests(connection, layout, model) if options.intent is not Intent.ADOPT else ()
            forgotten = since.forgotten if since else None
            rows = fill_outbox(
                state, layout, model, options, forgotten, lambda: detach_warehouse(connection, project.warehouse)
            )
    except BaseException:
        state.drop_run()
        raise
    plan = read_plan(connection, run_id, rows, state.rows(), batch_sizes(project, sync))
    return replace(plan, since=since.start if since else None, data_tests=tested), layout


def fill_outbox(
    state: State,
    layout: Layout,
    model: Compiled,
    options: Options,
    forgotten: str | None = None,
    let_go: Callable[[], None] = lambda: None,
) -> int:
    """Write down what differs between a model and the state, and the records of it; how many rows the model returned.

    `let_go` is called when the model has run. Rows up to the cursor `forgotten` are not new.
    """
    retyped = state.retyped(layout, options.accept_schema_change)
    changes = changes_sql(layout, state.columns(), retyped, options.full_refresh, state.is_unsure())
    rows = write_changes(state.connection, layout, model, changes)
    let_go()
    records = outbox_sql(layout, taken_changes(layout, forgotten))
    state.write_outbox(layout, records, order_sql(layout), rules(layout), options.intent)
    return rows


def why_stop(sync: Sync, plan: Plan, options: Options) -> list[Mistake]:
    """What keeps a plan from being sent: invalid rows that are not to be skipped, data tests, and guards."""
    stops = []
    if plan.invalid and not sync.skip_on_invalid_records:
        what = f"{sync.name}: {plan.invalid:,} of {plan.rows:,} rows are invalid, so nothing was sent"
        hint = f"`retl rejects {sync.name}` lists them all; skip_on_invalid_records: true sends the others"
        stops.append(Mistake(what, sync.where("skip_on_invalid_records"), hint))
    removed = plan.removed if sync.on_removed != "ignore" else 0
    counts = Counts(plan.rows, plan.in_state, plan.to_send, removed, sum(plan.requests.values()), plan.data_points)
    stops += failed(sync, plan.data_tests, DATA_TESTS in options.force_guards)
    return [*stops, *tripped(sync, counts, options.force_guards)]


def send(
    project: Project,
    sync: Sync,
    state: State,
    plan: Plan,
    session: Session,
    options: Options,
    listener: Listener,
) -> Delivery:
    """Deliver the outbox. Never raises for what a network or a server can do."""
    if not plan.to_send:
        return Delivery()
    sizes = batch_sizes(project, sync)
    routes = {call.path: _route(sync.spec, call, session) for call in calls(sync)}
    with state.journal() as journal:
        sender = Sender(
            session.destination(),
            routes,
            journal,
            options.threads,
            options.policy,
            options.clock,
            may_repeat=sync.on_in_doubt == "resend",
        )
        with listener.sending(sync, plan, sender), state.while_held(sender.stop):
            return sender.send(cut(read_records(state.connection), sizes))


def calls(sync: Sync) -> list[Call]:
    """The calls that a sync makes: its mode's, and the one that deletes users who left the model."""
    return [sync.spec.call, DELETE] if sync.on_removed == "delete" else [sync.spec.call]


def batch_sizes(project: Project, sync: Sync) -> dict[str, int]:
    """Records per request, by path: what the endpoint takes, or less if the contract says so."""
    most = project.spec.target.destination.max_objects_per_request
    return {call.path: min(call.rows_per_request, most) for call in calls(sync)}


def _route(mode: Mode, call: Call, session: Session) -> Route:
    arrays = {slot.array for slot in mode.slots} | {call.error_array, mode.group.array if mode.group else None}
    return Route(
        permission=call.permission,
        closing=closing(mode),
        arrays={name for name in arrays if name},
        counters=call.counters,
        pacer=session.pacer(call.family),
    )


def _status(plan: Plan, delivery: Delivery | None) -> str:
    if delivery is None:
        return "stopped"
    if delivery.interrupted:
        return "interrupted"
    if delivery.stopped:
        return "failed"
    return "incomplete" if plan.kept_back else "success"


def _in_words(fates: Fates) -> str:
    doubt = f", {fates.in_doubt:,} in doubt" if fates.in_doubt else ""
    twice = f", {fates.maybe_twice:,} of them maybe for the second time" if fates.maybe_twice else ""
    return (
        f"{fates.accepted:,} rows were accepted, {fates.rejected:,} rejected{doubt}; {fates.unsent:,} go out now{twice}"
    )


def adopt(project: Project, sync: Sync, options: Options, listener: Listener) -> Plan:
    """Take what the model returns now as already in Braze, save invalid rows. Sends nothing."""
    with opened(project, sync, options, listener) as state:
        plan, _ = plan_sync(project, sync, state, replace(options, intent=Intent.ADOPT), listener)
        state.finish(Ending("seeded", None, plan.counts, datetime.now(UTC)))
    return plan
