"""One at a time: a lock for each target and sync, held by the process and gone with it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from reverse_etl.errors import BusyError


@contextmanager
def locked_by_us(path: Path, sync: str, target: str) -> Iterator[None]:
    """Hold the lock at `path`. Raises BusyError, which names the process that holds it, if another one does."""
    lock_file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(os.pread(lock_file, 1000, 0), sync, target) from error
        since = datetime.now(UTC).isoformat(" ", "seconds")
        _write(lock_file, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        yield
        _write(lock_file, "")
    finally:
        os.close(lock_file)


def _write(lock_file: int, text: str) -> None:
    os.ftruncate(lock_file, 0)
    os.pwrite(lock_file, text.encode(), 0)


def _busy(content: bytes, sync: str, target: str) -> BusyError:
    what = f'sync "{sync}" on target "{target}" is at work already'
    try:
        holder = json.loads(content)
        what += f": process {holder['pid']} on {holder['host']} holds it since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        pass  # the other process has the lock, and has not written its name yet
    return BusyError(what, hint="wait until it has finished")
