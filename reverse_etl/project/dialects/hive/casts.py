"""Hive's casts: one that fails is NULL."""

from sqlglot import exp

from reverse_etl.project.dialects.kinds import kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Refusal, Translator

_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"


_DECIMAL_DIGITS = (
    "the text of a double is written another way from 10 million up and below 0.001: cast it to decimal first"
)


_SMALL = "(a0 = 0 OR (abs(CAST(a0 AS DOUBLE)) >= 0.001 AND abs(CAST(a0 AS DOUBLE)) < 10000000))"


DOUBLE_TEXT = (
    f"CASE WHEN NOT {_SMALL.replace('a0 = 0', 'TRY_CAST(a0 AS DOUBLE) = 0').replace('CAST(a0', 'TRY_CAST(a0')}"
    f" THEN stop('{_DECIMAL_DIGITS}') ELSE CAST(TRY_CAST(a0 AS DOUBLE) AS VARCHAR) END"
).replace("TRY_TRY_CAST", "TRY_CAST")


_TRIMMED_DECIMAL = (
    "CASE WHEN contains(CAST(a0 AS VARCHAR), '.') THEN regexp_replace(CAST(a0 AS VARCHAR), '\\.?0+$', '')"
    " ELSE CAST(a0 AS VARCHAR) END"
)


_NO_TEXT = "only texts, numbers, booleans, dates and timestamps become text"
# What is not here is the text that DuckDB makes of it.
TEXTS = {
    "bool": "upper(CAST(a0 AS VARCHAR))",
    "decimal": _TRIMMED_DECIMAL,
    "double": DOUBLE_TEXT,
    "timestamptz": "CAST(TRY_CAST(a0 AS TIMESTAMP) AS VARCHAR)",
    "nested": f"stop('{_NO_TEXT}')",
}
SPARK_TEXTS = {key: form for key, form in TEXTS.items() if key not in ("bool", "decimal")}


def to_text(by: Translator, value: exp.Expression, is_cast: bool = True) -> exp.Expression:
    """A value as the text that Hive makes of it: concat() writes booleans in another way than CAST."""
    kind = kind_of(value)
    if kind in ("text", "null"):
        return value
    texts = SPARK_TEXTS if by.family.name == "spark" else TEXTS
    if kind in ("list", "map", "json"):
        raise Refusal(f"{by.dialect}: {_NO_TEXT}")
    texts = {key: form for key, form in texts.items() if is_cast or key != "bool"}
    made = by.by_kind(value, texts, "CAST(a0 AS VARCHAR)")
    return with_kind(made, "text")


