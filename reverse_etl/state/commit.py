"""Commits a run: outbox + journal -> acknowledged rows, rejects, rows in doubt, in one transaction.

Uses only what the run stored, not the project: so a killed run can be recovered after the project has changed.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import lacks_memory
from reverse_etl.engines.duckdb.model import sql_type
from reverse_etl.errors import StateError
from reverse_etl.masking import of_request
from reverse_etl.plan.outbox import (
    HAS_LEFT_OUT,
    HINT_TO_USE,
    OPT_IN_WITHHELD,
    UNCERTAIN,
    may_need_users,
    may_withhold,
    reason_sql,
    user_sql,
)
from reverse_etl.plan.quarantine import HINT, WAITS, WAITS_UNTIL, WITHHELD, reason_of
from reverse_etl.plan.tables import (
    ABSENT_SINCE,
    ACKNOWLEDGED,
    IN_DOUBT,
    META,
    OPEN_RUN,
    OUTBOX,
    REJECTS,
    RULES,
    RUN_ID,
    RUNS,
    SENT_AT,
    STATE,
    UNSURE,
    USER,
)
from reverse_etl.records.consent import ONLY_OPTS_OUT, WITHHELD_FOR
from reverse_etl.records.json_text import carried_over
from reverse_etl.records.layout import ROW_NUMBER
from reverse_etl.records.left_out import LEFT_OUT
from reverse_etl.sql.quoting import identifier, literal, statement
from reverse_etl.sql.types import SqlType, widens
from reverse_etl.state import absences, giving_up, opt_outs, watermark
from reverse_etl.state.deleted import DELETES, note_people, record_deleted, remember_deleted
from reverse_etl.state.erasures import Erasures
from reverse_etl.state.file import WENT_WELL
from reverse_etl.state.workspace import WORKSPACE

_JOURNAL_COLUMNS = """{
    sent: 'BIGINT', first: 'BIGINT', last: 'BIGINT',
    answered: 'BIGINT', outcome: 'VARCHAR', why: 'VARCHAR', rejected: 'STRUCT(seq BIGINT, reason VARCHAR)[]'
}"""
_OUTCOMES = "seq BIGINT, may_have_arrived BOOLEAN, may_duplicate BOOLEAN, outcome VARCHAR, reason VARCHAR"
KEY_COLUMNS = "key"  # in `meta`: those of the last run, also if it was blocked, whose invalid rows are recorded
RUNS_KEPT, _RUNS_AT_A_TIME = 10_000, 1_000
_CHANGING = ("send", "baseline", "mark_accepted", "forget", "refresh")  # actions that may change acknowledged rows
_OWN_COLUMNS = {SENT_AT: "TIMESTAMPTZ", RUN_ID: "VARCHAR", UNSURE: "VARCHAR[]", ABSENT_SINCE: "TIMESTAMPTZ"}
_REASONS = 3  # of unclear responses that are reported
_WITH_OUTCOMES = f"{OUTBOX} AS o LEFT JOIN retl_outcomes AS f ON f.seq = o.rowid"


@dataclass(frozen=True)
class DeliveryCounts:
    """What happened to the records of a run, and the requests it took.

    `possible_duplicates` are those of the accepted and unsent records that an earlier request of the run may have
    delivered already, and that are not safe to send twice: `on_in_doubt: resend` sends them again. `unclear` says, of
    records that are in doubt or unsent after an unclear response, what the response was: the most frequent reasons,
    without values of the records, and their numbers of records.
    """

    accepted: int = 0
    rejected: int = 0
    in_doubt: int = 0
    unsent: int = 0
    possible_duplicates: int = 0
    attributes: int = 0
    requests: int = 0
    unclear: Mapping[str, int] = field(default_factory=dict)


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
    connection: DuckDBPyConnection, journal: Path, ending: Ending, erasures: Erasures, moves_state: bool = True
) -> DeliveryCounts:
    """Update the state from the journal, and record the run.

    A run that was blocked changes no acknowledged rows (`moves_state` false); its invalid rows are recorded. Whom the
    run has deleted is written to the `erasures` before.
    """
    of_run = f"SELECT run_id, key, mode, workspace, consent FROM {OPEN_RUN}"
    run_id, key_text, mode, workspace, consent = connection.execute(of_run).fetchall()[0]
    actions = _actions(connection)
    delivery = _find_outcomes(connection, journal, "send" in actions)
    values: dict[str, Any] = {"now": ending.at, "run_id": run_id}
    known, has_absences = {KEY_COLUMNS: key_text}, absences.are_there(connection)
    has_answers = bool(actions) or _has_answers(connection)
    if moves_state and "send" in actions:
        record_deleted(connection, erasures, _WITH_OUTCOMES, ending.at)
    connection.execute("BEGIN")
    try:
        if has_answers:
            giving_up.remember(connection, actions, ending.at, moves_state)
        if moves_state:
            key = json.loads(key_text)
            _reshape(connection, key)
            acts = not actions.isdisjoint(_CHANGING)
            if "refresh" in actions:
                _refresh_rows(connection, key)
            if mode == DELETES:
                remember_deleted(connection, erasures, _WITH_OUTCOMES, values)
            elif acts:
                _move_rows(connection, key, values)
            names = acknowledged_columns(connection)
            moved = has_absences and absences.apply(connection, key, names, ending.at)
            if acts and delivery.accepted and may_need_users(connection):
                _remember_uncertain_rows(connection, key)
            if delivery.in_doubt or delivery.unsent:
                _remember_unsure_columns(connection, key, values)
            if has_answers:
                _remember_answers(connection, delivery, values)
                _remember_withheld_rows(connection, actions, run_id)
            if actions:
                opt_outs.remember(connection, _WITH_OUTCOMES, values)
                opt_outs.unsettle_rows(connection, _WITH_OUTCOMES, _keys_in_state(connection, key))
            known |= {"mode": mode, WORKSPACE: workspace, **opt_outs.with_known(connection, consent)}
        if has_answers:
            _remember_partial_rows(connection, "invalid" in actions, values)
        if moves_state and (watermark.move(connection, _WITH_OUTCOMES, ending.at) or acts or moved):
            known["version"] = run_id
        set_meta(connection, known)
        values["status"], values["message"] = final_status(ending.status, delivery), ending.message
        values["counts"] = json.dumps({**ending.counts, "delivery": asdict(delivery)})
        connection.execute(
            f"""INSERT INTO {RUNS} BY NAME
            SELECT $run_id AS run_id, started_at, $now AS finished_at, $status AS status, $message AS message,
                $counts AS counts, scheduled_time
            FROM {OPEN_RUN}""",
            values,
        )
        if mode == DELETES:
            note_people(connection)
        _drop_old_runs(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return delivery


def _drop_old_runs(connection: DuckDBPyConnection) -> None:
    """Keep the last runs, a thousand at a time, and the latest that a schedule goes by."""
    (runs,) = connection.execute(f"SELECT count(*) FROM {RUNS}").fetchall()[0]
    if runs < RUNS_KEPT + _RUNS_AT_A_TIME:
        return
    newest = f"SELECT run_id FROM {RUNS} ORDER BY finished_at DESC LIMIT {RUNS_KEPT}"
    latest = "arg_max(run_id, coalesce(scheduled_time, started_at))"
    done = f"SELECT {latest} FROM {RUNS} WHERE status IN {WENT_WELL}"
    connection.execute(f"DELETE FROM {RUNS} WHERE run_id NOT IN ({newest}) AND run_id IS DISTINCT FROM ({done})")


def set_version(connection: DuckDBPyConnection, version: str) -> None:
    """Record that the state has changed: plans saved before are stale."""
    set_meta(connection, {"version": version})


def set_meta(connection: DuckDBPyConnection, known: Mapping[str, str | None]) -> None:
    """Record what is to be known of the attached state, by its name; None of it leaves it as it is."""
    before = dict(connection.execute(f"SELECT key, value FROM {META}").fetchall())
    new = {name: value for name, value in known.items() if value not in (None, before.get(name))}
    rows = ", ".join(f"({literal(name)}, {literal(str(value))})" for name, value in new.items())
    if rows:
        connection.execute(f"INSERT OR REPLACE INTO {META} VALUES {rows}")


def _has_answers(connection: DuckDBPyConnection) -> bool:
    """Whether the state has rows that were rejected, by whomever, or are in doubt."""
    some = " OR ".join(f"EXISTS (FROM {table})" for table in (REJECTS, IN_DOUBT))
    return connection.execute(f"SELECT {some}").fetchall() == [(True,)]


def _actions(connection: DuckDBPyConnection) -> set[str]:
    """What was to be done with any row of the run; most runs have little to do, and so have few statements."""
    return {action for (action,) in connection.execute(f"SELECT DISTINCT action FROM {OUTBOX}").fetchall()}


def columns_of(connection: DuckDBPyConnection, table: str) -> dict[str, str]:
    """Names and types of a table's columns, in order."""
    return {name: of.text for name, of in _types_of(connection, table).items()}


