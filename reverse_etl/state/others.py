"""Whom the other syncs of a target have sent, as far as Braze has acknowledged it: their states are read, nothing else.

The workbench may not open files of others, so the question and its answer are in a database of their own, next to the
state, which is deleted when it has been read.
"""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import RetlError
from reverse_etl.plan.elsewhere import Pointer, pointer_of
from reverse_etl.plan.tables import ACKNOWLEDGED, SENT_AT, STATE, UNSURE, USER
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.identity import all_named
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.reading import bring_for_reading
from reverse_etl.sql import database
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.contents import acknowledged_types, meta_of
from reverse_etl.state.places import place_of
from reverse_etl.state.state import State

_OTHERS = "retl_others"
_ASKED, _KNOWN = f"{_OTHERS}.main.asked", f"{_OTHERS}.main.known"
_FOUND = "retl_found"  # of them, as the warehouse returns them
_ASKED_AT_ONCE = 500_000


def may_know_users(project: LoadedProject, sync: Sync) -> list[Sync]:
    """The other syncs of the target whose acknowledged rows are about users that exist."""
    return [other for other in project.spec.syncs if other.name != sync.name and other.mode.proves]


@contextmanager
def known_to_others(project: LoadedProject, sync: Sync, state: State, users: str) -> Iterator[str]:
    """SQL for those of `users`, a SELECT of `who`, that another sync of the target has sent, and Braze acknowledged.

    A state that cannot be read now counts as one that knows nobody.
    """
    path = state.place.folder / "others.duckdb"
    attach = f"ATTACH {literal(str(path))} AS {_OTHERS}"
    try:
        _delete(path)
        state.connection.execute(f"{attach}; CREATE TABLE {_ASKED} AS SELECT DISTINCT who FROM ({users})")
        state.connection.execute(f"CREATE TABLE {_KNOWN} (who VARCHAR); DETACH {_OTHERS}")
        for other in may_know_users(project, sync):
            with suppress(duckdb.Error, RetlError):
                _look_into(project, other, path, attach)
        state.connection.execute(attach)
        yield f"SELECT who FROM {_KNOWN}"
    finally:
        state.connection.execute(f"DETACH DATABASE IF EXISTS {_OTHERS}")
        _delete(path)


def _look_into(project: LoadedProject, other: Sync, path: Path, attach: str) -> None:
    place = place_of(project, other)
    file = place.state
    if place.objects:
        file = path.with_name("other.duckdb")
        file = bring_for_reading(place, place.objects, file)
    try:
        if file.exists():
            with database.connect() as connection:
                connection.execute(f"ATTACH {literal(str(file))} AS {STATE} (READ_ONLY); {attach}")
                connection.execute("SET TimeZone = 'UTC'")
                _add_known(connection, other, place)
    finally:
        if file != place.state:
            _delete(file)


def _add_known(connection: DuckDBPyConnection, other: Sync, place: StatePlace) -> None:
    families = {name: of.family for name, of in acknowledged_types(connection).items()}
    if pointer := pointer_of(meta_of(connection)):
        _add_known_there(connection, other, place, pointer)
    is_sure = f"{SENT_AT} IS NOT NULL AND NOT coalesce(list_contains({UNSURE}, {literal(USER)}), false)"
    for kind, text in all_named(families, identifier).items():
        if kind in other.mode.proves:
            known = f"SELECT {text} FROM {ACKNOWLEDGED} WHERE {is_sure}"
            connection.execute(f"INSERT INTO {_KNOWN} SELECT who FROM {_ASKED} WHERE who IN ({known})")


def _add_known_there(connection: DuckDBPyConnection, other: Sync, place: StatePlace, pointer: Pointer) -> None:
    """The same of rows that are in the warehouse, which finds the users itself. Not of a target that has no such."""
    if place.rows is None:
        return
    import pyarrow

    types, key = acknowledged_types(connection), json.loads(meta_of(connection)["primary_key"])
    kinds = " OR ".join(f"starts_with(who, {literal(f'{kind}:')})" for kind in other.mode.proves)
    asked = connection.sql(f"SELECT who FROM {_ASKED} WHERE {kinds}").to_arrow_table()
    with closing(place.rows.open(pointer.schema)) as tables:
        for users in asked.to_batches(_ASKED_AT_ONCE):
            for batch in tables.known_users(pointer, types, key, users):
                connection.register(_FOUND, pyarrow.Table.from_batches([batch]))
                connection.execute(f"INSERT INTO {_KNOWN} SELECT who FROM {_FOUND}").fetchall()
                connection.unregister(_FOUND)


def _delete(path: Path) -> None:
    for file in (path, path.with_name(f"{path.name}.wal")):
        file.unlink(missing_ok=True)
