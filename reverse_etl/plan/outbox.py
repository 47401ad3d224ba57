"""Reading the outbox: its records, its invalid rows, a sample of its changes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Kind
from reverse_etl.codes import code_of_reason
from reverse_etl.delivery.batches import Place, Records, Run, Same
from reverse_etl.masking import Keys
from reverse_etl.plan.quarantine import HINT, WAITS, WAITS_UNTIL, reason_of
from reverse_etl.plan.tables import ABSENCES, ACKNOWLEDGED, CHANGES, NEW_PINS, OPEN_RUN, OUTBOX, RULES, RUN
from reverse_etl.plan.workbench import execute
from reverse_etl.records.consent import (
    AFTER_OPT_OUTS,
    INS,
    OUTS,
    PHASES,
    ROW,
    WITHHELD_FOR,
    consent_columns,
    moves_email,
)
from reverse_etl.records.existing import NEEDS
from reverse_etl.records.expressions import TWINS, new
from reverse_etl.records.identity import WHO, text_of, who_in_json
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.records.left_out import LEFT_OUT, TYPE
from reverse_etl.records.mapping import WHOSE, user_text
from reverse_etl.records.rules import NUMBER
from reverse_etl.records.warnings import warnings_of
from reverse_etl.sql.quoting import identifier, literal

SHOWN_INVALID = 20
SHOWN_CHANGES = 5
SHOWN_NAMES = 10
NAMED_BY = {"events": "name", "purchases": "product_id"}
OPT_IN_WITHHELD = f"{identifier(WITHHELD_FOR)} IS NOT NULL AND action <> 'invalid'"

UNCERTAIN = f"action = 'send' AND {NEEDS} IS NOT NULL"  # where the outbox has NEEDS
OPTS_IN = f"action IN ('send', 'blocked') AND len({identifier(INS)}) > 0"


@dataclass(frozen=True)
class InvalidRow:
    """A column of an invalid row, and the rule that it breaks: never the value. A row has one for each such column.
    Of a withheld row, its key and why it is.

    `identifier` is that of the row's user, where `key` is a digest of the whole row, or missing. `code` follows from
    the reason.
    """

    key: str
    column: str
    reason: str
    hint: str
    identifier: str | None = None
    code: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", code_of_reason(self.reason))


@dataclass(frozen=True)
class InvalidReason:
    """How many rows break one rule."""

    column: str
    reason: str
    rows: int
    code: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", code_of_reason(self.reason))


@dataclass(frozen=True)
class SampleChange:
    """A row that is to be sent, with (acknowledged, new) values of every column that is sent. See `InvalidRow`."""

    key: str
    kind: str
    columns: Mapping[str, Sequence[str | None]]
    identifier: str | None = None


def upgrade_outbox(connection: DuckDBPyConnection) -> None:
    """Give a run that an older retl planned today's columns, and today's names of columns and actions.

    The rows of its outbox keep their positions: the journal refers to them. Safe to repeat if it is interrupted.
    """
    connection.execute(
        f"ALTER TABLE IF EXISTS {OUTBOX} ADD COLUMN IF NOT EXISTS phase TINYINT DEFAULT {AFTER_OPT_OUTS}"
    )
    for column in (
        "consent VARCHAR",
        "mode VARCHAR",
        "workspace VARCHAR",
        "released BOOLEAN",
        "identifiers VARCHAR",
        "suppresses BOOLEAN",
        "git_commit VARCHAR",
        "git_dirty BOOLEAN",
        "sql VARCHAR",
        "started_by VARCHAR",
        "plan_digest VARCHAR",
        "ledger VARCHAR",
        "reverts VARCHAR",
    ):
        connection.execute(f"ALTER TABLE {OPEN_RUN} ADD COLUMN IF NOT EXISTS {column}")
    for column, beside in (("absences", ABSENCES), ("pins", NEW_PINS)):
        database, _, table = beside.split(".")
        connection.execute(f"ALTER TABLE {OPEN_RUN} ADD COLUMN IF NOT EXISTS {column} BOOLEAN")
        connection.execute(
            f"""UPDATE {OPEN_RUN} SET {column} = EXISTS (
                FROM duckdb_tables() WHERE (database_name, table_name) = ('{database}', '{table}'))"""
        )
    connection.execute(f"ALTER TABLE IF EXISTS {OUTBOX} ADD COLUMN IF NOT EXISTS {LEFT_OUT} {TYPE}")
    found = f"SELECT column_name FROM duckdb_columns() WHERE database_name = '{RUN}' AND table_name = 'outbox'"
    columns = {name for (name,) in connection.execute(found).fetchall()}
    if "problem" in columns:
        connection.execute("BEGIN")
        connection.execute(f"ALTER TABLE {OUTBOX} RENAME COLUMN problem TO problems")
        as_list = "CASE WHEN problems > 0 THEN [problems] END"
        connection.execute(f"ALTER TABLE {OUTBOX} ALTER COLUMN problems TYPE INTEGER[] USING {as_list}")
        connection.execute("COMMIT")
    if WHO not in columns:
        connection.execute(f"ALTER TABLE {OUTBOX} ADD COLUMN {WHO} VARCHAR")
        if {"envelope", "body"} <= columns:
            connection.execute(f"UPDATE {OUTBOX} SET {WHO} = {_who_of_older_record()} WHERE body IS NOT NULL")
    if "harmless" not in columns:
        return
    for before, now in {"remembered": "previously_rejected", "adopt": "mark_accepted"}.items():
        connection.execute(f"UPDATE {OUTBOX} SET action = ? WHERE action = ?", [now, before])
    connection.execute("BEGIN")
    connection.execute(f"ALTER TABLE {OPEN_RUN} RENAME COLUMN keep TO retention")
    connection.execute(f"ALTER TABLE {OUTBOX} RENAME COLUMN harmless TO idempotent")
    connection.execute("COMMIT")


def _who_of_older_record() -> str:
    """SQL for who a record is about that has no such column: its body tells; where that is an identifier alone, the
    array that it goes into does."""
    document, whole = "TRY_CAST(body AS JSON)", "json_extract_string(TRY_CAST(body AS JSON), '$')"
    arrays = {"external_ids": "external_id", "braze_ids": "braze_id", "emails": "email", "phones": "phone"}
    alone = " ".join(
        f"""WHEN envelope LIKE '%"{array}":[' THEN {text_of(kind, whole)}""" for array, kind in arrays.items()
    )
    return f"coalesce({who_in_json(document)}, CASE {alone} END)"


def read_records(connection: DuckDBPyConnection) -> Records:
    """The records that are to be sent, phase by phase, in the order of the outbox; read a few thousand at a time."""
    found = connection.execute(
        f"""SELECT call, envelope, phase, list(DISTINCT idempotent) FROM {OUTBOX} WHERE action = 'send'
        GROUP BY call, envelope, phase ORDER BY phase, call, envelope"""
    ).fetchall()
    places = {Place(*row): idempotent for *row, idempotent in found}
    return Records([*places], _runs(connection, places))


_NOTHING: Same = ()


def _runs(connection: DuckDBPyConnection, places: Mapping[Place, Sequence[bool]]) -> Iterator[Run]:
    """One for each phase. `places`, each with whether its records are idempotent. DuckDB takes as long for each value
    of a row: what all rows of a phase have, it is not asked for."""
    cursor = connection.cursor()  # of its own: another statement on the connection would spoil an open result
    for phase in PHASES:
        numbers = [number for number, place in enumerate(places) if place.phase == phase]
        if not numbers:
            continue
        of_phase = {place: idempotent for place, idempotent in places.items() if place.phase == phase}
        columns, same = "rowid, body", _NOTHING
        (idempotent, *others) = {value for values in of_phase.values() for value in values}
        if others or len(numbers) > 1:
            columns += f", idempotent, {_number_of_place([*of_phase], numbers[0])}"
        else:
            same = (idempotent, numbers[0])
        cursor.execute(f"SELECT {columns} FROM {OUTBOX} WHERE action = 'send' AND phase = {phase}")
        yield Run(same, iter(lambda: cursor.fetchmany(1000), []))


def _number_of_place(places: Sequence[Place], first: int) -> str:
    """SQL for the number of a row's place: a text for each row would take as long as all else that is read of it."""
    if len(places) == 1:
        return str(first)
    texts = ", ".join(literal(f"{place.call} {place.envelope}") for place in places)
    return f"{first} + enum_code(CAST(call || ' ' || envelope AS ENUM ({texts})))"


