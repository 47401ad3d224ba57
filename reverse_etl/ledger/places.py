"""Where the files of a ledger are: in a folder beside the state, or in the object store of a shared one.

    <state>/ledger/<name>.parquet, <name>.requests.parquet
    <state.path>/<target>/<sync>/ledger/<name>.zip             both of them; one request writes it

What is being written is in the folder `ledger.part`, which nobody reads.
"""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from reverse_etl.errors import StateError
from reverse_etl.shared_state.names import is_kept_head, is_kept_list
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.system.platforms import BINARY, flush_folder
from reverse_etl.system.private_files import private_files

LEDGER, UNFINISHED = "ledger", "ledger.part"
ENDS = (".requests.parquet", ".parquet")  # the one with the lines is moved last: it says that both are there
_COPY = ".copy-ledger-"  # how the name of a folder begins with what was downloaded


class Place(Protocol):
    """Files by their name. Whoever changes any holds the lock of the state."""

    def keep(self, name: str, staged: Path) -> None:
        """Move both files of a name here from the folder `staged`; on disk when this returns."""

    def brought(self, names: Iterable[str]) -> AbstractContextManager[Path]:
        """A folder of this machine with the files of these names, those that there are."""

    def delete(self, names: Iterable[str]) -> None: ...

    def strays(self, named: Collection[str]) -> set[str]:
        """The names that are none of these, and not those of a state that was reset and is kept."""

    def may_have_any(self) -> bool:
        """False only if it is known at once that there is no file."""


def staging(place: StatePlace) -> Path:
    """An empty folder for files that are being written."""
    folder = place.folder / UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    with private_files():
        folder.mkdir(mode=0o700)
    return folder


class InFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / LEDGER

    def keep(self, name: str, staged: Path) -> None:
        with private_files():
            self.folder.mkdir(mode=0o700, exist_ok=True)
        for end in ENDS:
            _flush(staged / f"{name}{end}")
            os.replace(staged / f"{name}{end}", self.folder / f"{name}{end}")
        _flush(self.folder)

    @contextmanager
    def brought(self, names: Iterable[str]) -> Iterator[Path]:
        yield self.folder

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            for end in reversed(ENDS):
                (self.folder / f"{name}{end}").unlink(missing_ok=True)

    def may_have_any(self) -> bool:
        return self.folder.exists()

    def names(self) -> set[str]:
        with suppress(FileNotFoundError):
            return {_name_of(one) for one in os.listdir(self.folder)}
        return set()

    def strays(self, named: Collection[str]) -> set[str]:
        return self.names() - {*named}


class InStore:
    """No name is used twice, so a machine that has lost the lock changes nothing that is named."""

    def __init__(self, objects: ObjectStore, folder: Path) -> None:
        self._objects, self._folder = objects, folder

    def keep(self, name: str, staged: Path) -> None:
        packed = staged / f"{name}.zip"
        try:
            with ZipFile(packed, "w", ZIP_STORED) as file:
                for end in ENDS:
                    file.write(staged / f"{name}{end}", f"{name}{end}")
            self._objects.put_file(f"{LEDGER}/{packed.name}", packed)
        finally:
            packed.unlink(missing_ok=True)

    @contextmanager
    def brought(self, names: Iterable[str]) -> Iterator[Path]:
        with private_files():
            made = tempfile.TemporaryDirectory(prefix=_COPY, dir=self._folder)
        with made as folder:
            for name in names:
                self._fetch(name, Path(folder))
            yield Path(folder)

    def delete(self, names: Iterable[str]) -> None:
        self._objects.delete(f"{LEDGER}/{name}.zip" for name in names)

    def may_have_any(self) -> bool:
        return True

    def strays(self, named: Collection[str]) -> set[str]:
        found = self._objects.names()
        if any(is_kept_head(one) or is_kept_list(one) for one in found):
            return set()
        start, end = f"{LEDGER}/", ".zip"
        ours = (one for one in found if one.startswith(start) and one.endswith(end))
        return {one.removeprefix(start).removesuffix(end) for one in ours} - {*named}

    def _fetch(self, name: str, folder: Path) -> None:
        packed = folder / f"{name}.zip"
        if not self._objects.get_file(f"{LEDGER}/{packed.name}", packed):
            return
        try:
            with ZipFile(packed) as file:
                for end in ENDS:
                    file.extract(f"{name}{end}", folder)
        except (BadZipFile, KeyError) as error:
            what = f"{self._objects.url}/{LEDGER}/{packed.name} is damaged"
            hint = "restore an older version of the object, or delete it: its runs then have no ledger"
            raise StateError(what, hint=hint, code="S037") from error
        packed.unlink()


def place_of_ledger(place: StatePlace) -> Place:
    return InFolder(place.folder) if place.objects is None else InStore(place.objects, place.folder)


def has_both(folder: Path, name: str) -> bool:
    """Whether a folder has both files of a name."""
    return all((folder / f"{name}{end}").exists() for end in ENDS)


def _name_of(file: str) -> str:
    return next((file.removesuffix(end) for end in ENDS if file.endswith(end)), file)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if path.is_dir():
        return flush_folder(path)
    number = os.open(path, os.O_RDWR | BINARY)  # Windows flushes no file that is open for reading
    try:
        os.fsync(number)
    finally:
        os.close(number)
