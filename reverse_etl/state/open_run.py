"""The open run: its database next to the state, from the first change to the last response.

outbox.duckdb    run, changes, outbox, rules; with the journal, it is all that a killed run leaves behind
journal.jsonl    requests and responses
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.plan.actions import Intent, needs_opt_out
from reverse_etl.plan.doubts import recognize_doubts
from reverse_etl.plan.elsewhere import Adopted
from reverse_etl.plan.tables import CHANGES, OPEN_RUN, OUTBOX, RESENT, RULES, RUN
from reverse_etl.plan.workbench import execute
from reverse_etl.records.consent import FRESH, ROW
from reverse_etl.records.expressions import Rule
from reverse_etl.records.layout import Layout
from reverse_etl.sql.database import detach_whole
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.state import watermark
from reverse_etl.state.contents import types_of

ORIGIN = ("git_commit", "sql", "started_by", "plan_digest", "reverts")  # where a run came from, beside `git_dirty`
_TIMES = ("started_at", "scheduled_time")
_TEXTS = (
    *("run_id", "mode", "workspace", "key", "identifiers", "watermark", "lookback", "retention", "consent", "ledger"),
    *ORIGIN,
)
_COLUMNS = {
    **dict.fromkeys(_TEXTS, "VARCHAR"),
    **dict.fromkeys(_TIMES, "TIMESTAMPTZ"),
    **dict.fromkeys(("resend", "released", "suppresses", "absences", "pins", "git_dirty"), "BOOLEAN"),
}
# What `others.py`, and `_rewrite`, leave behind if they are killed.
OF_OTHERS = tuple(f"{name}.duckdb{wal}" for name in ("others", "other", "outbox.next") for wal in ("", ".wal"))
# What is not checkpointed is lost with the process. A log would be no use, and takes as long as the writes.
_OPTIONS = " (RECOVERY_MODE no_wal_writes, STORAGE_VERSION 'v1.2.0')"  # the first that knows zstd


@dataclass(frozen=True)
class Taken:
    """Rows of a baseline that are acknowledged without a record: how many, and a SELECT of the key of each, and of who
    it is about. See `baseline.py`."""

    rows: int = 0
    keys: str = ""


class OpenRun:
    """The open run in the folder of a sync."""

    def __init__(self, connection: DuckDBPyConnection, folder: Path) -> None:
        self._connection = connection
        self.resends = False  # whether RESENT has rows
        self.is_blank = False  # whether the outbox has no records
        self.is_reduced = False  # whether records were taken out of the outbox
        self.keeps_columns = False  # whether the state is known to have the same columns as the outbox
        self.taken = Taken()
        self.streamed = False  # whether CHANGES is a view of the outbox, as in a first run
        self.adopts: Adopted | None = None  # rows of a baseline that are in the warehouse, and not in the outbox
        self._known: dict[str, Any] = {}  # what its table says of a run that this process has begun
        self._noted: dict[str, Any] = {}  # ... and what it will say once the plan is complete
        self._is_attached, self._is_complete = False, False
        self.outbox_path, self.journal_path = folder / "outbox.duckdb", folder / "journal.jsonl"

    def begin(self, run_id: str, started_at: datetime, scheduled_time: datetime, mode: str) -> None:
        """Create the database for the changes and the outbox of a run."""
        self.create()
        self.streamed = self.is_reduced = self.keeps_columns = False
        self.taken = Taken()
        self.adopts = None
        self._known = {"run_id": run_id, "started_at": started_at, "scheduled_time": scheduled_time, "mode": mode}
        values = {**self._known, "released": False}
        columns = ", ".join(
            f"CAST({f'${name}' if name in values else 'NULL'} AS {of}) AS {name}" for name, of in _COLUMNS.items()
        )
        self._connection.execute(f"CREATE TABLE {OPEN_RUN} AS SELECT {columns}", values)

    def create(self) -> None:
        """Create and attach an empty database for a run; it is complete on disk with `seal` and `release`."""
        self.attach(_OPTIONS)
        self._connection.execute("SET force_compression = 'uncompressed'")  # unless `store_packed` says otherwise

    def attach(self, options: str = "") -> None:
        self._known, self._noted, self._is_complete = {}, {}, False
        self._connection.execute(f"ATTACH {literal(str(self.outbox_path))} AS {RUN}{options}")
        self._is_attached = True

    def write_outbox(self, layout: Layout, records: str) -> None:
        """Store all records of the run, and what is to be done with each.

        `records` selects them in the order in which they are sent, with the `action` of `plan/actions.py`.
        """
        execute(self._connection, f"CREATE OR REPLACE TABLE {OUTBOX} AS {records}")
        self.written(layout)

    def written(self, layout: Layout, is_blank: bool = False) -> None:
        """The records of the run are stored."""
        self.is_blank = is_blank
        recognize_doubts(self._connection, layout)

    def write_blank(self, columns: Mapping[str, str]) -> None:
        """Store that the run has no records: an outbox of these columns, with their types."""
        self.create_outbox(columns)
        self.is_blank = True

    def create_outbox(self, columns: Mapping[str, str], computed: Mapping[str, str] = {}) -> None:
        """Create an outbox of these columns, with their types. Those that are `computed`, from the others, have no
        values of their own."""
        how = {name: f" GENERATED ALWAYS AS ({sql}) VIRTUAL" for name, sql in computed.items()}
        listed = ", ".join(f"{identifier(name)} {of}{how.get(name, '')}" for name, of in columns.items())
        self._connection.execute(f"CREATE OR REPLACE TABLE {OUTBOX} ({listed})")

    def add_opt_outs(self, records: str, intent: Intent, blocks: Sequence[str]) -> None:
        """Add a record that only opts out for each row whose opt-outs are not sent first otherwise.

        `records` selects such records of all rows. If a row `blocks` the run, by one of these conditions, its opt-outs
        are sent nevertheless, and nothing else.
        """
        needed, row = needs_opt_out(intent), identifier(ROW)
        if any(map(self._has, blocks)) and self._has(f"{identifier(FRESH)} > 0"):
            self._connection.execute(f"UPDATE {OUTBOX} SET action = 'blocked' WHERE action = 'send'")
        if self._has(needed):
            rows = f"SELECT {row} FROM {OUTBOX} WHERE {needed}"
            execute(self._connection, f"INSERT INTO {OUTBOX} BY NAME SELECT * FROM ({records}) WHERE {row} IN ({rows})")

    def _has(self, condition: str) -> bool:
        return bool(self._connection.execute(f"SELECT 1 FROM {OUTBOX} WHERE {condition} LIMIT 1").fetchall())

    def describe(self, layout: Layout, rules: Sequence[Rule], withheld: Sequence[tuple[str, str, str]]) -> None:
        """Store what the numbers in the outbox mean, and what the commit of the run needs to know."""
        self._connection.execute(
            f"CREATE OR REPLACE TABLE {RULES} (number INTEGER, column_name VARCHAR, reason VARCHAR, hint VARCHAR)"
        )
        texts = [*((rule.column, rule.reason, rule.hint) for rule in rules), *withheld]
        rows = [f"({number}, {', '.join(map(literal, of_rule))})" for number, of_rule in enumerate(texts, 1)]
        if rows:
            self._connection.execute(f"INSERT INTO {RULES} VALUES {', '.join(rows)}")
        resend = layout.sync.on_in_doubt == "resend"
        users = [layout.columns_of(name) for name in layout.identifiers] if layout.whole_row else []
        self._noted |= {"key": json.dumps(layout.key), "identifiers": json.dumps(users)}
        self._noted |= {"resend": resend, "suppresses": layout.sync.suppresses, "ledger": layout.sync.ledger.keep}
        if layout.cursor and layout.sync.incremental:
            of = layout.column(layout.cursor).type
            self._noted |= watermark.begin(self._connection, layout.sync.incremental, of)

    def know_consent(self, columns: Iterable[str]) -> None:
        """Record the columns of which the state knows who has opted out, once the run is committed."""
        self._noted["consent"] = json.dumps(sorted(columns))

    def note_workspace(self, known: str) -> None:
        """Record where the run is sent, before it is."""
        self._noted["workspace"] = known

    def knows_consent(self) -> bool:
        """Whether it is known who has opted out of what the run opts users in to."""
        return self.facts()["consent"] is not None

    def came_from(self, known: Mapping[str, str | bool | None]) -> None:
        """Record where the run came from: of ORIGIN and `git_dirty`, what is known."""
        self._noted |= known

    def complete(self) -> None:
        """The plan of the run is complete. After this, nothing more is decided."""
        self._write()
        self._is_complete = True
        kind = "VIEW" if self.streamed else "TABLE"
        self._connection.execute(f"DROP {kind} {CHANGES}; DROP TABLE IF EXISTS {RESENT}")
        if self.is_reduced:
            self._rewrite()
        self.seal()

    def _rewrite(self) -> None:
        """Rewrite the file of the run, which is uploaded, without what was dropped: DuckDB keeps its bytes."""
        following = self.outbox_path.with_name("outbox.next.duckdb")
        following.unlink(missing_ok=True)
        self._connection.execute(f"ATTACH {literal(str(following))} AS retl_run_next{_OPTIONS}")
        self._connection.execute(f"COPY FROM DATABASE {RUN} TO retl_run_next")
        detach_whole(self._connection, "retl_run_next")
        self._connection.execute(f"DETACH {RUN}")
        following.replace(self.outbox_path)
        self._connection.execute(f"ATTACH {literal(str(self.outbox_path))} AS {RUN}{_OPTIONS}")

    def _write(self) -> None:
        """Write what was noted."""
        if self._noted:
            values = ", ".join(f"{name} = ${name}" for name in self._noted)
            self._connection.execute(f"UPDATE {OPEN_RUN} SET {values}", self._noted)
            self._known, self._noted = {**self._known, **self._noted}, {}

    def seal(self) -> None:
        """Write the run to its file completely, as a killed process would leave it; not one that has nothing to send,
        which is planned again."""
        if self.taken.rows or not self.is_blank:
            self._connection.execute(f"CHECKPOINT {RUN}")
        self._connection.execute("RESET force_compression")

    def release(self) -> None:
        """Record, in its file, that the run may be sent from here on: nothing blocks it.

        The journal is there before: a released run without one has lost it.
        """
        self.journal_path.touch(mode=0o600)
        self._noted["released"] = True
        self._write()
        self._connection.execute(f"CHECKPOINT {RUN}")

    def is_released(self) -> bool | None:
        """Whether the run was released before its process was killed; None if an older retl planned it."""
        (released,) = self._connection.execute(f"SELECT released FROM {OPEN_RUN}").fetchall()[0]
        return None if released is None else bool(released)

    def run_id(self) -> str:
        return str(self.facts()["run_id"])

    def key(self) -> list[str]:
        """The columns of the primary key, once the outbox is written."""
        return list(json.loads(self.facts()["key"]))

    def facts(self) -> Mapping[str, Any]:
        """What is known of the run, by the names of its columns, but for when it began."""
        if "absences" not in self._known:  # which the warehouse finds
            names = [name for name in _COLUMNS if name not in _TIMES]
            values = self._connection.execute(f"SELECT {', '.join(names)} FROM {OPEN_RUN}").fetchall()[0]
            found = dict(zip(names, values, strict=True))
            if not self._is_complete:
                return {**found, **self._noted}
            self._known |= found
        return {**self._known, **self._noted}

    def columns(self) -> list[str]:
        """The columns of its model, in any order."""
        database, schema, table = OUTBOX.split(".")
        query = (
            "SELECT column_name[5:] FROM duckdb_columns() WHERE (database_name, schema_name, table_name) = (?, ?, ?) "
            "AND starts_with(column_name, 'new.')"
        )
        return [name for (name,) in self._connection.execute(query, [database, schema, table]).fetchall()]

    def types(self) -> dict[str, SqlType]:
        """The same columns, with what is known of their types."""
        found = types_of(self._connection, OUTBOX)
        return {name.removeprefix("new."): of for name, of in found.items() if name.startswith("new.")}

    def scheduled_time(self) -> datetime:
        """The scheduled time of the run; of a manual run, its start."""
        known: datetime | None = self._known.get("scheduled_time")
        if known:
            return known.astimezone(UTC)
        (found,) = self._connection.execute(f"SELECT epoch_us(scheduled_time) FROM {OPEN_RUN}").fetchall()[0]
        return datetime.fromtimestamp(found / 1e6, UTC)

    def drop(self) -> None:
        """Delete the run. The journal is deleted first: an outbox without a journal was never sent."""
        self.journal_path.unlink(missing_ok=True)
        if self._is_attached:
            with suppress(duckdb.IOException):  # it is detached nevertheless, and its contents are deleted anyway
                self._connection.execute(f"DETACH DATABASE IF EXISTS {RUN}")
            self._is_attached = False
        for name in ("outbox.duckdb", "outbox.duckdb.wal", *OF_OTHERS):
            self.outbox_path.with_name(name).unlink(missing_ok=True)
