"""What changed: the SQL that compares a snapshot with the acknowledged rows, column by column. Pure.

Columns are compared in their own types with IS DISTINCT FROM. No hashes: they cost twice as much, and DuckDB's change
between versions.
"""

from collections.abc import Iterable

from reverse_etl.columns import ROW_NUMBER, Layout
from reverse_etl.expressions import identity, mergeable
from reverse_etl.mapping import value_text
from reverse_etl.sql import identifier

STATE = "retl_state"
RUN = "retl_run"
SNAPSHOT = f"{RUN}.main.snapshot"
ACKNOWLEDGED = f"{STATE}.main.state"
RUN_ID = "_retl_run_id"  # which run sent the row; never NULL, so that it tells a row that is there from one that is not


def changes_sql(layout: Layout, known_columns: Iterable[str], retyped: Iterable[str] = ()) -> str:
    """A SELECT of what differs between the snapshot and the acknowledged rows, one row a change.

    `known_columns` are the columns that the state has already: none of them means that there is no state, or that it is
    not to be looked at. A column in `retyped` counts as changed wherever it has, or had, a value.
    """
    known = frozenset(known_columns)
    changes = _added_and_changed(layout, known, frozenset(retyped))
    if known and (layout.sync.on_removed != "ignore" or layout.mode.forgets_removed):
        changes += f"\nUNION ALL BY NAME\n{_removed(layout, known)}"
    return changes


def _added_and_changed(layout: Layout, known: frozenset[str], retyped: frozenset[str]) -> str:
    is_new = f"t.{RUN_ID} IS NULL" if known else "true"
    moved = [name for name in layout.tracked if name in known and name in _identity_columns(layout)]
    if moved:
        # Another user now stands behind the key: this one gets all columns, as a new row does.
        pairs = zip(identity(layout, "s"), identity(layout, "t"), strict=True)
        is_new = f"({is_new} OR {' OR '.join(f'{left} IS DISTINCT FROM {right}' for left, right in pairs)})"
    columns = {
        "kind": f"CASE WHEN {is_new} THEN 'added' ELSE 'changed' END",
        "known": f"t.{RUN_ID} IS NOT NULL" if known else "false",
    }
    differs = {name: _differs(layout, name, known, retyped) for name in layout.tracked}
    for column in layout.needed:
        columns[f"new.{column.name}"] = _new_value(layout, column.name, known)
    if layout.whole_row:
        columns[f"new.{ROW_NUMBER}"] = f"s.{identifier(ROW_NUMBER)}"
    for name, distinct in differs.items():
        has_value = f"s.{identifier(name)} IS NOT NULL"
        of_new = "true" if layout.sync.nulls == "send" else has_value
        of_changed = f"({distinct} OR {has_value})" if layout.sync.send == "all_columns" else distinct
        columns[f"changed.{name}"] = f"CASE WHEN {is_new} THEN {of_new} ELSE {of_changed} END"
    for name in mergeable(layout):
        columns[f"lost.{name}"] = _loses_key(layout, name, differs[name], known)
    select = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
    if not known:
        return f"SELECT {select} FROM {SNAPSHOT} AS s"
    where = " OR ".join([is_new, *differs.values()])
    return f"SELECT {select} FROM {SNAPSHOT} AS s LEFT JOIN {ACKNOWLEDGED} AS t ON {_same_key(layout)} WHERE {where}"


def _identity_columns(layout: Layout) -> frozenset[str]:
    return frozenset(part for name in layout.identifiers for part in layout.columns_of(name))


def _differs(layout: Layout, name: str, known: frozenset[str], retyped: frozenset[str]) -> str:
    value = f"s.{identifier(name)}"
    if name not in known:
        return f"{value} IS NOT NULL"
    if name in retyped:
        distinct = f"({value} IS NOT NULL OR t.{identifier(name)} IS NOT NULL)"
    else:
        distinct = f"{value} IS DISTINCT FROM t.{identifier(name)}"
    return f"({value} IS NOT NULL AND {distinct})" if layout.sync.nulls == "omit" else distinct


def _new_value(layout: Layout, name: str, known: frozenset[str]) -> str:
    """With `nulls: omit` Braze keeps the value that a NULL does not clear, and so does the state."""
    value = f"s.{identifier(name)}"
    keeps = layout.sync.nulls == "omit" and name in layout.tracked and name in known
    return f"coalesce({value}, t.{identifier(name)})" if keeps else value


def _loses_key(layout: Layout, name: str, distinct: str, known: frozenset[str]) -> str:
    if name not in known:
        return "false"
    old, current = (value_text(layout, name, f"{table}.{identifier(name)}") for table in ("t", "s"))
    return f"CASE WHEN {distinct} THEN retl_loses_key({old}, {current}) ELSE false END"


def _removed(layout: Layout, known: frozenset[str]) -> str:
    columns = {"kind": "'removed'", "known": "true"}
    columns |= {f"new.{name}": f"t.{identifier(name)}" for name in layout.stored if name in known}
    clears = layout.sync.on_removed == "clear"
    for name in layout.tracked:
        had_value = f"t.{identifier(name)} IS NOT NULL" if name in known and clears else "false"
        columns[f"changed.{name}"] = had_value
    select = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
    return f"SELECT {select} FROM {ACKNOWLEDGED} AS t ANTI JOIN {SNAPSHOT} AS s ON {_same_key(layout)}"


def _same_key(layout: Layout) -> str:
    # Keys are never NULL, save where the whole row is the key: there two NULLs are the same.
    equals = "IS NOT DISTINCT FROM" if layout.whole_row else "="
    return " AND ".join(f"s.{identifier(name)} {equals} t.{identifier(name)}" for name in layout.key)
