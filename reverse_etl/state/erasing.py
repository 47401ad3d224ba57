"""What erasures do to an open state: it drops who was erased, and records about them are not sent.

drop_erased()    when the state is opened: rows, rejects and doubts about somebody who was erased since it was last open
hash_deleted()   ... and users whom an older retl left in the state of a sync that deletes them
suppress()       when a run is planned, and again before it sends: records about somebody who was erased
"""

import json
from collections.abc import Mapping
from datetime import datetime

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import ENDING_MODES, USER, about
from reverse_etl.plan.tables import ACKNOWLEDGED, DELETED, IN_DOUBT, OPT_OUTS, OUTBOX, REJECTS, SENT_AT
from reverse_etl.records.identity import (
    HASH_DIGITS,
    KINDS,
    WHO,
    as_identifiers,
    who_in_json,
    who_of_acknowledged,
    who_sql,
)
from reverse_etl.records.layout import ALIAS_PARTS, ROW_NUMBER
from reverse_etl.state import pins
from reverse_etl.state.contents import KEY_COLUMNS, acknowledged_types, meta_of, mode_in, set_meta, set_version
from reverse_etl.state.deleted import counted
from reverse_etl.state.erasures import NEAR, Erasures, is_erased

SEEN = "erasures"  # in `meta`: the version of the erasures that the state was last compared with


def drop_erased(connection: DuckDBPyConnection, erasures: Erasures, meta: Mapping[str, str]) -> dict[str, int]:
    """Delete what the state has of users who were erased since it was last compared; returns how many rows, by table.

    `meta` is what the state says of itself. The bytes of the rows are still in the file.
    """
    version, gone = erasures.version, dict[str, int]()
    if meta.get(SEEN, "") == version:
        return gone
    set_meta(connection, {SEEN: version})
    if meta.get("mode") in ENDING_MODES:
        return gone
    erasures.load(connection, pending=False)
    for table, who in people_in(connection).items():
        is_erased(connection, erasures, f"SELECT rowid AS row, {who} AS who FROM {table}")
        row = "DISTINCT key" if table == REJECTS else "*"  # of an invalid row, one for each column that breaks a rule
        rows = counted(connection, f"SELECT count({row}) FROM {table} WHERE rowid IN (SELECT row FROM {NEAR})")
        if rows:
            gone[table] = rows
            connection.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT row FROM {NEAR})")
    if gone:
        pins.drop_gone(connection)
        set_version(connection, f"erased-{version}")
    return gone


def erased_rows(connection: DuckDBPyConnection, erasures: Erasures, rows: str) -> str:
    """A SELECT of the `row` of those rows that are about who is in HASHES; `rows` is one of `row` and `who`."""
    is_erased(connection, erasures, rows)
    return f"SELECT row FROM {NEAR}"


def drop_erased_rows(connection: DuckDBPyConnection, erasures: Erasures, table: str) -> None:
    """Delete the rows of a table of the state that are about users who were erased."""
    if erasures.version:
        erasures.load(connection, pending=False)
        theirs = erased_rows(
            connection, erasures, f"SELECT rowid AS row, {people_in(connection)[table]} AS who FROM {table}"
        )
        connection.execute(f"DELETE FROM {table} WHERE rowid IN ({theirs})")


def hash_deleted(
    connection: DuckDBPyConnection, erasures: Erasures, now: datetime, suppresses: bool, meta: Mapping[str, str]
) -> int:
    """Replace the users in the state of a sync that deletes them, which an older retl left there, by their hashes."""
    if meta.get("mode") not in ENDING_MODES or ACKNOWLEDGED not in (people := people_in(connection)):
        return 0
    rows = f"SELECT {people[ACKNOWLEDGED]} AS who FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL"
    users = counted(connection, f"SELECT count(*) FROM {ACKNOWLEDGED}")
    if users == 0:
        return 0
    lines = erasures.hashed(connection, rows)
    if suppresses:
        erasures.record(lines, now)
    hashes = [(line[-HASH_DIGITS:], now, "") for line in lines]
    connection.execute("BEGIN")
    if hashes:
        connection.executemany(f"INSERT INTO {DELETED} VALUES (?, ?, ?)", hashes)
    connection.execute(f"DELETE FROM {ACKNOWLEDGED}; COMMIT")
    return users


def suppress(connection: DuckDBPyConnection, erasures: Erasures) -> None:
    """Mark the records of the open run that are about users who were erased."""
    about = f"FROM {OUTBOX} WHERE action <> 'forget'"
    if not connection.execute(f"SELECT 1 {about} LIMIT 1").fetchall():
        return
    erasures.load(connection)
    is_erased(connection, erasures, f"SELECT rowid AS row, {WHO} AS who {about}")
    connection.execute(f"UPDATE {OUTBOX} SET action = 'suppressed' WHERE rowid IN (SELECT row FROM {NEAR})")


def without_erased(connection: DuckDBPyConnection, erasures: Erasures, table: str) -> None:
    """Drop the rows of a table that are about users who were erased, as its column WHO tells."""
    if erasures.version:
        erasures.load(connection)
        is_erased(connection, erasures, f"SELECT rowid AS row, {WHO} AS who FROM {table}")
        connection.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT row FROM {NEAR})")


# --- who is in a state -----------------------------------------------------------------------------------------------


def people_in(connection: DuckDBPyConnection) -> dict[str, str]:
    """SQL for who a row is about, by the table of the state; tables without rows are left out, and so are all of a
    state that is about nobody. Of a rename, that is the new id or alias."""
    found = dict[str, str]()
    if about(meta_of(connection).get("mode")) != USER:
        return found
    families = {name: of.family for name, of in acknowledged_types(connection).items()}
    if families and has_rows(connection, ACKNOWLEDGED):
        found[ACKNOWLEDGED] = who_of_acknowledged(mode_in(connection), families)
    for table in (REJECTS, IN_DOUBT):
        if has_rows(connection, table):
            found[table] = who_of_record(connection)
    if has_rows(connection, OPT_OUTS):
        found[OPT_OUTS] = who_in_json("TRY_CAST(identifier AS JSON)")
    return found


def has_rows(connection: DuckDBPyConnection, table: str) -> bool:
    return bool(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall())


def who_of_record(connection: DuckDBPyConnection) -> str:
    """SQL for who a reject or a row in doubt is about: its user, its record, or its key tells."""
    documents = [f"TRY_CAST({column} AS JSON)" for column in ("identifier", "body")]
    return f"coalesce({', '.join([*map(who_in_json, documents), who_of_key(connection)])})"


def who_of_key(connection: DuckDBPyConnection) -> str:
    """SQL for who a row is about, over its key as people see it."""
    meta = meta_of(connection)
    columns = json.loads(meta.get(KEY_COLUMNS) or meta.get("primary_key") or "[]")
    if ROW_NUMBER in columns:
        return "CAST(NULL AS VARCHAR)"
    values = {name: f"json_extract_string(TRY_CAST(key AS JSON), '$[{i}]')" for i, name in enumerate(columns)}
    if len(columns) == 1:
        values = {columns[0]: "key"}
    named, value = as_identifiers(mode_in(connection), dict.fromkeys(columns, "varchar"), values.__getitem__)
    return who_sql({name: of for name, of in named.items() if name in (*KINDS, *ALIAS_PARTS)}, value)
