"""Whom a run deletes, or merges: who was deleted already is skipped, and who is deleted is written down, as hashes.

skip_deleted()      when a sync that deletes is planned: who it has deleted already is not deleted again
refuse_merges()     ... that merges: into nobody who is gone by then
record_deleted()    before a run is committed: the erasures of the target, which other syncs read
remember_deleted()  when such a sync is committed: what it knows itself, instead of acknowledged rows
"""

from collections.abc import Mapping
from datetime import datetime

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import MODES, USER, calls_that_end
from reverse_etl.plan.outbox import may_need_users
from reverse_etl.plan.tables import (
    ACKNOWLEDGED,
    DELETED,
    IN_DOUBT,
    LEFT_MODEL,
    META,
    OPEN_RUN,
    OPT_OUTS,
    OUTBOX,
    REJECTS,
)
from reverse_etl.records.existing import NEEDS
from reverse_etl.records.identity import KEPT_WHO, WHO, hash_sql, may_be_several
from reverse_etl.sql.quoting import literal
from reverse_etl.state.erasures import NEAR, Erasures, is_erased

PEOPLE, NONE, SOME = "people", "none", "some"  # in `meta` of such a sync: whether its file may name somebody
ENDING = ", ".join(map(literal, calls_that_end(USER)))
_DELETED_NOW = f"call IN ({ENDING}) AND outcome IS DISTINCT FROM 'rejected'"
_MERGES = ", ".join(literal(mode.call.label) for mode in MODES.values() if mode.keeps)
# The address of a user who was merged may be that of the user who was kept, by now.
_NOBODY_HAS_IT = f"(call NOT IN ({_MERGES}) OR NOT {may_be_several(WHO)})"
HAS_DELETED = f"{_DELETED_NOW} AND outcome = 'accepted'"


def skip_deleted(connection: DuckDBPyConnection, erasures: Erasures) -> bool:
    """Take the records out of the open run that delete or merge users whom the sync has deleted or merged already;
    whether there were any."""
    if counted(connection, f"SELECT count(*) FROM {DELETED}"):
        values = {name: value for name, value in erasures.parameters.items() if name != "tags"}
        is_done = f"{hash_sql(WHO)} IN (SELECT hash FROM {DELETED})"
        connection.execute(f"UPDATE {OUTBOX} SET action = 'deleted' WHERE action <> 'invalid' AND {is_done}", values)
        if counted(connection, f"SELECT count(*) FROM {OUTBOX} WHERE action = 'deleted'"):
            _take_out(connection, values)
            return True
    return False


def _take_out(connection: DuckDBPyConnection, key: Mapping[str, object]) -> None:
    """Leave nothing of whoever was deleted before in the file of the open run, which is uploaded, but who of them has
    left the model: hashes, few of them."""
    listed = f"SELECT {hash_sql(WHO)} FROM {OUTBOX} WHERE {WHO} IS NOT NULL"
    connection.execute(f"CREATE TEMP TABLE retl_left AS SELECT hash FROM {DELETED} WHERE hash NOT IN ({listed})", key)
    connection.execute(f"CREATE TEMP TABLE retl_others AS FROM {OUTBOX} WHERE action <> 'deleted'")
    connection.execute(f"CREATE OR REPLACE TABLE {OUTBOX} AS FROM retl_others")
    connection.execute(f"CREATE TABLE {LEFT_MODEL} AS FROM retl_left")
    connection.execute("DROP TABLE retl_others; DROP TABLE retl_left")


def refuse_merges(connection: DuckDBPyConnection, erasures: Erasures, rule: int) -> None:
    """Make the records of the open run invalid, by the rule with this number, that merge somebody into a user who is
    gone, or whom another record merges: Braze promises no order, and does nothing for a user who is not there. Of an
    address, several may be meant."""
    sent = f"{OUTBOX} WHERE action = 'send'"
    to_send = f"{sent} AND NOT {may_be_several(KEPT_WHO)}"
    gone = [f"SELECT row FROM {NEAR}", f"SELECT rowid FROM {to_send} AND {KEPT_WHO} IN (SELECT {WHO} FROM {sent})"]
    key = {name: value for name, value in erasures.parameters.items() if name != "tags"}
    own = f"SELECT rowid AS row FROM {to_send} AND {hash_sql(KEPT_WHO)} IN (SELECT hash FROM {DELETED})"
    erasures.load(connection)
    is_erased(connection, erasures, f"SELECT rowid AS row, {KEPT_WHO} AS who FROM {to_send}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_gone AS {own}", key)
    rows = " UNION ".join([*gone, "SELECT row FROM retl_gone"])
    connection.execute(
        f"""UPDATE {OUTBOX} SET action = 'invalid', problems = [{rule}], envelope = NULL, body = NULL
        WHERE rowid IN ({rows})"""
    )
    connection.execute("DROP TABLE retl_gone")


def record_deleted(connection: DuckDBPyConnection, erasures: Erasures, outcomes: str, at: datetime) -> bool:
    """Write down, outside the state, the hashes of all whom the open run has deleted, or may have; whether it has any.

    `outcomes` is the outbox with the outcome of every record.
    """
    (suppresses,) = connection.execute(f"SELECT coalesce(suppresses, true) FROM {OPEN_RUN}").fetchall()[0]
    gone = f"SELECT {WHO} AS who FROM {outcomes} WHERE {_DELETED_NOW} AND (outcome = 'accepted' OR may_have_arrived)"
    gone += f" AND {_NOBODY_HAS_IT}"
    if may_need_users(connection):  # a merge into a user who may not exist: then the other one is still there
        gone += f" AND (call NOT IN ({_MERGES}) OR {NEEDS} IS NULL)"
    if not suppresses or not counted(connection, f"SELECT count(*) FROM ({gone} LIMIT 1)"):
        return False
    return erasures.record(erasures.hashed(connection, gone), at) is not None


def remember_deleted(
    connection: DuckDBPyConnection, erasures: Erasures, outcomes: str, values: Mapping[str, object]
) -> None:
    """Keep hashes of the users that such a sync has deleted, as long as its model returns them: one who leaves
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
    has_left = f"hash IN (FROM {LEFT_MODEL})" if _is_there(connection, LEFT_MODEL) else f"hash NOT IN ({listed})"
    connection.execute(f"DELETE FROM {DELETED} WHERE ({has_left} AND {is_whole}) OR hash IN ({listed} WHERE is_done)")
    connection.execute(
        f"INSERT INTO {DELETED} SELECT DISTINCT hash, $now, $run_id FROM retl_deleting WHERE is_done", values
    )
    connection.execute("DROP TABLE retl_deleting")


def note_people(connection: DuckDBPyConnection) -> None:
    """Record that the file of such a sync names somebody, if it does by now: in rows that were not accepted."""
    is_none = f"key = '{PEOPLE}' AND value = '{NONE}'"
    if counted(connection, f"SELECT count(*) FROM {META} WHERE {is_none}"):
        rows = " OR ".join(f"EXISTS (FROM {table})" for table in (REJECTS, IN_DOUBT, OPT_OUTS, ACKNOWLEDGED))
        connection.execute(f"UPDATE {META} SET value = '{SOME}' WHERE {is_none} AND ({rows})")


def _is_there(connection: DuckDBPyConnection, table: str) -> bool:
    try:
        connection.sql(f"FROM {table}")
    except duckdb.CatalogException:
        return False
    return True


def counted(connection: DuckDBPyConnection, sql: str) -> int:
    """The number that a statement returns."""
    return int(connection.execute(sql).fetchall()[0][0])
