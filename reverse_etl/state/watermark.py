"""How far an incremental sync has been read: where it reads next, and which rows may be pruned.

    highest      the largest cursor that was read, no later than the run that read it
    open_from    the smallest cursor of a row that is not acknowledged; none if all are
    forgotten    rows up to here may have been pruned (`retention`), so an unknown row is not new

The next run reads from the smaller of (`highest` minus `lookback`) and `open_from`. So the watermark never passes a
row that was not acknowledged.
"""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from duckdb import DuckDBPyConnection

from reverse_etl.plan.outbox import OPT_IN_WITHHELD, may_withhold
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, META, OPEN_RUN, RUN, SENT_AT
from reverse_etl.project.spec import Incremental
from reverse_etl.records.layout import CURSOR
from reverse_etl.records.left_out import LEFT_OUT
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import INTEGERS, SqlType

_META = f"{META}"


@dataclass(frozen=True)
class Watermark:
    """Values are strings that cast to `type`, the DuckDB type of the cursor column: HUGEINT for any integer."""

    column: str
    type: str
    highest: str | None = None
    open_from: str | None = None
    forgotten: str | None = None

    @property
    def is_number(self) -> bool:
        return self.type == "HUGEINT"


def read(connection: DuckDBPyConnection) -> Watermark | None:
    """The watermark of the state; None before the first incremental run."""
    found = connection.execute(f"SELECT value FROM {_META} WHERE key = 'watermark'").fetchone()
    return Watermark(**json.loads(found[0])) if found else None


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


def begin(connection: DuckDBPyConnection, incremental: Incremental, of: SqlType) -> None:
    """Store in the run what the commit needs to move the watermark. The changes of the run exist already.

    A row without a change was read before: the watermark of the state covers it.
    """
    mark = Watermark(incremental.cursor, "HUGEINT" if of.family in INTEGERS else of.text)
    value = identifier(f"new.{mark.column}")
    if not mark.is_number:
        # A date far in the future, from bad data, must not move the watermark past all rows to come.
        value = f"least({value}, (SELECT CAST(started_at AS {mark.type}) FROM {RUN}.main.run))"
    mark = replace(mark, highest=_text(connection, f"SELECT CAST(max({value}) AS VARCHAR) FROM {CHANGES}"))
    values = [json.dumps(asdict(mark)), incremental.lookback, incremental.retention]
    connection.execute(f"UPDATE {OPEN_RUN} SET watermark = ?, lookback = ?, retention = ?", values)


def move(connection: DuckDBPyConnection, outcomes: str, now: datetime) -> bool:
    """Move the watermark of the state as far as the run has read, and prune rows that are safely behind it.

    `outcomes` is the outbox with the outcome of every record. Returns whether the watermark is another one now.
    """
    before = read(connection)
    text, lookback, retention = connection.execute(f"SELECT watermark, lookback, retention FROM {OPEN_RUN}").fetchall()[
        0
    ]
    if text is None:
        if before is not None:
            connection.execute(f"DELETE FROM {_META} WHERE key = 'watermark'")
        return before is not None
    mark = Watermark(**json.loads(text))
    kept_back = "action IN ('invalid', 'previously_rejected', 'in_doubt', 'withheld', 'later', 'blocked')"
    kept_back += f" OR {LEFT_OUT} IS NOT NULL"
    if may_withhold(connection):
        kept_back += f" OR {OPT_IN_WITHHELD}"  # of which the rest may have been sent
    is_open = f"({kept_back} OR outcome IN ('rejected', 'in_doubt', 'unsent'))"
    mark = replace(
        mark, open_from=_text(connection, f"SELECT CAST(min({CURSOR}) AS VARCHAR) FROM {outcomes} WHERE {is_open}")
    )
    if before and (before.column, before.type) == (mark.column, mark.type):
        highest = _extreme(connection, mark.type, "greatest", mark.highest, before.highest)
        mark = replace(mark, highest=highest, forgotten=before.forgotten)
    if retention:
        mark = replace(mark, forgotten=_prune(connection, mark, start(connection, mark, lookback), retention, now))
    values = ["watermark", json.dumps(asdict(mark))]
    connection.execute(f"INSERT OR REPLACE INTO {_META} VALUES (?, ?)", values)
    return mark != before


def _prune(
    connection: DuckDBPyConnection, mark: Watermark, start: str | None, retention: str, now: datetime
) -> str | None:
    """Delete rows that were sent longer than `retention` ago and are before `start`; the last cursor ever pruned."""
    if start is None:
        return mark.forgotten
    column, values = identifier(mark.column), {"now": now}
    old = f"{column} < CAST({literal(start)} AS {mark.type}) AND {SENT_AT} < $now - INTERVAL {literal(retention)}"
    found = connection.execute(f"SELECT CAST(max({column}) AS VARCHAR) FROM {ACKNOWLEDGED} WHERE {old}", values)
    (last,) = found.fetchall()[0]
    connection.execute(f"DELETE FROM {ACKNOWLEDGED} WHERE {old}", values)
    return _extreme(connection, mark.type, "greatest", last, mark.forgotten)


def _extreme(connection: DuckDBPyConnection, of: str, which: str, *values: str | None) -> str | None:
    known = [f"CAST({literal(value)} AS {of})" for value in values if value is not None]
    return _text(connection, f"SELECT CAST({which}({', '.join(known)}) AS VARCHAR)") if known else None


def _text(connection: DuckDBPyConnection, sql: str) -> str | None:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None
