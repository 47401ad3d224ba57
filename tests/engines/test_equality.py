"""What counts as a change, against an oracle in Python: what Braze would see."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.records.json_text import functions_used
from tests.shop import Shop, examples, one_duckdb, some


class Number(str):
    """A number by its text."""


class Object(list[tuple[str, Any]]):
    """The members of an object, some of them perhaps twice."""


keys = st.sampled_from(["a", "b", "B", "é", "a.b", "", '"', "\\\\", "1.5", "x" * 20, "\x00"])
numbers = st.sampled_from(["0", "1", "-1", "10", "1.0", "1.10", "1.1", "1e0", "1E5", "-0.0", "18446744073709551615"])
leaves = st.one_of(keys, numbers.map(Number), st.sampled_from([None, True, False]))
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(keys, inner), max_size=4).map(Object),
    max_leaves=8,
)


def written(value: Any, how: random.Random) -> str:
    """A document as some serializer writes it: order of keys (unless one is there twice), blanks, escapes."""
    blank = how.choice(["", " ", "\n\t"])
    if isinstance(value, Number):
        return f"{blank}{value}"
    if isinstance(value, Object):
        members = list(value)
        if len({key for key, _ in members}) == len(members):
            how.shuffle(members)
        inner = ",".join(f"{written(key, how)}{blank}:{written(one, how)}" for key, one in members)
        return f"{blank}{{{inner}{blank}}}"
    if isinstance(value, list):
        return f"{blank}[{','.join(written(one, how) for one in value)}{blank}]"
    return blank + json.dumps(value, ensure_ascii=how.random() < 0.5)


def seen(value: Any) -> Any:
    """What every reader of JSON sees; where a key is there twice, readers differ, and each member counts."""
    if isinstance(value, Number):
        return "number", str(value)
    if isinstance(value, Object):
        members = [(key, seen(one)) for key, one in value]
        is_plain = len({key for key, _ in members}) == len(members)
        return ("object", sorted(members, key=lambda member: member[0])) if is_plain else ("twice", members)
    if isinstance(value, list):
        return "list", [seen(one) for one in value]
    return "text" if isinstance(value, str) else "word", value


def has_twins(value: Any) -> bool:
    if isinstance(value, Object):
        return len({key for key, _ in value}) < len(value) or any(has_twins(one) for _, one in value)
    return isinstance(value, list) and any(map(has_twins, value))


@given(values=st.lists(documents, min_size=2, max_size=8), seed=st.integers(0, 2**16))
def test_documents_have_one_canonical_text_if_and_only_if_they_are_equal(values: list[Any], seed: int):
    how = random.Random(seed)
    texts = [written(value, how) for value in values for _ in range(2)]
    twice = [value for value in values for _ in range(2)]
    select = f"SELECT retl_json_canonical(v) FROM (VALUES {', '.join('(?)' for _ in texts)}) t(v)"
    with one_duckdb().cursor() as connection:
        connection.execute(functions_used(select))
        found = connection.execute(select, texts).fetchall()
    canonical = [text for (text,) in found]
    for one, text in zip(twice, canonical, strict=True):
        for other, other_text in zip(twice, canonical, strict=True):
            if seen(one) != seen(other):
                assert text != other_text, (one, other)
            elif not has_twins(one):
                assert text == other_text, (one, other)


def test_blanks_around_a_null_make_no_other_document():
    select = "SELECT retl_json_canonical(v) FROM (VALUES ('null'), (E' \\n\\tnull\\r'), ('nul'), (' x')) t(v)"
    with one_duckdb().cursor() as connection:
        connection.execute(functions_used(select))
        assert connection.execute(select).fetchall() == [("null",), ("null",), ("nul",), (" x",)]


COLUMNS = {  # type before and after, values as SQL, and what Braze sees of them
    "VARCHAR COLLATE nocase": ("VARCHAR COLLATE noaccent", {f"'{name}'": name for name in ("ann", "Ann", "ánn", "")}),
    "INTEGER": ("BIGINT", {"1": 1, "2": 2, "-1": -1}),
    "DECIMAL(4,2)": ("DECIMAL(9,2)", {"1.10": "1.10", "1.11": "1.11", "0.10": "0.10"}),
    "JSON": (
        "JSON",
        {
            """'{"a":1,"b":2}'""": "ab",
            """'{"b": 2, "a": 1}'""": "ab",
            """'{"b":1,"a":2}'""": "ba",
            "'[1,2]'": "12",
            "'[2,1]'": "21",
        },
    ),
    "MAP(VARCHAR, INTEGER)": (
        "MAP(VARCHAR, BIGINT)",
        {"MAP {'a': 1, 'b': 2}": "ab", "MAP {'b': 2, 'a': 1}": "ab", "MAP {'a': 2}": "a"},
    ),
    "STRUCT(a INTEGER)": ("STRUCT(a BIGINT, b VARCHAR)", {"{'a': 1}": 1, "{'a': 2}": 2}),
}


@pytest.mark.long
@pytest.mark.parametrize("how", some([{}, {"send": "all_columns"}, {"on_removed": "clear"}], every=3), ids=str)
def test_run_sends_the_rows_that_differ_to_braze_and_no_other(shop: Shop, how: dict[str, Any], seed: int):
    draw = random.Random(seed)
    kinds = [values for _, values in COLUMNS.values()]
    ids = [f"{'uU'[n % 2]}{n // 2}" for n in range(60)]
    before = [[draw.choice([*values, "NULL"]) for values in kinds] for _ in ids]
    pairs = [zip(row, kinds, strict=True) for row in before]
    now = [[draw.choice([*[one] * 20, *values, "NULL"]) for one, values in row] for row in pairs]

    def table(types: list[str], content: list[list[str]]) -> None:
        columns = ", ".join(f"c{n} {of}" for n, of in enumerate(types))
        rows = "; ".join(
            f"INSERT INTO people SELECT '{id}', {', '.join(row)}" for id, row in zip(ids, content, strict=True)
        )
        shop.warehouse(f"CREATE OR REPLACE TABLE people (external_id VARCHAR COLLATE nocase, {columns}); {rows}")

    def braze(row: list[str]) -> list[Any]:
        return [values.get(value) for value, values in zip(row, kinds, strict=True)]

    table(list(COLUMNS), before)
    shop.sync("it", "SELECT * FROM people", **how).run()
    table([of for of, _ in COLUMNS.values()], now)
    result = shop.run()
    differ = {id for id, one, other in zip(ids, before, now, strict=True) if braze(one) != braze(other)}
    assert 0 < len(differ) < len(ids)
    assert (result.status, result.plan.changed, result.plan.unchanged) == ("success", len(differ), 60 - len(differ))
    assert {one["external_id"] for one in json.loads(shop.sent()[-1])["attributes"]} == differ
    again = shop.run()
    assert (again.plan.unchanged, again.delivery.requests) == (60, 0)


@pytest.mark.long
def test_attributes_are_told_apart_by_every_letter_of_their_names(shop: Shop, seed: int):
    """After each change of a model, Braze has the values of its columns, whatever case their names have, or had."""
    draw = random.Random(seed)
    braze: dict[str, int] = {}
    for _ in range(examples(4, 12)):
        now = {draw.choice((name, name.upper(), name.title())): draw.randrange(3) for name in ("tier", "älter")}
        columns = ", ".join(f'{value} AS "{name}"' for name, value in now.items())
        shop.sync("it", f"SELECT 'u1' AS external_id, {columns}")
        assert shop.run().status == "success"
        braze |= now
        assert shop.braze.profile("u1")["custom_attributes"] == braze
        assert shop.run().delivery.requests == 0
