"""What an open state does for other machines: nothing (`LocalOnly`), or share its changes (`SharedCopy`)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.delivery.journal import Journal
from reverse_etl.errors import StateError
from reverse_etl.plan.tables import META, RUNS, STATE
from reverse_etl.plan.users import count_users
from reverse_etl.shared_state.head import Content, Moved
from reverse_etl.shared_state.local_copy import refuse_copy
from reverse_etl.shared_state.lock import OvertakenError
from reverse_etl.shared_state.mark import leave_mark, name_run
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import SharedState
from reverse_etl.words import count

_NOT_BY_ITSELF = "PRAGMA disable_checkpoint_on_shutdown"  # nor when a database is detached
REVISION = "revision"  # its key in `meta`
LAST_RUN = "last_run"  # ... and that of the last run that changed the state, or may have sent something
_RUN_COLUMNS = ("run_id", "started_at", "finished_at", "status", "message", "counts", "scheduled_time")


class LocalOnly:
    """A state that no other machine shares: there is nothing to do."""

    notes: Sequence[str] = ()
    dead_owner: str | None = None

    def __init__(self, place: StatePlace) -> None:
        refuse_copy(place.folder)
        self._place = place

    def prepare(self, connection: DuckDBPyConnection) -> None:
        """Keep DuckDB from writing the database of the run completely when it is detached, to be deleted."""
        connection.execute(_NOT_BY_ITSELF)

    def close(self, connection: DuckDBPyConnection) -> None:
        """Merge the log into the state file. If that fails, whoever opens it next does."""
        with suppress(duckdb.Error):
            connection.execute(f"CHECKPOINT {STATE}")

    def catch_up(self, connection: DuckDBPyConnection) -> bool:
        return False

    def will_change(self) -> None:
        """Leave the mark that there is a state, which is on disk by now."""
        leave_mark(self._place)

    def changed(self, connection: DuckDBPyConnection) -> None:
        pass

    def recovered(self, connection: DuckDBPyConnection) -> None:
        pass

    def ended(self, connection: DuckDBPyConnection, accepted: int) -> None:
        """Name in the mark the last run that changed the state, which is on disk by now."""
        found = connection.execute(f"SELECT value FROM {META} WHERE key = '{LAST_RUN}'").fetchall()
        if found:
            name_run(self._place, found[0][0])

    def journal(self, path: Path, run_id: str, outbox: Path) -> Journal:
        """The journal of the run, of which nothing is sent before the mark names it: its outbox is on disk by now."""
        name_run(self._place, run_id)
        return Journal(path)

    def stopping(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def older(self) -> list[str]:
        return []

    def not_moved(self, error: StateError, accepted: int) -> StateError:
        return error


class SharedCopy:
    """The local copy of a shared state: its lock is held, and the local files are what the store has."""

    def __init__(self, place: StatePlace, shared: SharedState) -> None:
        self._place, self._shared = place, shared
        shared.bring_copy()
        place.begun.unlink(missing_ok=True)  # it names runs of a state that was this machine's alone

    @property
    def notes(self) -> Sequence[str]:
        return self._shared.notes

    @property
    def dead_owner(self) -> str | None:
        return self._shared.lock.dead_owner

    def prepare(self, connection: DuckDBPyConnection) -> None:
        """Keep DuckDB from merging the log into the state file: the log is what is uploaded. See `log.py`."""
        for setting in ("checkpoint_threshold = '1000TB'", f"auto_checkpoint_skip_wal_threshold = {2**62}"):
            connection.execute(f"SET {setting}")
        connection.execute(_NOT_BY_ITSELF)

    def close(self, connection: DuckDBPyConnection) -> None:
        pass

    def catch_up(self, connection: DuckDBPyConnection) -> bool:
        """Add runs that an older retl recorded in the head only, as they are there; returns whether there are any.

        A run that was announced, but sent nothing, is over. Raises StateError if the state is not the one that the head
        names.
        """
        revision = self._shared.lock.head.revision
        if revision and self._shared.lock.head.state and not self._shared.is_behind:
            found = connection.execute(f"SELECT value FROM {META} WHERE key = '{REVISION}'").fetchall()
            if found != [(revision,)]:
                what = f"{self._place.state} is not the state at {self._shared.url}, though head.json says so"
                hint = f"move {self._place.folder} elsewhere: it is a copy, and will be downloaded again"
                raise StateError(what, hint=hint, code="S034")
        columns, values = ", ".join(_RUN_COLUMNS), ", ".join(f"${name}" for name in _RUN_COLUMNS)
        known = f"SELECT 1 FROM {RUNS} WHERE run_id = $run_id"
        for run in self._shared.runs:
            connection.execute(f"INSERT INTO {RUNS} ({columns}) SELECT {values} WHERE NOT EXISTS ({known})", dict(run))
        self._shared.settle()
        return bool(self._shared.runs)

    def will_change(self) -> None:
        """Record that the local state is about to change."""
        self._shared.will_change()

    def changed(self, connection: DuckDBPyConnection) -> None:
        """Upload the state after a change outside a run."""
        self._upload(connection)

    def recovered(self, connection: DuckDBPyConnection) -> None:
        """Upload what a killed run had done, before anything else is done, and delete what it has left in the store."""
        if self._shared.is_sending and self._shared.is_behind:
            self._upload(connection)
        if self.dead_owner:
            self._shared.delete_garbage()

    def ended(self, connection: DuckDBPyConnection, accepted: int) -> None:
        """Upload the state after a run, and let other machines go on.

        Raises StateError if the upload fails: then the run is recorded on this machine only.
        """
        try:
            self._upload(connection, is_last=True)
        except StateError as error:
            raise self.not_moved(error, accepted) from error

    def _upload(self, connection: DuckDBPyConnection, is_last: bool = False) -> None:
        revision = self._shared.next_revision()  # DuckDB cuts off what a killed process had half written to the log
        connection.execute(f"INSERT OR REPLACE INTO {META} VALUES ('{REVISION}', ?)", [revision])
        content = Content(revision=revision, users=count_users(connection), duckdb=version("duckdb"))
        if self._shared.needs_base():
            connection.execute(f"CHECKPOINT {STATE}")
        self._shared.move(content, is_last)

    def journal(self, path: Path, run_id: str, outbox: Path) -> Journal:
        """Announce the run, and open its journal, which other machines can read too."""
        self._shared.announce(run_id, outbox)
        return self._shared.journal(path)

    def hand_over(self, moved: Moved) -> None:
        """Leave the mark that the state, which was uploaded under another name, is that one's now."""
        self._shared.hand_over(moved)

    def stopping(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        return self._shared.lock.stopping(stop)

    def older(self) -> list[str]:
        return self._shared.older()

    def not_moved(self, error: StateError, accepted: int) -> StateError:
        """What is said if the state of a run, of which Braze has accepted rows, is on this machine only."""
        what = f"{self._place.sync}: {error.problems[0].message}; the shared state was not updated"
        rows = count(accepted, "row that Braze accepted in this run is", "rows that Braze accepted in this run are")
        sent = f"{rows} recorded only in {self._place.folder}"
        hint = "run again from this machine: what is recorded here is uploaded first"
        if isinstance(error, OvertakenError):
            hint = (
                "the run that took over plans again every row that it does not know to be accepted; see docs/state.md"
            )
        return StateError(f"{what}: {sent}" if accepted else what, hint=hint, code="S024")
