"""What counts as a change."""

import json
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl import Project
from reverse_etl.engines.duckdb import changes
from reverse_etl.engines.duckdb.changes import _rows_read
from reverse_etl.engines.duckdb.diff import _compared, no_changes_sql
from reverse_etl.engines.duckdb.model import sql_type
from reverse_etl.sql.types import hashed
from tests.shop import Shop, examples, one_duckdb, some

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


@pytest.mark.long
def test_value_that_differs_is_a_change_both_ways(shop: Shop):
    """A row for each pair, all of whose columns stay what they are but that of the pair."""
    first, second = (
        " UNION ALL ".join(
            f"SELECT 'u{row}' AS external_id, "
            + ", ".join(
                f"CAST({after if moved and row == n else before} AS {of}) AS v{n}"
                for n, (of, before, after) in enumerate(PAIRS)
            )
            for row in range(len(PAIRS))
        )
        for moved in (False, True)
    )
    shop.sync("it", first)
    assert (shop.run().status, shop.run().plan.changed) == ("success", 0)
    for there in (second, first):
        shop.sync("it", there)
        assert shop.run().plan.changed == len(PAIRS)
        moved = {one["external_id"]: one.keys() - {"external_id"} for one in json.loads(shop.sent()[-1])["attributes"]}
        assert moved == {f"u{n}": {f"v{n}"} for n in range(len(PAIRS))}


def test_two_values_or_two_rows_that_change_places_are_changes(shop: Shop):
    """Of u0 the values, and of u1 and u2 the rows."""
    model = "SELECT * FROM (VALUES {}) t(external_id, a, b)"
    shop.sync("it", model.format("('u0', '1', '2'), ('u1', 'a', 'x'), ('u2', 'b', 'x'), ('u3', 'c', 'x')")).run()
    shop.sync("it", model.format("('u0', '2', '1'), ('u1', 'b', 'x'), ('u2', 'a', 'x'), ('u3', 'c', 'x')"))
    plan = shop.run().plan
    assert (plan.added, plan.changed, plan.unchanged, plan.removed) == (0, 3, 1, 0)
    assert shop.sent()[1:] == [
        '{"attributes":[{"external_id":"u0","a":"2","b":"1"},{"external_id":"u1","a":"b"},{"external_id":"u2","a":"a"}]}'
    ]


def test_keys_that_share_half_a_hash_are_told_apart(shop: Shop):
    keys = "SELECT 'u' || range AS key FROM range(300000)"
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT list(key) FROM ({keys}) GROUP BY hash(key) >> 32 HAVING count(*) = 2 LIMIT 1"
        )
        one, other = found.fetchall()[0][0]
    shop.sync("it", f"SELECT '{one}' AS external_id, 1 AS n").run()
    shop.model("it", f"SELECT '{other}' AS external_id, 1 AS n")
    plan = shop.run().plan
    assert (plan.rows, plan.added, plan.unchanged) == (1, 1, 0)


# --- a column of another type, accepted ------------------------------------------------------------------------------

RETYPED = {
    "INTEGER -> VARCHAR": ("1", "'7'"),
    "INTEGER -> BIGINT": ("1::INTEGER", "7::BIGINT"),
    "VARCHAR -> INTEGER": ("'q'", "7"),
    "VARCHAR -> TIMESTAMP": ("'2026-01-01'", "TIMESTAMP '2026-01-02'"),
    "VARCHAR -> STRUCT": ("'no JSON'", "{'a': 1}"),
    "STRUCT with a field more": ("{'a': 1}", "{'a': 1, 'b': 2}"),
    "STRUCT -> INTEGER": ("{'a': 1}", "5"),
    "STRUCT -> MAP": ("{'a': 1, 'b': NULL}", "MAP {'a': 2}"),
    "INTEGER[] -> VARCHAR[]": ("[1]", "['a']"),
    "INTEGER[] -> INTEGER": ("[1]", "3"),
    "MAP of another type": ("MAP {'a': 1}", "MAP {'a': 'x'}"),
}
SENT_HOW = {
    "attributes": {},
    "on_removed: clear": {"on_removed": "clear", "guards": {"max_removed": "100%"}},
    "nulls: omit": {"nulls": "omit"},
    "send: all_columns": {"send": "all_columns"},
    "incremental": {"incremental": {"cursor": "n"}},
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "merged"),
    some(((how, merged) for merged in ("", ", true AS _merge_objects") for how in SENT_HOW), every=4),
)
def test_accepted_type_goes_out_once_however_it_is_sent(shop: Shop, how: str, merged: str):
    columns = [f'"{name}"' for name in RETYPED]
    nulls = ", ".join("NULL" for _ in columns)
    before, now = (", ".join(values) for values in zip(*RETYPED.values(), strict=True))
    model = f"SELECT *{merged} FROM (VALUES {{}}) t(external_id, {', '.join(columns)}, n)"
    shop.sync("it", model.format(f"('a', {before}, 1), ('b', {before}, 1), ('c', {nulls}, 1)"), **SENT_HOW[how])
    assert shop.run().status == "success"
    shop.model("it", model.format(f"('a', {now}, 2), ('c', {nulls}, 2)"))
    result = shop.run(accept_schema_change=True)
    assert (result.status, result.plan.rows, result.plan.changed) == ("success", 2, 2)
    assert result.plan.removed == (1 if how == "on_removed: clear" else 0)
    sent = {one["external_id"]: one for one in json.loads(shop.sent()[-1])["attributes"]}
    assert [name for name in RETYPED if name not in sent["a"]] == []
    again = shop.run()
    assert (again.status, again.plan.to_send) == ("success", 0)


