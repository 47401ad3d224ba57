"""Several syncs, one after the other."""

from collections.abc import Callable, Iterator, Sequence

from reverse_etl.delivery.session import Session
from reverse_etl.errors import Problem, RetlError
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import RUNNING, RunResult

DEPENDENT_CALLS_S = 300  # Braze may take so long until a call sees what another one did (api_limits)


def run_jobs(
    jobs: Sequence[Job], session: Session, is_interrupted: Callable[[], bool] = lambda: False
) -> Iterator[RunResult]:
    """Run syncs one after the other, in the order given; one that fails stops those that come after it, by `after`."""
    results: dict[str, RunResult] = {}
    finished_s: dict[str, float] = {}
    for job in jobs:
        sync, clock = job.sync, job.options.clock
        missed = [name for name in sync.after if name in results and _holds_up(results[name])]
        has_failed = job.options.fail_fast and any(result.exit_code for result in results.values())
        if is_interrupted() or missed or has_failed:
            why = f"it comes after {', '.join(missed)}" if missed else "the command ended before its turn"
            results[sync.name] = job.not_run("skipped", 1, [Problem(f"{sync.name}: skipped: {why}")])
            yield results[sync.name]
            continue
        for name in sync.after:
            if name in finished_s and clock.now_s() - finished_s[name] < DEPENDENT_CALLS_S:
                job.notice(f"{name} sent requests a moment ago: Braze may need minutes to see their effect")
        try:
            results[sync.name] = job.run(session)
        except RetlError as error:
            results[sync.name] = job.not_run("failed", error.exit_code, error.problems)
        delivery = results[sync.name].delivery
        if delivery and delivery.requests:
            finished_s[sync.name] = clock.now_s()
        yield results[sync.name]


def _holds_up(result: RunResult) -> bool:
    """Whether what comes after has to wait for another time."""
    return bool(result.exit_code) or result.status == RUNNING
