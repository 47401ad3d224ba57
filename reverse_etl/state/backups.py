"""What lies beside a state without being part of it: backups, and what killed processes left.

before-reset-<time>/             the state before `retl state reset`
before-format-N.duckdb           the state before it was migrated to format N
before-sharing-<time>.duckdb     the state of this folder, when the store had one already; <time>.ledger: its ledger
spill/, ledger.part/, state.next.duckdb      of a process that was killed

Backups have persons in them. They are kept for `KEPT`, or until somebody is erased.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from reverse_etl.ledger.places import UNFINISHED
from reverse_etl.plan.elsewhere import Pointer, pointer_of
from reverse_etl.sql import database

KEPT = timedelta(days=30)
SPILL = "spill"
NEXT = "state.next.duckdb"  # takes the place of the state once it is complete


def clean(folder: Path, now: datetime) -> None:
    """Delete what killed processes left in the folder of a state, and backups older than `KEPT`. Its lock is held."""
    for name in (SPILL, UNFINISHED):
        if not (folder / name).is_symlink():
            shutil.rmtree(folder / name, ignore_errors=True)
    drop_next(folder)
    for backup in backups(folder):
        with suppress(OSError):
            if now - _made_at(backup) > KEPT:
                _delete(backup)


def drop_next(folder: Path) -> None:
    """Delete what would have taken the place of the state."""
    for name in (NEXT, f"{NEXT}.wal"):
        (folder / name).unlink(missing_ok=True)


def backups(folder: Path) -> Iterator[Path]:
    """The backups in the folder of a state; those that are empty are marks that there was one."""
    for path in sorted(folder.glob("before-*")):
        if not path.is_symlink() and (path.is_file() or any(path.iterdir())):
            yield path


def delete_backups(folder: Path) -> list[Path]:
    """Delete all backups in the folder of a state; returns which they were."""
    found = [*backups(folder)]
    for backup in found:
        _delete(backup)
    return found


def pointers_in(folder: Path) -> Iterator[Pointer]:
    """Where the acknowledged rows are of the states among the backups, if a warehouse has them."""
    for backup in backups(folder):
        for file in [backup] if backup.is_file() else sorted(backup.glob("state.duckdb")):
            with suppress(duckdb.Error), database.connect(file, read_only=True) as connection:
                found = pointer_of(dict(connection.execute("SELECT key, value FROM meta").fetchall()))
                if found:
                    yield found


def _made_at(path: Path) -> datetime:
    """A file that was moved here has been changed before: its name or place is newer."""
    stat = path.stat()
    return datetime.fromtimestamp(max(stat.st_mtime, stat.st_ctime), UTC)


def _delete(backup: Path) -> None:
    """The folder of a reset stays, empty: that there was a state decides whether one is moved here."""
    if backup.is_file():
        backup.unlink()
        return
    for path in backup.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
