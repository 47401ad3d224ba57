"""What may have changed: the SQL that compares a model with the acknowledged rows in Spark. Pure.

    model ──┐                       ┌── rows of the model that may differ ──┐
            ├── join on the key ────┤                                       ├──> retl: the same comparison as ever
    tables ─┘                       └── the acknowledged rows of these keys ┘

It decides nothing: it leaves out what cannot be a change. What is one is decided where it always is (`duckdb/diff.py`),
by the same SQL, on the few rows that are left. So whatever a value is in two dialects, a row too many costs its way
here, and no more. For that, all rows with one key go together: those of the model, and the acknowledged one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reverse_etl.engines.duckdb.diff import acts_on_gone, notes_absences
from reverse_etl.engines.engine import Comparison
from reverse_etl.engines.spark.types import type_in_spark
from reverse_etl.plan.elsewhere import GONE, Pointer
from reverse_etl.plan.tables import ABSENT_SINCE, RUN_ID, SENT_AT, UNSURE, USER
from reverse_etl.project.spec_collect import FOREVER
from reverse_etl.records.expressions import compared_key, compared_user, respelled_keys
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.sql.quoting import literal, quoted
from reverse_etl.sql.types import FLOATS, SqlType, widens

PINNED_KEYS = "retl_pinned_keys"  # a view: the keys of rows with a pinned cell
IN_MODEL, OF_STATE = "s_read", "t_read"  # columns of the result: the row of the model, or of the state, is there
OWN = {SENT_AT: "TIMESTAMP", RUN_ID: "STRING", UNSURE: "ARRAY<STRING>", ABSENT_SINCE: "TIMESTAMP"}
IS_UNCERTAIN = f"coalesce(array_contains({UNSURE}, {literal(USER)}), false)"  # of its user
IS_PINNED = "t_pinned"
_COPIES, _USERS = "s_copies", "s_users"
_MODEL = "FROM (\n{}\n) AS __model"


@dataclass(frozen=True)
class Sieve:
    """A statement of Spark, and which columns of its result are those of the model, and of the acknowledged rows, of
    which `key` identifies one."""

    sql: str
    of_model: Mapping[str, str]
    of_state: Mapping[str, str]
    key: Sequence[str]


def counts_gone(layout: Layout) -> bool:
    """Whether acknowledged rows that the model lacks are among the result: then the number of its rows follows from
    those of the tables."""
    return acts_on_gone(layout) or notes_absences(layout)


def sieve(
    layout: Layout,
    model: str,
    read: Mapping[str, str],
    comparison: Comparison,
    current: str,
    absent_before: datetime,
    finds_twins: bool,
) -> Sieve:
    """The rows of a model that may differ, and the acknowledged rows of the same keys; and, if it `finds_twins`, all
    rows that share a key, which takes twice as long as all else.

    `read` is what is read of each column of `__model`, `current` a SELECT of the acknowledged rows. Rows that are noted
    as absent, and that since `absent_before` or later, are not looked at again.
    """
    names = [column.name for column in layout.needed]
    of_model = {name: f"s{number}" for number, name in enumerate(names)}
    stored = [*comparison.known, *OWN]
    of_state = {name: f"t{number}" for number, name in enumerate(stored)}
    if layout.whole_row and respelled_keys(layout):
        rows = _of_documents(layout, model, read, comparison, current, of_model, of_state)
        return Sieve(rows, of_model, of_state, layout.key)
    key = [name for name in layout.key if name != ROW_NUMBER]
    parts = ", ".join(comparable(of_model[name], layout.column(name).type) for name in key)
    windows = [f"count(*) OVER (PARTITION BY {parts}) AS {_COPIES}"] if finds_twins or layout.whole_row else []
    if layout.whole_row:
        number = f"row_number() OVER (PARTITION BY {parts} ORDER BY {of_model[key[0]]})"
        of_number = f"s{len(of_model)}"
        windows.append(f"{number} AS {of_number}")
    user = {name: spelled(sql, of_model) for name, sql in compared_user(layout, "s").items()}
    if user:
        windows.append(f"count(*) OVER (PARTITION BY {', '.join(user.values())}) AS {_USERS}")
    columns = ", ".join(f"{read[name]} AS {of_model[name]}" for name in names)
    rows = f"SELECT *, {', '.join([f'true AS {IN_MODEL}', *windows])} FROM (SELECT {columns} {_MODEL.format(model)})"
    state = ", ".join(f"{quoted(name, 'spark')} AS {short}" for name, short in of_state.items())
    have = ""
    if layout.whole_row:
        same_row = ", ".join(comparable(of_state[name], layout.column(name).type) for name in key)
        have = f", count(*) OVER (PARTITION BY {same_row}) AS t_copies"
    there = f"SELECT *, true AS {OF_STATE}{have} FROM (SELECT {state} FROM ({current}) AS __state)"
    if comparison.pinned:
        pinned = " AND ".join(f"x.{of_state[name]} <=> p.{quoted(name, 'spark')}" for name in key if name in of_state)
        there = f"SELECT x.*, p.{IS_PINNED} FROM ({there}) AS x LEFT JOIN {PINNED_KEYS} AS p ON {pinned}"
    numbered = {**of_model, **({ROW_NUMBER: of_number} if layout.whole_row else {})}
    join = "FULL" if counts_gone(layout) else "LEFT"
    same = " AND ".join(_same(layout, name, numbered[name], of_state.get(name)) for name in layout.key)
    listed = ", ".join([*of_model.values(), IN_MODEL, *of_state.values(), OF_STATE])
    differs = _may_differ(layout, comparison, of_model, of_state, user, absent_before, finds_twins)
    sql = f"SELECT {listed} FROM (\n{rows}\n) AS s {join} JOIN (\n{there}\n) AS t ON {same} WHERE {differs}"
    return Sieve(sql, of_model, of_state, layout.key)


def _of_documents(
    layout: Layout,
    model: str,
    read: Mapping[str, str],
    comparison: Comparison,
    current: str,
    of_model: Mapping[str, str],
    of_state: Mapping[str, str],
) -> str:
    """The same where the whole row is the key, and documents are in it, which may be equal and written otherwise.

    All rows that are equal but for their documents go together, if the model has more of some of them, as they are
    written, than are acknowledged.
    """
    types = {short: type_in_spark(layout.column(name).type) for name, short in of_model.items()}
    types |= {short: OWN.get(name) or type_in_spark(comparison.known[name]) for name, short in of_state.items()}
    now = {of_model[name]: read[name] for name in of_model} | {IN_MODEL: "true"}
    before = {of_state[name]: quoted(name, "spark") for name in of_state} | {OF_STATE: "true"}
    key = {name: f"k{number}" for number, name in enumerate(name for name in layout.key if name != ROW_NUMBER)}
    for name, short in key.items():
        of = layout.column(name).type
        now[short] = comparable(read[name], of)
        before[short] = comparable(f"CAST({quoted(name, 'spark')} AS {type_in_spark(of)})", of)
    names = [*of_model.values(), IN_MODEL, *of_state.values(), OF_STATE]

    def side(values: Mapping[str, str]) -> str:
        nothing = {name: f"CAST(NULL AS {types.get(name, 'BOOLEAN')})" for name in names}
        return ", ".join(f"{value} AS {name}" for name, value in {**nothing, **values}.items())

    rows = f"SELECT {side(now)} {_MODEL.format(model)} UNION ALL SELECT {side(before)} FROM ({current}) AS __state"
    run, unsettled = of_state[RUN_ID], _unsettled(comparison, of_state)
    counts = ", ".join(
        f"count({one}) OVER (PARTITION BY {', '.join(key.values())}) AS {name}"
        for one, name in ((IN_MODEL, _COPIES), (OF_STATE, "t_copies"))
    )
    plain = ", ".join(short for name, short in key.items() if not layout.column(name).is_document)
    is_off = f"CASE WHEN {_COPIES} > t_copies OR ({run} IS NOT NULL AND ({' OR '.join(unsettled)})) THEN 1 ELSE 0 END"
    near = (
        f"max({is_off}) OVER (PARTITION BY {plain}) AS s_off, count({IN_MODEL}) OVER (PARTITION BY {plain}) AS s_rows"
    )
    where = "s_rows > 0" if comparison.all_rows else "s_rows > 0 AND s_off = 1"
    counted = f"SELECT *, {counts} FROM ({rows})"
    return f"SELECT {', '.join(names)} FROM (\nSELECT *, {near} FROM ({counted})\n) WHERE {where}"


def _unsettled(comparison: Comparison, of_state: Mapping[str, str]) -> list[str]:
    """SQL for: an acknowledged row may be sent again, whatever the model returns."""
    sent, unsure = of_state[SENT_AT], of_state[UNSURE]
    found = [f"{sent} IS NULL", f"NOT coalesce({unsure} = array({literal(USER)}), true)"]
    return [*found, *([IS_UNCERTAIN.replace(UNSURE, unsure)] if comparison.resends else [])]


def _same(layout: Layout, name: str, now: str, before: str | None) -> str:
    if before is None:  # a column that was added to the key: the acknowledged rows have none
        return f"{now} IS NULL"
    never_null = {part for part, *others in layout.key_parts if not others} if not layout.whole_row else set[str]()
    return f"{now} {'=' if name in never_null else '<=>'} {before}"


def _may_differ(
    layout: Layout,
    comparison: Comparison,
    of_model: Mapping[str, str],
    of_state: Mapping[str, str],
    user: Mapping[str, str],
    absent_before: datetime,
    finds_twins: bool,
) -> str:
    if comparison.all_rows:
        return "true"
    run, absent = of_state[RUN_ID], of_state[ABSENT_SINCE]
    found = [f"{run} IS NULL", *_unsettled(comparison, of_state)]
    if comparison.pinned:
        found.append(f"{IS_PINNED} IS NOT NULL")
    if counts_gone(layout):
        found.append(f"{absent} IS NOT NULL")
    if layout.whole_row:
        found.append(f"{_COPIES} <> t_copies")
    elif finds_twins:
        found.append(f"{_COPIES} > 1")
    if user:
        found.append(f"({_USERS} > 1 AND ({' OR '.join(f'{part} IS NOT NULL' for part in user.values())}))")
    for name in layout.tracked:
        before = of_state.get(name)
        found.append(_differs(layout, name, of_model[name], before, name in comparison.retyped))
    of_row = " OR ".join(found)
    if not counts_gone(layout):
        return of_row
    gone = "true"
    if not acts_on_gone(layout):
        is_over = "false" if layout.sync.keep_removed == FOREVER else f"{absent} < {moment(absent_before)}"
        gone = f"{absent} IS NULL OR {is_over}"
    return f"CASE WHEN {IN_MODEL} IS NULL THEN {gone} ELSE {of_row} END"


def _differs(layout: Layout, name: str, now: str, before: str | None, is_retyped: bool) -> str:
    column = layout.column(name)
    if column.is_json and column.type.family == "varchar":
        now = f"CASE WHEN trim({now}) <> 'null' THEN {now} END"  # the document `null` is a NULL
    is_there = f"{now} IS NOT NULL"
    if before is None:
        return is_there
    if is_retyped:
        return f"({is_there} OR {before} IS NOT NULL)"
    now, before = (comparable(value, column.type) for value in (now, before))
    differs = f"NOT ({now} <=> {before})"
    return f"({is_there} AND {differs})" if layout.sync.nulls == "omit" else differs


def comparable(value: str, of: SqlType, depth: int = 0) -> str:
    """SQL for what is equal only for equal values: Spark compares no maps, and Sail does not group 0 with -0. Maps that
    are inside others keep their order."""
    if of.family in FLOATS:
        return f"({value} + 0D)"
    if of.family == "map":
        key, inner = (child for _, child in of.children)
        entries, x = f"map_entries({value})", f"e{depth}"
        if inner.has("map", *FLOATS):
            parts = f"struct({comparable(f'{x}.key', key, depth + 1)}, {comparable(f'{x}.value', inner, depth + 1)})"
            return f"transform({entries}, {x} -> {parts})"
        return f"array_sort({entries})" if depth == 0 else entries
    if not of.has("map", *FLOATS):
        return value
    if of.family == "list":
        x = f"e{depth}"
        return f"transform({value}, {x} -> {comparable(x, of.children[0][1], depth + 1)})"
    parts = ", ".join(comparable(f"{value}.{quoted(name, 'spark')}", child, depth + 1) for name, child in of.children)
    return f"CASE WHEN {value} IS NOT NULL THEN struct({parts}) END"


def spelled(sql: str, of_model: Mapping[str, str]) -> str:
    """SQL over `s` of DuckDB, which uses columns, CASE and IS NULL alone, with the names of the statement."""
    for name, short in of_model.items():
        sql = sql.replace('s."' + name.replace('"', '""') + '"', short)
    return sql


def moment(at: datetime) -> str:
    return f"timestamp_micros({int(at.timestamp() * 1_000_000)})"


def unfit(layout: Layout) -> list[tuple[str, str]]:
    """The columns of a model that are not compared in Spark, and why."""
    key = compared_key(layout, "s")
    documents = () if layout.whole_row else [name for name, sql in key.items() if "retl_" in sql]
    found = [(name, "is a document in the key") for name in documents]
    found += [(c.name, "has a type that Spark does not store") for c in layout.needed if type_in_spark(c.type) is None]
    return found


# --- the acknowledged rows -------------------------------------------------------------------------------------------


def current_sql(
    pointer: Pointer,
    types: Mapping[str, Mapping[str, SqlType]],
    columns: Mapping[str, SqlType],
    key: Sequence[str],
    of: str | None = None,
) -> str:
    """A SELECT of the acknowledged rows: those of the base, and of each delta those that no later one has. With `of`,
    a view, those whose keys it has.

    `types` are those of the columns of each table, by its name; `columns` those that the rows have by now.
    """
    assert pointer.base
    names = ", ".join(quoted(name, "spark") for name in (*columns, *OWN))
    tables = {table.name: _values(table.name, types[table.name], columns) for table in pointer.tables}
    keys = {name: columns[name] for name in key}

    def rows(name: str, more: str = "") -> str:
        found = f"SELECT {tables[name]}{more} FROM {full_name(pointer.schema, name)}"
        same = _equal(keys, "r", "k")
        return found if of is None else f"SELECT r.* FROM ({found}) AS r LEFT SEMI JOIN {of} AS k ON {same}"

    base = rows(pointer.base.name)
    if not pointer.deltas:
        return base
    parts = [comparable(quoted(name, "spark"), of_key) for name, of_key in keys.items()]
    numbered = " UNION ALL ".join(
        rows(delta.name, f", {GONE}, {number} AS _retl_age") for number, delta in enumerate(pointer.deltas)
    )
    newest = f"row_number() OVER (PARTITION BY {', '.join(parts)} ORDER BY _retl_age DESC)"
    moved = " UNION ALL ".join(rows(delta.name) for delta in pointer.deltas)
    latest = f"SELECT *, {newest} AS _retl_rank FROM ({numbered})"
    return (
        f"SELECT * FROM ({base}) AS b LEFT ANTI JOIN ({moved}) AS d ON {_equal(keys, 'b', 'd')}"
        f" UNION ALL SELECT {names} FROM ({latest}) WHERE _retl_rank = 1 AND NOT {GONE}"
    )


def but_for(rows: str, view: str, keys: Mapping[str, SqlType]) -> str:
    """A SELECT of the rows whose keys, of these types, a view does not have."""
    return f"SELECT r.* FROM ({rows}) AS r LEFT ANTI JOIN {view} AS w ON {_equal(keys, 'r', 'w')}"


def those_of(rows: str, view: str, keys: Mapping[str, SqlType]) -> str:
    """A SELECT of the rows whose keys, of these types, a view has."""
    return f"SELECT r.* FROM ({rows}) AS r LEFT SEMI JOIN {view} AS w ON {_equal(keys, 'r', 'w')}"


def _equal(keys: Mapping[str, SqlType], one: str, other: str) -> str:
    return " AND ".join(
        " <=> ".join(comparable(f"{side}.{quoted(name, 'spark')}", of) for side in (one, other))
        for name, of in keys.items()
    )


def full_name(schema: str, table: str) -> str:
    return ".".join(quoted(part, "spark") for part in (*schema.split("."), table))


def _values(table: str, has: Mapping[str, SqlType], columns: Mapping[str, SqlType]) -> str:
    """The columns that rows have by now, from a table that may have others; of a type that is not just a wider one, no
    value: rows that have one were written anew when that was accepted."""
    listed = []
    for name, of in columns.items():
        column, before = quoted(name, "spark"), has.get(name)
        if before is not None and before.text == of.text:
            listed.append(column)
        else:
            value = column if before is not None and widens(before, of) else "NULL"
            listed.append(f"CAST({value} AS {type_in_spark(of)}) AS {column}")
    return ", ".join([*listed, *(quoted(name, "spark") for name in OWN)])
