"""How a value of SQL becomes JSON, or an invalid row with a reason."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.sandbox import Sandbox
from tests.shop import Shop, database, examples


def sent_value(shop: Shop, sql: str, **options: Any) -> str:
    """The JSON text that an attribute of this SQL value goes out as."""
    result = shop.sync("it", f"SELECT 'u1' AS external_id, {sql} AS v", **options).run()
    assert result.status == "success", result.invalid
    return shop.sent()[-1].removeprefix('{"attributes":[{"external_id":"u1","v":').removesuffix("}]}")


GOES_OUT_AS = [
    ("true", "true"),
    ("9223372036854775807", "9223372036854775807"),
    ("18446744073709551615::UBIGINT", "18446744073709551615"),
    ("-9223372036854775808::HUGEINT", "-9223372036854775808"),
    ("'123'::BIGNUM", "123"),
    ("12345678901234567890123456789012345678::DECIMAL(38, 0)", "12345678901234567890123456789012345678"),
    ("0.1::DECIMAL(38, 38)", "0.10000000000000000000000000000000000000"),
    ("-0.5::DECIMAL(2, 2)", "-0.50"),
    ("0.1::FLOAT", "0.1"),
    ("0.1::DOUBLE", "0.1"),
    ("1e300::DOUBLE", "1e+300"),
    ("'plain'", '"plain"'),
    ("'\"q\" \\ é 😀'", '"\\"q\\" \\\\ é 😀"'),
    ("chr(0) || chr(10) || chr(31)", '"\\u0000\\n\\u001F"'),
    ("DATE '2026-11-23'", '"2026-11-23"'),
    ("TIMESTAMP '2026-11-23 08:15:00.123456'", '"2026-11-23T08:15:00.123Z"'),
    ("TIMESTAMPTZ '2026-11-23 17:15:00+09'", '"2026-11-23T08:15:00.000Z"'),
    ("TIMESTAMP_NS '2026-11-23 08:15:00'", '"2026-11-23T08:15:00.000Z"'),
    ("TIME '08:15:00'", '"08:15:00"'),
    ("'e8d8bb0e-7b7a-4b5d-a0a8-3f8d1f8c1c11'::UUID", '"e8d8bb0e-7b7a-4b5d-a0a8-3f8d1f8c1c11"'),
    ("'gold'::ENUM('gold', 'basic')", '"gold"'),
    ("[1, 2]", "[1,2]"),
    ("[DATE '2026-11-23']", '["2026-11-23"]'),
    ("[[1], [2, 3]]", "[[1],[2,3]]"),
    ("[1, 2]::INTEGER[2]", "[1,2]"),
    ("{'a': 1, 'b': NULL}", '{"a":1}'),
    ("{'at': TIMESTAMP '2026-11-23'}", '{"at":{"$time":"2026-11-23T00:00:00.000Z"}}'),
    ("[{'d': DATE '2026-11-23'}]", '[{"d":{"$time":"2026-11-23"}}]'),
    ("MAP {'k': 1.5, 'n': NULL}", '{"k":1.5}'),
    ("{'quote\"d': [{'x': 'y'}]}", '{"quote\\"d":[{"x":"y"}]}'),
    ("""'{"a": 1.10, "b": [1e5]}'::JSON""", '{"a": 1.10, "b": [1e5]}'),
    ("{'a': 1}::VARIANT", '{"a":1}'),
]


@pytest.fixture(scope="module")
def texts_sent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The JSON text that each of these SQL values goes out as: attributes of one user, in one run."""
    with Sandbox() as braze:
        shop = Shop(tmp_path_factory.mktemp("sent") / "shop", braze)
        columns = ", ".join(f"{sql} AS v{n}" for n, (sql, _) in enumerate(GOES_OUT_AS))
        result = shop.sync("it", f"SELECT 'u1' AS external_id, {columns}").run()
        assert result.status == "success", result.invalid
        (body,) = shop.sent()
    sent, place = {}, body.index(',"v0":')
    for n, (sql, _) in enumerate(GOES_OUT_AS):
        place += len(f',"v{n}":')
        _, end = json.JSONDecoder().raw_decode(body, place)
        sent[sql], place = body[place:end], end
    assert body[place:] == "}]}"
    return sent


