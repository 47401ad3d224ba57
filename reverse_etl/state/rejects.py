"""Rows that are not in Braze as the model has them: rejected, in doubt, withheld, or not sent whole."""

from collections.abc import Collection, Mapping
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.plan.outbox import HAS_LEFT_OUT, HINT_TO_USE, OPT_IN_WITHHELD, may_withhold, reason_sql, user_sql
from reverse_etl.plan.quarantine import HINT, WAITS, WAITS_UNTIL, WITHHELD, reason_of
from reverse_etl.plan.tables import IN_DOUBT, OPEN_RUN, OUTBOX, REJECTS, RULES
from reverse_etl.records.consent import ONLY_OPTS_OUT, WITHHELD_FOR
from reverse_etl.records.left_out import LEFT_OUT
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.contents import columns_of
from reverse_etl.state.outcomes import WITH_OUTCOMES, DeliveryCounts


def remember_answers(connection: DuckDBPyConnection, delivery: DeliveryCounts, values: Mapping[str, Any]) -> None:
    """Record the rows that Braze rejected, and those that are in doubt.

    A row in doubt that was resolved, and no longer differs from the model, is removed.
    """
    connection.execute(
        f"""DELETE FROM {REJECTS} WHERE rejected_by = 'braze'
        AND key NOT IN (SELECT key FROM {OUTBOX} WHERE action = 'previously_rejected')"""
    )
    if delivery.rejected:
        connection.execute(
            f"""INSERT INTO {REJECTS}
            SELECT key, kind, 'braze', NULL, reason, NULL, body, md5(body), $now, $run_id, {user_sql(connection)}, NULL
            FROM {WITH_OUTCOMES} WHERE outcome = 'rejected'""",
            values,
        )
    if connection.execute(f"SELECT 1 FROM {IN_DOUBT} LIMIT 1").fetchall():  # else all records are read for nothing
        connection.execute(
            f"""DELETE FROM {IN_DOUBT} WHERE key IN (
                SELECT key FROM {WITH_OUTCOMES}
                WHERE kind <> '{ONLY_OPTS_OUT}'
                AND (outcome IN ('accepted', 'rejected', 'in_doubt') OR action IN ('baseline', 'mark_accepted'))
            ) OR (resolution IS NOT NULL AND key NOT IN (SELECT key FROM {OUTBOX} WHERE action <> 'refresh'))"""
        )
    if delivery.in_doubt:
        connection.execute(
            f"""INSERT INTO {IN_DOUBT} BY NAME
            SELECT key, kind, body, $now AS sent_at, $run_id AS run_id, reason, {user_sql(connection)} AS identifier
            FROM {WITH_OUTCOMES} WHERE outcome = 'in_doubt'""",
            values,
        )


def remember_withheld_rows(connection: DuckDBPyConnection, actions: Collection[str], run_id: str) -> None:
    """Record the users that wait to be deleted, each since the first run of those in a row that listed it.

    One that was to be deleted, and is not yet, has waited all the same: it stays as it is.
    """
    known = f"FROM {REJECTS} WHERE rejected_by = '{WITHHELD}'"
    if connection.execute(f"SELECT 1 {known} LIMIT 1").fetchall():
        is_listed = f"(action = '{WITHHELD}' OR (action = 'send' AND outcome IN ('unsent', 'in_doubt')))"
        connection.execute(f"DELETE {known} AND key NOT IN (SELECT key FROM {WITH_OUTCOMES} WHERE {is_listed})")
    if WITHHELD not in actions or WAITS_UNTIL not in columns_of(connection, OUTBOX):
        return
    since = f"SELECT key, rejected_at AS since {known}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_waiting AS {since}")
    connection.execute(f"DELETE {known} AND key IN (SELECT key FROM {OUTBOX} WHERE {WAITS})")
    columns = f"{literal(HINT)}, body, NULL, coalesce(since, started_at), $run_id, {user_sql(connection)}, NULL"
    connection.execute(
        f"""INSERT INTO {REJECTS} SELECT key, kind, '{WITHHELD}', NULL, {reason_of(WAITS_UNTIL)}, {columns}
        FROM {OUTBOX} LEFT JOIN retl_waiting USING (key), (SELECT started_at FROM {OPEN_RUN})
        WHERE {WAITS}""",
        {"run_id": run_id},
    )


def remember_partial_rows(connection: DuckDBPyConnection, some_invalid: bool, values: Mapping[str, Any]) -> None:
    """Record the rows that are not sent, or not whole, column by column, instead of those of the previous run, as every
    run checks all rows; each since the first run of those in a row that found it so."""
    listed = f"{REJECTS} WHERE rejected_by IN ('retl', 'consent', '{LEFT_OUT}')"
    since = "SELECT rejected_by, key, min(rejected_at) AS since"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_since AS {since} FROM {listed} GROUP BY ALL")
    connection.execute(f"DELETE FROM {listed}")
    if some_invalid:
        rows = f"SELECT *, {user_sql(connection)} AS who, unnest(problems) AS number FROM {OUTBOX}"
        _list(connection, "retl", f"{reason_sql(connection)}, hint", f"({rows} WHERE action = 'invalid')", values)
    rows = f"SELECT *, {user_sql(connection)} AS who, unnest({LEFT_OUT}) AS one FROM {OUTBOX} WHERE {HAS_LEFT_OUT}"
    _list(connection, LEFT_OUT, f"reason, {HINT_TO_USE}", f"(SELECT *, one.number AS number FROM ({rows}))", values)
    if may_withhold(connection):
        rows = f"SELECT *, {user_sql(connection)} AS who, unnest({identifier(WITHHELD_FOR)}) AS number FROM {OUTBOX}"
        _list(connection, "consent", "reason, hint", f"({rows} WHERE {OPT_IN_WITHHELD})", values)


def _list(connection: DuckDBPyConnection, by: str, why: str, rows: str, values: Mapping[str, Any]) -> None:
    """Record `rows`, each for the rule with a `number`."""
    connection.execute(
        f"""INSERT INTO {REJECTS} SELECT key, kind, '{by}', column_name, {why}, NULL, NULL,
            coalesce(since, $now), $run_id, who, NULL
        FROM {rows} JOIN {RULES} USING (number) LEFT JOIN (FROM retl_since WHERE rejected_by = '{by}') USING (key)
        ORDER BY key, number""",
        values,
    )
