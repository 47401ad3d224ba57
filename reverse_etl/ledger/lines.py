"""What a run changes, as lines of the ledger: SQL over its outbox, its outcomes and the acknowledged rows. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reverse_etl.braze.modes import USER, calls_that_end
from reverse_etl.plan.tables import ACKNOWLEDGED, OUTBOX, SENT_AT
from reverse_etl.records.consent import ONLY_OPTS_OUT
from reverse_etl.records.identity import KINDS, WHO, columns_named, who_sql
from reverse_etl.records.json_text import json_text
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import CLOCK_TIMES, MOMENTS, NUMBERS, TEXTS, SqlType

LINES, REQUESTS = "retl_ledger", "retl_ledger_requests"  # views: see the package
COLUMNS = {
    "run_id": "VARCHAR",
    "key": "VARCHAR",
    "who": "VARCHAR",
    "kind": "VARCHAR",
    "column_name": "VARCHAR",
    "old": "VARCHAR",
    "new": "VARCHAR",
    "request": "INTEGER",
}
COLUMNS_OF_REQUESTS = {
    "run_id": "VARCHAR",
    "request": "INTEGER",
    "path": "VARCHAR",
    "status": "SMALLINT",
    "outcome": "VARCHAR",
    "sent_at": "TIMESTAMPTZ",
    "answered_at": "TIMESTAMPTZ",
    "objects": "INTEGER",
    "rejected": "INTEGER",
}
# Strings in a dictionary would take twice the time to write, and more space: most are of one line only.
FORMAT = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 1)"
_MOVED = "(outcome = 'accepted' OR action IN ('baseline', 'mark_accepted', 'forget'))"
_WHOLE = "kind IN ('added', 'removed')"


@dataclass(frozen=True)
class Moved:
    """What a run moves. `records` is SQL for its outbox `o` with outcomes, `outbox` and `state` are the columns of its
    outbox and of the acknowledged rows as they were before, `keys` SQL for the key of a record as the state has it.
    `taken`, if there is any, is a SELECT of the key of other rows that were added, and of who they are about."""

    run_id: str
    records: str
    outbox: Mapping[str, SqlType]
    state: Mapping[str, SqlType]
    keys: Mapping[str, str]
    taken: str = ""

    @property
    def tracked(self) -> list[str]:
        return [name.removeprefix("changed.") for name in self.outbox if name.startswith("changed.")]

    @property
    def rows(self) -> str:
        """The records that move the state. Nothing is written of whom a run deletes or merges."""
        ending = ", ".join(map(literal, calls_that_end(USER)))
        return f"{_MOVED} AND coalesce(call NOT IN ({ending}), true)"


def flagged_sql(moved: Moved) -> str:
    """A SELECT of what to look for: rows that are sent whole or gone, those that were known, and by tracked column. Of
    all records, whatever became of them: to join them with that would take longer."""
    flags = ", ".join(f"coalesce(bool_or({identifier(f'changed.{name}')}), false)" for name in moved.tracked)
    whole = f"coalesce(bool_or({_WHOLE}), false), coalesce(bool_or(known AND {_WHOLE}), false)"
    return f"SELECT {whole}{f', {flags}' if flags else ''} FROM {OUTBOX} AS o"


def lines_sql(moved: Moved, columns: Collection[str], has_rows: bool, has_known: bool) -> str:
    """A SELECT of the lines of a run; of these of its tracked columns. `has_rows`: some were sent whole, or are gone;
    `has_known`: and were known before."""
    line = f"{literal(moved.run_id)} AS run_id, o.key AS key, {_who()} AS who"
    kind, known = "o.kind", ""
    if has_known and moved.state:
        was_there = f"t.{SENT_AT} IS NOT NULL AND {_is_same_user(moved)}"
        kind = f"CASE WHEN o.kind = 'added' AND {was_there} THEN 'resent' ELSE o.kind END"
        known = f"LEFT JOIN {ACKNOWLEDGED} AS t ON known AND {_same_key(moved)}"
    rows = f"""SELECT {line}, {kind} AS kind, CAST(NULL AS VARCHAR) AS column_name, CAST(NULL AS VARCHAR) AS old,
            CAST(NULL AS VARCHAR) AS new, CAST(f.request AS INTEGER) AS request
        FROM {moved.records} {known} WHERE {moved.rows} AND o.{_WHOLE}"""
    if moved.taken:
        rows += f" UNION ALL SELECT {line}, 'added', NULL, NULL, NULL, NULL FROM ({moved.taken}) AS o"
    if not columns:
        return rows
    kind = f"CASE WHEN o.kind = '{ONLY_OPTS_OUT}' THEN 'opted_out' ELSE o.kind END"
    cells = ", ".join(_cell(moved, name) for name in columns)
    join = f"LEFT JOIN {ACKNOWLEDGED} AS t ON {_same_key(moved)}" if moved.state else ""
    of_cells = f"""SELECT {line}, {kind} AS kind, f.request AS request, unnest([{cells}]) AS cell
        FROM {moved.records} {join} WHERE {moved.rows} AND (known OR kind = '{ONLY_OPTS_OUT}')"""
    return f"""{f"{rows} UNION ALL" if has_rows else ""}
        SELECT run_id, key, who, kind, cell.n AS column_name, cell.o AS old, cell.w AS new,
            CAST(request AS INTEGER) AS request
        FROM ({of_cells}) WHERE cell IS NOT NULL"""


def requests_sql(run_id: str, requests: str) -> str:
    """A SELECT of the requests of a run, of those that the journal has."""
    columns = ", ".join(f"CAST({name} AS {of}) AS {name}" for name, of in COLUMNS_OF_REQUESTS.items())
    return f"SELECT {columns} FROM (SELECT {literal(run_id)} AS run_id, * FROM {requests}) ORDER BY request"


def _cell(moved: Moved, name: str) -> str:
    """SQL for a cell of a record, as a struct of its name, its old and its new value; NULL if it has no line."""
    flag, new_value = (f"o.{identifier(f'{prefix}.{name}')}" for prefix in ("changed", "new"))
    now, new = moved.outbox[f"new.{name}"], json_of_value(new_value, moved.outbox[f"new.{name}"])
    new = f"CASE WHEN o.kind <> 'removed' THEN {new} END"
    before = moved.state.get(name)
    if before is None:
        is_one = f"{flag} AND NOT {_WHOLE}"
        return f"CASE WHEN {is_one} THEN {{'n': {literal(name)}, 'o': CAST(NULL AS VARCHAR), 'w': {new}}} END"
    old_value = f"t.{identifier(name)}"
    old = json_of_value(old_value, before)
    other = f"{old_value} IS DISTINCT FROM {new_value}" if before.text == now.text else f"{old} IS DISTINCT FROM {new}"
    was_there = f"t.{SENT_AT} IS NOT NULL"
    is_one = f"""CASE o.kind WHEN 'removed' THEN {was_there} AND {old_value} IS NOT NULL
        WHEN 'added' THEN {was_there} AND {other} AND {_is_same_user(moved)} ELSE {flag} END"""
    return f"CASE WHEN {is_one} THEN {{'n': {literal(name)}, 'o': {old}, 'w': {new}}} END"


def _same_key(moved: Moved) -> str:
    """SQL for: the acknowledged row `t` is that of the record, whatever the type of its key was."""
    pairs = []
    for name, value in moved.keys.items():
        before, now = moved.state.get(name), moved.outbox[f"new.{name}"]
        column = f"t.{identifier(name)}" if before else "NULL"
        is_other = before is not None and before.text != now.text
        pairs.append(f"{f'TRY_CAST({column} AS {now.text})' if is_other else column} IS NOT DISTINCT FROM {value}")
    return " AND ".join(pairs)


def _is_same_user(moved: Moved) -> str:
    """SQL for: the row was about the same user before. What another one has stays, and was not this one's."""
    shared = [name for name in columns_named(moved.state) if f"new.{name}" in moved.outbox]
    if set(shared) <= set(moved.keys):
        return "true"
    families = {name: moved.state[name].family for name in shared}
    before = who_sql(families, lambda name: f"t.{identifier(name)}")
    now = who_sql(families, lambda name: f"o.{identifier(f'new.{name}')}")
    return f"{before} IS NOT DISTINCT FROM {now}"