@pytest.mark.parametrize(("sql", "text"), GOES_OUT_AS)
def test_value_goes_out_as(texts_sent: dict[str, str], sql: str, text: str):
    assert texts_sent[sql] == text


def test_pre_formatted_text_goes_out_as_it_stands(shop: Shop):
    text = '{"z": 1.10, "a": ["x", {"$time": "2026-11-23"}]}'
    assert sent_value(shop, f"'{text}'", pre_formatted_fields="v") == text


def test_text_that_is_not_pre_formatted_is_a_string(shop: Shop):
    assert sent_value(shop, "'{}'") == '"{}"'


def test_null_is_left_out(shop: Shop):
    nulls = "'null'::JSON AS v0, NULL::JSON AS v1, NULL AS v2, NULL::INTEGER[] AS v3"
    shop.sync("it", f"SELECT 'u1' AS external_id, 1 AS n, {nulls}").run()
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","n":1}]}']


LONG = "repeat('x', 256)"
MAKES_INVALID = [
    (LONG, "is longer than 255 characters"),
    ("'nan'::DOUBLE", "is NaN or infinite, which JSON cannot represent"),
    ("'-inf'::FLOAT", "is NaN or infinite, which JSON cannot represent"),
    ("18446744073709551616::HUGEINT", "is an integer that does not fit in 64 bits"),
    ("-9223372036854775809::HUGEINT", "is an integer that does not fit in 64 bits"),
    ("DATE 'infinity'", "is outside the years 0 to 9999"),
    ("TIMESTAMP '0044-03-15 (BC) 00:00:00'", "is outside the years 0 to 9999"),
    ("'\\xAA'::BLOB", "is of type BLOB, which JSON cannot represent"),
    ("INTERVAL 1 DAY", "is of type INTERVAL, which JSON cannot represent"),
    ("['\\xAA'::BLOB]", "is of type BLOB, which JSON cannot represent"),
    ("['nan'::DOUBLE]", "contains NaN or infinity, which JSON cannot represent"),
    ("{'a': 'inf'::FLOAT}", "contains NaN or infinity, which JSON cannot represent"),
    ("[DATE 'infinity']", "contains NaN or infinity, which JSON cannot represent"),
    ("""'{"a": NaN}'::JSON""", "contains NaN or infinity, which JSON cannot represent"),
    ("""'{"a": 1e400}'::JSON""", "contains NaN or infinity, which JSON cannot represent"),
    ("""'[1,]'::JSON""", "is not valid JSON"),
    ("[18446744073709551616::HUGEINT]", "contains an integer that does not fit in 64 bits"),
    ("[1, NULL]", "contains a nested null; Braze drops the whole value"),
    ("""'{"a": null}'::JSON""", "contains a nested null; Braze drops the whole value"),
    (
        """'{"a": {"$time": "2026-13-01"}}'::JSON""",
        "contains an invalid $time; Braze drops the whole value",
    ),
    (
        """'{"a": {"$time": 5}}'::JSON""",
        "contains an invalid $time; Braze drops the whole value",
    ),
    ("{'a': TIMESTAMP '3001-01-01'}", "contains an invalid $time; Braze drops the whole value"),
    ("{'a.b': 1}", "contains a key that is empty, longer than 255 characters, or has a space, a dot or a $"),
    ("{'$x': 1}", "contains a key that is empty, longer than 255 characters, or has a space, a dot or a $"),
    ("MAP {'a b': 1}", "contains a key that is empty, longer than 255 characters, or has a space, a dot or a $"),
    (f"{{'a': {LONG}}}", "contains a string longer than 255 characters"),
    ("list_transform(range(400), lambda x: repeat('y', 250))", "is larger than 100 KB"),
    ("range(501)", "has more than 500 elements; Braze drops the oldest"),
]


