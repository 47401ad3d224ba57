"""Acknowledges what a model returns, as it is declared to be in Braze: values are written once, and none as a record.

    model ──> acknowledged rows      in one statement, which judges the rules, too
                └──> OUTBOX          rows that break a rule, or of which columns are left out; they are taken out again

That is done in a copy of the state, which takes the place of the state when the run is committed: a killed process has
changed nothing.
"""

import json

from reverse_etl.engines.duckdb.diff import acknowledged_changes_sql, first_sql
from reverse_etl.engines.engine import Comparison, Engine, First
from reverse_etl.plan.baseline import JUDGED, acknowledged_sql, judged_rows_sql, says_all, type_of_judged
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, RUN_ID, SENT_AT
from reverse_etl.project.models import Compiled
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.records.left_out import with_old
from reverse_etl.records.mapping import keys_sql
from reverse_etl.shared_state.copies import LocalOnly
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType
from reverse_etl.state.contents import OWN_COLUMNS, set_meta
from reverse_etl.state.open_run import Taken
from reverse_etl.state.rows_table import create_rows, texts
from reverse_etl.state.state import State

_NUMBER = SqlType("bigint", "BIGINT")


def may_acknowledge(state: State, layout: Layout) -> bool:
    """Whether rows of a baseline may become acknowledged rows at once: nobody has to look at them as records."""
    is_ours = isinstance(state.copy, LocalOnly) and state.elsewhere is None
    if not is_ours or state.has_renamed or state.erasures.version or not says_all(layout):
        return False
    return not state.connection.execute(f"SELECT 1 FROM {IN_DOUBT} LIMIT 1").fetchall()


def acknowledge(state: State, layout: Layout, engine: Engine, model: Compiled, comparison: Comparison) -> int | None:
    """Acknowledge the rows of a model, of which the state knows none; returns how many there are. None if rows have to
    be set aside, which are written as changes first."""
    connection = state.connection
    state.begin_next()
    connection.execute("RESET force_compression")
    types = {name: _NUMBER if name == ROW_NUMBER else layout.column(name).type for name in layout.stored}
    distinct = {*layout.key, *engine.distinct_columns(model, texts(types))}
    create_rows(connection, ACKNOWLEDGED, types, distinct, {**OWN_COLUMNS, JUDGED: type_of_judged(layout)})
    now = f"CAST({literal(state.clock.utc().isoformat())} AS TIMESTAMPTZ)"
    own = {SENT_AT: now, RUN_ID: literal(state.run.run_id())}
    changes, there = first_sql(layout)
    select = acknowledged_sql(layout, with_old(layout, changes, there), own)
    insert = f"INSERT INTO {ACKNOWLEDGED} BY NAME\n{select}"
    first = First(insert, ACKNOWLEDGED, acknowledged_changes_sql(layout))
    rows = engine.write_first(layout, model, comparison, first)
    connection.execute("SET force_compression = 'uncompressed'")
    if rows is None:
        return None
    is_judged = f"{ACKNOWLEDGED} WHERE {JUDGED} IS NOT NULL"
    (judged,) = connection.execute(f"SELECT count(*) FROM {is_judged}").fetchall()[0]
    changes, there = first_sql(layout, judged_rows_sql(layout))
    state.write_judged(layout, with_old(layout, changes, there), some=bool(judged))
    if judged:
        connection.execute(f"DELETE FROM {is_judged}")
    connection.execute(f"ALTER TABLE {ACKNOWLEDGED} DROP COLUMN {identifier(JUDGED)}")
    set_meta(connection, {"primary_key": json.dumps(layout.key)})
    keys = keys_sql(layout, acknowledged_changes_sql(layout))
    state.run.taken = Taken(rows - judged, keys)
    return rows