def test_merged_object_that_loses_a_key_with_its_type_is_invalid(shop: Shop):
    model = "SELECT 'a' AS external_id, {} AS v, true AS _merge_objects"
    shop.sync("it", model.format("{'a': 1, 'b': 2}")).run()
    shop.model("it", model.format("{'a': 1}"))
    result = shop.run(accept_schema_change=True)
    assert (result.status, result.plan.invalid, result.invalid[0].column) == ("blocked", 1, "v")
    assert len(shop.sent()) == 1


# --- rows are counted as they pass by --------------------------------------------------------------------------------

MODELS = {
    "an empty table": ("SELECT * FROM none", 0),
    "a condition that is never true": ("SELECT * FROM five WHERE false", 0),
    "LIMIT 0": ("SELECT * FROM five LIMIT 0", 0),
    "the same rows": ("SELECT * FROM five", 5),
    "a condition": ("SELECT * FROM five WHERE n > 1", 3),
    "a constant": ("SELECT 'u1' AS external_id, 1::BIGINT AS n", 1),
    "a UNION": ("SELECT * FROM five UNION ALL SELECT 'x' || n, n FROM five WHERE n < 2", 7),
    "a UNION of which one side is empty": ("SELECT * FROM five UNION ALL SELECT * FROM none", 5),
    "a UNION with what is never true": ("SELECT * FROM five UNION ALL SELECT * FROM five WHERE false", 5),
    "a GROUP BY": ("SELECT external_id, max(n) AS n FROM five GROUP BY external_id", 5),
    "the first of them": ("FROM five ORDER BY n DESC LIMIT 3", 3),
    "a join": ("SELECT a.external_id, b.n FROM five AS a JOIN five AS b ON a.n = b.n + 1", 4),
    "a join that finds nothing": ("SELECT a.external_id, b.n FROM five AS a JOIN none AS b USING (n)", 0),
    "a WITH that is used twice": (
        "WITH w AS MATERIALIZED (FROM five) SELECT * FROM w WHERE n < (SELECT max(n) FROM w)",
        4,
    ),
    "a QUALIFY": ("FROM five QUALIFY row_number() OVER (PARTITION BY n % 2 ORDER BY n) = 1", 2),
    "an EXISTS": ("FROM five WHERE EXISTS (SELECT 1 FROM five AS other WHERE other.n = five.n + 2)", 3),
    "an UNNEST": ("SELECT 'u' || k AS external_id, k AS n FROM (SELECT unnest(range(8)) AS k)", 8),
}
KINDS = {
    "attributes": {},
    "attributes, cleared": {"on_removed": "clear", "guards": {"max_removed": "100%", "empty_model": False}},
    "incremental attributes": {"incremental": {"cursor": "n"}},
    "purchases": {"mode": "users_track", "track_record_type": "purchases"},
    "users_delete": {
        "mode": "users_delete",
        "allow_destructive": True,
        "guards": {"max_removed": "100%", "empty_model": False},
    },
}
COLUMNS = {
    "purchases": "external_id, n AS price, 'x' AS product_id, 'EUR' AS currency, TIMESTAMP '2026-01-01' AS time",
    "users_delete": "external_id",
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_model_are_counted_whatever_duckdb_makes_of_it(shop: Shop, kind: str):
    shop.warehouse("CREATE TABLE none (external_id VARCHAR, n BIGINT)")
    shop.warehouse("CREATE TABLE five AS SELECT 'u' || range AS external_id, range AS n FROM range(5)")
    columns = COLUMNS.get(kind, "*")
    shop.sync("it", f"SELECT {columns} FROM five", **KINDS[kind]).run()
    every = examples(len(KINDS), 1)
    models = [name for n, name in enumerate(MODELS, list(KINDS).index(kind)) if n % every == 0]

    def counted(sql: str) -> int:
        shop.model("it", f"SELECT {columns} FROM ({sql})")
        return Project(shop.folder).plan("it").plan.rows

    assert {name: counted(MODELS[name][0]) for name in models} == {name: MODELS[name][1] for name in models}


@pytest.mark.long
@pytest.mark.parametrize(
    "options", some([{}, {"nulls": "omit"}, {"on_removed": "clear"}, {"send": "all_columns"}], every=4), ids=str
)
def test_column_whose_name_changes_its_case_is_another_attribute(shop: Shop, options: dict[str, Any]):
    """Braze tells Tier from tier, and DuckDB does not: the second run had nothing to send, and the third sent all."""
    model = "SELECT 'u1' AS external_id, 'gold' AS {}ier, 4 AS {}ge, 'x' AS {}ddress UNION ALL SELECT 'u2', NULL, NULL, NULL"
    big, small = model.format("T", "A", "A"), model.format("t", "a", "a").replace("4", "'5'").replace("'x'", "{'a': 1}")
    shop.sync("it", big, **options).run()
    shop.model("it", small)
    result = shop.run()
    assert (result.status, result.plan.changed, result.plan.unchanged) == ("success", 1, 1)
    sent = json.loads(shop.sent()[-1])["attributes"]
    assert sent == [{"external_id": "u1", "tier": "gold", "age": "5", "address": {"a": 1}}]
    assert shop.run().delivery.requests == 0
    shop.model("it", big)
    assert (shop.run().plan.changed, shop.run().delivery.requests) == (1, 0)


def test_count_that_a_profile_does_not_tell_is_none_and_not_zero():
    assert _rows_read("{}") is None
    assert _rows_read('{"operator": [{"name": "JOIN", "children": [{"name": "SCAN"}, {"name": "SCAN"}]}]}') is None


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
    with one_duckdb().cursor() as connection:
        parts = ", ".join(hashed("v", sql_type(connection.sql(f"SELECT CAST(NULL AS {of})").types[0])))
        rows = ", ".join("(?)" for _ in values)
        connection.execute(
            f"CREATE TEMP TABLE t AS SELECT CAST(CAST(v AS JSON) AS {of}) AS v FROM (VALUES {rows}) AS given(v)",
            [json.dumps(value) for value in values],
        )
        told_apart, different = connection.execute(
            f"SELECT count(DISTINCT hash({parts})), (SELECT count(*) FROM (SELECT DISTINCT v FROM t)) FROM t"
        ).fetchone()
    assert told_apart == different


@pytest.mark.parametrize(
    ("more", "options"),
    [
        pytest.param("1 AS n, 'x' AS city", {}, id="attributes"),
        pytest.param("true AS _merge_objects, {'a': 1} AS o, MAP {'k': 1} AS m", {}, id="merged objects"),
        pytest.param("1 AS n, 'opted_in' AS email_subscribe", {"on_removed": "clear"}, id="consent, removed"),
        pytest.param("1 AS n, NULL AS country", {"send": "all_columns", "nulls": "omit"}, id="all columns"),
        pytest.param("'{}'::JSON AS k, 1 AS n", {"primary_key": ["external_id", "k"]}, id="a document in the key"),
    ],
)
@pytest.mark.sampled(4)
def test_run_without_changes_has_the_same_columns_for_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, more: str, options: dict[str, Any]
):
    asked: list[Any] = []

    def noted(*of: Any) -> str:
        asked.append(of)
        return no_changes_sql(*of)

    monkeypatch.setattr(changes, "no_changes_sql", noted)
    shop.sync("it", f"SELECT 'u' AS external_id, {more}", **options).run()
    shop.run()
    assert {*one_duckdb().sql(no_changes_sql(*asked[-1])).columns} == {*_compared(*asked[-1])[0]}
