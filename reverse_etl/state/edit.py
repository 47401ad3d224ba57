"""Manual changes of a state: resolve rows in doubt, accept a workspace, reset everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from reverse_etl.delivery.destination import Destination
from reverse_etl.errors import DataError
from reverse_etl.plan.tables import IN_DOUBT
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import acquired
from reverse_etl.state.commit import set_meta, set_version
from reverse_etl.state.file import STATE_FILES
from reverse_etl.state.keys import key_meant
from reverse_etl.state.look import is_there
from reverse_etl.state.opening import state_of
from reverse_etl.state.workspace import WORKSPACE, as_text, workspace_of
from reverse_etl.system.clock import Clock
from reverse_etl.system.file_lock import locked_by_us
from reverse_etl.system.private_files import create_ignored, private_files


def resolve(
    project: LoadedProject, sync: Sync, resolution: Literal["resend", "mark_accepted"], keys: Sequence[str]
) -> int:
    """Set what the next run does with rows in doubt: those with `keys`, or all that nothing was decided about yet.

    resend: send them again. mark_accepted: record them as accepted. Returns how many these are. Raises DataError if
    there is no such row.
    """
    with state_of(project, sync) as state:
        doubts = dict(state.connection.execute(f"SELECT key, resolution FROM {IN_DOUBT}").fetchall())
        keys = [key_meant(state.connection, sync.name, key) for key in keys]
        chosen = keys or [key for key, decided in doubts.items() if decided is None]
        unknown = [key for key in keys if key not in doubts]
        if unknown or not chosen:
            what = f'the row with the key "{unknown[0]}" is not in doubt' if unknown else "no row is in doubt"
            hint = f"list the rows in doubt: `retl rejects {sync.name}`"
            if doubts and not unknown:
                what, hint = (
                    "every row in doubt is resolved already",
                    "to change what was decided, name rows with --key",
                )
            raise DataError(f"{sync.name}: {what}", hint=hint, code="D006")
        values = {"resolution": resolution, "keys": chosen}
        with state.changing():
            state.connection.execute(
                f"UPDATE {IN_DOUBT} SET resolution = $resolution WHERE list_contains($keys, key)", values
            )
            set_version(state.connection, f"resolved-{state.clock.utc():%Y%m%dT%H%M%S%f}")
    return len(set(chosen))


def accept_workspace(project: LoadedProject, sync: Sync, destination: Destination) -> bool:
    """Record that a destination is the workspace that the rows are in, under one more address or API key.

    False if the state knows that already, or if there is none: it takes up the first destination that it sees.
    """
    if not is_there(project, sync):
        return False
    with state_of(project, sync) as state:
        known = workspace_of(state.connection)
        accepted = known.with_destination(destination)
        if accepted == known:
            return False
        with state.changing():
            set_meta(state.connection, {WORKSPACE: as_text(accepted)})
    return True


def reset(place: StatePlace) -> str | None:
    """Reset the state at a place; returns the folder or object that keeps the old state, or None if there was none.

    The state is not opened, so a damaged one can be reset too; so can a mark that it was moved elsewhere.
    """
    if place.objects is None and not _state_files(place):
        return None
    with private_files():
        place.folder.mkdir(parents=True, exist_ok=True)
        create_ignored(place.top)
    with locked_by_us(place.lock, place.sync, place.target):
        if place.objects is None:
            return str(_moved_aside(place.folder, _state_files(place)))
        with acquired(place, place.objects, Clock().utc, may_be_moved=True) as shared:
            kept = shared.reset()
            for path in _state_files(place):  # only a copy
                path.unlink()
            return kept


def _state_files(place: StatePlace) -> list[Path]:
    files = (*(place.folder / name for name in STATE_FILES), place.mark)
    return [file for file in files if file.exists()]


def _moved_aside(folder: Path, files: Sequence[Path]) -> Path:
    aside = folder / f"before-reset-{Clock().utc():%Y%m%dT%H%M%S%f}"
    aside.mkdir(mode=0o700)
    for path in files:
        path.rename(aside / path.name)
    return aside
