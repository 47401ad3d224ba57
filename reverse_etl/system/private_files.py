"""Files that only their owner can read, and that git ignores, whoever writes them: DuckDB sets no file mode itself.

Also which files of others no model reads: `is_private`.
"""

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reverse_etl.redaction import redact
from reverse_etl.system.platforms import flush_file

NEVER_READ = ("/proc", "/sys", "/dev")  # environments, keys, devices: data is elsewhere
_PRIVATE = (".env", ".git", ".retl")  # keys, tokens that a checkout leaves behind, rows of all syncs
_lock = threading.Lock()
_inside = 0
_mask_before = 0


@contextmanager
def private_files() -> Iterator[None]:
    """Files created inside the block are readable by their owner only.

    The umask belongs to the process: of several threads, the first to enter sets it, and the last to leave restores it.
    """
    global _inside, _mask_before
    with _lock:
        if _inside == 0:
            _mask_before = os.umask(0o077)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                os.umask(_mask_before)


def is_private(name: str, is_top: bool = False) -> bool:
    """Whether no SQL may read a file or folder of this name; at the top of a project, none that begins with a dot."""
    return name in _PRIVATE or name.startswith(".env.") or (is_top and name.startswith("."))


def create_ignored(folder: Path) -> None:
    """Create a folder of retl's own, of which git ignores everything if retl may write there. Raises OSError."""
    with private_files():
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError), open(folder / ".gitignore", "x", encoding="utf-8") as file:
            file.write("*\n")


def make_private(folder: Path) -> None:
    """Take a folder of retl's own, and the files directly in it, from everybody but their owner. Raises OSError.

    Links are left alone: what they lead to may be another's. So are folders in it, which nobody else reaches any more.
    """
    with os.scandir(folder) as entries:
        files = [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
    for path in (folder, *files):
        with suppress(FileNotFoundError):  # another process is done with it
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(stat.S_IMODE(mode) & 0o700)


def write_whole(path: Path, text: str, is_flushed: bool = False) -> None:
    """Write a file atomically, without secrets. A symbolic link in its place is replaced. If `is_flushed`, what is in
    it is on disk before its name is. Raises OSError."""
    with private_files():
        path.parent.mkdir(parents=True, exist_ok=True)
    number, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(redact(text))
            if is_flushed:
                file.flush()
                flush_file(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
