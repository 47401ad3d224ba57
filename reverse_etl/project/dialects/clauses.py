"""Clauses and operators: which of sqlglot's classes mean the same in DuckDB, and what becomes of the others."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects.kinds import NUMBERS, TESTS, kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Refusal, Translator, indexed, integer, number
from reverse_etl.project.dialects.row import Row, refused
from reverse_etl.words import count

# Classes of sqlglot's tree that are the same in all dialects of the tables.
SAME = (
    *("Select", "From", "Where", "Group", "Having", "Order", "Ordered", "Limit", "Offset", "With", "CTE", "Subquery"),
    *("Union", "Except", "Intersect", "Table", "TableAlias", "Column", "Star", "Alias", "Paren", "Tuple", "Values"),
    *("And", "Or", "Not", "Is", "Null", "Boolean", "Literal", "Exists", "Case", "If", "Neg", "Join", "Lambda"),
    *("EQ", "NEQ", "GT", "GTE", "LT", "LTE", "NullSafeEQ", "NullSafeNEQ", "In", "Between", "Like", "Escape"),
    *("Add", "Sub", "Mul", "Mod", "DPipe", "Interval", "Var", "DataType", "DataTypeParam", "ColumnDef", "Identifier"),
    *("Window", "WindowSpec", "Distinct", "Filter", "CurrentDate", "Dot", "IgnoreNulls", "RespectNulls", "Fetch"),
    *("Rollup", "Cube", "GroupingSets", "Bracket", "Array", "IntervalSpan", "Any", "All", "HavingMax"),
)
_LATERAL = "write this model in DuckDB SQL, and remove config(dialect=...)"


def nodes(**rules: Any) -> dict[str, Any]:
    """Rules of a family, beside the classes that are the same."""
    return {**dict.fromkeys(SAME), **rules}


def refuse(what: str, instead: str | None = None) -> Row:
    """A row for a class that is refused."""
    return refused("clause", what, instead)["clause"]


REFUSED = {
    "TableSample": refuse("TABLESAMPLE returns other rows in every run", "choose rows by a hash of their key"),
    "QueryTransform": refuse("SELECT TRANSFORM ... USING runs a script, which DuckDB does not", "write it as SQL"),
    "MatchRecognize": refuse("MATCH_RECOGNIZE has no counterpart in DuckDB", "use window functions"),
    "Aliases": refuse("a function that returns several columns is translated in LATERAL VIEW only",
                      "use LATERAL VIEW posexplode(x) t AS pos, x"),
}  # fmt: skip


# -- Arithmetic -----------------------------------------------------------------------------------------------------


def hive_division(by: Translator, node: exp.Div) -> exp.Expression:
    """A double, or NULL by zero. Of decimals Hive and Spark round to a scale that DuckDB does not know."""
    one, other = _as_number(by, node.this), _as_number(by, node.expression)
    divided = "a0 / a1" if integer(other) else "a0 / NULLIF(a1, 0)"
    kinds = [kind_of(one), kind_of(other)]
    if "double" in kinds or (None not in kinds and "decimal" not in kinds):
        return with_kind(by.fill(divided, one, other), "double")
    hint = "use CAST(x AS double) / y"
    if None not in kinds:
        raise Refusal(f"{by.dialect}: a decimal divided by an integer or decimal is rounded to a scale", hint)
    decimal, double = (_either(TESTS[kind], kinds, kind) for kind in ("decimal", "double"))
    stop = f"stop('a decimal divided by an integer or decimal is rounded to a scale: {hint}')"
    divided = "TRY_CAST(a0 AS DOUBLE) / NULLIF(TRY_CAST(a1 AS DOUBLE), 0)"
    made = by.fill(f"CASE WHEN ({decimal}) AND NOT ({double}) THEN {stop} ELSE {divided} END", one, other)
    return with_kind(made, "double")


def _either(test: str, kinds: Sequence[str | None], kind: str) -> str:
    """SQL for: one of both sides is of a kind."""
    sides = (
        ("true" if known == kind else test.replace("a0", f"a{n}"))
        for n, known in enumerate(kinds)
        if known in (None, kind)
    )
    return " OR ".join(sides)


def trino_division(by: Translator, node: exp.Div) -> exp.Expression:
    """Of two integers the integer towards zero, of doubles the double; of decimals Trino keeps the scale."""
    one, other = node.this, node.expression
    kinds = {kind_of(one), kind_of(other)}
    hint = "use CAST(x AS double) / y"
    if "double" in kinds:
        return with_kind(by.fill("CAST(a0 AS DOUBLE) / a1", one, other), "double")
    if "decimal" in kinds and kinds <= {"decimal", "int"}:
        raise Refusal(f"{by.dialect}: a decimal divided by an integer or decimal is rounded to its scale", hint)
    divided = "a0 // NULLIF(a1, 0)" if by.tries else "a0 // a1"
    divided = "a0 // a1" if integer(other) else divided
    if kinds == {"int"}:
        return with_kind(by.fill(divided, one, other), "int")
    unsure = [f"a{n}" for n, side in enumerate((one, other)) if kind_of(side) in (None, "decimal")]
    test = " OR ".join(TESTS["decimal"].replace("a0", side) for side in unsure)
    if "decimal" in kinds:
        other_is = "a1" if kind_of(one) == "decimal" else "a0"
        test = f"NOT {TESTS['double'].replace('a0', other_is)}"
    return by.fill(f"CASE WHEN {test} THEN stop('division of decimals is rounded to their scale: {hint}') ELSE {divided} END",
                   one, other)  # fmt: skip


def whole_division(by: Translator, node: exp.IntDiv) -> exp.Expression:
    made = by.fill("CAST(trunc(a0 // NULLIF(a1, 0)) AS BIGINT)", node.this, node.expression)
    if {kind_of(node.this), kind_of(node.expression)} == {"int"}:
        made = by.fill("a0 // a1" if integer(node.expression) else "a0 // NULLIF(a1, 0)", node.this, node.expression)
    return with_kind(made, "int")


def remainder_or_null(by: Translator, node: exp.Mod) -> exp.Expression:
    if integer(node.expression) or kind_of(node.expression) == "decimal":
        return node
    return by.fill("a0 % NULLIF(a1, 0)", node.this, node.expression)


def _as_number(by: Translator, node: exp.Expression) -> exp.Expression:
    return by.fill("TRY_CAST(a0 AS DOUBLE)", node) if kind_of(node) == "text" else node


def plus_of_hive(by: Translator, node: Any) -> exp.Expression:
    sides = (node.this, node.expression)
    if any(isinstance(side, exp.Interval) for side in sides):
        return moved(by, node)
    refuse_dates(by, node)
    if "text" not in {kind_of(side) for side in sides}:
        return node  # type: ignore[no-any-return]
    sign = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}[type(node)]
    return with_kind(by.fill(f"a0 {sign} a1", *(_as_number(by, side) for side in sides)), "double")


def plus_of_trino(by: Translator, node: Any) -> exp.Expression:
    if any(isinstance(side, exp.Interval) for side in (node.this, node.expression)):
        return moved(by, node)
    refuse_dates(by, node)
    return node  # type: ignore[no-any-return]


def refuse_dates(by: Translator, node: Any) -> None:
    if {kind_of(node.this), kind_of(node.expression)} & {"date", "timestamp", "timestamptz"}:
        raise Refusal(f"{by.dialect}: a date plus or minus anything but an interval is not translated",
                      "use datediff() or date_diff(), or an interval: + INTERVAL '1' DAY")  # fmt: skip


_OF_DAYS = ("DAY", "WEEK", "MONTH", "YEAR", "QUARTER")
_EITHER_WAY = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_OF_EITHER = (
    *("date_format", "format_datetime", "to_unixtime", "date_diff", "datediff", "date", "to_date", "last_day", "year"),
    *("quarter", "month", "week", "day", "hour", "minute", "second", "day_of_week", "day_of_year", "weekofyear"),
)


def is_either_way(node: exp.Expression) -> bool:
    """Whether a date and the timestamp at its midnight have the same effect where this value is used."""
    above = node.parent
    while isinstance(above, exp.Paren):
        above = above.parent
    if isinstance(above, exp.Cast):
        return above.to.this.name in ("DATE", "TIMESTAMP")
    return isinstance(above, _EITHER_WAY) or (isinstance(above, exp.Anonymous) and above.name.lower() in _OF_EITHER)


def moved(by: Translator, node: Any) -> exp.Expression:
    """A date plus an interval of days stays a date; DuckDB makes it a timestamp."""
    value, interval = (
        (node.expression, node.this) if isinstance(node.this, exp.Interval) else (node.this, node.expression)
    )
    unit = interval.args.get("unit")
    kind = kind_of(value)
    if kind in ("timestamp", "timestamptz"):
        made = with_kind(node, kind)
        made.meta["zone"] = value.meta.get("zone")
        if made.meta["zone"] not in (None, "UTC"):
            raise Refusal(f"{by.dialect}: an interval added to a time in a zone other than UTC is not translated",
                          "add it before AT TIME ZONE")  # fmt: skip
        return made
    if not isinstance(unit, exp.Var) or unit.name.upper() not in _OF_DAYS:
        return with_kind(node, "timestamp" if kind == "date" else None)
    if by.family.name == "hive" and unit.name.upper() in ("DAY", "WEEK") and not is_either_way(node):
        raise Refusal(f"{by.dialect}: whether a date plus days is a date depends on the version", "use date_add(x, 1)")
    if kind == "date":
        sign = "-" if isinstance(node, exp.Sub) else "+"
        return with_kind(by.fill(f"CAST(a0 {sign} a1 AS DATE)", value, interval), "date")
    if is_either_way(node):
        return node  # type: ignore[no-any-return]
    raise Refusal(f"{by.dialect}: whether this is a date or a timestamp is not known here",
                  "say which: CAST(x AS date) + INTERVAL '1' DAY")  # fmt: skip


# -- Comparisons ----------------------------------------------------------------------------------------------------


def compared(by: Translator, node: Any) -> exp.Expression:
    """Hive compares a text with a number as doubles; what is no number is NULL."""
    sides = (node.this, node.expression)
    kinds = [kind_of(side) for side in sides]
    sign = {exp.EQ: "=", exp.NEQ: "<>", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<="}[type(node)]
    if "text" in kinds and set(kinds) & set(NUMBERS):
        return with_kind(by.fill(f"a0 {sign} a1", *(_as_number(by, side) for side in sides)), "bool")
    if None in kinds and isinstance(node, exp.EQ | exp.NEQ) and set(kinds) & set(NUMBERS):
        unknown = "a0" if kinds[0] is None else "a1"
        one, other = (f"TRY_CAST({side} AS DOUBLE)" if side == unknown else side for side in ("a0", "a1"))
        text = TESTS["text"].replace("a0", unknown)
        return with_kind(by.fill(f"CASE WHEN {text} THEN {one} {sign} {other} ELSE a0 {sign} a1 END", *sides), "bool")
    if None in kinds and set(kinds) & set(NUMBERS):
        return with_kind(by.fill(_by_type(sign, kinds, "TRY_CAST({} AS DOUBLE)"), *sides), "bool")
    return node  # type: ignore[no-any-return]


def _by_type(sign: str, kinds: Sequence[str | None], of_text: str) -> str:
    """A comparison of a number with what only DuckDB knows: it compares no text with a number, not even in a branch
    that is not taken, so each type is named. `of_text` is what a text becomes."""
    unknown = "a0" if kinds[0] is None else "a1"
    types = {"text": of_text, "int": "TRY_CAST({} AS HUGEINT)", "decimal": "TRY_CAST({} AS DECIMAL(38, 10))"}

    def form(value: str) -> str:
        sides = [value.format(side) if side == unknown else side for side in ("a0", "a1")]
        return f"{sides[0]} {sign} {sides[1]}"

    whens = " ".join(f"WHEN {TESTS[kind].replace('a0', unknown)} THEN {form(value)}" for kind, value in types.items())
    return f"CASE {whens} ELSE {form('TRY_CAST({} AS DOUBLE)')} END"


def between(by: Translator, node: exp.Between) -> exp.Expression:
    """Of a number and what may be a text, as two comparisons."""
    low, high = node.args["low"], node.args["high"]
    if (
        kind_of(node.this) not in (None, "text")
        or {kind_of(low), kind_of(high)} - set(NUMBERS)
        or node.args.get("symmetric")
    ):
        return node
    sides = [
        by.family.nodes[type(one).__name__](by, one)
        for one in (exp.GTE(this=node.this.copy(), expression=low), exp.LTE(this=node.this.copy(), expression=high))
    ]
    return with_kind(by.fill("a0 AND a1", *sides), "bool")


def compared_in_spark(by: Translator, node: Any) -> exp.Expression:
    """Spark compares a text with a number in ways that depend on the number: refused, also where only DuckDB sees it."""
    sides = (node.this, node.expression)
    kinds = [kind_of(side) for side in sides]
    if "text" in kinds and set(kinds) & set(NUMBERS):
        raise Refusal(f"{by.dialect}: a text compared with a number is not translated", "cast it: CAST(x AS double)")
    if isinstance(node, exp.EQ | exp.NEQ) and None in kinds and set(kinds) & set(NUMBERS):
        unknown = 0 if kinds[0] is None else 1
        node.set("expression" if unknown else "this", by.fill(_NO_TEXT, sides[unknown]))
    elif None in kinds and set(kinds) & set(NUMBERS):
        sign = {exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<="}[type(node)]
        return with_kind(by.fill(_by_type(sign, kinds, _STOP), *sides), "bool")
    return node  # type: ignore[no-any-return]


_STOP = "CAST(stop('a text compared with a number is not translated: cast it') AS DOUBLE)"
_NO_TEXT = (
    f"CASE WHEN {TESTS['text']} THEN stop('a text compared with a number is not translated: cast it') ELSE a0 END"
)


def one_of_in_spark(by: Translator, node: exp.In) -> exp.Expression:
    if node.expressions and all(kind_of(value) in NUMBERS for value in node.expressions):
        if kind_of(node.this) == "text":
            raise Refusal(
                f"{by.dialect}: a text compared with a number is not translated", "cast it: CAST(x AS double)"
            )
        if kind_of(node.this) is None:
            node.set("this", by.fill(_NO_TEXT, node.this))
    return node


def one_of(by: Translator, node: exp.In) -> exp.Expression:
    listed = node.expressions
    if not listed or not all(kind_of(value) in NUMBERS for value in listed):
        return node
    kind = kind_of(node.this)
    if kind == "text":
        node.set("this", by.fill("TRY_CAST(a0 AS DOUBLE)", node.this))
    if kind is not None:
        return node
    of_text = node.copy()
    of_text.set("this", by.fill("TRY_CAST(a0 AS DOUBLE)", node.this))
    made = by.fill(f"CASE WHEN {TESTS['text']} THEN a1 ELSE a2 END", node.this, of_text, node)
    return with_kind(made, "bool")


def like_with_backslash(by: Translator, node: exp.Like) -> exp.Expression:
    """In Hive a backslash before % or _ takes its meaning away; DuckDB wants to be told."""
    if isinstance(node.parent, exp.Escape):
        return node
    pattern = node.expression
    if isinstance(pattern, exp.Literal) and "\\" not in pattern.name:
        return node
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))


def matches(by: Translator, node: exp.RegexpLike) -> exp.Expression:
    refuse_pattern(by.dialect, node.expression)
    return with_kind(by.fill("regexp_matches(a0, a1)", node.this, node.expression), "bool")


_NOT_RE2 = ("(?=", "(?!", "(?<=", "(?<!", "(?>", "\\k<", "*+", "++", "?+", "&&", *(f"\\{n}" for n in range(1, 10)))


def refuse_pattern(dialect: str, pattern: exp.Expression) -> None:
    """Raises Refusal for what regular expressions of Java have, and those of DuckDB (RE2) have not."""
    if not (isinstance(pattern, exp.Literal) and pattern.is_string):
        return
    found = next((part for part in _NOT_RE2 if part in pattern.name), None)
    if found:
        raise Refusal(f"{dialect}: the regular expression uses {found}, which DuckDB does not have",
                      "write it without lookaround, backreferences and possessive quantifiers")  # fmt: skip


def refuse_group(dialect: str, pattern: exp.Expression, group: int) -> None:
    """Raises Refusal for a group that a regular expression lacks: the engines end the query, DuckDB has an empty text."""
    if isinstance(pattern, exp.Literal) and pattern.is_string:
        with suppress(re.error):
            if group > (there := re.compile(pattern.name).groups):
                raise Refusal(f"{dialect}: the regular expression has {count(there, 'group')}, and no group {group}",
                              "put what is meant into parentheses, or name another group")  # fmt: skip


# -- Rows out of values ----------------------------------------------------------------------------------------------


def select(by: Translator, node: exp.Select) -> exp.Expression:
    """Hints and the order inside of reducers are dropped; LATERAL VIEW becomes a join, in the order of the text."""
    for clause in ("hint", "cluster", "distribute", "sort"):
        node.set(clause, None)
    by.children(node)
    views = node.args.get("laterals") or []
    if views:
        joins = [*(node.args.get("joins") or []), *views]
        joins.sort(key=lambda join: join.meta.get("at") or 0)
        node.set("laterals", None)
        node.set("joins", joins)
    return node


def lateral_view(by: Translator, node: exp.Lateral) -> exp.Expression:
    call = node.this
    by.children(call)
    alias = node.args.get("alias")
    names = [column.name for column in alias.args.get("columns") or []] if alias else []
    table = alias.name if alias else ""
    made = _rows_of(by, call, names)
    inner = ", ".join(f"{one} AS n{position}" for position, (one, _) in enumerate(made))
    chosen = by.fill(f"(SELECT {inner})", *call.expressions)
    for projection, (_, name) in zip(chosen.find(exp.Select).expressions, made, strict=True):  # type: ignore[union-attr]
        projection.set("alias", exp.to_identifier(name, quoted=True))
    lateral = exp.Lateral(
        this=chosen, alias=exp.TableAlias(this=exp.to_identifier(table, quoted=True)) if table else None
    )
    join = (
        exp.Join(this=lateral, side="LEFT", on=exp.Boolean(this=True))
        if node.args.get("outer")
        else exp.Join(this=lateral, kind="CROSS")
    )
    join.meta["at"] = node.meta.get("at")
    return join


def _rows_of(by: Translator, call: exp.Expression, names: list[str]) -> list[tuple[str, str]]:
    """SQL and name of each column that a function of LATERAL VIEW returns."""
    function = call.name.lower() if isinstance(call, exp.Anonymous) else type(call).__name__
    values = len(call.expressions)
    if function == "explode" and values == 1:
        if len(names) == 2:
            return [("unnest(map_keys(a0))", names[0]), ("unnest(map_values(a0))", names[1])]
        return [("unnest(a0)", names[0] if names else "col")]
    if function == "posexplode" and values == 1 and len(names) in (0, 2):
        position, value = names or ("pos", "col")
        return [("generate_subscripts(a0, 1) - 1", position), ("unnest(a0)", value)]
    if function == "json_tuple" and values > 1:
        keys = [key for key in call.expressions[1:] if isinstance(key, exp.Literal) and key.is_string]
        if len(keys) < values - 1:
            raise Refusal(f"{by.dialect}: json_tuple(): the keys must be texts, not expressions")
        names = names or [f"c{position}" for position in range(len(keys))]
        return [(json_text(_literal('$.' + _quoted(key.name))), name)
                for key, name in zip(keys, names, strict=False)]  # fmt: skip
    raise Refusal(f"{by.dialect}: LATERAL VIEW {function}() is not translated",
                  "explode(), posexplode() and json_tuple() are")  # fmt: skip


def json_text(path: str) -> str:
    """The text at a path of the JSON document `a0`: NULL if there is none, or if the document is not valid."""
    return f"CASE WHEN json_valid(CAST(a0 AS VARCHAR)) THEN json_extract_string(CAST(a0 AS VARCHAR), {path}) END"


def _quoted(key: str) -> str:
    if '"' in key:
        raise Refusal(f"the key {key!r} has a quote in it, which is not translated")
    return f'"{key}"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def unnest(by: Translator, node: exp.Unnest) -> exp.Expression:
    """UNNEST of one array is DuckDB's; of several, or of a map, it becomes a subquery with a column for each."""
    by.children(node)
    alias = node.args.get("alias")
    names = [column.name for column in (alias.args.get("columns") or [])] if alias else []
    arrays = node.expressions
    counts = bool(node.args.get("offset"))
    wanted = len(names) - (1 if counts else 0)
    if len(arrays) == 1 and wanted <= 1:
        return node
    forms = [f"unnest(a{position})" for position in range(len(arrays))]
    if len(arrays) == 1 and wanted == 2:
        forms = ["unnest(map_keys(a0))", "unnest(map_values(a0))"]
    elif len(arrays) != wanted:
        raise Refusal(f"{by.dialect}: UNNEST needs a name for each of its columns", "UNNEST(a, b) AS t (x, y)")
    if counts:
        raise Refusal(f"{by.dialect}: WITH ORDINALITY of several arrays is not translated", _LATERAL)
    chosen = by.fill("(SELECT " + ", ".join(f"{form} AS n" for form in forms) + ")", *arrays)
    for projection, name in zip(chosen.find(exp.Select).expressions, names, strict=True):  # type: ignore[union-attr]
        projection.set("alias", exp.to_identifier(name, quoted=True))
    return exp.Lateral(this=chosen, alias=exp.TableAlias(this=exp.to_identifier(alias.name, quoted=True)))  # type: ignore[union-attr]


