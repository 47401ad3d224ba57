"""Send saved plans exactly as they were reviewed; or refuse all of them, with the reason, before anything is sent.

opened_plan()    the plans in the file                                     saved_plan
refuse_stale()   each against its sync, its state and its target as they are now
apply_syncs()    plan -> state -> the same way as a run that was just planned       run
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from reverse_etl.delivery.session import Session
from reverse_etl.errors import ProjectError
from reverse_etl.project.project import Project
from reverse_etl.project.spec import Sync
from reverse_etl.runs.outcome import Listener, Options, RunResult
from reverse_etl.runs.run import carry_out, opened
from reverse_etl.runs.saved_plan import SavedPlan, origin, stale, take_over, when_applied, why_stale
from reverse_etl.runs.sequence import run_syncs
from reverse_etl.state.state import State


def refuse_stale(
    project: Project, plans: Sequence[SavedPlan], max_age: timedelta, options: Options, listener: Listener
) -> None:
    """Raises for a plan that must not be sent: ProjectError for a foreign one, StateError for a stale one."""
    for saved in plans:
        if saved.target != project.target_name:
            hint = f"pass --target {saved.target}"
            raise ProjectError(f'the plan is for target "{saved.target}", not "{project.target_name}"', hint=hint)
    for saved in plans:
        sync = project.sync(saved.sync)
        with opened(project, sync, options, listener) as state:
            _refuse(project, sync, state, saved, max_age)


def apply_syncs(
    project: Project,
    plans: Sequence[SavedPlan],
    max_age: timedelta,
    session: Session,
    options: Options,
    listener: Listener,
    is_interrupted: Callable[[], bool],
) -> Iterator[RunResult]:
    """Send the plans, one after the other, as `run_syncs` does. Each is looked at once more when its turn comes."""
    by_sync = {saved.sync: saved for saved in plans}
    syncs = [project.sync(saved.sync) for saved in plans]
    yield from run_syncs(
        project, syncs, session, options, listener, is_interrupted, partial(_apply, plans=by_sync, max_age=max_age)
    )


def _apply(
    project: Project,
    sync: Sync,
    session: Session,
    options: Options,
    listener: Listener,
    plans: Mapping[str, SavedPlan],
    max_age: timedelta,
) -> RunResult:
    started_at, saved = datetime.now(UTC), plans[sync.name]
    with opened(project, sync, options, listener) as state:
        _refuse(project, sync, state, saved, max_age)
        try:
            take_over(saved, state, started_at)
        except BaseException:
            state.drop_run()
            raise
        return carry_out(project, sync, state, saved.plan, session, options, listener, started_at)


def _refuse(project: Project, sync: Sync, state: State, saved: SavedPlan, max_age: timedelta) -> None:
    applied_at = when_applied(saved, state)
    why = f"it was applied at {applied_at:%Y-%m-%d %H:%M} UTC" if applied_at else None
    why = why or why_stale(saved, origin(project, sync, state), datetime.now(UTC), max_age)
    if why:
        raise stale(saved, why)
