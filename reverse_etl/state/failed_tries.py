"""Tries of syncs that failed, or were skipped, without a run in their state: for people. Nothing is decided by them.

.retl/<target>/failed_tries.json, wherever the states are    the last ones, oldest first: when, what came of it, why

The same of a sync, one after the other on one day, is one line, with how often it was. There is room for some thousand
lines; what is over it is taken from the syncs that have most. The file can be lost without harm.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reverse_etl.project.project import LoadedProject
from reverse_etl.system.small_files import read_mapping, write_mapping

MOST_BYTES = 256 * 1024
_TRIES = "tries"
_AROUND = 32  # bytes around the lines


@dataclass(frozen=True)
class Try:
    """What came of a sync `times` times, the first at `at`, the last at `until`. `why` is what was wrong, as titles of
    errors and where, or after which syncs it was skipped: no message, which may have a value in it."""

    sync: str
    status: str
    at: datetime
    until: datetime
    why: tuple[str, ...] = ()
    times: int = 1


def tried(project: LoadedProject) -> list[Try]:
    """All that are known of the target, the oldest first."""
    return _read(_file(project))


def note_try(project: LoadedProject, one: Try) -> None:
    """Remember a try; the caller keeps others from the files of tries meanwhile. Raises OSError if it cannot."""
    path = _file(project)
    write_mapping(path, {_TRIES: [written(each) for each in kept(with_one(_read(path), one))]})


def with_one(known: Iterable[Try], one: Try) -> list[Try]:
    """All of them with one more; with the last of its sync, if that is the same on the same day."""
    found = list(known)
    at = next((at for at in reversed(range(len(found))) if found[at].sync == one.sync), None)
    last = None if at is None else found[at]
    if at is None or last is None or _kind(last) != _kind(one) or last.until > one.at:
        return [*found, one]
    del found[at]
    return [*found, replace(last, until=one.until, times=last.times + one.times)]


def kept(tries: Iterable[Try], most_bytes: int = MOST_BYTES) -> list[Try]:
    """Those that there is room for: the oldest of the sync that has most goes first."""
    found = list(tries)
    # As in the file, where every line is indented by two more.
    texts = (json.dumps(written(one), ensure_ascii=False, indent=1) for one in found)
    sizes = [len(text.encode()) + 2 * (text.count("\n") + 1) + 2 for text in texts]
    of_sync, size = Counter(one.sync for one in found), sum(sizes) + _AROUND
    while size > most_bytes:
        most = max(of_sync.values())
        at = next(at for at, one in enumerate(found) if of_sync[one.sync] == most)
        of_sync[found[at].sync] -= 1
        size -= sizes.pop(at)
        del found[at]
    return found


def _kind(one: Try) -> tuple[object, ...]:
    return one.status, one.why, one.until.astimezone(UTC).date()


def _file(project: LoadedProject) -> Path:
    return project.target_folder / "failed_tries.json"


def _read(path: Path) -> list[Try]:
    """What is in the file, without what is nothing of ours."""
    written = read_mapping(path).get(_TRIES)
    found = map(_try, written if isinstance(written, list) else [])
    return [one for one in found if one]


def written(one: Try) -> Mapping[str, Any]:
    """As it is in the file."""
    times = {"at": one.at.isoformat(), "until": one.until.isoformat(), "times": one.times}
    return {"sync": one.sync, "status": one.status, "why": list(one.why), **times}


def _try(value: Any) -> Try | None:
    try:
        at, until = (datetime.fromisoformat(value[name]) for name in ("at", "until"))
        why = tuple(map(str, value["why"]))
        found = Try(str(value["sync"]), str(value["status"]), at, until, why, int(value["times"]))
    except (TypeError, KeyError, ValueError):
        return None
    return found if found.times > 0 and at.tzinfo and until.tzinfo else None
