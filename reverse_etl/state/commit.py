"""Commits a run: outbox + journal -> acknowledged rows, rejects, rows in doubt, in one transaction.

Uses only what the run stored, not the project: so a killed run can be recovered after the project has changed.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import ENDING_MODES
from reverse_etl.ledger.files import KEEP, OFF, Ledger
from reverse_etl.ledger.lines import Moved
from reverse_etl.plan.outbox import UNCERTAIN, may_need_users
from reverse_etl.plan.tables import (
    ACKNOWLEDGED,
    IN_DOUBT,
    META,
    OPEN_RUN,
    OUTBOX,
    REJECTS,
    RUN_ID,
    RUNS,
    SENT_AT,
    SQLS,
    STATE,
    UNSURE,
    USER,
)
from reverse_etl.records.consent import ONLY_OPTS_OUT
from reverse_etl.records.json_text import carried_over
from reverse_etl.records.layout import ROW_NUMBER
from reverse_etl.shared_state.copies import LAST_RUN
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType, widens
from reverse_etl.state import absences, giving_up, opt_outs, pins, to_send, watermark
from reverse_etl.state.contents import (
    KEY_COLUMNS,
    OWN_COLUMNS,
    acknowledged_columns,
    acknowledged_types,
    columns_of,
    meta_of,
    set_meta,
    types_of,
)
from reverse_etl.state.deleted import note_people, record_deleted, remember_deleted
from reverse_etl.state.elsewhere import Elsewhere
from reverse_etl.state.erasures import Erasures
from reverse_etl.state.file import WENT_WELL
from reverse_etl.state.open_run import OpenRun
from reverse_etl.state.outcomes import NO_REQUESTS, REQUESTS_MADE, WITH_OUTCOMES, DeliveryCounts, find_outcomes
from reverse_etl.state.rejects import remember_answers, remember_partial_rows, remember_withheld_rows
from reverse_etl.state.rows_table import create_rows, distinct_in_outbox
from reverse_etl.state.workspace import WORKSPACE

RUNS_KEPT, _RUNS_AT_A_TIME = 10_000, 1_000
_CAME_FROM = ("git_commit", "git_dirty", "started_by", "plan_digest")  # of a run, beside its SQL
_ACCEPTED = f"{WITH_OUTCOMES} WHERE outcome = 'accepted'"
_CHANGING = ("send", "baseline", "mark_accepted", "forget", "refresh")  # actions that may change acknowledged rows


def final_status(status: str, delivery: DeliveryCounts) -> str:
    """A run that seemed successful is incomplete if not every record was accepted."""
    missing = delivery.rejected + delivery.in_doubt + delivery.unsent
    return "incomplete" if status == "success" and missing else status


@dataclass(frozen=True)
class Ending:
    """How a run ended, as far as its sender could tell; `counts` are those of its plan."""

    status: str
    message: str | None
    counts: Mapping[str, Any]
    at: datetime


def commit_run(
    connection: DuckDBPyConnection,
    run: OpenRun,
    ending: Ending,
    erasures: Erasures,
    ledger: Ledger,
    moves_state: bool = True,
    elsewhere: Elsewhere | None = None,
) -> DeliveryCounts:
    """Update the state from the journal, and record the run.

    A run that was blocked changes no acknowledged rows (`moves_state` false); its invalid rows are recorded. Whom the
    run has deleted is written to the `erasures` before, and what it changes to the `ledger`. `elsewhere` is where the
    acknowledged rows are, if the state does not have them itself.
    """
    facts, meta = run.facts(), meta_of(connection)
    run_id, key_text, mode, keep = facts["run_id"], facts["key"], facts["mode"], facts["ledger"]
    actions = set[str]() if run.is_blank else _actions(connection)
    if run.taken.rows:
        actions.add("baseline")
    delivery = find_outcomes(connection, run.journal_path, "send" in actions)
    values: dict[str, Any] = {"now": ending.at, "run_id": run_id}
    named: str | None = None  # the files of its ledger
    known = {KEY_COLUMNS: key_text}
    has_answers = bool(actions) or _has_answers(connection)
    if moves_state and "send" in actions:
        record_deleted(connection, erasures, WITH_OUTCOMES, ending.at)
    connection.execute("BEGIN")
    try:
        if has_answers:
            giving_up.remember(connection, actions, ending.at, moves_state)
        if moves_state:
            key = json.loads(key_text)
            if elsewhere:
                elsewhere.take_in(run.adopts)
            acts = not actions.isdisjoint(_CHANGING)
            if acts and mode not in ENDING_MODES and keep != OFF:
                with elsewhere.shows_adopted(run.adopts, key) if elsewhere and run.adopts else nullcontext():
                    has_lines = ledger.stage(_moved(connection, run, key))
                if has_lines:
                    named = ledger.keep(run_id, REQUESTS_MADE if delivery.requests else NO_REQUESTS)
            if elsewhere or not run.keeps_columns:
                _reshape(connection, key)
            if "refresh" in actions:
                _refresh_rows(connection, key)
            if mode in ENDING_MODES:
                remember_deleted(connection, erasures, WITH_OUTCOMES, values)
            elif acts and not run.is_blank:
                _move_rows(connection, key, values)
            moved = bool(facts["absences"])
            if moved:
                absences.apply(connection, key, acknowledged_columns(connection), ending.at)
            if facts["pins"]:
                pins.commit(connection, _ACCEPTED)
            if acts and delivery.accepted and may_need_users(connection):
                _remember_uncertain_rows(connection, key)
            if delivery.in_doubt or delivery.unsent:
                _remember_unsure_columns(connection, key, values)
            if has_answers:
                remember_answers(connection, delivery, values)
                remember_withheld_rows(connection, actions, run_id)
            if actions:
                opt_outs.remember(connection, WITH_OUTCOMES, values)
                opt_outs.unsettle_rows(connection, WITH_OUTCOMES, _keys_in_state(connection, key))
            known |= {"mode": mode, WORKSPACE: facts["workspace"]}
            known |= opt_outs.with_known(meta, facts["consent"])
        if has_answers:
            remember_partial_rows(connection, "invalid" in actions, values)
        mark = watermark.of_meta(meta)
        if moves_state and (watermark.move(connection, mark, facts, WITH_OUTCOMES, ending.at) or acts or moved):
            known["version"] = run_id
        if "version" in known or delivery.requests or LAST_RUN not in meta:
            known[LAST_RUN] = run_id
        if moves_state and elsewhere:
            elsewhere.take_out(run_id, key)
        left = to_send.unsent_rows(connection, actions, delivery)
        before = to_send.to_send(connection, meta) if facts["reverts"] else None
        set_meta(connection, {**known, **to_send.after_run(run_id, left, before)}, meta)
        values["status"], values["message"] = final_status(ending.status, delivery), ending.message or _reverts(facts)
        values["counts"] = json.dumps({**ending.counts, to_send.UNSENT_ROWS: left, "delivery": asdict(delivery)})
        came_from = {name: facts[name] for name in _CAME_FROM}
        connection.execute(
            f"""INSERT INTO {RUNS} BY NAME
            SELECT $run_id AS run_id, started_at, $now AS finished_at, $status AS status, $message AS message,
                $counts AS counts, scheduled_time, md5($sql) AS sql_md5, $ledger AS ledger,
                {", ".join(f"${name} AS {name}" for name in _CAME_FROM)}
            FROM {OPEN_RUN}""",
            {**values, **came_from, "sql": facts["sql"], "ledger": named},
        )
        if mode in ENDING_MODES:
            note_people(connection)
        if facts["sql"] is not None and mode not in ENDING_MODES:  # whose models may list people
            _remember_sql(connection, facts["sql"])
        has_dropped = _drop_old_runs(connection)
        if named or has_dropped or ledger.has_expired(keep or KEEP, ending.at):
            ledger.tidy(keep or KEEP, ending.at)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return delivery


def _reverts(facts: Mapping[str, Any]) -> str | None:
    """What is said of a run that takes back what others have changed."""
    return f"reverts {facts['reverts']}" if facts["reverts"] else None


def _moved(connection: DuckDBPyConnection, run: OpenRun, key: Sequence[str]) -> Moved:
    """What the ledger says of the open run, before the state is another."""
    columns, state = types_of(connection, OUTBOX), acknowledged_types(connection)
    keys = _keys_in_state(connection, key)
    return Moved(run.run_id(), WITH_OUTCOMES, columns, state, keys, run.taken.keys)


def _remember_sql(connection: DuckDBPyConnection, sql: str) -> None:
    """Keep the text of the compiled model once, and drop those that no run names."""
    new = f"SELECT md5($sql), $sql WHERE md5($sql) NOT IN (SELECT md5 FROM {SQLS})"
    if connection.execute(f"INSERT INTO {SQLS} {new}", {"sql": sql}).fetchall() != [(0,)]:
        named = f"SELECT sql_md5 FROM {RUNS} WHERE sql_md5 IS NOT NULL"
        connection.execute(f"DELETE FROM {SQLS} WHERE md5 NOT IN ({named})")


def _drop_old_runs(connection: DuckDBPyConnection) -> bool:
    """Keep the last runs, a thousand at a time, and the latest that a schedule goes by; whether some were dropped."""
    (runs,) = connection.execute(f"SELECT count(*) FROM {RUNS}").fetchall()[0]
    if runs < RUNS_KEPT + _RUNS_AT_A_TIME:
        return False
    newest = f"SELECT run_id FROM {RUNS} ORDER BY finished_at DESC LIMIT {RUNS_KEPT}"
    latest = "arg_max(run_id, coalesce(scheduled_time, started_at))"
    done = f"SELECT {latest} FROM {RUNS} WHERE status IN {WENT_WELL}"
    last = f"SELECT value FROM {META} WHERE key = '{LAST_RUN}'"
    old = f"run_id NOT IN ({newest}) AND run_id IS DISTINCT FROM ({done}) AND run_id IS DISTINCT FROM ({last})"
    connection.execute(f"DELETE FROM {RUNS} WHERE {old}")
    return True


def _has_answers(connection: DuckDBPyConnection) -> bool:
    """Whether the state has rows that were rejected, by whomever, or are in doubt."""
    some = " OR ".join(f"EXISTS (FROM {table})" for table in (REJECTS, IN_DOUBT))
    return connection.execute(f"SELECT {some}").fetchall() == [(True,)]


def _actions(connection: DuckDBPyConnection) -> set[str]:
    """What was to be done with any row of the run; most runs have little to do, and so have few statements."""
    return {action for (action,) in connection.execute(f"SELECT DISTINCT action FROM {OUTBOX}").fetchall()}


def _reshape(connection: DuckDBPyConnection, key: Sequence[str]) -> None:
    """Give the table of acknowledged rows the columns and types of the outbox."""
    outbox = types_of(connection, OUTBOX)
    wanted = {name.removeprefix("new."): of for name, of in outbox.items() if name.startswith("new.")}
    known = acknowledged_types(connection)
    if [(name, of.text) for name, of in known.items()] == [(name, of.text) for name, of in wanted.items()]:
        return
    following = f"{STATE}.main.state_next"
    if known:
        columns = {name: _carried_over(name, of, known.get(name), name in key) for name, of in wanted.items()}
        listed = ", ".join(f"{value} AS {identifier(name)}" for name, value in columns.items())
        rows = f"SELECT {listed}, {', '.join(OWN_COLUMNS)} FROM {ACKNOWLEDGED} WHERE true"
        if ROW_NUMBER not in key:  # a row whose key is no value of the new type is none of the model's any more
            rows += "".join(f" AND ({identifier(n)} IS NULL OR {columns[n]} IS NOT NULL)" for n in key if n in known)
        connection.execute(f"CREATE TABLE {following} AS {rows}")
    else:
        create_rows(connection, following, wanted, distinct_in_outbox(connection, wanted))
    connection.execute(f"DROP TABLE IF EXISTS {ACKNOWLEDGED}")
    connection.execute(f"ALTER TABLE {following} RENAME TO state")
    connection.execute(f"INSERT OR REPLACE INTO {META} VALUES ('primary_key', ?)", [json.dumps(key)])


def _carried_over(name: str, now: SqlType, before: SqlType | None, in_key: bool) -> str:
    """SQL for a column of the old table in the type of the new one; NULL, so never sent, where that is other JSON."""
    column = identifier(name)
    if before is None:
        return f"CAST(NULL AS {now.text})"
    if before.text == now.text:
        return column
    return f"TRY_CAST({column} AS {now.text})" if in_key or widens(before, now) else carried_over(column, before, now)


def _keys_in_state(connection: DuckDBPyConnection, key: Sequence[str]) -> dict[str, str]:
    """SQL for the key of a record `o` as the state has it, by column; a new row's own."""
    outbox = columns_of(connection, OUTBOX)
    now = {name: f"o.{identifier(f'new.{name}')}" for name in key}
    return {
        name: f"coalesce(o.{identifier(f'was.{name}')}, {new})" if f"was.{name}" in outbox else new
        for name, new in now.items()
    }


