"""JSON is equal if every reader of it sees the same: the order of keys and blanks are spelling, and no change."""

import json

import pytest

from reverse_etl.sandbox import Fault
from tests.shop import Shop, some

SAME = {
    "order of keys": (
        '{"a": 1, "b": {"c": 1, "d": [{"x": 1, "y": 2}]}}',
        '{"b": {"d": [{"y": 2, "x": 1}], "c": 1}, "a": 1}',
    ),
    "blanks": ('{"a": [1, 2], "b": "x y"}', '{"a":[1,2],\n\t"b":"x y"}'),
    "an escaped letter": ('{"a": "é😀/"}', '{"a": "\\u00e9\\ud83d\\ude00\\/"}'),
    "an escaped key": ('{"é": 1, "b": 2}', '{"b": 2, "\\u00e9": 1}'),
    "numbers that keep their texts": ('{"a": 1.10, "b": -0, "c": 1E5}', '{"c":1E5,"b":-0,"a":1.10}'),
    "a string like a number": ('{"a": "1.5", "b": 1}', '{"b":1,"a":"1.5"}'),
    "quotes in strings": ('{"a": "\\"b\\": 1.5", "b\\\\": 2.5}', '{"b\\\\":2.5,"a":"\\"b\\": 1.5"}'),
    "nothing in it": ('{"a": {}, "b": []}', '{"b":[],"a":{}}'),
}
OTHER = {
    "order of a list": ("[1, 2]", "[2, 1]"),
    "order of a list inside": ('{"a": [{"x": 1}, {"x": 2}]}', '{"a": [{"x": 2}, {"x": 1}]}'),
    "a number and a string": ('{"a": 1}', '{"a": "1"}'),
    "a number and a string with a point": ('{"a": 1.5}', '{"a": "1.5"}'),
    "1 and 1.0": ('{"a": 1}', '{"a": 1.0}'),
    "1.0 and 1e0": ('{"a": 1.0}', '{"a": 1e0}'),
    "digits beyond a double": ('{"a": 0.1}', '{"a": 0.1000000000000000055511151231257827}'),
    "values that change places": ('{"a": 1, "b": 2}', '{"a": 2, "b": 1}'),
    "digits that change places": ('{"a": 0.10, "b": 0.1}', '{"a": 0.1, "b": 0.10}'),
    "keys twice": ('{"a": 1, "a": 2}', '{"a": 2, "a": 1}'),
    "keys twice, deep inside": ('[{"a": {"x": 1, "y": 1}, "a": {"x": 2}}]', '[{"a": {"x": 1}, "a": {"y": 1, "x": 2}}]'),
    "a blank in a string": ('{"a": "x y"}', '{"a": "xy"}'),
    "a blank in a key": ('{"a_b": 1}', '{"ab": 1}'),
    "the case of a key": ('{"a": 1}', '{"A": 1}'),
    "an escaped backslash": ('{"a": "\\\\u00e9"}', '{"a": "\\u00e9"}'),
    "true and a string": ('{"a": true}', '{"a": "true"}'),
    "a key more": ('{"a": 1}', '{"a": 1, "b": {}}'),
}
# A row has its JSON as JSON, or as text: of users whose number is even, or odd.
EITHER = """SELECT external_id, n, if(right(external_id, 1)::INTEGER % 2 = 0, v, NULL)::JSON AS v,
    if(right(external_id, 1)::INTEGER % 2 = 1, v, NULL) AS text FROM people"""


AS_JSON = "SELECT * REPLACE (v::JSON AS v) FROM people"


def write(shop: Shop, *values: str, n: int = 1) -> None:
    """A table of users u0, u1, ..., each with a text of JSON."""
    given = [part for number, value in enumerate(values) for part in (f"u{number}", n, value)]
    shop.warehouse(
        f"""CREATE OR REPLACE TABLE people (external_id VARCHAR, n INTEGER, v VARCHAR);
        INSERT INTO people VALUES {", ".join(["(?, ?, ?)"] * len(values))}""",
        *given,
    )


