"""Rows that are not waited for any more, until they change. Pure: SQL as text.

They are in the state's table of rejects, under `rejected_by = 'given_up'`, with what was wrong with them:

body NULL            invalid, or not sent whole: as long as it is
body and body_md5    rejected by Braze, or in doubt, with this record: until it is another one
body alone           in doubt, of a mode in which the key says what the row is: for good

A user gives up a row: `retl resolve --give-up`. A run gives up those of an incremental model that have waited for its
`retention`: it would read from there for ever.
"""

from collections.abc import Collection, Iterator

from reverse_etl.plan.tables import IN_DOUBT, OPEN_RUN, REJECTS
from reverse_etl.records.layout import Layout
from reverse_etl.records.left_out import ALONE
from reverse_etl.sql.quoting import identifier, literal

GIVEN_UP = "given_up"
WAS_IN_DOUBT = "in doubt: "  # before the reason of a row that was
LISTED = ("retl", "braze", "left_out")  # `rejected_by` of rows that may be given up; in `in_doubt` all may be
_KNOWN = f"FROM {REJECTS} WHERE rejected_by = '{GIVEN_UP}'"
_NOT_WHOLE = f"(problems IS NOT NULL OR {identifier(ALONE)})"


def same_record(layout: Layout, rejects: str) -> Iterator[str]:
    """SQL over records for: it is one of `rejects`, as a FROM clause of the table of rejects; any of these suffices."""
    yield f"(key, md5(body)) IN (SELECT (key, body_md5) {rejects})"
    if any(column.is_document for column in layout.columns):  # it may be written otherwise: only these are parsed
        record = f"CASE WHEN key IN (SELECT key {rejects}) THEN retl_json_canonical(body) END"
        yield f"(key, {record}) IN (SELECT (key, retl_json_canonical(body)) {rejects} AND body IS NOT NULL)"


def given_up(layout: Layout, rejected_by: Collection[str], has_doubts: bool) -> Iterator[str]:
    """SQL over records for: it is not waited for any more. `rejected_by` are those of the rejects that the state has,
    `has_doubts` whether it has rows in doubt."""
    if GIVEN_UP in rejected_by:
        yield f"{_NOT_WHOLE} AND key IN (SELECT key {_KNOWN} AND body IS NULL)"
        yield from same_record(layout, f"{_KNOWN} AND body_md5 IS NOT NULL")
        yield f"key IN (SELECT key {_KNOWN} AND body IS NOT NULL AND body_md5 IS NULL)"
    retention = layout.sync.incremental and layout.sync.incremental.retention
    if not retention:
        return
    over = f"< (SELECT started_at FROM {OPEN_RUN}) - INTERVAL {literal(retention)}"
    waited = f"FROM {REJECTS} WHERE rejected_at {over} AND rejected_by"
    if "retl" in rejected_by and layout.sync.skip_on_invalid_records:  # others block the run, until they are corrected
        yield f"problems IS NOT NULL AND key IN (SELECT key {waited} = 'retl')"
    if "braze" in rejected_by:
        yield from same_record(layout, f"{waited} = 'braze'")
    if has_doubts and layout.sync.on_in_doubt == "hold":
        yield f"problems IS NULL AND key IN (SELECT key FROM {IN_DOUBT} WHERE resolution IS NULL AND sent_at {over})"
