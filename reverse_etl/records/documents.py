"""JSON documents: their faults, whether they are operators, and their keys, as cheaply as their types allow. Pure.

type says it      lists and objects of numbers, strings, times: few of their values may have a fault
plain             a short valid document in which one pattern finds nothing unusual
all others        the functions in `macros.sql` read them closely, one fault after the other
"""

import re

from reverse_etl.braze.modes import MAX_ARRAY_ITEMS, MAX_TEXT, OPERATORS, Extra
from reverse_etl.records.expressions import json_of, plain_of
from reverse_etl.records.layout import Column, Layout
from reverse_etl.sql.quoting import literal
from reverse_etl.sql.types import CLOCK_TIMES, FLOATS, INTEGERS, LISTS, MOMENTS, TEXTS, SqlType

_SHORT = min(MAX_TEXT, MAX_ARRAY_ITEMS)  # bytes; neither a text nor an array of a shorter document is too long
_EXACT = INTEGERS - {"hugeint", "uhugeint", "bignum"} | TEXTS | CLOCK_TIMES | {"boolean", "null"}
_GOOD_KEY = re.compile(r"[A-Za-z0-9_-]{1,255}")

# What every document has that has a fault, is an operator, or whose keys `"":` does not count. It may find more.
_UNUSUAL = "|".join(
    (
        r"^\s",
        r'^\{\s*"(?:inc|add|remove)"',
        r"(?:^|[:,\[])\s*[-+]?(?:(?i:nan|inf|null)|[0-9.]+[eE])",
        r"[0-9]{19}",
        r",\s*[\]}]",
        r"[\[,]\s*\{",  # an object in an array
        r'\\"',
        r'[.$\s\\][^"]*"\s*:',  # in a key
        r'""\s*:|"\s+:|[:,\[{]\s*":',
    )
)
_OPERATOR = r'^\s*\{\s*"(' + "|".join(name.replace("$", r"\$") for name in OPERATORS) + r')"\s*:'


def opaque(layout: Layout) -> list[Column]:
    """The columns of whose documents the type says nothing."""
    if layout.mode.extra is Extra.CATALOG_FIELD:
        return []  # whose functions are others
    return [column for column in layout.json_columns if _doubt(layout, column) is None]


def plain(document: str) -> str:
    """SQL for: a document is plain."""
    is_usual = f"strlen({document}) <= {_SHORT} AND NOT regexp_matches({document}, {literal(_UNUSUAL)})"
    return f"CASE WHEN {is_usual} THEN json_valid({document}) ELSE false END"


def fault(layout: Layout, column: Column) -> str:
    """SQL for 0, or the number of the first of JSON_FAULTS in the document of a column."""
    document, in_attribute = json_of(column.name), "false" if layout.mode.nested_nulls else "true"
    if layout.mode.extra is Extra.CATALOG_FIELD:
        return f"retl_item_fault({document})"
    doubt = _doubt(layout, column)
    if doubt is None:
        doubt = f"NOT {plain_of(column.name)}"
    return f"CASE WHEN {doubt} THEN retl_json_fault({document}, {in_attribute}) ELSE 0 END"


def may_be_operator(of: SqlType) -> bool:
    """Whether a document of this type may be an operation on what Braze has, such as `inc`."""
    if of.family == "struct":
        return any(name in OPERATORS for name, _ in of.children)
    return of.family not in LISTS


def is_operator(document: str) -> str:
    """SQL for: a document is an operation on what Braze has."""
    return f"coalesce(regexp_matches({document}, {literal(_OPERATOR)}), false)"


def unless_plain(layout: Layout, column: Column, condition: str, otherwise: str = "false") -> str:
    """SQL for a value that takes long to find, unless the document of a column is plain."""
    if column not in opaque(layout):
        return condition
    return f"CASE WHEN {plain_of(column.name)} THEN {otherwise} ELSE {condition} END"


def keys_of_plain(document: str) -> str:
    """SQL for the number of keys in a plain document, including those of objects inside it; 1 if it is no object."""
    keys = f"""(strlen({document}) - strlen(replace({document}, '":', ''))) // 2"""
    return f"CASE WHEN starts_with({document}, '{{') THEN {keys} ELSE 1 END"


def _doubt(layout: Layout, column: Column) -> str | None:
    """SQL for: the document of a column may have a fault, for all that its type says; None if that says nothing."""
    if column.type.family == "varchar":
        return None
    words = _words(column.type, layout.mode.nested_times, layout.mode.nested_nulls)
    if words is None:
        return None
    document = json_of(column.name)
    return " OR ".join([f"strlen({document}) > {_SHORT}", *(f"contains({document}, '{word}')" for word in words)])


def _words(of: SqlType, nested_times: bool, nested_nulls: bool, inside_object: bool = False) -> set[str] | None:
    """What a short document of this type has in it, if it has a fault; None if a fault may be something else."""
    if of.family in _EXACT or (of.family == "decimal" and of.precision < 19):
        return set()
    if of.family in FLOATS:
        return {"nan", "inf"}
    if of.family in MOMENTS:
        return None if nested_times and inside_object else {"Inf"}
    if of.family not in LISTS | {"struct"}:
        return None
    is_object = of.family == "struct"
    if is_object and not all(_GOOD_KEY.fullmatch(name) for name, _ in of.children):
        return None
    found = set() if is_object or nested_nulls else {"null"}
    for _, child in of.children:
        words = _words(child, nested_times, nested_nulls, inside_object or is_object)
        if words is None:
            return None
        found |= words
    return found
