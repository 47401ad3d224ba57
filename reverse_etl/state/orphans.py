"""States that no sync claims: that of a sync which was renamed or removed, or of such a target."""

import json
from collections.abc import Iterator

from reverse_etl.errors import StateError
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.project.project import LoadedProject
from reverse_etl.records.layout import Layout
from reverse_etl.records.mapping import key_text
from reverse_etl.shared_state.head import HEAD
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.file import copy_file
from reverse_etl.state.opening import open_state
from reverse_etl.state.places import has_state, place_named, place_of, was_reset
from reverse_etl.state.state import State
from reverse_etl.words import count

_ORPHAN = "retl_orphan"


def orphans(project: LoadedProject) -> list[StatePlace]:
    """The states that no sync claims, on this target and on targets that syncs.yml does not have any more."""
    claimed = {(place.target, place.sync) for sync in project.spec.syncs for place in [place_of(project, sync)]}
    others = set(project.spec.targets) - {project.target_name}
    found = [names for names in _stored(project) if names not in claimed and names[0] not in others]
    places = (place_named(project, sync, target) for target, sync in found)
    return [place for place in places if has_state(place)]


def in_words(project: LoadedProject, place: StatePlace) -> str:
    """What an orphan is, and the ways out."""
    ways_out = f"{_renamed(project, place)}; `retl state reset {name_of(project, place)}` forgets what it has sent"
    if place.target != project.target_name:
        return f"no target claims the state of {place.sync} on target {place.target}: {ways_out}"
    return f"no sync claims the state of {place.sync}: {ways_out}"


def name_of(project: LoadedProject, place: StatePlace) -> str:
    """What an orphan is called on the command line; no sync has a name with a slash."""
    return place.sync if place.target == project.target_name else f"{place.target}/{place.sync}"


def _renamed(project: LoadedProject, place: StatePlace) -> str:
    if place.target != project.target_name:
        return f"if the target was renamed, add `renamed_from: {place.target}` to it"
    return f"if the sync was renamed, add `renamed_from: {place.sync}` to it"


def refuse_rows_of_orphans(project: LoadedProject, layout: Layout, state: State) -> None:
    """Raises StateError if rows that the open run would send are in the state of an orphan.

    To be asked before the first run of a sync whose rows must not be sent twice.
    """
    for place in orphans(project):
        with open_state(place) as orphan:  # what a killed run had sent counts
            pointer = pointer_of(orphan.rows.meta())
        if pointer and pointer.numbers.rows:
            what = f"{layout.sync.name}: whether {place.sync} has sent its rows is not known: they are in Spark"
            raise StateError(what, layout.sync.where("name"), _renamed(project, place), code="S013")
        rows = _rows_in(place, layout, state)
        if rows:
            what = f"{layout.sync.name}: {count(rows, 'row')} that it would send "
            what += f"{'was' if rows == 1 else 'were'} sent by {place.sync}"
            what += "" if place.target == project.target_name else f" on target {place.target}"
            renamed = _renamed(project, place)
            if was_reset(state.place) and place.target == project.target_name:  # then renamed_from moves nothing here
                renamed = f"if the sync was renamed, run `retl state rename {place.sync} {layout.sync.name}`"
            hint = f"{renamed}; without that state, Braze would count them twice"
            raise StateError(what, layout.sync.where("name"), hint, code="S013")


def _rows_in(place: StatePlace, layout: Layout, state: State) -> int:
    """How many rows that the open run would send are acknowledged, or in doubt, in the state of an orphan."""
    connection, copy = state.connection, state.place.folder / "orphan.duckdb"  # it reads nothing outside of its folder
    copy_file(place.state, copy)
    try:
        connection.execute(f"ATTACH {literal(str(copy))} AS {_ORPHAN} (READ_ONLY)")
        meta = dict(connection.execute(f"SELECT key, value FROM {_ORPHAN}.main.meta").fetchall())
        of_another = meta.get("mode") not in (None, layout.sync.mode.label)
        if of_another or json.loads(meta.get("primary_key", "[]")) != list(layout.key):
            return 0
        acknowledged = f"SELECT {key_text(layout.key, identifier)} FROM {_ORPHAN}.main.state"
        rows = f"{acknowledged} UNION ALL SELECT key FROM {_ORPHAN}.main.in_doubt"
        sent = f"SELECT count(*) FROM {OUTBOX} WHERE action = 'send' AND key IN ({rows})"
        return int(connection.execute(sent).fetchall()[0][0])
    finally:
        connection.execute(f"DETACH DATABASE IF EXISTS {_ORPHAN}")
        copy.unlink()
        copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)


def _stored(project: LoadedProject) -> Iterator[tuple[str, str]]:
    """Target and sync of every place that may have a state."""
    if project.states_url:
        for name in ObjectStore(project.states_url, project.network).names():
            parts = name.split("/")
            if len(parts) == 3 and parts[-1] == HEAD:
                yield parts[0], parts[1]
    else:
        for file in sorted(project.states_folder.glob("*/*/state.duckdb")):
            yield file.parts[-3], file.parts[-2]
