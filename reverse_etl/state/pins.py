"""Cells that were reverted, and that stay so until the model returns another value than the one that was reverted.

hold()     when a run is planned: cells of CHANGES that are pinned stay as Braze has them
commit()   with the run: pins that have ended go, and those of a revert come, of cells that Braze has accepted
unpin()    by the user
"""

import json
from collections.abc import Collection, Sequence

from duckdb import DuckDBPyConnection

from reverse_etl.ledger.lines import json_of_value
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, ENDED_PINS, NEW_PINS, OPEN_RUN, PINS
from reverse_etl.plan.workbench import execute
from reverse_etl.records.expressions import mergeable, new
from reverse_etl.records.identity import columns_named, who_sql
from reverse_etl.records.layout import Layout
from reverse_etl.records.left_out import flagged
from reverse_etl.records.mapping import key_text
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.contents import acknowledged_types, columns_of, meta_of

ROW = ""  # in place of a column: the row, which the model did not return, and which stays until it does
_OF_CHANGES = "retl_pinned"  # the pinned cells of CHANGES, and whether their pins hold


def count(connection: DuckDBPyConnection) -> int:
    """How many cells are pinned."""
    return int(connection.execute(f"SELECT count(*) FROM {PINS}").fetchall()[0][0])


def hold(connection: DuckDBPyConnection, layout: Layout, acknowledged: str = ACKNOWLEDGED) -> None:
    """Let pinned cells of CHANGES be as Braze has them, for which the model returns what was reverted. Others end their
    pins: ENDED_PINS. Rows of which nothing else differs are no change."""
    pinned = [name for (name,) in connection.execute(f"SELECT DISTINCT column_name FROM {PINS}").fetchall()]
    names = [name for name in layout.tracked if name in pinned]
    if names or ROW in pinned:
        _find_pinned(connection, layout, names, acknowledged)
        _hold_cells(connection, layout, names, acknowledged)
        held = f"SELECT key FROM {_OF_CHANGES} WHERE column_name = {literal(ROW)} AND holds"
        execute(connection, f"DELETE FROM {CHANGES} WHERE kind = 'removed' AND {key_text(layout.key, new)} IN ({held})")
        differs = " OR ".join(identifier(f"differs.{name}") for name in layout.tracked)
        is_pinned = f"{key_text(layout.key, new)} IN (SELECT key FROM {_OF_CHANGES})"
        execute(connection, f"DELETE FROM {CHANGES} WHERE kind = 'changed' AND NOT ({differs}) AND {is_pinned}")
        ended = f"SELECT key, column_name FROM {_OF_CHANGES} WHERE NOT holds"
        note(connection, ended, begun=f"FROM {PINS} WHERE false")
        connection.execute(f"DROP TABLE {_OF_CHANGES}")
    for name in {*layout.tracked} - {*flagged(layout)}:
        execute(connection, f"ALTER TABLE {CHANGES} DROP COLUMN {identifier(f'differs.{name}')}")


def _find_pinned(connection: DuckDBPyConnection, layout: Layout, names: Sequence[str], acknowledged: str) -> None:
    """Store which cells of CHANGES are pinned, and whether their pins hold."""
    values = {name: json_of_value(f"c.{new(name)}", layout.column(name).type) for name in names}
    now = " ".join(f"WHEN {literal(name)} THEN {value}" for name, value in values.items())
    is_same = f"CASE p.column_name {now} END IS NOT DISTINCT FROM p.value" if now else "false"
    key = key_text(layout.key, lambda name: f"c.{new(name)}")
    same = f"{key_text(layout.key, lambda one: f't.{identifier(one)}')} = p.key"
    execute(
        connection,
        f"""CREATE OR REPLACE TEMP TABLE {_OF_CHANGES} AS
        SELECT c.rowid AS row, p.key, p.column_name,
            CASE WHEN p.column_name = {literal(ROW)} THEN c.kind = 'removed'
                ELSE c.kind IN ('added', 'changed') AND {_is_same_user(connection, layout)} AND {is_same} END AS holds
        FROM {CHANGES} AS c JOIN {PINS} AS p ON p.key = {key} LEFT JOIN {acknowledged} AS t ON {same}""",
    )


