"""External ids that were renamed: what they do to the target's states, and which rows must not be sent.

refuse_chains()   when a sync that renames is planned: nothing is renamed twice in one run
renamed_by()      when another state is opened: what the syncs that rename have renamed, as their states have it
move_keys()       ... and its rows move to the new ids, once
refuse_old_ids()  when another sync is planned: its model returns none of the old ids
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import RENAME, USER
from reverse_etl.errors import StateError
from reverse_etl.plan.doubts import BY_RECORD
from reverse_etl.plan.elsewhere import Asked
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, OPT_OUTS, OUTBOX, PINS, REJECTS, RUN_ID, SENT_AT
from reverse_etl.project.spec import Sync
from reverse_etl.records.identity import WHO
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.records.renaming import fields_of
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.contents import KEY_COLUMNS, acknowledged_types, meta_of, set_meta, set_version
from reverse_etl.state.elsewhere import Elsewhere
from reverse_etl.words import count

ID = "external_id"
_RENAMED = "retl_renamed"  # a temporary table: all that was renamed
_TYPES = {"run": "VARCHAR", "moment": "BIGINT", "old": "VARCHAR", "new": "VARCHAR"}
_COLUMNS = ", ".join(f"{name} {of}" for name, of in {"sync": "VARCHAR", **_TYPES}.items())
_SEEN = "renamed:"  # in `meta`, before the name of a sync: its runs whose renames are in the keys of this state


class Renamed(NamedTuple):
    """What one sync has renamed, from the first on: by which run, when Braze acknowledged it (microseconds), the old
    id, and the new one."""

    sync: str
    run: Sequence[str]
    moment: Sequence[int]
    old: Sequence[str]
    new: Sequence[str]


def is_renaming(sync: Sync) -> bool:
    return sync.mode.call is RENAME


def may_move(sync: Sync) -> bool:
    """Whether a state has keys that a rename moves: those of what is gone are hashes."""
    return sync.mode.about == USER and not sync.mode.ends and not is_renaming(sync)


def renamed_by(name: str, connection: DuckDBPyConnection) -> Renamed:
    """What the sync of this name has renamed, whose state is open."""
    if "new_external_id" not in acknowledged_types(connection):
        return Renamed(name, [], [], [], [])
    columns = f"{RUN_ID}, epoch_us({SENT_AT}), CAST(current_external_id AS VARCHAR), CAST(new_external_id AS VARCHAR)"
    rows = connection.execute(
        f"SELECT {columns} FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL ORDER BY {SENT_AT}"
    ).fetchall()
    return Renamed(name, *(list(map(list, zip(*rows, strict=True))) or [[], [], [], []]))


def load(connection: DuckDBPyConnection, renamed: Sequence[Renamed]) -> bool:
    """Let a connection know what was renamed; whether anything was."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_RENAMED} ({_COLUMNS})")
    for one in renamed:
        rows = ", ".join(f"unnest(${name}::{of}[])" for name, of in _TYPES.items())
        connection.execute(f"INSERT INTO {_RENAMED} SELECT $sync, {rows}", one._asdict())
    return any(one.moment for one in renamed)


def to_move(connection: DuckDBPyConnection) -> list[tuple[str, str]]:
    """The runs that have renamed since the state was last open, with their syncs, in their order."""
    seen = _seen(connection)
    runs = connection.execute(f"SELECT sync, run FROM {_RENAMED} GROUP BY ALL ORDER BY min(moment), run").fetchall()
    return [(sync, run) for sync, run in runs if run not in seen.get(sync, [])]


def _seen(connection: DuckDBPyConnection) -> dict[str, list[str]]:
    known = meta_of(connection)
    return {key.removeprefix(_SEEN): json.loads(text) for key, text in known.items() if key.startswith(_SEEN)}


def move_keys(
    connection: DuckDBPyConnection, runs: Sequence[tuple[str, str]], elsewhere: Elsewhere | None = None
) -> int:
    """Give the rows of a state the ids that these runs have given to their users; returns how many rows those are.
    `elsewhere` is where the acknowledged rows are, if the state does not have them itself.

    All or nothing: what is killed is done when the state is opened again.
    """
    moved = 0
    connection.execute("BEGIN")
    try:
        if elsewhere:
            ids = connection.execute(f"SELECT old FROM {_RENAMED} UNION SELECT new FROM {_RENAMED}").fetchall()
            elsewhere.bring((), Asked([f"{ID}:{one}" for (one,) in ids]))
        for renamer, run in runs:
            of_run = f"SELECT old, new FROM {_RENAMED} WHERE sync = ? AND run = ?"
            connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_moves AS {of_run}", [renamer, run])
            moved += _move_rows(connection)
            _move_records(connection)
        known = connection.execute(f"SELECT sync, list(DISTINCT run) FROM {_RENAMED} GROUP BY sync").fetchall()
        set_meta(connection, {f"{_SEEN}{name}": json.dumps(sorted(its)) for name, its in known})
        if moved:
            set_version(connection, f"renamed-{runs[-1][1]}")
        if elsewhere:
            elsewhere.take_out(f"renamed_{runs[-1][1]}", _key(connection))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return moved


