"""What the sandbox of a target has logged of requests, as far as others have a say in it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from reverse_etl.sandbox import FileRefusedError, erase_logged


def erase_from_log(file: Path, is_about: Callable[[bytes], bool]) -> int:
    """Erase the bodies and responses for which `is_about` holds; of how many requests. 0 if the file is something
    else, or cannot be written: then it is not the sandbox's, or a server is at work that runs will meet as well."""
    try:
        return erase_logged(file, is_about)
    except (FileRefusedError, sqlite3.Error):
        return 0
