"""Columns that are left out of a record, because Braze would drop their values, and not the record. Pure.

    judged ── left_out() ──> the same, with such columns as they were: the acknowledged value, and no change

So the record is sent without them, the state does not take their values, and the next run compares them again.
"""

from collections.abc import Collection, Iterator, Sequence

from reverse_etl.braze.modes import SUGGESTIONS
from reverse_etl.records.expressions import Rule, changed, json_of, new, old
from reverse_etl.records.layout import Layout
from reverse_etl.records.rules import left_out_columns, rules
from reverse_etl.sql.quoting import identifier

# Columns of a record.
LEFT_OUT = "left_out"  # numbers of the rules for which columns are, with the value to use; NULL if none is
ALONE = "left_out.alone"  # nothing else of its row differs, so that it is not sent
ANY = "left_out.any"  # of a judged change: whether a column is left out
TYPE = 'STRUCT(number INTEGER, "use" VARCHAR)[]'
NONE = f"CAST(NULL AS {TYPE})"


def differs(name: str) -> str:
    """A flag of a layout that sends all columns: the value differs from the acknowledged one."""
    return identifier(f"differs.{name}")


def flagged(layout: Layout) -> tuple[str, ...]:
    """The columns that have this flag: elsewhere what is sent differs."""
    return layout.tracked if layout.sync.send == "all_columns" and left_out_columns(layout) else ()


def with_old(layout: Layout, changes: str, there: Collection[str]) -> str:
    """A SELECT of `changes` with acknowledged values, where it has none as nothing is acknowledged yet. `there` are
    its columns."""
    added = {f"old.{name}": f"CAST(NULL AS {layout.column(name).type.text})" for name in left_out_columns(layout)}
    added |= {f"differs.{name}": "true" for name in flagged(layout)}
    listed = "".join(f", {sql} AS {identifier(name)}" for name, sql in added.items() if name not in there)
    return f"SELECT *{listed} FROM ({changes})" if listed else changes


def any_left_out(layout: Layout, unchecked: str) -> str:
    """SQL for ANY, over changes whose rules can be evaluated."""
    cases = " ".join(f"WHEN {rule.condition} THEN true" for _, rule in _leaving(layout))
    return f"CASE WHEN {unchecked} THEN false {cases} ELSE false END" if cases else "false"


def left_out(layout: Layout, judged: str) -> str:
    """A SELECT of judged changes, without what is left out of them; with LEFT_OUT and ALONE."""
    columns = left_out_columns(layout)
    if not columns:
        return f"SELECT *, {NONE} AS {LEFT_OUT}, false AS {identifier(ALONE)}\nFROM (\n{judged}\n)"
    documents = {column.name for column in layout.json_columns}
    replaced, numbers = {}, []
    for name in columns:
        is_left = f"{_number(name)} IS NOT NULL"
        replaced[f"new.{name}"] = f"CASE WHEN {is_left} THEN {old(name)} ELSE {new(name)} END"
        replaced[f"changed.{name}"] = f"({changed(name)} AND NOT {is_left})"
        if name in documents:
            replaced[f"json.{name}"] = f"CASE WHEN NOT {is_left} THEN {json_of(name)} END"
        use = "CAST(NULL AS VARCHAR)"
        if name in SUGGESTIONS:
            use = f"retl_use_{name}(lower(trim(CAST({new(name)} AS VARCHAR))))"
        numbers.append(f"CASE WHEN {is_left} THEN {{'number': {_number(name)}, 'use': {use}}} END")
    listed = f"list_filter([{', '.join(numbers)}], lambda one: one IS NOT NULL)"
    also = {name: f" AND {differs(name)}" for name in flagged(layout)}
    left = {name: f" AND {_number(name)} IS NULL" for name in columns}
    rest = " OR ".join(f"({changed(name)}{left.get(name, '')}{also.get(name, '')})" for name in layout.tracked)
    columns_replaced = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in replaced.items())
    return f"""SELECT * REPLACE ({columns_replaced}),
    CASE WHEN {identifier(ANY)} THEN CAST({listed} AS {TYPE}) END AS {LEFT_OUT},
    {identifier(ANY)} AND kind = 'changed' AND NOT ({rest}) AS {identifier(ALONE)}
FROM (
{_numbered(layout, columns, judged)}
)"""


def _leaving(layout: Layout) -> Iterator[tuple[int, Rule]]:
    return ((number, rule) for number, rule in enumerate(rules(layout), 1) if rule.leaves_out)


def _number(name: str) -> str:
    """The first rule for which a column is left out; NULL if it is not."""
    return identifier(f"left.{name}")


def _numbered(layout: Layout, columns: Sequence[str], judged: str) -> str:
    cases: dict[str, list[str]] = {name: [] for name in columns}
    for number, rule in _leaving(layout):
        cases[rule.column].append(f"WHEN {rule.condition} THEN {number}")
    listed = ", ".join(
        f"CASE WHEN {identifier(ANY)} THEN CASE {' '.join(of_column)} END END AS {_number(name)}"
        for name, of_column in cases.items()
    )
    return f"SELECT *, {listed}\nFROM (\n{judged}\n)"