def _move_rows(connection: DuckDBPyConnection) -> int:
    """Acknowledged rows; one that has been sent under the new id since is newer, and takes the place of the old one."""
    types = acknowledged_types(connection)
    if ID not in types:
        return 0
    new = f"TRY_CAST(m.new AS {types[ID].text})"
    is_old = f"CAST(s.{ID} AS VARCHAR) = m.old AND {new} IS NOT NULL"
    key = _key(connection)
    if ID in key:
        same = " AND ".join(
            f"n.{identifier(name)} IS NOT DISTINCT FROM s.{identifier(name)}" for name in key if name != ID
        )
        there = f"EXISTS (FROM {ACKNOWLEDGED} AS n WHERE n.{ID} = {new}{f' AND {same}' if same else ''})"
        connection.execute(f"DELETE FROM {ACKNOWLEDGED} AS s USING retl_moves AS m WHERE {is_old} AND {there}")
    rows = connection.execute(f"UPDATE {ACKNOWLEDGED} AS s SET {ID} = {new} FROM retl_moves AS m WHERE {is_old}")
    return int(rows.fetchall()[0][0])


def _move_records(connection: DuckDBPyConnection) -> None:
    """What else names the user: by its key, by the identifier beside it, or in its record. What is in doubt under a
    digest is known by its record from here on."""
    key = _key(connection)
    if ROW_NUMBER in key:
        own = f"json_extract_string(TRY_CAST(t.body AS JSON), '$.{ID}')"
        is_new = f"{own} = m.old AND NOT starts_with(t.key, '{BY_RECORD}')"
        connection.execute(
            f"UPDATE {IN_DOUBT} AS t SET key = '{BY_RECORD}' || t.key FROM retl_moves AS m WHERE {is_new}"
        )
    if ID in key and ROW_NUMBER not in key:
        for table in (REJECTS, IN_DOUBT, PINS):
            own, whole = _id_in_key(key)
            connection.execute(f"UPDATE {table} AS t SET key = {whole} FROM retl_moves AS m WHERE {own} = m.old")
    for table, column in (
        (OPT_OUTS, "identifier"),
        (REJECTS, "identifier"),
        (IN_DOUBT, "identifier"),
        (IN_DOUBT, "body"),
    ):
        own = f"json_extract_string(TRY_CAST(t.{column} AS JSON), '$.{ID}')"
        before, after = (f"'\"{ID}\":' || CAST(to_json(m.{which}) AS VARCHAR)" for which in ("old", "new"))
        text = f"replace(t.{column}, {before}, {after})"
        connection.execute(f"UPDATE {table} AS t SET {column} = {text} FROM retl_moves AS m WHERE {own} = m.old")


def _key(connection: DuckDBPyConnection) -> list[str]:
    meta = meta_of(connection)
    return list(json.loads(meta.get("primary_key") or meta.get(KEY_COLUMNS) or "[]"))


def _id_in_key(key: Sequence[str]) -> tuple[str, str]:
    """SQL for the id in a key as people see it, and for the same key with the new one; see `key_text`."""
    if len(key) == 1:
        return "t.key", "m.new"
    part = "json_extract_string(TRY_CAST(t.key AS JSON), '$[{}]')"
    parts = ["m.new" if name == ID else part.format(place) for place, name in enumerate(key)]
    return part.format(key.index(ID)), f"CAST(to_json([{', '.join(parts)}]) AS VARCHAR)"


def refuse_old_ids(connection: DuckDBPyConnection, sync: Sync) -> None:
    """Raises StateError if the open run would send rows under ids that were renamed: the state has them under the new
    ones, so all of them would be sent again, and with `on_removed` their users would be cleared or deleted."""
    is_last = f"moment >= coalesce((SELECT max(b.moment) FROM {_RENAMED} AS b WHERE b.new = r.old), 0)"
    old = f"SELECT '{ID}:' || old FROM {_RENAMED} AS r WHERE {is_last}"
    rows = f"{OUTBOX} WHERE kind <> 'removed' AND action <> 'suppressed' AND {WHO} IN ({old})"
    (found,) = connection.execute(f"SELECT count(*) FROM {rows}").fetchall()[0]
    if found:
        names = sorted({name for (name,) in connection.execute(f"SELECT DISTINCT sync FROM {_RENAMED}").fetchall()})
        rows = count(found, "row")
        what = f"{sync.name}: the model returns {rows} with an external id that {', '.join(names)} has renamed"
        hint = "return the new ids, which the state has: with the old ones, all of that would be sent again"
        raise StateError(what, sync.where("model"), hint, code="S042")


def refuse_chains(connection: DuckDBPyConnection, layout: Layout, rule: int) -> None:
    """Make the records of the open run invalid, by the rule with this number, that rename what another one renames, or
    to the name that another one gives."""
    found = fields_of(layout)
    if found is None:
        return
    label = [f"new.{name}" for name in layout.mode.key_fields if name != found[0].name]
    columns = [
        ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in (*label, f"new.{field.name}")) for field in found
    ]
    now, new = (f"({one})" for one in columns)
    sent = f"FROM {OUTBOX} WHERE action = 'send'"
    twice = f"SELECT {columns[1]} {sent} GROUP BY ALL HAVING count(*) > 1"
    chained = f"{new} IN (SELECT {columns[0]} {sent}) OR {now} IN (SELECT {columns[1]} {sent}) OR {new} IN ({twice})"
    rows = f"SELECT rowid {sent} AND ({chained})"
    connection.execute(
        f"""UPDATE {OUTBOX} SET action = 'invalid', problems = [{rule}], envelope = NULL, body = NULL
        WHERE rowid IN ({rows})"""
    )
