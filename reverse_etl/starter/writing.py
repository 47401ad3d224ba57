"""Files of a new project: all of them, or none."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from reverse_etl.errors import ProjectError
from reverse_etl.system.disk import remedy


@contextmanager
def all_or_none() -> Iterator["Writing"]:
    """Writes files. If one cannot be, those from before are removed, so that the same can be tried again: raises
    ProjectError then."""
    writing = Writing()
    try:
        yield writing
    except BaseException as error:
        writing.undo()
        if not isinstance(error, OSError):
            raise
        hint = remedy(error, "make its folder writable for the current user")
        raise ProjectError(f"cannot write {writing.path}: {error.strerror}", hint=hint, code="P079") from error


class Writing:
    """New files, with their folders, and files that were there, which grow."""

    def __init__(self) -> None:
        self.path, self._undo = Path(), list[Callable[[], object]]()

    def add(self, path: Path, text: str, lines_only: bool = False) -> None:
        """Write a file; with `lines_only`, add to one that is there the lines that it lacks. Raises OSError."""
        self.path = path
        for parent in reversed([one for one in path.parents if not one.exists()]):
            parent.mkdir(exist_ok=True)
            self._undo.append(parent.rmdir)
        is_new = not path.exists()
        before = b"" if is_new else path.read_bytes()
        with path.open("a", encoding="utf-8") as file:
            self._undo.append(path.unlink if is_new else partial(os.truncate, path, len(before)))
            file.write(_lacking(before, text) if lines_only else text)

    def undo(self) -> None:
        for undo in reversed(self._undo):
            with suppress(OSError):
                undo()


def _lacking(there: bytes, text: str) -> str:
    """The lines of `text` that a file does not have, to be added to it."""
    lines = there.decode(errors="replace").splitlines()
    new = "".join(f"{line}\n" for line in text.splitlines() if line not in lines)
    return f"\n{new}" if new and there and not there.endswith(b"\n") else new
