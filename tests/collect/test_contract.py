"""Whose request it is, and which records are in it."""

import json
from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.collect.contract import (
    MAX_RECORDS,
    Admitted,
    Record,
    Refusal,
    Source,
    admitted,
    digest,
    records_of,
)
from tests.shop import one_duckdb

NOW = datetime(2026, 11, 29, 21, 15, 0, 250_000, tzinfo=UTC)
AT = int(NOW.timestamp())
GOOD, ROTATED = "1/0123456789abcdef", "1/fedcba9876543210"
SHOP = Source("shop", frozenset({"opt_outs"}), (digest(GOOD), digest(ROTATED)))
OPEN = Source("open", frozenset({"t"}), (digest(GOOD),), key_in_url=True)
SOURCES = {"shop": SHOP, "open": OPEN}
EVENT = "/postback/v3/event/shop/opt_outs"


def whose(path: str = EVENT, query: str = "", method: str = "POST", **headers: str) -> Admitted | tuple[int, str]:
    given_headers = {name.replace("_", "-"): text for name, text in headers.items()}
    try:
        return admitted(SOURCES, method, path, query, given_headers)
    except Refusal as refusal:
        return refusal.status.value, refusal.message


def taken(body: bytes | str, unwrap: str | None = None) -> list[Record] | tuple[int, str]:
    try:
        data = body if isinstance(body, bytes) else body.encode()
        return records_of(data, Admitted(SHOP, "opt_outs", 0, unwrap), NOW)
    except Refusal as refusal:
        return refusal.status.value, refusal.message


def texts(body: bytes | str, unwrap: str | None = None) -> list[str]:
    found = taken(body, unwrap)
    assert isinstance(found, list), found
    return [record.text for record in found]


# --- keys ------------------------------------------------------------------------------------------------------------

NO_KEY = (403, "the write key is missing or wrong")
NO_TABLE = (404, "there is no such table in this database")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        pytest.param({"x_td_write_key": GOOD}, 0, id="X-TD-Write-Key"),
        pytest.param({"authorization": f"TD1 {GOOD}"}, 0, id="TD1"),
        pytest.param({"authorization": f"bearer {GOOD}"}, 0, id="Bearer, in any case"),
        pytest.param({"x_td_write_key": ROTATED}, 1, id="another key, while they are rotated"),
        pytest.param({"authorization": f"TD1 {GOOD}", "x_td_write_key": "old"}, 0, id="Authorization wins"),
        pytest.param(
            {"authorization": "Basic eDp5", "x_td_write_key": GOOD}, 0, id="an Authorization for somebody else"
        ),
    ],
)
def test_a_good_key_is_found_where_treasure_data_and_currents_put_it(headers: dict[str, str], key: int):
    assert whose(**headers) == Admitted(SHOP, "opt_outs", key, None)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        pytest.param("", {}, id="none"),
        pytest.param("", {"x_td_write_key": ""}, id="empty"),
        pytest.param("", {"x_td_write_key": GOOD[:-1]}, id="too short"),
        pytest.param("", {"x_td_write_key": GOOD + "\udcff"}, id="not Unicode"),
        pytest.param("", {"authorization": "TD1 wrong", "x_td_write_key": GOOD}, id="Authorization is wrong, and wins"),
        pytest.param(f"td_write_key={GOOD}", {}, id="in the URL, where it is not allowed"),
    ],
)
def test_any_other_key_is_refused(query: str, headers: dict[str, str]):
    assert whose(query=query, **headers) == NO_KEY


def test_a_key_in_the_url_is_taken_where_it_is_allowed_unless_a_header_has_one():
    query = "td_write_key=1%2F0123456789abcdef"
    assert whose("/postback/v3/event/open/t", query) == Admitted(OPEN, "t", 0, None)
    assert whose("/postback/v3/event/open/t", query, x_td_write_key="wrong") == NO_KEY


def test_a_source_keeps_no_key():
    assert GOOD not in repr(SHOP)
    assert "digests" not in repr(SHOP)


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        pytest.param({"path": "/"}, (404, "POST to /postback/v3/event/{database}/{table}"), id="another path"),
        pytest.param({"path": "/postback/v3/event/other/t"}, (404, "there is no such database"), id="another database"),
        pytest.param({"path": "/postback/v3/event/shop/other"}, NO_TABLE, id="another table"),
        pytest.param({"path": "/postback/v3/event/shop/.."}, NO_TABLE, id="a table that is a path"),
        pytest.param({"method": "GET"}, (405, "use POST: tracking pixels are not supported"), id="a pixel"),
        pytest.param(
            {"query": "td_redirect=https%3A%2F%2Fexample.com"}, (400, "td_redirect is not supported"), id="td_redirect"
        ),
        pytest.param(
            {"query": "&".join(["a=1"] * 60)}, (400, "the query of the URL cannot be read"), id="a long query"
        ),
        pytest.param({"content_encoding": "gzip"}, (415, "send the body without compression"), id="gzip"),
    ],
)
def test_what_is_not_of_the_contract_is_refused(asked: dict[str, str], refusal: tuple[int, str]):
    assert whose(**{"x_td_write_key": GOOD, **asked}) == refusal


