"""What changed: the SQL that compares a model with the acknowledged rows, column by column. Pure.

    model ──┐ hashes of each row     ┌──> candidates: rows of the model ──┐ each column in its own type,
            ├── FULL JOIN on them ───┤                                    ├── IS DISTINCT FROM ──> changes
    state ──┘ drops what is the same └──> gone: keys of the state ────────┘

A row of the model with the hashes of an acknowledged row is unchanged, and goes no further: for that, only the hashes
of the state are in memory, and none of its columns. They are recomputed in every run, on both sides, as DuckDB's hashes
change between versions. They have 96 bits: a changed row has those of one of 50 million others once in 1.6e21 rows.

Where the hashes of the state do not fit into memory, the join writes the rows of the model to the disk, with all their
columns. There, hashes alone are joined at first, and rows are fetched of which these differ:

    model, state ── hashes ──> apart: those that the other side lacks ──┐
    model ──────────────────────────────────────────────────────────────┴──> candidates
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

from reverse_etl.engines.engine import Comparison
from reverse_etl.plan.tables import (
    ABSENT_SINCE,
    ACKNOWLEDGED,
    APART,
    CANDIDATES,
    CHANGES,
    GONE,
    MATCHED,
    OUTBOX,
    PINNED,
    PINS,
    RESENT,
    RESPELLED,
    RUN_ID,
    SENT_AT,
    UNSURE,
    USER,
)
from reverse_etl.records.consent import consent_columns
from reverse_etl.records.existing import needed_of_row
from reverse_etl.records.expressions import (
    TWINS_OF_KEY,
    TWINS_OF_USER,
    as_compared,
    canonical,
    identity,
    is_document,
    mergeable,
    respelled_keys,
    value_text,
    was,
)
from reverse_etl.records.json_text import json_text
from reverse_etl.records.layout import CURSOR, ROW_NUMBER, Column, Layout
from reverse_etl.records.left_out import flagged
from reverse_etl.records.mapping import key_text
from reverse_etl.records.rules import left_out_columns
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import bytewise, hashed

MODEL = "/* the model */"  # where the model's SQL goes in `changes_sql`
READ = "_retl_read"  # a column of each row that the model returns; never NULL, and none before it
_HASHES = ("_retl_row_hash", "_retl_key_hash")  # 64 bits of key and row, and 32 of the key alone
_IS_GONE = f"(s.{READ} IS NULL)"
_IS_SURE = f"{SENT_AT} IS NOT NULL AND coalesce({UNSURE} = [{literal(USER)}], true)"


def changes_sql(layout: Layout, comparison: Comparison, hashes_first: bool = False) -> Mapping[str, Callable[[], str]]:
    """The tables to create, in this order, and what makes the SELECT of each: what differs between model and state.

    The last is CHANGES, one row per change: kind, known, "new.<column>", "changed.<column>", "lost.<column>", and
    "old.<column>", the acknowledged value, of columns of consent, and, once there is a state, of those that may be
    left out. The model, whose place in one of them is `MODEL`, runs once, and only rows that may differ are stored:
    that takes half the time of storing all its rows first. Where there are none, nobody needs the longest SELECT.
    With `hashes_first`, where there may be many rows, it runs once more for those that differ.
    """
    if not comparison.known:
        return {CHANGES: lambda: _select_first(layout, _of_first_run(layout))}
    if layout.whole_row and respelled_keys(layout) and not (comparison.all_rows or acts_on_gone(layout)):
        return _events(layout, comparison)
    changes = partial(_changes, layout, comparison)
    if not _is_sifted(layout, comparison):
        return {CHANGES: changes}
    gone_keys = {GONE: partial(_gone, layout, comparison)} if looks_at_gone(layout) else {}
    if hashes_first:
        sifted = {APART: partial(_apart, layout, comparison), CANDIDATES: partial(_candidates_apart, layout)}
    else:
        sifted = {CANDIDATES: partial(_candidates, layout, comparison)}
    return {**sifted, **gone_keys, CHANGES: changes}


def _is_sifted(layout: Layout, comparison: Comparison) -> bool:
    """Whether rows that are unchanged are left out by their hashes."""
    return bool(layout.tracked or notes_absences(layout)) and not (comparison.retyped or comparison.all_rows)


def _changes(layout: Layout, comparison: Comparison) -> str:
    is_sifted = _is_sifted(layout, comparison)
    columns, may_differ = _compared(layout, comparison)
    join = "FULL JOIN" if acts_on_gone(layout) and not is_sifted else "LEFT JOIN"
    rows = _sifted(layout) if is_sifted else _rows_of_model(layout)
    state = _acknowledged(layout, comparison)
    joined = f"""(
{rows}
) AS s {join} {state} AS t ON {_same_key(layout)} WHERE {may_differ}"""
    return f"SELECT {_listed(columns)} FROM {joined}"


def no_changes_sql(layout: Layout, comparison: Comparison) -> str:
    """A SELECT of the columns of CHANGES, without rows: of a model all of whose rows are unchanged. DuckDB would take
    longer to bind the comparison of all columns than to find that out."""
    values = [
        *_values_read(layout),
        *map(was, respelled_keys(layout)),
        *(f"old.{name}" for name in dict.fromkeys((*_consents(layout), *left_out_columns(layout)))),
    ]
    flags = [
        *(f"changed.{name}" for name in layout.tracked),
        *(f"lost.{name}" for name in mergeable(layout)),
        *(f"differs.{name}" for name in _differing(layout, comparison)),
    ]
    types = {"kind": "VARCHAR", "known": "BOOLEAN"} | {n: _type_of(layout, n.partition(".")[2]) for n in values}
    columns = {name: f"CAST(NULL AS {of})" for name, of in (types | dict.fromkeys(flags, "BOOLEAN")).items()}
    return f"SELECT {_listed(columns)} WHERE false"


def _compared(layout: Layout, comparison: Comparison) -> tuple[dict[str, str], str]:
    """The columns of CHANGES, and SQL for: a row may differ; both over rows of the model `s` joined with the state."""
    is_new = "true" if comparison.all_rows else _is_new(layout)
    differs = {name: _differs(layout, name, comparison) for name in layout.tracked}
    kinds = f"WHEN {_IS_GONE} THEN 'removed' WHEN {is_new} THEN 'added'"
    if respelled := _respelled(layout, comparison):
        kinds += f" WHEN NOT ({' OR '.join(differs.values()) or 'false'}) THEN 'unchanged'"
    columns = {
        "kind": f"CASE {kinds} ELSE 'changed' END",
        "known": f"t.{RUN_ID} IS NOT NULL",
        **_new_values(layout, comparison.retyped),
        **{was(name): _state(name) for name in respelled_keys(layout)},
        **_flags(layout, is_new, differs, comparison),
        **_old_values(layout, comparison.retyped),
        **{f"differs.{name}": differs[name] for name in _differing(layout, comparison)},
    }
    is_pinned = [f"coalesce(t.{PINNED}, false)"] if comparison.pinned else []
    return columns, " OR ".join([_IS_GONE, is_new, *is_pinned, *({**differs, **respelled}).values()])


def _differing(layout: Layout, comparison: Comparison) -> tuple[str, ...]:
    """The columns with a flag that tells whether they differ from the acknowledged value."""
    return layout.tracked if comparison.pinned else flagged(layout)


def _events(layout: Layout, comparison: Comparison) -> Mapping[str, Callable[[], str]]:
    """The same where the whole row is the key, and JSON is in it, which only rows that the state lacks have parsed.

    CANDIDATES   rows of the model that the state does not have as they are written
    RESPELLED    rows of the state that may be one of them, written otherwise
    MATCHED      those of them that the model does have as they are written: they are no candidate. It takes another run
                 of the model, which is left out if RESPELLED is empty

    Of rows that are equal, as many are acknowledged as the state has.
    """
    state, exact = _acknowledged(layout, comparison), _same_key(layout)
    of_row = [name for name in layout.key if name != ROW_NUMBER]
    sides = {name: [as_compared(layout, name, of(name)) for of in (_snapshot, _state)] for name in of_row}
    alike = {name: f"{now} IS NOT DISTINCT FROM {before}" for name, (now, before) in sides.items()}
    plain = " AND ".join(sql for name, sql in alike.items() if not is_document(layout, name)) or "true"
    parts = ", ".join(as_compared(layout, name, identifier(name)) for name in of_row)
    ranked = f"SELECT *, row_number() OVER (PARTITION BY {parts}) AS _retl_rank FROM"
    same = " AND ".join([*alike.values(), "s._retl_rank = t._retl_rank"])
    columns = {
        "kind": f"CASE WHEN t.{RUN_ID} IS NULL THEN 'added' ELSE 'unchanged' END",
        "known": f"t.{RUN_ID} IS NOT NULL",
        **_values_read(layout),
        **{was(name): _state(name) for name in respelled_keys(layout)},
    }
    rows = f"(\n{_rows_of_model(layout)}\n) AS s"
    unmatched = f"SELECT t.* FROM {RESPELLED} AS t ANTI JOIN {MATCHED} AS s ON {exact}"
    return {
        CANDIDATES: lambda: f"SELECT s.* FROM {rows} ANTI JOIN {state} AS t ON {exact}",
        RESPELLED: lambda: (
            f"""WITH near AS MATERIALIZED (
                SELECT t.* FROM {state} AS t SEMI JOIN {CANDIDATES} AS s ON {plain}
            )
            SELECT t.* FROM near AS t SEMI JOIN {CANDIDATES} AS s ON {" AND ".join(alike.values())}"""
        ),
        MATCHED: lambda: f"SELECT t.* FROM {RESPELLED} AS t SEMI JOIN {rows} ON {exact}",
        CHANGES: lambda: (
            f"""SELECT {_listed(columns)} FROM ({ranked} {CANDIDATES}) AS s
            LEFT JOIN ({ranked} ({unmatched})) AS t ON {same}"""
        ),
    }


def _candidates(layout: Layout, comparison: Comparison) -> str:
    """A SELECT of the rows of the model that may differ from the state, and of the hashes that only the state has."""
    columns = {column.name: _snapshot(column.name) for column in layout.needed}
    return _joined_by_hashes(layout, comparison, columns | {name: f"t.{name}" for name in _HASHES})


def _apart(layout: Layout, comparison: Comparison) -> str:
    """A SELECT of the hashes that only the model has, with READ, and of those that only the state has."""
    return _joined_by_hashes(layout, comparison, {name: f"coalesce(s.{name}, t.{name})" for name in _HASHES})


def _joined_by_hashes(layout: Layout, comparison: Comparison, columns: Mapping[str, str]) -> str:
    join = "FULL JOIN" if looks_at_gone(layout) else "LEFT JOIN"
    same = " AND ".join(f"s.{name} = t.{name}" for name in _HASHES)
    of_state = f"SELECT {_hashes(layout, _is_settled(comparison))} FROM {_acknowledged(layout, comparison)}"
    return f"""SELECT {_listed({**columns, READ: f"s.{READ}"})} FROM ({_hashed_rows(layout)}) AS s
{join} ({of_state}) AS t ON {same} WHERE {_IS_GONE} OR t.{_HASHES[0]} IS NULL"""


def _hashed_rows(layout: Layout) -> str:
    return f"SELECT *, {_hashes(layout, 'true')} FROM (\n{_rows_of_model(layout)}\n)"


def _candidates_apart(layout: Layout) -> str:
    """The SELECT of candidates, once hashes are known that one side lacks."""
    columns, hashes = ", ".join(identifier(column.name) for column in layout.needed), ", ".join(_HASHES)
    of_model, of_state = (f"SELECT {hashes} FROM {APART} WHERE {READ} IS {what}" for what in ("NOT NULL", "NULL"))
    return f"""SELECT {columns}, {READ} FROM ({_hashed_rows(layout)}) AS s
