"""Temporary folders beside a file, on the same disk: what a process that is killed leaves of them, the next deletes."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reverse_etl.system.clock import Clock

_NEW_S = 60  # its process may not have locked it yet


@contextmanager
def folder_beside(path: Path, prefix: str) -> Iterator[Path]:
    """A folder whose name begins so, beside `path`, until the block ends. Raises OSError if it cannot be made."""
    parent = path.absolute().parent
    drop_left(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name:
        held = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # of a file system without locks, nothing is deleted either
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(name)
        finally:
            os.close(held)


def drop_left(parent: Path, prefix: str) -> None:
    """Delete such folders whose process has ended, however it did."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # its process is at work, or it is another user's
            if Clock().utc().timestamp() - folder.lstat().st_mtime < _NEW_S:
                continue
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(held)
