"""A dry run: plans a run, inspects its outbox, and drops it; before that, it may be saved to a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from reverse_etl.errors import Problem
from reverse_etl.plan.alike import AlikeRows, alike_rows
from reverse_etl.plan.outbox import (
    InvalidReason,
    InvalidRow,
    SampleChange,
    changes_by_column,
    invalid_reasons,
    invalid_rows,
    left_out_reasons,
    left_out_rows,
    most_sent,
    sample_changes,
    withheld_reasons,
    withheld_rows,
)
from reverse_etl.plan.plan import Plan
from reverse_etl.plan.workbench import allow
from reverse_etl.project.spec import Sync
from reverse_etl.runs.finish_by import Forecast
from reverse_etl.runs.job import Job
from reverse_etl.runs.lock import lock_notices
from reverse_etl.runs.notices import new_columns
from reverse_etl.runs.run import Planned, blocked_by, count_known, forecast_of, late, may_opt_out, opened, plan_sync
from reverse_etl.state.state import State


class Save(Protocol):
    """Saves a copy of an open run, with the run's connection, in a folder of its own."""

    @property
    def folder(self) -> Path: ...

    def __call__(self, job: Job, state: State, plan: Plan) -> None: ...


@dataclass(frozen=True)
class Preview:
    """What a run would do: its plan, records per column, some changes, and what would block it.

    `invalid` are the first invalid rows, `reasons` the rules that invalid rows break; `left_out` the first rows
    without some columns, `left_out_reasons` why; `withheld` the first rows that a run would not send, or not whole,
    `withheld_reasons` why opt-ins are withheld; `alike` has all of these rows, by reason. `known`: users, or items,
    that the states know, if any are deleted.
    `forecast` is when a run would be done, after those of the same command, and `finish_by` when it has to be.
    `most_sent` is how often each event or product is sent, the most frequent first; empty where values are masked.
    `depends_on` are the dbt nodes that the model reads; `new_columns` those that no run before has sent.
    """

    sync: Sync
    target: str
    plan: Plan
    columns: Mapping[str, int]
    sample: Sequence[SampleChange]
    invalid: Sequence[InvalidRow]
    reasons: Sequence[InvalidReason]
    blocked_by: Sequence[Problem]
    forecast: Forecast
    finish_by: datetime | None = None
    depends_on: Sequence[str] = ()
    withheld: Sequence[InvalidRow] = ()
    left_out: Sequence[InvalidRow] = ()
    left_out_reasons: Sequence[InvalidReason] = ()
    most_sent: Mapping[str, int] = field(default_factory=dict)
    new_columns: Sequence[str] = ()
    withheld_reasons: Sequence[InvalidReason] = ()
    known: int = 0
    alike: AlikeRows = field(default_factory=AlikeRows)

    @property
    def not_whole(self) -> int:
        """Rows that a run, if nothing blocks it, would not send, or not whole: it is incomplete, and exits with 1."""
        return 0 if self.blocked_by else self.plan.kept_back

    @property
    def is_stopped(self) -> bool:
        """Whether a run would send nothing at all, as something blocks it."""
        return bool(self.blocked_by) and not may_opt_out(self.blocked_by, self.plan)

    @property
    def seconds(self) -> float:
        """How long its requests take under the rate limits if others leave it its share."""
        return self.forecast.seconds


def preview_syncs(jobs: Sequence[Job], save: Save | None = None, rate_limit_share: float = 1.0) -> Iterator[Preview]:
    """The previews of one command: of runs one after another, which wait for those before as `after` says."""
    free_s, done_s = 0.0, dict[str, float]()
    for job in jobs:
        start_s = max(free_s, *(done_s[one.sync] + one.wait_s for one in job.sync.after if one.sync in done_s), 0.0)
        preview = preview_sync(job, save, start_s, rate_limit_share)
        if preview.plan.to_send and not preview.blocked_by:
            free_s = done_s[job.sync.name] = start_s + preview.seconds
        yield preview


def preview_sync(
    job: Job,
    save: Save | None = None,
    starts_in_s: float = 0.0,
    rate_limit_share: float = 1.0,
    plan: Callable[[Job, State], Planned] = plan_sync,
) -> Preview:
    """Plan a run, inspect its outbox, and drop it; `save` may save a copy first."""
    project, sync = job.project, job.sync
    with opened(job, moves=False) as state:
        if save:
            allow(state.connection, folders=[str(save.folder)])
        planned = plan(job, state)
        for notice in lock_notices(project, planned.layout, state.connection):
            job.notice(notice)
        keys = state.keys(planned.layout.key, job.options.show_values)
        starts_at = job.now() + timedelta(seconds=starts_in_s)
        coming = forecast_of(job, planned.plan, starts_at, rate_limit_share)
        preview = Preview(
            sync,
            project.target_name,
            planned.plan,
            changes_by_column(state.connection, planned.layout),
            sample_changes(state.connection, planned.layout, state.rows.columns(), keys, state.acknowledged),
            invalid_rows(state.connection, keys),
            invalid_reasons(state.connection),
            [*blocked_by(job, state, planned.plan, is_recorded=False), *late(job, coming)],
            coming,
            job.finish_by,
            sorted(relation.unique_id for relation in project.reads(sync) if relation.unique_id),
            withheld_rows(state.connection, keys) if planned.plan.withheld else (),
            left_out_rows(state.connection, keys) if planned.plan.left_out else (),
            left_out_reasons(state.connection) if planned.plan.left_out else (),
            most_sent(state.connection, planned.layout) if job.options.show_values else {},
            new_columns(state, planned.layout),
            withheld_reasons(state.connection) if planned.plan.withheld else (),
            count_known(job, state, planned.plan) if planned.plan.deletes else 0,
            alike_rows(state.connection, keys, planned.plan),
        )
        if save:
            save(job, state, planned.plan)
        state.run.drop()
    return preview
