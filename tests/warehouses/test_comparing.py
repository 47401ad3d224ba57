"""Rows that are compared in Spark: the same changes, requests and acknowledged rows as with a DuckDB file."""

import datetime
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from reverse_etl.engines.duckdb.model import types_from
from reverse_etl.engines.spark.reader import SparkReader
from reverse_etl.engines.spark.tables import SparkTables, current_rows
from reverse_etl.plan.elsewhere import Pointer, pointer_of
from reverse_etl.plan.tables import ABSENT_SINCE, RUN_ID, SENT_AT, UNSURE
from reverse_etl.plan.workbench import connect
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.erasures import erasures_of
from reverse_etl.state.look import sync_status
from reverse_etl.state.places import place_of
from reverse_etl.system.clock import Clock
from tests.bucket import Bucket
from tests.shop import Retl, Shop, database, examples, running, some
from tests.warehouses.conftest import SPARK, Sail, Warehouse, comparing, fewer

KEEPS = {"guards": {"max_removed": "100%"}}


def meta(shop: Shop, sync: str = "it") -> dict[str, str]:
    return dict(shop.rows_of("meta", "key", "value", sync=sync))


def pointer(shop: Shop, sync: str = "it") -> Pointer:
    found = pointer_of(meta(shop, sync))
    assert found
    return found


def acknowledged(shop: Shop, server: Sail, sync: str = "it") -> list[tuple[Any, ...]]:
    """The acknowledged rows of a shop, wherever they are: model columns, whether sent or absent, unsure columns."""
    known = meta(shop, sync)
    with database(shop.folder / ".retl/test" / sync / "state.duckdb", "READ_ONLY") as connection:
        if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'state'").fetchall():
            return []
        relation = connection.sql("FROM state")
        of = dict(zip(relation.columns, map(str, relation.types), strict=True))
        names = [name for name in of if name not in (SENT_AT, RUN_ID, UNSURE, ABSENT_SINCE)]
        local = connection.execute("SELECT count(*) FROM state").fetchall()[0][0]
        rows = "state"
        if found := pointer_of(known):
            assert local == 0
            types = types_from({name: of[name] for name in names})
            sql = current_rows(found, types, json.loads(known["primary_key"]))
            connection.register("there", pyarrow.Table.from_pylist(server.sql(sql), server.schema(sql)))
            rows = "there"
        listed = ", ".join(f'CAST(CAST("{name}" AS {of[name]}) AS VARCHAR)' for name in names)
        own = f"{SENT_AT} IS NULL, {ABSENT_SINCE} IS NULL, list_sort({UNSURE})"
        found_rows = connection.execute(f"SELECT {listed}, {own} FROM {rows}").fetchall()
        if rows == "there":
            connection.execute("SELECT NULL").fetchall()
            connection.unregister("there")
        return sorted(found_rows, key=str)


def parts(records: Any) -> list[Any]:
    """The records of an array; of one group each, which several requests may divide in another way."""
    found = []
    for record in records if isinstance(records, list) else [records]:
        of = dict(record) if isinstance(record, dict) else {}
        ids = [(name, one) for name in ("external_ids", "emails") for one in of.pop(name, ())]
        found += [{**of, name: one} for name, one in ids] or [record]
    return found


@dataclass
class Both:
    """Two shops with the same rows and syncs: one compares in DuckDB, the other in Spark."""

    here: Warehouse
    there: Warehouse
    server: Sail

    @property
    def shops(self) -> list[Shop]:
        return [self.here.shop, self.there.shop]

    def sync(self, rows: pyarrow.Table, sql: str = "SELECT * FROM {}", **options: Any) -> None:
        for one in (self.here, self.there):
            one.shop.sync("it", sql.format(one.put("given", rows)), **options)

    def fault(self, *arguments: Any, **choice: Any) -> None:
        for shop in self.shops:
            shop.braze.add_fault(Fault(*arguments, **choice))

    def run(self, **options: Any) -> Any:
        """Run both, and compare all that comes of it; the result in Spark."""
        before = [len(shop.sent()) for shop in self.shops]
        results = [shop.run(**options) for shop in self.shops]
        said = [
            (
                [problem.message for problem in result.errors],
                result.status,
                result.plan and {**result.plan.counts, "run_id": ""},
                result.plan and result.plan.data_tests,
                result.delivery,
            )
            for result in results
        ]
        assert said[1] == said[0]
        bodies = [
            sorted(
                f"{request.method} {request.path} {json.dumps({array: one}, sort_keys=True)}"
                for request in shop.braze.requests()[n:]
                if request.body
                for array, ones in json.loads(request.body).items()
                for one in parts(ones)
            )
            for shop, n in zip(self.shops, before, strict=True)
        ]
        assert bodies[1] == bodies[0]
        assert acknowledged(self.there.shop, self.server) == acknowledged(self.here.shop, self.server)
        for table, columns in (
            *((name, "key, kind, reason") for name in ("rejects", "in_doubt")),
            ("opt_outs", "identifier, channel, is_unclear"),
            ("deleted", "count(*) AS number"),
        ):
            assert self.there.shop.rows_of(table, columns) == self.here.shop.rows_of(table, columns)
        return results[1]


@pytest.fixture
def both(shop: Shop, lasting: Sail, schema: str, tmp_path: Path) -> Any:
    with Sandbox() as other:
        comparing(shop, lasting, schema)
        yield Both(Warehouse("duckdb", Shop(tmp_path / "here", other)), Warehouse("sail-engine", shop), lasting)