def invalid(shop: Shop, rows: Sequence[str], **options: Any) -> list[tuple[str, str]]:
    """Column and reason of each row, of a model that returns them all; nothing of it goes out. Attributes are strict:
    they would go out without such a value otherwise, see test_left_out.py."""
    sql = " UNION ALL BY NAME ".join(f"SELECT 'u{10 + n}' AS external_id, {row}" for n, row in enumerate(rows))
    result = shop.sync("it", sql, **(options or {"strict": True})).run()
    assert (result.status, result.delivery.requests, shop.sent()) == ("blocked", 0, [])
    return [(column, reason) for _, column, reason in shop.rows_of("rejects", "key", "column_name", "reason")]


@pytest.mark.long
def test_value_makes_the_row_invalid(shop: Shop):
    """A row for each value, in a column of its own."""
    found = invalid(shop, [f"{sql} AS v{n}" for n, (sql, _) in enumerate(MAKES_INVALID)])
    assert found == [(f"v{n}", reason) for n, (_, reason) in enumerate(MAKES_INVALID)]


def test_bad_text_in_a_pre_formatted_field_makes_the_row_invalid(shop: Shop):
    shop.sync("it", """SELECT 'u1' AS external_id, '{"a":' AS v""", pre_formatted_fields="v", strict=True)
    (row,) = shop.run().invalid
    assert (row.column, row.reason, row.hint) == (
        "v",
        "is not valid JSON",
        "json(v) removes a comma too many; find the rest: WHERE NOT json_valid(v)",
    )


@pytest.mark.parametrize(
    ("columns", "column", "reason"),
    [
        (
            "NULL AS external_id, NULL AS email, 'seen' AS name, now() AS time",
            "external_id",
            "is missing, and so is email",
        ),
        (
            "'u1' AS external_id, 'b1' AS braze_id, 'seen' AS name, now() AS time",
            "external_id",
            "is ambiguous: more than one of external_id, braze_id is set",
        ),
        ("'n' AS alias_name, NULL AS alias_label, 'seen' AS name, now() AS time", "alias_label", "is missing or empty"),
        (
            "{'alias_name': 'n', 'alias_label': ''} AS user_alias, 'seen' AS name, now() AS time",
            "user_alias",
            "has no alias_label",
        ),
        ("'u1' AS external_id, 'seen' AS name, NULL::TIMESTAMP AS time", "time", "is missing"),
        ("'u1' AS external_id, 'seen' AS name, 1700000000000 AS time", "time", "is not a valid time"),
        (
            "'u1' AS external_id, 'seen' AS name, now() AS time, {'page': 1} AS properties, '/x' AS page",
            "page",
            'is also a key in "properties"',
        ),
        (
            "'u1' AS external_id, 'seen' AS name, now() AS time, {'time': 1} AS properties",
            "properties",
            "contains a key that is reserved by Braze: one of time, event_name",
        ),
        (
            "'u1' AS external_id, 'seen' AS name, now() AS time, '[1]'::JSON AS properties",
            "properties",
            "is not a JSON object",
        ),
    ],
)
@pytest.mark.sampled(4)
def test_event_that_braze_would_not_take_is_invalid(shop: Shop, columns: str, column: str, reason: str):
    result = shop.sync("it", f"SELECT {columns}", mode="users_track", track_record_type="events").run()
    (row,) = result.invalid
    assert (row.column, row.reason, shop.sent()) == (column, reason, [])


BAD_EVENTS = [
    ({"external_id": "NULL"}, "external_id", "is missing"),
    ({"external_id": "' '"}, "external_id", "is empty"),
    ({"name": "NULL"}, "name", "is missing"),
    ({"name": "''"}, "name", "is empty"),
    ({"time": "'soon'"}, "time", "is not a valid time"),
    ({"time": "'now'"}, "time", "is not a valid time"),
    ({"page": LONG}, "page", "is longer than 255 characters"),
]


