"""Opens the state of a sync, wherever its target stores it, for one process on one machine at a time."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from reverse_etl.errors import StateError
from reverse_etl.ledger.places import LEDGER
from reverse_etl.project.project import RETL_FOLDER, LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.shared_state.copies import LocalOnly, SharedCopy
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import acquired
from reverse_etl.state.backups import clean
from reverse_etl.state.begun import forget_begun
from reverse_etl.state.file import STATE_FILES, drop_copies, explain_disk_errors
from reverse_etl.state.places import folder_of, has_begun, is_lost, place_of, refuse_lost, refuse_moved
from reverse_etl.state.renamed import Renamed, is_renaming, may_move, renamed_by
from reverse_etl.state.state import State
from reverse_etl.system.clock import Clock, when_free
from reverse_etl.system.disk import remedy
from reverse_etl.system.file_lock import locked_by_us
from reverse_etl.system.private_files import create_ignored, make_private, private_files

RENAMERS_ARE_DONE_S = 5.0


def state_of(
    project: LoadedProject, sync: Sync, memory_limit: str | None = None, clock: Clock | None = None
) -> AbstractContextManager[State]:
    """The state of a sync, wherever its target stores it. See `open_state`. Its rows are those of who was renamed."""
    place = claimed_place(project, sync)
    return open_state(place, memory_limit, clock, what_was_renamed(project, sync, clock or Clock()))


def what_was_renamed(project: LoadedProject, sync: Sync, clock: Clock) -> list[Renamed]:
    """What syncs of the target have renamed, if the keys of this sync may be among it. A killed run of theirs is
    recovered before. Raises BusyError if one of them is running: nobody knows then who is called what."""
    found = []
    for other in filter(is_renaming, project.spec.syncs) if may_move(sync) else ():
        place = place_of(project, other)
        if has_begun(place) or is_lost(place):
            attempt = partial(_renamed, place, other.name, clock)
            found.append(when_free(attempt, RENAMERS_ARE_DONE_S, clock, lambda _: None))
    return found


def _renamed(place: StatePlace, name: str, clock: Clock) -> Renamed:
    with open_state(place, clock=clock) as state, state.elsewhere.all_shown() if state.elsewhere else nullcontext():
        return renamed_by(name, state.connection)


def claimed_place(project: LoadedProject, sync: Sync) -> StatePlace:
    """Where the state of a sync is. Raises StateError if it is still elsewhere, or is that of another name by now."""
    refuse_left_behind(project, sync)
    place = place_of(project, sync)
    refuse_moved(place, sync.name, project.target_name)
    return place


def refuse_left_behind(project: LoadedProject, sync: Sync) -> None:
    """Raises StateError if `state.path` of the target has changed, and the state is still in its previous location."""
    folder, before = folder_of(project, sync).folder, project.target_folder / sync.name
    if folder == before or (folder / "state.duckdb").exists() or not (before / "state.duckdb").exists():
        return
    what = f"there is no state in {folder}, but there is one in its previous location, {before}"
    hint = f"move that folder to the new location: `mv {before} {folder}`"
    raise StateError(what, sync.where(), hint, code="S011")


@contextmanager
def open_state(
    place: StatePlace,
    memory_limit: str | None = None,
    clock: Clock | None = None,
    renamed: Sequence[Renamed] = (),
) -> Iterator[State]:
    """The state of a sync, for this process alone; if machines share it, for this machine alone.

    A killed run is recovered first, and then keys move that were `renamed`. Raises BusyError if another process or
    machine is running the sync, StateError if the state cannot be used.
    """
    clock = clock or Clock()
    with private_files():
        make_folder(place)
        with ExitStack() as stack:
            dead_owner = stack.enter_context(locked_by_us(place.lock, place.sync, place.target))
            stack.enter_context(explain_disk_errors(place))
            drop_copies(place.folder)
            clean(place.folder, clock.utc())
            copy: LocalOnly | SharedCopy = (
                LocalOnly(place)
                if place.objects is None
                else SharedCopy(place, stack.enter_context(acquired(place, place.objects, clock.utc)))
            )
            if place.objects is None:
                refuse_lost(place)
            state = State(place, copy, clock, memory_limit, renamed)
            state.dead_owner = state.dead_owner or dead_owner
            if state.dead_owner:
                state.ledger.sweep()
            if state.recovered:
                forget_begun(place.folder)
            try:
                yield state
            finally:
                state.close()


def _take_from_others(place: StatePlace) -> None:
    """Raises StateError if others may read the state, and that cannot be changed: the folder is another user's.

    The folder around those of targets may be a mounted disk, or the user's own: others see no more than names in it.
    """
    if place.top.name == RETL_FOLDER and not place.top.is_symlink():
        with suppress(PermissionError):
            make_private(place.top)
    for folder in (place.folder.parent, place.folder):
        try:
            if folder.stat().st_mode & 0o077:  # then its files may be those of others, too
                _make_ledger_private(folder / LEDGER)
            make_private(folder)
        except PermissionError as error:
            owner = folder.stat().st_uid
            what = f"others can read {folder}, which belongs to another user (user id {owner})"
            hint = "it contains personal data: run retl as that user, or `chown -R` it to the user that runs retl"
            raise StateError(what, hint=hint, code="S010") from error


def _make_ledger_private(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        make_private(folder)


def make_folder(place: StatePlace) -> None:
    """Create the folder of a state, with its lock. Raises StateError if it cannot be used."""
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        create_ignored(place.top)
        _take_from_others(place)
        for path in (place.lock, *(place.folder / name for name in (*STATE_FILES, LEDGER)), place.begun):
            if path.is_symlink():
                hint = "remove it: retl does not write its state through links, which a pull request may bring"
                raise StateError(f"{path} is a symbolic link", hint=hint, code="S010")
        place.lock.touch()
    except OSError as error:
        hint = remedy(error, "make the folder writable for the current user: retl keeps its state there")
        raise StateError(f"cannot write {place.folder}: {error.strerror}", hint=hint, code="S010") from error
