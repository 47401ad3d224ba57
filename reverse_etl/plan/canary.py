"""The canary of a run: the records that are sent first and read back, so that what Braze drops is known before the rest
goes out.

    outbox ── kinds() ──> each kind of value of each column, with a record that has it
                  │
           smallest_cover() ──> as few records as have them all; then others, up to the number that was asked for
                  │
             choose() ──> their phase is CANARY; opt-outs stay where they are: nothing holds them back
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import CONSENT_FIELDS, OPERATORS
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.plan.workbench import execute
from reverse_etl.records.consent import AFTER_OPT_OUTS, CANARY
from reverse_etl.records.identity import WHO
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import LISTS, MOMENTS, NUMBERS, SqlType

Feature = tuple[str, ...]  # what a record has: its kind, endpoint and identifier; or a column, its value and that kind
_OPERATOR = r'^\s*\{\s*"(' + "|".join(name.replace("$", r"\$") for name in OPERATORS) + r')"\s*:'


@dataclass(frozen=True)
class Chosen:
    """The numbers of the records of a canary, and how many of the `kinds` of values of the run they `cover`."""

    records: tuple[int, ...]
    covered: int
    kinds: int


def choose(
    connection: DuckDBPyConnection, types: Mapping[str, SqlType], documents: Collection[str], most: int
) -> Chosen:
    """Let up to `most` records be the canary of the planned run, and return which they are.

    `types` are those of the columns of the outbox; `documents` are the columns of the model whose text is JSON.
    """
    features = _features(types, documents)
    found = execute(connection, _UNION.join(_widest(one) for one in features)).fetchall()
    candidates = sorted({row for row, *_ in found})
    listed = ", ".join(map(str, candidates)) or "-1"
    having: dict[int, set[Feature]] = {row: set() for row in candidates}
    for row, *feature in execute(connection, _UNION.join(_of_rows(one, listed) for one in features)).fetchall():
        having[row].add(tuple(feature))
    cover = smallest_cover(having, most)
    chosen = [*cover, *_others(connection, cover, most - len(cover))]
    covered = set[Feature]().union(*(having[row] for row in cover))
    phase = f"UPDATE {OUTBOX} SET phase = {CANARY} WHERE phase = {AFTER_OPT_OUTS} AND rowid IN ({_listed(chosen)})"
    connection.execute(phase)
    return Chosen(tuple(sorted(chosen)), len(covered), len({tuple(feature) for _, *feature in found}))


def smallest_cover(having: Mapping[int, Collection[Feature]], most: int) -> list[int]:
    """As few of the records as have all features, or the `most` that have as many as possible: whoever has the most of
    those that are still missing is next. Pure."""
    missing, chosen = set[Feature]().union(*having.values()), list[int]()
    while missing and len(chosen) < most:
        best = max(having, key=lambda row: (len(missing.intersection(having[row])), -row))
        chosen.append(best)
        missing.difference_update(having[best])
    return chosen


# --- features --------------------------------------------------------------------------------------------------------

_UNION = "\nUNION ALL "


@dataclass(frozen=True)
class _Of:
    """SQL for one column of a feature of a record, and for: the record has it."""

    parts: tuple[str, str, str]
    has: str


def _features(types: Mapping[str, SqlType], documents: Collection[str]) -> list[_Of]:
    about = f"split_part({WHO}, ':', 1)" if WHO in types else "''"
    found = [_Of(("kind", "call", about), "true")]
    for flag in types:
        name = flag.removeprefix("changed.")
        of = types.get(f"new.{name}")
        if flag.startswith("changed.") and of:
            value = f"CASE WHEN kind = 'removed' OR {identifier(f'new.{name}')} IS NULL THEN 'null' ELSE {{}} END"
            kind = value.format(_kind_of_value(name, of, name in documents))
            found.append(_Of((literal(name), kind, "kind"), identifier(flag)))
    return found


def _kind_of_value(name: str, of: SqlType, is_json: bool) -> str:
    value = identifier(f"new.{name}")
    if name in CONSENT_FIELDS and of.family == "varchar":
        return value  # each state is a kind of its own
    if is_json or of.family == "json":
        return _kind_of_json(f"CAST({value} AS VARCHAR)")
    if of.family in LISTS:
        return "'array of objects'" if of.children and of.children[0][1].family in ("struct", "map") else "'array'"
    if of.family == "struct":
        names = [child for child, _ in of.children]
        return literal(", ".join(names) if names and set(names) <= set(OPERATORS) else "object")
    if of.family == "varchar":
        return f"CASE WHEN {value} = '' THEN 'empty' ELSE 'string' END"
    static = {"map": "object", "boolean": "boolean"} | dict.fromkeys(MOMENTS, "time") | dict.fromkeys(NUMBERS, "number")
    return literal(static.get(of.family, "string"))


def _kind_of_json(text: str) -> str:
    operator = f"nullif(regexp_extract({text}, {literal(_OPERATOR)}, 1), '')"
    array = f"CASE WHEN regexp_matches({text}, '^\\s*\\[\\s*\\{{') THEN 'array of objects' ELSE 'array' END"
    return f"""CASE left(ltrim({text}), 1) WHEN '{{' THEN coalesce({operator}, 'object') WHEN '[' THEN {array}
        WHEN '"' THEN 'string' WHEN 't' THEN 'boolean' WHEN 'f' THEN 'boolean' ELSE 'number' END"""


def _widest(one: _Of) -> str:
    """A SELECT of each kind of a feature, with the record that has it and the most columns."""
    return f"SELECT arg_max(rowid, attributes), {_parts(one)} FROM {OUTBOX} WHERE {_is_sent(one)} GROUP BY ALL"


def _of_rows(one: _Of, listed: str) -> str:
    return f"SELECT rowid, {_parts(one)} FROM {OUTBOX} WHERE rowid IN ({listed}) AND {_is_sent(one)}"


def _parts(one: _Of) -> str:
    return ", ".join(f"CAST({part} AS VARCHAR) AS f{number}" for number, part in enumerate(one.parts))


def _is_sent(one: _Of) -> str:
    return f"action = 'send' AND coalesce({one.has}, false)"


def _others(connection: DuckDBPyConnection, chosen: Collection[int], most: int) -> list[int]:
    """Further records, as many as there are to be, from anywhere in the outbox."""
    if most <= 0:
        return []
    others = f"FROM {OUTBOX} WHERE action = 'send' AND rowid NOT IN ({_listed(chosen)})"
    return [
        row
        for (row,) in connection.execute(f"SELECT rowid {others} ORDER BY hash(rowid), rowid LIMIT {most}").fetchall()
    ]


def _listed(rows: Collection[int]) -> str:
    return ", ".join(map(str, rows)) or "-1"
