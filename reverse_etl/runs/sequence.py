"""Several syncs, one after another; one may wait until Braze has applied what those before it have sent."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from reverse_etl.delivery.session import Session
from reverse_etl.errors import Problem, RetlError
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import RUNNING, RunResult
from reverse_etl.state.tries import note_run
from reverse_etl.words import duration

DEPENDENT_CALLS_S = 300  # Braze may take this long until a request sees the effect of another (api_limits)


def run_jobs(
    jobs: Sequence[Job], session: Session, is_interrupted: Callable[[], bool] = lambda: False
) -> Iterator[RunResult]:
    """Run syncs one after another, in the order given; after a failure, those that list it in `after` are skipped."""
    results: dict[str, RunResult] = {}
    finished_s: dict[str, float] = {}  # of those that have sent something
    identities, has_told = {job.sync.name for job in jobs if job.sync.mode.changes_identity}, False
    for job in jobs:
        sync, clock = job.sync, job.options.clock
        missed = [name for name in sync.predecessors if name in results and _holds_up(results[name])]
        has_failed = job.options.fail_fast and any(result.exit_code for result in results.values())
        if is_interrupted() or missed or has_failed:
            why = "the command ended before this sync started"
            if missed:
                why = f"its predecessors have not succeeded: {', '.join(missed)}"
            results[sync.name] = job.not_run("skipped", 1, [Problem(f"{sync.name}: skipped: {why}", code="X005")])
            yield results[sync.name]
            continue
        _wait(job, finished_s)
        if not has_told:
            has_told = _tell(job, identities, finished_s)
        try:
            results[sync.name] = job.run(session)
        except RetlError as error:
            results[sync.name] = job.not_run("failed", error.exit_code, error.problems)
        note_end(job, results[sync.name])
        delivery = results[sync.name].delivery
        if delivery and delivery.requests:
            finished_s[sync.name] = clock.now_s()
        yield results[sync.name]


def note_end(job: Job, result: RunResult) -> None:
    """Remember how a run ended, for its schedule: without that, it tries again at once."""
    with suppress(OSError):
        note_run(job.project, job.sync, result.status, job.now())


def _wait(job: Job, finished_s: Mapping[str, float]) -> None:
    """Wait as `after` of the sync says, unless the syncs before it have sent nothing. A signal ends it."""
    now_s = job.options.clock.now_s()
    waits = [(finished_s[one.sync] + one.wait_s - now_s, one.sync) for one in job.sync.after if one.sync in finished_s]
    wait_s, name = max(waits, default=(0.0, ""))
    if wait_s > 0:
        job.notice(f"waiting {duration(wait_s)} until Braze has applied what {name} has sent (after: wait)")
        job.options.clock.wait(wait_s, threading.Event())


def _tell(job: Job, identities: AbstractSet[str], finished_s: Mapping[str, float]) -> bool:
    """Point out that Braze may not have applied what a sync before it has sent, if one of both is in `identities`: they
    decide which profile an identifier means."""
    sync, now_s = job.sync, job.options.clock.now_s()
    for before in sync.after:
        is_new = before.sync in finished_s and now_s - finished_s[before.sync] < DEPENDENT_CALLS_S
        if is_new and not before.wait_s and not identities.isdisjoint((sync.name, before.sync)):
            how = f"to wait, write `{{sync: {before.sync}, wait: 5 minutes}}` in `after`"
            job.notice(f"{before.sync} has just sent requests, which Braze may take minutes to apply; {how}")
            return True
    return False


def _holds_up(result: RunResult) -> bool:
    """Whether syncs that run after it have to be skipped."""
    return bool(result.exit_code) or result.status == RUNNING
