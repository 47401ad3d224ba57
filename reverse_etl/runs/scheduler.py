"""Runs what is due, once (`retl run-due`) or minute by minute (`retl schedule`).

find_due()   schedules against the states                                       due
run_due()    the same way as any run, each sync for the moment it was due       run
passes()     the project as it is at each minute
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from reverse_etl.delivery.session import Session
from reverse_etl.errors import AtWorkError, RetlError
from reverse_etl.project.project import Project
from reverse_etl.project.spec import Sync
from reverse_etl.runs.due import Due
from reverse_etl.runs.outcome import DONE, RUNNING, Listener, Options, RunResult, not_run
from reverse_etl.runs.run import carry_out, opened, plan_sync
from reverse_etl.runs.sequence import run_syncs

T = TypeVar("T")
PASS_EVERY = timedelta(minutes=1)


def run_due(
    project: Project,
    dues: Sequence[Due],
    session: Session,
    options: Options,
    listener: Listener,
    is_interrupted: Callable[[], bool],
) -> Iterator[RunResult]:
    """Run what is due, as `run_syncs` does. A sync that another process is at work on is left to it."""
    by_sync = {due.sync.name: due for due in dues}
    syncs = [due.sync for due in dues]
    run = partial(_run_due, dues=by_sync)
    for result in run_syncs(project, syncs, session, options, listener, is_interrupted, run):
        yield replace(result, scheduled_time=by_sync[result.sync].scheduled_time)


def _run_due(
    project: Project,
    sync: Sync,
    session: Session,
    options: Options,
    listener: Listener,
    dues: Mapping[str, Due],
) -> RunResult:
    started_at, due = datetime.now(UTC), dues[sync.name]
    project = project.scheduled_at(due.scheduled_time)
    if due.busy:
        return _left_alone(project, sync, due.busy)
    with ExitStack() as stack:
        try:
            state = stack.enter_context(opened(project, sync, replace(options, wait_s=0), listener))
        except AtWorkError as error:
            return _left_alone(project, sync, error)
        done = state.done_until()
        if done is not None and done >= due.scheduled_time:  # between the look and now
            return not_run(project, sync, DONE, 0, [])
        listener.notice(sync, f"due since {due.scheduled_time:%Y-%m-%d %H:%M} UTC")
        plan, _ = plan_sync(project, sync, state, options, listener)
        return carry_out(project, sync, state, plan, session, options, listener, started_at)


def _left_alone(project: Project, sync: Sync, error: AtWorkError) -> RunResult:
    """What is being done needs no waiting for: a later call sees whether it went well."""
    return not_run(project, sync, RUNNING, 0, [replace(mistake, hint=None) for mistake in error.mistakes])


def passes(
    read: Callable[[], T],
    now: Callable[[], datetime],
    wait: Callable[[float], None],
    say: Callable[[str], None],
) -> Iterator[T]:
    """What `read` makes of the project, now and then at the beginning of each minute. Has no end.

    While it is broken nothing is yielded; what is wrong is said once. A pass that takes longer than its minute is
    followed by the next at once. A clock that was set back does not make anybody wait longer than a minute.
    """
    told: str | None = None
    while True:
        began = now()
        try:
            project = read()
        except RetlError as error:
            if str(error) != told:
                told = str(error)
                say(f"{told}\nnothing runs until that is mended; looking again each minute")
        else:
            if told is not None:
                say("the project can be read again")
            told = None
            yield project
        wait_s = (began.replace(second=0, microsecond=0) + PASS_EVERY - now()).total_seconds()
        wait(min(max(wait_s, 0), PASS_EVERY.total_seconds()))