# --- who a line is about ---------------------------------------------------------------------------------------------


def _who() -> str:
    """SQL for who a record is about, as files have it: the kind of the identifier alone, where the key is the rest."""
    about = f"o.{identifier(WHO)}"
    end = f"strpos({about}, ':')"
    return f"CASE WHEN substr({about}, {end} + 1) = o.key THEN left({about}, {end}) ELSE {about} END"


def who_of_line() -> str:
    """SQL over a line of a file for who it is about."""
    kinds = ", ".join(literal(f"{kind}:") for kind in KINDS)
    return f"CASE WHEN who IN ({kinds}) THEN who || key ELSE who END"


# --- the text of a value ---------------------------------------------------------------------------------------------


def json_of_value(value: str, of: SqlType) -> str:
    """SQL for the JSON text of a value, from which `value_of_json` makes the same value."""
    if of.family == "json":
        return f"CAST({value} AS VARCHAR)"
    if of.is_nested:
        return f"CAST(to_json({value}) AS VARCHAR)"
    if of.family in NUMBERS | {"boolean", "null"} | TEXTS | CLOCK_TIMES:
        return json_text(value, of)
    return f"CAST(to_json(CAST({value} AS VARCHAR)) AS VARCHAR)"  # times keep all their digits


def value_of_json(text: str, of: SqlType) -> str:
    """SQL for a value of a type, given its JSON text; NULL if it is none of that type."""
    if of.family in NUMBERS | {"boolean"}:
        return f"TRY_CAST({text} AS {of.text})"
    if of.is_nested:
        return f"TRY_CAST(TRY_CAST({text} AS JSON) AS {of.text})"
    if of.family in MOMENTS | TEXTS | CLOCK_TIMES:
        return f"TRY_CAST(json_extract_string({text}, '$') AS {of.text})"
    return f"CAST(NULL AS {of.text})"


def names_sql(names: Sequence[str]) -> str:
    """SQL for a list of strings."""
    return f"[{', '.join(map(literal, names))}]"
