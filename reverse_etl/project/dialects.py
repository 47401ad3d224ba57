"""Models in the SQL of another engine (`config(dialect='hive')`), translated to DuckDB SQL by sqlglot. Pure.

A model without a dialect is never changed.
"""

from collections.abc import Callable

from reverse_etl.errors import Location, ProjectError
from reverse_etl.words import count

DIALECTS = (
    *("athena", "bigquery", "clickhouse", "databricks", "hive", "mysql", "oracle", "postgres", "presto"),
    *("redshift", "snowflake", "spark", "sqlite", "trino", "tsql"),
)


def transpile(sql: str, dialect: str, source_of: Callable[[int], Location]) -> str:
    """One SELECT in DuckDB SQL. `source_of` maps a line of `sql` to its location in the file.

    Raises ProjectError for SQL that is not valid in the dialect, and for SQL whose translation would mean something
    else.
    """
    import sqlglot
    from sqlglot import exp

    try:
        trees = [tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]
    except sqlglot.ParseError as error:
        first = error.errors[0]
        description = first["description"].split("<Token")[0].strip().rstrip(".")
        what = f'invalid {dialect} SQL: {description} near "{first["highlight"]}"'
        raise ProjectError(what, source_of(first["line"]), code="P050") from error
    except sqlglot.errors.TokenError as error:
        raise ProjectError(f"invalid {dialect} SQL: {error}", source_of(0), code="P050") from error
    if len(trees) != 1:
        what = f"the model contains {count(len(trees), 'statement')}"
        raise ProjectError(what, source_of(0), "a model must be a single SELECT", code="P050")
    if any(lateral.args.get("outer") for lateral in trees[0].find_all(exp.Lateral)):
        hint = "use LEFT JOIN UNNEST(...) ON true in DuckDB SQL: the translation would lose rows without elements"
        raise ProjectError(f"{dialect}: LATERAL VIEW OUTER cannot be translated", source_of(0), hint, code="P050")
    try:
        return trees[0].sql(dialect="duckdb", pretty=True, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.UnsupportedError as error:
        hint = "write this model in DuckDB SQL and remove config(dialect=...)"
        raise ProjectError(f"{dialect}: {str(error).rstrip('.')}", source_of(0), hint, code="P050") from error
