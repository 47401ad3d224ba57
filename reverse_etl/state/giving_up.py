"""Giving up rows: what a run and a user no longer wait for stays listed, as given up. See `plan/given_up.py`."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.plan.given_up import GIVEN_UP, LISTED, WAS_IN_DOUBT
from reverse_etl.plan.tables import IN_DOUBT, OPEN_RUN, OUTBOX, REJECTS
from reverse_etl.records.consent import ONLY_OPTS_OUT
from reverse_etl.sql.quoting import literal

_KNOWN = f"FROM {REJECTS} WHERE rejected_by = '{GIVEN_UP}'"


def remember(connection: DuckDBPyConnection, actions: Collection[str], now: datetime, moves_state: bool) -> None:
    """Record the rows that the open run has given up, and drop what was known of those that have changed since.

    A row that an incremental model does not return has not changed. A run that was blocked drops nothing.
    """
    if moves_state and connection.execute(f"SELECT 1 {_KNOWN} LIMIT 1").fetchall():
        others = f"SELECT key FROM {OUTBOX} WHERE action NOT IN ('{GIVEN_UP}', 'refresh') AND kind <> '{ONLY_OPTS_OUT}'"
        is_incremental = f"(SELECT watermark IS NOT NULL FROM {OPEN_RUN})"
        still = f"SELECT key FROM {OUTBOX} WHERE action = '{GIVEN_UP}'"
        connection.execute(f"DELETE {_KNOWN} AND (key IN ({others}) OR NOT {is_incremental} AND key NOT IN ({still}))")
    if GIVEN_UP in actions:
        give_up(connection, f"key IN (SELECT key FROM {OUTBOX} WHERE action = '{GIVEN_UP}')", now, {})


def give_up(
    connection: DuckDBPyConnection, which: str, now: datetime, values: dict[str, Any], by_record: bool = False
) -> None:
    """Record that the rows for which `which` holds, SQL over `key` with these values, are given up.

    Of one in doubt, its key says what it is; or with `by_record` its record does.
    """
    columns = "key, kind, column_name, reason, hint, body, body_md5, rejected_at, run_id, identifier, rejected_by"
    digest = "md5(body)" if by_record else "NULL"
    why = f"{literal(WAS_IN_DOUBT)} || coalesce(reason, 'sent, but no response received')"
    connection.execute(
        f"""INSERT INTO {REJECTS} ({columns})
        SELECT key, kind, NULL, {why}, NULL, body, {digest}, $now, run_id, identifier, '{GIVEN_UP}'
        FROM {IN_DOUBT} WHERE {which}""",
        {"now": now, **values},
    )
    connection.execute(f"DELETE FROM {IN_DOUBT} WHERE {which}", values)
    listed = ", ".join(f"'{one}'" for one in LISTED)
    connection.execute(
        f"""UPDATE {REJECTS} SET rejected_by = '{GIVEN_UP}', rejected_at = $now
        WHERE rejected_by IN ({listed}) AND {which}""",
        {"now": now, **values},
    )
