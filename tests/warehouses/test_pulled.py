"""How DuckDB reads the rows of another warehouse."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow
import pytest

from reverse_etl.engines.pulled import Rows, as_of_many


class Given:
    """A reader whose warehouse has a table of one row."""

    def stream(self, sql: str) -> Iterator[Any]:
        yield from ROW.to_batches()


ROW = pyarrow.table({"id": ["u1"], "tags": [["a"]], "photo": [b"\xff"]})


@pytest.fixture
def workbench() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.register("view", Rows(Given(), "", ROW.schema))  # type: ignore[arg-type]
        connection.execute("CREATE TABLE state AS SELECT 'u' || n AS id FROM range(10000) AS r(n)")
        yield connection


def kept_in_memory(connection: duckdb.DuckDBPyConnection, model: str) -> str:
    """The table whose rows a comparison with the state keeps, while it reads the others one by one."""
    sql = f"SELECT * FROM ({model}) AS s FULL JOIN state AS t USING (id) WHERE s.id IS NULL OR t.id IS NULL"
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    (join,) = operators("HASH_JOIN", {"children": json.loads(plan)})
    return "state" if list(operators("SEQ_SCAN", join["children"][1])) else "view"


def operators(name: str, plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if plan.get("name", "").strip() == name:
        yield plan
    for one in plan["children"]:
        yield from operators(name, one)


def test_comparison_keeps_the_state_in_memory_and_not_all_columns_of_the_model(workbench: duckdb.DuckDBPyConnection):
    assert kept_in_memory(workbench, "FROM view") == "view"  # DuckDB expects one row of it
    assert kept_in_memory(workbench, as_of_many("FROM view\n", "id")) == "state"


def test_rows_are_what_they_were(workbench: duckdb.DuckDBPyConnection):
    for sql in ("FROM view\n", as_of_many("FROM view\n", "id"), as_of_many("FROM view\n", "tags")):
        assert workbench.execute(sql).fetchall() == [("u1", ["a"], b"\xff")]
