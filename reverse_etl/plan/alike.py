"""Rows of the outbox of which the same is to be said, told once: for people. Programs get them row by row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from reverse_etl.masking import Keys
from reverse_etl.plan.outbox import (
    HAS_LEFT_OUT,
    HINT_TO_USE,
    OPT_IN_WITHHELD,
    identifier_of,
    may_withhold,
    reason_sql,
    user_sql,
)
from reverse_etl.plan.plan import Plan
from reverse_etl.plan.quarantine import HINT, WAITS, WAITS_UNTIL, reason_of
from reverse_etl.plan.tables import OUTBOX, RULES
from reverse_etl.records.consent import WITHHELD_FOR
from reverse_etl.records.layout import ROW_NUMBER
from reverse_etl.records.left_out import LEFT_OUT
from reverse_etl.sql.quoting import identifier, literal

SHOWN_KEYS = 3


@dataclass(frozen=True)
class Alike:
    """So many rows for which a column, reason and hint are the same; the first of their `keys`, and how many `more`
    there are: rows may share a key."""

    rows: int
    column: str | None
    reason: str
    hint: str | None
    keys: Sequence[str]
    more: int

    @property
    def which(self) -> str:
        return which(self.keys, self.more)


@dataclass(frozen=True)
class AlikeRows:
    """Rows of a plan that are not sent, or not whole; those with the most frequent reason first. A row is counted for
    each of its columns that breaks a rule."""

    invalid: Sequence[Alike] = ()
    left_out: Sequence[Alike] = ()
    withheld: Sequence[Alike] = ()


def which(keys: Iterable[str], more: int) -> str:
    """`u1, u2, u3 and 997 more`."""
    return f"{', '.join(keys)}{f' and {more:,} more' if more else ''}"


def named(key: str, user: str | None) -> str:
    """A row by its key and, where that is a digest, its user."""
    return f"{key} ({user})" if user else key


def alike_rows(connection: DuckDBPyConnection, keys: Keys, plan: Plan) -> AlikeRows:
    """What is to be said of the rows of the outbox that a run does not send, or not whole."""
    rows = f"SELECT *, {user_sql(connection)} AS who FROM {OUTBOX} WHERE"
    joined = f"JOIN {RULES} USING (number)"
    invalid = f"""SELECT key, who, column_name, {reason_sql(connection)} AS reason, hint
        FROM (SELECT *, unnest(problems) AS number FROM ({rows} action = 'invalid')) {joined}"""
    left_out = f"""SELECT key, who, column_name, reason, {HINT_TO_USE} AS hint
        FROM (SELECT *, one.number AS number FROM (SELECT *, unnest({LEFT_OUT}) AS one FROM ({rows} {HAS_LEFT_OUT})))
        {joined}"""
    return AlikeRows(
        list(_alike(connection, keys, invalid)) if plan.invalid else [],
        list(_alike(connection, keys, left_out)) if plan.left_out else [],
        [*_withheld(connection, keys, rows, joined)] if plan.withheld else [],
    )


def _withheld(connection: DuckDBPyConnection, keys: Keys, rows: str, joined: str) -> Iterator[Alike]:
    if may_withhold(connection):
        opt_ins = f"SELECT *, unnest({identifier(WITHHELD_FOR)}) AS number FROM ({rows} {OPT_IN_WITHHELD})"
        yield from _alike(connection, keys, f"SELECT key, who, column_name, reason, hint FROM ({opt_ins}) {joined}")
    if WAITS_UNTIL in connection.sql(f"FROM {OUTBOX}").columns:
        column = literal(", ".join(name for name in keys.columns if name != ROW_NUMBER))
        why = f"{column} AS column_name, {reason_of(WAITS_UNTIL)} AS reason, {literal(HINT)} AS hint"
        yield from _alike(connection, keys, f"SELECT key, who, {why} FROM ({rows} {WAITS})")


def _alike(connection: DuckDBPyConnection, keys: Keys, lines: str) -> Iterator[Alike]:
    """The same of `lines`: a SELECT of key, user, column, reason and hint, one for each row and column."""
    found = connection.execute(
        f"""SELECT CAST(sum(lines) AS BIGINT) AS rows, column_name, reason, hint, count(*) AS keys,
            min({{'key': key, 'who': who}}, {SHOWN_KEYS}) AS first
        FROM (SELECT key, who, column_name, reason, hint, count(*) AS lines FROM ({lines}) GROUP BY ALL)
        GROUP BY column_name, reason, hint ORDER BY rows DESC, column_name, reason, hint"""
    ).fetchall()
    for rows, column, reason, hint, number, first in found:
        shown = [named(keys.shown(one["key"]), identifier_of(one["who"], keys)) for one in first]
        yield Alike(rows, column, reason, hint, shown, number - len(shown))
