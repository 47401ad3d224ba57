"""How many users the states of a target know, without downloading any."""

from collections.abc import Iterator

import duckdb

from reverse_etl.errors import StateError
from reverse_etl.plan.users import count_users
from reverse_etl.project.project import LoadedProject
from reverse_etl.shared_state.head import HEAD
from reverse_etl.shared_state.object_store import ObjectStore
from reverse_etl.shared_state.reading import look
from reverse_etl.sql import database
from reverse_etl.state.state import State


def known_users(project: LoadedProject, state: State) -> int:
    """How many users the states of the target know: as many as the one that knows most, as they may know the same.

    `state` is open. Another that cannot be read now counts as one that knows nobody.
    """
    others = _in_store(project) if project.states_url else _in_folder(project, state)
    return max([count_users(state.connection), *others])


def _in_folder(project: LoadedProject, state: State) -> Iterator[int]:
    for path in sorted((project.states_folder / project.target_name).glob("*/state.duckdb")):
        if path == state.place.state:
            continue
        try:
            with database.connect(path, read_only=True) as connection:
                yield count_users(connection, path.stem)
        except duckdb.Error:
            continue


def _in_store(project: LoadedProject) -> Iterator[int]:
    """From the heads: each says how many users its state knows."""
    url = f"{project.states_url}/{project.target_name}"
    try:
        names = ObjectStore(url, project.network).names()
    except StateError:
        return
    for sync, _, name in (name.partition("/") for name in names):
        if name != HEAD:
            continue
        try:
            found = look(ObjectStore(f"{url}/{sync}", project.network))
        except StateError:
            continue
        if found and found[0].state:
            yield found[0].users or found[0].state.users or 0
