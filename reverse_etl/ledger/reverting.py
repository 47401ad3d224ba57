"""Which cells of runs can go back to what they were before: SQL over the ledger and the acknowledged rows. Pure.

A cell goes back to the value before the first of the runs that wrote it. Of a row that they added, all cells that it
has are cleared; one that left the model, and that they cleared, is set again. What cannot, or must not, go back has a
reason: WHY_NOT.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reverse_etl.ledger.lines import LINES, json_of_value, value_of_json
from reverse_etl.plan.tables import ACKNOWLEDGED, RUNS, SENT_AT
from reverse_etl.records.consent import consent_columns
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.records.mapping import key_text
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType

# key, column_name, old, value (what the state has now), run_id (the last that wrote it), is_gone (with its row), why
CELLS = "retl_cells"
REVERTED = "retl_reverted"  # a row for each row with cells to revert: key, is_gone, "is.<column>", "old.<column>"

# Why a cell or a row does not go back, in the order in which it is found: what is said of how many.
WHY_NOT: Mapping[str, str] = {
    "removed": "of rows that left the model, and were not cleared",
    "later": "that a later run has changed",
    "dropped": "of columns that are no longer sent",
    "identifies": "that say whose row it is",
    "gone": "of rows that the state no longer has",
    "needed": "that Braze had none of before, and that cannot be cleared",
    "operation": "that were added to, or removed from, what Braze had (inc, add, remove)",
    "retyped": "whose type is another now",
}


@dataclass(frozen=True)
class Reverting:
    """The runs to revert, of the state that has rows of this layout; `known` are the types of its columns, and
    `acknowledged` the table with the rows that the runs have changed, as they are now."""

    run_ids: Collection[str]
    layout: Layout
    known: Mapping[str, SqlType]
    acknowledged: str = ACKNOWLEDGED

    @property
    def columns(self) -> list[str]:
        return [name for name in self.layout.tracked if name in self.known]

    @property
    def identifying(self) -> set[str]:
        return {part for name in self.layout.identifiers for part in self.layout.columns_of(name)}

    @property
    def restores(self) -> bool:
        """Whether the ledger has all that makes a row of one that is gone."""
        key = set(self.layout.key)
        return ROW_NUMBER not in key and self.identifying <= key | {*self.columns}


def cells_sql(reverting: Reverting) -> str:
    """A SELECT of CELLS: all that the runs have written, each cell once, and that is not as it was before."""
    columns, layout = reverting.columns, reverting.layout
    runs = ", ".join(map(literal, reverting.run_ids))
    listed = ", ".join(map(literal, columns))
    key = key_text(layout.key, lambda name: f"t.{identifier(name)}")
    identifying = reverting.identifying
    consents = [column.name for column in consent_columns(layout)]
    known = {name: reverting.known[name] for name in columns}
    values = _by_column({name: json_of_value(f"t.{identifier(name)}", of) for name, of in known.items()})
    fits = _by_column({name: f"{value_of_json('c.old', of)} IS NOT NULL" for name, of in known.items()}, "true")
    fields = {column.name: column.field for column in layout.columns if column.field}
    needed = [name for name, field in fields.items() if field.required or field.consent]
    stays_gone = f"c.is_unsent OR {_is_one_of(consents)}"
    cases = {
        "removed": f"c.kind = 'removed' AND ({stays_gone})" if reverting.restores else "c.kind = 'removed'",
        "later": "c.is_later",
        "dropped": f"c.column_name NOT IN ({listed or literal('')})",
        "identifies": f"c.kind <> 'removed' AND {_is_one_of(identifying)}",
        "gone": f"c.kind <> 'removed' AND t.{SENT_AT} IS NULL",
        "needed": f"c.old IS NULL AND {_is_one_of(needed)}",
        "operation": "c.operates",
        "retyped": f"c.old IS NOT NULL AND NOT {fits}",
    }
    documents = [name for name in columns if layout.column(name).is_json]
    operates = " OR ".join(f"({_operates(text, documents)})" for text in ("old", "new"))
    why = " ".join(f"WHEN {condition} THEN '{name}'" for name, condition in cases.items())
    return f"""WITH numbered AS (
        SELECT l.*, r.n, l.run_id IN ({runs}) AS is_chosen FROM {LINES} AS l
        JOIN (SELECT run_id, row_number() OVER (ORDER BY finished_at, run_id) AS n FROM {RUNS}) AS r USING (run_id)
        WHERE CASE WHEN column_name IS NULL THEN kind <> 'resent' ELSE old IS DISTINCT FROM new END
    ), last AS (SELECT max(n) AS n FROM numbered WHERE is_chosen),
    written AS (
        SELECT key, column_name, kind, old, {operates} AS operates, request IS NULL AS is_unsent, n, run_id
        FROM numbered WHERE is_chosen AND column_name IS NOT NULL
        UNION ALL
        SELECT key, unnest([{listed or "CAST(NULL AS VARCHAR)"}]), kind, NULL, false, false, n, run_id
        FROM numbered WHERE is_chosen AND column_name IS NULL AND kind = 'added'
    ), cells AS (
        SELECT key, column_name, first(old ORDER BY n) AS old, last(kind ORDER BY n) AS kind,
            bool_or(operates) AS operates, last(is_unsent ORDER BY n) AS is_unsent, last(run_id ORDER BY n) AS run_id,
            (key, column_name) IN (SELECT (key, column_name) FROM numbered, last WHERE numbered.n > last.n)
            OR key IN (SELECT key FROM numbered, last WHERE numbered.n > last.n AND column_name IS NULL) AS is_later
        FROM written WHERE column_name IS NOT NULL GROUP BY ALL
    )
    SELECT c.key, c.column_name, c.old, {values} AS value, c.run_id, c.kind = 'removed' AS is_gone,
        CASE {why} END AS why
    FROM cells AS c LEFT JOIN {reverting.acknowledged} AS t ON c.key = {key}
    WHERE (c.is_later OR t.{SENT_AT} IS NULL OR c.old IS DISTINCT FROM {values})
    AND (c.kind <> 'removed' OR c.old IS NOT NULL)"""


def pivot_sql(reverting: Reverting) -> str:
    """A SELECT of REVERTED, from CELLS."""
    cells = "".join(
        f""", coalesce(bool_or(column_name = {literal(name)}), false) AS {identifier(f"is.{name}")},
        max(old) FILTER (column_name = {literal(name)}) AS {identifier(f"old.{name}")}"""
        for name in reverting.columns
    )
    return f"SELECT key, bool_or(is_gone) AS is_gone{cells} FROM {CELLS} WHERE why IS NULL GROUP BY key"


def rows_sql(reverting: Reverting) -> str:
    """A SELECT of the rows of REVERTED as they are to be, with the columns of the state."""
    columns, parts = reverting.columns, reverting.layout.key

    def value(name: str, of: SqlType) -> str:
        now = f"t.{identifier(name)}"
        if name not in columns:
            return now
        before = value_of_json(f"r.{identifier(f'old.{name}')}", of)
        return f"CASE WHEN r.{identifier(f'is.{name}')} THEN {before} ELSE {now} END"

    listed = ", ".join(f"{value(name, of)} AS {identifier(name)}" for name, of in reverting.known.items())
    key = key_text(reverting.layout.key, lambda name: f"t.{identifier(name)}")
    there = f"SELECT {listed} FROM {reverting.acknowledged} AS t JOIN {REVERTED} AS r ON r.key = {key}"
    if not reverting.restores:
        return there

    def was(name: str, of: SqlType) -> str:
        if name in parts:
            text = "r.key" if len(parts) == 1 else f"json_extract_string(r.key, '$[{parts.index(name)}]')"
            return f"CAST({text} AS {of.text})"
        return value_of_json(f"r.{identifier(f'old.{name}')}", of) if name in columns else f"CAST(NULL AS {of.text})"

    gone = ", ".join(f"{was(name, of)} AS {identifier(name)}" for name, of in reverting.known.items())
    # Of a row that a killed revert was setting again, the state has what it has sent.
    return f"{there} WHERE NOT r.is_gone UNION ALL SELECT {gone} FROM {REVERTED} AS r WHERE r.is_gone"


def _is_one_of(columns: Collection[str]) -> str:
    return f"c.column_name IN ({', '.join(map(literal, columns)) or literal('')})"


def _by_column(values: Mapping[str, str], otherwise: str = "NULL") -> str:
    cases = " ".join(f"WHEN {literal(name)} THEN {value}" for name, value in values.items())
    return f"CASE c.column_name {cases} ELSE {otherwise} END" if cases else otherwise


def _operates(text: str, documents: Collection[str]) -> str:
    """SQL for: the JSON of a cell of one of these columns is no value, but what is to be done with the one in Braze."""
    if not documents:
        return "false"
    listed = ", ".join(map(literal, documents))
    operation = literal(r'^\s*\{\s*"(inc|\$?(add|remove|update))"\s*:')
    is_one = f"regexp_matches(json_extract_string({text}, '$'), {operation})"
    return f"column_name IN ({listed}) AND coalesce({is_one}, false)"