def _refresh_rows(connection: DuckDBPyConnection, key: Sequence[str]) -> None:
    """Give rows that are equal to Braze the spelling of the model, so that the next run need not compare them again."""
    was = _keys_in_state(connection, key)
    same = " AND ".join(f"state.{identifier(name)} IS NOT DISTINCT FROM {value}" for name, value in was.items())
    new = ", ".join(f"{identifier(name)} = o.{identifier(f'new.{name}')}" for name in acknowledged_columns(connection))
    connection.execute(f"UPDATE {ACKNOWLEDGED} SET {new} FROM {OUTBOX} AS o WHERE o.action = 'refresh' AND {same}")


def _move_rows(connection: DuckDBPyConnection, key: Sequence[str], values: Mapping[str, Any]) -> None:
    moved = f"{WITH_OUTCOMES} WHERE (outcome = 'accepted' OR action IN ('baseline', 'mark_accepted', 'forget'))"
    was = _keys_in_state(connection, key)
    keys = ", ".join(f"{value} AS {identifier(name)}" for name, value in was.items())
    same = " AND ".join(f"state.{identifier(name)} IS NOT DISTINCT FROM m.{identifier(name)}" for name in key)
    unsure = _unsure_columns_not_sent(connection, f"SELECT {keys}, o.* FROM {moved} AND known", same)
    connection.execute(f"DELETE FROM {ACKNOWLEDGED} USING (SELECT {keys} FROM {moved} AND known) AS m WHERE {same}")
    names = acknowledged_columns(connection)
    into = ", ".join(map(identifier, names))
    new = ", ".join(f"o.{identifier(f'new.{name}')}" for name in names)
    connection.execute(
        f"""INSERT INTO {ACKNOWLEDGED} ({into}, {SENT_AT}, {RUN_ID})
        SELECT {new}, $now, $run_id FROM {moved} AND kind NOT IN ('removed', '{ONLY_OPTS_OUT}')""",
        values,
    )
    if unsure:
        connection.execute(f"UPDATE {ACKNOWLEDGED} SET {UNSURE} = m.names FROM retl_unsure AS m WHERE {same}")