def _is_same_user(connection: DuckDBPyConnection, layout: Layout) -> str:
    """SQL for: the row is about whom it was about before. Another user never had what was reverted."""
    known = acknowledged_types(connection)
    families = {name: known[name].family for name in columns_named(known) if layout.has(name)}
    if set(families) <= set(layout.key):
        return "true"
    before, now = (
        who_sql(families, of) for of in (lambda name: f"t.{identifier(name)}", lambda name: f"c.{new(name)}")
    )
    return f"{before} IS NOT DISTINCT FROM {now}"


def _hold_cells(connection: DuckDBPyConnection, layout: Layout, names: Sequence[str], acknowledged: str) -> None:
    """In one statement: where DuckDB updates a list, the row gets another rowid."""
    known = columns_of(connection, acknowledged)
    cells, values = dict[str, str](), dict[str, str]()
    for name in (name for name in names if name in known):
        holds, value = identifier(f"holds.{name}"), f"p.{identifier(f'value.{name}')}"
        cells[holds] = f"bool_or(p.holds AND p.column_name = {literal(name)})"
        cells[identifier(f"value.{name}")] = f"first(TRY_CAST(t.{identifier(name)} AS {layout.column(name).type.text}))"
        is_sent = "true" if layout.sync.nulls == "send" else f"{value} IS NOT NULL"
        held = {"new": value, "changed": f"kind = 'added' AND {is_sent}", "differs": "false"}
        held |= {"lost": "false"} if name in mergeable(layout) else {}
        for prefix, sql in held.items():
            column = identifier(f"{prefix}.{name}")
            values[column] = f"CASE WHEN p.{holds} THEN {sql} ELSE {CHANGES}.{column} END"
    if not cells:
        return
    same = f"{key_text(layout.key, lambda one: f't.{identifier(one)}')} = p.key"
    listed = ", ".join(f"{sql} AS {name}" for name, sql in cells.items())
    execute(
        connection,
        f"""UPDATE {CHANGES} SET {", ".join(f"{column} = {sql}" for column, sql in values.items())} FROM (
            SELECT p.row, {listed} FROM {_OF_CHANGES} AS p JOIN {acknowledged} AS t ON {same} GROUP BY p.row
        ) AS p WHERE {CHANGES}.rowid = p.row""",
    )


def note(connection: DuckDBPyConnection, ended: str, begun: str) -> None:
    """Store which pins end with the open run, and which begin with it: SELECTs of (key, column_name), and of the rows
    that PINS is to have."""
    execute(
        connection,
        f"""CREATE TABLE {ENDED_PINS} AS {ended}; CREATE TABLE {NEW_PINS} AS {begun};
        UPDATE {OPEN_RUN} SET pins = true""",
    )


def commit(connection: DuckDBPyConnection, records: str) -> None:
    """End the pins that the open run has ended, and take up its own. `records` is SQL for its outbox `o` with outcomes,
    of what was accepted."""
    connection.execute(
        f"DELETE FROM {PINS} AS p USING {ENDED_PINS} AS e WHERE (p.key, p.column_name) = (e.key, e.column_name)"
    )
    names = [name for (name,) in connection.execute(f"SELECT DISTINCT column_name FROM {NEW_PINS}").fetchall()]
    flags = {name: "true" if name == ROW else f"o.{identifier(f'changed.{name}')}" for name in names}
    cells = " ".join(f"WHEN {literal(name)} THEN {flag}" for name, flag in flags.items())
    if names:
        accepted = f"SELECT o.key FROM {records} AND o.key = n.key AND CASE n.column_name {cells} END"
        connection.execute(f"INSERT INTO {PINS} SELECT * FROM {NEW_PINS} AS n WHERE EXISTS ({accepted})")


def drop_gone(connection: DuckDBPyConnection) -> None:
    """Drop the pins of rows that the state has no more; if it has the rows itself."""
    if count(connection) and pointer_of(meta_of(connection)) is None:
        rows = f"SELECT {key_text(json.loads(meta_of(connection)['primary_key']), identifier)} FROM {ACKNOWLEDGED}"
        connection.execute(f"DELETE FROM {PINS} WHERE key NOT IN ({rows})")


def unpin(connection: DuckDBPyConnection, run_ids: Collection[str]) -> int:
    """End the pins of cells that these runs had written; returns how many these were."""
    runs = ", ".join(map(literal, run_ids))
    return len(connection.execute(f"DELETE FROM {PINS} WHERE run_id IN ({runs}) RETURNING key").fetchall())