DRAWS: dict[str, tuple[pyarrow.DataType, Any]] = {
    "small": (pyarrow.int16(), lambda r: r.randint(-2, 2)),
    "big one": (pyarrow.int64(), lambda r: r.choice([-(2**63), 2**63 - 1, r.randint(-2, 2)])),
    "money": (pyarrow.decimal128(10, 2), lambda r: Decimal(r.randint(-300, 300)) / 100),
    "huge": (pyarrow.decimal128(38, 9), lambda r: Decimal(r.randint(-(10**20), 10**20)).scaleb(-9)),
    "real": (pyarrow.float64(), lambda r: r.choice([0.1, 1e300, 2.0, -0.0, 0.0])),
    "flag": (pyarrow.bool_(), lambda r: r.random() < 0.5),
    "이름": (pyarrow.string(), lambda r: r.choice(["", "a", "A", "é", "'\"`\\\n", "x" * 300])),
    "day": (pyarrow.date32(), lambda r: datetime.date(1900, 1, 1) + datetime.timedelta(days=r.randint(0, 9))),
    "at": (pyarrow.timestamp("us"), lambda r: datetime.datetime(2024, 1, 1, 0, 0, 0, r.randint(0, 3))),
    "zoned": (pyarrow.timestamp("us", "UTC"), lambda r: datetime.datetime(2024, 1, 1, r.randint(0, 3))),
    "list": (pyarrow.list_(pyarrow.int64()), lambda r: [r.choice([1, None]) for _ in range(r.randint(0, 2))]),
    "pair": (
        pyarrow.struct([("a", pyarrow.string()), ("b c", pyarrow.list_(pyarrow.string()))]),
        lambda r: {"a": r.choice(["x", None]), "b c": r.choice([[], ["y"], None])},
    ),
    "map": (
        pyarrow.map_(pyarrow.string(), pyarrow.int64()),
        lambda r: list(zip(r.sample(["k", "l", "m"], 2), [r.randint(0, 1), 2], strict=True)),
    ),
}


NESTED = pyarrow.map_(pyarrow.string(), pyarrow.list_(pyarrow.int64()))
DRAWS["maps in a list"] = (
    pyarrow.list_(DRAWS["map"][0]),
    lambda r: [DRAWS["map"][1](r) for _ in range(r.randint(0, 2))],
)
DRAWS["map in a pair"] = (
    pyarrow.struct([("a", NESTED), ("b", pyarrow.int64())]),
    lambda r: {"a": r.choice([None, [], [("k", [1, r.randint(0, 1)])]]), "b": r.choice([1, None])},
)
DRAWS["map in a map"] = (
    pyarrow.map_(pyarrow.string(), NESTED),
    lambda r: [(key, [("m", [r.randint(0, 1)])]) for key in r.sample(["k", "l", "m"], 2)],
)


def drawn(draw: random.Random, keys: list[str]) -> pyarrow.Table:
    columns: dict[str, Any] = {"external_id": pyarrow.array(keys, pyarrow.string())}
    for name, (of, value) in DRAWS.items():
        columns[name] = pyarrow.array([None if draw.random() < 0.2 else value(draw) for _ in keys], of)
    return pyarrow.table(columns)


def other(draw: random.Random, before: pyarrow.Table, new: int) -> pyarrow.Table:
    """Some cells replaced, some rows gone, some new."""
    keys = [key for key in before["external_id"].to_pylist() if draw.random() > 0.1]
    rows, drawn_rows = before.to_pylist(), {row["external_id"]: row for row in drawn(draw, keys).to_pylist()}
    cells = {row["external_id"]: row for row in rows}
    mixed = [
        {name: (drawn_rows if draw.random() < 0.1 else cells)[key][name] for name in before.column_names}
        for key in keys
    ]
    more = drawn(draw, [f"n{new}-{n}" for n in range(3)])
    return pyarrow.concat_tables([pyarrow.Table.from_pylist(mixed, before.schema), more])


@dataclass(frozen=True)
class Drawn:
    """A mode whose rows are drawn: `named` are the columns of a key, `cells` the other ones, of which each is drawn."""

    options: dict[str, Any]
    named: Callable[[str], dict[str, str | None]]
    cells: dict[str, tuple[pyarrow.DataType, Any]]

    def rows(self, draw: random.Random, before: dict[str, dict[str, Any]], new: int) -> dict[str, dict[str, Any]]:
        """Some cells replaced, some rows gone, some new."""
        keys = [key for key in before if draw.random() > 0.1] + [f"u{new}-{n}" for n in range(12 if new == 0 else 3)]
        return {
            key: {
                name: value(draw) if key not in before or draw.random() < 0.2 else before[key][name]
                for name, (_, value) in self.cells.items()
            }
            for key in keys
        }

    def table(self, rows: dict[str, dict[str, Any]]) -> pyarrow.Table:
        of = {name: pyarrow.string() for name in self.named("")} | {name: of for name, (of, _) in self.cells.items()}
        return pyarrow.Table.from_pylist(
            [{**self.named(key), **cells} for key, cells in rows.items()],
            pyarrow.schema(list(of.items())),
        )


