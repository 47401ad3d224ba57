"""What an open state does for other machines: nothing (`LocalOnly`), or share its changes (`SharedCopy`)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.delivery.journal import Journal
from reverse_etl.errors import StateError
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, META, OPEN_RUN, OUTBOX, REJECTS, RUNS, STATE
from reverse_etl.plan.users import count_users
from reverse_etl.shared_state.head import Moved
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import OvertakenError, SharedState, refuse_copy
from reverse_etl.words import count

_RUN_COLUMNS = ("run_id", "started_at", "finished_at", "status", "message", "counts", "scheduled_time")


class LocalOnly:
    """A state that no other machine shares: there is nothing to do."""

    notes: Sequence[str] = ()
    dead_owner: str | None = None

    def __init__(self, place: StatePlace) -> None:
        refuse_copy(place.folder)

    def catch_up(self, connection: DuckDBPyConnection) -> bool:
        return False

    def contents(self, connection: DuckDBPyConnection) -> object:
        return None

    def will_change(self) -> None:
        pass

    def changed(self, connection: DuckDBPyConnection, keep_before: bool) -> None:
        pass

    def recovered(self, connection: DuckDBPyConnection) -> None:
        pass

    def ended(self, connection: DuckDBPyConnection, before: object, accepted: int, keep_before: bool = True) -> None:
        pass

    def journal(self, path: Path, run_id: str, outbox: Path) -> Journal:
        return Journal(path)

    def stopping(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def older(self) -> list[str]:
        return []


class SharedCopy:
    """The local copy of a shared state: its lock is held, and the local files are what the store has."""

    def __init__(self, place: StatePlace, shared: SharedState) -> None:
        self._place, self._shared = place, shared
        shared.bring_copy()

    @property
    def notes(self) -> Sequence[str]:
        return self._shared.notes

    @property
    def dead_owner(self) -> str | None:
        return self._shared.dead_owner

    def catch_up(self, connection: DuckDBPyConnection) -> bool:
        """Add runs that are recorded in the head only, as they are there; returns whether there are any.

        A run that was announced, but sent nothing, is over.
        """
        columns, values = ", ".join(_RUN_COLUMNS), ", ".join(f"${name}" for name in _RUN_COLUMNS)
        known = f"SELECT 1 FROM {RUNS} WHERE run_id = $run_id"
        for run in self._shared.runs:
            connection.execute(f"INSERT INTO {RUNS} ({columns}) SELECT {values} WHERE NOT EXISTS ({known})", dict(run))
        self._shared.settle()
        return bool(self._shared.runs)

    def contents(self, connection: DuckDBPyConnection) -> object:
        """What a run without changes leaves as it is, unless rows were pruned or removed.

        None if the local files have changes that the store does not have: then they must be uploaded in any case.
        """
        return None if self._shared.is_behind else _contents(connection)

    def will_change(self) -> None:
        """Record that the local state is about to change."""
        self._shared.will_change()

    def changed(self, connection: DuckDBPyConnection, keep_before: bool) -> None:
        """Upload the state after a change outside a run.

        With `keep_before` false, the previous state is deleted from the store.
        """
        connection.execute(f"CHECKPOINT {STATE}")
        self._shared.move(self._place.state, keep_before, count_users(connection))

    def recovered(self, connection: DuckDBPyConnection) -> None:
        """Upload what a killed run had done, before anything else is done."""
        if self._shared.is_sending and self._shared.is_behind:
            self.changed(connection, keep_before=True)

    def ended(self, connection: DuckDBPyConnection, before: object, accepted: int, keep_before: bool = True) -> None:
        """Upload the state after a run; if the run changed nothing, record only that there was one.

        `before` are the contents before the run was committed. Raises StateError if the upload fails: then the run is
        recorded on this machine only.
        """
        has_acted = bool(connection.execute(f"SELECT 1 FROM {OUTBOX} LIMIT 1").fetchall())
        try:
            if has_acted or _contents(connection) != before or not self._shared.note_run(_last_run(connection)):
                self.changed(connection, keep_before)
        except StateError as error:
            raise self._not_moved(error, accepted) from error

    def journal(self, path: Path, run_id: str, outbox: Path) -> Journal:
        """Announce the run, and open its journal, which other machines can read too."""
        self._shared.announce(run_id, outbox)
        return self._shared.journal(path)

    def hand_over(self, moved: Moved) -> None:
        """Leave the mark that the state, which was uploaded under another name, is that one's now."""
        self._shared.hand_over(moved)

    def stopping(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        return self._shared.stopping(stop)

    def older(self) -> list[str]:
        return self._shared.older()

    def _not_moved(self, error: StateError, accepted: int) -> StateError:
        what = f"{self._place.sync}: {error.problems[0].message}; the shared state was not updated"
        rows = count(accepted, "row that Braze accepted in this run is", "rows that Braze accepted in this run are")
        sent = f"{rows} recorded only in {self._place.folder}"
        hint = "run again from this machine: what is recorded here is uploaded first"
        if isinstance(error, OvertakenError):
            hint = (
                "the run that took over plans again every row that it does not know to be accepted; see docs/state.md"
            )
        return StateError(f"{what}: {sent}" if accepted else what, hint=hint, code="S024")


def _contents(connection: DuckDBPyConnection) -> tuple[Any, ...]:
    meta = f"SELECT list(value ORDER BY key) FROM {META} WHERE key IN ('version', 'primary_key', 'mode', 'workspace')"
    columns = f"SELECT list(column_name || ' ' || data_type ORDER BY column_index) FROM duckdb_columns() {_OF_STATE}"
    rejects, doubts = f"SELECT count(*) FROM {REJECTS}", f"SELECT (count(*), count(resolution)) FROM {IN_DOUBT}"
    there = connection.execute(f"SELECT count(*) FROM duckdb_tables() {_OF_STATE}").fetchall()[0][0]
    rows = f"SELECT count(*) FROM {ACKNOWLEDGED}" if there else "SELECT 0"
    found = connection.execute(f"SELECT ({meta}), ({columns}), ({rows}), ({rejects}), ({doubts})").fetchall()
    return tuple(found[0])


_OF_STATE = f"WHERE (database_name, schema_name, table_name) = ('{STATE}', 'main', 'state')"


def _last_run(connection: DuckDBPyConnection) -> dict[str, Any]:
    texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in _RUN_COLUMNS)
    sql = f"SELECT {texts} FROM {RUNS} WHERE run_id = (SELECT run_id FROM {OPEN_RUN})"
    return dict(zip(_RUN_COLUMNS, connection.execute(sql).fetchall()[0], strict=True))
