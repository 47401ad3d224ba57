"""Which columns the text of a model returns: those that it names, wherever a star leads to them."""

import pytest

from reverse_etl.project.lineage import columns_named


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT 1 AS a, b.c, d, 5", {"a", "c", "d"}),
        ("WITH t AS (SELECT x, y FROM u) SELECT * FROM (SELECT * FROM t) AS __model", {"x", "y"}),
        ("WITH m AS (SELECT a, b) FROM m", {"a", "b"}),
        ("SELECT a UNION ALL SELECT b", {"a"}),
        ("SELECT a, t.* FROM (SELECT x AS z) AS t", {"a"}),
        ("SELECT a, * EXCLUDE (x) FROM (SELECT x, y)", {"a"}),
        ("SELECT * FROM a_table", set()),
        ("INSERT INTO a VALUES (1)", set()),
        ("nonsense (", set()),
    ],
)
def test_columns_that_sql_returns_are_those_that_it_names(sql: str, names: set[str]):
    assert columns_named(sql, "duckdb") == names
