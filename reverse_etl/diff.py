"""What changed: the SQL that compares a snapshot with the acknowledged rows, column by column. Pure.

Columns are compared in their own types with IS DISTINCT FROM. No hashes: they cost twice as much, and DuckDB's change
between versions.
"""

from collections.abc import Collection

from reverse_etl.columns import ROW_NUMBER, Layout
from reverse_etl.expressions import identity, mergeable
from reverse_etl.mapping import value_text
from reverse_etl.sql import identifier, literal

STATE = "retl_state"
RUN = "retl_run"
SNAPSHOT = f"{RUN}.main.snapshot"
OUTBOX = f"{RUN}.main.outbox"
ACKNOWLEDGED = f"{STATE}.main.state"
SENT_AT = "_retl_sent_at"
RUN_ID = "_retl_run_id"  # which run sent the row; never NULL, so that it tells a row that is there from one that is not
UNSURE = "_retl_unsure"  # columns of which nobody knows whether Braze has this value or another that was sent


def changes_sql(
    layout: Layout,
    known: Collection[str],
    retyped: Collection[str] = (),
    all_rows: bool = False,
    forgotten: str | None = None,
    some_unsure: bool = False,
) -> str:
    """A SELECT of what differs between the snapshot and the acknowledged rows, one row a change.

    `known` are the columns that the state has; none means that there is no state yet. A column in `retyped` counts as
    changed wherever it has, or had, a value. With `all_rows`, every row of the snapshot counts as added. A row whose
    cursor is not above `forgotten` may have been known once: it is not taken as new. With `some_unsure`, a column that
    the state is unsure of counts as changed: Braze may have got a value that the state does not know of.
    """
    if not known:
        return _first_run(layout)
    changes = _added_and_changed(layout, _acknowledged(layout, known, retyped), retyped, all_rows, some_unsure)
    if forgotten is not None and layout.cursor:
        cursor, of = identifier(f"new.{layout.cursor}"), layout.column(layout.cursor).type.text
        changes = f"SELECT * FROM ({changes}) WHERE known OR {cursor} > CAST({literal(forgotten)} AS {of})"
    if layout.cursor is None and (layout.sync.on_removed != "ignore" or layout.mode.forgets_removed):
        changes += f"\nUNION ALL BY NAME\n{_removed(layout, _acknowledged(layout, known, retyped), some_unsure)}"
    return changes


def _acknowledged(layout: Layout, known: Collection[str], retyped: Collection[str]) -> str:
    """The acknowledged rows with every column that the layout stores, whatever they had before."""
    types = {column.name: column.type.text for column in layout.columns}
    missing = [f"CAST(NULL AS {types[name]}) AS {identifier(name)}" for name in layout.stored if name not in known]
    cast = [name for name in layout.key if name in retyped]
    casts = ", ".join(f"TRY_CAST({identifier(name)} AS {types[name]}) AS {identifier(name)}" for name in cast)
    star = f"* REPLACE ({casts})" if casts else "*"
    return f"(SELECT {', '.join([star, *missing])} FROM {ACKNOWLEDGED})"


def _first_run(layout: Layout) -> str:
    columns = {"kind": "'added'", "known": "false", **_new_values(layout)}
    for name in layout.tracked:
        columns[f"changed.{name}"] = "true" if layout.sync.nulls == "send" else f"{_snapshot(name)} IS NOT NULL"
    columns |= {f"lost.{name}": "false" for name in mergeable(layout)}
    return f"SELECT {_listed(columns)} FROM {SNAPSHOT} AS s"


