"""Users that wait before they are deleted: withheld until every run for a while has listed them. Pure: SQL as text.

Since when a user has been listed is in the state's table of rejects, under `rejected_by = 'withheld'`. A user that a
run does not list is dropped there, and waits anew when it is listed again.
"""

from reverse_etl.braze.modes import DELETE
from reverse_etl.plan.tables import OPEN_RUN, REJECTS
from reverse_etl.records.layout import Layout
from reverse_etl.sql.quoting import literal

WITHHELD = "withheld"
WAITS_UNTIL = "waits_until"  # of the outbox of a sync with a quarantine: the end of that of the record's user
WAITS = f"action = '{WITHHELD}' AND call = '{DELETE.path}'"
HINT = "check that this user is to be deleted: a run after that time deletes it, unless it leaves the list"


def reason_of(until: str) -> str:
    """SQL for why a user waits, given SQL for the time until which it does."""
    return f"'is in quarantine until ' || strftime({until}, '%Y-%m-%d %H:%M UTC')"


def has_quarantine(layout: Layout) -> bool:
    return layout.sync.quarantine != "0"


def must_wait(layout: Layout) -> str:
    """SQL over the records `o` for: this one would delete a user whose quarantine has not ended."""
    return f"call = '{DELETE.path}' AND {_until(layout)} > {_NOW}"


def with_waits(layout: Layout, actions: str) -> str:
    """A SELECT of records with their actions, and with the end of the quarantine of those that wait."""
    if not has_quarantine(layout):
        return actions
    return f"SELECT *, CASE WHEN {WAITS} THEN {_until(layout)} END AS {WAITS_UNTIL} FROM (\n{actions}\n) AS o"


_NOW = f"(SELECT started_at FROM {OPEN_RUN})"
_SINCE = f"(SELECT min(w.rejected_at) FROM {REJECTS} AS w WHERE w.rejected_by = '{WITHHELD}' AND w.key = o.key)"


def _until(layout: Layout) -> str:
    return f"(coalesce({_SINCE}, {_NOW}) + INTERVAL {literal(layout.sync.quarantine)})"
