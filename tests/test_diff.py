"""What counts as a change."""

import json
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.engines.duckdb import _sql_type
from reverse_etl.values import hashed
from tests.conftest import Shop

PAIRS = [
    ("INTEGER[]", "[0]", "[0, 0]"),
    ("INTEGER[]", "NULL", "[]"),
    ("INTEGER[]", "[1]", "[1, 0]"),
    ("INTEGER[][]", "[[1], [2]]", "[[1, 2]]"),
    ("INTEGER[][]", "[[1], [2, 3]]", "[[1, 2], [3]]"),
    ("INTEGER[][]", "[[]]", "[]"),
    ("INTEGER[2]", "[0, 1]", "[1, 0]"),
    ("STRUCT(a INTEGER, b INTEGER)", "NULL", "{'a': NULL, 'b': NULL}"),
    ("STRUCT(a INTEGER[], b INTEGER)", "{'a': [0], 'b': 0}", "{'a': [0, 0], 'b': 0}"),
    ("STRUCT(a STRUCT(b VARCHAR))", "{'a': {'b': 'x'}}", "{'a': {'b': 'y'}}"),
    ("STRUCT(a INTEGER)[]", "[{'a': 0}]", "[{'a': 0}, {'a': 0}]"),
    ("MAP(VARCHAR, INTEGER)", "NULL", "MAP {}"),
    ("MAP(VARCHAR, INTEGER[])", "MAP {'k': [0]}", "MAP {'k': [0, 0]}"),
    ("VARCHAR[]", "['a, b']", "['a', 'b']"),
    ("JSON", """'{"a": 1}'""", """'{"a": 2}'"""),
    ("DOUBLE", "0.1", "0.10000000000000002"),
    ("DECIMAL(38, 0)", "12345678901234567890123456789012345678", "12345678901234567890123456789012345679"),
    ("VARCHAR", "NULL", "''"),
    ("TIMESTAMP", "'2026-11-23 08:15:00.123456'", "'2026-11-23 08:15:00.123457'"),
]


@pytest.mark.parametrize(("of", "before", "after"), PAIRS, ids=[f"{of}: {a} -> {b}" for of, a, b in PAIRS])
def test_value_that_differs_is_a_change_both_ways(shop: Shop, of: str, before: str, after: str):
    for first, second in ((before, after), (after, before)):
        shop.sync("it", f"SELECT 'u1' AS external_id, CAST({first} AS {of}) AS v, 1 AS n")
        shop.run(full_refresh=True)
        assert shop.run().plan.changed == 0
        shop.sync("it", f"SELECT 'u1' AS external_id, CAST({second} AS {of}) AS v, 1 AS n")
        assert shop.run().plan.changed == 1


def test_two_values_that_change_places_are_a_change(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS a, 2 AS b").run()
    shop.sync("it", "SELECT 'u1' AS external_id, 2 AS a, 1 AS b").run()
    assert shop.sent()[1] == '{"attributes":[{"external_id":"u1","a":2,"b":1}]}'


numbers = st.none() | st.integers(0, 2)
NESTED = {
    "INTEGER[]": st.lists(numbers, max_size=3),
    "INTEGER[][]": st.lists(st.none() | st.lists(numbers, max_size=2), max_size=3),
    "STRUCT(a INTEGER, b INTEGER[])": st.fixed_dictionaries(
        {"a": numbers, "b": st.none() | st.lists(numbers, max_size=2)}
    ),
    "STRUCT(a STRUCT(b INTEGER), c INTEGER)": st.fixed_dictionaries(
        {"a": st.none() | st.fixed_dictionaries({"b": numbers}), "c": numbers}
    ),
    "MAP(VARCHAR, INTEGER)": st.dictionaries(st.sampled_from(["a", "b", "a, b"]), numbers, max_size=2),
    "VARCHAR[]": st.lists(st.none() | st.sampled_from(["", "a", "b", "a, b", "NULL", "[a]"]), max_size=3),
}


@pytest.mark.parametrize("of", NESTED)
@given(data=st.data())
def test_nested_values_have_one_hash_only_if_they_are_equal(of: str, data: Any):
    values = data.draw(st.lists(st.none() | NESTED[of], min_size=2, max_size=12))
    with duckdb.connect() as connection:
        parts = ", ".join(hashed("v", _sql_type(connection.sql(f"SELECT CAST(NULL AS {of})").types[0])))
        connection.execute(f"CREATE TABLE t AS SELECT CAST(NULL AS {of}) AS v LIMIT 0")
        for value in values:
            connection.execute(f"INSERT INTO t SELECT CAST(CAST(? AS JSON) AS {of})", [json.dumps(value)])
        told_apart, different = connection.execute(
            f"SELECT count(DISTINCT hash({parts})), (SELECT count(*) FROM (SELECT DISTINCT v FROM t)) FROM t"
        ).fetchone()
    assert told_apart == different
