"""A copy of a state, for somebody who only reads: so a sync that uses the state is neither blocked nor waited for.

    <state>/.copy-<random>/<target>/<sync>/     a state like any other, which is deleted after the block
    <state>/.copy-<random>/<target>/.erased/

It is the state as it was committed last. In an older format, it is migrated there; who was erased since is dropped from
it; and nobody else sees any of that. Files of the ledger are never changed, so links to them are copies.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import BusyError, StateError
from reverse_etl.ledger.files import Ledger
from reverse_etl.ledger.places import ENDS, LEDGER, has_both, place_of_ledger
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import Layout, layout_of_rows
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.reading import bring_for_reading
from reverse_etl.sql import database
from reverse_etl.sql.quoting import literal
from reverse_etl.sql.types import SqlType
from reverse_etl.state.contents import acknowledged_types, key_of
from reverse_etl.state.erasures import erasures_of
from reverse_etl.state.file import COPY, copy_file, explain_disk_errors
from reverse_etl.state.glance import Glances
from reverse_etl.state.older import Beside, beside_at_rest, refuse_older
from reverse_etl.state.opening import claimed_place, make_folder, open_state, state_of
from reverse_etl.state.places import refuse_lost
from reverse_etl.state.state import State
from reverse_etl.system.disk import remedy
from reverse_etl.system.private_files import private_files

_TRIES = 5  # to copy a state that is not changed meanwhile; it changes only when a run ends


@dataclass(frozen=True)
class Seen:
    """A state that is only read: the `connection` to which it is attached, its ledger, what is known of it by name, and
    the columns of its acknowledged rows."""

    connection: DuckDBPyConnection
    ledger: Ledger
    meta: Mapping[str, str]
    types: Mapping[str, SqlType]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key; empty before the first run."""
        return key_of(self.meta)

    def layout(self, sync: Sync) -> Layout | None:
        """The layout of its rows, if it has any."""
        return layout_of_rows(sync, list(self.types.items()), self.key) if self.types else None


@contextmanager
def readable(project: LoadedProject, sync: Sync) -> Iterator[State]:
    """The state of a sync, to be read: a killed run is recovered first; while one is under way, a copy."""
    with ExitStack() as stack:
        try:
            state = stack.enter_context(state_of(project, sync))
        except BusyError:
            state = stack.enter_context(copy_of(project, sync))
        yield state


@contextmanager
def copy_of(project: LoadedProject, sync: Sync) -> Iterator[State]:
    """A copy of the state of a sync; an empty one, if there is none. Raises StateError if it cannot be read."""
    with _copied(project, sync) as (place, copy, there), _of(place, copy), open_state(copy) as state:
        refuse_older(state.connection, place, there)
        yield state


@contextmanager
def seen(project: LoadedProject, sync: Sync, glances: Glances) -> Iterator[Seen]:
    """The same, for somebody who copies many, and only reads them: in one DuckDB, one after the other."""
    with _copied(project, sync, glances.connection) as (place, copy, there), _of(place, copy):
        with explain_disk_errors(copy), glances.at(copy) as connection:
            is_ready = connection is not None and _spills_to(connection, copy.folder / "spill")
            if connection and is_ready:
                refuse_older(connection, place, there)
                yield Seen(connection, Ledger(connection, copy), glances.meta, acknowledged_types(connection))
        if not is_ready:  # such as one that is migrated there
            with open_state(copy) as state:
                refuse_older(state.connection, place, there)
                yield Seen(state.connection, state.ledger, state.rows.meta(), state.rows.types())


def _spills_to(connection: DuckDBPyConnection, folder: Path) -> bool:
    """Let DuckDB write to a folder what does not fit into memory; false if it has begun to use another one."""
    try:
        connection.execute(f"SET temp_directory = {literal(str(folder))}")
    except duckdb.Error:
        return False
    return True


