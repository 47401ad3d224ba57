"""Macros of dbt's packages: the hint has SQL that does the same, and DuckDB runs it."""

from datetime import date, datetime
from hashlib import md5
from typing import Any

import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.plan.workbench import connect
from reverse_etl.project.dbt_packages import PACKAGES
from tests.project.test_models import compiled

TABLES = """
CREATE TABLE t AS SELECT * FROM (VALUES
    (1, 'ada@x.io', 'u1', 'paid', TIMESTAMP '2026-02-03 04:00', DATE '2026-01-15', 6, 3, 'Ada', true,
     'https://shop.io/cart/pay?utm_source=mail&x=1'),
    (2, 'bob@x.io', 'u1', 'open', TIMESTAMP '2026-02-01 00:00', DATE '2026-01-15', 5, 0, 'Bob', false, 'shop.io')
) AS t(id, email, user_id, status, updated_at, ordered_at, a, b, name, is_paid, url);
CREATE TABLE a AS SELECT 1 AS x, 2 AS y;
CREATE TABLE b AS SELECT 3 AS y;
"""
QUERIES: dict[str, list[tuple[Any, ...]]] = {
    "pivot": [("u1", 1, 1)],
    "deduplicate": [
        (1, "ada@x.io", "u1", "paid", datetime(2026, 2, 3, 4), date(2026, 1, 15), 6, 3, "Ada", True,
         "https://shop.io/cart/pay?utm_source=mail&x=1")
    ],
    "get_column_values": [("u1", 1, 1)],
    "date_spine": [(datetime(2026, 1, 1),), (datetime(2026, 1, 31),)],
    "generate_series": [(1,), (10,)],
    "union_relations": [(1, 2), (None, 3)],
}  # fmt: skip
VALUES: dict[str, Any] = {
    "generate_surrogate_key": md5(b"6-3").hexdigest(),
    "surrogate_key": md5(b"6-3").hexdigest(),
    "safe_divide": 2.0,
    "safe_add": 9,
    "safe_subtract": 3,
    "get_url_host": "shop.io",
    "get_url_path": "cart/pay",
    "get_url_parameter": "mail",
    "date_trunc": datetime(2026, 1, 1),
    "dateadd": datetime(2026, 1, 22),
    "datediff": 19,
    "last_day": date(2026, 1, 31),
    "date": date(2026, 1, 31),
    "split_part": "x.io",
    "concat": "Ada paid",
    "hash": md5(b"ada@x.io").hexdigest(),
    "safe_cast": None,
    "cast": 6.0,
    "cast_bool_to_text": "true",
    "right": "da",
    "length": 3,
    "position": 4,
    "replace": "Adb",
    "string_literal": "paid",
    "escape_single_quotes": "it's",
    "array_construct": ["a", "b"],
    "array_append": ["a", "b"],
    "array_concat": ["a", "b"],
}
AGGREGATES: dict[str, Any] = {"listagg": "Ada, Bob", "any_value": "Ada", "bool_or": True}


def run(sql: str) -> list[tuple[Any, ...]]:
    with connect() as connection:
        connection.execute(TABLES)
        return connection.execute(sql).fetchall()


def hint_of(macro: str, package: str = "dbt_utils") -> str:
    with pytest.raises(ProjectError) as raised:
        compiled("a", a=f"select {{{{ {package}.{macro}('x') }}}}")
    (problem,) = raised.value.problems
    assert problem.message == f"{package}.{macro} is a macro of dbt, which retl does not have"
    return problem.hint or ""


@pytest.mark.parametrize("macro", QUERIES)
def test_query_does_the_same(macro: str):
    found = run(hint_of(macro).removeprefix("write "))
    assert [found[0], *found[-1:]][: len(QUERIES[macro])] == QUERIES[macro]


@pytest.mark.parametrize("macro", VALUES)
def test_expression_does_the_same(macro: str):
    assert run(f"SELECT {hint_of(macro).removeprefix('write ')} FROM t WHERE id = 1") == [(VALUES[macro],)]


@pytest.mark.parametrize("macro", AGGREGATES)
def test_aggregate_does_the_same(macro: str):
    assert run(f"SELECT {hint_of(macro).removeprefix('write ')} FROM t") == [(AGGREGATES[macro],)]


def test_every_macro_is_held_to_a_result_or_is_a_word_of_sql():
    others = {
        "star": lambda sql: len(run(sql)[0]) == 9,
        "get_filtered_columns_in_relation": lambda sql: len(run(sql)[0]) == 9,
        "unpivot": lambda sql: len(run(sql.replace("* EXCLUDE user_id", "['a', 'b']"))[0]) == 11,
        "group_by": lambda sql: len(run(f"SELECT user_id, count(*) FROM t {sql}")) == 1,
        "current_timestamp": lambda sql: len(run(f"SELECT {sql}")) == 1,
    }
    types = {name for name in PACKAGES["dbt"] if name.startswith("type_")}
    assert {*QUERIES, *VALUES, *AGGREGATES, *others, *types} == PACKAGES["dbt_utils"].keys()
    for name, holds in others.items():
        assert holds(PACKAGES["dbt_utils"][name])
    for name in types:
        assert run(f"SELECT CAST(NULL AS {PACKAGES['dbt'][name]})") == [(None,)]


@pytest.mark.parametrize(
    ("macro", "package", "hint"),
    [
        pytest.param("star_", "dbt_utils", "write SELECT * EXCLUDE (id, email) FROM t", id="nearly its name"),
        pytest.param(
            "equal_rowcount",
            "dbt_utils",
            "write it in SQL, or build a model with it in dbt, and ref() that model",
            id="without SQL",
        ),
        pytest.param(
            "day_name",
            "dbt_date",
            "write it in SQL, or build a model with it in dbt, and ref() that model",
            id="another package",
        ),
    ],
)
def test_hint_for_what_has_no_sql_is_dbt(macro: str, package: str, hint: str):
    assert hint_of(macro, package) == hint