def _to_int(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    exact = "DOUBLE" if target in ("TINYINT", "SMALLINT", "INT") else "DECIMAL(38, 9)"
    said = "trim(CAST(a0 AS VARCHAR))" if by.family.name == "spark" else "CAST(a0 AS VARCHAR)"
    forms = {
        "text": f"CASE WHEN regexp_full_match({said}, '{_NUMBER}') THEN TRY_CAST(trunc(TRY_CAST({said} AS {exact})) AS {target}) END",
        "double": f"TRY_CAST(trunc(TRY_CAST(a0 AS DOUBLE)) AS {target})",
        "decimal": f"TRY_CAST(trunc(TRY_CAST(a0 AS DECIMAL(38, 9))) AS {target})",
        "timestamp": "stop('a timestamp as a number is not translated: use unix_timestamp()')",
        "date": "stop('a date as a number is not translated: use unix_timestamp()')",
    }
    if kind_of(value) in ("timestamp", "date"):
        raise Refusal(f"{by.dialect}: a date or timestamp as a number is not translated", "use unix_timestamp()")
    return by.by_kind(value, forms, f"TRY_CAST(a0 AS {target})")


def _to_double(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    said = "trim(CAST(a0 AS VARCHAR))"
    gate = f"{_NUMBER}([eE][+-]?[0-9]+)?[dDfF]?"
    forms = {
        "text": f"CASE WHEN regexp_full_match({said}, '{gate}') THEN TRY_CAST(regexp_replace({said}, '[dDfF]$', '') AS {target}) END"
    }
    return by.by_kind(value, forms, f"TRY_CAST(a0 AS {target})")


def _to_decimal(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    said = "trim(CAST(a0 AS VARCHAR))"
    gate = f"{_NUMBER}([eE][+-]?[0-9]+)?"
    forms = {"text": f"CASE WHEN regexp_full_match({said}, '{gate}') THEN TRY_CAST({said} AS {target}) END"}
    return by.by_kind(value, forms, f"TRY_CAST(a0 AS {target})")


def _to_bool(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    hint = "write the comparison: x = 'true'"
    if kind_of(value) == "text":
        raise Refusal(f"{by.dialect}: text as boolean is not translated: versions differ", hint)
    stop = f"stop('text as boolean is not translated: {hint}')".replace("'true'", "true")
    return by.by_kind(value, {"text": stop}, "TRY_CAST(a0 AS BOOLEAN)")


_STAMP = r"\d{4}-\d\d?-\d\d?( \d\d?:\d\d?:\d\d?(\.\d+)?)?"


def _to_timestamp(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    whole = "make_timestamp(TRY_CAST(a0 AS BIGINT) * {})".format(1_000_000 if by.family.name == "spark" else 1000)
    forms = {
        "text": f"CASE WHEN regexp_full_match(CAST(a0 AS VARCHAR), '{_STAMP}') THEN TRY_CAST(a0 AS TIMESTAMP) END",
        "int": whole,
        "double": "to_timestamp(TRY_CAST(a0 AS DOUBLE)) AT TIME ZONE 'UTC'",
        "decimal": "to_timestamp(TRY_CAST(a0 AS DOUBLE)) AT TIME ZONE 'UTC'",
    }
    return by.by_kind(value, forms, "TRY_CAST(a0 AS TIMESTAMP)")


DAY = "TRY_CAST(regexp_extract(CAST(a0 AS VARCHAR), '^\\s*(\\d{4}-\\d\\d?-\\d\\d?)', 1) AS DATE)"


def to_date(by: Translator, value: exp.Expression, target: str = "DATE") -> exp.Expression:
    """The date of a value; NULL if a text is not one. Hive takes 31 February for 3 March: here it is NULL."""
    if kind_of(value) == "date":
        return value
    return with_kind(by.by_kind(value, {"text": DAY}, "TRY_CAST(a0 AS DATE)"), "date")


def _to_varchar(by: Translator, value: exp.Expression, target: str) -> exp.Expression:
    return to_text(by, value)


_CASTS = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), _to_int),
    **dict.fromkeys(("FLOAT", "DOUBLE"), _to_double),
    "DECIMAL": _to_decimal,
    "BOOLEAN": _to_bool,
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPNTZ"), _to_timestamp),
    "DATE": to_date,
    **dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), _to_varchar),
}


def cast(by: Translator, node: exp.Cast) -> exp.Expression:
    """What a cast becomes; one that fails is NULL in Hive."""
    target = node.to.this.name
    if target not in _CASTS:
        raise Refusal(f"{by.dialect}: CAST AS {node.to.sql(dialect='hive')} is not translated")
    named = {"FLOAT": "FLOAT", "TIMESTAMPTZ": "TIMESTAMP", "DECIMAL": node.to.sql(dialect="duckdb")}
    made = _CASTS[target](by, node.this, named.get(target, target))
    if target == "DECIMAL" and not node.to.expressions:
        made = _to_decimal(by, node.this, "DECIMAL(10, 0)")
    sizes = [size.this for size in node.to.expressions] if target in ("VARCHAR", "TEXT", "CHAR") else []
    made = by.fill("left(a0, a1)", made, sizes[0]) if sizes else made
    kinds = {"TIMESTAMPTZ": "timestamp", "FLOAT": "double", "DOUBLE": "double", "DECIMAL": "decimal", "BOOLEAN": "bool"}
    kinds |= {"TIMESTAMP": "timestamp", "DATE": "date"} | dict.fromkeys(("VARCHAR", "TEXT", "CHAR"), "text")
    return with_kind(made if made is not node.this else made.copy(), kinds.get(target, "int"))