@contextmanager
def _copied(
    project: LoadedProject, sync: Sync, looking: DuckDBPyConnection | None = None
) -> Iterator[tuple[StatePlace, StatePlace, Beside]]:
    """Where the state of a sync is, where a copy of it is that nobody has opened, and what was beside it. `looking` is
    a DuckDB to look at the copy with: to start one takes longer."""
    place = claimed_place(project, sync)
    refuse_lost(place)
    make_folder(place)
    there = beside_at_rest(place)
    with _folder_beside(place.state) as top:
        rows = replace(place.rows, is_copied=True) if place.rows else None
        copy = replace(place, folder=top / place.target / place.sync, objects=None, rows=rows)
        with _explained(place.state):
            _copy(place, copy, looking)
        yield place, copy, there


def is_copy(state: State) -> bool:
    return state.place.folder.parents[1].name.startswith(COPY)


@contextmanager
def copied_file(path: Path) -> Iterator[Path]:
    """A consistent copy of a DuckDB file, beside it."""
    with _folder_beside(path) as folder:
        with _explained(path):
            _copy_file(path, folder / path.name)
        yield folder / path.name


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """On the same disk: for links. What a killed process left is deleted when the state is opened."""
    with _explained(path):
        made = tempfile.TemporaryDirectory(prefix=COPY, dir=path.parent)  # 0700
    with made as folder:
        yield Path(folder)


@contextmanager
def _of(place: StatePlace, copy: StatePlace) -> Iterator[None]:
    """Lets errors name the files of the state, and not of its copy."""
    try:
        yield
    except StateError as error:
        real = (str(copy.folder), str(place.folder))
        problems = [replace(one, message=one.message.replace(*real)) for one in error.problems]
        raise StateError(problems) from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = remedy(error, "make its folder writable for the current user")
        raise StateError(f"cannot copy {path}: {error.strerror}", hint=hint, code="S015") from error


def _copy(place: StatePlace, copy: StatePlace, looking: DuckDBPyConnection | None) -> None:
    """Fill the folder of a copy: the state, the files of its ledger, and who was erased on the target."""
    with private_files():
        copy.folder.mkdir(parents=True)
        for _ in range(_TRIES):
            _copy_state(place, copy.state)
            if _copy_ledger(place, copy, _names(copy.state, looking)):
                break
        erasures = erasures_of(place)
        if erasures.version and erasures.folder.exists():
            shutil.copytree(erasures.folder, erasures_of(copy).folder)


def _copy_state(place: StatePlace, to: Path) -> None:
    found = place.state if place.objects is None else bring_for_reading(place, place.objects, to)
    if found != to and found.exists():
        _copy_file(found, to)


def _copy_ledger(place: StatePlace, copy: StatePlace, names: list[str]) -> bool:
    """Whether all files of these names are in the copy: a run that ends meanwhile may have merged some of them."""
    to = copy.folder / LEDGER
    to.mkdir(exist_ok=True)
    with place_of_ledger(place).brought(names) as folder:
        for name in names:
            for end in ENDS:
                with suppress(FileNotFoundError, FileExistsError):
                    _link(folder / f"{name}{end}", to / f"{name}{end}")
    return all(has_both(to, name) for name in names)


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:  # a file system without links
        shutil.copyfile(path, to)


def _names(state: Path, looking: DuckDBPyConnection | None) -> list[str]:
    """The names of the files of a ledger; none, of a state in a format that had none."""
    if not state.exists():
        return []
    with nullcontext(looking) if looking else database.connect() as connection, suppress(duckdb.Error):
        connection.execute(f"ATTACH {literal(str(state))} AS retl_copy (READ_ONLY)")
        try:
            sql = "SELECT DISTINCT ledger FROM retl_copy.main.runs WHERE ledger IS NOT NULL"
            return [name for (name,) in connection.execute(sql).fetchall()]
        finally:
            connection.execute("DETACH retl_copy")
    return []


def _copy_file(path: Path, to: Path) -> None:
    """Copy a DuckDB file, with its log, as they are while nobody changes them."""
    wal = path.with_name(f"{path.name}.wal")
    for _ in range(_TRIES):
        before = _signs(path, wal)
        to.with_name(f"{to.name}.wal").unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # its log has just been merged
            copy_file(path, to)
        if _signs(path, wal) == before:
            break


def _signs(*paths: Path) -> list[tuple[int, int]]:
    """Values that change whenever one of the files does."""
    return [(stat.st_mtime_ns, stat.st_size) for path in paths if path.exists() and (stat := path.stat())]
