"""Temporary folders beside a file, on the same disk: what a process that is killed leaves of them, the next deletes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reverse_etl.system.clock import Clock
from reverse_etl.system.platforms import lock_now, open_to_lock

_NEW_S = 60  # its process may not have locked it yet
_LOCK = ".lock"  # Windows opens no folder


@contextmanager
def folder_beside(path: Path, prefix: str) -> Iterator[Path]:
    """A folder whose name begins so, beside `path`, until the block ends. Raises OSError if it cannot be made."""
    parent = path.absolute().parent
    drop_left(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name:
        held = open_to_lock(Path(name) / _LOCK)
        try:
            with suppress(OSError):  # of a file system without locks, nothing is deleted either
                lock_now(held)
            yield Path(name)
        finally:
            os.close(held)


def drop_left(parent: Path, prefix: str) -> None:
    """Delete such folders whose process has ended, however it did."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # its process is at work, or it is another user's
            if Clock().utc().timestamp() - folder.lstat().st_mtime < _NEW_S:
                continue
            if folder.is_symlink():
                continue
            held = open_to_lock(folder / _LOCK)
            try:
                lock_now(held)
            finally:
                os.close(held)
            shutil.rmtree(folder)
