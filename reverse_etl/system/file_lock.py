"""A lock per target and sync: held by one process, and released when that process ends, however it ends."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from reverse_etl.errors import AtWorkError, BusyError, StateError
from reverse_etl.system.clock import Clock
from reverse_etl.system.disk import remedy
from reverse_etl.system.platforms import BINARY, lock_now, look_at_lock, open_to_lock
from reverse_etl.words import moment

# Not every command can wait.
WAIT = "run this again when it has ended; `retl sync NAME` and `retl plan` wait for that with --wait SECONDS"


def wait_for(sync: str) -> str:
    """The hint where a sync is running."""
    return f"run this again when it has ended; `retl sync {sync} --wait 60` waits for that, for 60 seconds at most"


@contextmanager
def locked_by_us(path: Path, sync: str, target: str) -> Iterator[str | None]:
    """Hold the lock of a sync at `path`; yields the process that ended without releasing it, if there is one.

    Raises AtWorkError, which identifies the other process, if the lock is held.
    """
    with locked(path, lambda holder: _at_work(holder, sync, target)) as dead_owner:
        yield dead_owner


@contextmanager
def locked(path: Path, busy: Callable[[str | None], BusyError]) -> Iterator[str | None]:
    """Hold the lock at `path`; yields the process that ended without releasing it, if there is one.

    Raises what `busy` makes of the process that holds it, if one does and it is known which.
    """
    try:
        lock_file = open_to_lock(path)
    except OSError as error:
        hint = remedy(error, "make it writable for the current user")
        raise StateError(f"cannot write {path}: {error.strerror}", hint=hint, code="S010") from error
    try:
        try:
            lock_now(lock_file)
        except BlockingIOError as error:
            raise busy(_holder(lock_file)) from error
        dead_owner = _holder(lock_file)
        since = Clock().utc().isoformat(" ", "seconds")
        _write(lock_file, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        try:
            yield dead_owner
        finally:
            _write(lock_file, "")
    finally:
        os.close(lock_file)


def at_work(path: Path, sync: str, target: str) -> AtWorkError | None:
    """What `locked_by_us` would raise now; None if the lock is free. Does not keep the lock."""
    try:
        lock_file = os.open(path, os.O_RDONLY | BINARY)
    except OSError:
        return None
    try:
        look_at_lock(lock_file)
    except BlockingIOError:
        return _at_work(_holder(lock_file), sync, target)
    finally:
        os.close(lock_file)
    return None


def _at_work(holder: str | None, sync: str, target: str) -> AtWorkError:
    what = f'sync "{sync}" on target "{target}" is already running'
    return AtWorkError(f"{what}: {holder}" if holder else what, hint=wait_for(sync), code="B001")


def _write(lock_file: int, text: str) -> None:
    """For people only: the lock works without it, so a full disk is no reason to stop."""
    with suppress(OSError):
        os.ftruncate(lock_file, 0)
        os.lseek(lock_file, 0, os.SEEK_SET)
        os.write(lock_file, text.encode())


def _holder(lock_file: int) -> str | None:
    """The process that the file identifies; None if there is none, or none yet."""
    try:
        os.lseek(lock_file, 0, os.SEEK_SET)
        holder = json.loads(os.read(lock_file, 1000))
        return f"process {holder['pid']} on {holder['host']}, since {moment(datetime.fromisoformat(holder['since']))}"
    except (ValueError, KeyError, TypeError):
        return None
