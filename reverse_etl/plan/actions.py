"""What to do with every record of a run: decided once, in SQL, when the outbox is written. Pure.

send                  to Braze
invalid               breaks rules: see the numbers in `problems`
previously_rejected   Braze has rejected exactly this record before
withheld              not sent by this run: it would delete a user in quarantine
in_doubt              sent before, it is unknown whether it arrived, and it is not safe to send twice
baseline              the user declared that all rows of the model are already in Braze
mark_accepted         the user declared that this row, which was in doubt, has arrived
forget                the state drops it, and nothing is sent to Braze
refresh               equal to Braze: the state takes its new spelling, and nothing is sent
"""

from enum import Enum

from reverse_etl.braze.modes import Kind
from reverse_etl.plan.quarantine import WITHHELD, has_quarantine, must_wait
from reverse_etl.plan.tables import IN_DOUBT, REJECTS
from reverse_etl.records.layout import Layout

_REFRESH = "WHEN kind = 'unchanged' THEN 'refresh'"


class Intent(Enum):
    """What a run is for."""

    SEND = "send what differs"
    RETRY = "send what differs, and what Braze rejected before"
    BASELINE = "send nothing: all of it is declared to be in Braze already"


def action_sql(layout: Layout, intent: Intent, has_doubts: bool, has_rejects: bool) -> str:
    """SQL for the action of a record of `o`, over its columns `key`, `kind`, `call`, `body`, `problems`, `attributes`.

    `has_doubts` and `has_rejects`: whether the state has rows in doubt, and rows that Braze has rejected.
    """
    if intent is Intent.BASELINE:
        otherwise = "WHEN kind = 'removed' THEN 'forget' ELSE 'baseline'"
        return f"CASE {_REFRESH} WHEN problems IS NOT NULL THEN 'invalid' {otherwise} END"
    cases = [_REFRESH, "WHEN problems IS NOT NULL THEN 'invalid'"]
    if layout.mode.forgets_removed:
        cases.append("WHEN kind = 'removed' THEN 'forget'")
    elif layout.sync.on_removed == "clear":
        cases.append("WHEN kind = 'removed' AND attributes = 0 THEN 'forget'")
    if has_doubts:
        same = "(key, body)" if Kind.CHANGED in layout.mode.kinds else "key"  # else the key alone says what it is
        arrived = f"SELECT {same} FROM {IN_DOUBT} WHERE resolution = 'mark_accepted'"
        cases.append(f"WHEN {same} IN ({arrived}) THEN 'mark_accepted'")
        if layout.sync.on_in_doubt == "hold":
            open_doubts = f"SELECT key FROM {IN_DOUBT} WHERE resolution IS DISTINCT FROM 'resend'"
            cases.append(f"WHEN key IN ({open_doubts}) THEN 'in_doubt'")
    if has_rejects and intent is not Intent.RETRY:
        by_braze = f"FROM {REJECTS} WHERE rejected_by = 'braze'"
        cases.append(f"WHEN (key, md5(body)) IN (SELECT (key, body_md5) {by_braze}) THEN 'previously_rejected'")
        if any(column.is_document for column in layout.columns):  # it may be written otherwise: only these are parsed
            record = f"CASE WHEN key IN (SELECT key {by_braze}) THEN retl_json_canonical(body) END"
            same = f"(key, {record}) IN (SELECT (key, retl_json_canonical(body)) {by_braze} AND body IS NOT NULL)"
            cases.append(f"WHEN {same} THEN 'previously_rejected'")
    if has_quarantine(layout):
        cases.append(f"WHEN {must_wait(layout)} THEN '{WITHHELD}'")
    return f"CASE {' '.join(cases)} ELSE 'send' END"