def group_of_hive(by: Translator, node: exp.Group) -> exp.Expression:
    """`GROUP BY a, b WITH ROLLUP` as `GROUP BY ROLLUP (a, b)`; the list before GROUPING SETS only repeats them."""
    for key in ("rollup", "cube"):
        for one in node.args.get(key) or []:
            if not one.expressions:
                one.set("expressions", [column.copy() for column in node.expressions])
                node.set("expressions", [])
    if node.args.get("grouping_sets"):
        node.set("expressions", [])
    return node


Rules = Mapping[str, Callable[[Translator, Any], exp.Expression]]


def brackets(by: Translator, node: exp.Bracket) -> exp.Expression:
    """`a[0]` is the first element of an array in Hive, but the value of the key 0 of a map."""
    if len(node.expressions) != 1:
        raise Refusal(f"{by.dialect}: more than one index is not translated")
    value, index = node.this, node.expressions[0]
    kind, constant = kind_of(value), integer(index)
    if kind_of(index) == "text" or kind == "map":
        return indexed(value, index)
    after = number(constant + 1) if constant is not None else by.fill("a0 + 1", index)
    if kind == "list":
        return indexed(value, after)
    return by.fill(f"CASE WHEN {TESTS['map']} THEN a1 ELSE a2 END", value, indexed(value, index), indexed(value, after))


def no_patterns_in_names(by: Translator, node: exp.Identifier) -> exp.Expression:
    if node.args.get("quoted") and isinstance(node.parent, exp.Column) and set("?+*") & set(node.name):
        raise Refusal(f"{by.dialect}: columns chosen by a regular expression are not translated", "list the columns")
    if node.name.lower() == "grouping__id":
        raise Refusal(f"{by.dialect}: GROUPING__ID has no counterpart in DuckDB", "use grouping(column)")
    return node
