"""How DuckDB reads the rows of another warehouse."""

import json
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import duckdb
import pyarrow
import pytest

from reverse_etl.engines.ahead import MOST_BYTES, Ahead
from reverse_etl.engines.pulled import Rows, as_of_many
from tests.processes import HANG_S


class Given:
    """A reader whose warehouse has a table of one row."""

    def stream(self, sql: str) -> Generator[Any]:
        yield from ROW.to_batches()

    def cancel(self) -> None:
        raise AssertionError("nothing is left to cancel")


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


class Slow:
    """Batches, after which a read waits until it is canceled. Says when it waits, and when it was closed."""

    def __init__(self, *batches: Any) -> None:
        self.given, self.waits, self.was_canceled, self.was_closed = batches, *(threading.Event() for _ in range(3))

    def batches(self) -> Generator[Any]:
        try:
            yield from self.given
            self.waits.set()
            assert self.was_canceled.wait(HANG_S)
            raise OSError("canceled")
        finally:
            self.was_closed.set()


def test_rows_are_read_before_anybody_waits_for_them_and_come_before_the_error_that_ended_them():
    slow = Slow(*ROW.to_batches())
    ahead = Ahead(slow.batches(), slow.was_canceled.set)
    assert slow.waits.wait(HANG_S)
    rows = iter(ahead)
    assert next(rows).num_rows == 1
    slow.was_canceled.set()
    with pytest.raises(OSError, match="canceled"):
        next(rows)


def test_read_that_nobody_waits_for_is_canceled_and_closed():
    slow = Slow(*ROW.to_batches())
    ahead = Ahead(slow.batches(), slow.was_canceled.set)
    assert slow.waits.wait(HANG_S)
    ahead.drop()
    assert slow.was_closed.is_set()


def test_no_more_is_read_ahead_than_is_kept_in_memory():
    half = pyarrow.record_batch({"bytes": [b"." * (MOST_BYTES // 2)]})
    slow = Slow(*[half] * 3)
    ahead = Ahead(slow.batches(), slow.was_canceled.set)
    rows = iter(ahead)
    assert not slow.waits.is_set()  # the second half fills it
    next(rows)
    next(rows)
    assert slow.waits.wait(HANG_S)
    ahead.drop()
