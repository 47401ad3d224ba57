"""Spark's functions, where they differ from Hive's, and Databricks', where they differ from Spark's.

Source of the meanings: https://spark.apache.org/docs/latest/api/sql/, with ANSI mode off. With it on, as in Databricks, a
cast that fails ends the query; here it is NULL.
"""

from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects import clauses, td
from reverse_etl.project.dialects.hive import casts, table, values
from reverse_etl.project.dialects.hive.times import part
from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.patterns import PatternError, for_parsing, shape_of
from reverse_etl.project.dialects.rewrite import Call, Family, Translator, text
from reverse_etl.project.dialects.row import ANY, Row, repaired, same
from reverse_etl.project.dialects.zones import UTC_ZONE


def _to_bool(by: Translator, value: exp.Expression) -> exp.Expression:
    said = "lower(trim(CAST(a0 AS VARCHAR)))"
    forms = {
        "text": f"CASE WHEN {said} IN ('t', 'true', 'y', 'yes', '1') THEN true"
        f" WHEN {said} IN ('f', 'false', 'n', 'no', '0') THEN false END"
    }
    return by.by_kind(value, forms, "TRY_CAST(a0 AS BOOLEAN)")


def _cast(by: Translator, node: exp.Cast) -> exp.Expression:
    target = node.to.this.name
    if target == "BOOLEAN":
        return with_kind(_to_bool(by, node.this), "bool")
    if target in ("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPLTZ") and kind_of(node.this) in ("text", None):
        return with_kind(_stamp(by, node.this), "timestamp")
    return casts.cast(by, node)


def _stamp(by: Translator, value: exp.Expression) -> exp.Expression:
    forms = {
        "text": "TRY_CAST(CAST(a0 AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC'",
        "int": "make_timestamp(TRY_CAST(a0 AS BIGINT) * 1000000)",
        "double": "to_timestamp(TRY_CAST(a0 AS DOUBLE)) AT TIME ZONE 'UTC'",
        "decimal": "to_timestamp(TRY_CAST(a0 AS DOUBLE)) AT TIME ZONE 'UTC'",
    }
    return by.by_kind(value, forms, "TRY_CAST(a0 AS TIMESTAMP)")


def _parsed(kind: str) -> Any:
    def build(call: Call) -> exp.Expression:
        if len(call.args) == 1:
            return casts.to_date(call.by, call.args[0]) if kind == "date" else _stamp(call.by, call.args[0])
        made = _strictly_parsed(call, call.text(1, "pattern"))
        return call.by.fill("CAST(a0 AS DATE)", made) if kind == "date" else made

    return build


def _strictly_parsed(call: Call, said: str) -> exp.Expression:
    """NULL for a text with one digit where the pattern has two."""
    pattern = td.formatted(call, said, "spark", UTC_ZONE).name
    try:
        shape = shape_of(pattern)
    except PatternError as error:
        raise call.refuse(f"pattern {said!r}: {error.what}") from error
    form = (
        "CASE WHEN regexp_full_match(CAST(a0 AS VARCHAR), a2) THEN try_strptime(CAST(a0 AS VARCHAR), a1)"
        f" WHEN {TESTS['date']} OR {TESTS['timestamp']} THEN TRY_CAST(a0 AS TIMESTAMP) END"
    )
    return call.by.fill(form, call.args[0], text(for_parsing(pattern)), text(shape))


def _unix_timestamp(call: Call) -> exp.Expression:
    said = call.text(1, "pattern") if len(call.args) == 2 else "yyyy-MM-dd HH:mm:ss"
    return call.by.fill("CAST(epoch(a0) AS BIGINT)", _strictly_parsed(call, said))


def _date_trunc(call: Call) -> exp.Expression:
    unit = call.text(0, "unit").lower()
    if unit not in ("second", "minute", "hour", "day", "week", "month", "quarter", "year"):
        raise call.refuse(f"the unit {unit!r} is not translated")
    return call.by.fill("CAST(date_trunc(a0, a1) AS TIMESTAMP)", text(unit), _stamp(call.by, call.args[1]))


