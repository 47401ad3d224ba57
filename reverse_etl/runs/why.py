"""`retl why`: which run and request brought a value to Braze, and where it comes from.

persons        whoever the key names, by all identifiers that the states know (as `retl forget` finds them)
cells          of each state: its rows about them, and for each column who wrote it, the latest first
sources        of one column: the line of the model, who changed it last, and what the model returns now
"""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import duckdb
from sqlglot import exp

from reverse_etl.braze.comparing import fields_to_read
from reverse_etl.braze.subscriptions import Read
from reverse_etl.delivery.reading import HowToRead, read_users
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import open_session
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import BusyError, DataError, RetlError
from reverse_etl.ledger.lines import LINES, REQUESTS, json_of_value
from reverse_etl.plan.elsewhere import Asked
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, REJECTS, RUNS, SENT_AT
from reverse_etl.plan.workbench import connect
from reverse_etl.project.lineage import line_of
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.identity import HASH_DIGITS, KINDS
from reverse_etl.records.mapping import key_text
from reverse_etl.runs.forgetting import Forgetting, asked_for
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import INTEGERS, TEXTS
from reverse_etl.state.contents import acknowledged_types
from reverse_etl.state.copied import is_copy, readable
from reverse_etl.state.erasing import people_in
from reverse_etl.state.erasures import HASHES
from reverse_etl.state.look import is_there, key_text_of
from reverse_etl.state.opening import open_state
from reverse_etl.state.persons import SEPARATOR, kind_of
from reverse_etl.state.state import State
from reverse_etl.system.clock import Clock
from reverse_etl.words import count

# The field of a profile that sums up the records of an array, and what of a record names what is summed up.
SUMMARIES = {"events": ("custom_events", "name"), "purchases": ("purchases", "product_id")}
_BLAME_S = 5.0  # that git may take
_MANY = 1000  # rows of which one is looked for
_SOUGHT = "retl_sought"  # a temporary table: the persons
_LINE = """l.run_id, key, l.kind, column_name, old, new, l.request, epoch_us(finished_at), r.status, git_commit,
    git_dirty, started_by, plan_digest, r.message, q.path, q.status, epoch_us(q.sent_at), epoch_us(q.answered_at),
    q.objects"""


@dataclass(frozen=True)
class Write:
    """A run that wrote a cell. `old` and `new` are JSON text; None: no value. `request` is None if no request is known
    to have brought it: a baseline, or a row in doubt that was declared to have arrived."""

    run_id: str
    finished_at: datetime
    run_status: str
    kind: str
    old: str | None
    new: str | None
    request: int | None = None
    path: str | None = None
    status: int | None = None
    sent_at: datetime | None = None
    answered_at: datetime | None = None
    objects: int | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    started_by: str | None = None
    plan_digest: str | None = None
    run_message: str | None = None


@dataclass(frozen=True)
class Source:
    """Where the value of a column comes from: line of the model, the commit that changed it last, and what the model
    returns now, as JSON text; `now_unknown` is why that is not known."""

    file: str
    line: int | None = None
    blame: str | None = None
    now: str | None = None
    now_unknown: str | None = None


@dataclass(frozen=True)
class Cell:
    """A column of a row of a sync; `value` is what the state has as acknowledged, as JSON text. `key` is as shown.

    `unsure`: Braze may have it otherwise. `writes` are those that the ledger has, the latest first.
    """

    sync: str
    location: str
    key: str
    column: str | None
    value: str | None
    in_state: bool
    unsure: bool = False
    writes: Sequence[Write] = ()
    source: Source | None = None


@dataclass(frozen=True)
class Why:
    """All that is known of a person or row: its cells, and what is not in Braze, in words. `persons` are as in
    `records/identity.py`; `acts` are the fields of a profile that sum up events and purchases of the rows, each with
    the names or products that are asked about, or None: all."""

    cells: Sequence[Cell]
    notes: Sequence[str] = ()
    persons: Sequence[str] = ()
    acts: Mapping[str, frozenset[str] | None] = field(default_factory=dict)


