"""How far an incremental sync has been read: where it reads next, and which rows may be pruned.

    highest      the largest cursor that was read, no later than the run that read it
    open_from    the smallest cursor of a row that is not acknowledged, and not given up; none if all are
    held         how many rows these are; held_since: since when the first of them is not in Braze
    forgotten    rows up to here may have been pruned (`retention`), so an unknown row is not new

The next run reads from the smaller of (`highest` minus `lookback`) and `open_from`. So the watermark never passes a
row that was not acknowledged, unless it was given up: see `plan/given_up.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.plan.given_up import GIVEN_UP
from reverse_etl.plan.outbox import OPT_IN_WITHHELD, may_withhold
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, IN_DOUBT, META, OUTBOX, REJECTS, RUN, SENT_AT
from reverse_etl.project.spec import Incremental
from reverse_etl.records.layout import CURSOR
from reverse_etl.records.left_out import LEFT_OUT
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import INTEGERS, SqlType
from reverse_etl.words import count

_META = f"{META}"
WATERMARK = "watermark"  # its key in `meta`


@dataclass(frozen=True)
class Watermark:
    """Values are strings that cast to `type`, the DuckDB type of the cursor column: HUGEINT for any integer."""

    column: str
    type: str
    highest: str | None = None
    open_from: str | None = None
    forgotten: str | None = None
    held: int = 0
    held_since: str | None = None

    @property
    def is_number(self) -> bool:
        return self.type == "HUGEINT"


def read(connection: DuckDBPyConnection) -> Watermark | None:
    """The watermark of the state; None before the first incremental run."""
    found = connection.execute(f"SELECT value FROM {_META} WHERE key = '{WATERMARK}'").fetchone()
    return of_meta({WATERMARK: found[0]} if found else {})


def of_meta(meta: Mapping[str, str]) -> Watermark | None:
    """The same, as `meta` has it."""
    return Watermark(**json.loads(meta[WATERMARK])) if WATERMARK in meta else None


def start(connection: DuckDBPyConnection, mark: Watermark, lookback: str) -> str | None:
    """The smallest cursor that the next run reads, as a string; None if it reads everything."""
    if mark.highest is None:
        return mark.open_from
    back = lookback if mark.is_number else f"INTERVAL {literal(lookback)}"
    open_from = f"CAST({literal(mark.open_from)} AS {mark.type})" if mark.open_from else "NULL"
    least = f"least(CAST(CAST({literal(mark.highest)} AS {mark.type}) - {back} AS {mark.type}), {open_from})"
    return _text(connection, f"SELECT CAST({least} AS VARCHAR)")


# What other dialects call DuckDB's types of times, where they call them otherwise.
_TIMES = {"spark": {"TIMESTAMPTZ": "TIMESTAMP", "TIMESTAMP": "TIMESTAMP_NTZ"}}


def cursor_sql(connection: DuckDBPyConnection, mark: Watermark, start: str, dialect: str = "duckdb") -> str:
    """The SQL that `cursor()` renders: just below `start`, so that `>` and `>=` both read rows equal to it."""
    of = {"HUGEINT": "HUGEINT", "DATE": "DATE", "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}.get(mark.type, "TIMESTAMP")
    step = {"HUGEINT": "1", "DATE": "1"}.get(of, "INTERVAL 1 MICROSECOND")
    below = _text(connection, f"SELECT CAST(CAST({literal(start)} AS {of}) - {step} AS VARCHAR)")
    if mark.is_number:
        return str(below)
    return f"CAST({literal(str(below))} AS {_TIMES.get(dialect, {}).get(of, of)})"


def begin(connection: DuckDBPyConnection, incremental: Incremental, of: SqlType) -> dict[str, str | None]:
    """What the commit needs to move the watermark, by the columns of the run. Its changes exist already.

    A row without a change was read before: the watermark of the state covers it.
    """
    mark = Watermark(incremental.cursor, "HUGEINT" if of.family in INTEGERS else of.text)
    value = identifier(f"new.{mark.column}")
    if not mark.is_number:
        # A date far in the future, from bad data, must not move the watermark past all rows to come.
        value = f"least({value}, (SELECT CAST(started_at AS {mark.type}) FROM {RUN}.main.run))"
    mark = replace(mark, highest=_text(connection, f"SELECT CAST(max({value}) AS VARCHAR) FROM {CHANGES}"))
    return {
        "watermark": json.dumps(asdict(mark)),
        "lookback": incremental.lookback,
        "retention": incremental.retention,
    }


def move(
    connection: DuckDBPyConnection, before: Watermark | None, run: Mapping[str, Any], outcomes: str, now: datetime
) -> bool:
    """Move the watermark of the state, `before`, as far as the run has read, and prune rows that are safely behind it.

    `run` is what `begin` returned, and `outcomes` the outbox with the outcome of every record. Returns whether the
    watermark is another one now.
    """
    text, lookback, retention = run["watermark"], run["lookback"], run["retention"]
    if text is None:
        if before is not None:
            connection.execute(f"DELETE FROM {_META} WHERE key = 'watermark'")
        return before is not None
    mark = Watermark(**json.loads(text))
    mark = _with_hold(connection, mark, before, f"SELECT * FROM {outcomes} WHERE {_is_open(connection)}", now)
    _place_given_up(connection)
    if before and (before.column, before.type) == (mark.column, mark.type):
        highest = _extreme(connection, mark.type, "greatest", mark.highest, before.highest)
        mark = replace(mark, highest=highest, forgotten=before.forgotten)
    if retention:
        mark = replace(mark, forgotten=_prune(connection, mark, start(connection, mark, lookback), retention, now))
    _write(connection, mark)
    return mark != before


def _is_open(connection: DuckDBPyConnection) -> str:
    """SQL over the outbox with outcomes for: a run has to read the row again."""
    kept_back = "action IN ('invalid', 'previously_rejected', 'in_doubt', 'withheld', 'later', 'blocked')"
    kept_back += f" OR ({LEFT_OUT} IS NOT NULL AND action <> '{GIVEN_UP}')"
    if may_withhold(connection):
        kept_back += f" OR {OPT_IN_WITHHELD}"  # of which the rest may have been sent
    return f"({kept_back} OR outcome IN ('rejected', 'in_doubt', 'unsent'))"


def _with_hold(
    connection: DuckDBPyConnection, mark: Watermark, before: Watermark | None, rows: str, now: datetime
) -> Watermark:
    """The watermark as `rows` hold it, which are not in Braze; the state has those of this run already."""
    found = connection.execute(f"SELECT count(*), CAST(min({CURSOR}) AS VARCHAR) FROM ({rows})").fetchall()
    held, open_from = found[0]
    if not held:
        return mark
    listed = f"SELECT key, rejected_at AS since FROM {REJECTS} WHERE rejected_by <> '{GIVEN_UP}'"
    known = f"{listed} UNION ALL SELECT key, sent_at FROM {IN_DOUBT}"
    first = f"SELECT CAST(min(since) AS VARCHAR) FROM ({rows}) JOIN ({known}) AS known USING (key)"
    since = [_text(connection, first) or str(now)]
    if before and before.open_from == open_from and before.held_since:
        since.append(before.held_since)
    first_of = _extreme(connection, "TIMESTAMPTZ", "least", *since)
    return replace(mark, open_from=open_from, held=held, held_since=first_of)


def holds(connection: DuckDBPyConnection, mark: Watermark, lookback: str, sync: str) -> str | None:
    """What is said of rows that keep the watermark from moving, and the way out; None if there are none."""
    if not mark.held or start(connection, mark, lookback) != mark.open_from:
        return None
    since = f"strftime(CAST({literal(str(mark.held_since))} AS TIMESTAMPTZ), '%Y-%m-%d %H:%M UTC')"
    rows = count(mark.held, "row that is", "rows that are")
    at = _text(connection, f"SELECT {since}")
    listed = f"SELECT EXISTS (FROM {REJECTS} WHERE rejected_by <> '{GIVEN_UP}') OR EXISTS (FROM {IN_DOUBT})"
    is_listed = connection.execute(listed).fetchall() == [(True,)]
    way_out = f"`retl rejects {sync}`" if is_listed else "not sent yet; the next run sends what is left of them"
    return f"the watermark is held at {mark.open_from} since {at} by {rows} not in Braze: {way_out}"


def is_pruned(connection: DuckDBPyConnection, cursor: str) -> bool:
    """Whether rows up to `cursor` may have been pruned, so that an unknown one there does not count as new."""
    mark = read(connection)
    if mark is None or mark.forgotten is None:
        return False
    return _extreme(connection, mark.type, "greatest", cursor, mark.forgotten) == mark.forgotten


def let_go(connection: DuckDBPyConnection, rows: int) -> None:
    """Note that so many of the rows that hold the watermark were given up: the next run moves it."""
    mark = read(connection)
    if mark and mark.held:
        _write(connection, replace(mark, held=max(0, mark.held - rows)))


def read_again_from(connection: DuckDBPyConnection, cursors: Sequence[str]) -> None:
    """Have the next run read from the first of `cursors` on, if not from before."""
    mark = read(connection)
    if mark and cursors:
        _write(connection, replace(mark, open_from=_extreme(connection, mark.type, "least", *cursors, mark.open_from)))


def _write(connection: DuckDBPyConnection, mark: Watermark) -> None:
    values = ["watermark", json.dumps(asdict(mark))]
    connection.execute(f"INSERT OR REPLACE INTO {_META} VALUES (?, ?)", values)


def _place_given_up(connection: DuckDBPyConnection) -> None:
    """Record the cursors of rows that are given up, as far as the run has read them."""
    given_up = f"rejected_by = '{GIVEN_UP}' AND rejects.cursor IS NULL"
    if connection.execute(f"SELECT 1 FROM {REJECTS} AS rejects WHERE {given_up} LIMIT 1").fetchall():
        connection.execute(
            f"""UPDATE {REJECTS} SET cursor = CAST(o.{CURSOR} AS VARCHAR) FROM {OUTBOX} AS o
            WHERE {given_up} AND o.key = rejects.key AND o.action = '{GIVEN_UP}'"""
        )


def _prune(
    connection: DuckDBPyConnection, mark: Watermark, start: str | None, retention: str, now: datetime
) -> str | None:
    """Delete rows before `start` that were sent, or given up, longer than `retention` ago; the last cursor ever
    pruned."""
    if start is None:
        return mark.forgotten
    is_old, values = f"< $now - INTERVAL {literal(retention)}", {"now": now}
    given_up = f"rejected_by = '{GIVEN_UP}' AND rejected_at {is_old}"  # without a cursor if it has left the model
    last = [mark.forgotten]
    for table, cursor, old in (
        (ACKNOWLEDGED, identifier(mark.column), f"{SENT_AT} {is_old}"),
        (REJECTS, f"CAST(cursor AS {mark.type})", given_up),
    ):
        old += f" AND coalesce({cursor} < CAST({literal(start)} AS {mark.type}), {str(table == REJECTS).lower()})"
        found = connection.execute(f"SELECT CAST(max({cursor}) AS VARCHAR) FROM {table} WHERE {old}", values)
        last += [cursor for (cursor,) in found.fetchall()]
        connection.execute(f"DELETE FROM {table} WHERE {old}", values)
    return _extreme(connection, mark.type, "greatest", *last)


def _extreme(connection: DuckDBPyConnection, of: str, which: str, *values: str | None) -> str | None:
    known = [f"CAST({literal(value)} AS {of})" for value in values if value is not None]
    return _text(connection, f"SELECT CAST({which}({', '.join(known)}) AS VARCHAR)") if known else None


def _text(connection: DuckDBPyConnection, sql: str) -> str | None:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None