def invalid_rows(connection: DuckDBPyConnection, keys: Keys, limit: int = SHOWN_INVALID) -> list[InvalidRow]:
    """The first `limit` rows that break a rule, with all their columns that do, and with keys as `keys` shows them."""
    return _rows_with_reasons(connection, keys, "action = 'invalid'", "problems", limit)


HAS_LEFT_OUT = f"{LEFT_OUT} IS NOT NULL AND action NOT IN ('invalid', 'suppressed', 'given_up')"
HINT_TO_USE = "coalesce('use ' || one.use, hint)"  # the value to use, where it is known; never that of the row


def left_out_rows(connection: DuckDBPyConnection, keys: Keys, limit: int = SHOWN_INVALID) -> list[InvalidRow]:
    """The first `limit` rows of which columns are left out, with these columns, and with keys as `keys` shows them."""
    chosen = (
        f"SELECT *, {user_sql(connection)} AS who FROM {OUTBOX} WHERE {HAS_LEFT_OUT} ORDER BY key, who LIMIT {limit}"
    )
    rows = connection.execute(
        f"""SELECT key, column_name, reason, {HINT_TO_USE}, who
        FROM (SELECT *, unnest({LEFT_OUT}) AS one FROM ({chosen})) JOIN {RULES} ON number = one.number
        ORDER BY key, who, number"""
    ).fetchall()
    return [
        InvalidRow(keys.shown(key), column, why, hint, identifier_of(who, keys)) for key, column, why, hint, who in rows
    ]


