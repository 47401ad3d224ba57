"""Until when syncs were done, as their states said when somebody last looked.

.retl/<target>/done.json    by sync: which file the state was, and the latest scheduled time that it was run for

To open hundreds of states takes longer than all else that is done every minute to find that nothing is due. What was
noted counts for a file that has not changed by a byte since, whole, and old enough then that a change shows in its
times. Anything else is looked up in the state. The file can be lost without harm.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from reverse_etl.project.project import LoadedProject
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.system.clock import Clock
from reverse_etl.system.small_files import read_mapping, write_mapping

COARSEST = timedelta(seconds=3)  # of the times that file systems have of files


@dataclass(frozen=True)
class Done:
    """Until when a sync was done; None before its first run."""

    until: datetime | None


class DoneTimes:
    """What was noted of the syncs of a target."""

    def __init__(self, project: LoadedProject) -> None:
        self._path = project.target_folder / "done.json"
        self._known, self._noted = read_mapping(self._path), dict[str, Any]()

    def of(self, place: StatePlace, delay: timedelta) -> Done | None:
        """Until when a sync was done, if its schedule has this delay; None if its state has to be asked."""
        noted = self._known.get(place.sync)
        if not isinstance(noted, Mapping) or noted.get("delay") != delay.total_seconds():
            return None
        file = file_of(place)
        if file is None or noted.get("file") != file or not _is_settled(file):
            return None
        with suppress(TypeError, ValueError):
            until = noted["until"]
            return Done(None if until is None else datetime.fromisoformat(until).astimezone(UTC))
        return None

    def note(self, place: StatePlace, delay: timedelta, file: list[int] | None, until: datetime | None) -> None:
        """Note what a state has said, which was this `file` before it was asked."""
        if file and _is_settled(file):
            said = until.isoformat() if until else None
            self._noted[place.sync] = {"file": file, "delay": delay.total_seconds(), "until": said}

    def keep(self, syncs: Iterable[str]) -> None:
        """Write down what was noted of these syncs, if that is possible."""
        if self._noted and self._path.parent.is_dir():
            names, known = set(syncs), {**self._known, **self._noted}
            with suppress(OSError):
                write_mapping(self._path, {name: one for name, one in known.items() if name in names})


def file_of(place: StatePlace) -> list[int] | None:
    """What tells one file from another, and from itself after a change; None if there is none, or more than that."""
    try:
        one = place.state.lstat()
    except OSError:
        return None
    if place.state.with_name("state.duckdb.wal").exists():
        return None
    return [one.st_dev, one.st_ino, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns]


def _is_settled(file: list[int]) -> bool:
    """Whether a change of a file, from now on, would show in its times."""
    *_, changed_ns, moved_ns = file
    age_s = Clock().utc().timestamp() - max(changed_ns, moved_ns) / 1e9
    return age_s > COARSEST.total_seconds()