_CONTAINS = (
    "CASE WHEN list_contains(a0, a1) THEN true WHEN len(list_filter(a0, lambda e: e IS NULL)) > 0 THEN NULL"
    " ELSE list_contains(a0, a1) END"
)
FUNCTIONS: dict[str, Row] = {
    **{name: row for name, row in table.FUNCTIONS.items() if not name.startswith("td_")},
    **same("greatest least ifnull", ANY),
    **same("stddev stddev_samp variance var_samp", 1, kind="double"),
    **same("replace", 3, kind="text"),
    **same("left right", 2, kind="text"),
    **repaired("std", "stddev(a0)", kind="double"),
    **repaired("nvl2", "CASE WHEN a0 IS NOT NULL THEN a1 ELSE a2 END"),
    **repaired("startswith", "starts_with(a0, a1)", kind="bool"),
    **repaired("endswith", "ends_with(a0, a1)", kind="bool"),
    **repaired("count_if", "count(*) FILTER (WHERE a0)", kind="int"),
    **repaired("max_by", "arg_max_null(a0, a1)"),
    **repaired("min_by", "arg_min_null(a0, a1)"),
    **repaired("approx_count_distinct", "count(DISTINCT a0)", kind="int"),
    **repaired("array_contains", _CONTAINS, kind="bool"),
    **repaired("date_diff", (2, table.FUNCTIONS["datediff"].forms[2]), kind="int", how="date - date"),
    **repaired("to_date", (1, _parsed("date")), (2, _parsed("date")), kind="date", how="the date; NULL if it is not one"),
    **repaired("to_timestamp", (1, _parsed("timestamp")), (2, _parsed("timestamp")), kind="timestamp",
               how="the time; NULL if it is not one"),
    **repaired("timestamp_seconds", "to_timestamp(a0) AT TIME ZONE 'UTC'", kind="timestamp"),
    **repaired("date_trunc", (2, _date_trunc), kind="timestamp", how="date_trunc(), a timestamp"),
    **repaired("unix_timestamp", "CAST(epoch(current_timestamp) AS BIGINT)", (1, _unix_timestamp), (2, _unix_timestamp),
               kind="int", how="epoch() of the time; NULL if it is not one"),
    **repaired("isnan", "isnan(a0)", kind="bool"),
    **repaired("to_unix_timestamp", (1, _unix_timestamp), (2, _unix_timestamp), kind="int",
               how="epoch() of the time; NULL if it is not one"),
    **repaired("try_to_timestamp", (1, _parsed("timestamp")), (2, _parsed("timestamp")), kind="timestamp",
               how="the time; NULL if it is not one"),
    **repaired("make_date", "TRY(make_date(a0, a1, a2))", kind="date", how="make_date(); NULL if there is no such day"),
    **repaired("dayofyear", (1, part("dayofyear(a0)")), kind="int", how="dayofyear(); NULL if a0 is not a time"),
    **repaired("weekday", (1, part("isodow(a0) - 1")), kind="int", how="Monday is 0; NULL if a0 is not a time"),
    **repaired("date_from_unix_date", "CAST(DATE '1970-01-01' + CAST(a0 AS INTEGER) AS DATE)", kind="date"),
    **repaired("unix_date", (1, part("date_diff('day', DATE '1970-01-01', a0)")), kind="int",
               how="the days since 1970; NULL if a0 is not a time"),
    **repaired("timestamp_millis", "make_timestamp_ms(CAST(a0 AS BIGINT))", kind="timestamp"),
    **repaired("curdate", "current_date", kind="date"),
    **same("split_part", 3, kind="text"),
    **repaired("btrim", "trim(a0)", kind="text"),
    **repaired("contains", "contains(CAST(a0 AS VARCHAR), CAST(a1 AS VARCHAR))", kind="bool"),
    **repaired("octet_length", "strlen(CAST(a0 AS VARCHAR))", kind="int"),
    **repaired("bit_length", "8 * strlen(CAST(a0 AS VARCHAR))", kind="int"),
    **repaired("nullifzero", "nullif(a0, 0)"),
    **repaired("zeroifnull", "coalesce(a0, 0)"),
    **repaired("signum", "CAST(sign(a0) AS DOUBLE)", kind="double"),
    **same("median", 1),
    **same("bool_and bool_or", 1, kind="bool"),
    **repaired("every", "bool_and(a0)", kind="bool"),
    **repaired("mean", (1, values.as_double("avg")), kind="double", how="avg(); of a text, of its number"),
    **repaired("array_size", "len(a0)", kind="int"),
    **repaired("array_max", "list_max(a0)"),
    **repaired("array_min", "list_min(a0)"),
    **repaired("array_compact", "list_filter(a0, lambda e: e IS NOT NULL)", kind="list"),
    **repaired("array_append", "CASE WHEN a0 IS NOT NULL THEN list_append(a0, a1) END", kind="list"),
    **repaired("array_position", "CASE WHEN a0 IS NOT NULL AND a1 IS NOT NULL THEN coalesce(list_position(a0, a1), 0) END",
               kind="int"),
    **repaired("map_contains_key", "map_contains(a0, a1)", kind="bool"),
}  # fmt: skip
_RULES: dict[str, Any] = {
    **table.RULES,
    "Cast": _cast,
    "TryCast": _cast,
    "ILike": None,
    **dict.fromkeys(("EQ", "NEQ", "GT", "GTE", "LT", "LTE"), clauses.compared_in_spark),
    "In": clauses.one_of_in_spark,
}
SPARK = Family("spark", FUNCTIONS, clauses.nodes(**_RULES), table.WHOLE, lambda name: None)
DATABRICKS = Family(
    "spark", {**FUNCTIONS, **repaired("size", (1, lambda call: values.size(call, of_null="NULL")), kind="int", how="len(a0)")},
    SPARK.nodes, SPARK.whole, SPARK.unknown,
)  # fmt: skip