def _added_and_changed(
    layout: Layout, acknowledged: str, retyped: Collection[str], all_rows: bool, some_unsure: bool
) -> str:
    is_new = "true" if all_rows else f"t.{SENT_AT} IS NULL{_is_another_user(layout)}"
    differs = {name: _differs(layout, name, name in retyped, some_unsure) for name in layout.tracked}
    columns = {
        "kind": f"CASE WHEN {is_new} THEN 'added' ELSE 'changed' END",
        "known": f"t.{RUN_ID} IS NOT NULL",
        **_new_values(layout),
    }
    for name, distinct in differs.items():
        has_value = f"{_snapshot(name)} IS NOT NULL"
        of_new = "true" if layout.sync.nulls == "send" else has_value
        if some_unsure and layout.sync.nulls == "clear":
            of_new = f"({has_value} OR {_is_unsure(name)})"
        of_changed = f"({distinct} OR {has_value})" if layout.sync.send == "all_columns" else distinct
        columns[f"changed.{name}"] = f"CASE WHEN {is_new} THEN {of_new} ELSE {of_changed} END"
    for name in mergeable(layout):
        old, current = (value_text(layout, name, value) for value in (_state(name), _snapshot(name)))
        columns[f"lost.{name}"] = f"CASE WHEN {differs[name]} THEN retl_loses_key({old}, {current}) ELSE false END"
    if layout.sync.nulls == "omit":
        # Braze keeps the value that a NULL does not clear, and so does the state.
        columns |= {f"new.{name}": f"coalesce({_snapshot(name)}, {_state(name)})" for name in layout.tracked}
    joined = f"{SNAPSHOT} AS s LEFT JOIN {acknowledged} AS t ON {_same_key(layout)}"
    return f"SELECT {_listed(columns)} FROM {joined} WHERE {' OR '.join([is_new, *differs.values()])}"


def _removed(layout: Layout, acknowledged: str, some_unsure: bool) -> str:
    columns = {"kind": "'removed'", "known": "true", **{f"new.{name}": _state(name) for name in layout.stored}}
    for name in layout.tracked:
        was_set = (
            f"({_state(name)} IS NOT NULL OR {_is_unsure(name)})" if some_unsure else f"{_state(name)} IS NOT NULL"
        )
        columns[f"changed.{name}"] = was_set if layout.sync.on_removed == "clear" else "false"
    return f"SELECT {_listed(columns)} FROM {acknowledged} AS t ANTI JOIN {SNAPSHOT} AS s ON {_same_key(layout)}"


def _is_another_user(layout: Layout) -> str:
    """OR: another user stands behind the key now, who gets all columns as a new row does."""
    of_users = {part for name in layout.identifiers for part in layout.columns_of(name)}
    if not of_users & set(layout.tracked):
        return ""
    pairs = zip(identity(layout, "s"), identity(layout, "t"), strict=True)
    return "".join(f" OR {now} IS DISTINCT FROM {before}" for now, before in pairs)


def _is_unsure(name: str) -> str:
    return f"coalesce(list_contains(t.{UNSURE}, {literal(name)}), false)"


def _differs(layout: Layout, name: str, is_retyped: bool, some_unsure: bool) -> str:
    now, before = _snapshot(name), _state(name)
    distinct = f"({now} IS NOT NULL OR {before} IS NOT NULL)" if is_retyped else f"{now} IS DISTINCT FROM {before}"
    if some_unsure:
        distinct = f"({distinct} OR {_is_unsure(name)})"
    return f"({now} IS NOT NULL AND {distinct})" if layout.sync.nulls == "omit" else distinct


def _new_values(layout: Layout) -> dict[str, str]:
    names = [column.name for column in layout.needed] + ([ROW_NUMBER] if layout.whole_row else [])
    return {f"new.{name}": _snapshot(name) for name in names}


def _same_key(layout: Layout) -> str:
    # Keys are never NULL, save where the whole row is the key: there two NULLs are the same.
    equals = "IS NOT DISTINCT FROM" if layout.whole_row else "="
    return " AND ".join(f"{_snapshot(name)} {equals} {_state(name)}" for name in layout.key)


def _snapshot(name: str) -> str:
    return f"s.{identifier(name)}"


def _state(name: str) -> str:
    return f"t.{identifier(name)}"


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
