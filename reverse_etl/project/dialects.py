"""Models in the SQL of another engine (`config(dialect='hive')`), translated by sqlglot to DuckDB's. Pure.

A model that names no dialect is never touched.
"""

from collections.abc import Callable

from reverse_etl.errors import Location, ProjectError

DIALECTS = (
    *("athena", "bigquery", "clickhouse", "databricks", "hive", "mysql", "oracle", "postgres", "presto"),
    *("redshift", "snowflake", "spark", "sqlite", "trino", "tsql"),
)


def transpile(sql: str, dialect: str, source_of: Callable[[int], Location]) -> str:
    """One SELECT in DuckDB's words. `source_of` leads from a line of `sql` to the file.

    Raises ProjectError for SQL that the dialect does not know, and for what would come out as something else.
    """
    import sqlglot
    from sqlglot import exp

    try:
        trees = [tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]
    except sqlglot.ParseError as error:
        first = error.errors[0]
        what = f'not {dialect}: {first["description"].split("<Token")[0].strip()} near "{first["highlight"]}"'
        raise ProjectError(what, source_of(first["line"])) from error
    except sqlglot.errors.TokenError as error:
        raise ProjectError(f"not {dialect}: {error}", source_of(0)) from error
    if len(trees) != 1:
        raise ProjectError(f"the model holds {len(trees)} statements", source_of(0), "write one SELECT")
    if any(lateral.args.get("outer") for lateral in trees[0].find_all(exp.Lateral)):
        hint = "sqlglot would lose the rows without elements: write LEFT JOIN UNNEST(...) ON true in DuckDB's SQL"
        raise ProjectError(f"{dialect}: LATERAL VIEW OUTER cannot be translated", source_of(0), hint)
    try:
        return trees[0].sql(dialect="duckdb", pretty=True, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.UnsupportedError as error:
        hint = "write this model in DuckDB's SQL, without config(dialect=...)"
        raise ProjectError(f"{dialect}: {error}", source_of(0), hint) from error