SEMI JOIN ({of_model}) AS apart USING ({hashes}) UNION ALL BY NAME {of_state}"""


def is_same_again(layout: Layout) -> str:
    """SQL for: the rows among the candidates are those whose hashes only the model had before, when it ran first."""
    hashes = ", ".join(_HASHES)
    before = f"SELECT {hashes} FROM {APART} WHERE {READ} IS NOT NULL"
    again = f"SELECT {_hashes(layout, 'true')} FROM {CANDIDATES} WHERE {READ} IS NOT NULL"
    return f"NOT EXISTS ({before} EXCEPT ALL {again}) AND NOT EXISTS ({again} EXCEPT ALL {before})"


def _gone(layout: Layout, comparison: Comparison) -> str:
    """A SELECT of the keys of the state that the model lacks: neither unchanged nor among the candidates."""
    names = [*layout.key, ABSENT_SINCE] if notes_absences(layout) else layout.key
    keys, hashes = _listed({name: _state(name) for name in names}), ", ".join(_HASHES)
    of_state = f"SELECT *, {_hashes(layout, _is_settled(comparison))} FROM {_acknowledged(layout, comparison)}"
    only_there = f"SELECT {hashes} FROM {CANDIDATES} WHERE {READ} IS NULL"
    in_model = f"(SELECT * FROM {CANDIDATES} WHERE {READ} IS NOT NULL) AS s"
    return f"""SELECT {keys} FROM ({of_state}) AS t
