"""Opens the state of a sync, wherever its target keeps it, for one process on one machine at a time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from reverse_etl.errors import StateError
from reverse_etl.project.project import Project
from reverse_etl.project.spec import Sync
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.shared import acquired, refuse_copy
from reverse_etl.state.file import explain_disk_errors
from reverse_etl.state.state import State
from reverse_etl.system.clock import Clock
from reverse_etl.system.file_lock import locked_by_us
from reverse_etl.system.private_files import private_files


def state_of(
    project: Project, sync: Sync, memory_limit: str | None = None, clock: Clock | None = None
) -> AbstractContextManager[State]:
    """The state of a sync, wherever its target keeps it. See `open_state`."""
    refuse_left_behind(project, sync)
    folder, objects = project.state_folder(sync), objects_of(project, sync)
    return open_state(folder, sync.name, project.target_name, memory_limit, objects, clock)


def objects_of(project: Project, sync: Sync) -> ObjectStore | None:
    """The place in an object store where the target keeps the state of a sync, if it does."""
    url = project.state_url(sync)
    return ObjectStore(url, project.environ, project.ca_bundle) if url else None


def refuse_left_behind(project: Project, sync: Sync) -> None:
    """Raises StateError if the target's state was sent to another folder, and the old one was left behind."""
    folder, before = project.state_folder(sync), project.target_folder / sync.name
    if folder == before or (folder / "state.duckdb").exists() or not (before / "state.duckdb").exists():
        return
    what = f"there is no state in {folder}, and one in {before}, where it was before"
    hint = f"move that folder there; or `mv` it away: then every row of {sync.name} goes out again"
    raise StateError(what, sync.where(), hint)


@contextmanager
def open_state(
    folder: Path,
    sync: str,
    target: str,
    memory_limit: str | None = None,
    objects: ObjectStore | None = None,
    clock: Clock | None = None,
) -> Iterator[State]:
    """The state of a sync, for this process alone. What a killed run left behind is folded in first.

    With `objects` it lies there, `folder` holds a copy, and no other machine works on it either. Raises BusyError if
    another process is at work on it, StateError if it cannot be used.
    """
    with private_files():
        _make(folder)
        with ExitStack() as stack:
            dead_owner = stack.enter_context(locked_by_us(folder / "lock", sync, target))
            stack.enter_context(explain_disk_errors(folder))
            shared = None
            if objects is None:
                refuse_copy(folder)
            else:
                shared = stack.enter_context(acquired(objects, folder, sync, target, (clock or Clock()).utc))
                shared.bring_copy()
            state = State(folder, sync, target, memory_limit, shared)
            state.dead_owner = (shared.dead_owner if shared else None) or dead_owner
            try:
                yield state
            finally:
                state.connection.close()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
    except OSError as error:
        hint = "retl keeps there what it sent: make the folder writable for this user"
        raise StateError(f"{folder} cannot be written: {error.strerror}", hint=hint) from error
