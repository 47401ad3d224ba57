"""Which types of Spark arrive in DuckDB as they are. Pure: types are the names that Spark's schema has."""

from reverse_etl.engines.pulled import Pulled, Unfit
from reverse_etl.sql.quoting import identifier, quoted
from reverse_etl.sql.types import SqlType

EXACT = frozenset(
    [
        *("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "binary"),
        *("date", "timestamp", "timestamp_ntz"),
    ]
)


def read_as(column: str, types: frozenset[str], shown: str) -> Pulled | Unfit:
    """What is read of a column of `__model`. `types` are all types in it, without parameters; `shown` is how Spark
    writes it."""
    there, here = f"__model.{quoted(column, 'spark')}", identifier(column)
    if types == {"void"}:
        return Pulled(column, f"CAST({there} AS STRING)", here)
    if types <= EXACT | {"decimal", "array", "map", "struct"}:
        return Pulled(column, there, here)
    to = "to_json({0}) AS {0}" if "variant" in types or len(types) > 1 else "CAST({0} AS STRING) AS {0}"
    hint = f"return {to.format(quoted(column, 'spark'))}"
    return Unfit(f'column "{column}" is {shown}, which does not arrive as it is', hint)


_SPARK = {
    **{"boolean": "BOOLEAN", "tinyint": "TINYINT", "smallint": "SMALLINT", "integer": "INT", "bigint": "BIGINT"},
    **{"float": "FLOAT", "double": "DOUBLE", "varchar": "STRING", "blob": "BINARY", "date": "DATE"},
    **{"timestamp": "TIMESTAMP_NTZ", "timestamp with time zone": "TIMESTAMP"},
}


def type_in_spark(of: SqlType) -> str | None:
    """What Spark calls a type of DuckDB; None if no value of Spark arrives as one."""
    if of.family == "decimal":
        return f"DECIMAL({of.precision}, {of.scale})"
    inner = [(name, type_in_spark(child)) for name, child in of.children]
    if of.family not in ("list", "struct", "map"):
        return _SPARK.get(of.family)
    if any(child is None for _, child in inner):
        return None
    if of.family == "struct":
        fields = (f"{quoted(name, 'spark')}: {child}" for name, child in inner)
        return f"STRUCT<{', '.join(fields)}>"
    return f"{'ARRAY' if of.family == 'list' else 'MAP'}<{', '.join(str(child) for _, child in inner)}>"
