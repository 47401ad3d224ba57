"""What to do about a file that cannot be written, by what the system says: a full disk needs room, not permissions."""

import errno
import os
from typing import TypeVar

T = TypeVar("T")

_BY_ERRNO = {
    errno.ENOSPC: "free disk space there, then run this again",
    errno.EDQUOT: "free disk space there, or raise the quota of the current user, then run this again",
    errno.EROFS: "mount its disk writable, or use a folder on another one",
    errno.EIO: "check its disk: the system cannot use it",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ENOTDIR: "move the file away that is where a folder must be",
    errno.EEXIST: "move the file away that is where a folder must be",
    errno.EISDIR: "move the folder away that is in the place of the file",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: this machine has no room for another open file",
}


def remedy(error: Exception, otherwise: T) -> str | T:
    """What to do about this error; `otherwise` if it may be one of permissions, or of a path that leads nowhere.

    DuckDB quotes the system in its own errors.
    """
    return _BY_ERRNO.get(_number(error), otherwise)


def reason(error: Exception) -> str:
    """Why, in the words of the system, without those around them: they may have a value."""
    number = _number(error)
    return os.strerror(number) if number else type(error).__name__


def _number(error: Exception) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    return next((number for number in (*_BY_ERRNO, errno.EACCES) if os.strerror(number) in str(error)), 0)
