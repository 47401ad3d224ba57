"""Erases persons from a state: which rows are about them, by which other identifiers it knows them, and away with both.

A person is a set of texts, one for each identifier: see `records/identity.py`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from duckdb import DuckDBPyConnection

from reverse_etl.ledger.lines import LINES
from reverse_etl.plan.elsewhere import Asked
from reverse_etl.plan.tables import ACKNOWLEDGED, DELETED, IN_DOUBT, REJECTS, SQLS
from reverse_etl.records.identity import (
    KINDS,
    STRONG_KINDS,
    all_named,
    as_identifiers,
    becomes_sql,
    hash_sql,
    named_in_json,
    others_in_json,
    renames,
)
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state import pins
from reverse_etl.state.contents import acknowledged_types, mode_in, set_version
from reverse_etl.state.erasing import has_rows, people_in, who_of_key
from reverse_etl.state.look import key_text_of
from reverse_etl.state.state import State

SEPARATOR = "\x1f"
_BECOMES = "becomes"
_ALL = (*KINDS, _BECOMES)
_ASKED = "retl_asked"  # a temporary table: the texts of the persons


@dataclass(frozen=True)
class Found:
    """Rows of one state: how many are about a person, by the table that they are in; and lines of its ledger."""

    acknowledged: int = 0
    rejected: int = 0
    in_doubt: int = 0
    ledger: int = 0

    @property
    def rows(self) -> int:
        return self.acknowledged + self.rejected + self.in_doubt


@dataclass
class Persons:
    """The identifiers of the persons who are erased. `others` have e-mails and phones of them, too, which are `shared`:
    rows that have nothing else may be about those, and stay."""

    texts: set[str] = field(default_factory=set)
    others: dict[str, set[str]] = field(default_factory=dict)

    @property
    def shared(self) -> set[str]:
        return set(self.others)

    @property
    def erased(self) -> set[str]:
        return self.texts - self.shared

    def take(self, row: Mapping[str, str | None]) -> bool:
        """Take over what a row knows of somebody, given its identifiers by kind; whether that was news."""
        of_row = {text for text in row.values() if text}
        strong = {text for text in of_row if kind_of(text) in STRONG_KINDS}
        weak = of_row - strong
        before = len(self.texts), len(self.others)
        if strong & self.texts or (not strong and weak & self.texts):
            self.texts |= strong | weak
        elif strong:
            for text in weak & self.texts:
                self.others.setdefault(text, set()).update(strong)
        return (len(self.texts), len(self.others)) != before


def kind_of(text: str) -> str:
    return text.partition(":")[0]


def values_of(texts: Collection[str]) -> set[str]:
    """What is personal of the texts: ids, names of aliases, addresses."""
    return {text.partition(":")[2].rpartition(SEPARATOR)[2] for text in texts}


def text_of_key(key: str) -> str:
    """The text of a person whom no state knows: by what the key looks like."""
    if "@" in key:
        return f"email:{key.strip().lower()}"
    if key.startswith("+"):
        return f"phone:{re.sub('[^0-9]', '', key)}"
    return f"external_id:{key}"


def named_by(state: State, key: str) -> set[str]:
    """The identifiers of a state that a user may mean by a key: an id, the name of an alias, an e-mail, a phone number;
    or the key of a row, as `retl rejects` shows it."""
    key = state.key_meant(key)
    values = {"key": key, "email": key.strip().lower(), "phone": re.sub("[^0-9]", "", key)}
    texts = [f"{kind}:{values.get(kind, key)}" for kind in (*KINDS, "alias_name") if kind != "user_alias"]
    with state.shown([key], Asked(texts)):
        return _named_by(state, key, values)


def _named_by(state: State, key: str, values: Mapping[str, str]) -> set[str]:
    connection, found = state.connection, set[str]()
    for row in _rows_with(connection, values):
        found |= {text for text in row if text}
    by_key = {REJECTS: "key", IN_DOUBT: "key", ACKNOWLEDGED: key_text_of(state)}
    who = people_in(connection)
    if renames(mode_in(connection)):  # the row of a rename is about the new id, and its key is the old one
        who.pop(ACKNOWLEDGED, None)
    for table in by_key.keys() & who.keys():
        sql = f"SELECT DISTINCT {who[table]} FROM {table} WHERE {by_key[table]} = ?"
        found |= {text for (text,) in connection.execute(sql, [key]).fetchall() if text}
    return found


def linked_in(state: State, persons: Persons) -> bool:
    """Take over what a state knows of the persons; whether that was news."""
    _ask(state.connection, persons.texts)
    news = False
    with state.shown((), Asked(persons.texts)):
        for row in _rows_of_texts(state.connection):
            news |= persons.take(row)
    return news


def erase(state: State, texts: Collection[str]) -> Found:
    """Delete all rows about the persons; those that the state has just dropped, as they were erased, count as well.

    Their bytes are still in the file.
    """
    connection = state.connection
    _ask(connection, texts)
    lines = state.ledger.erase(f"SELECT text FROM {_ASKED}")
    value = "substr(text, strpos(text, ':') + 1)"
    connection.execute(
        f"DELETE FROM {SQLS} WHERE EXISTS (FROM {_ASKED} WHERE strlen({value}) > 3 AND contains(sql, {value}))"
    )
    counts = dict[str, int]()
    for table, who in people_in(connection).items():
        row = "DISTINCT key" if table == REJECTS else "*"  # of an invalid row, one for each column that breaks a rule
        is_theirs = f"{who} IN (SELECT text FROM {_ASKED})"
        if table in (REJECTS, IN_DOUBT):  # records of merges and renames name two
            is_theirs = f"({is_theirs} OR {others_in_json('TRY_CAST(body AS JSON)')} IN (SELECT text FROM {_ASKED}))"
        (counts[table],) = connection.execute(f"SELECT count({row}) FROM {table} WHERE {is_theirs}").fetchall()[0]
        connection.execute(f"DELETE FROM {table} WHERE {is_theirs}")
    if any(counts.values()):
        pins.drop_gone(connection)
        set_version(connection, f"forgotten-{state.clock.utc():%Y%m%dT%H%M%S%f}")
    gone = {table: counts.get(table, 0) + state.dropped.get(table, 0) for table in (ACKNOWLEDGED, REJECTS, IN_DOUBT)}
    return Found(gone[ACKNOWLEDGED], gone[REJECTS], gone[IN_DOUBT], lines + state.erased_lines)


def count_hashed(state: State, hashes: Collection[str]) -> int:
    """How many rows of a state, and lines of its ledger, have an identifier with one of these hashes.

    A field of another person is none.
    """
    found, values = (
        state.count_erased(hashes),
        {name: value for name, value in state.erasures.parameters.items() if name != "tags"},
    )
    for table, who in people_in(state.connection).items():
        sql = f"SELECT count(*) FROM {table} WHERE list_contains($hashes, {hash_sql(who)})"
        found += state.connection.execute(sql, {**values, "hashes": list(hashes)}).fetchall()[0][0]
    if state.ledger.names():
        with state.ledger.opened():
            sql = f"SELECT count(*) FROM {LINES} WHERE list_contains($hashes, {hash_sql('who')})"
            found += state.connection.execute(sql, {**values, "hashes": list(hashes)}).fetchall()[0][0]
    return found


def remember_as_deleted(state: State, hashes: Collection[str]) -> None:
    """Let a users_delete sync know that these users are deleted."""
    now = state.clock.utc()
    state.connection.executemany(f"INSERT INTO {DELETED} VALUES (?, ?, 'forget')", [(one, now) for one in hashes])


# --- identifiers of the rows of a state ------------------------------------------------------------------------------


def _ask(connection: DuckDBPyConnection, texts: Collection[str]) -> None:
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_ASKED} AS SELECT unnest($texts::VARCHAR[]) AS text", {"texts": sorted(texts)}
    )


def _rows_of_texts(connection: DuckDBPyConnection) -> Iterator[dict[str, str | None]]:
    for select in _identifiers(connection):
        is_one = " OR ".join(f"{kind} IN (SELECT text FROM {_ASKED})" for kind in _ALL)
        rows = connection.execute(f"SELECT DISTINCT {', '.join(_ALL)} FROM ({select}) WHERE {is_one}").fetchall()
        yield from (dict(zip(_ALL, row, strict=True)) for row in rows)


def _rows_with(connection: DuckDBPyConnection, values: Mapping[str, str]) -> Iterator[tuple[str | None, ...]]:
    """The identifiers that a key names, of all rows."""
    named = {
        kind: f"{literal(f'{kind}:')} || ${kind if kind in values else 'key'}" for kind in KINDS if kind != "user_alias"
    }
    conditions = {kind: f"{kind} = {text}" for kind, text in named.items()}
    conditions["user_alias"] = "ends_with(user_alias, chr(31) || $key)"
    conditions[_BECOMES] = f"({_BECOMES} = 'external_id:' || $key OR ends_with({_BECOMES}, chr(31) || $key))"
    for select in _identifiers(connection):
        shown = ", ".join(f"CASE WHEN {conditions[kind]} THEN {kind} END" for kind in _ALL)
        is_one = " OR ".join(conditions.values())
        yield from connection.execute(f"SELECT DISTINCT {shown} FROM ({select}) WHERE {is_one}", values).fetchall()


def _identifiers(connection: DuckDBPyConnection) -> Iterator[str]:
    """SELECTs of all identifiers of the rows of a state, one column for each kind, and one for what it becomes."""
    families, mode = {name: of.family for name, of in acknowledged_types(connection).items()}, mode_in(connection)
    if families and has_rows(connection, ACKNOWLEDGED):
        becomes = becomes_sql(mode, families, identifier)
        kinds = all_named(*as_identifiers(mode, families, identifier))
        yield _select({**kinds, **({_BECOMES: becomes} if becomes else {})}, ACKNOWLEDGED)
    for table in filter(partial(has_rows, connection), (REJECTS, IN_DOUBT)):
        by_key = who_of_key(connection)
        documents = [named_in_json(f"TRY_CAST({column} AS JSON)") for column in ("identifier", "body")]
        kinds = {kind: f"coalesce({', '.join(one[kind] for one in documents)})" for kind in KINDS}
        own = {kind: f"CASE WHEN starts_with({by_key}, {literal(f'{kind}:')}) THEN {by_key} END" for kind in KINDS}
        of_both = {kind: f"coalesce({kinds[kind]}, {own[kind]})" for kind in KINDS}
        becomes_too = {_BECOMES: others_in_json("TRY_CAST(body AS JSON)")} if renames(mode) else {}
        yield _select({**of_both, **becomes_too}, table)


def _select(kinds: Mapping[str, str], table: str) -> str:
    columns = ", ".join(f"{kinds.get(kind, 'CAST(NULL AS VARCHAR)')} AS {kind}" for kind in _ALL)
    return f"SELECT {columns} FROM {table}"
