"""Runs what is due, once (`retl run-due`) or minute by minute (`retl scheduler`).

find_due()   compares schedules with the states                              due
due_jobs()   as any run, each sync for the scheduled time it is due for      run
passes()     the project as it is every minute
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from reverse_etl.delivery.session import Session
from reverse_etl.errors import AtWorkError, RetlError
from reverse_etl.project.project import LoadedProject
from reverse_etl.runs.due import Due
from reverse_etl.runs.job import Job, Ready
from reverse_etl.runs.outcome import ALREADY_RUN, RUNNING, Listener, Options, RunResult
from reverse_etl.runs.run import jobs_of, opened, plan_sync
from reverse_etl.words import moment

T = TypeVar("T")
PASS_EVERY = timedelta(minutes=1)


def due_jobs(project: LoadedProject, dues: Sequence[Due], options: Options, listener: Listener) -> list[Job]:
    """The jobs of what is due, each with its scheduled time. A sync that another process is running is left to it.

    Which time of day `finish_by` means is decided by when a sync may begin, not by when it is tried: so it is not sent
    right after the time for which it would have been too late.
    """
    jobs = jobs_of(project, [due.sync for due in dues], options, listener)
    return [_for(due, job) for due, job in zip(dues, jobs, strict=True)]


def _for(due: Due, job: Job) -> Job:
    by, begins_at = job.options.finish_by, due.scheduled_time + due.sync.delay_time
    at = job.project.scheduled_at(due.scheduled_time)
    return replace(job, start=partial(_start_due, due=due), project=at, finish_by=by.after(begins_at) if by else None)


def _start_due(job: Job, session: Session, due: Due) -> Ready | RunResult:
    if due.busy:
        return _left_alone(job, due.busy)
    with ExitStack() as stack:
        try:
            at_once = replace(job, options=replace(job.options, wait_s=0))
            state = stack.enter_context(opened(at_once))
        except AtWorkError as error:
            return _left_alone(job, error)
        done = state.rows.done_until(due.sync.delay_time)
        if done is not None and done >= due.scheduled_time:  # another process ran it in between
            return job.not_run(ALREADY_RUN, 0)
        job.notice(f"due since {moment(due.since)}")
        plan = plan_sync(job, state).plan
        return Ready(job, state, plan, stack.pop_all(), job.now())


def _left_alone(job: Job, error: AtWorkError) -> RunResult:
    """Another process is running it, so there is nothing to wait for: a later call sees whether it succeeded."""
    return job.not_run(RUNNING, 0, [replace(problem, hint=None) for problem in error.problems])


def passes(
    read: Callable[[], T],
    now: Callable[[], datetime],
    wait: Callable[[float], None],
    say: Callable[[str], None],
) -> Iterator[T]:
    """The results of `read`, now and then at the start of every minute. Never ends.

    While the project is invalid, nothing is yielded, and the error is reported once. A pass that takes longer than a
    minute is followed by the next at once. If the clock is set back, the wait is still at most a minute.
    """
    told: str | None = None
    while True:
        began = now()
        try:
            project = read()
        except RetlError as error:
            if str(error) != told:
                told = str(error)
                say(f"{told}\nno sync runs until this is fixed; checking again every minute")
        else:
            if told is not None:
                say("the project is valid again")
            told = None
            yield project
        wait_s = (began.replace(second=0, microsecond=0) + PASS_EVERY - now()).total_seconds()
        wait(min(max(wait_s, 0), PASS_EVERY.total_seconds()))
