"""A dry run: the plan of a run and a look at its outbox, which is dropped, or kept in a file before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reverse_etl.delivery.session import windows
from reverse_etl.errors import Problem
from reverse_etl.plan.outbox import (
    InvalidReason,
    InvalidRow,
    SampleChange,
    changes_by_column,
    invalid_reasons,
    invalid_rows,
    sample_changes,
)
from reverse_etl.plan.plan import Plan
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.runs.job import Job
from reverse_etl.runs.run import blocked_by, calls, opened, plan_sync
from reverse_etl.state.state import State

Save = Callable[[Job, State, Plan], None]  # keeps a copy of an open run


@dataclass(frozen=True)
class Preview:
    """What a run would do: its plan, how often each column goes out, some changes, what would stop it.

    `invalid` are the first invalid rows, `reasons` the rules that all of them break. `seconds` is what the rate limit
    makes of the requests, if nobody else sends. `depends_on` is what the model reads of a dbt project.
    """

    sync: Sync
    target: str
    plan: Plan
    columns: Mapping[str, int]
    sample: Sequence[SampleChange]
    invalid: Sequence[InvalidRow]
    reasons: Sequence[InvalidReason]
    blocked_by: Sequence[Problem]
    seconds: float
    depends_on: Sequence[str] = ()


def preview_sync(job: Job, save: Save | None = None) -> Preview:
    """Plan a run, look at its outbox, and drop it; `save` may keep a copy before."""
    project, sync = job.project, job.sync
    with opened(job) as state:
        planned = plan_sync(job, state)
        preview = Preview(
            sync,
            project.target_name,
            planned.plan,
            changes_by_column(state.connection, planned.layout),
            sample_changes(state.connection, planned.layout, state.rows.columns()),
            invalid_rows(state.connection),
            invalid_reasons(state.connection),
            blocked_by(sync, planned.plan, job.options),
            _seconds(project, sync, planned.plan),
            sorted(relation.unique_id for relation in project.reads(sync) if relation.unique_id),
        )
        if save:
            save(job, state, planned.plan)
        state.run.drop()
    return preview


def _seconds(project: LoadedProject, sync: Sync, plan: Plan) -> float:
    limits = {call.path: windows(project, call.family) for call in calls(sync)}
    return sum(
        max(requests * window.per_seconds / window.requests for window in limits[path])
        for path, requests in plan.requests.items()
    )
