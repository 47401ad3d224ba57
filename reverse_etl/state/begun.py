"""A run that has begun: a file beside the state while one has it open, which is left where its process is killed.

begun.json    since when

A run that is killed before it sends anything leaves no trace in the state. The file can be lost without harm.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from duckdb import DuckDBPyConnection

from reverse_etl.plan.tables import RUNS
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.system.file_lock import at_work
from reverse_etl.system.small_files import read_mapping, write_mapping

KILLED_EARLY = "killed before it had sent anything"


@contextmanager
def begin(folder: Path, now: datetime) -> Iterator[datetime | None]:
    """A run, inside the block, of the sync whose lock is held. Yields when one began that was killed and left that."""
    path, left = folder / "begun.json", _read(folder)
    with suppress(OSError):
        write_mapping(path, {"at": now.isoformat()})
    try:
        yield left
    finally:
        forget_begun(folder)


def forget_begun(folder: Path) -> None:
    """The run that was killed is on record."""
    with suppress(OSError):
        (folder / "begun.json").unlink(missing_ok=True)


def killed_early(place: StatePlace) -> datetime | None:
    """When a run began that was killed, of which its state knows nothing; None if there is none, or one is running."""
    if _read(place.folder) is None or at_work(place.lock, place.sync, place.target):
        return None
    return _read(place.folder)  # it may have ended meanwhile


def is_on_record(connection: DuckDBPyConnection, begun: datetime) -> bool:
    """Whether a run has ended since in the attached state: it may be this one, that another machine has recovered."""
    ended = f"SELECT count(*) > 0 FROM {RUNS} WHERE finished_at >= $begun"
    return bool(connection.execute(ended, {"begun": begun}).fetchall()[0][0])


def _read(folder: Path) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(read_mapping(folder / "begun.json")["at"]))
    except (KeyError, ValueError):
        return None
    return found if found.tzinfo else None
