"""Rows of the state that the model lacks: which left it in this run, are back, or have been away for `keep_removed`.

They are stored beside the outbox, in ABSENCES; the commit of the run notes them, or forgets them. A run in which nobody
comes or goes finds that by counting, and stores nothing.
"""

from collections.abc import Collection

from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Comparison
from reverse_etl.plan.tables import (
    ABSENCES,
    ABSENT_SINCE,
    FORGET,
    GONE,
    KEEP,
    NEXT,
    NOTE,
    OPEN_RUN,
    STRIP,
    UNMARK,
)
from reverse_etl.project.spec_collect import FOREVER
from reverse_etl.records.consent import consent_columns
from reverse_etl.records.expressions import value_text
from reverse_etl.records.layout import Layout
from reverse_etl.records.mapping import works_on_stored
from reverse_etl.sql.quoting import identifier, literal


def find_absences(query: ModelQuery, comparison: Comparison, gone: int) -> None:
    """Store which rows are absent, beyond what the state has noted already. GONE has the keys that the model lacks, if
    it lacks any: so many are `gone`."""
    layout, acknowledged = query.layout, comparison.acknowledged
    marked = f"{acknowledged} WHERE {ABSENT_SINCE} IS NOT NULL"
    keys = ", ".join(map(identifier, layout.key))
    if not gone:
        if comparison.absent:
            _store(query, f"SELECT {keys}, '{UNMARK}' AS {NEXT} FROM {marked}")
        return
    is_over = _is_over(layout)
    counts = f"count(*) FILTER ({ABSENT_SINCE} IS NULL), count({ABSENT_SINCE}), count(*) FILTER ({is_over})"
    new, noted, over = query.execute(f"SELECT {counts} FROM {GONE}").fetchall()[0]
    if not (new or over or comparison.absent > noted):
        return
    same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM g.{name}" for name in map(identifier, layout.key))
    parts = [
        f"SELECT {keys}, '{NOTE}' AS {NEXT} FROM {GONE} WHERE {ABSENT_SINCE} IS NULL",
        f"""SELECT {keys}, '{UNMARK}' AS {NEXT} FROM
            (SELECT t.* FROM (FROM {marked}) AS t ANTI JOIN {GONE} AS g ON {same})""",
    ]
    if over:
        rows = f"SELECT t.* FROM {GONE} AS g JOIN {acknowledged} AS t ON {same}"
        parts.append(f"SELECT {keys}, {_what_goes(layout, comparison.known)} AS {NEXT} FROM ({rows}) WHERE {is_over}")
    _store(query, " UNION ALL BY NAME ".join(parts))


def _store(query: ModelQuery, rows: str) -> None:
    query.execute(f"CREATE TABLE {ABSENCES} AS {rows}; UPDATE {OPEN_RUN} SET absences = true")


def _is_over(layout: Layout) -> str:
    """SQL over rows that are absent for: that is longer than they are kept."""
    keep = layout.sync.keep_removed
    if keep == FOREVER:
        return "false"
    return f"{ABSENT_SINCE} < (SELECT started_at FROM {OPEN_RUN}) - INTERVAL {literal(keep)}"


def _what_goes(layout: Layout, known: Collection[str]) -> str:
    """SQL over acknowledged rows for what the state forgets of them.

    A row that comes back is sent whole. So an operation such as `inc` is kept, which would be carried out again; and so
    is what a user agreed to, which might end an opt-out that only Braze knows of.
    """
    documents = [column.name for column in layout.json_columns if column.name in known]
    works = works_on_stored({name: value_text(layout, name, identifier(name)) for name in documents}, layout)
    consents = [column.name for column in consent_columns(layout) if column.name in known]
    agreed = " OR ".join(f"{identifier(name)} IS NOT NULL" for name in consents) or "false"
    return f"CASE WHEN {works} THEN '{KEEP}' WHEN {agreed} THEN '{STRIP}' ELSE '{FORGET}' END"