def _unsure_columns_not_sent(connection: DuckDBPyConnection, moved: str, same: str) -> bool:
    """Store the keys of rows with columns that are unsure, and that were not sent with their records, as they were left
    out or withheld: they stay unsure. Whether there are any."""
    tracked = [name.removeprefix("changed.") for name in columns_of(connection, OUTBOX) if name.startswith("changed.")]
    if (
        not tracked
        or not connection.execute(f"SELECT 1 FROM {ACKNOWLEDGED} WHERE {UNSURE} IS NOT NULL LIMIT 1").fetchall()
    ):
        return False
    sent = ", ".join(f"CASE WHEN m.{identifier(f'changed.{name}')} THEN {literal(name)} END" for name in tracked)
    was_sent = f"list_contains(list_filter([{sent}], lambda n: n IS NOT NULL), name)"
    of_model = f"list_contains([{', '.join(map(literal, tracked))}], name)"
    names = f"list_filter(state.{UNSURE}, lambda name: {of_model} AND NOT {was_sent})"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE retl_unsure AS
        SELECT m.*, {names} AS names FROM {ACKNOWLEDGED} AS state JOIN ({moved}) AS m ON {same}
        WHERE state.{UNSURE} IS NOT NULL"""
    )
    return bool(connection.execute("SELECT 1 FROM retl_unsure WHERE len(names) > 0 LIMIT 1").fetchall())


def _remember_uncertain_rows(connection: DuckDBPyConnection, key: Sequence[str]) -> None:
    """Mark the rows that did nothing if their user does not exist, and may be sent again when it does."""
    uncertain = f"{WITH_OUTCOMES} WHERE outcome = 'accepted' AND {UNCERTAIN} AND o.idempotent"
    keys = ", ".join(f"o.{identifier(f'new.{name}')} AS {identifier(name)}" for name in key)
    same = " AND ".join(f"state.{identifier(name)} IS NOT DISTINCT FROM u.{identifier(name)}" for name in key)
    connection.execute(
        f"""UPDATE {ACKNOWLEDGED} SET {UNSURE} = list_distinct(list_concat({UNSURE}, [{literal(USER)}]))
        FROM (SELECT {keys} FROM {uncertain} AND kind <> '{ONLY_OPTS_OUT}') AS u WHERE {same}"""
    )


def _remember_unsure_columns(connection: DuckDBPyConnection, key: Sequence[str], values: Mapping[str, Any]) -> None:
    """Record the columns of a row for which Braze may have received a value that the state does not contain.

    Otherwise a value that returns to what was acknowledged before would look unchanged, and one that disappears would
    never be cleared. A row that was never acknowledged is stored with its key only, without a time of sending.
    """
    tracked = [name.removeprefix("changed.") for name in columns_of(connection, OUTBOX) if name.startswith("changed.")]
    if not tracked:
        return
    went_out = ", ".join(f"CASE WHEN o.{identifier(f'changed.{n}')} THEN {literal(n)} END" for n in tracked)
    every = ", ".join(map(literal, tracked))
    names = f"CASE WHEN kind = 'removed' THEN [{every}] ELSE list_filter([{went_out}], lambda n: n IS NOT NULL) END"
    of_rows = f"may_have_arrived AND kind <> '{ONLY_OPTS_OUT}'"
    unsure = f"{WITH_OUTCOMES} WHERE {of_rows} AND outcome IN ('unsent', 'in_doubt')"
    keys = ", ".join(f"{value} AS {identifier(name)}" for name, value in _keys_in_state(connection, key).items())
    same = " AND ".join(f"state.{identifier(name)} IS NOT DISTINCT FROM u.{identifier(name)}" for name in key)
    connection.execute(
        f"""UPDATE {ACKNOWLEDGED} SET {UNSURE} = list_distinct(list_concat({UNSURE}, u.names))
        FROM (SELECT {keys}, {names} AS names FROM {unsure} AND known) AS u WHERE {same}"""
    )
    connection.execute(
        f"""INSERT INTO {ACKNOWLEDGED} BY NAME
        SELECT {keys}, $run_id AS {RUN_ID}, {names} AS {UNSURE} FROM {unsure} AND NOT known""",
        {"run_id": values["run_id"]},
    )
