"""Syncs whose last runs failed, and how long their schedule waits until it tries again; syncs that were skipped.

.retl/<target>/tries.json, wherever the states are    how often each failed in a row, why; after which syncs it was
                                                      skipped; gone when a run succeeds

The state cannot tell: a run that fails in its model leaves no trace there. The file can be lost without harm: then the
schedule tries again at once. All such tries, also of syncs that have succeeded since, are in `failed_tries.py`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from reverse_etl.codes import CODES
from reverse_etl.errors import Problem
from reverse_etl.project.cron import Cron
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.state.failed_tries import Try, note_try
from reverse_etl.system.small_files import alone_with, read_mapping, write_mapping
from reverse_etl.words import count, moment

FAILED, SUCCEEDED = ("failed", "blocked"), ("success", "incomplete")  # others leave open what comes of a sync
ELSEWHERE = ("running", "already_run")  # another process has it
_EITHER = " or ".join(FAILED)
_FIRST_WAIT = timedelta(minutes=1)
_MOST_DOUBLINGS = 20  # two years
_MOST_REASONS = 3  # that are kept


@dataclass(frozen=True)
class Failing:
    """A sync that failed `times` in a row, the first time at `since`, the last at `at`.

    `of` is a digest of what it was then: keys, models, vars. A sync that was changed is tried again at once.
    `why` is what was wrong the last time, as titles of errors and where: no message, which may have a value in it.
    `how` is how these runs ended: failed, blocked, or some so and some so.
    """

    times: int
    since: datetime
    at: datetime
    of: str
    why: tuple[str, ...] = ()
    how: str = "failed"

    def said(self) -> str:
        return f"{self.how} {count(self.times, 'time')} in a row, the last at {moment(self.at)}"


@dataclass(frozen=True)
class Skipped:
    """A sync that did not run at `at`, as syncs that it runs after, these, had not succeeded."""

    at: datetime
    behind: tuple[str, ...]

    def said(self) -> str:
        return f"skipped: its predecessors have not succeeded: {', '.join(self.behind)}"


@dataclass(frozen=True)
class Tries:
    """What has come of the last tries of syncs, by name: of those that failed, and of those that did not run."""

    failing: Mapping[str, Failing]
    skipped: Mapping[str, Skipped]


def next_try(failing: Failing, cron: Cron) -> datetime:
    """Until when a schedule leaves a failing sync alone: 1, 2, 4 ... minutes, at most to its next scheduled time."""
    wait: timedelta = _FIRST_WAIT * 2 ** min(failing.times - 1, _MOST_DOUBLINGS)
    until = (failing.at + wait + _FIRST_WAIT / 2).replace(second=0, microsecond=0)  # the nearest: cron calls then
    following = cron.following(failing.at)
    return min(until, following) if following else until


def waits_until(failing: Failing | None, sync: Sync, digest: str, now: datetime) -> datetime | None:
    """The same, if that is after `now`; None if nothing keeps the schedule from running the sync."""
    if failing is None or sync.cron is None or failing.of != digest or failing.at > now:
        return None
    until = next_try(failing, sync.cron)
    return until if until > now else None


def after_run(before: Failing | None, status: str, failing: Failing) -> Failing | None:
    """What is to be remembered of a sync after a run that ended with this status; `failing` if it is the first one."""
    if status in FAILED:
        if before is None:
            return failing
        how = failing.how if failing.how == before.how else _EITHER
        return replace(failing, times=before.times + 1, since=before.since, how=how)
    return None if status in SUCCEEDED else before


def in_short(problems: Iterable[Problem]) -> tuple[str, ...]:
    """Errors as the titles of their codes, and where they are: without what their messages name."""
    said = (
        f"{CODES[one.code].title} [{one.code}]{f' in {one.location}' if one.location else ''}"
        for one in problems
        if one.code in CODES
    )
    return tuple(dict.fromkeys(said))[:_MOST_REASONS]


def failing_syncs(project: LoadedProject) -> dict[str, Failing]:
    """The syncs of the target whose last run failed, by name."""
    found = {name: _failing(value) for name, value in read_mapping(_file(project)).items()}
    return {name: one for name, one in found.items() if one}


def tries_of(project: LoadedProject) -> Tries:
    """The syncs of the target whose last run failed, and those that were skipped after it."""
    written = read_mapping(_file(project))
    skipped = {name: _skipped(value) for name, value in written.items()}
    return Tries(failing_syncs(project), {name: one for name, one in skipped.items() if one})


def waits(project: LoadedProject, failing: Mapping[str, Failing], sync: Sync, now: datetime) -> datetime | None:
    """Until when the schedule of a sync waits, because it failed; None if it does not."""
    found = failing.get(sync.name)
    return waits_until(found, sync, digest_of(project, sync), now) if found else None


def note_run(
    project: LoadedProject,
    sync: Sync,
    status: str,
    now: datetime,
    problems: Iterable[Problem] = (),
    is_on_record: bool = False,
) -> None:
    """Remember how a run of a sync ended, which may be on record in its state. Raises OSError if that cannot be
    written."""
    path = _file(project)
    if sync.name not in read_mapping(path) and status not in FAILED:
        return
    with alone_with(path):
        known = read_mapping(path)
        failing = Failing(1, now, now, digest_of(project, sync), in_short(problems), status)
        if status in FAILED and not is_on_record:
            note_try(project, Try(sync.name, status, now, now, failing.why))
        before = known.pop(sync.name, None)
        after = after_run(_failing(before), status, failing)
        entry = _skip(_skipped(before)) if status in ELSEWHERE else {}
        entry |= _fail(after)
        if entry:
            known[sync.name] = entry
        write_mapping(path, known)


def note_killed(project: LoadedProject, sync: Sync, at: datetime, why: str) -> None:
    """Remember a run that was killed and left no trace in the state. Raises OSError if that cannot be written."""
    path = _file(project)
    with alone_with(path):
        note_try(project, Try(sync.name, "killed", at, at, (why,)))
        known = read_mapping(path)
        after = after_run(
            _failing(known.get(sync.name)), FAILED[0], Failing(1, at, at, digest_of(project, sync), (why,))
        )
        known[sync.name] = _fail(after)
        write_mapping(path, known)


def note_skip(project: LoadedProject, sync: Sync, now: datetime, behind: Sequence[str]) -> None:
    """Remember that a sync did not run, as these had not succeeded. Raises OSError if that cannot be written."""
    path = _file(project)
    with alone_with(path):
        note_try(project, Try(sync.name, "skipped", now, now, tuple(behind)))
        known = read_mapping(path)
        before = known.get(sync.name)
        known[sync.name] = (before if isinstance(before, dict) else {}) | _skip(Skipped(now, tuple(behind)))
        write_mapping(path, known)


def digest_of(project: LoadedProject, sync: Sync) -> str:
    """A digest of all that a run of a sync depends on in the project, whatever the command line says."""
    sync = project.sync(sync.name)
    guards = json.dumps(sync.guards.model_dump(mode="json"), sort_keys=True)
    return sha256(f"{project.fingerprint(sync)} {guards}".encode()).hexdigest()


def _file(project: LoadedProject) -> Path:
    return project.target_folder / "tries.json"


def _fail(failing: Failing | None) -> dict[str, Any]:
    """As it is written."""
    if failing is None:
        return {}
    times = {name: getattr(failing, name).isoformat() for name in ("since", "at")}
    return {"times": failing.times, "of": failing.of, "why": list(failing.why), "how": failing.how, **times}


def _skip(skipped: Skipped | None) -> dict[str, Any]:
    """As it is written."""
    return {"skipped_at": skipped.at.isoformat(), "behind": [*skipped.behind]} if skipped else {}


def _skipped(value: Any) -> Skipped | None:
    """What was written; None for anything else."""
    try:
        found = Skipped(datetime.fromisoformat(value["skipped_at"]), tuple(map(str, value["behind"])))
    except (TypeError, KeyError, ValueError):
        return None
    return found if found.at.tzinfo else None


def _failing(value: Any) -> Failing | None:
    """What was written; None for anything else."""
    try:
        since, at = (datetime.fromisoformat(value[name]) for name in ("since", "at"))
        why = tuple(map(str, value.get("why", ())))
        how = value.get("how")
        how = how if how in (*FAILED, _EITHER) else FAILED[0]
        found = Failing(int(value["times"]), since, at, str(value["of"]), why, how)
    except (TypeError, KeyError, ValueError):
        return None
    return found if found.times > 0 and since.tzinfo and at.tzinfo else None