def why(
    project: LoadedProject, key: str, column: str | None, syncs: Sequence[Sync], run_id: str | None, in_full: bool
) -> Why:
    """What is known of a person, or of the row with a key, in the states of these syncs; of one column, where it comes
    from, too; with `run_id`, only what that run wrote. Raises DataError if no state knows of it."""
    persons = asked_for(_Reading(project, lambda _: None), key).erased
    cells, notes, busy = list[Cell](), list[str](), list[str]()
    of_rows, acts = set[str](), dict[str, frozenset[str] | None]()
    for sync in syncs:
        if not is_there(project, sync):
            continue
        with readable(project, sync) as state:
            if is_copy(state):
                busy.append(f"{sync.name}: in use by a sync; shown is the state from before that run")
            row = state.key_meant(key)
            look = _Look(state, sync, row, persons, in_full)
            with state.shown([row], Asked(persons)):
                found, lacks = [*look.cells(column, run_id)], [*look.notes()]
                notes += lacks
                of_rows |= look.people()
                if (found or lacks) and sync.mode.record_type in SUMMARIES:
                    summary, names = SUMMARIES[sync.mode.record_type][0], look.names()
                    before = acts.get(summary, frozenset[str]())
                    acts[summary] = None if names is None or before is None else before | names
            if column is not None:
                found = [
                    replace(one, source=_source(project, sync, state, look.plain_key(one), column)) for one in found
                ]
            cells += found
    if not cells and not notes:
        said = f" with a column {column}" if column else ""
        at = f" that run {run_id} has written" if run_id else ""
        what = f'no state of target {project.target_name} has a row about "{key}"{said}{at}'
        hint = "pass an external id, an alias name, an e-mail, a phone number, or the key of a row; or check the column"
        raise DataError(what, hint=hint, code="D013")
    known = persons if of_rows & persons or not of_rows else of_rows  # a key of a row that names nobody was guessed at
    return Why(cells, [*busy, *notes], sorted(known), acts)


class _Reading(Forgetting):
    """Whom the states know, as `retl forget` finds them; of a state that a sync is using, its copy."""

    def states(self) -> Iterator[State]:
        for sync in self.project.spec.syncs:
            if is_there(self.project, sync):
                with readable(self.project, sync) as state:
                    yield state
        for place in self.orphans():
            with suppress(BusyError), self._free(partial(open_state, place, None, self.clock)) as state:
                yield state


