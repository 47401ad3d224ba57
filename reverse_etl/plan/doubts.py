"""Finds events that are in doubt under another key than the one that they have now.

The key of a whole row is a digest of its values as they are written, and its number among equal rows. JSON may be
written otherwise since, also in a primary key, and rows that a collation takes for equal were numbered together once.
Of users who were renamed since, only the record is known, with the new id: it has BY_RECORD before its digest.
"""

from duckdb import DuckDBPyConnection

from reverse_etl.plan.tables import IN_DOUBT, OUTBOX
from reverse_etl.plan.workbench import execute
from reverse_etl.records.expressions import respelled_keys
from reverse_etl.records.layout import ROW_NUMBER, Layout

BY_RECORD = "renamed:"
_LOST = f"FROM {IN_DOUBT} WHERE key NOT IN (SELECT key FROM {OUTBOX} WHERE action <> 'refresh')"


def recognize_doubts(connection: DuckDBPyConnection, layout: Layout) -> None:
    """Give records that are to be sent the key and the action of the doubt that they are, if the outbox lacks its key.

    Their rows keep their places, to which the journal refers.
    """
    columns = [layout.column(name) for name in layout.key if name != ROW_NUMBER]
    may_differ = respelled_keys(layout) or (layout.whole_row and any(column.type.collated for column in columns))
    if layout.whole_row and not may_differ:
        by_record = f"SELECT 1 FROM {IN_DOUBT} WHERE starts_with(key, '{BY_RECORD}') LIMIT 1"
        may_differ = bool(connection.execute(by_record).fetchall())
    if not may_differ or not connection.execute(f"SELECT 1 {_LOST} LIMIT 1").fetchall():
        return
    held = "in_doubt" if layout.sync.on_in_doubt == "hold" else "send"
    action = f"CASE resolution WHEN 'mark_accepted' THEN 'mark_accepted' WHEN 'resend' THEN 'send' ELSE '{held}' END"
    found = _equal_records() if layout.whole_row else _equal_keys(is_array=len(layout.key) > 1)
    execute(
        connection,
        f"""UPDATE {OUTBOX} SET key = found.key, action = found.action
        FROM (SELECT sent.row, doubt.key, {action} AS action FROM {found}) AS found
        WHERE {OUTBOX}.rowid = found.row""",
    )


def _equal_records() -> str:
    """As many records as there are doubts about such a record: the others are further events."""
    rank = "row_number() OVER (PARTITION BY retl_json_canonical(body) ORDER BY key) AS rank"
    digest = "split_part({}.key, '#', 1)"
    return f"""(SELECT rowid AS row, key, body, {rank} FROM {OUTBOX} WHERE action = 'send') AS sent
        JOIN (SELECT key, body, resolution, {rank} {_LOST}) AS doubt
        ON retl_json_canonical(sent.body) = retl_json_canonical(doubt.body) AND sent.rank = doubt.rank
        WHERE starts_with(doubt.key, '{BY_RECORD}') OR sent.body <> doubt.body
            OR {digest.format("sent")} = {digest.format("doubt")}"""


def _equal_keys(is_array: bool) -> str:
    parts = "CAST(CAST(key AS JSON) AS VARCHAR[])" if is_array else "[key]"
    equal = f"list_transform({parts}, lambda part: retl_json_canonical(part)) AS equal"
    return f"""(SELECT rowid AS row, {equal} FROM {OUTBOX} WHERE action = 'send') AS sent
        JOIN (SELECT key, resolution, {equal} {_LOST}) AS doubt ON sent.equal = doubt.equal"""