def test_which_tables_there_are_is_told_to_nobody_without_a_key():
    assert whose("/postback/v3/event/shop/other") == NO_KEY


# --- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "unwrap", "records"),
    [
        pytest.param('{"a":1.10}', None, ['{"a":1.10}'], id="digits"),
        pytest.param('{"a": 1234567890123456789012345.00e-400}', None, ['{"a": 1234567890123456789012345.00e-400}'], id="more digits"),
        pytest.param('{"a":' + "9" * 6000 + "}", None, ['{"a":' + "9" * 6000 + "}"], id="thousands of digits"),
        pytest.param('\n{ "a" : [ ] } \t', None, ['{ "a" : [ ] }'], id="blanks around it"),
        pytest.param('\ufeff{"a":"\u2028\\u0000"}', None, ['{"a":"\u2028\\u0000"}'], id="byte order mark, line separator, NUL"),
        pytest.param('[{"a":1.0} , {"a":-0}]', "", ['{"a":1.0}', '{"a":-0}'], id="an array"),
        pytest.param('{"x":[{}], "events" : [ {"a":1.0},{} ] }', "events", ['{"a":1.0}', "{}"], id="an array in an object"),
        pytest.param("", "events", [], id="nothing"),
        pytest.param(" \n", "", [], id="blanks"),
        pytest.param("{}", "events", [], id="an empty object"),
        pytest.param('{"events":[]}', "events", [], id="an empty array"),
        pytest.param('{"a":1,"td_record_time":1,"b":2.50}', None, ['{"a":1,"b":2.50}'], id="its own time"),
        pytest.param('{"td_record_time":1}', None, ["{}"], id="nothing but a time"),
        pytest.param('{"\\u0074d_record_time":1,"b":{"td_record_time":1}}', None, ['{"b":{"td_record_time":1}}'], id="its time, spelled otherwise"),
    ],
)  # fmt: skip
def test_a_record_is_the_text_that_was_sent(body: str, unwrap: str | None, records: list[str]):
    assert texts(body, unwrap) == records


DEEP = "the JSON is nested more than 100 deep"