class _Look:
    """Looks at one state."""

    def __init__(self, state: State, sync: Sync, key: str, persons: Iterable[str], in_full: bool) -> None:
        self._state, self._sync, self._key, self._persons = state, sync, key, sorted(persons)
        self._connection = state.connection
        self._keys = state.keys(in_full=in_full)
        self._plain = dict[str, str]()  # the key of a row, by how it is shown
        values = {"persons": self._persons}
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_SOUGHT} AS SELECT unnest($persons) AS who", values)

    def plain_key(self, cell: Cell) -> str:
        return self._plain[cell.key]

    def cells(self, column: str | None, run_id: str | None) -> Iterator[Cell]:
        rows, written = self._rows(), self._written()
        for key in sorted(rows.keys() | written.keys()):
            shown = self._keys.shown(key)
            self._plain[shown] = key
            values, unsure = rows.get(key, ({}, frozenset[str]()))
            lines = written.get(key, [])
            columns = [*values, *dict.fromkeys(line[3] for line in lines if line[3] and line[3] not in values)]
            for name in columns or [None]:
                if column is not None and name != column:
                    continue
                writes = [*_writes(name, values.get(name) if name else None, lines)]
                writes = [one for one in writes if run_id in (None, one.run_id)]
                if (run_id is not None and not writes) or (name not in values and not writes and name is not None):
                    continue
                where = str(self._sync.where())
                has_row = key in rows
                value = values.get(name) if name else None
                yield Cell(self._sync.name, where, shown, name, value, has_row, name in unsure, writes)

    def notes(self) -> Iterator[str]:
        """What of the person is not in Braze, and why."""
        name, connection = self._sync.name, self._connection
        who = people_in(connection)
        for table, columns in ((REJECTS, "rejected_by, column_name, reason"), (IN_DOUBT, "'in doubt', NULL, reason")):
            if table in who:
                theirs = f"key = $key OR {who[table]} IN (SELECT who FROM {_SOUGHT})"
                sql = f"SELECT DISTINCT key, {columns} FROM {table} WHERE {theirs} ORDER BY ALL"
                keys = defaultdict[tuple[str, str], list[str]](list)  # of one reason
                for key, by, column, reason in connection.execute(sql, {"key": self._key}).fetchall():
                    what = f"{column}: {reason}" if column else reason
                    what = what if self._keys.in_full or by != "braze" else "see `retl rejects`"
                    keys[_NOT_THERE.get(by, by), what].append(self._keys.shown(key))
                for (how, what), shown in keys.items():
                    yield f"{name}: {_counted(list(dict.fromkeys(shown)))} {how}: {what}"
        erasures = self._state.erasures
        if erasures.version:
            erasures.load(connection)
            lines = erasures.hashed(connection, f"SELECT who FROM {_SOUGHT}")
            hashes = [line[-HASH_DIGITS:] for line in lines]
            known = f"SELECT count(*) FROM {HASHES} WHERE list_contains($hashes, right(line, {HASH_DIGITS}))"
            if connection.execute(known, {"hashes": hashes}).fetchall() != [(0,)]:
                yield f"{name}: nothing is sent: the person was erased or deleted"

    def people(self) -> set[str]:
        """Whom the row with the key is about, where that is known; the key itself may name nobody."""
        who = people_in(self._connection)
        sought = [f"SELECT {who[table]} AS who FROM {table} WHERE key = $key" for table in who if table in _LISTS]
        if self._state.ledger.names():
            with self._state.ledger.opened():
                return self._who([*sought, f"SELECT who FROM {LINES} WHERE key = $key"])
        return self._who(sought)

    def _who(self, sought: Sequence[str]) -> set[str]:
        if not sought:
            return set()
        found = self._connection.execute(" UNION ".join(sought), {"key": self._key}).fetchall()
        return {who for (who,) in found if who is not None}

    def names(self) -> frozenset[str] | None:
        """The names of the events or the products of the rows; None if they are not known of all."""
        connection, key, column = (
            self._connection,
            self._state.rows.key(),
            SUMMARIES[self._sync.mode.record_type or ""][1],
        )
        who, found = people_in(connection), set[str]()
        for table in (one for one in _LISTS if one in who):
            theirs = f"key = $key OR {who[table]} IN (SELECT who FROM {_SOUGHT})"
            sql = (
                f"SELECT DISTINCT json_extract_string(TRY_CAST(body AS JSON), '$.{column}') FROM {table} WHERE {theirs}"
            )
            found |= {name for (name,) in connection.execute(sql, {"key": self._key}).fetchall()}
        rows = self._rows()
        if rows and column not in key:
            return None
        place = [*key].index(column) if rows else 0
        found |= {_texts(key, one)[place] for one in rows}
        return None if None in found else frozenset(found)

    def _rows(self) -> dict[str, tuple[dict[str, str | None], frozenset[str]]]:
        """The acknowledged rows, by key: the JSON texts of their columns, and which are unsure."""
        text, types = key_text_of(self._state), acknowledged_types(self._connection)
        if text is None:
            return {}
        key_columns = self._state.rows.key()
        names = [name for name in types if name not in key_columns and not name.startswith("_retl_")]
        values = ", ".join(json_of_value(identifier(name), types[name]) for name in names)
        who = people_in(self._connection).get(ACKNOWLEDGED)
        theirs = f" OR {who} IN (SELECT who FROM {_SOUGHT})" if who else ""
        sql = f"""SELECT {text}, _retl_unsure{f", {values}" if values else ""} FROM {ACKNOWLEDGED}
            WHERE {SENT_AT} IS NOT NULL AND ({text} = $key{theirs})"""
        found = self._connection.execute(sql, {"key": self._key}).fetchall()
        return {key: (dict(zip(names, cells, strict=True)), frozenset(unsure or ())) for key, unsure, *cells in found}

    def _written(self) -> Mapping[str, list[Any]]:
        """The lines of the ledger, by key, the latest first."""
        found = defaultdict[str, list[Any]](list)
        if not self._state.ledger.names():
            return found
        with self._state.ledger.opened():
            sql = f"""SELECT {_LINE} FROM {LINES} AS l JOIN {RUNS} AS r USING (run_id)
                LEFT JOIN {REQUESTS} AS q ON q.run_id = l.run_id AND q.request = l.request
                WHERE key = $key OR who IN (SELECT who FROM {_SOUGHT})
                ORDER BY finished_at DESC, l.run_id DESC, l.kind = 'opted_out', column_name NULLS LAST"""
            for line in self._connection.execute(sql, {"key": self._key}).fetchall():
                found[line[1]].append(line)
        return found