GROUP = "78d1c7a3-9a94-4b0d-9a0f-5a8e0c2e1f0"
STATES = ["unsubscribed", "unsubscribed", "subscribed"]
CHANNELS = ["unsubscribed", "unsubscribed", "opted_in", "subscribed", None]
AGREED = (
    pyarrow.timestamp("us"),
    lambda r: r.choice([None, datetime.datetime(2020, 1, 1), datetime.datetime(2099, 1, 1)]),
)
TEXT, NUMBER = pyarrow.string(), pyarrow.int64()


def addressed(key: str) -> dict[str, str | None]:
    """Some have an id, some an address."""
    by_email = key.endswith("1")
    return {"external_id": None if by_email else key, "email": f"{key}@x.example" if by_email else None}


def identified(key: str) -> dict[str, str | None]:
    alias, by_email = {"alias_name": key, "alias_label": "l"}, key.endswith("1")
    return {**({"alias_name": None, "alias_label": None} if by_email else alias), "email": addressed(key)["email"]}


MODES = {
    "subscription_status_set": Drawn(
        {"mode": "subscription_status_set", "consent": {"evidence": "agreed_at"}},
        lambda key: {**addressed(key), "subscription_group_id": GROUP + key[-1:]},
        {"subscription_state": (TEXT, lambda r: r.choice(STATES)), "agreed_at": AGREED},
    ),
    "consent": Drawn(
        {"consent": {"evidence": "agreed_at"}, "skip_on_invalid_records": True},
        lambda key: {"external_id": key},
        {
            "email_subscribe": (TEXT, lambda r: r.choice(CHANNELS)),
            "push_subscribe": (TEXT, lambda r: r.choice(CHANNELS)),
            "email": (TEXT, lambda r: f"{r.randint(0, 2)}@x.example"),
            "gender": (TEXT, lambda r: r.choice(["F", "F", "unknown"])),
            "agreed_at": AGREED,
        },
    ),
    "catalog_items": Drawn(
        {"mode": "catalog_items", "catalog": "things"},
        lambda key: {"id": key},
        {
            "title": (TEXT, lambda r: r.choice(["a", "b", None])),
            "price": (pyarrow.float64(), lambda r: r.choice([1.5, 2.0, -0.0])),
            "tags": (pyarrow.list_(TEXT), lambda r: [r.choice(["x", "y"]) for _ in range(r.randint(0, 2))]),
        },
    ),
    "catalog_items, deleted": Drawn(
        {
            **{"mode": "catalog_items", "catalog": "things", "on_removed": "delete", "allow_destructive": True},
            "guards": {"max_deletes": "100%"},
        },
        lambda key: {"id": key},
        {"n": (NUMBER, lambda r: r.choice([1, 2, None]))},
    ),
    "users_alias_new": Drawn(
        {"mode": "users_alias_new"},
        lambda key: {"alias_name": key, "alias_label": "l"},
        {"external_id": (TEXT, lambda r: r.choice([None, "a", "b"]))},
    ),
    "users_identify": Drawn(
        {"mode": "users_identify"},
        identified,
        {
            "external_id": (TEXT, lambda r: r.choice(["a", "b"])),
            "prioritization": (pyarrow.list_(TEXT), lambda r: ["unidentified"]),
        },
    ),
    "users_alias_update": Drawn(
        {"mode": "users_alias_update"},
        lambda key: {"alias_label": "l", "old_alias_name": key},
        {"new_alias_name": (TEXT, lambda r: f"n{r.randint(0, 10**6)}")},
    ),
    "users_delete": Drawn(
        {"mode": "users_delete", "allow_destructive": True, "guards": {"max_deletes": 100}}, addressed, {}
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", MODES)
def test_random_histories_of_other_modes_lead_to_the_same(both: Both, name: str):
    mode = MODES[name]
    for seed in range(examples(1, 8)):
        draw = random.Random(f"{seed}{name}")
        rows = mode.rows(draw, {}, 0)
        for step in range(fewer(5, 3)):
            both.sync(mode.table(rows), **{**KEEPS, **mode.options})
            kind = draw.choice(["none", "none", "reject", "drop"])
            if kind != "none":
                of = draw.choice([*mode.named(draw.choice([*rows])).values()])
                both.fault("object_error" if kind == "reject" else "drop_after", matches=lambda who, of=of: who == of)
            both.run(threads=1, create_catalog=mode.options.get("mode") == "catalog_items")
            for shop in both.shops:
                shop.braze.clear_faults()
            rows = mode.rows(draw, rows, seed * 10 + step + 1)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["users_alias_new", "users_identify"])
def test_row_whose_user_another_sync_has_sent_since_is_sent_again_as_by_duckdb(both: Both, mode: str):
    """Both of whose acknowledged rows are in Spark: it is asked for the users, and they do not travel."""
    given = pyarrow.table({"external_id": ["u1", "u2"], "alias_name": ["a1", "a2"], "alias_label": ["l", "l"]})
    expected: list[tuple[int, int]] = [(2, 2), (0, 0), (1, 0), (0, 0)]
    for one in (both.here, both.there):
        shop, table = one.shop, one.put("given", given)
        shop.sync("it", f"SELECT * FROM {table}", mode=mode)
        shop.sync(
            "people", f"SELECT * FROM {table} WHERE external_id = 'u1'", exclude_columns=["alias_name", "alias_label"]
        )
        if mode == "users_identify":
            shop.sync(
                "people", f"SELECT alias_name, alias_label FROM {table} WHERE alias_name = 'a1'", mode="users_alias_new"
            )
        found = [shop.run("it"), shop.run("it")]
        assert shop.run("people").status == "success"
        found += [shop.run("it"), shop.run("it")]
        assert [(result.plan.to_send, result.plan.uncertain) for result in found] == expected
    assert acknowledged(both.there.shop, both.server) == acknowledged(both.here.shop, both.server)


WAYS = [*product(["ignore", "clear", "delete"], ["clear", "omit", "send"], ["changed_columns", "all_columns"])]


@pytest.mark.long
@pytest.mark.parametrize(("on_removed", "nulls", "send"), some(WAYS, every=8))
def test_random_histories_lead_to_the_same(both: Both, on_removed: str, nulls: str, send: str):
    how: dict[str, Any] = {"on_removed": on_removed, "nulls": nulls, "send": send, **KEEPS}
    if on_removed == "delete":
        how |= {"allow_destructive": True, "guards": {**KEEPS["guards"], "max_deletes": 50}}
    for seed in range(examples(1, 10)):
        draw = random.Random(f"{seed}{how}")
        rows = drawn(draw, [f"u{n}" for n in range(25)])
        for step in range(fewer(4, 2)):
            both.sync(rows, **how)
            kind = draw.choice(["none", "none", "reject", "drop"])
            if kind != "none":
                of = draw.choice(rows["external_id"].to_pylist())
                both.fault("object_error" if kind == "reject" else "drop_after", external_ids=[of], times=1)
            both.run(threads=1)
            rows = other(draw, rows, seed * 10 + step)
        assert both.run(threads=1).plan.to_send >= 0


PEOPLE = {"external_id": ["u1", "u2", "u3"], "n": [1, 2, 3]}


def people(**columns: list[Any]) -> pyarrow.Table:
    return pyarrow.table({**PEOPLE, **columns})


@pytest.fixture
def spark(shop: Shop, lasting: Sail, schema: str) -> Warehouse:
    comparing(shop, lasting, schema)
    found = Warehouse("sail-engine", shop)
    shop.sync("it", f"SELECT * FROM {found.put('people', people())}", **KEEPS)
    return found


def tables(server: Sail, schema: str) -> set[str]:
    return {row["tableName"] for row in server.sql(f"SHOW TABLES IN {schema} LIKE 'retl_*'") if not row["isTemporary"]}


@pytest.mark.long
@pytest.mark.skipif(bool(SPARK), reason="Apache Spark comes without them")
@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_acknowledged_rows_are_in_tables_as_the_catalog_makes_them(both: Both, lasting: Sail, schema: str, form: str):
    """Sail writes Delta and Iceberg: `make test-table-formats` runs all of these tests with such tables."""
    draw = random.Random(form)
    rows = drawn(draw, [f"u{n}" for n in range(12)])
    with lasting.making(form):
        for step in range(3):
            both.sync(rows, on_removed="clear", **KEEPS)
            both.run(threads=1)
            rows = other(draw, rows, step)
        assert both.run(threads=1).plan.to_send == 0
    made = tables(lasting, schema)
    assert len(made) == 3
    for name in made:
        described = lasting.sql(f"DESCRIBE TABLE EXTENDED {schema}.{name}")
        assert [row["data_type"] for row in described if row["col_name"] == "Provider"] == [form]


@pytest.mark.long
def test_rows_that_share_a_key_or_a_user_are_set_aside_as_by_duckdb(both: Both):
    columns = {"id": [1, 2, 3, None, 5], "external_id": ["a", "b", "b", "d", "e"], "n": [1, 2, 3, 4, 5]}
    rows = pyarrow.table(columns)
    how = {"primary_key": ["id"], "skip_on_invalid_records": True, "exclude_columns": ["id"], **KEEPS}
    both.sync(rows.slice(0, 2), **how)
    both.run()
    both.sync(rows, **how)
    both.run()
    both.sync(pyarrow.concat_tables([rows, rows.slice(0, 1)]), **how)
    assert both.run().plan.invalid == 5
    both.sync(pyarrow.concat_tables([rows.slice(0, 1), rows.slice(0, 1)]), primary_key=["id"], exclude_columns=["id"])
    assert [problem.code for problem in both.run().errors] == ["D003"]


@pytest.mark.long
def test_equal_events_are_counted_as_by_duckdb(both: Both):
    times = [datetime.datetime(2024, 1, day) for day in (1, 1, 1, 2, 3)]
    rows = pyarrow.table({
        **{"external_id": ["u1", "u1", "u1", "u2", None], "email": [None, None, None, None, "e@x.example"]},
        **{"name": ["seen"] * 5, "time": times, "page": ["a", "a", None, "b", "c"], "list": [[1], [1], [1], [], None]},
        "zero": [0.0, -0.0, -0.0, 0.0, None],
    })  # fmt: skip
    how = {"mode": "users_track", "track_record_type": "events"}
    both.sync(rows.slice(1), **how)
    both.fault("object_error", external_ids=["u2"])
    both.fault("drop_after", matches=lambda who: who == "e@x.example")
    both.run(threads=1)
    for more in (rows, pyarrow.concat_tables([rows, rows]), rows.slice(0, 1), rows):
        both.sync(more, **how)
        both.run(threads=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(examples(2, 20)))
def test_data_tests_find_the_rows_that_duckdb_finds(both: Both, seed: int):
    """Those that may fail come along, and DuckDB decides, whatever a condition says of them."""
    draw = random.Random(seed)
    columns = ["small", "big one", "money", "flag", "이름", "day", "at", "zoned", "list", "pair", "real"]
    values = {
        **{"small": [1, "2.0", "no"], "big one": [2**63 - 1, 0], "money": ["1.50", 2], "flag": [True], "real": [0]},
        **{"이름": ["a", "", "'\"`\\\n"], "day": ["1900-01-02", "1900-01-03"], "at": ["2024-01-01"]},
    }
    for step in range(2):
        tests: list[dict[str, Any]] = []
        for _ in range(6):
            claim: dict[str, Any] = {"column": draw.sample(columns, draw.choice([1, 1, 2]))}
            kind = draw.choice(["not_null", "unique", "accepted_values"])
            if kind == "accepted_values":
                claim = {"column": (name := draw.choice([*values])), "values": values[name]}
            claim |= draw.choice([{}, {}, {"where": "flag OR \"이름\" = 'A'"}])
            tests.append({kind: {**claim, "severity": draw.choice(["warn", "warn", "error"])}})
        both.sync(drawn(draw, [f"u{n}" for n in range(30)]), data_tests=tests, **KEEPS)
        assert len(both.run(skip_guards=["data_tests"] if step else []).plan.data_tests) == 6


@pytest.mark.long
def test_events_that_the_watermark_has_passed_are_let_go_as_by_duckdb(both: Both):
    days = [datetime.datetime(2024, 1, day) for day in range(1, 9)]
    rows = pyarrow.table({"external_id": [f"u{n}" for n in range(8)], "name": ["seen"] * 8, "time": days})
    more = "SELECT * FROM {} {{% if is_incremental() %}}WHERE time > {{{{ cursor() }}}}{{% endif %}}"
    how = {
        **{"mode": "users_track", "track_record_type": "events", "primary_key": ["external_id", "time"]},
        "incremental": {"cursor": "time", "lookback": "1 day", "retention": "30 days"},
    }
    for first, last, ahead, rejected in (
        (0, 4, 0, "u2"),
        (0, 4, 20, "u2"),
        (0, 6, 5, "nobody"),
        (0, 6, 6, "nobody"),
        (2, 7, 31, "nobody"),
        (0, 8, 0, "nobody"),
        (0, 8, 40, "nobody"),
    ):
        both.sync(rows.slice(first, last - first), more, **how)
        both.fault("object_error", external_ids=[rejected])
        for shop in both.shops:
            shop.clock.ahead += datetime.timedelta(days=ahead)
        both.run(threads=1)
        for shop in both.shops:
            shop.braze.clear_faults()
    assert len(acknowledged(both.there.shop, both.server)) < 4


@pytest.mark.long
@pytest.mark.parametrize("seed", range(examples(1, 10)))
def test_events_with_documents_are_counted_as_by_duckdb(both: Both, seed: int):
    """Of equal ones that are written otherwise, as many are sent as the model has more than are acknowledged."""
    draw = random.Random(seed)

    def event() -> dict[str, Any]:
        pair = draw.sample([("k", 1), ("l", 2)], 2)
        return {
            "external_id": draw.choice(["u1", "u2"]),
            "name": "seen",
            "time": datetime.datetime(2024, 1, draw.randint(1, 2)),
            "page": draw.choice(['{"a": 1, "b": [1]}', '{"b":[1],"a":1}', '{"a": 2}', "null", None]),
            "counts": draw.choice([None, pair, [("k", draw.randint(1, 2))]]),
        }

    texts = [(name, TEXT) for name in ("external_id", "name", "page")]
    of = pyarrow.schema([*texts, ("time", pyarrow.timestamp("us")), ("counts", pyarrow.map_(TEXT, NUMBER))])
    how = {"mode": "users_track", "track_record_type": "events", "pre_formatted_fields": ["page"]}
    rows: list[dict[str, Any]] = []
    for step in range(fewer(6, 3)):
        rows = [row for row in rows if draw.random() > 0.2] + [event() for _ in range(8 if step == 0 else 3)]
        draw.shuffle(rows)
        both.sync(pyarrow.Table.from_pylist(rows, of), **how)
        both.run(threads=1)


@pytest.mark.long
def test_rows_that_left_the_model_are_forgotten_as_by_duckdb(both: Both):
    rows = people()
    for left, days in ((rows, 0), (rows.slice(1), 0), (rows.slice(1), 2), (rows.slice(0, 2), 0), (rows, 3)):
        both.sync(left, keep_removed="1 day")
        for shop in both.shops:
            shop.clock.ahead += datetime.timedelta(days=days)
        both.run()


@pytest.mark.long
def test_tables_are_made_one_and_nothing_else_is_left(
    spark: Warehouse, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("reverse_etl.plan.elsewhere.MOST_DELTAS", 2)
    shop, deltas = spark.shop, []
    for n in range(5):
        spark.put("people", people(n=[n, 0, n % 2]))
        assert shop.run().errors == []
        deltas.append(len(pointer(shop).deltas))
        assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
    assert deltas == [0, 1, 2, 0, 1]
    assert [row[:2] for row in acknowledged(shop, lasting)] == [("u1", "4"), ("u2", "0"), ("u3", "0")]


@pytest.mark.long
def test_killed_run_is_recorded_once_and_its_tables_are_dropped(
    spark: Warehouse, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch
):
    """Whatever was written when it was killed: nothing points at it."""
    shop = spark.shop
    shop.run()
    whole = SparkTables.write
    for ends in ("before", "after"):

        def killed(self: SparkTables, *arguments: Any, ends: str = ends) -> None:
            if ends == "after":
                whole(self, *arguments)
            raise KeyboardInterrupt

        spark.put("people", people(n=[1, len(ends), 3]))
        with monkeypatch.context() as patch:
            patch.setattr(SparkTables, "write", killed)
            with pytest.raises(KeyboardInterrupt):
                shop.run()
        sent = len(shop.sent())
        result = shop.run()
        assert (result.status, result.plan.to_send, len(shop.sent())) == ("success", 0, sent)
        assert tables(lasting, schema) >= {table.name for table in pointer(shop).tables}
        assert [row[:2] for row in acknowledged(shop, lasting)][1] == ("u2", str(len(ends)))
    spark.put("people", people(n=[1, 0, 3]))
    shop.run()
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}


@pytest.mark.long
def test_what_was_sent_is_recorded_when_spark_answers_again(spark: Warehouse, monkeypatch: pytest.MonkeyPatch):
    shop = spark.shop
    shop.run()
    spark.put("people", people(n=[1, 9, 3]))
    with monkeypatch.context() as patch:

        def lost(self: SparkTables, *_: Any) -> None:
            self._reader.close()
            self._reader._remote = "sc://127.0.0.1:1"
            self._reader.connect()

        patch.setattr(SparkTables, "write", lost)
        (problem,) = shop.run().errors
        assert (problem.code, problem.message) == (
            "S041",
            "it: cannot connect to Spark at 127.0.0.1:1: Connection refused: what its last run has sent is in the"
            " journal, not recorded yet",
        )
        project = shop.project()
        assert sync_status(project, project.sync("it")).last_run == "unreachable"
    sent = len(shop.sent())
    assert (shop.run().plan.to_send, len(shop.sent())) == (0, sent)
    assert shop.rows_of("runs", "status") == [("killed",), ("success",), ("success",)]


@pytest.mark.long
def test_only_rows_that_may_differ_travel(spark: Warehouse, monkeypatch: pytest.MonkeyPatch):
    """And those that the model lacks, once: then it is noted that it does."""
    shop, travelled = spark.shop, []
    whole = SparkReader.stream

    def counted(self: SparkReader, sql: str) -> Any:
        for batch in whole(self, sql):
            travelled.append(0 if sql.startswith("SELECT count(*)") else batch.num_rows)
            yield batch

    monkeypatch.setattr(SparkReader, "stream", counted)
    for rows, expected in (
        (people(), 3),
        (people(), 0),
        (people(n=[1, 5, 3]), 1),
        (people(n=[1, 5, 3]).slice(1), 1),
        (people(n=[1, 5, 3]).slice(1), 0),
        (people(n=[1, 5, None]), 2),
        (people(n=[1, 5, None]), 0),
    ):
        spark.put("people", rows)
        travelled.clear()
        result = shop.run()
        assert (sum(travelled), result.plan.rows, result.plan.in_state) == (
            expected,
            rows.num_rows,
            result.plan.in_state,
        )


def test_table_that_was_dropped_by_hand_is_named(spark: Warehouse, lasting: Sail, schema: str):
    shop = spark.shop
    shop.run()
    (name,) = tables(lasting, schema)
    lasting.sql(f"DROP TABLE {schema}.{name}")
    (problem,) = shop.run().errors
    assert (problem.code, problem.message) == ("S040", f"acknowledged rows are missing in Spark: {schema}.{name}")
    assert len(shop.sent()) == 1


def test_nothing_is_sent_if_the_schema_cannot_be_written(
    spark: Warehouse, schema: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    shop = spark.shop
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    fine = f"ok    acknowledged rows: tables in the schema {schema}"
    assert fine in retl("debug", folder=shop.folder).out
    shop.engine["state_schema"] = "nowhere"
    shop.write()
    (problem,) = shop.run().errors
    assert (problem.code, str(problem.location)) == ("P147", "syncs.yml:9:21")
    assert problem.message.startswith("state_schema nowhere: ")
    assert "nowhere" in problem.message.partition(": ")[2]
    assert set(shop.sent()) == {"{}"}  # of debug, which asks for permissions
    assert f"FAIL  acknowledged rows: syncs.yml:9:21: {problem.message}" in retl("debug", folder=shop.folder).out


def test_debug_drops_what_one_that_was_killed_has_left_the_day_before(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl
):
    """And nothing that may be of one that is running, or of a state, whatever its sync is called."""
    now, day = Clock().utc(), datetime.timedelta(days=1)
    old, young = (f"retl_try_{at:%Y%m%d%H%M%S}_0123456789abcdef" for at in (now - 2 * day, now - day / 2))
    others = {f"retl_try_{now - 2 * day:%Y%m%d%H%M%S}_01234567_base_x", "retl_try_01234567_base_x", young}
    for name in (old, *others):
        lasting.sql(f"CREATE TABLE {schema}.{name} AS SELECT 1 AS one")
    assert retl("debug", folder=spark.shop.folder).code in (0, 1)
    assert tables(lasting, schema) == others


@pytest.mark.parametrize("ledger", [{}, {"ledger": {"keep": 0}}], ids=["with a ledger", "without one"])
def test_state_that_is_lost_while_its_tables_are_there_is_no_first_run(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl, ledger: dict[str, Any]
):
    shop = spark.shop
    shop.syncs[0] |= ledger
    shop.write()
    shop.run()
    state = shop.folder / ".retl/test/it/state.duckdb"
    before, sent, there = state.read_bytes(), shop.sent(), tables(lasting, schema)
    state.unlink()
    for _ in range(2):
        assert [error.code for error in shop.run().errors] == ["S006"]
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 1
    assert (shop.sent(), tables(lasting, schema)) == (sent, there)
    state.write_bytes(before)
    assert (shop.run().plan.to_send, shop.sent()) == (0, sent)


def test_rows_are_not_compared_with_those_that_are_elsewhere(spark: Warehouse, schema: str):
    shop = spark.shop
    shop.run()
    there = dict(shop.engine)
    shop.engine = {"type": "spark", "remote": there["remote"]}
    shop.write()
    (problem,) = shop.run().errors
    what = f"it: its acknowledged rows are in the schema {schema} of Spark, and the target has diff: local"
    assert (problem.code, problem.message) == ("S038", what)
    shop.engine = {**there, "state_schema": "other"}
    shop.write()
    assert [problem.code for problem in shop.run().errors] == ["S038"]


def test_rows_in_the_state_are_not_taken_for_none(spark: Warehouse):
    shop, there = spark.shop, dict(spark.shop.engine)
    shop.engine = {"type": "spark", "remote": there["remote"]}
    shop.write()
    shop.run()
    shop.engine = there
    shop.write()
    (problem,) = shop.run().errors
    what = "it: its acknowledged rows are in the state, and the target has diff: engine"
    assert (problem.code, problem.message) == ("S038", what)


def test_what_is_not_done_in_spark_is_refused(spark: Warehouse):
    shop, keys = spark.shop, pyarrow.table({"user_alias": ['{"alias_name": "a", "alias_label": "b"}'], "n": [1]})
    shop.sync("it", f"SELECT * FROM {spark.put('keys', keys)}", pre_formatted_fields=["user_alias"])
    (problem,) = shop.run().errors
    what = 'sync "it": column "user_alias" is a document in the key, which diff: engine does not compare'
    assert (problem.code, problem.message) == ("P148", what)
    assert shop.sent() == []


@pytest.mark.long
def test_saved_plan_is_applied(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    shop = spark.shop
    shop.run()
    spark.put("people", people(n=[1, 9, 3]).slice(0, 2))
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    shown = retl("plan", "it", "--show-values", "--out", "plan.duckdb", folder=shop.folder)
    assert (shown.code, "n: 2 -> 9" in shown.out) == (0, True), shown
    assert len(shop.sent()) == 1
    done = retl("apply", "plan.duckdb", folder=shop.folder)
    assert done.code == 0, done
    assert [row[:2] for row in acknowledged(shop, lasting)] == [("u1", "1"), ("u2", "9"), ("u3", "3")]
    shown = retl("state", "show", "it", folder=shop.folder).out
    assert all(f"{schema}.{table.name}" in shown for table in pointer(shop).tables)
    assert retl("status", folder=shop.folder).out.splitlines()[1].split()[5:8] == ["3", "0", "0"]
    one = retl("state", "show", "it", "--key", "u2", "--output", "json", folder=shop.folder)
    assert {"external_id": "u2", "n": "9"}.items() <= json.loads(one.out).items()
    assert (
        'no acknowledged row with the key "u\\4"'
        in retl("state", "show", "it", "--key", "u\\4", folder=shop.folder).err
    )


@pytest.mark.long
def test_machines_that_share_a_state_share_the_tables(
    spark: Warehouse, lasting: Sail, schema: str, braze: Sandbox, tmp_path: Path
):
    """A machine that was killed while it sent: the other one records what its journal in the store says."""
    with Bucket() as bucket:
        one, two = spark.shop, Shop(tmp_path / "two", braze)
        for shop in (one, two):
            shop.state, shop.environ = {"path": bucket.url}, {**shop.environ, **bucket.environ}
            comparing(shop, lasting, schema)
            shop.sync("it", (one.folder / "models" / "it.sql").read_text(), **KEEPS)
        assert [one.run().plan.to_send, two.run().plan.to_send] == [3, 0]
        spark.put("people", people(n=[1, 7, 8]))
        with running(one, "u3") as process:
            process.kill()
            process.wait()
        two.clock.ahead += datetime.timedelta(hours=1)
        assert (two.run().plan.to_send, two.run().plan.to_send) == (2, 0)
        assert tables(lasting, schema) == {table.name for table in pointer(two).tables}
        assert [row[:2] for row in acknowledged(two, lasting)] == [("u1", "1"), ("u2", "7"), ("u3", "8")]
        one.clock.ahead += datetime.timedelta(hours=1)
        assert one.run().plan.to_send == 0


DAY = datetime.datetime(2024, 1, 1)
SHARED: dict[str, tuple[dict[str, Any], dict[str, list[Any]], dict[str, list[Any]]]] = {
    "events": (
        {"mode": "users_track", "track_record_type": "events", "on_in_doubt": "resend"},
        {"external_id": ["u1", "u2"], "name": ["seen"] * 2, "time": [DAY] * 2},
        {"external_id": ["u1", "u2", "u3", "u4"], "name": ["seen"] * 4, "time": [DAY] * 4},
    ),
    "subscription_status_set": (
        {"mode": "subscription_status_set"},
        {"external_id": ["u1", "u2"], "subscription_group_id": [GROUP + "1"] * 2, "subscription_state": [STATES[0]] * 2},
        {"external_id": ["u1", "u3", "u4"], "subscription_group_id": [GROUP + "1"] * 3, "subscription_state": [STATES[0]] * 3},
    ),
    "users_delete": (
        {"mode": "users_delete", "allow_destructive": True, "guards": {"max_deletes": 100}},
        {"external_id": ["u1", "u2"]},
        {"external_id": ["u1", "u2", "u3", "u4"]},
    ),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", SHARED)
def test_machines_share_the_rows_of_other_modes(
    shop: Shop, lasting: Sail, schema: str, braze: Sandbox, tmp_path: Path, name: str
):
    """One is killed while it sends, the other takes over; the first one, which comes back, has nothing to send."""
    options, first, then = SHARED[name]
    with Bucket() as bucket:
        one, two = shop, Shop(tmp_path / "two", braze)
        spark = Warehouse("sail-engine", one)
        for machine in (one, two):
            machine.state, machine.environ = {"path": bucket.url}, {**machine.environ, **bucket.environ}
            comparing(machine, lasting, schema)
            machine.sync("it", f"SELECT * FROM {spark.put('given', pyarrow.table(first))}", **options)
        assert [one.run().plan.to_send, two.run().plan.to_send] == [2, 0]
        spark.put("given", pyarrow.table(then))
        before = len(braze.requests())
        with running(one, "u4") as process:
            process.kill()
            process.wait()
        two.clock.ahead += datetime.timedelta(hours=1)
        assert [two.run().status, two.run().plan.to_send] == ["success", 0]
        one.clock.ahead += datetime.timedelta(hours=1)
        assert one.run().plan.to_send == 0
        bodies = [json.loads(request.body) for request in braze.requests()[before:] if request.body]
        records = [record for body in bodies for array in body.values() for record in parts(array)]
        told = [str(record) for record in records]
        assert {who for who in ("u3", "u4") if any(who in record for record in told)} == {"u3", "u4"}
        assert not any("'u1'" in record or record == "u1" for record in told)
        if found := pointer_of(meta(two)):
            assert tables(lasting, schema) == {table.name for table in found.tables}
            assert acknowledged(one, lasting) == acknowledged(two, lasting)
            assert len(acknowledged(two, lasting)) == 4


@pytest.mark.long
def test_rows_move_into_spark_and_out_of_it_and_nothing_is_sent(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    shop, there = spark.shop, dict(spark.shop.engine)
    here = {"type": "spark", "remote": there["remote"]}
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)

    def moved(engine: dict[str, str]) -> str:
        shop.engine = engine
        shop.write()
        done = retl("state", "move", "it", folder=shop.folder)
        assert done.code == 0, done.err
        assert shop.run().plan.to_send == 0
        return done.err.strip()

    shop.engine = here
    shop.write()
    shop.run()
    assert moved(there) == f"it: 3 acknowledged rows moved to the schema {schema} of Spark"
    assert len(tables(lasting, schema)) == 1
    spark.put("people", people(n=[1, 2, 4]))
    shop.run()
    assert [row[:2] for row in acknowledged(shop, lasting)] == [("u1", "1"), ("u2", "2"), ("u3", "4")]
    assert moved(here) == "it: 3 acknowledged rows moved to the state"
    assert tables(lasting, schema) == set()
    assert shop.rows_of("state", "external_id", "n") == [("u1", 1), ("u2", 2), ("u3", 4)]
    assert moved(here) == "it: nothing to move"
    assert len(shop.sent()) == 2


@pytest.mark.long
def test_person_is_forgotten_while_the_rows_are_in_the_state(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    shop, there = spark.shop, dict(spark.shop.engine)
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    shop.run()
    for engine, commands in (
        ({"type": "spark", "remote": there["remote"]}, [["state", "move", "it"], ["forget", "u2", "--yes"]]),
        (there, [["state", "move", "it"]]),
    ):
        shop.engine = engine
        shop.write()
        for command in commands:
            done = retl(*command, folder=shop.folder)
            assert done.code == 0, done.err
    assert [row[0] for row in acknowledged(shop, lasting)] == ["u1", "u3"]
    assert shop.run().plan.to_send == 0
    assert len(tables(lasting, schema)) == 1


@pytest.mark.long
def test_rows_about_somebody_who_was_erased_are_not_left_in_spark(spark: Warehouse, lasting: Sail, schema: str):
    """Who was erased from other states of the target, while the rows were there."""
    shop = spark.shop
    shop.run()
    project = shop.project()
    erasures = erasures_of(place_of(project, project.sync("it")))
    with connect() as connection:
        erasures.record(
            erasures.hashed(connection, "SELECT 'external_id:u2' AS who"), datetime.datetime.now(datetime.UTC)
        )
    assert [row[0] for row in acknowledged(shop, lasting)] == ["u1", "u2", "u3"]
    result = shop.run()
    assert (result.errors, result.plan.to_send) == ([], 0)
    assert [row[0] for row in acknowledged(shop, lasting)] == ["u1", "u3"]
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
