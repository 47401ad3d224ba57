"""What Braze has acknowledged: rows, their columns and primary key, and where an incremental run continues."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Kind
from reverse_etl.delivery.destination import Destination
from reverse_etl.errors import Location, StateError
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.given_up import GIVEN_UP
from reverse_etl.plan.tables import ABSENT_SINCE, ACKNOWLEDGED, DELETED, IN_DOUBT, PINS, REJECTS, SENT_AT, UNSURE, USER
from reverse_etl.project.again import Resend, resend_of
from reverse_etl.project.spec import Sync
from reverse_etl.records.consent import consent_columns
from reverse_etl.records.layout import ROW_NUMBER, Column, Layout
from reverse_etl.sql.quoting import literal
from reverse_etl.sql.types import INTEGERS, SqlType, widens
from reverse_etl.state import watermark, workspace
from reverse_etl.state.contents import acknowledged_types, key_of, meta_of
from reverse_etl.state.file import done_until


@dataclass(frozen=True)
class Since:
    """Where an incremental run starts reading: `cursor` is SQL for just below `start`.

    Rows up to `forgotten` are not new. `hold` says which rows keep the watermark from moving, if any do.
    """

    start: str
    cursor: str
    forgotten: str | None
    hold: str | None


@dataclass(frozen=True)
class Contents:
    """What a state contains: what is known of it by name, the columns of its acknowledged rows, and how many `rows` it
    has of them, whom it has `deleted`, how many cells are `pinned`, and of the rows those `unsure` of a column,
    `uncertain` of their user, and `absent` from the model."""

    meta: Mapping[str, str]
    types: Mapping[str, SqlType]
    deleted: int = 0
    pinned: int = 0
    rows: int = 0
    unsure: int = 0
    uncertain: int = 0
    absent: int = 0


def read_contents(connection: DuckDBPyConnection) -> Contents:
    """What the attached state contains. DuckDB takes longer to begin a statement than to count what is in a few."""
    meta, types = meta_of(connection), acknowledged_types(connection)
    beside = f"SELECT (SELECT count(*) FROM {DELETED}), (SELECT count(*) FROM {PINS})"
    deleted, pinned = connection.execute(beside).fetchall()[0]
    if not types:
        return Contents(meta, types, deleted, pinned)
    if pointer := pointer_of(meta):
        of = pointer.numbers
        return Contents(meta, types, deleted, pinned, of.rows, of.unsure, of.uncertain, of.absent)
    unsure, uncertain = f"{UNSURE} <> [{literal(USER)}]", f"list_contains({UNSURE}, {literal(USER)})"
    counts = f"count(*), count(*) FILTER ({unsure}), count(*) FILTER ({uncertain}), count({ABSENT_SINCE})"
    return Contents(
        meta, types, deleted, pinned, *connection.execute(f"SELECT {counts} FROM {ACKNOWLEDGED}").fetchall()[0]
    )


class AcknowledgedRows:
    """The acknowledged rows of one sync, read-only."""

    def __init__(self, connection: DuckDBPyConnection, sync: str) -> None:
        self._connection, self._sync = connection, sync
        self._held: Contents | None = None

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Inside the block, nobody changes the state: so its contents are read once."""
        self._held = read_contents(self._connection)
        try:
            yield
        finally:
            self._held = None

    def contents(self) -> Contents:
        return self._held or read_contents(self._connection)

    def meta(self) -> Mapping[str, str]:
        """What is known of the state, by its name."""
        return self._held.meta if self._held else meta_of(self._connection)

    def columns(self) -> dict[str, str]:
        """Names and types of the columns of acknowledged rows; empty before the first run."""
        return {name: of.text for name, of in self.types().items()}

    def types(self) -> Mapping[str, SqlType]:
        """The same columns, with what is known of their types."""
        return self._held.types if self._held else acknowledged_types(self._connection)

    def count(self) -> int:
        """How many rows the state contains."""
        contents = self.contents()
        return contents.deleted + contents.rows

    def count_acknowledged(self, meta: Mapping[str, str] | None = None) -> int:
        """How many of them Braze has acknowledged; the others may or may not be there. `meta`, if it has been read."""
        deleted = f"SELECT count(*) FROM {DELETED}"
        if pointer := pointer_of(self.meta() if meta is None else meta):
            return self._number(deleted) + pointer.numbers.acknowledged
        try:
            return self._number(f"SELECT ({deleted}) + (SELECT count({SENT_AT}) FROM {ACKNOWLEDGED})")
        except duckdb.CatalogException:  # there is no such table before the first run
            return self._number(deleted)

    def key(self) -> tuple[str, ...]:
        """The columns of the primary key; empty before the first run."""
        return key_of(self.meta())

    def done_until(self, delay: timedelta) -> datetime | None:
        """The latest scheduled time for which a run succeeded; None before the first such run."""
        return done_until(self._connection, delay)

    def version(self) -> str:
        """A string that changes whenever the state does; empty before the first run."""
        return self.meta().get("version", "")

    def refuse_other_mode(self, sync: Sync) -> None:
        """Raises StateError if the rows were sent in another mode: Braze does not have them as what they are now."""
        before, now = self.meta().get("mode"), sync.mode.label
        if before in (None, now) or self._is_about_nothing():
            return
        what = f"{sync.name}: its rows were sent as {before}, and the sync is now {now}"
        hint = f"give the sync another name; or run `retl state reset {sync.name}`, and every row is sent as {now}"
        ends = sync.mode.ends
        if ends:
            would = f"the sync would {ends.does} every {ends.of} that the model returns"
            hint = f"set mode back to {before}: in the new one, {would}"
        raise StateError(what, sync.where("mode"), hint, code="S001")

    def refuse_other_workspace(self, destination: Destination, where: Location) -> None:
        """Raises StateError if the rows are in another workspace than that of the destination, which lacks them."""
        difference = workspace.of_meta(self.meta()).difference(destination)
        if difference is None or self._is_about_nothing():
            return
        accept, reset = f"`retl state accept-workspace {self._sync}`", f"`retl state reset {self._sync}`"
        hint = f"for the same workspace, run {accept}; another one needs a target of its own, or {reset}"
        raise StateError(f"{self._sync}: {difference}", where, hint, code="S002")

    def _is_about_nothing(self) -> bool:
        """Whether no row was ever sent that the state would remember."""
        rejects = f"SELECT count(*) FROM {REJECTS} WHERE rejected_by IN ('braze', '{GIVEN_UP}')"
        remembered = self.count() or self._number(f"SELECT count(*) FROM {IN_DOUBT}") or self._number(rejects)
        return not remembered and watermark.of_meta(self.meta()) is None

    def retyped(self, layout: Layout, accept: bool) -> frozenset[str]:
        """The columns whose type differs from the acknowledged one, and is not just a wider one.

        Raises StateError unless `accept`, as Braze silently drops or converts a value whose type has changed; and
        always if the primary key has changed, or its type where rows that count as new do harm.
        """
        key = self.key()
        if key and not _is_key(layout, key):
            what, hint = self._other_key(layout)
            raise StateError(f"{self._sync}: {what}", layout.sync.where("primary_key"), hint, code="S003")
        known = self.types()
        stored = [column for column in layout.columns if column.name in layout.stored and column.name in known]
        moved = {c.name: (known[c.name], c.type) for c in stored if not _is_wider(layout, c, known[c.name])}
        keys = [name for name in moved if name in layout.key]
        is_harmful = bool(keys) and _new_rows_do_harm(layout) and not self._is_about_nothing()
        if moved and (is_harmful or not accept):
            listed = ", ".join(f'"{name}" from {before.text} to {now.text}' for name, (before, now) in moved.items())
            again = " to send its values again" if Kind.CHANGED in layout.mode.kinds else ""
            hint = f"CAST it back in the model, or run `retl sync {self._sync} --accept-schema-change`{again}"
            if is_harmful:
                otherwise = self._under_other_key(layout)
                hint = f"CAST it back in the model; or{',' if otherwise.startswith('to ') else ''} {otherwise}"
            raise StateError(
                f"{self._sync}: the model changed the type of {listed}", layout.sync.where("model"), hint, code="S004"
            )
        return frozenset(moved)

    def _other_key(self, layout: Layout) -> tuple[str, str]:
        """What is different about the primary key, and how to go on without sending events twice.

        What was not sent yet has to be sent under the former key: a baseline takes every row for sent.
        """
        before, now, hint = self.key(), layout.key, self._under_other_key(layout)
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

    def _under_other_key(self, layout: Layout) -> str:
        """How to go on where rows are identified otherwise: none of them is sent, deleted or opted in a second time."""
        reset, baseline = f"`retl state reset {self._sync}`", f"`retl state baseline {self._sync}`"
        resend = resend_of(layout.sync)
        if resend in (Resend.COUNTS_TWICE, Resend.CANNOT_BE_UNDONE):
            again = f"undo this and run `retl sync {self._sync}`; then do it again, and run {reset} and {baseline}"
            ends = layout.mode.ends
            return f"to {ends.does} nothing again, {again}" if ends else f"to send no row twice, {again}"
        if consent_columns(layout):
            asked = f"`retl sync {self._sync} --read-first`, which asks Braze who has opted out"
            return f"run {reset}, then {asked}: every other row is sent again"
        return f"run {reset}, and every row is sent again"

    def reads_from(self, sync: Sync, full_refresh: bool, dialect: str = "duckdb") -> Since | None:
        """Where an incremental run starts reading, for models of a dialect; None if it reads everything.

        Raises StateError if rows were pruned, and the sync no longer has the cursor that tells them from new ones.
        """
        mark, incremental = watermark.of_meta(self.meta()), sync.incremental
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
        hold = watermark.holds(self._connection, mark, incremental.lookback, self._sync)
        return Since(start, cursor, mark.forgotten, hold)

    def _number(self, sql: str) -> int:
        row = self._connection.execute(sql).fetchone()
        return int(row[0]) if row else 0


def _new_rows_do_harm(layout: Layout) -> bool:
    """Whether a row that was sent under another key counts twice as a new one, or deletes, clears or opts in."""
    is_final = resend_of(layout.sync) in (Resend.COUNTS_TWICE, Resend.CANNOT_BE_UNDONE)
    return is_final or layout.sync.on_removed != "ignore" or bool(consent_columns(layout))


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
