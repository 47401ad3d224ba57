"""Texts are equal if their bytes are: to Braze, ann is not Ann, whatever collation a column has."""

import json

import pytest

from tests.shop import Shop, database, some

NESTED = {
    "a column": "nm",
    "COLLATE in the model": "plain COLLATE nocase",
    "a field of a struct": "{'a': nm, 'n': 1}",
    "a field inside a field": "{'a': {'b': [nm]}}",
    "a list": "[nm, NULL, plain][1:1]",
    "a list in a list": "[[nm], []]",
    "a list of structs": "[{'a': nm}, {'a': 'x'}]",
    "an array": "array_value(nm, nm)",
    "keys of a map": "MAP {nm: 1}",
    "values of a map": "MAP {'k': [nm]}",
}


def people(shop: Shop, *names: str, collation: str = "nocase") -> None:
    values = ", ".join(f"('u{n}', '{name}', '{name}')" for n, name in enumerate(names))
    shop.warehouse(
        f"""CREATE OR REPLACE TABLE people (external_id VARCHAR, nm VARCHAR COLLATE {collation}, plain VARCHAR);
        INSERT INTO people VALUES {values}"""
    )


@pytest.mark.long
def test_text_that_differs_in_case_alone_is_a_change(shop: Shop):
    """One row for each place of a text, with columns of its own."""
    rows, places = [f"u{n}" for n in range(len(NESTED))], list(enumerate(NESTED.values()))
    columns = ", ".join(f"nm{n} VARCHAR COLLATE nocase, plain{n} VARCHAR" for n, _ in places)
    shop.warehouse(f"CREATE TABLE people (external_id VARCHAR, {columns})")
    names = "'ann', " * 2 * len(rows)
    shop.warehouse(f"INSERT INTO people SELECT unnest({rows}), {names.removesuffix(', ')}")
    values = (f"{sql.replace('nm', f'nm{n}').replace('plain', f'plain{n}')} AS v{n}" for n, sql in places)
    shop.sync("it", f"SELECT external_id, {', '.join(values)} FROM people").run()
    assert shop.run().plan.unchanged == len(rows)
    shop.warehouse(
        "; ".join(  # the last one stays
            f"UPDATE people SET nm{n} = 'Ann', plain{n} = 'Ann' WHERE external_id = '{row}'"
            for n, row in enumerate(rows[:-1])
        )
    )
    plan = shop.run().plan
    assert (plan.changed, plan.unchanged) == (len(rows) - 1, 1)
    sent = {one.pop("external_id"): one for one in json.loads(shop.sent()[-1])["attributes"]}
    assert {row: list(values) for row, values in sent.items()} == {f"u{n}": [f"v{n}"] for n in range(len(rows) - 1)}
    assert [row for row, values in sent.items() if "Ann" not in json.dumps(values)] == []
    shop.warehouse(f"UPDATE people SET nm{len(rows) - 1} = 'Ann' WHERE external_id = '{rows[-1]}'")
    plan = shop.run().plan
    assert (plan.changed, plan.unchanged) == (1, len(rows) - 1)


COLLATIONS = ["nocase", "noaccent", "nocase.noaccent", "de"]


@pytest.mark.long
@pytest.mark.parametrize(
    "how", some([{}, {"on_removed": "clear"}, {"nulls": "omit"}, {"send": "all_columns"}], every=4), ids=str
)
def test_collation_hides_no_change(shop: Shop, how: dict[str, str]):
    """A column for each collation, and three rows that change in it alone."""
    columns = [f"nm{n}" for n in range(len(COLLATIONS))]

    def write(*names: str) -> None:
        types = ", ".join(f"{name} VARCHAR COLLATE {of}" for name, of in zip(columns, COLLATIONS, strict=True))
        shop.warehouse(f"CREATE OR REPLACE TABLE people (external_id VARCHAR, {types})")
        rows = [
            (f"{column}-{n}", *(name if one == column else "same" for one in columns))
            for column in columns
            for n, name in enumerate(names)
        ]
        shop.warehouse(f"INSERT INTO people VALUES {', '.join(map(str, rows))}")

    write("ann", "ánn", "bob")
    shop.sync("it", "FROM people", **how).run()
    write("ánn", "ann", "Bob")
    assert shop.run().plan.changed == 3 * len(COLLATIONS)
    sent = {one["external_id"]: one for one in json.loads(shop.sent()[-1])["attributes"]}
    for column in columns:
        assert [sent[f"{column}-{n}"][column] for n in range(3)] == ["ánn", "ann", "Bob"]
    assert shop.run().plan.unchanged == 3 * len(COLLATIONS)


@pytest.mark.long
def test_two_users_whose_ids_differ_in_case_are_two(shop: Shop):
    shop.warehouse("CREATE TABLE ids (external_id VARCHAR COLLATE nocase, n INTEGER)")
    shop.warehouse("INSERT INTO ids VALUES ('ann', 1), ('bob', 1)")
    shop.sync("it", "SELECT * FROM ids", primary_key="external_id", on_removed="clear").run()
    shop.warehouse("INSERT INTO ids VALUES ('Ann', 2)")
    plan = shop.run().plan
    assert (plan.added, plan.changed, plan.removed, plan.unchanged) == (1, 0, 0, 2)
    shop.warehouse("UPDATE ids SET n = n + 1")
    assert shop.run().plan.changed == 3
    shop.warehouse("DELETE FROM ids WHERE external_id COLLATE \"binary\" = 'ann'")
    plan = shop.run(skip_guards=["max_removed"]).plan
    assert (plan.removed, plan.unchanged) == (1, 2)
    assert json.loads(shop.sent()[-1])["attributes"][0]["external_id"] == "ann"
    assert [key for key, _ in shop.rows_of("state", "external_id", "n")] == ["Ann", "bob"]


