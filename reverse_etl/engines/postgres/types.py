"""What becomes of each type of Postgres on its way to DuckDB. Pure.

A type of EXACT arrives as it is. Others are read as text or JSON, or are cast back from what the driver makes of them.
What would arrive changed is refused, with the cast that makes it one of the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from reverse_etl.engines.pulled import Pulled, Unfit, refusal, refused
from reverse_etl.sql.quoting import identifier, literal, plain

EXACT = frozenset(
    [
        *("int2", "int4", "int8", "float4", "float8", "bool", "text", "varchar", "uuid", "json", "jsonb", "bytea"),
        "time",
    ]
)
# As text, which says all of them: of char(n) without the blanks that fill it up, as Postgres itself casts it.
AS_TEXT = frozenset(
    ["bpchar", "name", "char", "citext", "inet", "cidr", "macaddr", "macaddr8", "timetz", "xml", "bit", "varbit"]
)
# pg_type.typtype: enums, ranges and multiranges are read as text, composite types as JSON.
_TEXT_KINDS, _COMPOSITE = frozenset("erm"), "c"
# The driver counts from 1970, not from 2000, and adds those years to infinity, too: it starts over at the other end.
# No date and no time of Postgres becomes one of these two. The last part is the SQL of such a value in DuckDB.
_MOMENTS: Mapping[str, tuple[str, int, str]] = {
    "date": ("DATE", -2147472692, "DATE '1970-01-01' + ({})"),
    "timestamp": ("TIMESTAMP", -9222425352054775809, "make_timestamp({})"),
    "timestamptz": ("TIMESTAMPTZ", -9222425352054775809, "make_timestamptz({})"),
}
_CAST_TO: Mapping[str, str] = {  # what becomes one of the others, where text is not what is meant
    "numeric": "numeric(18, 2)",
    "money": "numeric(19, 2)",
    "oid": "bigint",
}


@dataclass(frozen=True)
class PgType:
    """The type of a column: `name` is that of pg_type, of an array that of its elements.

    `kind` is pg_type.typtype, and `modifier` is atttypmod: precision and scale of numeric.
    """

    name: str
    modifier: int = -1
    kind: str = "b"
    is_array: bool = False


def is_known(name: str) -> bool:
    """Whether the name of a type says all of it."""
    element = name.removeprefix("_")
    return element in EXACT or element in AS_TEXT or element in _MOMENTS or element in ("numeric", "money", "oid")


def read_as(column: str, of: PgType) -> Pulled | Unfit:
    """What is read of a column of `__model`, and what it becomes."""
    there, here = f"__model.{identifier(column)}", identifier(column)
    if of.kind == _COMPOSITE:
        return Pulled(column, f"to_jsonb({there})", here)
    if of.is_array:
        return _array(column, of, there, here)
    if of.name in AS_TEXT or of.kind in _TEXT_KINDS:
        return Pulled(column, f"{there}::text", here)
    if of.name in _MOMENTS:
        return Pulled(column, there, _moment(here, *_MOMENTS[of.name]))
    if of.name in EXACT:
        return Pulled(column, there, here)
    decimal = _decimal(of)
    if decimal:
        fails = refusal(column, f"is NaN or infinite, which no {decimal} is: cast it to float8 in the model")
        value = f"coalesce(TRY_CAST({here} AS {decimal}), CASE WHEN {here} IS NOT NULL THEN {fails} END)"
        return Pulled(column, there, value)
    return _refused(column, of)


def _array(column: str, of: PgType, there: str, here: str) -> Pulled | Unfit:
    if of.name in AS_TEXT or of.kind in _TEXT_KINDS:
        there = f"{there}::text[]"
    elif of.name not in EXACT - {"time"}:
        return _refused(column, of)
    # The driver makes one list of all of them; so Postgres is given a text for a number, which it repeats in an error.
    why = literal(refused(column, "is an array of several dimensions: return to_jsonb() of it"))
    fails = f"({there})[1:CAST({why} || left(({there})::text, 0) AS int)]"
    return Pulled(column, f"CASE WHEN array_ndims({there}) > 1 THEN {fails} ELSE {there} END", here)


def _moment(value: str, of: str, infinity: int, template: str) -> str:
    found = [(template.format(infinity + n), name) for n, name in enumerate(("infinity", "-infinity"))]
    cases = " ".join(f"WHEN {value} = {number} THEN CAST('{name}' AS {of})" for number, name in found)
    return f"CASE {cases} ELSE {value} END"


def _decimal(of: PgType) -> str | None:
    """The type of DuckDB for a numeric; None if it is none, or has no precision, or one that DuckDB has not."""
    if of.name != "numeric" or of.modifier < 0:
        return None
    precision, scale = of.modifier - 4 >> 16 & 0xFFFF, of.modifier - 4 & 0x7FF
    return f"DECIMAL({precision}, {scale})" if precision <= 38 and scale <= precision else None


def _refused(column: str, of: PgType) -> Unfit:
    shown = f"{of.name}[]" if of.is_array else of.name
    if shown == "numeric":
        shown += " without a precision of at most 38 digits"
    name = plain(column)
    if of.is_array or of.name == "record":
        return Unfit(
            f'column "{column}" is {shown}, which does not arrive as it is', f"return to_jsonb({name}) AS {name}"
        )
    cast = f"return {name}::{_CAST_TO.get(of.name, 'text')} AS {name}"
    if of.name == "numeric":
        cast += ", or ::bigint, or ::float8: what it is meant to be"
    return Unfit(f'column "{column}" is {shown}, which does not arrive as it is', cast)
