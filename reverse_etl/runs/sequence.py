"""Several syncs, one after the other."""

import time
from collections.abc import Callable, Iterator, Sequence

from reverse_etl.delivery.session import Session
from reverse_etl.errors import Mistake, RetlError
from reverse_etl.project.project import Project
from reverse_etl.project.spec import Sync
from reverse_etl.runs.outcome import RUNNING, Listener, Options, RunResult, not_run
from reverse_etl.runs.run import run_sync

DEPENDENT_CALLS_S = 300  # Braze may take so long until a call sees what another one did (api_limits)


def run_syncs(
    project: Project,
    syncs: Sequence[Sync],
    session: Session,
    options: Options,
    listener: Listener,
    is_interrupted: Callable[[], bool] = lambda: False,
    run: Callable[[Project, Sync, Session, Options, Listener], RunResult] = run_sync,
) -> Iterator[RunResult]:
    """Run syncs one after the other, in the order given; one that fails stops those that come after it, by `after`."""
    results: dict[str, RunResult] = {}
    finished_s: dict[str, float] = {}
    for sync in syncs:
        missed = [name for name in sync.after if name in results and _holds_up(results[name])]
        if is_interrupted() or missed or (options.fail_fast and any(r.exit_code for r in results.values())):
            why = f"it comes after {', '.join(missed)}" if missed else "the command ended before its turn"
            results[sync.name] = not_run(project, sync, "skipped", 1, [Mistake(f"{sync.name}: skipped: {why}")])
            yield results[sync.name]
            continue
        for name in sync.after:
            if name in finished_s and time.monotonic() - finished_s[name] < DEPENDENT_CALLS_S:
                listener.notice(sync, f"{name} sent requests a moment ago: Braze may need minutes to see their effect")
        try:
            results[sync.name] = run(project, sync, session, options, listener)
        except RetlError as error:
            results[sync.name] = not_run(project, sync, "failed", error.exit_code, error.mistakes)
        fates = results[sync.name].fates
        if fates and fates.requests:
            finished_s[sync.name] = time.monotonic()
        yield results[sync.name]


def _holds_up(result: RunResult) -> bool:
    """Whether what comes after has to wait for another time."""
    return bool(result.exit_code) or result.status == RUNNING