@pytest.mark.long
def test_user_to_delete_whose_id_differs_in_case_is_deleted(shop: Shop):
    shop.warehouse("CREATE TABLE gone (external_id VARCHAR COLLATE nocase); INSERT INTO gone VALUES ('ann')")
    shop.sync("it", "SELECT * FROM gone", mode="users_delete", allow_destructive=True).run()
    shop.warehouse("INSERT INTO gone VALUES ('Ann')")
    assert (shop.run().plan.added, shop.run().plan.added) == (1, 0)
    assert shop.sent() == ['{"external_ids":["ann"]}', '{"external_ids":["Ann"]}']


EVENT = "SELECT external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, page FROM seen"
BOUGHT = """SELECT external_id, page AS product_id, 'EUR' AS currency, 1 AS price, TIMESTAMP '2026-11-23' AS time
    FROM seen"""


KEY = {"primary_key": ["external_id", "page"]}


@pytest.mark.long
@pytest.mark.parametrize(
    ("record", "model", "key"),
    some([("events", EVENT, {}), ("purchases", BOUGHT, {}), ("purchases", BOUGHT, KEY), ("events", EVENT, KEY)]),
)
def test_event_that_differs_in_case_is_another_event(shop: Shop, record: str, model: str, key: dict[str, list[str]]):
    shop.warehouse("CREATE TABLE seen (external_id VARCHAR COLLATE nocase, page VARCHAR COLLATE nocase.noaccent)")
    shop.warehouse("INSERT INTO seen VALUES ('ann', 'home'), ('bob', 'home')")
    if key:
        model = model.replace("page AS product_id", "page AS product_id, page")
    shop.sync("it", model, mode="users_track", track_record_type=record, **key)
    assert shop.run().plan.added == 2
    shop.warehouse("INSERT INTO seen VALUES ('ann', 'Home'), ('ann', 'hóme'), ('Ann', 'home')")
    assert (shop.run().plan.added, shop.run().plan.added) == (3, 0)
    new = json.loads(shop.sent()[-1])[record]
    assert sorted((one["external_id"], one.get("product_id") or one["properties"]["page"]) for one in new) == [
        ("Ann", "home"),
        ("ann", "Home"),
        ("ann", "hóme"),
    ]


@pytest.mark.long
def test_equal_events_are_still_counted_one_by_one(shop: Shop):
    shop.warehouse("CREATE TABLE seen (external_id VARCHAR COLLATE nocase, page VARCHAR COLLATE nocase)")
    shop.warehouse("INSERT INTO seen VALUES ('ann', 'home'), ('ann', 'Home'), ('ann', 'home'), ('Ann', 'home')")
    shop.sync("it", EVENT, mode="users_track", track_record_type="events")
    assert (shop.run().plan.added, shop.run().plan.added) == (4, 0)
    shop.warehouse("INSERT INTO seen VALUES ('ann', 'Home')")
    assert (shop.run().plan.added, shop.run().plan.added) == (1, 0)
    assert json.loads(shop.sent()[-1])["events"][0]["properties"] == {"page": "Home"}


def test_choice_of_braze_is_compared_by_its_bytes(shop: Shop):
    shop.warehouse("CREATE TABLE groups (external_id VARCHAR, subscription_state VARCHAR COLLATE nocase)")
    shop.warehouse("INSERT INTO groups VALUES ('ann', 'Unsubscribed')")
    model = "SELECT *, '5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a' AS subscription_group_id FROM groups"
    result = shop.sync("it", model, mode="subscription_status_set").run()
    assert (result.status, [row.column for row in result.invalid]) == ("blocked", ["subscription_state"])
    assert shop.sent() == []


def test_data_tests_compare_bytes(shop: Shop):
    people(shop, "ann", "Ann", "gold")
    tests = [{"unique": "nm"}, {"accepted_values": {"column": "nm", "values": ["Ann", "GOLD"]}}]
    shop.sync("it", "SELECT external_id, nm FROM people", data_tests=tests)
    assert [(result.status, result.failures) for result in shop.run().plan.data_tests] == [("pass", 0), ("fail", 2)]


def test_user_found_twice_is_the_same_user_byte_by_byte(shop: Shop):
    shop.warehouse("CREATE TABLE ids (external_id VARCHAR COLLATE nocase, k INTEGER)")
    shop.warehouse("INSERT INTO ids VALUES ('ann', 1), ('Ann', 2)")
    assert shop.sync("it", "SELECT * FROM ids", primary_key="k").run().status == "success"


@pytest.mark.long
def test_events_that_were_numbered_by_a_collation_do_not_go_out_again(shop: Shop):
    """The version before numbered ann, Ann, ann as 1, 2, 3, in any order."""
    shop.warehouse("CREATE TABLE seen (external_id VARCHAR, page VARCHAR COLLATE nocase)")
    shop.warehouse("INSERT INTO seen VALUES ('u1', 'home'), ('u1', 'Home'), ('u1', 'home')")
    shop.sync("it", EVENT, mode="users_track", track_record_type="events").run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("UPDATE state SET _retl_number = 3 WHERE page = 'home' AND _retl_number = 2")
        connection.execute("UPDATE state SET _retl_number = 2 WHERE page = 'Home'")
    assert shop.run().plan.added == 0
    shop.warehouse("INSERT INTO seen VALUES ('u1', 'Home')")
    assert (shop.run().plan.added, shop.run().plan.added) == (1, 0)
    assert json.loads(shop.sent()[-1])["events"][0]["properties"] == {"page": "Home"}
