"""The state of a sync that has another name now, or whose target has one: found, moved once, and marked.

    former place                      present place
      state.duckdb      ──────────>     state.duckdb       one rename; in an object store, one change of the old head
      moved.json                                           written first: it stops who still uses the former name
                                          has-run          written last: it says that there is a state

A process that is killed in between leaves the state in one of the two places, never in both or in none, and the next
run goes on.
"""

import json
import secrets
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version

from reverse_etl.errors import StateError
from reverse_etl.plan.tables import STATE
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.shared_state.copies import SharedCopy
from reverse_etl.shared_state.head import FORMAT, HEAD, Head, Moved
from reverse_etl.shared_state.mark import name_run, read_mark
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.reading import look
from reverse_etl.state.file import copy_file, explain_disk_errors, take_name
from reverse_etl.state.opening import make_folder, open_state
from reverse_etl.state.places import former_place, has_begun, has_state, moved_to, place_named, present_place
from reverse_etl.system.clock import Clock
from reverse_etl.system.file_lock import locked_by_us
from reverse_etl.system.private_files import private_files, write_whole


def move_if_renamed(project: LoadedProject, sync: Sync, clock: Clock) -> str | None:
    """Move the state of a sync from its former name, if it is still there; returns what to tell about it."""
    present = present_place(project, sync)
    former = former_place(project, present, lambda place: has_state(place) or _is_on_its_way(place, present))
    if former is None:
        return None
    move(former, present, clock)
    return f"moved the state of {_named(former, present)} here: it is the former name"


def rename(project: LoadedProject, old: str, sync: Sync, clock: Clock) -> None:
    """Move the state of the former name `old` of a sync. Raises StateError if there is none, or if the sync has one."""
    present = replace(present_place(project, sync), formers=[(old, project.target_name)])
    former = place_named(project, old, project.target_name)
    if moved_to(former) == (present.sync, present.target) and not has_state(former):
        if _is_on_its_way(former, present):
            move(former, present, clock)
        with open_state(present):  # a crash may have come before it had its name
            return
    if has_state(present):
        raise StateError(f"{sync.name}: it has a state of its own, and two states are not merged", code="S014")
    if not has_state(former):
        raise StateError(f"there is no state of {old} on target {project.target_name}", code="S014")
    move(former, present, clock)


def move(former: StatePlace, present: StatePlace, clock: Clock) -> None:
    """Move a state, after what a killed run left is recovered; it must not be in use under either name.

    Safe to repeat after a crash.
    """
    with private_files():
        make_folder(present)
        with locked_by_us(present.lock, present.sync, present.target):
            if former.objects and present.objects:
                _move_objects(former, present, present.objects, clock)
            elif former.state.exists():
                _move_files(former, present, clock)


def _is_on_its_way(former: StatePlace, present: StatePlace) -> bool:
    """Whether the machine that moved the state was lost before there was one under its present name."""
    if former.objects is None or has_begun(present):
        return False
    return moved_to(former) == (present.sync, present.target)


def _move_files(former: StatePlace, present: StatePlace, clock: Clock) -> None:
    with open_state(former, clock=clock) as state:
        state.ledger.hand_over(present)
        state.connection.execute(f"CHECKPOINT {STATE}; DETACH {STATE}")
        for backup in sorted(former.folder.glob("before-*")):
            with suppress(OSError):  # one of that name is there: it stays where it is
                backup.rename(present.folder / backup.name)
        present.mark.unlink(missing_ok=True)
        write_whole(former.mark, json.dumps({"sync": present.sync, "target": present.target}))
        present.state.with_name("state.duckdb.wal").unlink(missing_ok=True)  # of a state that knows of nothing
        present.begun.unlink(missing_ok=True)  # that of a state which was lost
        former.state.rename(present.state)
        name_run(present, read_mark(former).run)
    with explain_disk_errors(present):
        take_name(present.state, present)


def _move_objects(former: StatePlace, present: StatePlace, store: ObjectStore, clock: Clock) -> None:
    try:
        with open_state(former, clock=clock) as state:
            assert isinstance(state.copy, SharedCopy)
            copy = present.folder / "state.moving.duckdb"
            copy_file(former.state, copy)
            take_name(copy, present)
            state.ledger.hand_over(present)
            stored = store.upload(f"state-0-{secrets.token_hex(8)}.duckdb.gz", copy)
            copy.unlink()
            state.copy.hand_over(Moved(sync=present.sync, target=present.target, state=stored))
            state.ledger.settle()
    except StateError:
        if moved_to(former) != (present.sync, present.target):  # by this machine, or another one
            raise
    if _is_on_its_way(former, present):
        _receive(former, present, store, clock)


def _receive(former: StatePlace, present: StatePlace, store: ObjectStore, clock: Clock) -> None:
    """Make what was handed over the state of the present name, unless another machine has just done that."""
    handed = look(former.objects) if former.objects else None
    if handed and handed[0].moved:
        there = look(store)
        names = {"sync": present.sync, "target": present.target, "retl": version("reverse-etl")}
        about = {"format": FORMAT, "generation": 1, "updated_at": clock.utc()}
        head = Head(**names, **about, state=handed[0].moved.state).to_json()
        _ = store.swap(HEAD, head, there[1]) if there else store.create(HEAD, head)


def _named(former: StatePlace, present: StatePlace) -> str:
    return former.sync if former.target == present.target else f"{former.sync} on target {former.target}"
