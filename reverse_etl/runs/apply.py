"""Send saved plans exactly as they were reviewed; or refuse all of them, with the reason, before anything is sent.

opened_plan()    the plans in the file                                     saved_plan
refuse_stale()   each against its sync, its state and its target as they are now
jobs_to_apply()  plan -> state -> the same way as a run that was just planned       run
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from reverse_etl.delivery.session import Session
from reverse_etl.errors import ProjectError
from reverse_etl.project.project import LoadedProject
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import Listener, Options, RunResult
from reverse_etl.runs.run import carry_out, jobs_of, opened
from reverse_etl.runs.saved_plan import SavedPlan, origin, stale, take_over, when_applied, why_stale
from reverse_etl.state.state import State


@dataclass(frozen=True)
class Application:
    """How the job of a saved plan is run: it is checked once more when its turn comes."""

    saved: SavedPlan
    max_age: timedelta

    def __call__(self, job: Job, session: Session) -> RunResult:
        with opened(job) as state:
            self.refuse_stale(job, state)
            try:
                take_over(self.saved, state, job.started_at)
            except BaseException:
                state.run.drop()
                raise
            return carry_out(job, session, state, self.saved.plan)

    def refuse_stale(self, job: Job, state: State) -> None:
        """Raises StateError if the plan was sent already, or is not what would be planned from the same state now."""
        applied_at = when_applied(self.saved, state)
        why = f"it was applied at {applied_at:%Y-%m-%d %H:%M} UTC" if applied_at else None
        why = why or why_stale(self.saved, origin(job.project, job.sync, state), job.now(), self.max_age)
        if why:
            raise stale(self.saved, why)


def jobs_to_apply(
    project: LoadedProject, plans: Sequence[SavedPlan], max_age: timedelta, options: Options, listener: Listener
) -> list[Job]:
    """A job for each plan. Raises ProjectError for a plan that was made for another target."""
    for saved in plans:
        if saved.target != project.target_name:
            hint = f"pass --target {saved.target}"
            raise ProjectError(f'the plan is for target "{saved.target}", not "{project.target_name}"', hint=hint)
    jobs = jobs_of(project, [project.sync(saved.sync) for saved in plans], options, listener)
    return [replace(job, start=Application(saved, max_age)) for job, saved in zip(jobs, plans, strict=True)]


def refuse_stale(jobs: Sequence[Job]) -> None:
    """Raises StateError if one of the plans must not be sent any more, before any of them is."""
    for job in jobs:
        if isinstance(job.start, Application):
            with opened(job) as state:
                job.start.refuse_stale(job, state)
