"""What holds of every warehouse: the same rows lead to the same requests as with a DuckDB file."""

import datetime
import json
import random
from typing import Any

import pyarrow
import pytest

from reverse_etl.engines.postgres.reader import PostgresReader
from reverse_etl.engines.spark.reader import SparkReader
from reverse_etl.runs.why import why
from reverse_etl.sandbox import Sandbox
from tests.shop import Retl, Shop, examples, running
from tests.warehouses.conftest import Warehouse

PEOPLE = {"external_id": ["u1", "u2", "u3"], "tier": ["gold", "basic", None], "n": [1, 2, 3]}


# Of each mode that no other test runs: keys of the sync, columns of the model, and the body of the request.
GROUP = "78d1c7a3-9a94-4b0d-9a0f-5a8e0c2e1f00"
USERS = {"external_id": ["u1", "u2"]}
ALIASES = {"alias_name": ["a", "é"], "alias_label": ["b", "b"]}
OTHER_MODES: dict[str, tuple[dict[str, Any], dict[str, list[Any]], dict[str, Any]]] = {
    "purchases": (
        {"mode": "users_track", "track_record_type": "purchases"},
        {
            **{**USERS, "product_id": ["p", "p"], "currency": ["KRW", "EUR"], "price": [1.5, 0.1]},
            "time": [datetime.datetime(2024, 1, 1, 0, 0, 0, 250000), datetime.datetime(2024, 1, 2)],
            **{"quantity": [1, 3], "gift": [True, None]},
        },
        {
            "purchases": [
                {
                    **{"external_id": "u1", "product_id": "p", "currency": "KRW", "price": 1.5},
                    **{"time": "2024-01-01T00:00:00.250Z", "quantity": 1, "properties": {"gift": True}},
                },
                {
                    **{"external_id": "u2", "product_id": "p", "currency": "EUR", "price": 0.1},
                    **{"time": "2024-01-02T00:00:00.000Z", "quantity": 3},
                },
            ]
        },
    ),
    "users_alias_new": (
        {"mode": "users_alias_new"},
        {**USERS, **ALIASES},
        {
            "user_aliases": [
                {"external_id": "u1", "alias_name": "a", "alias_label": "b"},
                {"external_id": "u2", "alias_name": "é", "alias_label": "b"},
            ]
        },
    ),
    "users_identify": (
        {"mode": "users_identify"},
        {**USERS, **ALIASES},
        {
            "aliases_to_identify": [
                {"external_id": "u1", "user_alias": {"alias_name": "a", "alias_label": "b"}},
                {"external_id": "u2", "user_alias": {"alias_name": "é", "alias_label": "b"}},
            ]
        },
    ),
    "users_delete": (
        {"mode": "users_delete", "allow_destructive": True, "guards": {"max_deletes": 5}},
        USERS,
        {"external_ids": ["u1", "u2"]},
    ),
    "subscription_status_set": (
        {"mode": "subscription_status_set"},
        {**USERS, "subscription_group_id": [GROUP, GROUP], "subscription_state": ["unsubscribed", "unsubscribed"]},
        {
            "subscription_groups": [
                {
                    **{"subscription_group_id": GROUP, "subscription_state": "unsubscribed"},
                    "external_ids": ["u1", "u2"],
                }
            ]
        },
    ),
}


