"""Which tables SQL names: DuckDB's tree and sqlglot say the same, and one is asked where the other cannot tell."""

import duckdb
import pytest

from reverse_etl.engines.duckdb import named
from reverse_etl.project import lineage


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM people", {"people"}),
        ("SELECT * FROM crm.people JOIN shop.main.orders USING (id)", {"crm.people", "shop.main.orders"}),
        ("WITH people AS (FROM crm.people) SELECT * FROM People, orders", {"crm.people", "orders"}),
        ("SELECT (SELECT max(x) FROM a) FROM b WHERE c IN (SELECT y FROM d) ORDER BY (SELECT 1 FROM e)", set("abde")),
        ('SELECT * FROM `crm`.`my people` UNION ALL SELECT * FROM "other"', {"crm.my people", "other"}),
        ("SELECT * FROM range(3) r(i), (VALUES (1)) v(j)", set()),
        ("SELECT 1 AS \"from\" -- FROM nowhere\n FROM 'people.parquet' WHERE 'x' = 'FROM y'", {"people.parquet"}),
    ],
)
def test_tables_are_those_that_sqlglot_finds(sql: str, tables: set[str]):
    with duckdb.connect() as connection:
        assert named.tables_named(connection, sql) == tables
    assert lineage.tables_named(sql, "duckdb") == tables


@pytest.mark.parametrize("sql", ["PIVOT people ON tier USING count(*)", "SELECT FROM WHERE"])
def test_what_duckdb_makes_no_tree_of_is_not_known(sql: str):
    with duckdb.connect() as connection:
        assert named.tables_named(connection, sql) is None
