"""A type that changes: what is the same JSON as before is not sent again."""

import json
from itertools import pairwise

import pytest

from reverse_etl.engines.duckdb.model import sql_type
from reverse_etl.sql.types import widens
from tests.shop import Shop, one_duckdb, some

WIDER = {
    "TINYINT -> SMALLINT": ("TINYINT", "SMALLINT", "-7"),
    "SMALLINT -> INTEGER": ("SMALLINT", "INTEGER", "-7"),
    "INTEGER -> BIGINT": ("INTEGER", "BIGINT", "-7"),
    "BIGINT -> HUGEINT": ("BIGINT", "HUGEINT", "-7"),
    "UTINYINT -> SMALLINT": ("UTINYINT", "SMALLINT", "255"),
    "UINTEGER -> BIGINT": ("UINTEGER", "BIGINT", "4294967295"),
    "UINTEGER -> UBIGINT": ("UINTEGER", "UBIGINT", "4294967295"),
    "DECIMAL(4,2) -> DECIMAL(18,2)": ("DECIMAL(4,2)", "DECIMAL(18,2)", "12.30"),
    "DECIMAL(2,2) -> DECIMAL(4,2)": ("DECIMAL(2,2)", "DECIMAL(4,2)", "-0.30"),
    "UUID -> VARCHAR": ("UUID", "VARCHAR", "'5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a'"),
    "TIMESTAMP_S -> TIMESTAMP": ("TIMESTAMP_S", "TIMESTAMP", "'2026-11-23 08:15:00'"),
    "TIMESTAMP_MS -> TIMESTAMP": ("TIMESTAMP_MS", "TIMESTAMP", "'2026-11-23 08:15:00.123'"),
    "INTEGER[] -> BIGINT[]": ("INTEGER[]", "BIGINT[]", "[1, 2]"),
    "STRUCT with a field more": ("STRUCT(a INTEGER)", "STRUCT(a INTEGER, b VARCHAR)", "{'a': 1}"),
    "STRUCT with a field before": ("STRUCT(b INTEGER)", "STRUCT(a VARCHAR, b BIGINT)", "{'b': 1}"),
    "STRUCT in a list": ("STRUCT(a SMALLINT)[]", "STRUCT(a INTEGER, b DATE)[]", "[{'a': 1}]"),
    "MAP -> MAP": ("MAP(VARCHAR, INTEGER)", "MAP(VARCHAR, BIGINT)", "MAP {'a': 1}"),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "how", some([{}, {"on_removed": "clear"}, {"nulls": "omit"}, {"send": "all_columns"}], every=4), ids=str
)
def test_wider_type_stops_no_run_and_sends_nothing(shop: Shop, how: dict[str, str]):
    def model(place: int) -> str:
        columns = (f'CAST({{0}} AS {pair[place]}) AS "{name}"' for name, pair in WIDER.items())
        values = ", ".join(column.format(WIDER[name][2]) for column, name in zip(columns, WIDER, strict=True))
        nulls = ", ".join(f"CAST(NULL AS {pair[place]})" for pair in WIDER.values())
        return f"SELECT 'u1' AS external_id, 1 AS n, {values} UNION ALL SELECT 'u2', 1, {nulls}"

    shop.sync("it", model(0), **how).run()
    shop.model("it", model(1))
    result = shop.run()
    assert (result.status, result.plan.unchanged, result.delivery.requests) == ("success", 2, 0)
    with_types = dict(one_duckdb().execute(f"DESCRIBE {model(1)}").fetchall()[n][:2] for n in range(len(WIDER) + 2))
    assert dict(zip(with_types, types(shop, list(with_types)), strict=True)) == with_types
    shop.model("it", model(1).replace("1 AS n", "2 AS n").replace("12.30", "12.31"))
    assert shop.run().plan.changed == 1


def types(shop: Shop, names: list[str]) -> tuple[str, ...]:
    return shop.rows_of("state", *(f'typeof("{name}")' for name in names))[0]


NARROWER = ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"]
OTHERS = [
    ("VARCHAR", "UUID"),
    ("INTEGER", "VARCHAR"),
    ("INTEGER", "DOUBLE"),
    ("FLOAT", "DOUBLE"),
    ("BIGINT", "UBIGINT"),
    ("DECIMAL(4,2)", "DECIMAL(18,3)"),
    ("TIMESTAMP", "TIMESTAMP_NS"),
    ("DATE", "TIMESTAMP"),
    ("STRUCT(a INTEGER, b INTEGER)", "STRUCT(a INTEGER)"),
    ("STRUCT(a INTEGER)", "STRUCT(A INTEGER)"),
    ("INTEGER[]", "INTEGER[2]"),
    ("VARCHAR", "JSON"),
    ("JSON", "VARCHAR"),
    *((wide, narrow) for narrow, wide in pairwise(NARROWER)),
]


@pytest.mark.parametrize(("before", "now"), OTHERS)
def test_type_that_is_no_wider_one_is_none(before: str, now: str):
    one, other = (sql_type(one_duckdb().sql(f"SELECT CAST(NULL AS {of})").types[0]) for of in (before, now))
    assert not widens(one, other)