def test_events_that_braze_would_not_take_are_invalid(shop: Shop):
    """Of the same columns, a row for each."""
    columns = {"external_id": "'u1'", "name": "'seen'", "time": "'2026-11-23'", "page": "'/'"}
    rows = [
        f"SELECT {n} AS id, {', '.join(f'{sql} AS {name}' for name, sql in {**columns, **bad}.items())}"
        for n, (bad, _, _) in enumerate(BAD_EVENTS)
    ]
    options = {"mode": "users_track", "track_record_type": "events", "primary_key": "id"}
    result = shop.sync("it", " UNION ALL ".join(rows), **options).run()
    found = {row.key: (row.column, row.reason) for row in result.invalid}
    assert found == {str(n): (column, reason) for n, (_, column, reason) in enumerate(BAD_EVENTS)}
    assert shop.sent() == []


PURCHASE = {
    "product_id": "'p'",
    "currency": "'KRW'",
    "price": "1.5",
    "quantity": "1",
    "time": "now()",
}


BAD_PURCHASES = [
    ("product_id", "''", "is empty"),
    ("product_id", LONG, "is longer than 255 characters"),
    ("currency", "'won'", "is not a currency of ISO 4217"),
    ("currency", "NULL", "is missing"),
    ("price", "'nan'::DOUBLE", "is NaN or infinite, which JSON cannot represent"),
    ("price", "NULL::DOUBLE", "is missing"),
    ("quantity", "0", "is not between 1 and 100"),
    ("quantity", "101", "is not between 1 and 100"),
]


def test_purchase_that_braze_would_not_take_is_invalid(shop: Shop):
    rows = [
        ", ".join(f"{value} AS {name}" for name, value in {**PURCHASE, column: sql}.items())
        for column, sql, _ in BAD_PURCHASES
    ]
    found = invalid(shop, rows, primary_key="external_id", mode="users_track", track_record_type="purchases")
    assert found == [(column, reason) for column, _, reason in BAD_PURCHASES]


BAD_PROFILES = [
    ("gender", "'X'", "is not one of M, F, O, N, P"),
    ("email_subscribe", "'yes'", "is not one of opted_in, subscribed, unsubscribed"),
    ("dob", "'1990-4-1'", "is not a valid date of the form 2026-11-23"),
    ("dob", "'1990-02-30'", "is not a valid date of the form 2026-11-23"),
    ("date_of_first_session", "'yesterday'", "is not a valid time"),
    ("email_open_tracking_disabled", "'maybe'", "is neither true nor false"),
    ("current_location", "'[1]'::JSON", "is not a JSON object"),
    ("push_tokens", "'{}'::JSON", "is not a JSON array"),
    ("first_name", LONG, "is longer than 255 characters"),
]


def test_profile_field_that_braze_would_not_take_is_invalid(shop: Shop):
    found = invalid(shop, [f"{sql} AS {column}" for column, sql, _ in BAD_PROFILES])
    assert found == [(column, reason) for column, _, reason in BAD_PROFILES]


def test_profile_field_without_a_value_is_valid_whatever_its_form(shop: Shop):
    types = {column: "JSON" if "JSON" in sql else "VARCHAR" for column, sql, _ in BAD_PROFILES}
    fields = ", ".join(f"NULL::{of} AS {column}" for column, of in types.items())
    result = shop.sync("it", f"SELECT 'u1' AS external_id, 1 AS n, {fields}").run()
    assert (result.status, shop.sent()) == ("success", ['{"attributes":[{"external_id":"u1","n":1}]}'])


