"""Which cells change how often, and by what: SQL over the ledger. Pure.

runs_sql()       FLAP_RUNS: the runs that count
changes_sql()    FLAPS: each change of a cell in them, with what can be told from it alone
columns_sql()    by column: how often, of how many rows, in how many runs, at what cost, and which of RULES holds
rows_sql()       the rows that change most

A rule holds of a column that changed in several runs, if it holds of nine of ten of its changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from reverse_etl.braze.modes import Cost
from reverse_etl.ledger.lines import LINES
from reverse_etl.plan.tables import RUNS
from reverse_etl.records.layout import Column, Layout
from reverse_etl.sql.quoting import literal

FLAPS, FLAP_RUNS = "retl_flaps", "retl_flap_runs"
_MOST = 0.9  # of the changes of a column; of the rows of a run
_ALIKE = "1e-6"  # numbers that differ by less of themselves are the same, rounded otherwise
_RETURNS = 2  # of a row, on average, at least: it was otherwise, and back, and otherwise again
_MOMENT = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?)?"
_NUMBER = r"-?\d+(\.\d+)?([eE][+-]?\d+)?"


@dataclass(frozen=True)
class Rule:
    """What changes are no more than, in words, and what to do about it, for a `{column}`."""

    what: str
    way_out: str


LEAVE_OUT = "leave it out (`exclude_columns: [{column}]`)"
# In the order in which they are looked for.
RULES: Mapping[str, Rule] = {
    "clock": Rule("moves with the clock", f"{LEAVE_OUT}, or send the date that it is counted from"),
    "time": Rule("only dates or times", f"{LEAVE_OUT}, or send less of it, as with date_trunc('month', ...)"),
    "rounding": Rule("only rounding", "round it in the model: `round({column}, 2)`"),
    "order": Rule("only the order", "sort it in the model: `list_sort({column})`"),
    "spelling": Rule("only blanks, capitals", "spell it in one way in the model: `lower(trim({column}))`"),
    "back_and_forth": Rule("back and forth", "if a tie decides which row wins, order by a unique column, too"),
}


def runs_sql(since: str) -> str:
    """A SELECT of FLAP_RUNS: those that have a ledger, and have ended since then; `rows` are those of the model."""
    rows = "coalesce(TRY_CAST(json_extract_string(counts, '$.rows') AS BIGINT), 0)"
    return f"""SELECT run_id, row_number() OVER (ORDER BY finished_at, run_id) AS n, finished_at, {rows} AS rows
        FROM {RUNS} WHERE ledger IS NOT NULL AND finished_at >= CAST({literal(since)} AS TIMESTAMPTZ)"""


def changes_sql(layout: Layout | None) -> str:
    """A SELECT of FLAPS. `layout` is that of the rows of the state, if it has any."""
    return f"""WITH changes AS (
        SELECT n, key, column_name, {_plain("old")} AS old, {_plain("new")} AS new
        FROM {LINES} JOIN {FLAP_RUNS} USING (run_id)
        WHERE column_name IS NOT NULL AND kind <> 'removed' AND old IS DISTINCT FROM new
    )
    SELECT n, key, column_name, CAST({_cost(layout)} AS BIGINT) AS cost,
        coalesce({_is_time()}, false) AS is_time,
        coalesce({_moment("new")} > {_moment("old")}, false) AS is_later,
        coalesce({_is_rounding()}, false) AS is_rounding,
        coalesce({_sorted("old")} = {_sorted("new")}, false) AS is_order,
        coalesce({_spelled("old")} = {_spelled("new")}, false) AS is_spelling,
        TRY_CAST(new AS DOUBLE) - TRY_CAST(old AS DOUBLE) AS step,
        row_number() OVER of_cell > 1 AS was_changed,
        was_changed AND lag(old) OVER of_cell IS NOT DISTINCT FROM new AS is_back
    FROM changes WINDOW of_cell AS (PARTITION BY key, column_name ORDER BY n)"""


def columns_sql(most: int) -> str:
    """A SELECT of the columns that change most: name, changes, rows, runs, cost, and the rule that holds, or NULL."""
    together = f"changes >= 2 AND changes >= {_MOST} * rows"
    one_step = f"steps = changes AND least > 0 AND greatest - least <= {_ALIKE} * greatest"
    fits = {"clock": f"CASE WHEN {together} AND (later = changes OR ({one_step})) THEN changes ELSE 0 END"}
    fits |= {name: f'"{name}"' for name in ("time", "rounding", "order", "spelling")}
    rules = [f"WHEN sum({number}) >= {_MOST} * sum(changes) THEN '{name}'" for name, number in fits.items()]
    returns = f"sum(back) >= {_MOST} * sum(changed_before) AND sum(back) >= {_RETURNS} * any_value(of_rows)"
    return f"""WITH by_run AS (
        SELECT column_name, n, count(*) AS changes, sum(cost) AS cost,
            count_if(is_time) AS "time", count_if(is_rounding) AS "rounding", count_if(is_order) AS "order",
            count_if(is_spelling) AS "spelling", count_if(is_back) AS back, count_if(was_changed) AS changed_before,
            count_if(is_later) AS later, count(step) AS steps, min(step) AS least, max(step) AS greatest
        FROM {FLAPS} GROUP BY column_name, n
    ), by_column AS (SELECT column_name, count(DISTINCT key) AS of_rows FROM {FLAPS} GROUP BY column_name)
    SELECT column_name, CAST(sum(changes) AS BIGINT) AS all_changes, any_value(of_rows), count(*),
        CAST(sum(cost) AS BIGINT),
        CASE WHEN count(*) < 2 THEN NULL {" ".join(rules)} WHEN {returns} THEN 'back_and_forth' END
    FROM by_run JOIN {FLAP_RUNS} USING (n) JOIN by_column USING (column_name)
    GROUP BY column_name ORDER BY all_changes DESC, column_name LIMIT {most}"""


def rows_sql(most: int) -> str:
    """A SELECT of the rows that change most: key, changes, runs, cost."""
    return f"""SELECT key, count(*) AS changes, count(DISTINCT n), CAST(sum(cost) AS BIGINT)
        FROM {FLAPS} GROUP BY key ORDER BY changes DESC, key LIMIT {most}"""


# --- what is told from one change ------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """SQL for the JSON text of a value; of a text that is a JSON document, the document."""
    is_document = f"""starts_with({text}, '"{{') OR starts_with({text}, '"[')"""
    return f"CASE WHEN {is_document} THEN json_extract_string({text}, '$') ELSE {text} END"


def _without(pattern: str, text: str) -> str:
    return f"regexp_replace({text}, {literal(pattern)}, '@', 'g')"


def _is_time() -> str:
    alike = f"{_without(_MOMENT, 'old')} = {_without(_MOMENT, 'new')}"
    return f"CASE WHEN contains(old, '-') AND contains(new, '-') THEN {alike} END"


def _moment(text: str) -> str:
    quoted = f'"{_MOMENT}"'
    is_one = f"contains({text}, '-') AND regexp_full_match({text}, {literal(quoted)})"
    return f"CASE WHEN {is_one} THEN TRY_CAST(substr({text}, 2, len({text}) - 2) AS TIMESTAMPTZ) END"


def _is_rounding() -> str:
    """SQL for: the texts differ in numbers alone, and in these by little. Whole numbers count, and are not rounded."""
    numbers = (f"regexp_extract_all({text}, {literal(_NUMBER)})" for text in ("old", "new"))
    one, other = (f"CAST(pair[{side}] AS DOUBLE)" for side in (1, 2))
    is_whole = "NOT regexp_matches(pair[1] || pair[2], '[.eE]')"
    differs = (
        f"pair[1] <> pair[2] AND ({is_whole} OR abs({one} - {other}) > {_ALIKE} * greatest(abs({one}), abs({other})))"
    )
    pairs = f"list_filter(list_zip({', '.join(numbers)}), lambda pair: {differs})"
    alike = f"{_without(_NUMBER, 'old')} = {_without(_NUMBER, 'new')}"
    has_fraction = "contains(old, '.') OR contains(new, '.') OR contains(old, 'e') OR contains(new, 'e')"
    return f"CASE WHEN NOT ({has_fraction}) THEN false WHEN {alike} THEN len({pairs}) = 0 END"


def _sorted(text: str) -> str:
    is_list = "starts_with(old, '[') AND len(old) = len(new)"
    return f"CASE WHEN {is_list} THEN list_sort(CAST(TRY_CAST({text} AS JSON) AS VARCHAR[])) END"


def _spelled(text: str) -> str:
    return f"""CASE WHEN starts_with(old, '"') THEN regexp_replace(lower({text}), '\\s', '', 'g') END"""


def _cost(layout: Layout | None) -> str:
    """SQL for what a change costs in data points, as in `records/mapping.py`."""
    if layout is None or layout.mode.cost is not Cost.ATTRIBUTES:
        return "0"
    costs = {column.name: cost for column in layout.sent if (cost := _points(column)) != "1"}
    cases = " ".join(f"WHEN {literal(name)} THEN {cost}" for name, cost in costs.items())
    return f"CASE column_name {cases} ELSE 1 END" if cases else "1"


def _points(column: Column) -> str:
    if column.field:
        return "0" if column.field.free else "1"
    return "CASE WHEN new IS NULL THEN 1 ELSE retl_data_points(new) END" if column.is_json else "1"