@pytest.mark.long
def test_other_type_still_stops_the_run(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, 5::INTEGER AS v").run()
    for of in ("VARCHAR", "DOUBLE"):
        shop.model("it", f"SELECT 'u1' AS external_id, '5'::{of} AS v")
        error = shop.run().errors[0]
        assert error.message == f'it: the model changed the type of "v" from INTEGER to {of}'
    assert shop.run(accept_schema_change=True).plan.changed == 1
    assert shop.run().plan.unchanged == 1


ACCEPTED = {  # type before and now, then values: the same JSON, and another
    "VARCHAR -> UUID": (
        "VARCHAR",
        "UUID",
        "'5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a'",
        "'5A5E9A9A-0F2A-4A5E-9A9A-0F2A4A5E9A9A'",
    ),
    "FLOAT -> DOUBLE": ("FLOAT", "DOUBLE", "0.5", "0.1"),
    "BIGINT -> INTEGER": ("BIGINT", "INTEGER", "5", "NULL"),
    "VARCHAR -> DATE": ("VARCHAR", "DATE", "'2026-11-23'", "'2026-1-1'"),
    "STRUCT -> MAP": ("STRUCT(b INTEGER, a INTEGER)", "MAP(VARCHAR, INTEGER)", "{'b': 1, 'a': 2}", "NULL"),
    "STRUCT -> JSON": ("STRUCT(b INTEGER, a INTEGER)", "JSON", "{'b': 1, 'a': 2}", "NULL"),
    "STRUCT with a field less": ("STRUCT(a INTEGER, b INTEGER)", "STRUCT(a INTEGER)", "{'a': 1}", "{'a': 1, 'b': 2}"),
    "DATE -> VARCHAR": ("DATE", "VARCHAR", "'2026-11-23'", "NULL"),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "how", some([{}, {"on_removed": "clear"}, {"nulls": "send"}, {"incremental": {"cursor": "n"}}], every=4), ids=str
)
def test_accepted_type_sends_only_what_is_other_json(shop: Shop, how: dict[str, object]):
    """One column for each pair of types, and one row in which it is other JSON than before; none in the row "same"."""

    def row(row: str, place: int) -> str:
        columns = []
        for name, (before, now, same, other) in ACCEPTED.items():
            value = f"CAST({other if name == row else same} AS {before})"
            if place and name == row and other == "NULL":
                value = f"CAST({same} AS {before})"
            columns.append(f'CAST({value} AS {now}) AS "{name}"' if place else f'{value} AS "{name}"')
        return f"SELECT '{row}' AS external_id, 1 AS n, {', '.join(columns)}"

    before, now = (" UNION ALL ".join(row(name, place) for name in ["same", *ACCEPTED]) for place in (0, 1))
    shop.sync("it", before, **how).run()
    shop.model("it", now)
    assert shop.run().status == "failed"
    result = shop.run(accept_schema_change=True)
    assert (result.status, result.plan.changed, result.plan.unchanged) == ("success", len(ACCEPTED), 1)
    sent = json.loads(shop.sent()[-1])["attributes"]
    assert {one["external_id"]: set(one) - {"external_id"} for one in sent} == {name: {name} for name in ACCEPTED}
    again = shop.run()
    assert (again.plan.unchanged, again.delivery.requests) == (len(ACCEPTED) + 1, 0)


@pytest.mark.long
def test_value_of_a_row_that_was_not_read_is_kept_if_it_is_the_same_json(shop: Shop):
    model = "SELECT 'u' || i AS external_id, i AS n, CAST('{}' AS {}) AS v FROM range(2) r(i)"
    shop.sync("it", model.format("2026-11-23", "VARCHAR")).run()
    shop.model("it", f"{model.format('2026-11-23', 'DATE')} WHERE i = 0")
    assert shop.run(accept_schema_change=True).plan.unchanged == 1
    shop.model("it", model.format("2026-11-23", "DATE"))
    assert shop.run().plan.unchanged == 2


@pytest.mark.long
def test_varchar_that_becomes_json_is_sent(shop: Shop):
    """What was a string in Braze, or JSON listed in `pre_formatted_fields`, the state does not say."""
    shop.sync("it", "SELECT 'u1' AS external_id, '5' AS v", pre_formatted_fields=["v"]).run()
    shop.sync("it", "SELECT 'u1' AS external_id, CAST('5' AS JSON) AS v")
    assert shop.run(accept_schema_change=True).plan.changed == 1


@pytest.mark.parametrize("record", ["events", "attributes"])
def test_wider_key_is_the_same_key(shop: Shop, record: str):
    model = "SELECT CAST(5 AS {}) AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"
    if record == "attributes":
        model = "SELECT CAST(5 AS {}) AS external_id, 1 AS n"
    shop.sync("it", model.format("INTEGER"), mode="users_track", track_record_type=record).run()
    shop.model("it", model.format("BIGINT"))
    assert (shop.run().plan.unchanged, len(shop.sent())) == (1, 1)
    assert shop.rows_of("state", "typeof(external_id)") == [("BIGINT",)]