@pytest.mark.long
def test_json_that_differs_is_a_change_both_ways_and_json_that_is_spelled_otherwise_is_none(shop: Shop):
    """Two rows for each pair: as JSON, and as text."""
    others, all_pairs = 2 * len(OTHER), [*OTHER.values(), *SAME.values()]
    write(shop, *(before for before, _ in all_pairs for _ in range(2)))
    shop.sync("it", EITHER, pre_formatted_fields=["text"])
    assert shop.run().plan.added == 2 * len(all_pairs)
    for place in (1, 0):
        write(shop, *(pair[place] for pair in all_pairs for _ in range(2)))
        result = shop.run()
        assert (result.status, result.plan.changed, result.plan.unchanged) == ("success", others, 2 * len(SAME))
        sent = {one["external_id"] for body in shop.sent()[-1:] for one in json.loads(body)["attributes"]}
        assert sent == {f"u{n}" for n in range(others)}
    assert shop.run().plan.unchanged == 2 * len(all_pairs)


def test_state_takes_the_new_spelling_without_sending_it(shop: Shop):
    write(shop, '{"a": 1, "b": 2}', '{"c": 3}')
    shop.sync("it", AS_JSON).run()
    before = shop.rows_of("state", "_retl_sent_at", "_retl_run_id")
    write(shop, '{"b":2,"a":1}', '{"c": 3}')
    assert shop.run().delivery.requests == 0
    assert [value for (value,) in shop.rows_of("state", "v")] == ['{"b":2,"a":1}', '{"c": 3}']
    assert shop.rows_of("state", "_retl_sent_at", "_retl_run_id") == before


@pytest.mark.long
def test_text_goes_out_as_it_stands_with_what_did_change(shop: Shop):
    write(shop, '{"a": 1, "b": 2}', '{"a": 1, "b": 2}')
    shop.sync("it", AS_JSON).run()
    write(shop, '{"b":2, "a":1}', '{"b":3, "a":1}', n=2)
    assert shop.run().plan.changed == 2
    assert (
        shop.sent()[-1] == '{"attributes":[{"external_id":"u0","n":2},{"external_id":"u1","n":2,"v":{"b":3, "a":1}}]}'
    )
    assert shop.run().plan.unchanged == 2


MAPS = {
    "MAP(VARCHAR, INTEGER)": ("MAP {'a': 1, 'b': 2}", "MAP {'b': 2, 'a': 1}", "MAP {'b': 1, 'a': 2}"),
    "MAP(VARCHAR, INTEGER)[]": ("[MAP {'a': 1, 'b': 2}]", "[MAP {'b': 2, 'a': 1}]", "[MAP {'a': 1}, MAP {'b': 2}]"),
    "STRUCT(m MAP(VARCHAR, VARCHAR[]))": (
        "{'m': MAP {'a': ['x'], 'b': ['y']}}",
        "{'m': MAP {'b': ['y'], 'a': ['x']}}",
        "{'m': MAP {'a': ['y'], 'b': ['x']}}",
    ),
    "STRUCT(j JSON)": ("""{'j': '{"a":1,"b":2}'}""", """{'j': '{"b":2, "a":1}'}""", """{'j': '{"b":1, "a":2}'}"""),
}


@pytest.mark.long
def test_order_of_the_entries_of_a_map_is_no_change(shop: Shop):
    """A column for each type."""
    first, same, other = (
        "SELECT 'u1' AS external_id, "
        + ", ".join(f'CAST({values[n]} AS {of}) AS "{of}"' for of, values in MAPS.items())
        for n in range(3)
    )
    shop.sync("it", first).run()
    shop.model("it", same)
    assert shop.run().plan.unchanged == 1
    shop.model("it", other)
    assert (shop.run().plan.changed, shop.run().plan.unchanged) == (1, 1)
    assert set(json.loads(shop.sent()[-1])["attributes"][0]) == {"external_id", *MAPS}


@pytest.mark.long
@pytest.mark.parametrize(
    "how",
    some(
        [
            {"send": "all_columns"},
            {"nulls": "omit"},
            {"nulls": "send"},
            {"on_removed": "clear"},
            {"incremental": {"cursor": "n"}},
            {"primary_key": "n"},
        ],
        every=3,
    ),
    ids=str,
)
def test_spelling_is_no_change_however_it_is_sent(shop: Shop, how: dict[str, object]):
    model = "SELECT external_id, 1::INTEGER AS n, CAST('{}' AS JSON) AS v FROM (VALUES ('u1')) t(external_id)"
    shop.sync("it", model.format('{"a": 1, "b": 2}'), **how).run()
    shop.model("it", model.format('{"b": 2, "a": 1}'))
    assert shop.run().delivery.requests == 0
    assert [value for (value,) in shop.rows_of("state", "v")] == ['{"b": 2, "a": 1}']
    shop.model("it", model.format('{"b": 2, "a": 2}'))
    assert (shop.run().plan.changed, shop.run().plan.to_send) == (1, 0)


