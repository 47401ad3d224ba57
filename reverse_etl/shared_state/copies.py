"""What an open state does for other machines: nothing (`LocalOnly`), or all that they need to know (`SharedCopy`)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.delivery.journal import Journal
from reverse_etl.errors import StateError
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, META, OPEN_RUN, OUTBOX, REJECTS, RUNS, STATE
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import OvertakenError, SharedState, refuse_copy

_RUN_COLUMNS = ("run_id", "started_at", "finished_at", "status", "message", "counts", "scheduled_time")


class LocalOnly:
    """A state that no other machine shares: there is nobody to tell."""

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

    def ended(self, connection: DuckDBPyConnection, before: object, accepted: int) -> None:
        pass

    def journal(self, path: Path, run_id: str, outbox: Path) -> Journal:
        return Journal(path)

    def stopping(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def older(self) -> list[str]:
        return []


class SharedCopy:
    """The copy here of a state that machines share: the lock on it is held, and the files are what the store has."""

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
        """Take in runs that only the head knows of, as they stand there, and say whether there are any.

        A run that was announced, and never sent anything, is over.
        """
        columns, values = ", ".join(_RUN_COLUMNS), ", ".join(f"${name}" for name in _RUN_COLUMNS)
        known = f"SELECT 1 FROM {RUNS} WHERE run_id = $run_id"
        for run in self._shared.runs:
            connection.execute(f"INSERT INTO {RUNS} ({columns}) SELECT {values} WHERE NOT EXISTS ({known})", dict(run))
        self._shared.settle()
        return bool(self._shared.runs)

    def contents(self, connection: DuckDBPyConnection) -> object:
        """What a run without any change leaves as it is, unless something was pruned or settled.

        None if the store does not know what the local files know: then they have to be brought there in any case.
        """
        return None if self._shared.is_behind else _contents(connection)

    def will_change(self) -> None:
        """The local state is about to be changed."""
        self._shared.will_change()

    def changed(self, connection: DuckDBPyConnection, keep_before: bool) -> None:
        """Bring the state to the store, as it was changed outside a run.

        `keep_before` false: nothing of the state before stays where other machines look.
        """
        connection.execute(f"CHECKPOINT {STATE}")
        self._shared.move(self._place.state, keep_before)

    def recovered(self, connection: DuckDBPyConnection) -> None:
        """Bring what a killed run had done to the store, before anything else is done."""
        if self._shared.is_sending and self._shared.is_behind:
            self.changed(connection, keep_before=True)

    def ended(self, connection: DuckDBPyConnection, before: object, accepted: int) -> None:
        """Let other machines know of a run that has ended; if it changed nothing, only that there was one.

        `before` are the contents before the run was committed. Raises StateError if the store cannot be told: then the
        run stays written down here.
        """
        has_acted = bool(connection.execute(f"SELECT 1 FROM {OUTBOX} LIMIT 1").fetchall())
        try:
            if has_acted or _contents(connection) != before or not self._shared.note_run(_last_run(connection)):
                self.changed(connection, keep_before=True)
        except StateError as error:
            raise self._not_moved(error, accepted) from error

    def journal(self, path: Path, run_id: str, outbox: Path) -> Journal:
        """Announce the run, and open its journal, which other machines can read too."""
        self._shared.announce(run_id, outbox)
        return self._shared.journal(path)

    def stopping(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        return self._shared.stopping(stop)

    def older(self) -> list[str]:
        return self._shared.older()

    def _not_moved(self, error: StateError, accepted: int) -> StateError:
        what = f"{self._place.sync}: {error.problems[0].message}; so the state there was not moved"
        sent = f"{accepted:,} rows that Braze accepted in this run are written down in {self._place.folder} only"
        hint = "run again from here: what is written down is brought there first"
        if isinstance(error, OvertakenError):
            hint = "the run that took over plans again what it did not know to be accepted; see docs/state.md"
        return StateError(f"{what}: {sent}" if accepted else what, hint=hint)


def _contents(connection: DuckDBPyConnection) -> tuple[Any, ...]:
    meta = f"SELECT list(value ORDER BY key) FROM {META} WHERE key IN ('version', 'primary_key')"
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
