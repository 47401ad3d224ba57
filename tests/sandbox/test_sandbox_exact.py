"""Values come back from the sandbox as they were sent; the small pure parts beneath it."""

import http.client
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverse_etl.sandbox import Sandbox
from reverse_etl.sandbox.exact import dumps, loads, parse
from reverse_etl.sandbox.http.limits import Used, take
from reverse_etl.sandbox.users.times import is_nested_time, iso, moment
from tests.shop import examples

EXAMPLES = settings(
    max_examples=examples(30, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEY = {"Authorization": "Bearer sandbox"}

integers = st.integers(-(2**63), 2**64 - 1)
decimals = st.builds(
    lambda digits, places: str(Decimal(digits).scaleb(-places)),
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(0, 38),
)
texts = st.text(max_size=255)


class Connection:
    """Sends raw JSON text over one kept connection."""

    def __init__(self, braze: Sandbox) -> None:
        self.braze = braze
        self.http = http.client.HTTPConnection(braze.url.removeprefix("http://"))

    def post(self, path: str, body: str, method: str = "POST") -> tuple[int, str]:
        self.http.request(method, path, body.encode(), KEY)
        answer = self.http.getresponse()
        return answer.status, answer.read().decode()

    def kept(self, value: str) -> tuple[Any, str]:
        """A value's JSON text, as profile value and in the text of an export."""
        sent = f'{{"attributes": [{{"external_id": "u1", "_update_existing_only": false, "x": {value}}}]}}'
        assert self.post("/users/track", sent)[0] == 201
        query = '{"external_ids": ["u1"], "fields_to_export": ["custom_attributes"]}'
        status, exported = self.post("/users/export/ids", query)
        assert status == 201
        profile = self.braze.profile(external_id="u1")
        assert profile is not None
        return profile["custom_attributes"]["x"], exported


@pytest.fixture(scope="module")
def connection():
    unlimited: dict[str, Any] = {"users_track": [], "users_export_ids": [], "catalogs": [], "catalog_item": []}
    unlimited |= {"catalog_fields": []}
    with Sandbox(limits=unlimited, keep_first_type=False, log_bodies=0) as braze:
        connection = Connection(braze)
        yield connection
        connection.http.close()


@EXAMPLES
@given(integers)
def test_integers_of_64_bits_come_back_exactly(connection, number):
    value, exported = connection.kept(str(number))
    assert (value, type(value)) == (number, int)
    assert f'"x":{number}}}' in exported


@EXAMPLES
@given(decimals.filter(lambda text: "." in text or "E" in text))
def test_decimals_of_38_digits_come_back_digit_for_digit(connection, text):
    value, exported = connection.kept(text)
    assert (str(value), type(value)) == (text, Decimal)
    assert f'"x":{text}}}' in exported


@pytest.mark.parametrize("text", ["0.1", "1.50", "-0.0", "1E+400", "2.5E-7", "123456789012345678901234567890.12345678"])
def test_decimal_keeps_its_own_way_of_writing(connection, text):
    value, exported = connection.kept(text)
    assert str(value) == text
    assert f'"x":{text}}}' in exported


@pytest.mark.long
@EXAMPLES
@given(texts)
def test_any_unicode_text_comes_back(connection, text):
    for ascii_only in (True, False):
        value, exported = connection.kept(json.dumps(text, ensure_ascii=ascii_only))
        assert value == text
        assert json.loads(exported)["users"][0]["custom_attributes"]["x"] == text


@EXAMPLES
@given(st.recursive(integers | decimals.map(Decimal) | texts | st.booleans(), st.lists, max_leaves=20))
def test_nested_values_come_back(connection, value):
    """Objects around it keep arrays as they are; arrays of their own would lose duplicates."""
    found, _ = connection.kept(dumps({"deep": {"deeper": value}}))
    assert found == {"deep": {"deeper": value}}


@EXAMPLES
@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_any_unicode_names_a_user_and_an_event(connection, external_id, name):
    event = {"external_id": external_id, "name": name, "time": "2026-11-23T08:15:00Z", "properties": {"x": name}}
    assert connection.post("/users/track", json.dumps({"events": [event]}))[0] == 201
    assert connection.braze.events(external_id=external_id)[-1] == event


@EXAMPLES
@given(st.text(max_size=200).map(lambda text: text.encode()) | st.binary(max_size=200))
def test_no_body_breaks_the_server(connection, body):
    connection.http.request("POST", "/users/track", body, KEY)
    answer = connection.http.getresponse()
    assert (answer.status, json.loads(answer.read())["message"]) in (
        (400, "Invalid JSON"),
        (400, "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."),
    )


def words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split())


OPERATORS = words("inc add remove $add $remove $update $time $identifier_key $identifier_value $new_object")
FIELDS = words(
    "email phone first_name gender dob country language time_zone current_location date_of_first_session "
    "email_subscribe push_subscribe email_open_tracking_disabled subscription_groups push_tokens facebook twitter "
    "external_id user_alias braze_id _update_existing_only push_token_import _merge_objects x name time properties "
    "product_id currency price quantity app_id subscription_group_id subscription_state prioritization user_aliases "
    "external_ids emails phones alias_name alias_label fields_to_export email_address device_id"
)
PATHS = words(
    "/users/track /users/alias/new /users/alias/update /users/identify /users/merge /users/delete "
    "/users/external_ids/rename /users/external_ids/remove /subscription/status/set /v2/subscription/status/set "
    "/users/export/ids"
)
ARRAYS = words(
    "attributes events purchases user_aliases alias_updates aliases_to_identify emails_to_identify merge_updates "
    "external_ids braze_ids email_addresses external_id_renames subscription_groups fields_to_export"
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | decimals.map(Decimal),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OPERATORS | texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(FIELDS, anything, max_size=5)


@settings(EXAMPLES, max_examples=examples(100, 400))
@given(
    PATHS,
    st.dictionaries(ARRAYS, st.lists(objects | anything, max_size=3) | anything, max_size=3),
)
def test_no_json_breaks_an_endpoint(connection, path, body):
    status, text = connection.post(path, dumps(body))
    assert status in (201, 202, 400)
    assert isinstance(json.loads(text)["message"], str)


# JSON


CATALOG = "/catalogs/shop"
CATALOG_CALLS = st.sampled_from(
    [
        *((method, f"{CATALOG}/items") for method in ("POST", "PATCH", "PUT", "DELETE")),
        *((method, f"{CATALOG}/items/i1") for method in ("POST", "PATCH", "PUT")),
        ("POST", "/catalogs"),
        ("POST", f"{CATALOG}/fields"),
    ]
)
KINDS = ("string", "number", "boolean", "time", "object", "array", "geolocation")
catalog_objects = st.dictionaries(st.sampled_from(("id", "name", "type", "fields", *KINDS)), anything, max_size=4)


@pytest.mark.long
@settings(EXAMPLES, max_examples=examples(100, 400))
@given(CATALOG_CALLS, st.lists(catalog_objects | anything, max_size=3) | anything)
def test_no_json_breaks_a_catalog(connection, call, sent):
    fields = [{"name": "id", "type": "string"}, *({"name": kind, "type": kind} for kind in KINDS)]
    connection.post("/catalogs", dumps({"catalogs": [{"name": "shop", "fields": fields}]}))
    connection.post(f"{CATALOG}/items/i1", '{"items": [{"array": ["a"]}]}')
    method, path = call
    status, text = connection.post(path, dumps({"items": sent, "fields": sent, "catalogs": sent}), method)
    assert status in (200, 201, 202, 400)
    assert isinstance(json.loads(text)["message"], str)


@given(
    st.recursive(
        integers | decimals.map(Decimal) | st.text() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_text_is_a_round_trip(value):
    assert loads(dumps(value)) == value
    assert parse(dumps(value)) == value


# Times


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-23T08:15:00.123Z", datetime(2026, 11, 23, 8, 15, 0, 123000, UTC)),
        ("2026-11-23T08:15:00:123Z", datetime(2026, 11, 23, 8, 15, 0, 123000, UTC)),
        ("2026-11-23T08:15:00.123456789Z", datetime(2026, 11, 23, 8, 15, 0, 123456, UTC)),
        ("2026-11-23T17:15:00+09:00", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-23T17:15:00:000+0900", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-23T08:15:00", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-23 08:15:00", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("11/23/2026", datetime(2026, 11, 23, tzinfo=UTC)),
        ("Mon 11 23 08:15:00.UTC 2026", datetime(2026, 11, 23, 8, 15, tzinfo=UTC)),
        ("23/11/2026", None),
        ("2026-02-30", None),
        ("2026-11-23T25:00:00Z", None),
        ("2026-11-23\n", None),
        ("２０２６-11-23", None),  # noqa: RUF001 - digits that are not ASCII
        ("0000-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("now", None),
        ("", None),
        (1_700_000_000, None),
        (None, None),
    ],
)
def test_moment_reads(text, found):
    assert moment(text) == found


@pytest.mark.parametrize(("text", "is_kept"), [("3000-12-31", True), ("3001-01-01", False), ("0000-01-01", True)])
def test_nested_time_stays_within_the_year_3000(text, is_kept):
    assert is_nested_time(text) is is_kept


def test_iso_writes_milliseconds_in_utc():
    assert iso(1_800_000_000.1234) == "2027-01-15T08:00:00.123Z"


# Limits


def test_tightest_of_several_windows_is_told():
    burst, hourly = (2, 3.0), (3, 3600.0)
    used: tuple[Used, ...] = ()
    told = []
    for now in (0.0, 0.0, 0.0, 3.0, 3.0, 6.0, 3600.0):
        verdict = take([burst, hourly], used, now)
        used = verdict.used
        told.append((now, verdict.allowed, *verdict.headers.values()))
    assert told == [
        (0.0, True, "2", "1", "3"),
        (0.0, True, "2", "0", "3"),
        (0.0, False, "2", "0", "3"),
        (3.0, True, "3", "0", "3600"),
        (3.0, False, "3", "0", "3600"),
        (6.0, False, "3", "0", "3600"),
        (3600.0, True, "2", "1", "3603"),
    ]


def test_reset_of_a_short_window_is_rounded_up():
    assert take([(5, 0.25)], (), 10.3).headers["x-ratelimit-reset"] == "11"
