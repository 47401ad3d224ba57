"""The story of a run, top to bottom.

opened()       the state: what Braze has acknowledged; a killed run is recovered first        state
plan_sync()    model -> changes -> records, all stored in the outbox                          engines, records, plan
start_sync()   the first two; what comes of it is `Ready`, and waits for its turn             sequence
blocked_by()   invalid rows, data tests, guards: continue, or stop with nothing sent          plan
send()         batches, rate limit, retries; every response is written to the journal         delivery, braze
carry_out()    the last two; then outbox + journal -> state, in one transaction               state

Around it: `preview` plans and sends nothing, `apply` sends a saved plan, `sequence` runs several syncs, and plans one
while another sends, `scheduler` runs those that are due. All of them pass on a `Job`.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import inf

import duckdb

from reverse_etl.braze.modes import USER, Call
from reverse_etl.delivery.batches import cut
from reverse_etl.delivery.destination import destination_of
from reverse_etl.delivery.sender import Delivery, Route, Sender, SenderOptions
from reverse_etl.delivery.session import Session, used_share, windows
from reverse_etl.delivery.silent_drops import SilentDrop, silent_drops
from reverse_etl.engines.engine import Side
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import Problem
from reverse_etl.plan.actions import Intent
from reverse_etl.plan.alike import alike_rows
from reverse_etl.plan.data_tests import failed, warnings
from reverse_etl.plan.guards import (
    DATA_TESTS,
    FINISH_BY,
    MAX_RESUBSCRIBED,
    Counts,
    asks_for_users,
    not_resubscribed,
    tripped,
)
from reverse_etl.plan.outbox import (
    invalid_reasons,
    invalid_rows,
    left_out_reasons,
    left_out_rows,
    opt_ins,
    read_records,
    withheld_rows,
)
from reverse_etl.plan.plan import Plan, about_uncertain, read_plan
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.consent import AFTER_OPT_OUTS
from reverse_etl.records.layout import Layout, lay_out
from reverse_etl.records.mapping import closing
from reverse_etl.runs.canary import READ_OTHERWISE, Canary, begun, refuse_canary
from reverse_etl.runs.catalogs import refuse_no_catalog, unfit
from reverse_etl.runs.finish_by import Forecast, forecast, out_of_time, too_late
from reverse_etl.runs.job import Job, Ready
from reverse_etl.runs.notices import about_dropped, about_emails, about_values, dropped_columns, sent_again
from reverse_etl.runs.origin import Question, origin_of
from reverse_etl.runs.outcome import Listener, Options, RunResult
from reverse_etl.runs.records import write_run
from reverse_etl.runs.volatile import about_volatile
from reverse_etl.runs.writers import Known, notices_of
from reverse_etl.state import absences
from reverse_etl.state.begun import KILLED_EARLY, begin, is_on_record
from reverse_etl.state.commit import Ending, final_status
from reverse_etl.state.moving import move_if_renamed
from reverse_etl.state.opening import state_of
from reverse_etl.state.orphans import refuse_rows_of_orphans
from reverse_etl.state.outcomes import DeliveryCounts
from reverse_etl.state.state import State
from reverse_etl.state.tries import note_killed
from reverse_etl.state.uncertain import find_resent, may_resend
from reverse_etl.state.uncertain import note as note_uncertain
from reverse_etl.state.users import known_users
from reverse_etl.words import count, moment


@dataclass(frozen=True)
class Planned:
    """A new plan, and the layout of its model: what each column is for."""

    plan: Plan
    layout: Layout


def jobs_of(project: LoadedProject, syncs: Sequence[Sync], options: Options, listener: Listener) -> list[Job]:
    """The jobs of one command, to be run by `run_jobs`. Raises ProjectError for an option that none of them heeds."""
    if options.create_catalog:
        refuse_no_catalog(syncs)
    known, now = Known(), options.clock.utc()
    by = options.finish_by.after(now) if options.finish_by else None
    return [Job(project, sync, options, listener, start_sync, now, known, by) for sync in syncs]


def start_sync(job: Job, session: Session) -> Ready:
    """Plan one sync: what differs between its model and what Braze has acknowledged, to be sent by `carry_out`.

    The outbox is complete before the first request. Raises RetlError, and leaves nothing behind, for errors before it.
    """
    refuse_canary(job)
    with ExitStack() as stack:
        state = stack.enter_context(opened(job))
        plan = plan_sync(job, state, session).plan
        return Ready(job, state, plan, stack.pop_all(), job.now())


def carry_out(ready: Ready, session: Session) -> RunResult:
    """Send the open run of a state, unless it is blocked, and commit it. The state is updated from responses only.

    Whatever happens from the first request on is in the result.
    """
    job, state, plan = ready.job, ready.state, ready.plan
    sync, skipped_guards = job.sync, job.options.skip_guards
    scheduled_time = state.run.scheduled_time()
    state.erasures.look()
    if state.suppress():  # somebody was erased since it was planned
        counted = read_plan(state.connection, plan.run_id, plan.rows, plan.in_state, batch_sizes(job.project, sync))
        plan = replace(counted, since=plan.since, dropped=plan.dropped, data_tests=plan.data_tests)
    job.listener.planned(sync, plan)
    for warning in warnings(plan.data_tests, DATA_TESTS in skipped_guards):
        job.notice(warning)
    if plan.uncertain:
        job.notice(about_uncertain(plan.uncertain))
    keys = state.keys(state.run.key())
    invalid = invalid_rows(state.connection, keys) if plan.invalid else []
    reasons = invalid_reasons(state.connection) if plan.invalid else []
    left_out = left_out_rows(state.connection, keys) if plan.left_out else []
    why_left_out = left_out_reasons(state.connection) if plan.left_out else []
    withheld = withheld_rows(state.connection, keys) if plan.withheld else []
    alike = alike_rows(state.connection, keys, plan)
    coming = forecast_of(job, plan, job.now(), session.rate_limit_share)
    problems = [*blocked_by(job, state, plan), *late(job, coming)]
    problems = problems or unfit(job, session, state, plan)
    sent, blocked, asks_sandbox = None, bool(problems), partial(list[SilentDrop])
    canary: Canary | None = None
    is_dirty: Question | None = None
    if not problems or may_opt_out(problems, plan):
        destination = session.destination() if plan.to_send else state.destination or destination_of(job.project)
        if job.options.canary and plan.to_send and not problems:
            canary = canary_of(job, session, state)
        state.note_workspace(destination)
        is_dirty = Question(job.project) if plan.to_send else None
        sent = send(job, session, state, plan, canary)
        if plan.to_send and destination.requests is not None:
            columns = state.run.columns()
            paths = [call.path for call in sync.calls]  # another sync may be sending to others
            asks_sandbox = partial(silent_drops, session.workspace(), destination.requests, paths, columns)
        if sent.out_of_time:
            problems = [*problems, *job.said(out_of_time(sync, job.finish_by))]
        if sent.stopped:
            is_canary = canary is not None and canary.has_stopped
            what = f"{sync.name}: {sent.stopped}"
            problems = [*problems, Problem(what, hint=sent.hint, code="X012" if is_canary else "X004")]
    if is_dirty:
        state.run.came_from({"git_dirty": is_dirty.answer()})
    status = _status(plan, sent, blocked)
    message = "; ".join(problem.message for problem in problems) or None
    has_absences = sent is not None and state.run.facts()["absences"]
    of_absences = absences.said(state.connection, sync) if has_absences else None
    try:
        delivery = state.finish(Ending(status, message, plan.counts, job.now()), moves_state=sent is not None)
    except (duckdb.Error, OSError):  # such as a full disk
        if sent and sent.accepted:
            job.notice(
                f"{count(sent.accepted, 'row')} sent and accepted: the next run records that, and sends the rest"
            )
        raise
    status = final_status(status, delivery)
    if of_absences:
        job.notice(of_absences)
    for reason, rows in delivery.unclear.items():
        if reason == READ_OTHERWISE:  # the canary has said so
            continue
        job.notice(f"{count(rows, 'row')} without a clear response: {reason}")
    return RunResult(
        sync=sync.name,
        mode=sync.mode.label,
        target=job.project.target_name,
        status=status,
        exit_code=0 if status == "success" else 1,
        errors=problems,
        scheduled_time=scheduled_time,
        started_at=job.started_at,
        duration_s=(job.now() - job.started_at).total_seconds(),
        plan=plan,
        delivery=delivery,
        invalid=invalid,
        reasons=reasons,
        left_out=left_out,
        left_out_reasons=why_left_out,
        withheld=withheld,
        alike=alike,
        silent_drops=asks_sandbox(),
        canary=canary.result if canary else None,
        planned_at=ready.planned_at,
    )


@contextmanager
def opened(job: Job, moves: bool = True) -> Iterator[State]:
    """The state of a sync, as soon as its lock is free. Reports what was recovered of a killed run.

    If the sync or its target was renamed, the state is moved first, unless it must stay where it is (`moves` false).
    """
    options = job.options
    with ExitStack() as stack:
        if moves:
            moved = job.when_free(partial(move_if_renamed, job.project, job.sync, options.clock))
            if moved:
                job.notice(moved)
        opening = partial(state_of, job.project, job.sync, options.memory_limit, options.clock)
        state = job.when_free(lambda: stack.enter_context(opening()))
        if state.dead_owner:
            job.notice(f"took over the lock of {state.dead_owner}, which ended without releasing it")
        if state.recovered:
            job.notice(f"recovered the last run, which was killed: {_in_words(state.recovered)}")
        if state.moved:
            ids = "external ids that were renamed since"
            job.notice(
                f"{count(state.moved, 'acknowledged row has', 'acknowledged rows have')} {ids}: moved to the new ones"
            )
        for note in state.copy.notes:
            job.notice(note)
        left = stack.enter_context(begin(state.place.folder, job.now())) if moves else None
        if left and not is_on_record(state.connection, left):
            job.notice(f"the run of {moment(left)} was {KILLED_EARLY}")
            with suppress(OSError):
                note_killed(job.project, job.sync, left, KILLED_EARLY)
        yield state


def refuse_others(job: Job, state: State) -> None:
    """Raises StateError if the state is of another workspace or mode: nothing can be compared with it."""
    state.destination = destination_of(job.project)
    state.rows.refuse_other_workspace(state.destination, job.project.spec.in_target("destination"))
    state.rows.refuse_other_mode(job.sync)


def plan_sync(job: Job, state: State, session: Session | None = None) -> Planned:
    """Store everything that a run would send in the outbox. Leaves no outbox behind if that fails. The `session` is
    needed for `read_first` only."""
    with state.rows.unchanging():
        return _plan_sync(job, state, session)


def _plan_sync(job: Job, state: State, session: Session | None) -> Planned:
    project, sync, options = job.project, job.sync, job.options
    refuse_others(job, state)
    if may_resend(project, sync, state):
        job.await_others()
    since = state.rows.reads_from(sync, options.full_refresh, project.spec.dialect)
    if since and since.hold:
        job.notice(since.hold)
    model = project.compile(sync.model, since.cursor if since else None)
    started_at = job.now()
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    engine = engine_of(project, state.connection)
    job.when_free(engine.open)
    layout = lay_out(sync, model.file, engine.describe(model))
    if options.intent is not Intent.BASELINE:
        with engine.interruptible():
            for notice in notices_of(project, engine, Side(layout, model), job.known):
                job.notice(notice)
    dropped = dropped_columns(state, layout) if options.intent is not Intent.BASELINE else ()
    state.run.begin(run_id, started_at, project.scheduled_time, sync.mode.label)
    try:
        with job.listener.planning(sync), engine.interruptible():
            tested = engine.run_data_tests(layout, model) if options.intent is not Intent.BASELINE else ()
            if options.intent is not Intent.BASELINE and (again := find_resent(project, sync, state)):
                job.notice(sent_again(again))
            rows = write_run(job, state, engine, layout, model, since.forgotten if since else None, session)
            state.refuse_old_ids(sync)
            note_uncertain(project, sync, state, job.await_others)
            if state.run.taken.rows or not state.run.is_blank:
                state.run.came_from(origin_of(project, model, since.cursor if since else None))
            state.run.complete()
        if options.intent is Intent.SEND and not (sync.mode.is_idempotent or state.rows.count()):
            refuse_rows_of_orphans(project, layout, state)
    except BaseException:
        state.run.drop()
        raise
    keys = state.keys(layout.key, options.show_values)
    tested = tuple(result.shown(keys) for result in tested)
    plan = read_plan(state.connection, run_id, rows, state.rows.count(), batch_sizes(project, sync))
    plan = plan.with_taken(state.run.taken.rows)
    for notice in about_emails(state, layout) if plan.changed else ():
        job.notice(notice)
    if options.intent is not Intent.BASELINE:
        for notice in about_values(project, state, layout, plan):
            job.notice(notice)
        for notice in about_volatile(state.connection, layout, model, plan):
            job.notice(notice)
    if plan.withheld > plan.quarantined and MAX_RESUBSCRIBED in options.skip_guards:
        job.notice(not_resubscribed(sync, plan.withheld - plan.quarantined))
    if dropped:
        job.notice(about_dropped(dropped))
    return Planned(replace(plan, since=since.start if since else None, dropped=dropped, data_tests=tested), layout)


def blocked_by(job: Job, state: State, plan: Plan, is_recorded: bool = True) -> list[Problem]:
    """What blocks a plan: invalid rows that are not to be skipped, data tests, and guards.

    `is_recorded`: the plan is that of a run, whose invalid rows are in the state when it ends.
    """
    sync, options = job.sync, job.options
    found = []
    if plan.invalid and not sync.skip_on_invalid_records:
        invalid = f"{plan.invalid:,} of {count(plan.rows, 'row')} {'is' if plan.invalid == 1 else 'are'} invalid"
        only = "only opt-outs were" if is_recorded else "only opt-outs would be"
        nothing = "nothing was" if is_recorded else "nothing would be"
        what = f"{sync.name}: {invalid}, so {only if plan.opts_out_only else nothing} sent"
        hint = "to send the others, set skip_on_invalid_records: true"
        if is_recorded:
            hint = f"list them with `retl rejects {sync.name}`; {hint}"
        found.append(Problem(what, sync.where("skip_on_invalid_records"), hint, code="X001"))
    found += unknown_consent(sync, state)
    removed = plan.removed if sync.on_removed != "ignore" else 0
    known = count_known(job, state, plan) if asks_for_users(sync, plan.deletes) else 0
    cost = (sum(plan.requests.values()), plan.data_points)
    counts = Counts(plan.rows, plan.in_state, plan.to_send, removed, *cost, plan.deletes, known)
    of_guards = [*failed(sync, plan.data_tests, DATA_TESTS in options.skip_guards)]
    of_guards += tripped(sync, counts, options.skip_guards)
    return [*found, *job.said(of_guards)]


def count_known(job: Job, state: State, plan: Plan) -> int:
    """How many of those that its records are about are known to be in Braze."""
    return known_users(job.project, state) if job.sync.mode.about == USER else plan.in_state


def unknown_consent(sync: Sync, state: State) -> Iterator[Problem]:
    """An error if a run would opt users in, and nobody knows who of them has opted out in Braze."""
    rows = 0 if state.run.knows_consent() else opt_ins(state.connection)
    if rows:
        what = f"{sync.name}: {count(rows, 'row')} would opt users in, and the state does not know who has opted out"
        hint = (
            f"ask Braze: `retl sync {sync.name} --read-first`; a baseline would lose opt-outs that Braze does not have"
        )
        yield Problem(what, sync.where(), hint, code="X009")


def may_opt_out(problems: Sequence[Problem], plan: Plan) -> bool:
    """Whether the opt-outs of a run that is blocked are sent: invalid rows do not speak against them, guards do."""
    return plan.opts_out_only and all(problem.code in ("X001", "X009") for problem in problems)


def forecast_of(job: Job, plan: Plan, starts_at: datetime, rate_limit_share: float = 1.0) -> Forecast:
    """When a run will be done that starts to send then, and what it leaves of the rate limits to others."""
    requests = {call: plan.requests.get(call.label, 0) for call in job.sync.calls}
    limits = {call.family: windows(job.project, call.family) for call in requests}
    return forecast(requests, limits, used_share(job.project, rate_limit_share), starts_at)


def late(job: Job, coming: Forecast) -> list[Problem]:
    """What blocks a plan because it cannot be sent in time."""
    return [] if FINISH_BY in job.options.skip_guards else job.said(too_late(job.sync, coming, job.finish_by))


def canary_of(job: Job, session: Session, state: State) -> Canary:
    """The canary of a run that is about to be sent. Drops the run if Braze does not tell of its users."""
    try:
        return begun(job, session, state)
    except BaseException:
        state.run.drop()
        raise


def send(job: Job, session: Session, state: State, plan: Plan, canary: Canary | None = None) -> Delivery:
    """Deliver the outbox, as far as its canary lets it. Never raises because of the network or a server."""
    if not plan.to_send:
        return Delivery()
    sync, options = job.sync, job.options
    routes = {call.label: _route(sync, call, session) for call in sync.calls}
    with state.journal() as journal:
        may_repeat, clock = sync.on_in_doubt == "resend", options.clock
        until_s = clock.now_s() + (job.finish_by - job.now()).total_seconds() if job.finish_by else inf
        how = SenderOptions(options.threads, options.policy, clock, may_repeat, until_s)
        if canary:
            how = replace(how, before=partial(canary.check, journal))
        sender = Sender(session.workspace(), routes, journal, how)
        with job.listener.sending(sync, plan, sender), state.while_held(sender.stop):
            delivery = sender.send(cut(read_records(state.connection), batch_sizes(job.project, sync)))
            sender.check(AFTER_OPT_OUTS)  # if the canary was all there is
            return delivery


def batch_sizes(project: LoadedProject, sync: Sync) -> dict[str, int]:
    """Maximum records per request, by endpoint: the limit of the endpoint, or that of the contract if it is lower."""
    most = project.spec.target.destination.max_objects_per_request
    return {call.label: min(call.rows_per_request, most) for call in sync.calls}


def _route(sync: Sync, call: Call, session: Session) -> Route:
    mode, deletion = sync.mode, sync.deletion
    slots = deletion.slots if deletion and call == deletion.call else mode.slots
    arrays = {slot.array for slot in slots} | {call.error_array, mode.group.array if mode.group else None}
    return Route(
        call=call,
        closing=closing(mode),
        arrays={name for name in arrays if name},
        pacer=session.pacer(call.family),
    )


def _status(plan: Plan, sent: Delivery | None, blocked: bool) -> str:
    if sent is None:
        return "blocked"
    if sent.interrupted:
        return "interrupted"
    if sent.stopped:
        return "failed"
    if blocked:
        return "blocked"
    return "incomplete" if plan.kept_back or sent.out_of_time else "success"


def _in_words(delivery: DeliveryCounts) -> str:
    doubt = f", {delivery.in_doubt:,} in doubt" if delivery.in_doubt else ""
    duplicates = delivery.possible_duplicates
    twice = f", {duplicates:,} may reach Braze twice" if duplicates else ""
    processed = f"{count(delivery.accepted, 'row')} accepted, {delivery.rejected:,} rejected{doubt}"
    return f"{processed}, {delivery.unsent:,} still to be sent{twice}"


def baseline(job: Job) -> Plan:
    """Record the model's current rows as already in Braze, except invalid rows. Sends nothing."""
    job = replace(job, options=replace(job.options, intent=Intent.BASELINE))
    with opened(job) as state:
        plan = plan_sync(job, state).plan
        state.note_workspace(destination_of(job.project))
        state.finish(Ending("baselined", None, plan.counts, job.now()))
    return plan