_LISTS = (REJECTS, IN_DOUBT)
_EXAMPLES = 3  # keys of rows of which the same is said
_NOT_THERE = {
    "retl": "invalid",
    "braze": "rejected by Braze",
    "left_out": "sent without a column",
    "consent": "withheld",
    "given_up": "given up",
}


def _writes(column: str | None, value: str | None, lines: Sequence[Any]) -> Iterator[Write]:
    """Who wrote a cell, the latest first, going back from the value that the state has. Pure."""
    now, by_run = value, defaultdict[tuple[str, bool], list[Any]](list)
    for line in lines:
        by_run[line[0], line[2] == "opted_out"].append(line)
    for of_run in by_run.values():
        cell = next((line for line in of_run if line[3] == column), None) if column else None
        row = next((line for line in of_run if line[3] is None), None)
        if cell is not None:
            yield _write(cell, cell[4], cell[5])
            now = cell[4]
        elif row is not None and row[2] in ("added", "resent") and (column is None or now is not None):
            is_first = row[2] == "added"
            yield _write(row, None if is_first else now, now)
            now = None if is_first else now
        elif row is not None and column is None:
            yield _write(row, None, None)


def _write(line: Any, old: str | None, new: str | None) -> Write:
    run_id, _, kind, _, _, _, request, finished, run_status, *origin, path, status, sent, answered, objects = line
    commit, dirty, by, digest, message = origin
    times = (_moment(sent), _moment(answered))
    what = (
        run_id,
        datetime.fromtimestamp(finished / 1e6, UTC),
        run_status,
        kind,
        old,
        new,
        request,
        path,
        status,
        *times,
    )
    return Write(*what, objects, commit, dirty, by, digest, message)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC)


def read_back(project: LoadedProject, found: Why, column: str | None) -> list[dict[str, Any]]:
    """What Braze tells of the person now; of one column, that alone. Raises StateError if it does not tell."""
    asked = next((text for kind in KINDS for text in found.persons if kind_of(text) == kind), None)
    if asked is None:
        return []
    kind, _, value = asked.partition(":")
    label, _, name = value.partition(SEPARATOR)
    user = {"alias_name": name, "alias_label": label} if kind == "user_alias" else {kind: value}
    of_profile = [one for one in found.cells if project.sync(one.sync).mode.record_type not in SUMMARIES]
    columns = sorted({one.column for one in of_profile if one.column})
    columns = [column] if column and (of_profile or not found.acts) else columns
    how = HowToRead(1, Clock(), RetryPolicy(), "")
    person = json.dumps(user)
    with open_session(project) as session:
        users = read_users(session, Read.STATES, [person], (*fields_to_read(columns), *found.acts), how)[person]
    return [_of_columns(user, columns if column else None, found.acts) for user in users]


def _of_columns(
    user: Mapping[str, Any], columns: Sequence[str] | None, acts: Mapping[str, frozenset[str] | None]
) -> dict[str, Any]:
    flat = {**user, **(user.get("custom_attributes") or {})}
    flat.pop("custom_attributes", None)
    sums = {summary: [*summed(user.get(summary), names)] for summary, names in acts.items()}
    return (flat if columns is None else {column: flat.get(column) for column in columns}) | sums