@pytest.mark.parametrize(
    ("body", "unwrap", "refusal"),
    [
        pytest.param("", None, "the body is not JSON", id="empty"),
        pytest.param('{"a":1', None, "the body is not JSON", id="cut off"),
        pytest.param("a=1&b=2", None, "the body is not JSON", id="a form"),
        pytest.param('{"a":"\t"}', None, "the body is not JSON", id="control character"),
        pytest.param('{"a":NaN}', None, "NaN and Infinity are not JSON", id="NaN"),
        pytest.param('{"a":-Infinity}', None, "NaN and Infinity are not JSON", id="infinity"),
        pytest.param('{"a":1}{"a":2}', None, "there is more than one JSON document", id="two"),
        pytest.param('{"a":1,"a":1}', None, "an object has the same key twice", id="the same key"),
        pytest.param('{"b":[{"a":1,"a":1}]}', None, "an object has the same key twice", id="the same key inside"),
        pytest.param('{"events":[],"events":[]}', "events", "an object has the same key twice", id="the same key around"),
        pytest.param(b'{"a":"\xff"}', None, "the body is not Unicode text in UTF-8", id="not UTF-8"),
        pytest.param('{"a":"x"}'.encode("utf-16"), None, "the body is not Unicode text in UTF-8", id="UTF-16"),
        pytest.param('{"a":"\\ud800"}', None, "the body is not Unicode text in UTF-8", id="half a character"),
        pytest.param('{"event_type":"\\udfff","id":1}', None, "the body is not Unicode text in UTF-8", id="half a character of an event"),
        pytest.param("null", None, "the body is not a JSON object", id="null"),
        pytest.param('[{"a":1}]', None, "the body is not a JSON object; to send an array of objects, add ?unwrap to the URL", id="an array"),
        pytest.param("[1]", "", "the array contains more than JSON objects", id="an array of numbers"),
        pytest.param("[{},]", "", "the body is not JSON", id="an array with a comma too many"),
        pytest.param("[{}", "", "the body is not JSON", id="an array that is cut off"),
        pytest.param("{}", "", "the body is not a JSON array of objects", id="no array"),
        pytest.param("[]", "events", "the body is not a JSON object", id="an array without an object around it"),
        pytest.param('{"event":[]}', "events", "the object does not have the key that ?unwrap names", id="another key"),
        pytest.param('{"events":{}}', "events", "the body is not a JSON array of objects", id="an object in place of the array"),
        pytest.param('{"events":[] "a":1}', "events", "the body is not JSON", id="no comma"),
        pytest.param("{1:2}", "events", "the body is not JSON", id="no key"),
        pytest.param('{"a":' + "[" * 100 + "]" * 100 + "}", None, DEEP, id="deep"),
        pytest.param('{"a":' + "[" * 500_000, None, DEEP, id="deeper"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_whole(body: str | bytes, unwrap: str | None, refusal: str):
    assert taken(body, unwrap) == (400, refusal)


def test_one_bad_record_refuses_all_of_its_request():
    assert taken('[{"a":1},{"a":2},3]', "") == (400, "the array contains more than JSON objects")


def test_as_many_records_as_a_request_may_have():
    assert len(texts("[" + ",".join(["{}"] * MAX_RECORDS) + "]", "")) == MAX_RECORDS
    assert taken("[" + ",".join(["{}"] * (MAX_RECORDS + 1)) + "]", "") == (
        413,
        "the array has more than 10,000 records",
    )


def test_deepest_record_that_is_taken():
    assert texts('{"a":' + "[" * 99 + "]" * 99 + "}") == ['{"a":' + "[" * 99 + "]" * 99 + "}"]


DAY = 86_400


@pytest.mark.parametrize(
    ("sent", "time"),
    [
        pytest.param(str(AT - 7 * DAY + 1), AT - 7 * DAY + 1, id="a week ago"),
        pytest.param(f'"{AT + 3 * DAY}"', AT + 3 * DAY, id="in three days, as a string"),
        pytest.param(str(AT - 7 * DAY - 1), AT, id="older"),
        pytest.param(str(AT + 3 * DAY + 1), AT, id="later"),
        pytest.param(str(AT * 1000), AT, id="milliseconds"),
        pytest.param("1e9", AT, id="not an integer"),
        pytest.param("null", AT, id="null"),
        pytest.param('"soon"', AT, id="a word"),
        pytest.param("9" * 5000, AT, id="thousands of digits"),
    ],
)
def test_a_record_may_have_a_time_of_its_own_if_it_is_neither_old_nor_to_come(sent: str, time: int):
    found = taken('{"a":1,"td_record_time":' + sent + "}")
    assert isinstance(found, list)
    assert [record.time for record in found] == [time]


def id_of(body: str) -> str:
    found = taken(body)
    assert isinstance(found, list), found
    return found[0].record_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param('{"a":1,"b":[{"c":1,"d":2}]}', '{ "b":[{"d":2,"c":1}], "a":1 }', id="another order of keys"),
        pytest.param('{"a":"\\u00e9"}', '{"a":"é"}', id="another spelling"),
        pytest.param('{"a":1}', f'{{"a":1,"td_record_time":{AT}}}', id="with a time"),
        pytest.param('{"event_type":"x","id":"e1","b":1}', '{"event_type":"y","id":"e1"}', id="an event with an id"),
    ],
)
def test_what_is_sent_again_has_the_same_id(one: str, other: str):
    assert id_of(one) == id_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param('{"a":1}', '{"a":"1"}', id="a number and a string"),
        pytest.param('{"a":1.0}', '{"a":1}', id="other digits"),
        pytest.param('{"id":"u1","state":"out"}', '{"id":"u1","state":"in"}', id="an id that is not of an event"),
        pytest.param('{"event_type":"x","id":""}', '{"event_type":"y","id":""}', id="an empty id"),
    ],
)
def test_what_differs_has_another_id(one: str, other: str):
    assert id_of(one) != id_of(other)


def test_the_id_of_an_event_of_currents_is_its_own():
    assert id_of('{"event_type":"x","id":"e1"}') == "e1"
    assert id_of('{"event_type":"x","id":12}') == "12"
    assert len(id_of('{"event_type":"x","id":"' + "e" * 300 + '"}')) == 32


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=4), st.booleans())
@pytest.mark.long
def test_whatever_is_taken_is_json_to_duckdb_with_the_same_value(records: list[dict[str, object]], is_ascii: bool):
    try:
        body = json.dumps({"events": records}, ensure_ascii=is_ascii).encode()
    except UnicodeEncodeError:
        return  # not even a request
    found = taken(body, "events")
    if isinstance(found, tuple):
        assert found == (HTTPStatus.BAD_REQUEST, "the body is not Unicode text in UTF-8")
        return
    for record in records:
        record.pop("td_record_time", None)
    assert [json.loads(record.text) for record in found] == records
    for record in found:
        assert one_duckdb().execute("SELECT CAST(? AS JSON) IS NOT NULL", [record.text]).fetchall() == [(True,)]


@given(st.text(alphabet='{}[]",:01eE+-.\\untfals ') | st.binary())
def test_nothing_that_is_sent_ends_in_anything_but_records_or_a_refusal(body: str | bytes):
    for unwrap in (None, "", "a"):
        found = taken(body, unwrap)
        assert isinstance(found, list) or found[0] in (400, 413)
