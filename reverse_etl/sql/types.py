"""The types of DuckDB: by how their values become JSON, and what to hash of a value. Pure."""

from dataclasses import dataclass

from reverse_etl.sql.quoting import literal

# What DuckDB calls the types, by how their values become JSON.
INTEGERS = frozenset(
    {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"}
    | {"hugeint", "uhugeint", "bignum"}
)
BEYOND_64_BITS = frozenset({"hugeint", "uhugeint", "bignum"})
FLOATS = frozenset({"float", "double"})
NUMBERS = INTEGERS | FLOATS | {"decimal"}
TEXTS = frozenset({"varchar", "uuid", "enum"})
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
    """

    family: str
    text: str
    children: tuple[tuple[str, "SqlType"], ...] = ()
    precision: int = 0
    scale: int = 0

    @property
    def is_nested(self) -> bool:
        return self.family in NESTED

    def unsendable(self) -> "SqlType | None":
        """The first type, this one or one inside it, whose values have no JSON form."""
        if self.family not in SENDABLE:
            return self
        return next((found for _, child in self.children if (found := child.unsendable())), None)


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
