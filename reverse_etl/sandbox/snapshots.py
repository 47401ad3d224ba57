"""Copies of a whole workspace to return to: users, requests, windows, faults and the random state.

They are in a temporary folder, readable by its owner only, and are removed with the sandbox.
"""

import tempfile
import threading
from pathlib import Path

from reverse_etl.sandbox.http.faults import Faults, SavedFaults
from reverse_etl.sandbox.read import Reader


class Snapshots:
    def __init__(self, reader: Reader, faults: Faults) -> None:
        self._reader = reader
        self._faults = faults
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._taken: dict[str, tuple[Path, SavedFaults]] = {}
        self._made = 0
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return list(self._taken)

    def take(self, name: object = None) -> str:
        """Save a snapshot under this name or a generated one. An existing snapshot of this name is replaced."""
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError("the name of a snapshot must be a string")
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="braze-snapshots-")
            self._made += 1
            path = Path(self._folder.name) / f"{self._made}.sqlite"
            self._reader.copy_to(path)
            chosen = f"snapshot-{self._made}" if name is None else str(name)
            replaced = self._taken.pop(chosen, None)
            self._taken[chosen] = (path, self._faults.saved())
        if replaced is not None:
            replaced[0].unlink()
        return chosen

    def restore(self, name: object) -> None:
        """Return to a snapshot. It is kept, and can be restored again."""
        with self._lock:
            if not isinstance(name, str) or name not in self._taken:
                known = ", ".join(self._taken) or "none"
                raise ValueError(f"unknown snapshot {name!r}; existing snapshots: {known}")
            path, faults = self._taken[name]
            self._reader.restore_from(path)
            self._faults.put_back(faults)

    def close(self) -> None:
        with self._lock:
            self._taken.clear()
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None
