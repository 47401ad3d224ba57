"""Small JSON files that several processes change: read whole, changed one process at a time, replaced atomically."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverse_etl.system.platforms import open_to_lock, wait_for_lock
from reverse_etl.system.private_files import create_ignored, write_whole


def read_mapping(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none, or something else: what is in it can be lost without harm."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_mapping(path: Path, value: dict[str, Any]) -> None:
    """Replace the file, readable by its owner only. Raises OSError."""
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep others, who do the same, from the file at `path` during the block: one of a target, below .retl.

    Raises OSError if that folder cannot be written.
    """
    create_ignored(path.parents[1])
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = open_to_lock(path.with_suffix(".lock"))
    try:
        wait_for_lock(lock)
        yield
    finally:
        os.close(lock)
