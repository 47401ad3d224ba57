"""How many users a state knows: what `max_deletes` is measured by."""

import json

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import MODES, USER, Kind
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.tables import SENT_AT, STATE
from reverse_etl.sql.quoting import identifier


def count_users(connection: DuckDBPyConnection, database: str = STATE) -> int:
    """How many users the attached state knows to be in Braze: never more than there are.

    None of modes whose rows are no users: events, purchases, users who were deleted, and what is about something else.
    """
    meta = dict(connection.execute(f"SELECT key, value FROM {database}.main.meta").fetchall())
    mode = next((mode for mode in MODES.values() if mode.label == meta.get("mode")), None)
    if mode is None or mode.about != USER or Kind.CHANGED not in mode.kinds or "primary_key" not in meta:
        return 0
    counted = f"count({SENT_AT})"
    if pointer := pointer_of(meta):  # of groups, nobody knows how many one user has
        return 0 if mode.group else pointer.numbers.acknowledged
    if mode.group:  # a user has a row for each group
        key = [name for name in json.loads(meta["primary_key"]) if name in mode.identifiers]
        users = ", ".join(map(identifier, key))
        counted = f"count(DISTINCT CASE WHEN {SENT_AT} IS NOT NULL THEN ({users}) END)" if key else "0"
    return int(connection.execute(f"SELECT {counted} FROM {database}.main.state").fetchall()[0][0])