def acknowledged_columns(connection: DuckDBPyConnection) -> dict[str, str]:
    """The model's columns in the table of acknowledged rows, without retl's own; none before the first run."""
    return {name: of.text for name, of in acknowledged_types(connection).items()}


def acknowledged_types(connection: DuckDBPyConnection) -> dict[str, SqlType]:
    """The same columns, with what is known of their types."""
    try:
        columns = _types_of(connection, ACKNOWLEDGED)
    except duckdb.CatalogException:  # there is no such table yet; asking for it takes longer than trying
        return {}
    return {name: of for name, of in columns.items() if name not in _OWN_COLUMNS}


def _types_of(connection: DuckDBPyConnection, table: str) -> dict[str, SqlType]:
    """Of a table that is not read: a tenth of what DESCRIBE takes."""
    rows = connection.sql(f"FROM {table}")
    return {name: sql_type(of) for name, of in zip(rows.columns, rows.types, strict=True)}


def _find_outcomes(connection: DuckDBPyConnection, journal: Path, sends: bool) -> DeliveryCounts:
    """Store the outcome of every record that was to be sent, and count them; a run that sends nothing has none."""
    if not sends and not (journal.exists() and journal.stat().st_size):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_outcomes ({_OUTCOMES})")
        return DeliveryCounts()
    _read_journal(connection, journal)
    connection.execute(statement(__name__, "outcomes"))
    return _count_delivery(connection)


