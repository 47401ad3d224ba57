"""Moves the acknowledged rows of a sync to where its target has them: into Spark, out of it, or to another schema."""

from dataclasses import dataclass, replace

from reverse_etl.errors import ProjectError
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.state.contents import set_version
from reverse_etl.state.elsewhere import Elsewhere
from reverse_etl.state.opening import claimed_place, open_state, what_was_renamed
from reverse_etl.system.clock import Clock


@dataclass(frozen=True)
class RowsMoved:
    """How many acknowledged rows were moved, and to which schema of Spark; None if to the state."""

    rows: int
    schema: str | None


def move_rows(project: LoadedProject, sync: Sync, clock: Clock) -> RowsMoved | None:
    """Move the acknowledged rows of a sync; None if they are where the target has them. Sends nothing.

    A killed run is recovered first. What was moved is dropped from where it was, once machines that share the state
    know of it. Raises RetlError, and changes nothing, if the rows cannot be read or written.
    """
    place = claimed_place(project, sync)
    if place.rows is None:
        where = project.spec.in_target("warehouse", "type")
        what = f"{sync.name}: acknowledged rows move into Spark or out of it, and the target has another warehouse"
        raise ProjectError(what, where, "set the warehouse of the target to that Spark", code="P148")
    renamed, moving = what_was_renamed(project, sync, clock), replace(place, rows=replace(place.rows, moves=True))
    with open_state(moving, clock=clock, renamed=renamed) as state:
        pointer, contents, schema = pointer_of(state.rows.meta()), state.rows.contents(), place.rows.schema
        if (pointer.schema if pointer else None) == schema or not contents.types:
            return None
        key, connection = state.rows.key(), state.connection
        run_id = f"moved-{clock.utc():%Y%m%dT%H%M%S%f}"
        into: Elsewhere | None = None
        with state.changing():
            if schema:
                into = Elsewhere(connection, schema, place.rows.open, sync.name)
                into.reserve()  # what is left there, if this is killed, is dropped by the next attempt
            connection.execute("BEGIN")
            try:
                if state.elsewhere:
                    state.elsewhere.move_out(key, for_good=not schema)
                if into:
                    into.move_in(run_id, key)
                set_version(connection, run_id)
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        for one in (state.elsewhere, into):
            if one:
                one.tidy()
        if into:
            into.close()
    if not schema:
        with open_state(place, clock=clock, renamed=what_was_renamed(project, sync, clock)):
            pass  # who was erased or renamed meanwhile is so in these rows, too
    return RowsMoved(contents.rows, schema)
