"""Rows that the model does not return any more: noted since when, and forgotten after `keep_removed`.

Braze keeps what it has of them. What is forgotten is the acknowledged row, except consent: opt-outs are kept apart, and
of a row that said anything of it, its key and that are kept.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import CONSENT_FIELDS
from reverse_etl.plan.tables import ABSENCES, ABSENT_SINCE, ACKNOWLEDGED, FORGET, KEEP, META, NEXT, NOTE, STRIP, UNMARK
from reverse_etl.project.spec import Sync
from reverse_etl.project.spec_collect import FOREVER
from reverse_etl.sql.quoting import identifier
from reverse_etl.words import count

_SAID = "absences"  # in `meta`: it was said that rows which leave the model are forgotten


def said(connection: DuckDBPyConnection, sync: Sync) -> str | None:
    """What is said of those that the open run has found, before it is committed: what it forgets, and once that it
    will."""
    if sync.keep_removed == FOREVER:
        return None
    found = dict(connection.execute(f"SELECT {NEXT}, count(*) FROM {ABSENCES} GROUP BY 1").fetchall())
    if rows := found.get(FORGET, 0) + found.get(STRIP, 0):
        which, them = count(rows, "row"), "it" if rows == 1 else "them"
        return f"the state forgot {which} not in the model for {sync.keep_removed} (keep_removed); Braze keeps {them}"
    if NOTE not in found or connection.execute(f"SELECT 1 FROM {META} WHERE key = '{_SAID}'").fetchall():
        return None
    has, them = ("has", "it") if found[NOTE] == 1 else ("have", "them")
    left = f"{count(found[NOTE], 'row')} {has} left the model: the state forgets {them}"
    return f"{left} after {sync.keep_removed} (keep_removed), Braze does not"


def apply(connection: DuckDBPyConnection, key: Sequence[str], columns: Iterable[str], now: datetime) -> None:
    """Note what the open run has found, and forget what was absent for long enough. `columns` are the model's."""
    same = " AND ".join(f"state.{name} IS NOT DISTINCT FROM a.{name}" for name in map(identifier, key))
    forgotten = [name for name in columns if name not in {*key, *CONSENT_FIELDS}]
    nothing = "".join(f", {identifier(name)} = NULL" for name in forgotten)

    def of(what: str) -> str:
        return f"(SELECT * FROM {ABSENCES} WHERE {NEXT} = '{what}') AS a WHERE {same}"

    noted = f"state.{ABSENT_SINCE} IS NOT NULL"
    for what, values, is_due in (
        (NOTE, "$now", f"NOT {noted}"),
        (UNMARK, "NULL", noted),
        (KEEP, "'infinity'", noted),
        (STRIP, f"'infinity'{nothing}", noted),
    ):
        sql = f"UPDATE {ACKNOWLEDGED} SET {ABSENT_SINCE} = {values} FROM {of(what)} AND {is_due}"
        connection.execute(sql, {"now": now} if what == NOTE else None)
    connection.execute(f"DELETE FROM {ACKNOWLEDGED} USING {of(FORGET)} AND {noted}")
    connection.execute(f"INSERT OR REPLACE INTO {META} VALUES ('{_SAID}', 'said')")
