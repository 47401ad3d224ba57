"""Whom a run deletes: who was deleted already is skipped, and who is deleted is written down, as hashes.

skip_deleted()      when a users_delete sync is planned: who it has deleted already is not deleted again
record_deleted()    before a run is committed: the erasures of the target, which other syncs read
remember_deleted()  when a users_delete sync is committed: what it knows itself, instead of acknowledged rows
"""

from collections.abc import Mapping
from datetime import datetime

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import DELETE
from reverse_etl.plan.tables import ACKNOWLEDGED, DELETED, IN_DOUBT, META, OPEN_RUN, OPT_OUTS, OUTBOX, REJECTS
from reverse_etl.records.identity import WHO, hash_sql
from reverse_etl.sql.quoting import literal
from reverse_etl.state.erasures import Erasures

PEOPLE, NONE, SOME = "people", "none", "some"  # in `meta` of such a sync: whether its file may name somebody
DELETES = "users_delete"  # the mode, as `meta` and a run have it
_DELETED_NOW = f"call = {literal(DELETE.path)} AND outcome IS DISTINCT FROM 'rejected'"
HAS_DELETED = f"{_DELETED_NOW} AND outcome = 'accepted'"


def skip_deleted(connection: DuckDBPyConnection, erasures: Erasures) -> None:
    """Mark the records of the open run that delete users whom the sync has deleted already."""
    if counted(connection, f"SELECT count(*) FROM {DELETED}"):
        values = {name: value for name, value in erasures.parameters.items() if name != "tags"}
        is_done = f"{hash_sql(WHO)} IN (SELECT hash FROM {DELETED})"
        connection.execute(f"UPDATE {OUTBOX} SET action = 'deleted' WHERE action <> 'invalid' AND {is_done}", values)


def record_deleted(connection: DuckDBPyConnection, erasures: Erasures, outcomes: str, at: datetime) -> bool:
    """Write down, outside the state, the hashes of all whom the open run has deleted, or may have; whether it has any.

    `outcomes` is the outbox with the outcome of every record.
    """
    (suppresses,) = connection.execute(f"SELECT coalesce(suppresses, true) FROM {OPEN_RUN}").fetchall()[0]
    gone = f"SELECT {WHO} AS who FROM {outcomes} WHERE {_DELETED_NOW} AND (outcome = 'accepted' OR may_have_arrived)"
    if not suppresses or not counted(connection, f"SELECT count(*) FROM ({gone} LIMIT 1)"):
        return False
    return erasures.record(erasures.hashed(connection, gone), at) is not None


def remember_deleted(
    connection: DuckDBPyConnection, erasures: Erasures, outcomes: str, values: Mapping[str, object]
) -> None:
    """Keep hashes of the users that a users_delete sync has deleted, as long as its model returns them: one who leaves
    it and returns is deleted again."""
    key = {name: value for name, value in erasures.parameters.items() if name != "tags"}
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE retl_deleting AS
        SELECT {hash_sql(WHO)} AS hash, (outcome = 'accepted' OR action IN ('baseline', 'mark_accepted')) AS is_done
        FROM {outcomes} WHERE {WHO} IS NOT NULL""",
        key,
    )
    is_whole = f"(SELECT watermark IS NULL FROM {OPEN_RUN})"
    listed = "SELECT hash FROM retl_deleting"
    connection.execute(
        f"""DELETE FROM {DELETED} WHERE (hash NOT IN ({listed}) AND {is_whole}) OR hash IN ({listed} WHERE is_done)"""
    )
    connection.execute(
        f"INSERT INTO {DELETED} SELECT DISTINCT hash, $now, $run_id FROM retl_deleting WHERE is_done", values
    )
    connection.execute("DROP TABLE retl_deleting")


def note_people(connection: DuckDBPyConnection) -> None:
    """Record that the file of a users_delete sync names somebody, if it does by now: in rows that were not accepted."""
    is_none = f"key = '{PEOPLE}' AND value = '{NONE}'"
    if counted(connection, f"SELECT count(*) FROM {META} WHERE {is_none}"):
        rows = " OR ".join(f"EXISTS (FROM {table})" for table in (REJECTS, IN_DOUBT, OPT_OUTS, ACKNOWLEDGED))
        connection.execute(f"UPDATE {META} SET value = '{SOME}' WHERE {is_none} AND ({rows})")


def counted(connection: DuckDBPyConnection, sql: str) -> int:
    """The number that a statement returns."""
    return int(connection.execute(sql).fetchall()[0][0])
