"""What to do with every record of a run: decided once, in SQL, when the outbox is written. Pure.

send                  to Braze
invalid               breaks rules: see the numbers in `problems`
blocked               by invalid rows, in a run that sends opt-outs nevertheless
later                 an opt-in, in a run that sends opt-outs only
previously_rejected   Braze has rejected exactly this record before
withheld              not sent by this run: it would delete a user in quarantine, or opt one in who has opted out; of
                      other records, a column may be withheld alone (WITHHELD_FOR)
left_out              sent without the columns that differ, nothing of it would be left
in_doubt              sent before, it is unknown whether it arrived, and it is not safe to send twice
baseline              the user declared that all rows of the model are already in Braze
mark_accepted         the user declared that this row, which was in doubt, has arrived
forget                the state drops it, and nothing is sent to Braze
suppressed            about somebody who was erased: not sent, and the state keeps nothing of it
deleted               the sync has deleted this user already; such records are taken out again (`state/deleted.py`)
given_up              not in Braze, and not waited for any more until it changes
refresh               equal to Braze: the state takes its new spelling, and nothing is sent
"""

from collections.abc import Collection
from enum import Enum

from reverse_etl.braze.modes import Kind
from reverse_etl.plan.given_up import GIVEN_UP, given_up, same_record
from reverse_etl.plan.quarantine import WITHHELD, has_quarantine, must_wait
from reverse_etl.plan.tables import IN_DOUBT, REJECTS
from reverse_etl.records.consent import FRESH, LEFT, OPT_OUTS_FIRST, OUTS, WITHHELD_FOR, consent_columns
from reverse_etl.records.layout import Layout
from reverse_etl.records.left_out import ALONE, LEFT_OUT
from reverse_etl.sql.quoting import identifier

_BY_BRAZE = f"FROM {REJECTS} WHERE rejected_by = 'braze'"
_REFRESH = "WHEN kind = 'unchanged' THEN 'refresh'"


class Intent(Enum):
    """What a run is for."""

    SEND = "send what differs"
    RETRY = "send what differs, and what Braze rejected before"
    BASELINE = "send nothing: all of it is declared to be in Braze already"


def action_sql(layout: Layout, intent: Intent, has_doubts: bool, rejected_by: Collection[str]) -> str:
    """SQL for the action of a record of `o`, over its columns `key`, `kind`, `call`, `body`, `problems`, `attributes`.

    `has_doubts`: whether the state has rows in doubt; `rejected_by` are those of its rejects.
    """
    if intent is Intent.BASELINE:
        otherwise = "WHEN kind = 'removed' THEN 'forget' ELSE 'baseline'"
        return f"CASE {_REFRESH} WHEN problems IS NOT NULL THEN 'invalid' {otherwise} END"
    if intent is Intent.RETRY:
        rejected_by = {*rejected_by} - {"braze"}
    cases = [_REFRESH, *(f"WHEN {one} THEN '{GIVEN_UP}'" for one in given_up(layout, rejected_by, has_doubts))]
    cases.append("WHEN problems IS NOT NULL THEN 'invalid'")
    if consent_columns(layout):
        nothing = f"NOT {identifier(LEFT)}"
        withheld = f"{identifier(WITHHELD_FOR)} IS NOT NULL"
        cases += [f"WHEN {nothing} AND {withheld} THEN '{WITHHELD}'", f"WHEN {nothing} THEN 'later'"]
    cases.append(f"WHEN {identifier(ALONE)} THEN '{LEFT_OUT}'")
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
    if "braze" in rejected_by:
        cases += [f"WHEN {same} THEN 'previously_rejected'" for same in same_record(layout, _BY_BRAZE)]
    if has_quarantine(layout):
        cases.append(f"WHEN {must_wait(layout)} THEN '{WITHHELD}'")
    return f"CASE {' '.join(cases)} ELSE 'send' END"


def reduced_action_sql(intent: Intent, rejected_by: Collection[str]) -> str:
    """The same for a record that only opts out: nothing else of its row holds it back, be it in doubt or withheld."""
    if "braze" not in rejected_by or intent is Intent.RETRY:
        return "'send'"
    same = f"(key, md5(body)) IN (SELECT (key, body_md5) {_BY_BRAZE})"
    return f"CASE WHEN {same} THEN 'previously_rejected' ELSE 'send' END"


def needs_opt_out(intent: Intent) -> str:
    """SQL over the outbox for: the row opts out, and its record is not sent, or not with all of its opt-outs first."""
    if intent is Intent.BASELINE:
        return "false"
    is_first = f"action = 'send' AND phase = {OPT_OUTS_FIRST} AND len({identifier(OUTS)}) = {identifier(FRESH)}"
    listed = ", ".join(f"'{action}'" for action in _MAY_OPT_OUT)
    return f"{identifier(FRESH)} > 0 AND action IN ({listed}) AND NOT ({is_first})"


_MAY_OPT_OUT = ("send", "blocked", "invalid", "previously_rejected", "in_doubt", "withheld", "later", GIVEN_UP)