def left_out_reasons(connection: DuckDBPyConnection) -> list[InvalidReason]:
    """Why columns are left out, and of how many rows; the most frequent reason first."""
    rows = connection.execute(
        f"""SELECT column_name, reason, count(*) AS times
        FROM (SELECT unnest({LEFT_OUT}) AS one FROM {OUTBOX} WHERE {HAS_LEFT_OUT}) JOIN {RULES} ON number = one.number
        GROUP BY ALL ORDER BY times DESC, column_name, reason"""
    ).fetchall()
    return [InvalidReason(*row) for row in rows]


def warnings(connection: DuckDBPyConnection, layout: Layout) -> list[InvalidReason]:
    """What is to be said of rows that are sent, in the order of their columns, and of how many."""
    rules = warnings_of(layout)
    if not rules:
        return []
    counts = ", ".join(f"count(*) FILTER ({rule.condition})" for rule in rules)
    numbers = execute(connection, f"SELECT {counts} FROM {OUTBOX} WHERE action = 'send'").fetchall()[0]
    return [InvalidReason(rule.column, rule.reason, rows) for rule, rows in zip(rules, numbers, strict=True) if rows]


def withheld_rows(connection: DuckDBPyConnection, keys: Keys, limit: int = SHOWN_INVALID) -> list[InvalidRow]:
    """The first `limit` rows that are withheld, whole or in part, with keys as `keys` shows them."""
    opt_ins = (
        []
        if not may_withhold(connection)
        else _rows_with_reasons(connection, keys, OPT_IN_WITHHELD, identifier(WITHHELD_FOR), limit)
    )
    return opt_ins or _waiting_rows(connection, keys, limit)


def withheld_reasons(connection: DuckDBPyConnection) -> list[InvalidReason]:
    """Why opt-ins are withheld, and of how many rows; the most frequent reason first."""
    if not may_withhold(connection):
        return []
    rows = connection.execute(
        f"""SELECT column_name, reason, count(*) AS times
        FROM (SELECT unnest({identifier(WITHHELD_FOR)}) AS number FROM {OUTBOX} WHERE {OPT_IN_WITHHELD})
        JOIN {RULES} USING (number) GROUP BY ALL ORDER BY times DESC, column_name, reason"""
    ).fetchall()
    return [InvalidReason(*row) for row in rows]


def _waiting_rows(connection: DuckDBPyConnection, keys: Keys, limit: int) -> list[InvalidRow]:
    """The users that wait to be deleted."""
    if WAITS_UNTIL not in connection.sql(f"FROM {OUTBOX}").columns:
        return []
    rows = connection.execute(
        f"""SELECT key, {reason_of(WAITS_UNTIL)}, {user_sql(connection)} AS who FROM {OUTBOX}
        WHERE {WAITS} ORDER BY key, who LIMIT {limit}"""
    ).fetchall()
    column = ", ".join(name for name in keys.columns if name != ROW_NUMBER)
    return [InvalidRow(keys.shown(key), column, why, HINT, identifier_of(who, keys)) for key, why, who in rows]