SEMI JOIN ({only_there}) AS only_there USING ({hashes}) ANTI JOIN {in_model} ON {_same_key(layout)}"""


def _sifted(layout: Layout) -> str:
    """A SELECT of the rows of the model that may differ from the state, and of the keys that it lacks."""
    names = ", ".join([*(identifier(column.name) for column in layout.needed), READ])
    of_model = f"SELECT {names} FROM {CANDIDATES} WHERE {READ} IS NOT NULL"
    return f"{of_model} UNION ALL BY NAME SELECT * FROM {GONE}" if acts_on_gone(layout) else of_model


def _is_settled(comparison: Comparison) -> str:
    """SQL for: an acknowledged row is unchanged if its hashes are those of a row of the model."""
    return f"{_IS_SURE} AND NOT {PINNED}" if comparison.pinned else _IS_SURE


def _hashes(layout: Layout, is_sure: str) -> str:
    """The hashes of a row. One of whose values in Braze nobody is sure has those of no row of the model."""
    key, row = (
        [part for name in names for part in hashed(identifier(name), layout.column(name).type)]
        for names in (layout.key, layout.tracked)
    )
    of_row, of_key = f"hash({', '.join([*key, *row, is_sure])})", f"hash({', '.join(key)})"
    return f"{of_row} AS {_HASHES[0]}, CAST({of_key} >> 32 AS UINTEGER) AS {_HASHES[1]}"


def twins_sql(layout: Layout, comparison: Comparison, twins: Mapping[str, tuple[str, Mapping[str, str]]]) -> str:
    """A SELECT of the rows of the model that are twins, as CHANGES has them, whether they differ from the state or not.

    `twins` are, by the column of CHANGES that tells how many rows they are, the table of what several rows share, with
    their number `times`, and SQL over `s` for the parts of it.
    """
    columns = {
        "kind": f"CASE WHEN {_is_new(layout)} THEN 'added' ELSE 'changed' END",
        "known": f"t.{RUN_ID} IS NOT NULL",
        **_values_read(layout),
        **{f"changed.{name}": "true" for name in layout.tracked},
        **{f"lost.{name}": "false" for name in mergeable(layout)},
        **_old_values(layout, comparison.retyped),
    }
    joins = ""
    for column, (table, parts) in twins.items():
        joins += f"\nLEFT JOIN {table} ON {same_parts(table, parts)}"
        columns[column] = f"{table}.times"
    state = _acknowledged(layout, comparison)
    is_twin = " OR ".join(f"{table}.times IS NOT NULL" for table, _ in twins.values())
    return f"""SELECT {_listed(columns)} FROM (
{_rows_of_model(layout, marked=False)}
) AS s{joins}
LEFT JOIN {state} AS t ON {_same_key(layout)} WHERE {is_twin}"""


def same_parts(table: str, parts: Mapping[str, str]) -> str:
    """SQL for: a row has what is in a table of what several rows share."""
    shared = {f"{table}.{identifier(f'part.{name}')}": value for name, value in parts.items()}
    return " AND ".join(f"{part} IS NOT DISTINCT FROM {value}" for part, value in shared.items())


def acts_on_gone(layout: Layout) -> bool:
    """Whether a row that left the model is a change. One that an incremental model does not return is not gone."""
    return layout.returns_all and (layout.sync.on_removed != "ignore" or layout.mode.forgets_removed)


def looks_at_gone(layout: Layout) -> bool:
    """Whether rows of the state that the model lacks are counted: they show whether a key is in the model twice."""
    return acts_on_gone(layout) or (layout.returns_all and bool(layout.tracked)) or notes_absences(layout)


def notes_absences(layout: Layout) -> bool:
    """Whether the state notes since when the model lacks a row, so that it can forget it."""
    is_ignored = layout.sync.on_removed == "ignore" and "keep_removed" in layout.mode.options
    return layout.returns_all and is_ignored


def _rows_of_model(layout: Layout, marked: bool = True) -> str:
    columns = _columns_read(layout)
    if layout.whole_row:
        columns.append(f"{_number(layout)} AS {identifier(ROW_NUMBER)}")
    if marked:  # by a value that DuckDB cannot know in advance: it is computed here, and nowhere else
        columns.append(f"random() AS {READ}")
    return f"SELECT {', '.join(columns)} FROM (\n{MODEL}\n)"


def _number(layout: Layout, order: str = "") -> str:
    """SQL for the number of a row among equal ones."""
    of_row = (layout.column(name) for name in layout.key if name != ROW_NUMBER)
    parts = ", ".join(bytewise(identifier(column.name), column.type) for column in of_row)
    return f"row_number() OVER (PARTITION BY {parts}{order})"


def read_columns(layout: Layout, model: str, names: Collection[str]) -> str:
    """A SELECT of some of what is read of the rows of `model`; they begin on its second line."""
    return f"(SELECT {', '.join(_columns_read(layout, names))} FROM (\n{model}\n))"


def _columns_read(layout: Layout, names: Collection[str] | None = None) -> list[str]:
    needed = [column for column in layout.needed if names is None or column.name in names]
    return [f"{_read(layout, column)} AS {identifier(column.name)}" for column in needed]


def _read(layout: Layout, column: Column) -> str:
    name, of = identifier(column.name), column.type
    value = bytewise(f"CAST({name} AS {of.text})" if of.family in ("varchar", "json") else name, of)
    if column.is_json and of.family in ("varchar", "json"):
        # The document `null` is a NULL: what it does is up to `nulls:`, and it never wipes what retl did not write.
        # `trim` takes longer than all else that is done with a document here, and few need it.
        text = f"CAST({value} AS VARCHAR)"
        value = f"CASE WHEN starts_with({text}, '{{') THEN {value} WHEN trim({text}) <> 'null' THEN {value} END"
    return value


def _acknowledged(layout: Layout, comparison: Comparison) -> str:
    """The acknowledged rows with every column that the layout stores, whatever they had before.

    A column whose name differs in case alone is another one to Braze, and the same one to DuckDB.
    """
    known, retyped = comparison.known, comparison.retyped
    types = {column.name: column.type.text for column in layout.columns}
    wider = [name for name in layout.stored if name in known and name in types and name not in retyped]
    other = {name: f"CAST({identifier(name)} AS {types[name]})" for name in wider if known[name].text != types[name]}
    new = [name for name in layout.stored if name not in known]
    missing = [f"CAST(NULL AS {types[name]}) AS {identifier(name)}" for name in new]
    if comparison.pinned:
        missing.append(f"{key_text(layout.key, identifier)} IN (SELECT key FROM {PINS}) AS {PINNED}")
    folded = {name.casefold() for name in new}
    former = [identifier(name) for name in known if name.casefold() in folded]
    exclude = f" EXCLUDE ({', '.join(former)})" if former else ""
    cast = [name for name in layout.key if name in retyped]
    other |= {name: f"TRY_CAST({identifier(name)} AS {types[name]})" for name in cast}
    if layout.whole_row and any(layout.column(name).type.collated for name in layout.key if name != ROW_NUMBER):
        # Rows that differ in case alone were numbered as equal ones before.
        other[ROW_NUMBER] = _number(layout, f" ORDER BY {identifier(ROW_NUMBER)}")
    if comparison.resends:
        user = needed_of_row(layout.mode, {name: of.family for name, of in known.items()}, identifier)
        is_resent = f"list_contains({UNSURE}, {literal(USER)}) AND {user} IN (SELECT who FROM {RESENT})"
        other[SENT_AT] = f"CASE WHEN NOT coalesce({is_resent}, false) THEN {SENT_AT} END"
    star = f"*{exclude} REPLACE ({_listed(other)})" if other else f"*{exclude}"
    return f"(SELECT {', '.join([star, *missing])} FROM {comparison.acknowledged})"


def first_sql(layout: Layout, rows: str | None = None) -> tuple[str, Collection[str]]:
    """A SELECT of the changes of a first run, with `MODEL` in it, and their columns: every row is new, and nobody knows
    yet which ones are twins. With `rows`, a SELECT of what was read of a model, the changes are these alone."""
    columns = _of_first_run(layout)
    if layout.sets_aside:
        columns |= dict.fromkeys((TWINS_OF_KEY, TWINS_OF_USER), "CAST(NULL AS BIGINT)")
    return _select_first(layout, columns, rows), columns


def first_changes_sql(layout: Layout) -> str:
    """A SELECT of the same changes from the records that became of them: of what is stored of each."""
    names = ["kind", "known", *(f"new.{name}" for name in layout.stored)]
    listed = ", ".join(map(identifier, names))
    if layout.cursor and layout.cursor not in layout.stored:
        listed += f", {CURSOR} AS {identifier(f'new.{layout.cursor}')}"
    return f"SELECT rowid AS rowid, {listed} FROM {OUTBOX}"


def acknowledged_changes_sql(layout: Layout) -> str:
    """A SELECT of the same changes where they are acknowledged rows already, as of a baseline."""
    columns = {"kind": "'added'", "known": "false", **{f"new.{name}": identifier(name) for name in layout.stored}}
    return f"SELECT rowid AS rowid, {_listed(columns)} FROM {ACKNOWLEDGED}"


def _select_first(layout: Layout, columns: Mapping[str, str], rows: str | None = None) -> str:
    return f"SELECT {_listed(columns)} FROM (\n{rows or _rows_of_model(layout, marked=False)}\n) AS s"


def _of_first_run(layout: Layout) -> dict[str, str]:
    columns = {"kind": "'added'", "known": "false", **_values_read(layout)}
    for name in layout.tracked:
        columns[f"changed.{name}"] = "true" if layout.sync.nulls == "send" else f"{_snapshot(name)} IS NOT NULL"
    columns |= {f"lost.{name}": "false" for name in mergeable(layout)}
    columns |= {was(name): f"CAST(NULL AS {_type_of(layout, name)})" for name in respelled_keys(layout)}
    return columns | {f"old.{name}": f"CAST(NULL AS {_type_of(layout, name)})" for name in _consents(layout)}


def _flags(layout: Layout, is_new: str, differs: Mapping[str, str], comparison: Comparison) -> dict[str, str]:
    columns, some_unsure = {}, comparison.some_unsure
    for name, distinct in differs.items():
        has_value, had_value = f"{_snapshot(name)} IS NOT NULL", f"{_state(name)} IS NOT NULL"
        of_new = "true" if layout.sync.nulls == "send" else has_value
        if some_unsure and layout.sync.nulls == "clear":
            of_new = f"({has_value} OR {_is_unsure(name)})"
        of_changed = f"({distinct} OR {has_value})" if layout.sync.send == "all_columns" else distinct
        flag = f"CASE WHEN {is_new} THEN {of_new} ELSE {of_changed} END"
        if acts_on_gone(layout):
            was_set = f"({had_value} OR {_is_unsure(name)})" if some_unsure else had_value
            flag = (
                f"CASE WHEN {_IS_GONE} THEN {was_set if layout.sync.on_removed == 'clear' else 'false'} ELSE {flag} END"
            )
        columns[f"changed.{name}"] = flag
    for name in mergeable(layout):
        old = f"retl_any_json({_state(name)})" if name in comparison.retyped else value_text(layout, name, _state(name))
        current = value_text(layout, name, _snapshot(name))
        loses = f"NOT {_IS_GONE} AND {differs[name]}"
        columns[f"lost.{name}"] = f"CASE WHEN {loses} THEN retl_loses_key({old}, {current}) ELSE false END"
    return columns


def _is_new(layout: Layout) -> str:
    """SQL for: Braze has not acknowledged the row; or its key now belongs to another user, who gets all columns."""
    return f"t.{SENT_AT} IS NULL{_is_another_user(layout)}"


def _is_another_user(layout: Layout) -> str:
    of_users = {part for name in layout.identifiers for part in layout.columns_of(name)}
    if not of_users & set(layout.tracked):
        return ""
    now, before = identity(layout, "s"), identity(layout, "t")
    return "".join(f" OR {_other_value(layout, name, now[name], before[name])}" for name in now)


def _respelled(layout: Layout, comparison: Comparison) -> dict[str, str]:
    """SQL for each column whose values may be equal to Braze, and not as they are: they are stored otherwise."""
    found = {}
    for name in (*layout.tracked, *respelled_keys(layout)):
        now, before = _snapshot(name), _state(name)
        if name in comparison.retyped and name in layout.tracked:
            found[name] = _is_other(layout, name, comparison, f"({now} IS NOT NULL OR {before} IS NOT NULL)")
        elif is_document(layout, name) or name == ROW_NUMBER:
            spelled = f"{now} IS DISTINCT FROM {before}"
            found[name] = _is_other(layout, name, comparison, spelled) if name in layout.tracked else spelled
    return found


def _is_unsure(name: str) -> str:
    return f"coalesce(list_contains(t.{UNSURE}, {literal(name)}), false)"


def _differs(layout: Layout, name: str, comparison: Comparison) -> str:
    """SQL for: Braze has another value."""
    return _is_other(layout, name, comparison, _distinct(layout, name, comparison))


def _distinct(layout: Layout, name: str, comparison: Comparison) -> str:
    now, before = _snapshot(name), _state(name)
    if name not in comparison.retyped:
        return _other_value(layout, name, now, before)
    column, known = layout.column(name), comparison.known[name]
    if column.type.unsendable() or known.unsendable() or (known.family == "varchar" and column.is_json):
        return f"({now} IS NOT NULL OR {before} IS NOT NULL)"  # a VARCHAR may have been JSON text, or not
    now, before = value_text(layout, name, now), json_text(before, known, layout.mode.nested_times)
    other = f"retl_json_canonical({now}) IS DISTINCT FROM retl_json_canonical({before})"
    return f"CASE WHEN {now} IS DISTINCT FROM {before} THEN {other} ELSE false END"


def _other_value(layout: Layout, name: str, now: str, before: str) -> str:
    is_spelled_otherwise = f"{now} IS DISTINCT FROM {before}"
    if not is_document(layout, name):
        return is_spelled_otherwise
    other = f"{canonical(layout, name, now)} IS DISTINCT FROM {canonical(layout, name, before)}"
    return f"CASE WHEN {is_spelled_otherwise} THEN {other} ELSE false END"  # nothing else is parsed


def _is_other(layout: Layout, name: str, comparison: Comparison, distinct: str) -> str:
    if comparison.some_unsure:
        distinct = f"({distinct} OR {_is_unsure(name)})"
    return f"({_snapshot(name)} IS NOT NULL AND {distinct})" if layout.sync.nulls == "omit" else distinct


def _values_read(layout: Layout) -> dict[str, str]:
    names = [column.name for column in layout.needed] + ([ROW_NUMBER] if layout.whole_row else [])
    return {f"new.{name}": _snapshot(name) for name in names}


def _new_values(layout: Layout, retyped: Collection[str]) -> dict[str, str]:
    def kept(name: str) -> str:
        return _kept(layout, name, retyped)

    values = _values_read(layout)
    if layout.sync.nulls == "omit":
        # Braze keeps the value that a NULL does not clear, and so does the state.
        values |= {f"new.{name}": f"coalesce({_snapshot(name)}, {kept(name)})" for name in layout.tracked}
    if acts_on_gone(layout):
        names = layout.stored
        values |= {f"new.{n}": f"CASE WHEN {_IS_GONE} THEN {kept(n)} ELSE {values[f'new.{n}']} END" for n in names}
    return values


def _kept(layout: Layout, name: str, retyped: Collection[str]) -> str:
    """SQL for the acknowledged value of a column, in the type that the model has."""
    if name not in retyped or name in layout.key:
        return _state(name)
    return f"TRY_CAST(CAST({_state(name)} AS VARCHAR) AS {layout.column(name).type.text})"  # from any type to any


def _old_values(layout: Layout, retyped: Collection[str]) -> dict[str, str]:
    values = {f"old.{name}": _kept(layout, name, retyped) for name in _consents(layout)}
    other_user = _is_another_user(layout)
    for name in left_out_columns(layout):  # those of a user who was another one before are not this one's
        kept = _kept(layout, name, retyped)
        values[f"old.{name}"] = f"CASE WHEN false{other_user} THEN NULL ELSE {kept} END" if other_user else kept
    return values


def _consents(layout: Layout) -> list[str]:
    return [column.name for column in consent_columns(layout) if column.name in layout.tracked]


def _same_key(layout: Layout) -> str:
    # NULLs are the same where the whole row is the key, or one of several identifiers; elsewhere a key is never NULL.
    if layout.whole_row:
        return " AND ".join(f"{_snapshot(name)} IS NOT DISTINCT FROM {_state(name)}" for name in layout.key)
    pairs = {name: [as_compared(layout, name, of(name)) for of in (_snapshot, _state)] for name in layout.key}
    never_null = {name for name, *others in layout.key_parts if not others}
    equal = {name: "=" if name in never_null else "IS NOT DISTINCT FROM" for name in layout.key}
    return " AND ".join(f"{now} {equal[name]} {before}" for name, (now, before) in pairs.items())


def _type_of(layout: Layout, name: str) -> str:
    return "BIGINT" if name == ROW_NUMBER else layout.column(name).type.text


def _snapshot(name: str) -> str:
    return f"s.{identifier(name)}"


def _state(name: str) -> str:
    return f"t.{identifier(name)}"


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
