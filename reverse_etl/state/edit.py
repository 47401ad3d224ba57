"""Manual changes of a state: resolve or give up rows, accept a workspace, reset everything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Literal

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Kind
from reverse_etl.delivery.destination import Destination
from reverse_etl.errors import DataError
from reverse_etl.ledger.places import LEDGER
from reverse_etl.plan.given_up import GIVEN_UP, LISTED, WAS_IN_DOUBT
from reverse_etl.plan.tables import IN_DOUBT, REJECTS
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import acquired
from reverse_etl.sql.quoting import literal
from reverse_etl.state import to_send
from reverse_etl.state.contents import set_meta, set_version
from reverse_etl.state.file import STATE_FILES
from reverse_etl.state.giving_up import give_up
from reverse_etl.state.keys import keys_meant
from reverse_etl.state.look import is_there
from reverse_etl.state.opening import state_of
from reverse_etl.state.state import State
from reverse_etl.state.watermark import is_pruned, let_go, read_again_from
from reverse_etl.state.workspace import WORKSPACE, as_text, workspace_of
from reverse_etl.system.clock import Clock
from reverse_etl.system.file_lock import locked_by_us
from reverse_etl.system.private_files import create_ignored, private_files

Resolution = Literal["resend", "mark_accepted", "give_up"]
_GIVEN_UP = f"rejected_by = '{GIVEN_UP}'"
_MAY_GIVE_UP = f"rejected_by IN ({', '.join(map(literal, LISTED))})"
_OF_KEYS = "key IN (SELECT unnest($keys))"
# Of which of the rejects it is decided, beside rows in doubt, and what all of these are.
_DECIDED: Mapping[Resolution, tuple[str, str]] = {
    "resend": (_GIVEN_UP, "in doubt or given up"),
    "mark_accepted": ("false", "in doubt"),
    "give_up": (_MAY_GIVE_UP, "invalid, rejected or in doubt"),
}


def resolve(project: LoadedProject, sync: Sync, resolution: Resolution, keys: Sequence[str]) -> int:
    """Set what becomes of rows that are not in Braze: those with `keys`, or all in doubt that nothing was decided about
    yet. Returns how many these are.

    resend: the next run sends them again, be they in doubt or given up. mark_accepted: it records them as accepted.
    give_up: they are not waited for any more, and not sent until they change; they may be invalid or rejected, too.
    Raises DataError if there is no such row.
    """
    with state_of(project, sync) as state:
        connection = state.connection
        keys = keys_meant(connection, sync.name, keys)
        chosen = keys or _undecided(state, sync)
        _refuse_unknown(state, sync, resolution, chosen)
        again = _cursors_to_read_again(state, sync, chosen) if resolution == "resend" else []
        with state.changing():
            connection.execute("BEGIN")
            was = _sent_again(connection, chosen)
            if resolution == "give_up":
                by_record, now = Kind.CHANGED in sync.mode.kinds, state.clock.utc()
                give_up(connection, _OF_KEYS, now, {"keys": chosen}, by_record)
                let_go(connection, len(set(chosen)))
            else:
                of_keys = f"WHERE {_OF_KEYS}"
                values = {"resolution": resolution, "keys": chosen}
                connection.execute(f"UPDATE {IN_DOUBT} SET resolution = $resolution {of_keys}", values)
                connection.execute(f"DELETE FROM {REJECTS} {of_keys} AND {_GIVEN_UP}", {"keys": chosen})
                read_again_from(connection, again)
            sent_again = len(set(chosen)) if resolution == "resend" else 0
            to_send.change(connection, sent_again - was)
            set_version(connection, f"resolved-{state.clock.utc():%Y%m%dT%H%M%S%f}")
            connection.execute("COMMIT")
    return len(set(chosen))


def _sent_again(connection: DuckDBPyConnection, keys: Sequence[str]) -> int:
    """How many of the rows in doubt were to be sent again already."""
    which = f"resolution = 'resend' AND {_OF_KEYS}"
    (rows,) = connection.execute(f"SELECT count(*) FROM {IN_DOUBT} WHERE {which}", {"keys": keys}).fetchall()[0]
    return int(rows)


def may_arrive_twice(project: LoadedProject, sync: Sync, keys: Sequence[str]) -> int:
    """How many of the rows that `resolve` would have sent again may be in Braze: those that are, or were, in doubt."""
    with state_of(project, sync) as state:
        chosen = keys_meant(state.connection, sync.name, keys)
        which = _OF_KEYS if chosen else "resolution IS NULL"
        found = f"SELECT key FROM {IN_DOUBT} WHERE {which}"
        values: dict[str, object] = {"keys": chosen} if chosen else {}
        if chosen:
            were = f"{_GIVEN_UP} AND starts_with(reason, $was_in_doubt)"
            found += f" UNION SELECT key FROM {REJECTS} WHERE {which} AND {were}"
            values["was_in_doubt"] = WAS_IN_DOUBT
        (number,) = state.connection.execute(f"SELECT count(DISTINCT key) FROM ({found})", values).fetchall()[0]
        return int(number)


def _undecided(state: State, sync: Sync) -> list[str]:
    """The keys of rows in doubt of which nobody has decided what becomes of them."""
    doubts = state.connection.execute(f"SELECT DISTINCT key, resolution IS NULL FROM {IN_DOUBT}").fetchall()
    chosen = [key for key, is_open in doubts if is_open]
    if not chosen and doubts:
        what = "every row in doubt is resolved already"
        raise DataError(
            f"{sync.name}: {what}", hint="to change what was decided, name rows with --key or --keys-from", code="D006"
        )
    if not chosen:
        raise _no_such_row(sync, "no row is in doubt")
    return chosen


def _refuse_unknown(state: State, sync: Sync, resolution: Resolution, keys: Sequence[str]) -> None:
    """Raises DataError if nothing can be decided about one of the rows with these keys."""
    rejects, which = _DECIDED[resolution]
    found = f"SELECT key FROM {IN_DOUBT} UNION SELECT key FROM {REJECTS} WHERE {rejects}"
    known = {key for (key,) in state.connection.execute(found).fetchall()}
    for key in keys:
        if key not in known:
            raise _no_such_row(sync, f'the row with the key "{key}" is not {which}')


def _no_such_row(sync: Sync, what: str) -> DataError:
    return DataError(f"{sync.name}: {what}", hint=f"list the rows: `retl rejects {sync.name}`", code="D006")


def _cursors_to_read_again(state: State, sync: Sync, keys: Sequence[str]) -> list[str]:
    """The cursors of those of the rows that were given up. Raises DataError if one would not count as new any more."""
    which = f"{REJECTS} WHERE {_GIVEN_UP} AND cursor IS NOT NULL AND {_OF_KEYS}"
    found = state.connection.execute(f"SELECT DISTINCT key, cursor FROM {which}", {"keys": keys}).fetchall()
    for key, cursor in found:
        if is_pruned(state.connection, cursor):
            what = f'the row with the key "{key}" would not count as new: later ones were pruned'
            raise DataError(f"{sync.name}: {what}", hint="give it a later cursor in the model", code="D006")
    return [cursor for _, cursor in found]


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
        with acquired(place, place.objects, Clock().utc, to_reset=True) as shared:
            copy = _state_files(place)
            if shared.lock.kept and copy:  # it may be all that is left
                _moved_aside(place.folder, copy)
            kept = shared.reset()
            for path in _state_files(place):  # only a copy
                path.unlink() if path.is_file() else rmtree(path)
            return kept


def _state_files(place: StatePlace) -> list[Path]:
    files = (*(place.folder / name for name in (*STATE_FILES, LEDGER)), place.mark, place.begun)
    return [file for file in files if file.exists()]


def _moved_aside(folder: Path, files: Sequence[Path]) -> Path:
    aside = folder / f"before-reset-{Clock().utc():%Y%m%dT%H%M%S%f}"
    aside.mkdir(mode=0o700)
    for path in files:
        path.rename(aside / path.name)
    return aside
