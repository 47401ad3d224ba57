"""Whom acknowledged rows in Spark are about: the texts of `records/identity.py`, in Spark's SQL. Pure."""

from collections.abc import Iterator, Mapping

from reverse_etl.records.identity import KINDS
from reverse_etl.records.layout import ALIAS_PARTS
from reverse_etl.sql.quoting import literal, quoted
from reverse_etl.sql.types import SqlType

_NORMALIZED = {"email": "lower(trim({}))", "phone": "regexp_replace({}, '[^0-9]', '')"}
_SEPARATOR = "CAST(X'1F' AS STRING)"


def all_named(columns: Mapping[str, SqlType]) -> Iterator[str]:
    """SQL for each identifier of a row, whether it is about that one or not; NULL if it lacks it."""
    for kind in KINDS:
        if kind in columns and kind != "user_alias":
            text = _NORMALIZED.get(kind, "{}").format(_text(quoted(kind, "spark")))
            yield f"concat({literal(f'{kind}:')}, CASE WHEN {text} <> '' THEN {text} END)"
    name, label = ALIAS_PARTS
    if "user_alias" in columns:
        whole = quoted("user_alias", "spark")
        part = f"get_json_object({whole}, '$.{{}}')" if columns["user_alias"].family == "varchar" else f"{whole}.{{}}"
        yield _alias(part.format(label), part.format(name))
    if set(ALIAS_PARTS) <= columns.keys():
        yield _alias(quoted(label, "spark"), quoted(name, "spark"))


def _alias(label: str, name: str) -> str:
    return f"concat('user_alias:', {_text(label)}, {_SEPARATOR}, {_text(name)})"


def _text(value: str) -> str:
    return f"CAST({value} AS STRING)"