def _read_journal(connection: DuckDBPyConnection, path: Path) -> None:
    if not path.exists():
        path.touch(mode=0o600)  # nothing was sent
    _cut_torn_line(path)
    source = f"read_json({literal(str(path))}, format = 'newline_delimited', columns = {_JOURNAL_COLUMNS})"
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE retl_journal AS SELECT * FROM {source}")
    except duckdb.Error as error:
        if lacks_memory(error):
            raise
        hint = "something else wrote to it: keep the folder as it is, and inspect the lines of the file"
        raise StateError(f"{path} is damaged: {str(error).splitlines()[0]}", hint=hint, code="S006") from error


def _cut_torn_line(path: Path) -> None:
    """A killed process may leave half a line at the end; nothing has relied on it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 1_000_000))
        tail = file.read()
    torn = len(tail) - (tail.rfind(b"\n") + 1)
    if torn:
        os.truncate(path, size - torn)


def _count_delivery(connection: DuckDBPyConnection) -> DeliveryCounts:
    rows = connection.execute(
        f"""SELECT outcome, count(*), CAST(coalesce(sum(attributes), 0) AS BIGINT), count(*) FILTER (may_duplicate)
        FROM {_WITH_OUTCOMES} WHERE outcome IS NOT NULL GROUP BY outcome"""
    ).fetchall()
    attributes = sum(written for outcome, _, written, _ in rows if outcome == "accepted")
    possible_duplicates = sum(doubted for outcome, _, _, doubted in rows if outcome != "in_doubt")
    (requests,) = connection.execute(
        "SELECT count(*) FILTER (sent > 0) - count(*) FILTER (outcome = 'not_sent') FROM retl_journal"
    ).fetchall()[0]
    counts = {outcome: count for outcome, count, *_ in rows}
    is_clear = not counts.keys() & {"in_doubt", "unsent"}
    return DeliveryCounts(
        attributes=attributes,
        requests=requests,
        possible_duplicates=possible_duplicates,
        unclear={} if is_clear else _unclear(connection),
        **counts,
    )


def _unclear(connection: DuckDBPyConnection) -> dict[str, int]:
    """The most frequent reasons why it is not known whether records arrived, without values, and how many they are."""
    unclear = "may_have_arrived AND outcome IN ('in_doubt', 'unsent')"
    rows = connection.execute(
        f"""SELECT reason, count(*) FROM retl_outcomes WHERE {unclear}
        GROUP BY reason ORDER BY count(*) DESC, reason LIMIT $most""",
        {"most": _REASONS},
    ).fetchall()
    found: Counter[str] = Counter()
    for reason, records in rows:
        about = f"SELECT body FROM {_WITH_OUTCOMES} WHERE {unclear} AND reason = ?"
        bodies = connection.execute(about, [reason])
        found[of_request(reason, (body for (body,) in iter(bodies.fetchone, None)))] += records
    return dict(found)


def _reshape(connection: DuckDBPyConnection, key: Sequence[str]) -> None:
    """Give the table of acknowledged rows the columns and types of the outbox."""
    outbox = _types_of(connection, OUTBOX)
    wanted = {name.removeprefix("new."): of for name, of in outbox.items() if name.startswith("new.")}
    known = acknowledged_types(connection)
    if [(name, of.text) for name, of in known.items()] == [(name, of.text) for name, of in wanted.items()]:
        return
    own = f"{', '.join(_OWN_COLUMNS)} FROM {ACKNOWLEDGED} WHERE true"
    if not known:
        own = ", ".join(f"CAST(NULL AS {of}) AS {name}" for name, of in _OWN_COLUMNS.items()) + " WHERE false"
    columns = {name: _carried_over(name, of, known.get(name), name in key) for name, of in wanted.items()}
    listed = ", ".join(f"{value} AS {identifier(name)}" for name, value in columns.items())
    if known and ROW_NUMBER not in key:  # a row whose key is no value of the new type is none of the model's any more
        own += "".join(f" AND ({identifier(n)} IS NULL OR {columns[n]} IS NOT NULL)" for n in key if n in known)
    connection.execute(f"CREATE TABLE {STATE}.main.state_next AS SELECT {listed}, {own}")
    connection.execute(f"DROP TABLE IF EXISTS {ACKNOWLEDGED}")
    connection.execute(f"ALTER TABLE {STATE}.main.state_next RENAME TO state")
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
    moved = f"{_WITH_OUTCOMES} WHERE (outcome = 'accepted' OR action IN ('baseline', 'mark_accepted', 'forget'))"
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
    uncertain = f"{_WITH_OUTCOMES} WHERE outcome = 'accepted' AND {UNCERTAIN} AND o.idempotent"
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
    unsure = f"{_WITH_OUTCOMES} WHERE {of_rows} AND outcome IN ('unsent', 'in_doubt')"
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


def _remember_answers(connection: DuckDBPyConnection, delivery: DeliveryCounts, values: Mapping[str, Any]) -> None:
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
            FROM {_WITH_OUTCOMES} WHERE outcome = 'rejected'""",
            values,
        )
    connection.execute(
        f"""DELETE FROM {IN_DOUBT} WHERE key IN (
            SELECT key FROM {_WITH_OUTCOMES}
            WHERE kind <> '{ONLY_OPTS_OUT}'
            AND (outcome IN ('accepted', 'rejected', 'in_doubt') OR action IN ('baseline', 'mark_accepted'))
        ) OR (resolution IS NOT NULL AND key NOT IN (SELECT key FROM {OUTBOX} WHERE action <> 'refresh'))"""
    )
    if delivery.in_doubt:
        connection.execute(
            f"""INSERT INTO {IN_DOUBT} BY NAME
            SELECT key, kind, body, $now AS sent_at, $run_id AS run_id, reason, {user_sql(connection)} AS identifier
            FROM {_WITH_OUTCOMES} WHERE outcome = 'in_doubt'""",
            values,
        )


def _remember_withheld_rows(connection: DuckDBPyConnection, actions: Collection[str], run_id: str) -> None:
    """Record the users that wait to be deleted, each since the first run of those in a row that listed it.

    One that was to be deleted, and is not yet, has waited all the same: it stays as it is.
    """
    known = f"FROM {REJECTS} WHERE rejected_by = '{WITHHELD}'"
    if connection.execute(f"SELECT 1 {known} LIMIT 1").fetchall():
        is_listed = f"(action = '{WITHHELD}' OR (action = 'send' AND outcome IN ('unsent', 'in_doubt')))"
        connection.execute(f"DELETE {known} AND key NOT IN (SELECT key FROM {_WITH_OUTCOMES} WHERE {is_listed})")
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


def _remember_partial_rows(connection: DuckDBPyConnection, some_invalid: bool, values: Mapping[str, Any]) -> None:
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
