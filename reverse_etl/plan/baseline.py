"""The acknowledged rows that a baseline makes of what a model returns, without records. Pure.

    model ── judged_sql() ──> acknowledged rows      of a row of which nothing is to be said: its columns
                              JUDGED                 of all others, what a record needs beside them

Rows that have JUDGED become records, as those of any run, and are no acknowledged rows before these are committed.
"""

from collections.abc import Mapping

from reverse_etl.braze.modes import ENDING_MODES
from reverse_etl.plan.quarantine import has_quarantine
from reverse_etl.plan.tables import ACKNOWLEDGED
from reverse_etl.records.consent import consent_columns
from reverse_etl.records.expressions import new
from reverse_etl.records.identity import identifying_columns
from reverse_etl.records.layout import Layout
from reverse_etl.records.left_out import ANY
from reverse_etl.records.mapping import judged_sql
from reverse_etl.records.renaming import fields_of
from reverse_etl.sql.quoting import identifier

JUDGED = "_retl_judged"  # a column of acknowledged rows, while a baseline is planned
_IS = '"is"'  # its first member: a struct needs one


def says_all(layout: Layout) -> bool:
    """Whether an acknowledged row says all that a baseline has to know of it: who it is about, and nothing of consent,
    cursors, or what ends or renames somebody."""
    mode = layout.mode
    is_special = mode.label in ENDING_MODES or mode.keeps or fields_of(layout) or has_quarantine(layout)
    if is_special or layout.cursor or consent_columns(layout):
        return False
    return set(identifying_columns(mode, [column.name for column in layout.sent])) <= set(layout.stored)


def acknowledged_sql(layout: Layout, changes: str, own: Mapping[str, str]) -> str:
    """A SELECT of the acknowledged rows of `changes`, with JUDGED; `own` is SQL for retl's own columns of them."""
    members = ", ".join([f"{_IS} := true", *(f"c{n} := {new(name)}" for n, name in enumerate(_not_stored(layout)))])
    columns = {name: new(name) for name in layout.stored} | dict(own)
    columns[JUDGED] = f"CASE WHEN problem > 0 OR {identifier(ANY)} THEN struct_pack({members}) END"
    listed = ",\n    ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
    return f"SELECT\n    {listed}\nFROM (\n{judged_sql(layout, changes)}\n)"


def type_of_judged(layout: Layout) -> str:
    members = (f", c{n} {layout.column(name).type.text}" for n, name in enumerate(_not_stored(layout)))
    return f"STRUCT({_IS} BOOLEAN{''.join(members)})"


def judged_rows_sql(layout: Layout) -> str:
    """A SELECT of what was read of the rows that have JUDGED."""
    more = (f"{JUDGED}.c{n} AS {identifier(name)}" for n, name in enumerate(_not_stored(layout)))
    listed = ", ".join([*map(identifier, layout.stored), *more])
    return f"SELECT {listed} FROM {ACKNOWLEDGED} WHERE {JUDGED} IS NOT NULL"


def _not_stored(layout: Layout) -> list[str]:
    return [column.name for column in layout.needed if column.name not in layout.stored]
