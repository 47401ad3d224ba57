"""Macros of dbt and its packages: retl has none of them, and says which SQL of DuckDB does the same. Pure.

{{ dbt_utils.star(ref('customers'), except=['id']) }}    an error, with the hint: SELECT * EXCLUDE (id) FROM ...
"""

from collections.abc import Mapping
from typing import NoReturn

from reverse_etl.errors import closest
from reverse_etl.project.environment import TemplateProblem
from reverse_etl.project.spec_targets import WAREHOUSES

_IN_DBT = "build a model with it in dbt, and ref() that model"
# What each does, with names of tables and columns to replace; held to results by tests/project/test_dbt_packages.py.
_UTILS = {
    "star": "SELECT * EXCLUDE (id, email) FROM t",
    "get_filtered_columns_in_relation": "SELECT * EXCLUDE (id, email) FROM t",
    "pivot": "FROM t PIVOT (count(*) FOR status IN ('paid', 'open') GROUP BY user_id)",
    "get_column_values": "PIVOT t ON status USING count(*) GROUP BY user_id",
    "unpivot": "FROM t UNPIVOT (value FOR name IN (COLUMNS(* EXCLUDE user_id)))",
    "deduplicate": "SELECT * FROM t QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY updated_at DESC) = 1",
    "date_spine": "SELECT unnest(range(DATE '2026-01-01', DATE '2026-02-01', INTERVAL 1 DAY)) AS date_day",
    "generate_series": "SELECT unnest(range(1, 11)) AS generated_number",
    "union_relations": "SELECT * FROM a UNION ALL BY NAME SELECT * FROM b",
    "generate_surrogate_key": "md5(array_to_string([coalesce(x, '_dbt_utils_surrogate_key_null_') "
    "FOR x IN [a::VARCHAR, b::VARCHAR]], '-'))",
    "surrogate_key": "md5(array_to_string([coalesce(x, '') FOR x IN [a::VARCHAR, b::VARCHAR]], '-'))",
    "group_by": "GROUP BY ALL",
    "safe_divide": "a / nullif(b, 0)",
    "safe_add": "coalesce(a, 0) + coalesce(b, 0)",
    "safe_subtract": "coalesce(a, 0) - coalesce(b, 0)",
    "get_url_host": "regexp_extract(url, '^(?:[a-z-]+://)?([^/?]+)', 1)",
    "get_url_path": "regexp_extract(url, '^(?:[a-z-]+://)?[^/?]+/([^?]*)', 1)",
    "get_url_parameter": "nullif(regexp_extract(url, 'utm_source=([^&]*)', 1), '')",
}
_DBT = {
    "date_trunc": "date_trunc('month', ordered_at)",
    "dateadd": "ordered_at + INTERVAL 7 DAY",
    "datediff": "date_diff('day', ordered_at, updated_at)",
    "last_day": "last_day(ordered_at)",
    "date": "make_date(2026, 1, 31)",
    "split_part": "split_part(email, '@', 2)",
    "concat": "name || ' ' || status",
    "hash": "md5(email::VARCHAR)",
    "safe_cast": "TRY_CAST(email AS DOUBLE)",
    "cast": "CAST(a AS DOUBLE)",
    "cast_bool_to_text": "is_paid::VARCHAR",
    "listagg": "string_agg(name, ', ' ORDER BY name)",
    "any_value": "any_value(name)",
    "bool_or": "bool_or(is_paid)",
    "right": "right(name, 2)",
    "length": "length(name)",
    "position": "position('@' IN email)",
    "replace": "replace(name, 'a', 'b')",
    "string_literal": "'paid'",
    "escape_single_quotes": "'it''s'",
    "array_construct": "['a', 'b']",
    "array_append": "list_append(['a'], 'b')",
    "array_concat": "list_concat(['a'], ['b'])",
    "current_timestamp": "now()",
    "date_spine": _UTILS["date_spine"],
    "type_string": "VARCHAR",
    "type_int": "INTEGER",
    "type_bigint": "BIGINT",
    "type_float": "FLOAT",
    "type_numeric": "DECIMAL(28, 6)",
    "type_boolean": "BOOLEAN",
    "type_timestamp": "TIMESTAMP",
}
PACKAGES: Mapping[str, Mapping[str, str]] = {
    "dbt_utils": {**_DBT, **_UTILS},
    "dbt": _DBT,
    **{name: {} for name in ("dbt_date", "dbt_expectations", "codegen", "audit_helper", "elementary")},
}


def package(name: str, dialect: str) -> "_Package":
    """What a package is in the templates of models that run in `dialect`."""
    return _Package(name, dialect)


class _Package:
    """A package of dbt. Whatever is asked of it is an error with a hint."""

    def __init__(self, name: str, dialect: str) -> None:
        self._name, self._dialect = name, dialect

    def __getattr__(self, macro: str) -> NoReturn:
        if macro.startswith("_"):
            raise AttributeError(macro)  # what Jinja looks for in all values
        sql = PACKAGES[self._name]
        word = macro if macro in sql else closest(macro, sql)
        hint = f"write it in SQL, or {_IN_DBT}"
        if word and self._dialect == "duckdb":
            hint = f"write {sql[word]}"
        elif self._dialect != "duckdb":
            hint = f"write it in the SQL of {WAREHOUSES[self._dialect]}, or {_IN_DBT}"
        raise TemplateProblem(f"{self._name}.{macro} is a macro of dbt, which retl does not have", hint, code="P139")
