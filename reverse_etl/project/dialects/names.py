"""The names of dialects: which are translated, and why the others are not. Loaded without sqlglot."""

DIALECTS = (
    *("athena", "bigquery", "databricks", "hive", "postgres", "presto", "redshift", "snowflake", "spark", "trino"),
)
NOT_TRANSLATED = {
    "clickhouse": "its functions have other names and other NULLs",
    "mysql": "it compares texts without regard to case",
    "oracle": "it takes an empty text for NULL",
    "sqlite": "its columns have no types",
    "tsql": "it compares texts without regard to case",
}