@pytest.mark.long
def test_new_spelling_is_planned_applied_and_baselined_as_unchanged(shop: Shop, retl):
    write(shop, '{"a": 1, "b": 2}')
    shop.sync("it", AS_JSON).run()
    write(shop, '{"b": 2, "a": 1}')
    planned = retl("plan", "it", "--out", "plan.retl", "--output", "json", folder=shop.folder)
    plan = json.loads(planned.out)[0]
    assert (plan["unchanged"], plan["changed"], plan["to_send"]) == (1, 0, 0)
    assert retl("apply", "plan.retl", folder=shop.folder).code == 0
    assert shop.rows_of("state", "v") == [('{"b": 2, "a": 1}',)]
    write(shop, '{"a": 1,  "b": 2}')
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    assert shop.rows_of("state", "v") == [('{"a": 1,  "b": 2}',)]
    assert len(shop.sent()) == 1


ALIAS = '{{"alias_name": "{0}", "alias_label": "web"}}', '{{"alias_label":"web","alias_name":"{0}"}}'


@pytest.mark.long
@pytest.mark.parametrize("how", some([{"on_removed": "delete", "allow_destructive": True}, {}]), ids=str)
def test_alias_that_is_spelled_otherwise_is_the_same_user(shop: Shop, how: dict[str, object]):
    def model(spelling: str, n: int) -> str:
        return f"SELECT CAST('{spelling.format('ann')}' AS JSON) AS user_alias, {n} AS n"

    shop.sync("it", model(ALIAS[0], 1), **how).run()
    shop.model("it", model(ALIAS[1], 1))
    plan = shop.run().plan
    assert (plan.unchanged, plan.added, plan.removed, len(shop.sent())) == (1, 0, 0, 1)
    shop.model("it", model(ALIAS[0], 2))
    plan = shop.run().plan
    assert (plan.changed, plan.added, plan.removed) == (1, 0, 0)
    assert shop.rows_of("state", "user_alias", "n") == [(ALIAS[0].format("ann"), 2)]
    assert shop.run().plan.unchanged == 1


@pytest.mark.long
def test_alias_that_is_no_key_is_the_same_user_however_it_is_spelled(shop: Shop):
    model = "SELECT 1 AS id, CAST('{}' AS JSON) AS user_alias, 5 AS n"
    shop.sync("it", model.format(ALIAS[0].format("ann")), primary_key="id", exclude_columns=["id"]).run()
    shop.model("it", model.format(ALIAS[1].format("ann")))
    assert (shop.run().plan.unchanged, len(shop.sent())) == (1, 1)


def test_two_spellings_of_one_alias_are_one_key_twice(shop: Shop):
    one, other = (f"SELECT CAST('{spelling.format('ann')}' AS JSON) AS user_alias, 1 AS n" for spelling in ALIAS)
    shop.sync("it", f"{one} UNION ALL {other}")
    error = shop.run().errors[0].message
    assert error.startswith('it: primary_key "user_alias" is not unique: 1 key occurs in 2 rows: ')


@pytest.mark.long
def test_row_that_braze_rejected_is_not_sent_again_because_it_is_spelled_otherwise(shop: Shop):
    before, now = SAME["order of keys"]
    write(shop, *[before] * 4)
    shop.sync("it", EITHER, pre_formatted_fields=["text"])
    for user in ("u2", "u3"):
        shop.braze.add_fault(Fault("object_error", external_ids=[user], error="is on the blocklist"))
    assert shop.run().delivery.rejected == 2
    for value, held, requests in ((now, 2, 0), ('{"a": 2}', 0, 1)):
        write(shop, now, now, value, value)
        result = shop.run()
        assert (result.plan.previously_rejected, result.delivery.requests) == (held, requests)
