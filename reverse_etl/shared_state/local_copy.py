"""What the files in the folder of a shared state are a copy of.

copy.json       which state object, and whether there are changes that the store does not have
log.json        up to where its log is that of the store
state.duckdb    the base: as it was uploaded, unless the log was merged into it since
state.duckdb.wal    the log
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reverse_etl.errors import StateError
from reverse_etl.shared_state.log import crc_of
from reverse_etl.shared_state.packing import PART_BYTES

# What is left when a process is killed as it packs or unpacks.
UNFINISHED = ("state.duckdb.gz", "state.duckdb.wal.gz", "outbox.duckdb.gz", "state.duckdb.part", "outbox.duckdb.part")


@dataclass(frozen=True)
class LocalCopy:
    """What the local files are: a copy of the state object `base` under `url`, with local changes if `is_changed`.

    `token` is that of the last command on this machine, `run_token` that of the last one that announced a run.
    """

    url: str | None = None
    base: str | None = None
    is_changed: bool = False
    token: str | None = None
    run_token: str | None = None


@dataclass(frozen=True)
class Position:
    """Up to where the log of the base is that of the store: that many bytes, with this CRC-32.

    `stamp` is size and time of change of state.duckdb, while it is the base. Nothing is known of it without.
    """

    base: str | None = None
    size: int = 0
    crc: int = 0
    stamp: tuple[int, int] | None = None


class CopyFiles:
    """The files of a copy in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.log = folder / "state.duckdb", folder / "state.duckdb.wal"
        self.copy = _read_copy(folder)
        self.position = self._read_position()

    def save(self, copy: LocalCopy, position: Position | None = None) -> None:
        """Record what the files are; the position first: it is nothing without a copy of that base."""
        if position is not None and position != self.position:
            self._write("log.json", asdict(position))
            self.position = position
        self._write("copy.json", asdict(copy))
        self.copy = copy
        if self.position.base != copy.base:
            self.position = Position(copy.base)

    def stamp(self) -> tuple[int, int] | None:
        """Size and time of change of the state file; None if there is none."""
        if not self.state.exists():
            return None
        stat = self.state.stat()
        return stat.st_size, stat.st_mtime_ns

    def is_base(self) -> bool:
        """Whether the state file is the base as it was uploaded, so that the log is all that was added to it."""
        return self.position.stamp is not None and self.position.stamp == self.stamp()

    def log_size(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def log_bytes(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes of the log, in parts."""
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            left = (self.log_size() if end is None else end) - start
            file.seek(start)
            while left > 0 and (part := file.read(min(PART_BYTES, left))):
                left -= len(part)
                yield part

    def has_log(self) -> bool:
        """Whether the log is whole up to the position: a machine that lost its power may have lost its end."""
        known = self.position
        return self.log_size() >= known.size and crc_of(self.log_bytes(0, known.size)) == known.crc

    def cut_log(self, size: int) -> None:
        """Drop what comes after so many bytes of the log."""
        if size == 0:
            self.log.unlink(missing_ok=True)
        elif self.log_size() > size:
            with self.log.open("r+b") as file:
                file.truncate(size)

    def _read_position(self) -> Position:
        try:
            known: dict[str, Any] = json.loads((self.folder / "log.json").read_text())
            stamp = known.pop("stamp")
            position = Position(**known, stamp=tuple(stamp) if stamp else None)
        except (OSError, ValueError, TypeError, KeyError):
            return Position(self.copy.base)  # the copy is downloaded again, unless it is one of an older retl
        return position if position.base == self.copy.base else Position(self.copy.base)

    def _write(self, name: str, values: dict[str, Any]) -> None:
        unfinished = self.folder / f"{name}.part"
        unfinished.write_text(json.dumps(values))
        unfinished.replace(self.folder / name)


def _read_copy(folder: Path) -> LocalCopy:
    try:
        return LocalCopy(**json.loads((folder / "copy.json").read_text()))
    except FileNotFoundError:
        return LocalCopy()
    except (ValueError, TypeError) as error:
        hint = f"move {folder} elsewhere: it is a copy, and will be downloaded again"
        raise StateError(f"{folder / 'copy.json'} is damaged", hint=hint, code="S025") from error


def refuse_copy(folder: Path) -> None:
    """Raises StateError if the folder is a copy of a shared state, which may be outdated."""
    copy = _read_copy(folder)
    if copy.base:
        what = f"{folder} is a copy of the state at {copy.url}, but the target no longer sets state.path"
        unused = f"if nobody else uses that state, delete {folder / 'copy.json'} to continue from the copy"
        hint = f"set state.path again; or, {unused}"
        raise StateError(what, hint=hint, code="S025")
