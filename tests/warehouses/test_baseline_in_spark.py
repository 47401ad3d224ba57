"""`retl state baseline` where rows are compared in Spark: the rows of the model become tables there, and all that is
said, recorded and sent afterwards is that of a DuckDB file."""

import datetime
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from reverse_etl.engines.spark.reader import SparkReader
from reverse_etl.engines.spark.tables import SparkTables
from reverse_etl.errors import RetlError
from reverse_etl.ledger.lines import LINES
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.run import baseline, jobs_of
from reverse_etl.sandbox import Sandbox
from reverse_etl.state.erasures import erasures_of
from reverse_etl.state.opening import state_of
from reverse_etl.state.places import place_of
from tests.shop import Shop, examples
from tests.warehouses.conftest import Sail, Warehouse, comparing
from tests.warehouses.test_comparing import KEEPS, Both, acknowledged, drawn, other, people, pointer, tables


@pytest.fixture
def both(shop: Shop, lasting: Sail, schema: str, tmp_path: Path) -> Iterator[Both]:
    with Sandbox() as another:
        comparing(shop, lasting, schema)
        yield Both(Warehouse("duckdb", Shop(tmp_path / "here", another)), Warehouse("sail-engine", shop), lasting)


@pytest.fixture
def travelled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many rows, of how many columns, came from Spark in each answer that had any."""
    found, whole = list[tuple[int, int]](), SparkReader.stream

    def counted(self: SparkReader, sql: str) -> Any:
        for batch in whole(self, sql):
            if batch.num_rows and sql.startswith("SELECT ") and "count(*)" not in sql:
                found.append((batch.num_rows, batch.num_columns))
            yield batch

    monkeypatch.setattr(SparkReader, "stream", counted)
    return found


def recorded(shop: Shop) -> Any:
    """Record a baseline; what is said of it, and the lines of the ledger."""
    project = shop.project()
    (job,) = jobs_of(project, [project.sync("it")], Options(clock=shop.clock), shop.listener)
    try:
        plan = baseline(job)
    except RetlError as error:
        return [(problem.code, problem.message, problem.hint) for problem in error.problems]
    with state_of(project, project.sync("it")) as state, state.ledger.opened():
        columns = "key, who, kind, column_name, old, new, request"
        lines = state.connection.execute(f"SELECT {columns} FROM {LINES} ORDER BY ALL").fetchall()
    rejects = shop.rows_of("rejects", "key", "kind", "reason", "rejected_by")
    return {**plan.counts, "run_id": ""}, lines, rejects, shop.rows_of("runs", "status", "sql_md5 IS NULL")


def record(both: Both) -> Any:
    """Record both, and compare all that comes of it; what is said of the one in Spark."""
    here, there = map(recorded, both.shops)
    assert there == here
    assert acknowledged(both.there.shop, both.server) == acknowledged(both.here.shop, both.server)
    assert [shop.sent() for shop in both.shops] == [[], []]
    return there


ODD: dict[str, Any] = {
    "external_id": ["u1", "u2", "u3", "u3", "", None, "u7", "u8", "u9", "한"],
    "score": [1.0, float("nan"), 3.0, 3.0, 5.0, 6.0, float("inf"), 8.0, None, -0.0],
    "gender": ["F", "M", "F", "F", "F", "F", "F", "unknown", None, "M"],
    "note": ["a", "b", "c", "c", "e", "f", "g", "h", "i", "j" * 300],
}


@pytest.mark.long
def test_rows_that_are_no_plain_ones_are_judged_as_by_duckdb(both: Both, schema: str):
    """Those that break a rule, share a key, have none, or have a value that Braze would drop; and who was erased."""
    how = {**KEEPS, "skip_on_invalid_records": True}
    both.sync(pyarrow.table(ODD), **how)
    for shop in both.shops:
        project = shop.project()
        erasures = erasures_of(place_of(project, project.sync("it")))
        with state_of(project, project.sync("it")) as state:
            lines = erasures.hashed(state.connection, "SELECT 'external_id:u9' AS who")
        erasures.record(lines, datetime.datetime.now(datetime.UTC))
    plan, lines, rejects, _ = record(both)
    assert (plan["rows"], plan["added"], plan["invalid"], plan["suppressed"]) == (10, 10, 4, 1)
    assert (plan["baselined"], plan["left_out"], len(lines), len({key for key, *_ in rejects})) == (5, 4, 5, 7)
    assert [row[0] for row in acknowledged(both.there.shop, both.server)] == ["u1", "u2", "u7", "u8", "한"]
    assert tables(both.server, schema) == {table.name for table in pointer(both.there.shop).tables}
    both.run(threads=1)
    both.sync(pyarrow.table({**ODD, "gender": ["M"] * 10}), **how)
    assert both.run(threads=1).plan.to_send == 3


@pytest.mark.long
def test_keys_that_are_too_many_for_a_message_go_in_parts(both: Both, monkeypatch: pytest.MonkeyPatch):
    whole, uploaded = SparkReader.name_rows, list[str]()

    def counted(self: SparkReader, view: str, rows: Any) -> Any:
        names = whole(self, view, rows)
        uploaded.extend(names)
        return names

    monkeypatch.setattr("reverse_etl.engines.spark.reader.MOST_BYTES", 16)
    monkeypatch.setattr(SparkReader, "name_rows", counted)
    both.sync(pyarrow.table(ODD), skip_on_invalid_records=True, **KEEPS)
    record(both)
    assert {"retl_keys", "retl_keys_0", "retl_keys_1"} <= {*uploaded}
    left = {row["tableName"] for row in both.server.sql("SHOW TABLES") if row["isTemporary"]}
    assert not [name for name in left if name.startswith("retl_keys")]


@pytest.mark.long
@pytest.mark.parametrize(("column", "value"), [("external_id", "u1"), ("external_id", None), ("email", "a@x.example")])
def test_row_that_would_stop_a_run_stops_it_and_leaves_nothing_in_spark(
    both: Both, schema: str, column: str, value: str | None
):
    given = {"id": [1, 2, 3], "external_id": ["u1", "u2", "u3"], "email": ["a@x.example", "b@x.example", None]}
    both.sync(pyarrow.table({**given, column: [*given[column][:1], value, given[column][2]]}))
    if column == "email":
        both.sync(pyarrow.table({**given, "external_id": ["u1", "u1", "u2"]}), primary_key="id", exclude_columns=["id"])
    ((code, message, _),) = record(both)
    assert code == {"external_id": "D003" if value else "D001", "email": "D004"}[column], message
    assert tables(both.server, schema) == set()
    both.sync(pyarrow.table(given))
    record(both)
    assert tables(both.server, schema) == {table.name for table in pointer(both.there.shop).tables}


EVENT = {
    "id": ["e1", "e2", "e3", "e4"],
    "external_id": ["u1", "u2", None, "u1"],
    "name": ["seen"] * 4,
    "time": [datetime.datetime(2024, 1, day) for day in (1, 2, 3, 4)],
    "page": ["a", "b", "c", None],
}
TWO = pyarrow.table({"alias_name": ["a1", "a2"], "alias_label": ["l", "l"], "external_id": ["u1", None]})
OTHERS: dict[str, tuple[dict[str, Any], pyarrow.Table, int]] = {
    "events": (
        {
            **{"mode": "users_track", "track_record_type": "events", "primary_key": "id", "exclude_columns": ["id"]},
            "skip_on_invalid_records": True,
        },
        pyarrow.table(EVENT),
        3,
    ),
    "items": ({"mode": "catalog_items", "catalog": "things"}, pyarrow.table({"id": ["p1", "p2"], "n": [1, 2]}), 2),
    "aliases": ({"mode": "users_alias_new"}, TWO, 2),
    "no rows": ({}, people().slice(0, 0), 0),
    "no ledger": ({"ledger": {"keep": 0}}, people(), 3),
    # These come to retl, as all rows did before.
    "consent": (
        {},
        pyarrow.table({"external_id": ["u1", "u2"], "email_subscribe": ["unsubscribed", "opted_in"]}),
        2,
    ),
    "whole rows": (
        {"mode": "users_track", "track_record_type": "events"},
        pyarrow.table({name: EVENT[name] for name in ("name", "time", "page")} | {"external_id": ["u", "v", "u", "u"]}),
        4,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", OTHERS)
def test_other_modes_record_what_they_do_with_duckdb(both: Both, schema: str, name: str):
    how, rows, expected = OTHERS[name]
    both.sync(rows, **how)
    plan, *_ = record(both)
    assert plan["baselined"] == expected
    if expected:
        assert tables(both.server, schema) == {table.name for table in pointer(both.there.shop).tables}
    assert both.run(threads=1, create_catalog=name == "items").plan.to_send == 0


@pytest.mark.long
def test_random_rows_are_recorded_as_by_duckdb(both: Both):
    for seed in range(examples(1, 20)):
        draw = random.Random(f"baseline {seed}")
        for shop in both.shops:
            shop.syncs = []
        rows = drawn(draw, [f"u{n}" for n in range(40)])
        both.sync(rows, skip_on_invalid_records=True, **KEEPS)
        if seed == 0:
            record(both)
        both.sync(other(draw, rows, seed), skip_on_invalid_records=True, **KEEPS)
        both.run(threads=1)


@pytest.mark.long
def test_rows_travel_once_and_then_what_tells_whose_they_are(both: Both, travelled: list[tuple[int, int]]):
    """And those that are judged here once more; none goes up again."""
    both.sync(people(n=[1, 2, 3], text=["a", "b", "c"]))
    recorded(both.there.shop)
    assert travelled == [(3, 3), (3, 1)]


@pytest.mark.long
@pytest.mark.parametrize("ends", ["staged", "judged", "committed"])
def test_killed_baseline_is_done_by_the_next_one(both: Both, schema: str, ends: str, monkeypatch: pytest.MonkeyPatch):
    """And nothing is left of what it has written."""
    shop = both.there.shop
    both.sync(pyarrow.table(ODD), **{**KEEPS, "skip_on_invalid_records": True})

    whole = SparkTables.drop

    def killed(*_: Any, **__: Any) -> None:
        raise SystemExit

    def dropped(self: SparkTables, names: Iterable[str]) -> None:
        """A process that is killed drops nothing that it has written."""
        whole(self, [name for name in names if "_try_" in name])

    of = {"staged": "_take_suspects", "judged": "complete", "committed": "take_out"}[ends]
    place = {
        "staged": "reverse_etl.engines.spark.pushed.PushedEngine",
        "judged": "reverse_etl.state.open_run.OpenRun",
        "committed": "reverse_etl.state.elsewhere.Elsewhere",
    }[ends]
    with monkeypatch.context() as patch:
        patch.setattr(f"{place}.{of}", killed)
        patch.setattr(SparkTables, "drop", dropped)
        with pytest.raises(SystemExit):
            recorded(shop)
    assert len(tables(both.server, schema)) == 1
    record(both)
    assert tables(both.server, schema) == {table.name for table in pointer(shop).tables}
