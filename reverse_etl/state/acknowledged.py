"""What Braze has acknowledged: rows, their columns and primary key, and where an incremental run continues."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import DELETE, Kind
from reverse_etl.delivery.destination import Destination
from reverse_etl.errors import Location, StateError
from reverse_etl.plan.given_up import GIVEN_UP
from reverse_etl.plan.tables import ACKNOWLEDGED, DELETED, IN_DOUBT, META, REJECTS, SENT_AT, UNSURE, USER
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import ROW_NUMBER, Column, Layout
from reverse_etl.sql.quoting import literal
from reverse_etl.sql.types import INTEGERS, SqlType, widens
from reverse_etl.state import watermark
from reverse_etl.state.contents import acknowledged_columns, acknowledged_types
from reverse_etl.state.file import done_until
from reverse_etl.state.workspace import workspace_of


@dataclass(frozen=True)
class Since:
    """Where an incremental run starts reading: `cursor` is SQL for just below `start`.

    Rows up to `forgotten` are not new. `hold` says which rows keep the watermark from moving, if any do.
    """

    start: str
    cursor: str
    forgotten: str | None
    hold: str | None


class AcknowledgedRows:
    """The acknowledged rows of one sync, read-only."""

    def __init__(self, connection: DuckDBPyConnection, sync: str) -> None:
        self._connection, self._sync, self._has_run = connection, sync, False

    def columns(self) -> dict[str, str]:
        """Names and types of the columns of acknowledged rows; empty before the first run."""
        return acknowledged_columns(self._connection)

    def types(self) -> dict[str, SqlType]:
        """The same columns, with what is known of their types."""
        return acknowledged_types(self._connection)

    def count(self) -> int:
        """How many rows the state contains."""
        deleted = self._number(f"SELECT count(*) FROM {DELETED}")
        return deleted + (self._number(f"SELECT count(*) FROM {ACKNOWLEDGED}") if self._is_there() else 0)

    def count_acknowledged(self) -> int:
        """How many of them Braze has acknowledged; the others may or may not be there."""
        deleted = self._number(f"SELECT count(*) FROM {DELETED}")
        return deleted + (self._number(f"SELECT count({SENT_AT}) FROM {ACKNOWLEDGED}") if self.columns() else 0)

    def is_unsure(self) -> bool:
        """Whether there is a row with columns whose value in Braze is unknown."""
        unsure = f"SELECT count(*) FROM {ACKNOWLEDGED} WHERE {UNSURE} <> [{literal(USER)}]"
        return bool(self._is_there() and self._number(unsure))

    def key(self) -> tuple[str, ...]:
        """The columns of the primary key; empty before the first run."""
        return tuple(json.loads(self._meta("primary_key") or "[]"))

    def done_until(self, delay: timedelta) -> datetime | None:
        """The latest scheduled time for which a run succeeded; None before the first such run."""
        return done_until(self._connection, delay)

    def version(self) -> str:
        """A string that changes whenever the state does; empty before the first run."""
        return self._meta("version") or ""

    def refuse_other_mode(self, sync: Sync) -> None:
        """Raises StateError if the rows were sent in another mode: Braze does not have them as what they are now."""
        before, now = self._meta("mode"), sync.mode.label
        if before in (None, now) or self._is_about_nothing():
            return
        what = f"{sync.name}: its rows were sent as {before}, and the sync is now {now}"
        hint = f"give the sync another name; or run `retl state reset {sync.name}`, and every row is sent as {now}"
        if sync.mode.call is DELETE:
            hint = f"set mode back to {before}: in the new one, the sync would delete every user that the model returns"
        raise StateError(what, sync.where("mode"), hint, code="S001")

    def refuse_other_workspace(self, destination: Destination, where: Location) -> None:
        """Raises StateError if the rows are in another workspace than that of the destination, which lacks them."""
        difference = workspace_of(self._connection).difference(destination)
        if difference is None or self._is_about_nothing():
            return
        accept, reset = f"`retl state accept-workspace {self._sync}`", f"`retl state reset {self._sync}`"
        hint = f"for the same workspace, run {accept}; another one needs a target of its own, or {reset}"
        raise StateError(f"{self._sync}: {difference}", where, hint, code="S002")

    def _is_about_nothing(self) -> bool:
        """Whether no row was ever sent that the state would remember."""
        rejects = f"SELECT count(*) FROM {REJECTS} WHERE rejected_by IN ('braze', '{GIVEN_UP}')"
        remembered = self.count() or self._number(f"SELECT count(*) FROM {IN_DOUBT}") or self._number(rejects)
        return not remembered and watermark.read(self._connection) is None

    def retyped(self, layout: Layout, accept: bool) -> frozenset[str]:
        """The columns whose type differs from the acknowledged one, and is not just a wider one.

        Raises StateError unless `accept`, as Braze silently drops or converts a value whose type has changed; and
        always if the primary key has changed.
        """
        key = self.key()
        if key and not _is_key(layout, key):
            what, hint = self._other_key(layout)
            raise StateError(f"{self._sync}: {what}", layout.sync.where("primary_key"), hint, code="S003")
        known = self.types()
        stored = [column for column in layout.columns if column.name in layout.stored and column.name in known]
        moved = {c.name: (known[c.name], c.type) for c in stored if not _is_wider(layout, c, known[c.name])}
        if moved and not accept:
            listed = ", ".join(f'"{name}" from {before.text} to {now.text}' for name, (before, now) in moved.items())
            again = " to send its values again" if Kind.CHANGED in layout.mode.kinds else ""
            hint = f"CAST it back in the model, or run `retl sync {self._sync} --accept-schema-change`{again}"
            raise StateError(
                f"{self._sync}: the model changed the type of {listed}", layout.sync.where("model"), hint, code="S004"
            )
        return frozenset(moved)

    def _other_key(self, layout: Layout) -> tuple[str, str]:
        """What is different about the primary key, and how to go on without sending events twice.

        What was not sent yet has to be sent under the former key: a baseline takes every row for sent.
        """
        before, now = self.key(), layout.key
        reset, baseline = f"`retl state reset {self._sync}`", f"`retl state baseline {self._sync}`"
        hint = f"run {reset}, and every row is sent again"
        if not layout.mode.is_idempotent:
            again = f"undo this and run `retl sync {self._sync}`; then do it again, and run {reset} and {baseline}"
            hint = f"to send no row twice, {again}"
        if ROW_NUMBER not in before or not layout.whole_row:
            was, is_ = (", ".join(name for name in key if name != ROW_NUMBER) for key in (before, now))
            return f"the primary key was ({was}) so far, and is now ({is_})", hint
        if set(before) == set(now):
            former = ", ".join(name for name in before if name != ROW_NUMBER)
            return f"its columns, which identify a row, are in another order: {', '.join(now[:-1])}", f"select {former}"
        gained, lost = ([name for name in one if name not in other] for one, other in ((now, before), (before, now)))
        listed = " and ".join(
            f"{verb} {', '.join(names)}" for verb, names in (("gained", gained), ("lost", lost)) if names
        )
        return f"all columns together identify a row, and the model {listed}", hint

    def reads_from(self, sync: Sync, full_refresh: bool, dialect: str = "duckdb") -> Since | None:
        """Where an incremental run starts reading, for models of a dialect; None if it reads everything.

        Raises StateError if rows were pruned, and the sync no longer has the cursor that tells them from new ones.
        """
        mark, incremental = watermark.read(self._connection), sync.incremental
        if mark is None or full_refresh:
            return None
        if incremental is None or incremental.cursor != mark.column:
            if mark.forgotten is None:
                return None
            what = (
                f'{sync.name}: rows up to {mark.forgotten} of "{mark.column}" were pruned, and would now count as new'
            )
            hint = f"set `incremental: {{cursor: {mark.column}}}` again"
            if sync.mode.is_idempotent:
                hint += f"; or send every row again: `retl sync {sync.name} --full-refresh`"
            raise StateError(what, sync.where(), hint, code="S005")
        start = watermark.start(self._connection, mark, incremental.lookback)
        if start is None:
            return None
        cursor = watermark.cursor_sql(self._connection, mark, start, dialect)
        return Since(start, cursor, mark.forgotten, watermark.holds(self._connection, mark, incremental.lookback))

    def _is_there(self) -> bool:
        """Whether there has been a run: the table that it creates stays."""
        self._has_run = self._has_run or bool(self.columns())
        return self._has_run

    def _meta(self, key: str) -> str | None:
        found = self._connection.execute(f"SELECT value FROM {META} WHERE key = {literal(key)}").fetchone()
        return str(found[0]) if found else None

    def _number(self, sql: str) -> int:
        row = self._connection.execute(sql).fetchone()
        return int(row[0]) if row else 0


def _is_key(layout: Layout, before: Sequence[str]) -> bool:
    """Whether acknowledged rows with this key have that of the layout, too: a column that was added to it is another
    identifier, of which these rows have none."""
    if ROW_NUMBER in before or ROW_NUMBER in layout.key:
        return tuple(before) == layout.key
    either = next((part for part in layout.key_parts if part[1:]), ())
    left = [name for name in layout.key if name in before or name not in either]
    return list(before) == left and (list(layout.key) == left or any(name in either for name in before))


def _is_wider(layout: Layout, column: Column, before: SqlType) -> bool:
    """Whether the values of a column are the same JSON as before; a watermark has the type of its cursor."""
    if before.text == column.type.text:
        return True
    is_mark = column.name == layout.cursor and column.type.family not in INTEGERS
    is_text = column.type.family == "varchar" and column.is_json
    return not (is_mark or is_text) and widens(before, column.type)