def _rows_with_reasons(
    connection: DuckDBPyConnection, keys: Keys, condition: str, numbers: str, limit: int
) -> list[InvalidRow]:
    chosen = f"SELECT *, {user_sql(connection)} AS who FROM {OUTBOX} WHERE {condition}"
    rows = connection.execute(
        f"""SELECT key, column_name, {reason_sql(connection)}, hint, who
        FROM (SELECT *, unnest({numbers}) AS number FROM ({chosen} ORDER BY key, who LIMIT {limit}))
        JOIN {RULES} USING (number) ORDER BY key, who, number"""
    ).fetchall()
    return [
        InvalidRow(keys.shown(key), column, why, hint, identifier_of(who, keys)) for key, column, why, hint, who in rows
    ]


def opt_ins_withheld(connection: DuckDBPyConnection) -> int:
    """Of how many rows an opt-in is withheld: of the whole row, or of some of its columns."""
    if not may_withhold(connection):
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {OUTBOX} WHERE {OPT_IN_WITHHELD}").fetchall()[0][0])


def moved_emails(connection: DuckDBPyConnection, layout: Layout) -> tuple[int, int]:
    """How many records change the email of a known user, and how many of these opt the user out with it."""
    if "email" not in layout.tracked:
        return 0, 0
    out = f"list_contains({identifier(OUTS)}, 'email_subscribe')" if consent_columns(layout) else "false"
    counts = f"count(*), count(*) FILTER ({out})"
    return connection.execute(
        f"SELECT {counts} FROM {OUTBOX} WHERE action = 'send' AND {moves_email(layout)}"
    ).fetchall()[0]


def opt_ins(connection: DuckDBPyConnection) -> int:
    """How many rows opt their users in."""
    if not may_withhold(connection):
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {OUTBOX} WHERE {OPTS_IN}").fetchall()[0][0])


def uncertain(connection: DuckDBPyConnection) -> int:
    """How many records need a user whom no other sync of the target has sent."""
    if not may_need_users(connection):
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {OUTBOX} WHERE {UNCERTAIN}").fetchall()[0][0])


def may_need_users(connection: DuckDBPyConnection) -> bool:
    """Whether records of the outbox may need a user that exists."""
    return NEEDS in connection.sql(f"FROM {OUTBOX}").columns


def may_withhold(connection: DuckDBPyConnection) -> bool:
    """Whether opt-ins of the outbox may be withheld."""
    return WITHHELD_FOR in connection.sql(f"FROM {OUTBOX}").columns


def user_sql(connection: DuckDBPyConnection) -> str:
    """SQL over the outbox for whose row it is, as JSON, where the key is a digest of the whole row, or missing; or else
    NULL."""
    if sets_aside(connection):
        return WHOSE
    (identifiers,) = connection.execute(f"SELECT identifiers FROM {OPEN_RUN}").fetchall()[0]
    return user_text(json.loads(identifiers or "[]"), new)


def reason_sql(connection: DuckDBPyConnection) -> str:
    """SQL over the outbox and its rules for why a row is invalid."""
    number = f"coalesce(format('{{:,}}', {TWINS}), '')"
    return f"replace(reason, {literal(NUMBER)}, {number})" if sets_aside(connection) else "reason"


def sets_aside(connection: DuckDBPyConnection) -> bool:
    """Whether rows of the outbox may have no key, or one that other rows have; see `Layout.sets_aside`."""
    return TWINS in connection.sql(f"FROM {OUTBOX}").columns


def identifier_of(who: str | None, keys: Keys) -> str | None:
    """The user of a row, as `user_sql` returns it, for people."""
    return None if who is None else keys.identifier(json.loads(who))


def invalid_reasons(connection: DuckDBPyConnection) -> list[InvalidReason]:
    """The rules that rows of the outbox break, the most frequent first; a row counts for each rule that it breaks."""
    rows = connection.execute(
        f"""SELECT column_name, replace(reason, {literal(NUMBER)}, 'several') AS reason, count(*) AS times
        FROM (SELECT unnest(problems) AS number FROM {OUTBOX} WHERE action = 'invalid') JOIN {RULES} USING (number)
        GROUP BY ALL ORDER BY times DESC, column_name, reason"""
    ).fetchall()
    return [InvalidReason(*row) for row in rows]


