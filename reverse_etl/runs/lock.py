"""`retl lock`: the names and types that the models send, and those that the workspace has.

Models are described, not run, except those of events: the names of events are values of their rows.
"""

from collections.abc import Iterator
from contextlib import closing as closed_after
from dataclasses import dataclass, replace

from duckdb import DuckDBPyConnection

from reverse_etl.braze.data_types import DataType
from reverse_etl.braze.names import known_attributes, known_events
from reverse_etl.delivery.session import open_session
from reverse_etl.engines.engine import Engine
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import Location, Problem, ProjectError, RetlError
from reverse_etl.plan.names import clashes_with_braze, differences, not_in_lock, sent_by, with_known_events
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.plan.workbench import connect
from reverse_etl.plan.writers import Writer, type_clashes
from reverse_etl.project.lock_file import LOCK_FILE, InBraze, Lock, is_name
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.attributes import attributes_of, properties_of
from reverse_etl.records.layout import Layout, lay_out

MOST_EVENTS = 1000  # names that the rows of one model may have: with more, the column `name` holds something else


@dataclass(frozen=True)
class Locked:
    """What braze.lock.yml should be, what differs from it in the file, and what Braze would not keep as it is sent."""

    lock: Lock
    differences: tuple[str, ...]
    clashes: tuple[str, ...]


def lock_of(project: LoadedProject, from_braze: bool) -> Locked:
    """Compares the models, and with `from_braze` the workspace, with the file. Raises RetlError for a model that cannot
    be read, and for attributes with two types."""
    before = project.lock()
    layouts = list(_layouts(project))
    sent = sent_by(layouts)
    has_events = any(layout.mode.record_type == "events" for layout, _ in layouts)
    now = with_known_events(sent, before, has_events)
    if from_braze:
        now = now.model_copy(update={"braze": workspace_names(project)})
    found = differences(before, now, sent) if before else not_in_lock(Lock(), sent)
    reviewed = now.model_copy(update={"attributes": before.attributes if before else {}})
    return Locked(now, tuple(found), tuple(clashes_with_braze(reviewed, sent)))


def _layouts(project: LoadedProject) -> Iterator[tuple[Layout, list[str]]]:
    """The layout of every sync, and the names of the events that it sends."""
    problems, writers = list[Problem](), list[Writer]()
    with closed_after(connect()) as connection:
        engine = engine_of(project, connection)
        engine.open()
        for sync in project.spec.syncs:
            try:
                with engine.interruptible():
                    layout, names = _layout(project, engine, sync)
            except RetlError as error:
                problems.extend(error.problems)
                continue
            writer = Writer(layout, project.models[sync.model].file)
            problems.extend(clash for other in writers for clash in type_clashes(writer, other))
            writers.append(writer)
            yield layout, names
    if problems:
        raise ProjectError(problems)


def _layout(project: LoadedProject, engine: Engine, sync: Sync) -> tuple[Layout, list[str]]:
    model = project.compile(sync.model)
    layout = lay_out(sync, model.file, engine.columns(model))
    if odd := [name for name in (*attributes_of(layout), *properties_of(layout)) if not is_name(name)]:
        what = f"column {odd[0][:30]!a}: the name is too long, or has control characters"
        raise ProjectError(what, Location(model.file), "rename it with AS", code="P099")
    if sync.mode.record_type != "events":
        return layout, []
    # On the lines of the model, so that an error leads there.
    names = replace(model, sql=f"SELECT DISTINCT name FROM ({model.sql}\n) WHERE name IS NOT NULL ORDER BY name")
    found = [str(row[0]) for row in engine.first_rows(names, MOST_EVENTS + 1)[1]]
    if len(found) > MOST_EVENTS:
        what = f'sync "{sync.name}" has more than {MOST_EVENTS:,} names of events'
        hint = "check the column name: it is that of the event, and Braze keeps a list of them"
        raise ProjectError(what, Location(model.file), hint, code="P099")
    if not all(is_name(name) for name in found):
        what = f'sync "{sync.name}" has an event whose name is empty, too long, or has control characters'
        raise ProjectError(what, Location(model.file), "correct the column name", code="P099")
    return layout, found


def workspace_names(project: LoadedProject) -> InBraze:
    """What the workspace of the target has; without its events if the API key may not list these. Raises ProjectError
    if Braze does not list the rest."""
    from reverse_etl.braze.client import Connection, Deadlines

    with open_session(project) as session:
        workspace = session.workspace()
        with closed_after(Deadlines()) as deadlines, closed_after(Connection(workspace, deadlines)) as connection:
            attributes = known_attributes(connection)
            events = known_events(connection)
    types: dict[str, DataType] = {one.name: one.type for one in attributes}
    blocked = tuple(sorted(one.name for one in attributes if one.is_blocked))
    return InBraze(attributes=types, blocked=blocked, events=None if events is None else tuple(sorted(events)))


def lock_notices(project: LoadedProject, layout: Layout, connection: DuckDBPyConnection) -> list[str]:
    """What a planned sync would send that is not in braze.lock.yml; nothing if there is no such file. Raises
    ProjectError for errors in it."""
    lock = project.lock()
    if lock is None:
        return []
    names = _planned_events(connection) if layout.mode.record_type == "events" else []
    sent = sent_by([(layout, names)])
    found = list(not_in_lock(lock, sent))
    more = [f"and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
    said = [f"not as in {LOCK_FILE}: {'; '.join([*found[:_SHOWN], *more])}; run `retl lock` once it is reviewed"]
    return [*(said if found else []), *clashes_with_braze(lock, sent)]


_SHOWN = 10


def _planned_events(connection: DuckDBPyConnection) -> list[str]:
    """The names of the events in the outbox."""
    name = "json_extract_string(body, '$.name')"
    sql = f"SELECT DISTINCT {name} FROM {OUTBOX} WHERE action = 'send' ORDER BY 1 LIMIT {MOST_EVENTS}"
    return [str(found) for (found,) in connection.execute(sql).fetchall()]
