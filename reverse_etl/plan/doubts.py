"""Finds events that are in doubt under another key than the one that they have now.

The key of a whole row is a digest of its values as they are written, and its number among equal rows. JSON may be
written otherwise since, and rows that a collation takes for equal were numbered together once.
"""

from duckdb import DuckDBPyConnection

from reverse_etl.plan.tables import IN_DOUBT, OUTBOX
from reverse_etl.plan.workbench import execute
from reverse_etl.records.layout import ROW_NUMBER, Layout


def recognize_doubts(connection: DuckDBPyConnection, layout: Layout) -> None:
    """Give records that are to be sent the key and the action of the doubt that they are, if the outbox lacks its key.

    As many records as there are doubts about such a record: the others are further events. Their rows keep their
    places, to which the journal refers.
    """
    columns = [layout.column(name) for name in layout.key if name != ROW_NUMBER]
    if not layout.whole_row or not any(column.is_json or column.type.collated for column in columns):
        return
    lost = f"FROM {IN_DOUBT} WHERE key NOT IN (SELECT key FROM {OUTBOX} WHERE action <> 'refresh')"
    if not connection.execute(f"SELECT 1 {lost} LIMIT 1").fetchall():
        return
    held = "in_doubt" if layout.sync.on_in_doubt == "hold" else "send"
    action = f"CASE resolution WHEN 'mark_accepted' THEN 'mark_accepted' WHEN 'resend' THEN 'send' ELSE '{held}' END"
    rank = "row_number() OVER (PARTITION BY retl_json_canonical(body) ORDER BY key) AS rank"
    digest = "split_part({}.key, '#', 1)"
    execute(
        connection,
        f"""UPDATE {OUTBOX} SET key = found.key, action = found.action
        FROM (
            SELECT sent.row, doubt.key, {action} AS action
            FROM (SELECT rowid AS row, key, body, {rank} FROM {OUTBOX} WHERE action = 'send') AS sent
            JOIN (SELECT key, body, resolution, {rank} {lost}) AS doubt
            ON retl_json_canonical(sent.body) = retl_json_canonical(doubt.body) AND sent.rank = doubt.rank
            WHERE sent.body <> doubt.body OR {digest.format("sent")} = {digest.format("doubt")}
        ) AS found
        WHERE {OUTBOX}.rowid = found.row""",
    )
