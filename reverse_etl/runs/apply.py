"""Sends saved plans exactly as they were reviewed, or refuses all of them, with the reason, before anything is sent.

opened_plan()    the plans in the file                                     saved_plan
refuse_stale()   compares each with its sync, state and target as they are now
jobs_to_apply()  plan -> state, then as in a run that has just been planned         run
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

from reverse_etl.delivery.session import Session
from reverse_etl.errors import ProjectError
from reverse_etl.project.project import LoadedProject
from reverse_etl.runs.canary import refuse_canary
from reverse_etl.runs.job import Job, Ready
from reverse_etl.runs.origin import started_by
from reverse_etl.runs.outcome import Listener, Options
from reverse_etl.runs.run import batch_sizes, jobs_of, opened, refuse_others
from reverse_etl.runs.saved_plan import SavedPlan, origin, stale, take_over, when_applied, why_stale
from reverse_etl.state.state import State
from reverse_etl.words import moment


@dataclass(frozen=True)
class Application:
    """How the job of a saved plan is run: the plan is checked again when its turn comes."""

    saved: SavedPlan
    max_age: timedelta

    def __call__(self, job: Job, session: Session) -> Ready:
        refuse_canary(job)
        with ExitStack() as stack:
            state = stack.enter_context(opened(job))
            self.refuse_stale(job, state)
            try:
                plan = take_over(self.saved, state, job.started_at, batch_sizes(job.project, job.sync))
            except BaseException:
                state.run.drop()
                raise
            state.run.came_from({"started_by": started_by(job.project), "plan_digest": self.saved.digest})
            return Ready(job, state, plan, stack.pop_all(), job.now())

    def refuse_stale(self, job: Job, state: State) -> None:
        """Raises StateError if the plan was already sent, or if its sync, state or target has changed since."""
        applied_at = when_applied(self.saved, state)
        why = f"it was already applied, at {moment(applied_at)}" if applied_at else None
        why = why or why_stale(self.saved, origin(job.project, job.sync, state), job.now(), self.max_age)
        if why:
            raise stale(self.saved, why)
        refuse_others(job, state)


def jobs_to_apply(
    project: LoadedProject, plans: Sequence[SavedPlan], max_age: timedelta, options: Options, listener: Listener
) -> list[Job]:
    """A job for every plan, which is checked when the one before is done.

    Raises ProjectError for a plan that was created for another target.
    """
    for saved in plans:
        if saved.target != project.target_name:
            hint = f"pass --target {saved.target}"
            raise ProjectError(
                f'the plan is for target "{saved.target}", not "{project.target_name}"', hint=hint, code="P085"
            )
    jobs = jobs_of(project, [project.sync(saved.sync) for saved in plans], options, listener)
    starts = (Application(saved, max_age) for saved in plans)
    return [replace(job, start=start, alone=True, applies=True) for job, start in zip(jobs, starts, strict=True)]


def refuse_stale(jobs: Sequence[Job]) -> None:
    """Raises StateError, before any plan is sent, if one of them must not be sent any more."""
    for job in jobs:
        if isinstance(job.start, Application):
            with opened(job, moves=False) as state:
                job.start.refuse_stale(job, state)
