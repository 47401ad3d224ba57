"""What is said of columns that differ in each run: they send every row again, and nothing else of it has changed."""

from collections.abc import Iterator

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.volatile import Volatile, volatile_columns
from reverse_etl.plan.plan import Plan
from reverse_etl.plan.tables import OUTBOX, RUNS
from reverse_etl.project.models import Compiled
from reverse_etl.project.project import LoadedProject
from reverse_etl.records.layout import Layout
from reverse_etl.sql.database import connect
from reverse_etl.sql.quoting import identifier
from reverse_etl.words import count

_FEW = 3  # columns that are named


def notes_of_model(project: LoadedProject, model: Compiled) -> Iterator[str]:
    """What is said when a model is compiled, unless all of its syncs leave the column out."""
    excluded = [set(sync.exclude_columns) for sync in project.spec.syncs if sync.model == model.name]
    with connect() as connection:
        for one in volatile_columns(connection, model):
            if not excluded or not all(one.column in names for names in excluded):
                yield f"{one.where}: {one.column} is made of {one.function}(), so every row differs in every run"


def about_volatile(connection: DuckDBPyConnection, layout: Layout, model: Compiled, plan: Plan) -> Iterator[str]:
    """What is said of a plan whose rows have changed in such columns only, or are new because of them."""
    if layout.whole_row and plan.added and plan.in_state:
        for one in _of_layout(connection, layout, model):
            new = count(plan.added, "row counts", "rows count")
            yield f"warning: {new} as new, possibly because of {one.column}: {one.where} uses {one.function}()"
    if plan.changed < 2 or layout.sync.send == "all_columns":
        return
    volatile = {one.column: one for one in _of_layout(connection, layout, model)}
    names = list(volatile) or _changed_in_all(connection, layout, plan)
    rows = _changed_only_in(connection, layout, names) if names else 0
    if rows:
        all_known = rows == plan.rows - plan.added
        which = f"all {count(rows, 'row')}" if all_known else f"{count(rows, 'row')}"
        why = "; ".join(f"{one.where} uses {one.function}()" for one in volatile.values())
        since = "" if volatile else " as in the run before,"
        yield f"warning: {which} changed,{since} only in {', '.join(names)}: {why or 'see exclude_columns'}"


def _of_layout(connection: DuckDBPyConnection, layout: Layout, model: Compiled) -> list[Volatile]:
    return [one for one in volatile_columns(connection, model) if layout.has(one.column)]


def _changed_in_all(connection: DuckDBPyConnection, layout: Layout, plan: Plan) -> list[str]:
    """The columns in which all rows that the state has differ, if these are few, and nothing else does. They have to
    differ in the run before, too: after a change of the model, they do once."""
    if plan.changed < plan.rows - plan.added or not layout.tracked:
        return []
    of_last = "json_extract_string(counts, ['changed', 'rows', 'added'])"
    before = connection.execute(f"SELECT {of_last} FROM {RUNS} ORDER BY finished_at DESC LIMIT 1").fetchone()
    changed_before, rows_before, added_before = (int(number or 0) for number in (before[0] if before else (0, 0, 0)))
    if changed_before < 2 or changed_before < rows_before - added_before:
        return []
    flags = ", ".join(f"count(*) FILTER ({identifier(f'changed.{name}')})" for name in layout.tracked)
    counts = connection.execute(f"SELECT {flags} FROM {OUTBOX} WHERE kind = 'changed'").fetchall()[0]
    changed = {name: rows for name, rows in zip(layout.tracked, counts, strict=True) if rows}
    few = 0 < len(changed) <= min(_FEW, len(layout.tracked) - 1)
    return list(changed) if few and max(changed.values()) == plan.changed else []


def _changed_only_in(connection: DuckDBPyConnection, layout: Layout, names: list[str]) -> int:
    others = [identifier(f"changed.{name}") for name in layout.tracked if name not in names]
    if len(others) == len(layout.tracked):
        return 0
    condition = f" AND NOT ({' OR '.join(others)})" if others else ""
    found = connection.execute(f"SELECT count(*) FROM {OUTBOX} WHERE kind = 'changed'{condition}").fetchall()
    return int(found[0][0])