def summed(known: object, names: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    """What Braze knows of each of these names, or of all: how often, first and last. Of one that it does not know, the
    count is 0; it is None if what Braze returned is no number."""
    of_dicts = (one for one in (known if isinstance(known, list) else []) if isinstance(one, dict))
    found = {one["name"]: one for one in of_dicts if isinstance(one.get("name"), str)}
    for name in sorted(found if names is None else names):
        one = found.get(name, {"count": 0})
        number = one.get("count")
        times = number if isinstance(number, int) else None
        yield {"name": name, "count": times, "first": one.get("first"), "last": one.get("last")}


# --- where a value comes from ----------------------------------------------------------------------------------------


def _source(project: LoadedProject, sync: Sync, state: State, key: str, column: str) -> Source:
    try:
        model = project.compile(sync.model)
    except RetlError as error:
        return Source(f"models/{sync.model}.sql", now_unknown=str(error))
    line = line_of(model.sql, column, project.spec.dialect)
    place = model.source_of(line, column) if line else None
    file = place.file if place else model.file
    at = place.line if place else None
    found = Source(file, at, _blame(project, file, at) if at else None)
    try:
        return replace(found, now=_now(project, state, model, key, column))
    except (RetlError, duckdb.Error) as error:
        return replace(found, now_unknown=str(error).splitlines()[0])


def _now(project: LoadedProject, state: State, model: Any, key: str, column: str) -> str | None:
    """The value that the model returns for a row now. Raises DataError if it does not return the row."""
    parts = state.rows.key()
    if not parts or any(name.startswith("_retl_") for name in parts):
        raise DataError("the whole row is its key", code="D013")
    one = model.read_by(f"SELECT * FROM (\n{model.sql}\n) AS retl_why WHERE {_is_row(project, state, key)}")
    with connect() as connection:
        engine = engine_of(project, connection)
        engine.open()
        names, rows = engine.first_rows(one, _MANY, json_of_value)
        engine.close()
    found = (dict(zip(names, row, strict=True)) for row in rows)
    row = next((one for one in found if project.spec.dialect == "duckdb" or _has_key(one, parts, key)), None)
    if row is None:
        what = "the model does not return the row" if len(rows) < _MANY else "too many rows are alike, but for the key"
        raise DataError(what, code="D013")
    if column not in row:
        raise DataError("the model does not have the column", code="D013")
    return None if row[column] is None else str(row[column])


def _is_row(project: LoadedProject, state: State, key: str) -> str:
    """A condition on the rows of a model, in its dialect: where no other warehouse writes a value otherwise than DuckDB
    does, which has written the key. Of columns of other types, all rows are read, up to _MANY."""
    parts, types, dialect = state.rows.key(), state.rows.types(), project.spec.dialect
    if dialect == "duckdb":
        return f"{key_text(parts, identifier)} = {literal(key)}"
    same = [
        exp.EQ(this=exp.cast(exp.column(name, quoted=True), "varchar"), expression=exp.Literal.string(text))
        for name, text in zip(parts, _texts(parts, key), strict=True)
        if types[name].family in TEXTS | INTEGERS
    ]
    return exp.and_(*same).sql(dialect) if same else "1 = 1"


def _has_key(row: Mapping[str, Any], parts: Sequence[str], key: str) -> bool:
    """Whether a row, with JSON texts of its values, has this key."""
    found = [as_json(row[name]) if str(row.get(name)).startswith('"') else row.get(name) for name in parts]
    return found == _texts(parts, key)


def _texts(parts: Sequence[str], key: str) -> list[str]:
    """The text of each column of a key, as `key_text` has written them."""
    return [key] if len(parts) == 1 else [str(text) for text in json.loads(key)]


def _blame(project: LoadedProject, file: str, line: int) -> str | None:
    """The commit that changed a line last; None if it cannot be told."""
    command = ["git", "-c", "core.fsmonitor=false", "blame", "--porcelain", "-L", f"{line},{line}", "--", file]
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.check_output(
            command, cwd=project.folder, text=True, timeout=_BLAME_S, stderr=subprocess.DEVNULL
        )
        first, *rest = said.splitlines()
        about = dict(pair for text in rest if (pair := tuple(text.split(" ", 1))) and len(pair) == 2)
        if set(first[:40]) == {"0"}:
            return "not committed yet"
        at = datetime.fromtimestamp(int(about["author-time"]), UTC)
        return f"{first[:10]}, {at:%Y-%m-%d}, {about['author']}: {about['summary']}"
    return None


def as_json(text: str | None) -> Any:
    """A JSON text as a value; what is none as a string."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _counted(keys: Sequence[str]) -> str:
    """Rows that something is said of: the one, or how many, and the first of them."""
    if len(keys) == 1:
        return f"{keys[0]} is"
    more = ", ..." if len(keys) > _EXAMPLES else ""
    return f"{count(len(keys), 'row')} ({', '.join(keys[:_EXAMPLES])}{more}) are"
