"""Several syncs, one after another."""

from collections.abc import Callable, Iterator, Sequence

from reverse_etl.delivery.session import Session
from reverse_etl.errors import Problem, RetlError
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import RUNNING, RunResult

DEPENDENT_CALLS_S = 300  # Braze may take this long until a request sees the effect of another (api_limits)


def run_jobs(
    jobs: Sequence[Job], session: Session, is_interrupted: Callable[[], bool] = lambda: False
) -> Iterator[RunResult]:
    """Run syncs one after another, in the order given; after a failure, those that list it in `after` are skipped."""
    results: dict[str, RunResult] = {}
    finished_s: dict[str, float] = {}
    for job in jobs:
        sync, clock = job.sync, job.options.clock
        missed = [name for name in sync.after if name in results and _holds_up(results[name])]
        has_failed = job.options.fail_fast and any(result.exit_code for result in results.values())
        if is_interrupted() or missed or has_failed:
            why = "the command ended before this sync started"
            if missed:
                why = f"its predecessors have not succeeded: {', '.join(missed)}"
            results[sync.name] = job.not_run("skipped", 1, [Problem(f"{sync.name}: skipped: {why}", code="X005")])
            yield results[sync.name]
            continue
        for name in sync.after:
            if name in finished_s and clock.now_s() - finished_s[name] < DEPENDENT_CALLS_S:
                job.notice(f"{name} has just sent requests: Braze may take minutes to apply them")
        try:
            results[sync.name] = job.run(session)
        except RetlError as error:
            results[sync.name] = job.not_run("failed", error.exit_code, error.problems)
        delivery = results[sync.name].delivery
        if delivery and delivery.requests:
            finished_s[sync.name] = clock.now_s()
        yield results[sync.name]


def _holds_up(result: RunResult) -> bool:
    """Whether syncs that run after it have to be skipped."""
    return bool(result.exit_code) or result.status == RUNNING
