"""What the page says of tries of syncs that failed, or were skipped: of the last one, and of all that are known.

Its state may know nothing of that: a run that fails before it has a plan leaves no trace there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reverse_etl.masking import all_masked
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.runs.site_facts import SiteRun, SiteTry
from reverse_etl.state.failed_tries import Try
from reverse_etl.state.look import KILLED, NOTED_WITHIN, RUNNING, WRONG, SyncStatus, tries_again, with_tries
from reverse_etl.state.tries import FAILED, Tries


@dataclass(frozen=True)
class LastTry:
    """What the status of the sync is after its last try, and why: what was wrong first, then the rest, a line each.
    `at` is when it was, if it is not on record."""

    status: str
    lines: Sequence[str]
    at: datetime | None


def last_try(
    project: LoadedProject, sync: Sync, tries: Tries, run: SiteRun | None, status: SyncStatus
) -> LastTry | None:
    """What has come of the last try of a sync since its state was as `status` says; None if nothing is known of one, or
    it went well. `run` is the last one on record."""
    now = with_tries(project, sync, tries, status)
    failing, skipped = tries.failing.get(sync.name), tries.skipped.get(sync.name)
    of_record = [f"the last run on record: {status.message}"] if status.message else []
    if now.last_run == "skipped" and skipped:
        return LastTry(now.last_run, [skipped.said(), *of_record], skipped.at)
    if not now.failures or failing is None:
        return None
    ended = run.started_at + timedelta(seconds=run.seconds) if run and run.status in FAILED else None
    is_of_record = ended is not None and ended >= failing.at - NOTED_WITHIN
    if status.last_run in (*WRONG, RUNNING, KILLED):  # what there is to say of that comes first
        why = f"{failing.said()}: {', '.join(failing.why)}" if failing.why else failing.said()
        return LastTry(now.last_run, [*(status.message or "").splitlines(), why], None if is_of_record else failing.at)
    causes = [status.message or ""] if is_of_record else []
    causes = [one for one in causes if one] or [", ".join(failing.why)]
    again = tries_again(project, sync, tries)
    said = f"{failing.said()}; {again}" if again else failing.said()
    lines = [*filter(None, causes), said, *([] if is_of_record else of_record)]
    return LastTry(now.last_run, lines, None if is_of_record else failing.at)


def tries_listed(
    sync: Sync, tries: Iterable[Try], last: datetime | None, status: str, message: str
) -> Sequence[SiteTry]:
    """The tries of a sync that left no run, the latest first; the `last` one, too, if only that is known of it."""
    found = [
        SiteTry(one.status, one.at, one.until, one.times, all_masked(_why(one)))
        for one in tries
        if one.sync == sync.name
    ]
    if last is not None and not any(one.at <= last <= one.until + NOTED_WITHIN for one in found):
        found.append(SiteTry(status, last, last, 1, message.partition("\n")[0]))
    return sorted(found, key=lambda one: one.until, reverse=True)


def _why(one: Try) -> str:
    said = ", ".join(one.why)
    return f"its predecessors had not succeeded: {said}" if one.status == "skipped" else said
