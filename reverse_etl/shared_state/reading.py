"""Reads a state from its store: its head, and what that names: the base, and the log, or only what is missing of it."""

import os
from collections.abc import Iterator
from pathlib import Path

from reverse_etl.errors import StateError
from reverse_etl.shared_state.head import HEAD, Head, read_head
from reverse_etl.shared_state.local_copy import CopyFiles, Position
from reverse_etl.shared_state.log import Log, crc_of
from reverse_etl.shared_state.names import left_of_a_state
from reverse_etl.shared_state.object_store import ObjectMissingError, ObjectStore, Version
from reverse_etl.shared_state.place import StatePlace

_TRIES = 5  # to read a state that another machine is replacing


def look(objects: ObjectStore) -> tuple[Head, Version] | None:
    """The current head; None if there is none."""
    found = objects.read(HEAD)
    if found is None:
        return None
    data, seen = found
    try:
        return read_head(data), seen
    except ValueError as error:
        hint = "restore an older version of that object; docs/state.md says what to do if there is none"
        raise StateError(f"{objects.url}/{HEAD} {error}", hint=hint, code="S021") from error


def left_of(objects: ObjectStore, but_moved: bool = False) -> list[str]:
    """What is in a store without a head, though a head was there before all of it; see `left_of_a_state`. Nothing if
    there is a head, or never was one."""
    left = left_of_a_state(objects.listed(), but_moved)
    return left if left and look(objects) is None else []  # another machine may just have begun


def lost_head(place: StatePlace, objects: ObjectStore) -> StateError:
    """What is said where `left_of` finds something: to begin anew would send everything again."""
    what = f"{objects.url}/{HEAD} is missing, but objects of the state are left next to it: there were runs"
    restored = "restore the last version of that object; docs/state.md says what to do if there is none"
    return StateError(what, hint=f"{restored}; as a last resort, {place.start_over}", code="S021")


def fetch_state(objects: ObjectStore, head: Head, path: Path) -> None:
    """Make `path` the base of the state, and the log beside it that of the head. There is no such file if the store has
    no state."""
    log = drop_log(path)
    if head.state is None:
        path.unlink(missing_ok=True)
        return
    objects.download(head.state, path)
    if not _append(objects, head.log, log, 0):
        raise _damaged(objects)


def drop_log(path: Path) -> Path:
    """Delete the log beside a state file, and what DuckDB has left of merging it; returns where the log was."""
    log = path.with_name(f"{path.name}.wal")
    for file in (log, log.with_name(f"{log.name}.checkpoint"), log.with_name(f"{log.name}.recovery")):
        file.unlink(missing_ok=True)
    return log


def catch_up(objects: ObjectStore, head: Head, files: CopyFiles) -> bool:
    """Append what is missing to the log of a copy of the same base. False if its log is no beginning of that one."""
    known = files.position
    if not files.is_base() or known.size > head.log.size or not files.has_log():
        return False
    files.cut_log(known.size)
    return _append(objects, head.log, files.log, known.size, known.crc)


def is_at(head: Head, files: CopyFiles) -> bool:
    """Whether the files are what the head names, and perhaps changes that the store does not have."""
    known = files.position
    if files.copy.base != (head.state.name if head.state else None):
        return False
    if head.state is None:
        return True
    if (known.size, known.crc) != (head.log.size, head.log.crc) or not files.state.exists():
        return False
    if files.is_base():
        return files.has_log()
    return files.copy.is_changed or head.state.unpacked is None


def position_of(head: Head, files: CopyFiles) -> Position:
    """The position of a copy that is what the head names."""
    return Position(head.state.name if head.state else None, head.log.size, head.log.crc, files.stamp())


def bring_for_reading(place: StatePlace, objects: ObjectStore, into: Path) -> Path:
    """A file with the state as the store has it, without its lock: the local copy, if it is that, or else `into`, where
    it is downloaded, with its log. There is no such file if the store has no state. Raises StateError if it is lost."""
    for tries_left in reversed(range(_TRIES)):
        found = look(objects)
        if found is None and left_of(objects):
            raise lost_head(place, objects)
        if found is None or found[0].state is None:
            return into
        head, files = found[0], CopyFiles(place.folder)
        if (files.copy.url, files.copy.is_changed) == (objects.url, False) and is_at(head, files):
            return files.state
        try:
            fetch_state(objects, head, into)
            return into
        except ObjectMissingError:
            if not tries_left:
                raise
    return into


def _append(objects: ObjectStore, log: Log, path: Path, size: int, crc: int = 0) -> bool:
    """Append to the file what a log has after so many bytes. False if that is not the end of this log."""
    part = path.with_name(f"{path.name}.part")
    try:
        with path.open("ab") as file:
            for parts in _missing_parts(objects, log, part, size):
                crc = crc_of([parts], crc)
                file.write(parts)
            file.flush()
            os.fsync(file.fileno())
    finally:
        part.unlink(missing_ok=True)
    if path.stat().st_size == 0:
        path.unlink()
        return (log.size, log.crc) == (0, crc)
    return (path.stat().st_size, crc) == (log.size, log.crc)


def _missing_parts(objects: ObjectStore, log: Log, part: Path, size: int) -> Iterator[bytes]:
    for piece in log.pieces:
        if piece.end > size:
            objects.download(piece.stored, part)
            with part.open("rb") as file:
                file.seek(max(0, size - piece.start))
                while found := file.read(1 << 20):
                    yield found
    if log.tail:
        try:
            yield log.tail_bytes()[max(0, size - log.tail_start) :]
        except ValueError as error:
            raise _damaged(objects) from error


def _damaged(objects: ObjectStore) -> StateError:
    hint = "restore an older version of head.json, and of the objects that it names; see docs/state.md"
    return StateError(f"{objects.url} is not whole: what head.json names does not fit together", hint=hint, code="S021")