def people(**changed: list[Any]) -> pyarrow.Table:
    return pyarrow.table({**PEOPLE, **changed})


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements whose rows were read from a warehouse."""
    found = list[str]()
    for reader in (PostgresReader, SparkReader):

        def counted(self: Any, sql: str, stream: Any = reader.stream) -> Any:
            found.append(sql)
            return stream(self, sql)

        monkeypatch.setattr(reader, "stream", counted)
    return found


def users(shop: Shop) -> list[dict[str, Any]]:
    """The users of the last request."""
    found: list[dict[str, Any]] = json.loads(shop.sent()[-1])["attributes"]
    return found


class TestContract:
    def test_what_changed_is_sent_column_by_column(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT external_id, tier, n FROM {table}")
        assert (shop.run().plan.to_send, len(users(shop))) == (3, 3)
        assert shop.run().plan.to_send == 0
        warehouse.put("people", people(tier=["gold", "gold", "new"], n=[1, 2, None]))
        result = shop.run()
        assert (result.plan.rows, result.plan.to_send) == (3, 2)
        assert sorted(users(shop), key=str) == [
            {"external_id": "u2", "tier": "gold"},
            {"external_id": "u3", "tier": "new", "n": None},
        ]

    def test_row_that_left_the_model_is_cleared(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT external_id, tier, n FROM {table}", on_removed="clear", guards={"max_removed": "100%"})
        shop.run()
        warehouse.put("people", people().slice(0, 2))
        shop.run()
        assert users(shop) == [{"external_id": "u3", "_update_existing_only": True, "n": None}]

    def test_rows_that_left_the_model_are_forgotten_after_a_while(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT external_id, tier, n FROM {table}", keep_removed="1 day")
        shop.run()
        warehouse.put("people", people().slice(0, 2))
        shop.run()
        shop.clock.ahead += datetime.timedelta(days=2)
        assert shop.run().plan.in_state == 3
        warehouse.put("people", people())
        assert shop.run().plan.in_state == 2
        assert [one["external_id"] for one in users(shop)] == ["u3"]

    def test_models_refer_to_models(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.model("all people", f"SELECT * FROM {table}")
        shop.model("some", "SELECT * FROM {{ ref('all people') }} WHERE n > 1")
        shop.sync(
            "it",
            "SELECT external_id, b.n FROM {{ ref('all people') }} a JOIN {{ ref('some') }} b USING (external_id) -- ;",
        )
        result = shop.run()
        assert (result.errors, result.plan and result.plan.to_send) == ([], 2)

    def test_error_leads_to_the_line_of_the_model_that_it_is_in(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.model("base", f"SELECT *\nFROM {table}")
        shop.sync("it", "SELECT external_id,\n  n\nFRM {{ ref('base') }}")
        (problem,) = shop.run().errors
        assert (problem.code, str(problem.location).startswith("models/it.sql:3")) == ("P051", True), problem

    def test_model_is_a_single_select(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        for sql in (f"DROP TABLE {table}", f"SELECT * FROM {table}; SELECT 1", f"DELETE FROM {table}"):
            shop.sync("it", sql)
            result = shop.run()
            assert (result.exit_code, shop.sent()) == (2, []), sql
        shop.sync("it", f"SELECT * FROM {table};")
        assert shop.run().plan.to_send == 3

    def test_incremental_model_reads_what_is_new_and_late(self, warehouse: Warehouse):
        shop = warehouse.shop
        at = [datetime.datetime(2024, 1, day, 12, 30, 0, 500) for day in (1, 2, 3)]
        table = warehouse.put("seen", pyarrow.table({"external_id": ["a", "b", "c"], "seen_at": at}))
        more = "{% if is_incremental() %}WHERE seen_at > {{ cursor() }}{% endif %}"
        shop.sync(
            "it",
            f"SELECT external_id, seen_at FROM {table} {more}",
            incremental={"cursor": "seen_at", "lookback": "1 day"},
        )
        assert shop.run().plan.rows == 3
        at += [
            datetime.datetime(2024, 1, 2, 12, 30, 0, 500),
            datetime.datetime(2024, 1, 1),
            datetime.datetime(2024, 1, 4),
        ]
        warehouse.put("seen", pyarrow.table({"external_id": ["a", "b", "c", "late", "too late", "new"], "seen_at": at}))
        result = shop.run()
        assert (result.plan.rows, result.plan.to_send) == (4, 2)
        assert sorted(user["external_id"] for user in users(shop)) == ["late", "new"]

    def test_new_column_is_sent_and_another_type_stops_the_run(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT external_id, tier FROM {table}")
        shop.run()
        shop.sync("it", f"SELECT external_id, tier, n FROM {table}")
        assert shop.run().plan.to_send == 3
        shop.sync("it", f"SELECT external_id, tier, CAST(n AS VARCHAR(5)) AS n FROM {table}")
        result = shop.run()
        assert (result.exit_code, "BIGINT" in str(result.errors[0])) == (1, True)
        assert shop.run(accept_schema_change=True).plan.to_send == 3

    def test_duplicate_keys_and_null_keys_stop_the_run(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT external_id, n FROM {table} UNION ALL SELECT external_id, n FROM {table}")
        assert [problem.code for problem in shop.run().errors] == ["D003"]
        shop.sync("it", f"SELECT CASE WHEN n > 1 THEN external_id END AS external_id, n FROM {table}")
        assert [problem.code for problem in shop.run().errors] == ["D001"]

    def test_model_runs_once_in_a_run_and_once_for_data_tests(self, pulling: Warehouse, scans: list[str]):
        shop, table = pulling.shop, pulling.put("people", people())
        for sql, tests, expected in (
            (f"SELECT * FROM {table}", [], 1),
            (f"SELECT * FROM {table}", [], 1),
            (f"SELECT * FROM {table} WHERE n > 5", [], 1),
            (f"SELECT * FROM {table}", [{"not_null": "n"}, {"unique": "n"}], 2),
        ):
            shop.sync("it", sql, data_tests=tests)
            scans.clear()
            shop.run()
            assert len(scans) == (0 if pulling.kind == "duckdb" else expected)

    def test_users_of_two_syncs_are_compared_by_the_columns_that_both_write(self, pulling: Warehouse, scans: list[str]):
        shop, table = pulling.shop, pulling.put("people", people())
        for name, whom in (("it", "< 2"), ("other", "> 1")):
            shop.model(name, f"SELECT external_id, tier, n AS n_{name} FROM {table} WHERE n {whom}")
        how = {"mode": "users_track", "track_record_type": "attributes"}
        shop.syncs = [{"name": name, "model": name, **how} for name in ("it", "other")]
        shop.write()
        assert shop.run("it").plan.to_send == 1
        read = [[name in sql.partition("FROM")[0] for name in ("tier", "n_it", "n_other")] for sql in scans]
        narrow = [True, False, False]
        assert read == ([] if pulling.kind == "duckdb" else [narrow, narrow, [True, True, False]])

    def test_events_are_sent_once(self, warehouse: Warehouse):
        shop = warehouse.shop
        times = [datetime.datetime(2024, 1, day) for day in (1, 2)]
        rows = {"external_id": ["u1", "u1"], "name": ["seen", "seen"], "time": times, "page": ["a", "a"]}
        table = warehouse.put("seen", pyarrow.table(rows))
        shop.sync("it", f"SELECT * FROM {table}", mode="users_track", track_record_type="events")
        assert (shop.run().plan.to_send, shop.run().plan.to_send) == (2, 0)
        assert [event["time"] for event in json.loads(shop.sent()[0])["events"]] == [
            "2024-01-01T00:00:00.000Z",
            "2024-01-02T00:00:00.000Z",
        ]

    @pytest.mark.parametrize("name", OTHER_MODES)
    def test_other_modes_have_the_requests_of_duckdb(self, warehouse: Warehouse, name: str):
        options, columns, expected = OTHER_MODES[name]
        shop, table = warehouse.shop, warehouse.put("given", pyarrow.table(columns))
        shop.sync("it", f"SELECT * FROM {table}", **options)
        result = shop.run()
        assert (result.status, result.plan.to_send) == ("success", 2), result.errors
        (body,) = shop.sent()
        ((array, records),) = json.loads(body).items()
        assert {array: sorted(records, key=str)} == expected
        assert shop.run().plan.to_send == 0

    def test_baseline_takes_what_the_model_returns_for_sent(
        self, warehouse: Warehouse, retl: Retl, monkeypatch: pytest.MonkeyPatch
    ):
        shop, table = warehouse.shop, warehouse.put("people", people(tier=["gold", "x" * 256, None]))
        shop.sync("it", f"SELECT external_id, tier, n FROM {table}")
        for name, value in shop.environ.items():
            monkeypatch.setenv(name, value)
        done = retl("state", "baseline", "it", "--yes", folder=shop.folder)
        assert done.out.startswith("it: 3 rows recorded as already in Braze, 0 requests"), done.err
        assert (shop.run().plan.left_out, shop.run().plan.to_send) == (1, 0)
        warehouse.put("people", people())
        assert (shop.run().plan.to_send, users(shop)) == (1, [{"external_id": "u2", "tier": "basic"}])

    def test_killed_run_is_recovered(self, warehouse: Warehouse):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT external_id, n FROM {table}")
        with running(shop, "u2") as process:
            process.kill()
            process.wait()
        result = shop.run()
        assert (result.status, result.plan.to_send, shop.run().plan.to_send) == ("success", 3, 0)

    def test_show_prints_the_first_rows_only(self, warehouse: Warehouse, retl: Retl, monkeypatch: pytest.MonkeyPatch):
        shop, table = warehouse.shop, warehouse.put("people", people())
        shop.sync("it", f"SELECT * FROM {table} ORDER BY n")
        for name, value in shop.environ.items():
            monkeypatch.setenv(name, value)
        done = retl("show", "it", "--limit", "1", folder=shop.folder)
        assert (done.out.split(), done.err) == (["external_id", "tier", "n", "u1", "gold", "1"], "")
        assert "model of it: 3 columns, primary key: external_id" in retl("debug", folder=shop.folder).out

    @pytest.mark.parametrize("primary_key", [["external_id", "n"], ["external_id", "at"], "external_id"])
    def test_why_tells_what_the_model_returns_now(self, warehouse: Warehouse, primary_key: Any):
        at = [datetime.datetime(2024, 1, day, 0, 0, 0, 250000) for day in (1, 2, 3)]
        shop, table = warehouse.shop, warehouse.put("people", people(at=at))
        shop.sync("it", f"SELECT * FROM {table}", primary_key=primary_key).run()
        warehouse.put("people", people(at=at, tier=["gold", "silver", None]))
        project = shop.project()
        key = json.dumps(["u2", {"n": "2", "at": "2024-01-02 00:00:00.25"}.get(primary_key[1])])
        key = "u2" if primary_key == "external_id" else key.replace(", ", ",")
        (cell,) = why(project, key, "tier", [project.sync("it")], None, True).cells
        assert cell.source is not None
        assert (cell.key, cell.value, cell.source.now, cell.source.now_unknown) == (key, '"basic"', '"silver"', None)


# --- random tables ---------------------------------------------------------------------------------------------------

KINDS: list[tuple[pyarrow.DataType, Any]] = [
    (pyarrow.int16(), lambda r: r.randint(-5, 5)),
    (pyarrow.int32(), lambda r: r.randint(-(2**31), 2**31 - 1)),
    (pyarrow.int64(), lambda r: r.choice([-(2**63), 2**63 - 1, r.randint(-9, 9)])),
    (pyarrow.float64(), lambda r: r.choice([0.1, -0.0, 1e300, r.random(), float(r.randint(-3, 3))])),
    (pyarrow.bool_(), lambda r: r.random() < 0.5),
    (pyarrow.string(), lambda r: r.choice(["", "a", "é", "한글", "'\"\\\n\t", "x" * 300, str(r.randint(0, 3))])),
    (pyarrow.date32(), lambda r: datetime.date(2000, 1, 1) + datetime.timedelta(days=r.randint(-40000, 40000))),
    (pyarrow.timestamp("us"), lambda r: datetime.datetime(2000, 1, 1) + datetime.timedelta(microseconds=r.randint(0, 10**15))),
]  # fmt: skip


def table_of(seed: int, rows: int) -> pyarrow.Table:
    draw = random.Random(seed)
    columns: dict[str, Any] = {"external_id": pyarrow.array([f"u{n}" for n in range(rows)])}
    for n in range(19):
        of, value = KINDS[n % len(KINDS)]
        columns[f"c{n}"] = pyarrow.array([None if draw.random() < 0.2 else value(draw) for _ in range(rows)], of)
    return pyarrow.table(columns)


def changed(before: pyarrow.Table, seed: int) -> pyarrow.Table:
    """Some cells replaced, some rows gone, some new."""
    draw, other = random.Random(seed), table_of(seed, before.num_rows)
    columns = {
        name: pyarrow.array([
            (other if draw.random() < 0.1 and name != "external_id" else before)[name][row].as_py()
            for row in range(before.num_rows)
        ], before[name].type)
        for name in before.column_names
    }  # fmt: skip
    more = other.slice(0, 3).set_column(0, "external_id", pyarrow.array([f"n{seed}-{n}" for n in range(3)]))
    return pyarrow.concat_tables([pyarrow.table(columns).slice(2), more])


def requests(warehouse: Warehouse, tables: list[pyarrow.Table]) -> list[list[Any]]:
    """What each run sends, its users in the order of their ids."""
    found, before = list[list[Any]](), 0
    for rows in tables:
        name = warehouse.put("random_rows", rows)
        warehouse.shop.sync("it", f"SELECT * FROM {name}", on_removed="clear", guards={"max_removed": "100%"})
        result = warehouse.shop.run()
        assert result.errors == []
        bodies, before = warehouse.shop.sent()[before:], len(warehouse.shop.sent())
        found.append(
            sorted((user for body in bodies for user in json.loads(body)["attributes"]), key=lambda u: u["external_id"])
        )
    return found


@pytest.mark.parametrize("seed", range(examples(2, 20)))
def test_random_tables_of_20_columns_lead_to_the_requests_of_duckdb(seed: int, warehouse: Warehouse, tmp_path: Any):
    first = table_of(seed, 40)
    tables = [first, first, changed(first, seed + 100)]
    with Sandbox() as other:
        expected = requests(Warehouse("duckdb", Shop(tmp_path / "other", other)), tables)
    assert requests(warehouse, tables) == expected
    assert [len(one) > 0 for one in expected] == [True, False, True]
