"""The types of DuckDB: by how their values become JSON, what to hash of a value, and how texts compare. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from reverse_etl.sql.quoting import identifier, literal

# What DuckDB calls the types, by how their values become JSON.
INTEGERS = frozenset(
    {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"}
    | {"hugeint", "uhugeint", "bignum"}
)
BEYOND_64_BITS = frozenset({"hugeint", "uhugeint", "bignum"})
FLOATS = frozenset({"float", "double"})
NUMBERS = INTEGERS | FLOATS | {"decimal"}
TEXTS = frozenset({"varchar", "uuid", "enum"})
WRITTEN_ALIKE = INTEGERS | {"varchar", "boolean", "date"}  # by DuckDB and by Spark
CLOCK_TIMES = frozenset({"time", "time_ns", "time with time zone"})
TIMESTAMPS = frozenset(
    {
        "timestamp",
        "timestamp_s",
        "timestamp_ms",
        "timestamp_ns",
        "timestamp with time zone",
        "timestamp_ns with time zone",
    }
)
MOMENTS = TIMESTAMPS | {"date"}
LISTS = frozenset({"list", "array"})
NESTED = LISTS | {"struct", "map", "json"}
SENDABLE = NUMBERS | TEXTS | CLOCK_TIMES | MOMENTS | NESTED | {"boolean", "null"}


@dataclass(frozen=True)
class SqlType:
    """A DuckDB type: its family (`decimal`, `struct`, `json`, ...), its text, and the named types inside it.

    A list has one child `child`, a map `key` and `value`, a struct its fields. `precision` and `scale` are a decimal's.
    `collated`: a column of the type compares its strings by a collation, which the text of a type does not tell.
    """

    family: str
    text: str
    children: tuple[tuple[str, "SqlType"], ...] = ()
    precision: int = 0
    scale: int = 0
    collated: bool = False

    @property
    def is_nested(self) -> bool:
        return self.family in NESTED

    def unsendable(self) -> "SqlType | None":
        """The first type, this one or one inside it, whose values have no JSON form."""
        if self.family not in SENDABLE:
            return self
        return next((found for _, child in self.children if (found := child.unsendable())), None)

    def has(self, *families: str) -> bool:
        """Whether this type, or one inside it, is of one of these families."""
        return self.family in families or any(child.has(*families) for _, child in self.children)


_SIGNED = ("tinyint", "smallint", "integer", "bigint", "hugeint")
_UNSIGNED = ("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint")
# The types to which every value of a type can be cast without becoming other JSON; DECIMAL and nested types: `widens`.
_WIDER = {
    **{of: frozenset(_SIGNED[size:]) for size, of in enumerate(_SIGNED)},
    **{of: frozenset(_UNSIGNED[size:] + _SIGNED[size + 1 :]) for size, of in enumerate(_UNSIGNED)},
    "timestamp_s": frozenset({"timestamp_ms", "timestamp"}),
    "timestamp_ms": frozenset({"timestamp"}),
    "uuid": frozenset({"varchar"}),
    "enum": frozenset({"varchar"}),
}


def widens(before: SqlType, now: SqlType) -> bool:
    """Whether every value of type `before` is the same JSON when it is cast to `now`, or is of that type already."""
    if before.text == now.text:
        return True
    if before.family == "decimal" == now.family:
        return before.scale == now.scale and before.precision <= now.precision
    if before.family == now.family == "struct":  # a NULL field is left out of the JSON
        fields = dict(now.children)
        return all(name in fields and widens(child, fields[name]) for name, child in before.children)
    if before.family == now.family and before.family in ("list", "map"):
        return all(widens(*pair) for pair in zip(*(dict(of.children).values() for of in (before, now)), strict=True))
    return now.family in _WIDER.get(before.family, ())


def hashed(value: str, of: SqlType) -> list[str]:
    """What to hash of a value so that two values that differ have the same hash by chance alone.

    The value itself will not do where it is nested: [0] and [0, 0] have one hash in DuckDB, and so have NULL and [].
    """
    if not of.children:
        return [value]
    if of.family == "struct" and all(name for name, _ in of.children):
        inner = (hashed(f"struct_extract({value}, {literal(name)})", child) for name, child in of.children)
        return [f"{value} IS NULL", *(part for parts in inner for part in parts)]
    if of.family == "list" and not of.children[0][1].children:
        return [value, f"len({value})"]
    return [value, f"CAST({value} AS VARCHAR)"]


def texts_in(value: str, of: SqlType) -> Iterator[str]:
    """SQL for the strings of a value, one for each VARCHAR in its type."""
    if of.family == "varchar":
        yield value
    elif of.family == "struct" and all(name for name, _ in of.children):
        for part, _, child in _fields(value, of):
            yield from texts_in(part, child)
    elif of.family == "map":
        for function, (_, child) in zip(("map_keys", "map_values"), of.children, strict=True):
            yield from texts_in(f"list_extract({function}({value}), 1)", child)
    elif of.family in LISTS:
        yield from texts_in(f"{of.family}_extract({value}, 1)", of.children[0][1])


def _fields(value: str, of: SqlType) -> Iterator[tuple[str, str, SqlType]]:
    """SQL for each field of a struct, with its name and type."""
    for name, child in of.children:
        yield f"struct_extract({value}, {literal(name)})", name, child


def bytewise(value: str, of: SqlType) -> str:
    """The same value, whose strings compare byte by byte: to Braze, `ann` is not `Ann`."""
    return _bytewise(value, of, 0) if of.collated else value


def _bytewise(value: str, of: SqlType, depth: int) -> str:
    # CAST leaves the collation of a string as it is; so does COLLATE, if it is the result of a lambda.
    if of.family == "varchar":
        return f"decode(encode({value}))"
    if next(texts_in(value, of), None) is None:
        return value
    item, inner = f"text{depth}", dict(of.children)
    if of.family == "struct":
        fields = [f"{identifier(name)} := {_bytewise(part, child, depth)}" for part, name, child in _fields(value, of)]
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(fields)}) END"
    if of.family == "map":
        key, held = (_bytewise(f"{item}.{name}", inner[name], depth + 1) for name in ("key", "value"))
        entries = f"list_transform(map_entries({value}), lambda {item}: {{'key': {key}, 'value': {held}}})"
        return f"map_from_entries({entries})"
    if of.family == "array":  # a cast to another type than its own does take it off
        return f"CAST(CAST({value} AS {of.children[0][1].text}[]) AS {of.text})"
    return f"list_transform({value}, lambda {item}: {_bytewise(item, of.children[0][1], depth + 1)})"
