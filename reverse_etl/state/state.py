"""What a sync remembers, in a folder of its own.

    .retl/<target>/<sync>/          (or <state.path>/<target>/<sync>/)
      state.duckdb     state (acknowledged rows), rejects, in_doubt, runs, meta
      outbox.duckdb    this run's snapshot and outbox; with the journal it is all that a killed run leaves behind
      journal.jsonl    what was sent and answered
      lock             who is at work here

A run begins with an empty outbox, fills it, sends it, and ends when the journal is folded in (`fold.py`). A run that
was killed is folded in when the state is opened again; folding a run twice changes nothing. If the state lies in an
object store, these files are a copy of it, and `shared_state.py` brings them there and back.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from reverse_etl.braze.modes import Kind
from reverse_etl.delivery.journal import Journal
from reverse_etl.errors import StateError
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, OUTBOX, RUN, SENT_AT, STATE, UNSURE
from reverse_etl.plan.workbench import connect
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import Layout
from reverse_etl.records.rules import Rule
from reverse_etl.shared_state.shared import OvertakenError, SharedState
from reverse_etl.sql.quoting import literal
from reverse_etl.state import watermark
from reverse_etl.state.commit import Ending, Fates, acknowledged_columns, fold
from reverse_etl.state.file import attach, done_until
from reverse_etl.system.clock import Clock, when_free

LOOKERS_ARE_GONE_S = 2.0


@dataclass(frozen=True)
class Since:
    """Where an incremental run begins to read: `cursor` is SQL for just below `start`.

    `open_from` is the cursor of the oldest row that is not in Braze, if one is not; rows up to `forgotten` are not new.
    """

    start: str
    cursor: str
    open_from: str | None
    forgotten: str | None


class Intent(Enum):
    """What a run is for."""

    SEND = "send what differs"
    RETRY = "send what differs, and what Braze rejected before"
    ADOPT = "send nothing: Braze is said to have all of it"


class State:
    """An open state.

    `recovered` is what a killed run turned out to have done, if there was one; `dead_owner` the process that held the
    lock and ended without letting go; `notes` what else is to be said.
    """

    def __init__(
        self,
        folder: Path,
        sync: str,
        target: str,
        memory_limit: str | None = None,
        shared: SharedState | None = None,
    ) -> None:
        self._shared = shared
        self.dead_owner: str | None = None
        self.folder, self.sync, self.target = folder, sync, target
        self._state_path = folder / "state.duckdb"
        self._outbox_path = folder / "outbox.duckdb"
        self._journal_path = folder / "journal.jsonl"
        self.connection = connect(folder / "spill", memory_limit)
        try:
            self._attach()
            self.recovered = self._recover()
            if shared:
                self._catch_up(shared)
        except BaseException:
            self.connection.close()
            raise

    # --- looking -----------------------------------------------------------------------------------------------------

    def columns(self) -> dict[str, str]:
        """Names and types of the columns of acknowledged rows; empty before the first run."""
        return acknowledged_columns(self.connection)

    def rows(self) -> int:
        """How many rows the state holds."""
        return self._number(f"SELECT count(*) FROM {ACKNOWLEDGED}") if self.columns() else 0

    def acknowledged(self) -> int:
        """How many of them the destination has acknowledged; of the others nobody knows."""
        return self._number(f"SELECT count({SENT_AT}) FROM {ACKNOWLEDGED}") if self.columns() else 0

    def is_unsure(self) -> bool:
        """Whether there is a row of which nobody knows what Braze has of it."""
        return bool(self.columns() and self._number(f"SELECT count({UNSURE}) FROM {ACKNOWLEDGED}"))

    def key(self) -> tuple[str, ...]:
        """The columns that name a row; empty before the first run."""
        return tuple(json.loads(self._meta("primary_key") or "[]"))

    def done_until(self) -> datetime | None:
        """The latest moment that a run went well for; None before the first such run."""
        return done_until(self.connection)

    def version(self) -> str:
        """Another text whenever what a run is compared with has moved; empty before the first run."""
        return self._meta("version") or ""

    def retyped(self, layout: Layout, accept: bool) -> frozenset[str]:
        """The columns whose type is not the acknowledged one any more.

        Raises StateError unless `accept`, as in Braze a value that changes its type is dropped or bent in silence; and
        in any case if other columns name a row than did so far.
        """
        if self.key() and self.key() != layout.key:
            before, now = (", ".join(key) for key in (self.key(), layout.key))
            hint = f"`retl state reset {self.sync}` forgets what was sent, and all rows go out again"
            what = f"{self.sync}: rows were named by ({before}) so far, and are by ({now}) now"
            raise StateError(what, layout.sync.where("primary_key"), hint)
        known = self.columns()
        types = {column.name: column.type.text for column in layout.columns if column.name in layout.stored}
        moved = {name: (known[name], now) for name, now in types.items() if name in known and known[name] != now}
        if moved and not accept:
            listed = ", ".join(f'"{name}" from {before} to {now}' for name, (before, now) in moved.items())
            hint = "CAST it back in the model, or pass --accept-schema-change: then its values go out again"
            raise StateError(f"{self.sync}: the model changed the type of {listed}", layout.sync.where("model"), hint)
        return frozenset(moved)

    def reads_from(self, sync: Sync, full_refresh: bool) -> Since | None:
        """Where an incremental run begins to read; None if it reads everything.

        Raises StateError if rows were let go of, and the sync does not say any more how to tell them from new ones.
        """
        mark, incremental = watermark.read(self.connection), sync.incremental
        if mark is None or full_refresh:
            return None
        if incremental is None or incremental.cursor != mark.column:
            if mark.forgotten is None:
                return None
            what = f'{sync.name}: rows up to {mark.forgotten} of "{mark.column}" were let go of, and would look new now'
            hint = f'set "incremental: {{cursor: {mark.column}}}" again; --full-refresh sends every row once more'
            raise StateError(what, sync.where(), hint)
        start = watermark.start(self.connection, mark, incremental.lookback)
        if start is None:
            return None
        return Since(start, watermark.cursor_sql(self.connection, mark, start), mark.open_from, mark.forgotten)

    # --- a run -------------------------------------------------------------------------------------------------------

    def begin(self, run_id: str, started_at: datetime, scheduled_time: datetime) -> None:
        """Make room for a run's changes and outbox."""
        self.open_run()
        texts = ("run_id", "key", "watermark", "lookback", "keep")
        columns = ", ".join(f"{name} VARCHAR" for name in texts)
        times = "started_at TIMESTAMPTZ, scheduled_time TIMESTAMPTZ"
        self.connection.execute(f"CREATE TABLE {RUN}.main.run ({columns}, {times}, resend BOOLEAN)")
        values = [run_id, started_at, scheduled_time]
        self.connection.execute(
            f"INSERT INTO {RUN}.main.run (run_id, started_at, scheduled_time) VALUES (?, ?, ?)", values
        )

    def scheduled_time(self) -> datetime:
        """The moment that the open run stands for."""
        (found,) = self.connection.execute(f"SELECT epoch_us(scheduled_time) FROM {RUN}.main.run").fetchall()[0]
        return datetime.fromtimestamp(found / 1e6, UTC)

    def open_run(self) -> None:
        """An empty database for a run."""
        self._attach_run()
        self.connection.execute("SET force_compression = 'uncompressed'")  # read once; to pack it costs a third more

    def seal_run(self) -> None:
        """The run is written down, as a killed process leaves it."""
        self.connection.execute(f"CHECKPOINT {RUN}")
        self.connection.execute("RESET force_compression")

    def write_outbox(
        self, layout: Layout, records: str, order: str, rules: Sequence[Rule], intent: Intent = Intent.SEND
    ) -> None:
        """Write down all records of the run, and what is to be done with each. After this nothing is decided anew.

        `records` is a SELECT of them. The column `action` is one of

            send         to Braze
            invalid      breaks a rule: see the number in `problem`
            remembered   Braze has rejected this very record before
            in_doubt     sent before, nobody knows whether it arrived, and it would do harm twice
            adopt        somebody said that Braze has it
            forget       the state lets it go, and Braze is not told
        """
        run = f"{RUN}.main"
        self.connection.execute(
            f"CREATE TABLE {OUTBOX} AS SELECT *, {self._action(layout, intent)} AS action FROM (\n{records}\n)\n{order}"
        )
        self.connection.execute(
            f"CREATE TABLE {run}.rules (number INTEGER, column_name VARCHAR, reason VARCHAR, hint VARCHAR)"
        )
        rows = [[number, rule.column, rule.reason, rule.hint] for number, rule in enumerate(rules, 1)]
        if rows:
            self.connection.executemany(f"INSERT INTO {run}.rules VALUES (?, ?, ?, ?)", rows)
        resend = layout.sync.on_in_doubt == "resend"
        self.connection.execute(f"UPDATE {run}.run SET key = ?, resend = ?", [json.dumps(layout.key), resend])
        if layout.cursor and layout.sync.incremental:
            watermark.begin(self.connection, layout.sync.incremental, layout.column(layout.cursor).type)
        self.connection.execute(f"DROP TABLE {CHANGES}")
        self.seal_run()

    def _action(self, layout: Layout, intent: Intent) -> str:
        cases = ["WHEN problem > 0 THEN 'invalid'"]
        if intent is Intent.ADOPT:
            return "CASE WHEN problem > 0 THEN 'invalid' WHEN kind = 'removed' THEN 'forget' ELSE 'adopt' END"
        if layout.mode.forgets_removed:
            cases.append("WHEN kind = 'removed' THEN 'forget'")
        elif layout.sync.on_removed == "clear":
            cases.append("WHEN kind = 'removed' AND attributes = 0 THEN 'forget'")
        in_doubt, rejects = f"{STATE}.main.in_doubt", f"{STATE}.main.rejects"
        if self._number(f"SELECT count(*) FROM {in_doubt}"):
            same = "(key, body)" if Kind.CHANGED in layout.mode.kinds else "key"  # else the key alone says what it is
            discarded = f"SELECT {same} FROM {in_doubt} WHERE resolution = 'discard'"
            cases.append(f"WHEN {same} IN ({discarded}) THEN 'adopt'")
            open_doubts = f"SELECT key FROM {in_doubt} WHERE resolution IS DISTINCT FROM 'resend'"
            if layout.sync.on_in_doubt == "hold":
                cases.append(f"WHEN key IN ({open_doubts}) THEN 'in_doubt'")
        by_braze = f"FROM {rejects} WHERE rejected_by = 'braze'"
        if intent is not Intent.RETRY and self._number(f"SELECT count(*) {by_braze}"):
            cases.append(f"WHEN (key, md5(body)) IN (SELECT (key, body_md5) {by_braze}) THEN 'remembered'")
        return f"CASE {' '.join(cases)} ELSE 'send' END"

    @property
    def notes(self) -> Sequence[str]:
        return self._shared.notes if self._shared else ()

    def journal(self) -> Journal:
        """The journal of the run that was begun. From here on its records may go out."""
        if self._shared is None:
            return Journal(self._journal_path)
        self._shared.announce(self._run_id(), self._outbox_path)
        return self._shared.journal(self._journal_path)

    def while_held(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        """While this is entered, `stop` is called, with the reason and a hint, if another machine may take over."""
        return self._shared.stopping(stop) if self._shared else nullcontext()

    def finish(self, ending: Ending, moves_state: bool = True) -> Fates:
        """Fold the run in and leave nothing else of it. See `fold`.

        Raises StateError if the state is shared and cannot be moved there: then the run stays written down here.
        """
        before = self._contents() if self._shared and not self._shared.is_behind else None
        self._will_change()
        fates = fold(self.connection, self._journal_path, ending, moves_state)
        if self._shared:
            try:
                self._bring(self._shared, moved=self._contents() != before or self._outbox_rows() > 0)
            except StateError as error:
                raise self._not_moved(error, fates) from error
        self.drop_run()
        return fates

    def drop_run(self) -> None:
        """Leave nothing of the run behind. The journal goes first: an outbox without one was never sent."""
        self._journal_path.unlink(missing_ok=True)
        with suppress(duckdb.IOException):  # it is detached all the same, and what it holds is to go
            self.connection.execute(f"DETACH DATABASE IF EXISTS {RUN}")
        for path in (self._outbox_path, self.folder / "outbox.duckdb.wal"):
            path.unlink(missing_ok=True)

    # --- shared with other machines ----------------------------------------------------------------------------------

    @contextmanager
    def changing(self, keep_before: bool = True) -> Iterator[None]:
        """Change the state inside the block by hand; other machines see it, if any share it, when the block ends.

        `keep_before` false: nothing of the state before stays where they look.
        """
        self._will_change()
        yield
        if self._shared:
            self.connection.execute(f"CHECKPOINT {STATE}")
            self._shared.move(self._state_path, keep_before)

    def older_copies(self) -> list[str]:
        """Where else in the store something of this sync lies."""
        return self._shared.older() if self._shared else []

    def _will_change(self) -> None:
        if self._shared:
            self._shared.will_change()

    def _bring(self, shared: SharedState, moved: bool) -> None:
        """Let other machines know of a run that has ended; if it `moved` nothing, only that there was one."""
        if not moved and shared.note_run(self._last_run()):
            return
        self.connection.execute(f"CHECKPOINT {STATE}")
        shared.move(self._state_path)

    def _catch_up(self, shared: SharedState) -> None:
        """Take in runs that only the head knows of; a run that was announced, and never sent anything, is over."""
        columns = "run_id, started_at, finished_at, status, message, counts, scheduled_time"
        for run in shared.runs:
            known = f"SELECT 1 FROM {STATE}.main.runs WHERE run_id = $run_id"
            values = ", ".join(f"${name}" for name in columns.split(", "))
            insert = f"INSERT INTO {STATE}.main.runs ({columns}) SELECT {values} WHERE NOT EXISTS ({known})"
            self.connection.execute(insert, dict(run))
        shared.settle()

    def _last_run(self) -> dict[str, Any]:
        casts = ("run_id", "started_at", "finished_at", "status", "message", "counts", "scheduled_time")
        texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in casts)
        sql = f"SELECT {texts} FROM {STATE}.main.runs WHERE run_id = ?"
        return dict(zip(casts, self.connection.execute(sql, [self._run_id()]).fetchall()[0], strict=True))

    def _contents(self) -> tuple[Any, ...]:
        """What a run without any change leaves as it is, unless something was let go of or settled."""
        doubts = self.connection.execute(f"SELECT count(*), count(resolution) FROM {STATE}.main.in_doubt").fetchone()
        rejects = self._number(f"SELECT count(*) FROM {STATE}.main.rejects")
        return self.version(), self.columns(), self.key(), self.rows(), rejects, doubts

    def _outbox_rows(self) -> int:
        return self._number(f"SELECT count(*) FROM {OUTBOX}")

    def _run_id(self) -> str:
        return str(self.connection.execute(f"SELECT run_id FROM {RUN}.main.run").fetchall()[0][0])

    def _not_moved(self, error: StateError, fates: Fates) -> StateError:
        what = f"{self.sync}: {error.mistakes[0].what}; so the state there was not moved"
        sent = f"{fates.accepted:,} rows that Braze accepted in this run are written down in {self.folder} only"
        hint = "run again from here: what is written down is brought there first"
        if isinstance(error, OvertakenError):
            hint = "the run that took over plans again what it did not know to be accepted; see docs/state.md"
        return StateError(f"{what}: {sent}" if fates.accepted else what, hint=hint)

    def rewrite(self) -> None:
        """Write the state file anew, so that nothing which was deleted is left in its bytes."""
        fresh = self.folder / "state.next.duckdb"
        fresh.unlink(missing_ok=True)
        self.connection.execute(f"ATTACH {literal(str(fresh))} AS retl_next")
        self.connection.execute(f"COPY FROM DATABASE {STATE} TO retl_next")
        self.connection.execute(f"DETACH retl_next; DETACH {STATE}")
        fresh.replace(self._state_path)
        (self.folder / "state.duckdb.wal").unlink(missing_ok=True)
        self._attach()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        """The lock is ours, so who has the file open only looks into it (`retl run-due`), and is gone in a moment."""
        attempt = partial(attach, self.connection, self._state_path, self.sync, self.target)
        when_free(attempt, LOOKERS_ARE_GONE_S, Clock(), lambda _: None)

    def _attach_run(self) -> None:
        self.connection.execute(f"ATTACH {literal(str(self._outbox_path))} AS {RUN}")

    def _recover(self) -> Fates | None:
        """Fold in what a killed run left behind; other machines know of it before anything else is done."""
        fates = None
        if self._outbox_path.exists() and self._journal_path.exists():
            try:
                self._attach_run()
                (run_id,) = self.connection.execute(f"SELECT run_id FROM {RUN}.main.run").fetchall()[0]
            except duckdb.Error as error:
                what = f"{self._outbox_path} is damaged, and with it what the killed run sent: {_first_line(error)}"
                hint = f"restore it, or `retl state reset {self.sync}`: all is moved aside, and all rows go out again"
                raise StateError(what, hint=hint) from error
            if not self._number(f"SELECT count(*) FROM {STATE}.main.runs WHERE run_id = {literal(run_id)}"):
                self._will_change()
                fates = fold(self.connection, self._journal_path, Ending("killed", None, {}, datetime.now(UTC)))
        if self._shared and self._shared.is_sending and self._shared.is_behind:
            self._bring(self._shared, moved=True)
        self.drop_run()  # without a journal it was killed while planning; folded already, only the cleaning was missed
        return fates

    def _meta(self, key: str) -> str | None:
        found = self.connection.execute(f"SELECT value FROM {STATE}.main.meta WHERE key = ?", [key]).fetchone()
        return str(found[0]) if found else None

    def _number(self, sql: str) -> int:
        row = self.connection.execute(sql).fetchone()
        return int(row[0]) if row else 0


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