def changes_by_column(connection: DuckDBPyConnection, layout: Layout) -> dict[str, int]:
    """How many records contain each tracked column, the most frequent first."""
    if not layout.tracked:
        return {}
    counts = ", ".join(f"count(*) FILTER ({identifier(f'changed.{name}')})" for name in layout.tracked)
    row = connection.execute(f"SELECT {counts} FROM {OUTBOX} WHERE action = 'send'").fetchall()[0]
    found = {name: count for name, count in zip(layout.tracked, row, strict=True) if count}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def most_sent(connection: DuckDBPyConnection, layout: Layout, limit: int = SHOWN_NAMES) -> dict[str, int]:
    """How many records there are of each event or product, the most frequent first; of other modes, nothing."""
    column = NAMED_BY.get(layout.mode.record_type or "")
    if column is None:
        return {}
    rows = connection.execute(
        f"""SELECT json_extract_string(body, '$.{column}') AS name, count(*) AS times
        FROM {OUTBOX} WHERE action = 'send' GROUP BY ALL ORDER BY times DESC, name LIMIT {limit + 1}"""
    ).fetchall()
    return dict(rows)


def sample_changes(
    connection: DuckDBPyConnection,
    layout: Layout,
    known: Mapping[str, str],
    keys: Keys,
    acknowledged: str = ACKNOWLEDGED,
) -> list[SampleChange]:
    """A few records of each kind, the first by key, with acknowledged and new values, column by column; records that
    are sent once and never change, with the members of their JSON.

    `known` are the columns that the rows of `acknowledged` have, with their types; `keys` shows the keys.
    """
    names = [name for name in (layout.tracked or layout.key) if name != ROW_NUMBER]
    old = ", ".join(f"CAST(t.{identifier(name)} AS VARCHAR)" if name in known else "NULL" for name in names)
    now = ", ".join(f"CAST(o.{identifier(f'new.{name}')} AS VARCHAR)" for name in names)
    goes = ", ".join(f"o.{identifier(f'changed.{name}')}" if name in layout.tracked else "true" for name in names)
    types = {column.name: column.type.text for column in layout.columns}
    before = {name: f"t.{identifier(name)}" for name in layout.key}
    retyped = [name for name in layout.key if name in known and name in types and known[name] != types[name]]
    before |= {name: f"TRY_CAST({before[name]} AS {types[name]})" for name in retyped}
    same = [f"{sql} IS NOT DISTINCT FROM o.{identifier(f'new.{name}')}" for name, sql in before.items()]
    joined = f"LEFT JOIN {acknowledged} AS t ON {' AND '.join(same)}" if known else ""
    rows_to_send = f"SELECT *, {user_sql(connection)} AS who FROM {OUTBOX} WHERE action = 'send'"
    first = " UNION ALL ".join(
        f"({rows_to_send} AND kind = '{kind}' ORDER BY key LIMIT {SHOWN_CHANGES})" for kind in Kind
    )
    rows = connection.execute(
        f"""SELECT o.key, o.kind, who, body, [{goes}], [{old}], [{now}]
        FROM ({first}) AS o {joined} ORDER BY o.kind, o.key"""
    ).fetchall()
    changes = []
    for key, kind, who, body, *columns in rows:
        goes_out = {name: pair for name, goes, *pair in zip(names, *columns, strict=True) if goes}
        shown = goes_out if layout.tracked else _members(body) or goes_out
        changes.append(SampleChange(keys.shown(key), kind, shown, identifier_of(who, keys)))
    return changes


def _members(body: str) -> dict[str, list[str | None]]:
    """The members of a record as new values, texts without quotes; none of one that is an identifier alone."""
    record = json.loads(body)
    return {
        name: [None, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
        for name, value in (record.items() if isinstance(record, dict) else ())
    }


def taken_changes(layout: Layout, forgotten: str | None) -> str:
    """A SELECT of the changes that count.

    A row whose cursor is not above `forgotten` may have been in the state before: it does not count as new.
    """
    row = f", rowid AS {identifier(ROW)}" if consent_columns(layout) else ""
    if forgotten is None or layout.cursor is None:
        return f"SELECT *{row} FROM {CHANGES}"
    cursor, of = identifier(f"new.{layout.cursor}"), layout.column(layout.cursor).type.text
    return f"SELECT *{row} FROM {CHANGES} WHERE known OR {cursor} > CAST({literal(forgotten)} AS {of})"