# --- what the stand-in stored is what DuckDB held ----------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=255)
NUMBERS = st.integers(-(2**63), 2**64 - 1)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=15)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Z", "C"], exclude_characters=".$"), min_size=1, max_size=20)
FEW = settings(max_examples=examples(3, 100))  # of many values each: a run takes as long for one as for thirty
LEAVES = st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans())
NESTED = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def stored(shop: Shop, column_type: str, values: list[Any], **options: Any) -> list[Any]:
    """Sync one user for each value; what their profiles hold afterwards."""
    shop.braze.reset()
    rows = ", ".join("(?, ?)" for _ in values)
    with database(shop.folder / "warehouse.duckdb") as connection:
        connection.execute(f"CREATE OR REPLACE TABLE given (external_id VARCHAR, v {column_type})")
        given = [part for n, value in enumerate(values) for part in (f"u{n}", value)]
        connection.execute(f"INSERT INTO given VALUES {rows}", given)
    name = "".join(filter(str.isalpha, column_type))  # a state of its own for each type
    shop.syncs = []  # of another type each
    shop.sync(name, "SELECT * FROM given", **options)
    result = shop.run(name, full_refresh=True)
    assert result.status == "success", result
    profiles = [shop.braze.profile(external_id=f"u{number}") for number in range(len(values))]
    return [profile["custom_attributes"]["v"] for profile in profiles if profile is not None]


@pytest.fixture(scope="module")
def long_lived_shop(tmp_path_factory: pytest.TempPathFactory):
    with Sandbox(keep_first_type=False) as braze:
        yield Shop(tmp_path_factory.mktemp("values") / "shop", braze)


@pytest.mark.long
@given(st.lists(TEXTS, min_size=8, max_size=30))
@FEW
def test_any_text_arrives_as_it_was(long_lived_shop: Shop, texts: list[str]):
    assert stored(long_lived_shop, "VARCHAR", texts) == texts


@pytest.mark.long
@given(st.lists(NUMBERS, min_size=8, max_size=30))
@FEW
def test_whole_numbers_of_64_bits_arrive_exactly(long_lived_shop: Shop, numbers: list[int]):
    assert stored(long_lived_shop, "HUGEINT", numbers, nulls="send") == numbers


@pytest.mark.long
@given(st.lists(DECIMALS, min_size=8, max_size=30))
@FEW
def test_decimals_arrive_with_every_digit(long_lived_shop: Shop, decimals: list[Decimal]):
    assert stored(long_lived_shop, "DECIMAL(38, 15)", decimals) == decimals


@pytest.mark.long
@given(st.lists(DOUBLES, min_size=8, max_size=30))
@FEW
def test_doubles_arrive_as_they_were(long_lived_shop: Shop, doubles: list[float]):
    arrived = stored(long_lived_shop, "DOUBLE", doubles)
    assert [float(value) for value in arrived] == doubles
    assert all(math.isfinite(value) for value in arrived)


@pytest.mark.long
@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(2900, 12, 31)), min_size=8, max_size=30))
@FEW
def test_times_arrive_in_utc_to_the_millisecond(long_lived_shop: Shop, times: list[datetime]):
    arrived = stored(long_lived_shop, "TIMESTAMP", times)
    expected = [(t - timedelta(microseconds=t.microsecond % 1000)).replace(tzinfo=UTC) for t in times]
    assert [datetime.fromisoformat(value) for value in arrived] == expected


@pytest.mark.long
@given(st.lists(st.dictionaries(KEYS, NESTED, min_size=1, max_size=4), min_size=3, max_size=12))
@FEW
def test_nested_values_arrive_as_they_were(long_lived_shop: Shop, documents: list[dict[str, Any]]):
    texts = [json.dumps(document, ensure_ascii=False) for document in documents]
    arrived = stored(long_lived_shop, "JSON", texts)
    assert arrived == documents


def test_dates_arrive_as_they_were(long_lived_shop: Shop):
    dates = [date(1, 1, 1), date(1969, 12, 31), date(2026, 11, 23)]
    assert stored(long_lived_shop, "DATE", dates) == [value.isoformat() for value in dates]
