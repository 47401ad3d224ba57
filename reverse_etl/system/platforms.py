"""What Linux, macOS and Windows spell otherwise: opening, locking and flushing a file, and whether a process runs.

A lock belongs to an open file, and ends with the process that has it open, however it ends. On Windows it is a lock of
one byte that no file reaches, so that others can still read who holds it.
"""

import os
import sys
import time
from pathlib import Path

BINARY: int = getattr(os, "O_BINARY", 0)  # Windows writes \r\n otherwise
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)

if sys.platform == "win32":
    import ctypes
    import msvcrt

    _FAR = 0x7FFF0000
    _EVERY_S = 0.05

    def _lock(file: int, is_shared: bool) -> None:
        del is_shared  # there is one kind of lock
        os.lseek(file, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
        finally:
            os.lseek(file, 0, os.SEEK_SET)

    def wait_for_lock(file: int) -> None:
        """Lock an open file as soon as nobody else does."""
        while True:
            try:
                return _lock(file, is_shared=False)
            except BlockingIOError:
                time.sleep(_EVERY_S)

    def flush_file(file: int) -> None:
        """Wait until the contents of an open file are on disk."""
        os.fsync(file)

    def flush_folder(folder: Path) -> None:
        """Nothing: Windows cannot open a folder, and NTFS has its names in a journal."""

    def is_running(process: int) -> bool:
        """Whether there is a process of this id. `os.kill(id, 0)` would send it Ctrl-C."""
        handle = ctypes.windll.kernel32.OpenProcess(0x100000, False, process)  # SYNCHRONIZE
        if not handle:
            return bool(ctypes.windll.kernel32.GetLastError() == 5)  # another user's, and running
        try:
            return bool(ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == 0x102)  # WAIT_TIMEOUT
        finally:
            ctypes.windll.kernel32.CloseHandle(handle)

else:
    import fcntl

    def _lock(file: int, is_shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    def wait_for_lock(file: int) -> None:
        """Lock an open file as soon as nobody else does."""
        fcntl.flock(file, fcntl.LOCK_EX)

    def flush_file(file: int) -> None:
        """Wait until the contents of an open file are on disk."""
        if sys.platform == "darwin":  # which has no fdatasync, and whose fsync leaves them in the memory of the disk
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(file)

    def flush_folder(folder: Path) -> None:
        """Make what was created, renamed or removed in a folder outlast a loss of power. Raises OSError."""
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)

    def is_running(process: int) -> bool:
        """Whether there is a process of this id."""
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True


def lock_now(file: int) -> None:
    """Lock an open file. Raises BlockingIOError if it is locked, OSError if the file system has no locks."""
    _lock(file, is_shared=False)


def look_at_lock(file: int) -> None:
    """Raises BlockingIOError if an open file is locked; until it is closed, nobody else can lock it."""
    _lock(file, is_shared=True)


def open_to_lock(path: Path) -> int:
    """Open a file of this user's own, which is created if need be, to lock it. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK | BINARY, 0o600)
