"""Rows of a model that share a key, or a user: they stop the run, or are set aside as invalid rows.

A run stores only rows that may differ from the state. Twins that are both new or changed are among these; one that is
unchanged shows in the counts: every row of the state matches at most one row of the model, or else a key is in the
model twice. Only then does the model run a second time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reverse_etl.engines.duckdb.diff import MODEL, looks_at_gone, read_columns, same_parts, twins_sql
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Comparison
from reverse_etl.errors import DataError
from reverse_etl.masking import Keys
from reverse_etl.plan.tables import CHANGES
from reverse_etl.records.expressions import TWINS_OF_KEY, TWINS_OF_USER, compared_key, compared_user, has_key
from reverse_etl.records.rules import one_row_per, or_skip
from reverse_etl.sql.quoting import identifier
from reverse_etl.words import count

_NAMES_IN_ERRORS = 5  # of duplicate keys, to keep messages short
_ROW = "_retl_row"
OF_MODEL = f"{CHANGES} WHERE kind <> 'removed'"


@dataclass(frozen=True)
class Counts:
    """How many `rows` a model returned, how many of them are among the changes, how many acknowledged rows the state
    has, and how many of those the model lacks, if that was determined."""

    rows: int
    changed: int
    in_state: int
    gone: int | None


@dataclass(frozen=True)
class _Shared:
    """What rows may share: SQL over `s` for its parts, by their names, and for whether a row has it at all.

    `column` marks the twins among the changes, and `table` has what is shared, with the number of rows. `reads` are the
    columns in that SQL.
    """

    column: str
    reads: frozenset[str]
    parts: Mapping[str, str]
    is_known: str

    @property
    def table(self) -> str:
        return identifier(f"retl_{self.column}")


def _shared(query: ModelQuery) -> list[_Shared]:
    """What no two rows of the model may share: the key, and the user, if that is another."""
    layout = query.layout
    key, user = compared_key(layout, "s"), compared_user(layout, "s")
    shared = [_Shared(TWINS_OF_KEY, frozenset(layout.key), key, has_key(layout, lambda name: f"s.{identifier(name)}"))]
    if user:
        named = {part for name in layout.identifiers for part in layout.columns_of(name)} or set(user)
        anyone = " OR ".join(f"{part} IS NOT NULL" for name, part in user.items() if name in named)
        shared.append(_Shared(TWINS_OF_USER, frozenset(named | user.keys()), user, f"({anyone})"))
    return shared


def refuse_twins(query: ModelQuery, counts: Counts, keys: Keys) -> None:
    """Raises DataError for a key, or a user, that the model returns more than once, as `keys` shows it."""
    layout = query.layout
    messages = {
        TWINS_OF_KEY: (
            f'primary_key "{", ".join(layout.key)}" is not unique',
            one_row_per("key", layout),
        ),
        TWINS_OF_USER: (
            f"several rows for the same user ({', '.join([*layout.identifiers, *layout.mode.key_fields])})",
            one_row_per("user", layout),
        ),
    }
    for one in _shared(query):
        place = _place(query, counts, one)
        if place and _find(query, one, place):
            what, hint = messages[one.column]
            hint += or_skip(layout, null_keys=False)
            message = f"{layout.sync.name}: {what}: {_in_words(query, one, keys)}"
            raise DataError(
                message, layout.sync.where("primary_key"), hint, code="D003" if one.column == TWINS_OF_KEY else "D004"
            )


def set_twins_aside(query: ModelQuery, counts: Counts, comparison: Comparison) -> None:
    """Put all rows of the model that share a key, or a user, among the changes, marked with how many they are.

    None of them counts as unchanged, not even one that equals the acknowledged row; and their keys are not gone.
    """
    shared, found, is_read_again = _shared(query), list[_Shared](), False
    for one in shared:
        query.execute(f"ALTER TABLE {CHANGES} ADD COLUMN {identifier(one.column)} BIGINT")
        place = _place(query, counts, one)
        if place and _find(query, one, place):
            found.append(one)
            is_read_again |= place != _changed_rows(query, one)
    if is_read_again:
        _read_again(query, comparison, found)
    else:
        for one in found:
            _mark(query, one)


def has_twins(query: ModelQuery) -> bool:
    """Whether rows of a first run share a key, or a user."""
    return any(_find(query, one, _changed_rows(query, one)) for one in _shared(query))


def _read_again(query: ModelQuery, comparison: Comparison, found: Sequence[_Shared]) -> None:
    for one in found:
        query.execute(f"DELETE FROM {CHANGES} WHERE rowid IN (SELECT {_ROW} FROM ({_twins(query, one)}))")
    select = twins_sql(query.layout, comparison, {one.column: (one.table, one.parts) for one in found})
    before, _, after = f"INSERT INTO {CHANGES} BY NAME\n{select}".partition(MODEL)
    with query.errors(first_line=before.count("\n") + 1):
        query.execute(f"{before}{query.model.sql}{after}")


def _mark(query: ModelQuery, one: _Shared) -> None:
    query.execute(
        f"""UPDATE {CHANGES} SET {identifier(one.column)} = twins.times,
            kind = CASE kind WHEN 'unchanged' THEN 'changed' ELSE kind END
        FROM ({_twins(query, one)}) AS twins WHERE {CHANGES}.rowid = twins.{_ROW}"""
    )


def _twins(query: ModelQuery, one: _Shared) -> str:
    """A SELECT of the rows among the changes that are twins, by their numbers, with how many they are."""
    same = same_parts(one.table, one.parts)
    return f"SELECT s.{_ROW}, {one.table}.times FROM {_changed_rows(query, one)} JOIN {one.table} ON {same}"


def _place(query: ModelQuery, counts: Counts, one: _Shared) -> str | None:
    """The rows among which all twins are: the changes, if none of the other rows can be one, or all of the model's.
    None where there are no such rows."""
    if counts.rows > counts.changed and _may_hide(query, counts, one):
        return f"{read_columns(query.layout, query.narrowed(one.reads), one.reads)} AS s"
    return _changed_rows(query, one) if counts.changed else None


def _may_hide(query: ModelQuery, counts: Counts, one: _Shared) -> bool:
    """Whether a row that is not among the changes may be a twin."""
    changed = counts.changed
    if one.column == TWINS_OF_USER:
        return changed > 0  # those that have not changed were none before
    if counts.gone is None:
        # Counts do not tell; and where nothing has changed, a duplicate in an incremental model does no harm.
        return looks_at_gone(query.layout) or (changed > 0 and query.count(f"{CHANGES} WHERE kind = 'changed'") > 0)
    unknown = query.count(f"{OF_MODEL} AND NOT known") if changed else 0
    return counts.rows - unknown > counts.in_state - counts.gone


def _changed_rows(query: ModelQuery, one: _Shared) -> str:
    columns = ", ".join(f"{identifier(f'new.{name}')} AS {identifier(name)}" for name in sorted(one.reads))
    return f"(SELECT rowid AS {_ROW}, {columns} FROM {OF_MODEL}) AS s"


def _find(query: ModelQuery, one: _Shared, place: str) -> bool:
    """Store what several rows of a place share, with their number; whether there is anything. Where there is nothing,
    hashes tell so in two thirds of the time, unless the model would run for them."""
    if place == _changed_rows(query, one):
        hashes = f"count(DISTINCT hash({', '.join(one.parts.values())}))"
        if query.execute(f"SELECT {hashes} = count(*) FROM {place} WHERE {one.is_known}").fetchall() == [(True,)]:
            return False
    columns = ", ".join(f"{part} AS {identifier(f'part.{name}')}" for name, part in one.parts.items())
    counted = f"SELECT {columns}, count(*) AS times FROM {place} WHERE {one.is_known} GROUP BY ALL HAVING times > 1"
    with query.errors(first_line=2):
        query.execute(f"CREATE OR REPLACE TEMP TABLE {one.table} AS {counted}")
    return query.count(one.table) > 0


def _in_words(query: ModelQuery, one: _Shared, shown: Keys) -> str:
    """How many keys occur several times, in how many rows, and the first of them."""
    keys, times = query.execute(f"SELECT count(*), sum(times) FROM {one.table}").fetchall()[0]
    first = query.execute(f"SELECT * FROM {one.table} ORDER BY ALL LIMIT {_NAMES_IN_ERRORS}").fetchall()
    listed = [f"{' / '.join(_parts(shown, one.parts, key))} ({count(n, 'row')})" for *key, n in first]
    more = f" and {keys - len(first):,} more" if keys > len(first) else ""
    verb = "occurs" if keys == 1 else "occur"
    return f"{count(keys, 'key')} {verb} in {count(times, 'row')}: {', '.join(listed)}{more}"


def _parts(shown: Keys, columns: Iterable[str], key: Sequence[object]) -> list[str]:
    return [str(shown.part(name, part)) for name, part in zip(columns, key, strict=True) if part is not None]
