"""POST /users/track against the sandbox: what is answered, and what is then stored."""

from decimal import Decimal
from typing import Any

import pytest
import requests

from reverse_etl.sandbox import Fault, Sandbox, SilentDrop

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
T0 = "2026-11-23T08:15:00.123Z"
NO_IDENTIFIER = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
BAD_KEY = "key has a space, a dot, a dollar sign or more than 255 characters"
BAD_NAME = "property name is empty, too long, or starts with a dollar sign"
BAD_PROPERTY = "property has a string longer than 255 characters, an invalid $time, or 100 levels"
BAD_EMAIL = "The value provided for the 'email' field is not a valid email."
ALIAS = {"alias_name": "a1", "alias_label": "crm"}
GROUP = "5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a"


@pytest.fixture
def braze():
    with Sandbox(clock=lambda: NOW) as sandbox:
        yield sandbox


def track(braze: Sandbox, **body: Any) -> tuple[int, Any]:
    answer = requests.post(f"{braze.url}/users/track", json=body, headers={"Authorization": "Bearer sandbox"})
    return answer.status_code, answer.json()


def send(braze: Sandbox, *objects: dict[str, Any]) -> None:
    """Attributes objects that must all be taken, one request each."""
    for one in objects:
        assert track(braze, attributes=[one]) == (201, {"message": "success", "attributes_processed": 1})


def stored(braze: Sandbox, external_id: str = "u1") -> Any:
    profile = braze.profile(external_id=external_id)
    return None if profile is None else profile["custom_attributes"]


def drops(braze: Sandbox) -> list[tuple[str, str]]:
    return [(drop.field, drop.reason) for drop in braze.silent_drops()]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def user(**more: Any) -> dict[str, Any]:
    return {"external_id": "u1", **more}


def in_group(group: str = GROUP, state: str = "subscribed") -> dict[str, Any]:
    return {"subscription_group_id": group, "subscription_state": state}


def event(**more: Any) -> dict[str, Any]:
    return {"external_id": "u1", "name": "seen", "time": T0, **more}


def purchase(**more: Any) -> dict[str, Any]:
    return {"external_id": "u1", "product_id": "p1", "currency": "USD", "price": 9.99, "time": T0, **more}


# Answers


def test_answer_counts_what_was_taken_and_names_what_was_refused():
    with Sandbox() as braze:
        assert track(
            braze,
            attributes=[{"external_id": "u1", "plan": "pro"}, {"plan": "pro"}, {"external_id": "u2"}],
            events=[event(), event(name=None)],
            purchases=[purchase()],
            partner="retl",
        ) == (
            201,
            {
                "message": "success",
                "attributes_processed": 2,
                "events_processed": 1,
                "purchases_processed": 1,
                "errors": [
                    {"type": NO_IDENTIFIER, "input_array": "attributes", "index": 1},
                    {"type": "'name' is required", "input_array": "events", "index": 1},
                ],
            },
        )


def test_counter_appears_only_for_an_array_that_was_sent(braze):
    assert track(braze, events=[event()]) == (201, {"message": "success", "events_processed": 1})


def test_request_without_one_valid_object_is_refused_with_its_errors(braze):
    assert track(braze, attributes=[{"a": 1}], purchases=[purchase(price=None)]) == (
        400,
        {
            "message": NOTHING_VALID,
            "errors": [
                {"type": NO_IDENTIFIER, "input_array": "attributes", "index": 0},
                {"type": "'price' is required", "input_array": "purchases", "index": 0},
            ],
        },
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, NOTHING_VALID, id="empty body"),
        pytest.param({"attributes": []}, NOTHING_VALID, id="empty array"),
        pytest.param({"attributes": {}}, "'attributes' must be an array of objects", id="no array"),
    ],
)
def test_request_with_nothing_in_it_is_refused(braze, body, message):
    assert track(braze, **body) == (400, {"message": message})


@pytest.mark.parametrize(
    ("max_objects", "attributes", "events", "status"),
    [
        pytest.param("75 together", 75, 0, 201, id="75"),
        pytest.param("75 together", 40, 35, 201, id="40 and 35"),
        pytest.param("75 together", 76, 0, 400, id="76"),
        pytest.param("75 together", 75, 1, 400, id="75 and 1"),
        pytest.param("75 per array", 75, 75, 201, id="legacy 75 and 75"),
        pytest.param("75 per array", 1, 76, 400, id="legacy 76 in one array"),
        pytest.param("50 together", 50, 0, 201, id="50"),
        pytest.param("50 together", 50, 1, 400, id="50 and 1"),
    ],
)
def test_object_limit_follows_the_contract(max_objects, attributes, events, status):
    with Sandbox(max_objects=max_objects) as braze:
        body = {"attributes": [{"external_id": "u1"}] * attributes, "events": [event()] * events}
        found, answer = track(braze, **body)
        assert found == status
        if status == 400:
            assert answer == {"message": "Max Input Length Exceeded"}
            assert braze.counts()["users"] == 0


# Refused objects


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        pytest.param({"plan": "pro"}, NO_IDENTIFIER, id="no identifier"),
        pytest.param("u1", NO_IDENTIFIER, id="no object"),
        pytest.param({"external_id": ""}, NO_IDENTIFIER, id="empty id"),
        pytest.param({"external_id": 5}, NO_IDENTIFIER, id="numeric id"),
        pytest.param({"external_id": None}, NO_IDENTIFIER, id="null id"),
        pytest.param({"user_alias": {"alias_name": "a"}}, NO_IDENTIFIER, id="half an alias"),
        pytest.param({"phone": "call me"}, NO_IDENTIFIER, id="invalid phone"),
        pytest.param(
            {"external_id": "u1", "user_alias": ALIAS},
            "You must specify only one of 'external_id', 'user_alias' or 'braze_id'",
            id="id and alias",
        ),
        pytest.param(
            {"external_id": "u1", "braze_id": "b1"},
            "You must specify only one of 'external_id', 'user_alias' or 'braze_id'",
            id="id and braze id",
        ),
        pytest.param(
            {"external_id": "u1", "email_subscribe": "yes"},
            "'email_subscribe' must be 'subscribed', 'unsubscribed', or 'opted_in'",
            id="e-mail state",
        ),
        pytest.param(
            {"external_id": "u1", "push_subscribe": True},
            "'push_subscribe' must be 'subscribed', 'unsubscribed', or 'opted_in'",
            id="push state",
        ),
        pytest.param({"external_id": "u" * 988}, "'external_id' must be fewer than 988 bytes", id="long id"),
        pytest.param({"external_id": "é" * 494}, "'external_id' must be fewer than 988 bytes", id="long id in bytes"),
        pytest.param({"email": "ann"}, BAD_EMAIL, id="e-mail that identifies"),
        pytest.param({"email": "", "phone": "+14155550100"}, BAD_EMAIL, id="empty e-mail beside a phone"),
        pytest.param(user(email="ann"), BAD_EMAIL, id="e-mail"),
        pytest.param(user(email=5), BAD_EMAIL, id="e-mail that is a number"),
        pytest.param(user(subscription_groups={}), "BAD_SUBSCRIPTION_GROUP_ARRAY", id="groups: no array"),
        pytest.param(user(subscription_groups=[GROUP]), "BAD_SUBSCRIPTION_GROUP_HASH", id="groups: no object"),
        pytest.param(
            user(subscription_groups=[{"subscription_group_id": GROUP}]),
            "BAD_SUBSCRIPTION_GROUP_HASH",
            id="groups: no state",
        ),
        pytest.param(user(subscription_groups=[in_group(), in_group("g1")]), "BAD_SUBSCRIPTION_GROUP_ID", id="group"),
        pytest.param(
            user(subscription_groups=[in_group(state="opted_in")]), "BAD_SUBSCRIPTION_GROUP_STATE", id="group: state"
        ),
        pytest.param(user(current_location="Seoul"), "BAD_LOCATION_UPDATE", id="place: no object"),
        pytest.param(user(current_location={"longitude": 1}), "BAD_LOCATION_UPDATE", id="place: half"),
        pytest.param(
            user(current_location={"longitude": "1", "latitude": "2"}), "BAD_LOCATION_UPDATE", id="place: texts"
        ),
        pytest.param(user(push_tokens={}), "BAD_PUSH_TOKEN_VALUE", id="tokens: no array"),
        pytest.param(user(push_tokens=["t"]), "BAD_PUSH_TOKEN_VALUE", id="tokens: no object"),
        pytest.param(user(push_tokens=[{"app_id": "app"}]), "BAD_PUSH_TOKEN_STRING", id="no token"),
        pytest.param(user(push_tokens=[{"token": "t"}]), "BAD_PUSH_TOKEN_APP_ID", id="no app"),
        *(
            pytest.param(
                user(push_tokens=[{"app_id": "app", "token": "t", "device_id": device}]),
                "token import with 'device_id' must have a device_id less than 255 bytes and at least 8 bytes",
                id=f"device id: {what}",
            )
            for what, device in (("short", "1234567"), ("long", "d" * 256), ("long in bytes", "é" * 128), ("number", 1))
        ),
        pytest.param({"push_token_import": True, "push_tokens": []}, "BAD_PUSH_TOKEN_IMPORT", id="import of nothing"),
        pytest.param(
            {"push_token_import": True, "external_id": "u1", "push_tokens": [{"app_id": "app", "token": "t"}]},
            "BAD_PUSH_TOKEN_IMPORT",
            id="import for a known user",
        ),
        pytest.param(
            user(email_subscription_info=None), "INVALID_ATTRIBUTE_EMAIL_SUBSCRIPTION_INFO", id="subscription info"
        ),
    ],
)
def test_attributes_object_is_refused(braze, one, problem):
    errors = [{"type": problem, "input_array": "attributes", "index": 1}]
    assert track(braze, attributes=[{"external_id": "ok"}, one]) == (
        201,
        {"message": "success", "attributes_processed": 1, "errors": errors},
    )
    assert [profile["external_id"] for profile in braze.profiles()] == ["ok"]


GOOD_EMAILS = """a@b.co Ann.O'Neil+x@mail.example.com jürgen@example.com a@xn--bcher-kva.example ab@gmail.com a@1.example.com
    first.last-name+a..b@hotmail.com a!b@example.com {}@example.com""".format("x" * 64).split()
BAD_EMAILS = """ann ann@ @example.com a@b a@@b.co .a@b.co a.@b.co a"b@b.co a@b_c.co a@-b.co a@b-.co a@b..co a@b.c a@b.123
    a@127.0.0.1 a@bücher.example a@gmail.com a!b@hotmail.com a..b@outlook.de .a@live.com {}@b.co a@{}.co""".format(
    "x" * 65, "x" * 64
).split()


def test_email_is_taken_by_its_syntax_or_the_object_is_refused(braze):
    bad = [*BAD_EMAILS, "a b@b.co", " a@b.co", "a@b.co\n", ""]
    _, answer = track(braze, attributes=[user(email=email) for email in GOOD_EMAILS + bad])
    assert [error["type"] for error in answer["errors"]] == [BAD_EMAIL] * len(bad)
    assert [error["index"] for error in answer["errors"]] == list(range(len(GOOD_EMAILS), len(GOOD_EMAILS + bad)))


def test_longest_id_and_all_that_a_profile_may_have_are_taken(braze):
    token = {"app_id": "app", "token": "t", "device_id": "d" * 255}
    group = in_group(GROUP.upper(), "unsubscribed") | {"use_double_opt_in_logic": True}
    send(braze, {"external_id": "u" * 987, "push_tokens": [token], "subscription_groups": [group]})
    profile = braze.profile(external_id="u" * 987)
    assert (profile["push_tokens"], profile["subscription_groups"]) == ([token], {GROUP.upper(): "unsubscribed"})


def test_id_that_braze_has_blocked_is_refused_as_a_fault_says(braze):
    braze.add_fault(Fault("object_error", external_ids=["dummy"]))
    errors = [
        {"type": "provided external_id is blacklisted and disallowed", "input_array": "attributes", "index": 1},
    ]
    assert track(braze, attributes=[user(), {"external_id": "dummy"}])[1]["errors"] == errors


@pytest.mark.parametrize("name", ["subscription_groups", "current_location", "push_tokens", "email_subscribe"])
def test_null_is_no_error(braze, name):
    send(braze, user(**{name: None}))
    assert drops(braze) == []


@pytest.mark.parametrize("array", ["events", "purchases"])
def test_identifiers_of_events_and_purchases_have_the_same_errors(braze, array):
    make = event if array == "events" else purchase
    _, answer = track(braze, **{array: [make(external_id="u" * 988), make(external_id=None, email="ann")]})
    assert [error["type"] for error in answer["errors"]] == [
        "'external_id' must be fewer than 988 bytes",
        BAD_EMAIL,
    ]


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        pytest.param(event(external_id=None), NO_IDENTIFIER, id="no identifier"),
        pytest.param(event(name=None), "'name' is required", id="no name"),
        pytest.param(event(name=""), "'name' must be a non-empty string", id="empty name"),
        pytest.param(event(time=None), "'time' is required", id="no time"),
        pytest.param(event(time="soon"), "'time' must be a date-time in ISO 8601", id="bad time"),
        pytest.param(event(time=1_700_000_000), "'time' must be a date-time in ISO 8601", id="unix time"),
        pytest.param(event(properties=[1]), "Invalid 'properties' field", id="properties are no object"),
        pytest.param(event(properties={"time": 1}), "Invalid 'properties' field", id="reserved: time"),
        pytest.param(event(properties={"event_name": 1}), "Invalid 'properties' field", id="reserved: event_name"),
        pytest.param(event(properties={"a": ["x" * 255] * 400}), "Invalid 'properties' field", id="over 100 KB"),
    ],
)
def test_event_is_refused(braze, one, problem):
    assert track(braze, events=[one]) == (
        400,
        {"message": NOTHING_VALID, "errors": [{"type": problem, "input_array": "events", "index": 0}]},
    )


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        pytest.param(purchase(product_id=None), "'product_id' is required", id="no product"),
        pytest.param(
            purchase(product_id="p" * 256), "'product_id' must have at most 255 characters", id="long product"
        ),
        pytest.param(purchase(currency=None), "'currency' is required", id="no currency"),
        pytest.param(purchase(currency="dollars"), "'currency' must be an ISO 4217 currency", id="bad currency"),
        pytest.param(purchase(currency="ZZZ"), "'currency' must be an ISO 4217 currency", id="unknown currency"),
        pytest.param(purchase(price=None), "'price' is required", id="no price"),
        pytest.param(purchase(price="9.99"), "'price' must be a number", id="price as text"),
        pytest.param(purchase(price=True), "'price' must be a number", id="price as boolean"),
        pytest.param(purchase(quantity=0), "'quantity' must be an integer between 1 and 100", id="quantity 0"),
        pytest.param(purchase(quantity=101), "'quantity' must be an integer between 1 and 100", id="quantity 101"),
        pytest.param(purchase(quantity=1.5), "'quantity' must be an integer between 1 and 100", id="half a quantity"),
        pytest.param(purchase(time=None), "'time' is required", id="no time"),
        *(
            pytest.param(purchase(properties={name: 1}), "Invalid 'properties' field", id=f"reserved: {name}")
            for name in ("time", "product_id", "quantity", "event_name", "price", "currency")
        ),
    ],
)
def test_purchase_is_refused(braze, one, problem):
    assert track(braze, purchases=[one]) == (
        400,
        {"message": NOTHING_VALID, "errors": [{"type": problem, "input_array": "purchases", "index": 0}]},
    )


# Whom an object is about


def test_whole_profile_of_a_user_that_an_object_made(braze):
    send(braze, {"external_id": "u1", "email": "Ann@Example.com", "first_name": "Ann", "plan": "pro", "age": 7})
    profile = braze.profile(external_id="u1")
    assert len(profile["braze_id"]) == 24
    assert profile == {
        "external_id": "u1",
        "braze_id": profile["braze_id"],
        "created_at": "2027-01-15T08:00:00.000Z",
        "email": "ann@example.com",
        "first_name": "Ann",
        "custom_attributes": {"plan": "pro", "age": 7},
        "user_aliases": [],
        "subscription_groups": {},
    }


@pytest.mark.parametrize(
    ("one", "is_made"),
    [
        pytest.param({"external_id": "u1"}, True, id="id"),
        pytest.param({"external_id": "u1", "_update_existing_only": False}, True, id="id, false"),
        pytest.param({"external_id": "u1", "_update_existing_only": True}, False, id="id, true"),
        pytest.param({"user_alias": ALIAS}, False, id="alias"),
        pytest.param({"user_alias": ALIAS, "_update_existing_only": True}, False, id="alias, true"),
        pytest.param({"user_alias": ALIAS, "_update_existing_only": False}, True, id="alias, false"),
        pytest.param({"braze_id": "b1", "_update_existing_only": False}, False, id="braze id, false"),
        pytest.param({"email": "a@example.com"}, True, id="e-mail"),
        pytest.param({"email": "a@example.com", "_update_existing_only": True}, False, id="e-mail, true"),
        pytest.param({"phone": "+14155550100"}, True, id="phone"),
    ],
)
def test_unknown_user_is_made_or_the_object_does_nothing(braze, one, is_made):
    send(braze, {**one, "plan": "pro"})
    assert [profile["custom_attributes"] for profile in braze.profiles()] == ([{"plan": "pro"}] if is_made else [])
    assert drops(braze) == ([] if is_made else [("", "user does not exist, and is not created")])


def test_events_and_purchases_make_users_as_attributes_do(braze):
    track(braze, events=[event(external_id="u1"), event(external_id="u2", _update_existing_only=True)])
    alias = {"external_id": None, "user_alias": ALIAS, "_update_existing_only": False}
    track(braze, purchases=[purchase(**alias)])
    assert braze.counts()["users"] == 2
    assert braze.profile(alias=("a1", "crm"))["user_aliases"] == [ALIAS]


def test_alias_and_braze_id_find_the_user(braze):
    send(braze, {"user_alias": ALIAS, "_update_existing_only": False, "a": 1})
    braze_id = braze.profile(alias=("a1", "crm"))["braze_id"]
    send(braze, {"user_alias": ALIAS, "b": 2}, {"braze_id": braze_id, "c": 3})
    assert [profile["custom_attributes"] for profile in braze.profiles()] == [{"a": 1, "b": 2, "c": 3}]


def test_email_finds_the_latest_user_with_an_id_before_all_others(braze):
    send(
        braze,
        {"external_id": "u1", "email": "a@example.com"},
        {"external_id": "u2", "email": "a@example.com"},
        {"user_alias": ALIAS, "_update_existing_only": False, "email": "a@example.com"},
        {"email": "A@example.com", "hit": 1},
        {"external_id": "u1", "touched": 1},
        {"email": "a@example.com", "hit": 2},
    )
    assert stored(braze, "u1") == {"touched": 1, "hit": 2}
    assert stored(braze, "u2") == {"hit": 1}
    assert braze.profile(email="a@example.com")["external_id"] == "u1"


def test_email_finds_the_latest_user_where_none_has_an_id(braze):
    other = {"alias_name": "a2", "alias_label": "crm"}
    for alias in (ALIAS, other):
        send(braze, {"user_alias": alias, "_update_existing_only": False, "email": "a@example.com"})
    send(braze, {"email": "a@example.com", "hit": 1})
    assert braze.profile(alias=("a2", "crm"))["custom_attributes"] == {"hit": 1}


def test_email_wins_over_phone_which_is_then_a_field(braze):
    send(braze, {"phone": "+14155550100"}, {"email": "a@example.com", "phone": "+14155550100"})
    assert [(one.get("email"), one.get("phone")) for one in braze.profiles()] == [
        (None, "+14155550100"),
        ("a@example.com", "+14155550100"),
    ]


def test_user_made_by_one_object_is_found_by_the_next_of_the_same_request(braze):
    objects = [
        {"external_id": "u1", "email": "a@example.com", "a": 1},
        {"external_id": "u1", "b": 2},
        {"email": "a@example.com", "c": 3},
    ]
    assert track(braze, attributes=objects, events=[event()])[0] == 201
    assert [profile["custom_attributes"] for profile in braze.profiles()] == [{"a": 1, "b": 2, "c": 3}]
    assert len(braze.events(external_id="u1")) == 1


def test_unknown_push_token_makes_an_anonymous_user_and_a_known_one_is_ignored(braze):
    tokens = [{"app_id": "app", "token": "t1", "device_id": "device-1"}]
    send(braze, {"push_token_import": True, "push_tokens": tokens}, {"push_token_import": True, "push_tokens": tokens})
    assert [profile["push_tokens"] for profile in braze.profiles()] == [tokens]


# Standard fields


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        pytest.param("first_name", "Ann", "Ann", id="text"),
        pytest.param("first_name", 5, None, id="text: number"),
        pytest.param("last_name", "n" * 255, "n" * 255, id="text: 255 characters"),
        pytest.param("home_city", "n" * 256, None, id="text: 256 characters"),
        pytest.param("image_url", "u" * 1024, "u" * 1024, id="image: 1,024 characters"),
        pytest.param("image_url", "u" * 1025, None, id="image: 1,025 characters"),
        pytest.param("gender", "F", "F", id="gender"),
        pytest.param("gender", "female", None, id="gender: word"),
        pytest.param("dob", "1980-12-21", "1980-12-21", id="dob"),
        pytest.param("dob", "1980-02-31", None, id="dob: no such day"),
        pytest.param("dob", "21/12/1980", None, id="dob: other format"),
        pytest.param("country", "KR", "KR", id="country"),
        pytest.param("country", "kr", "KR", id="country: lower case"),
        pytest.param("country", "Australia", "AU", id="country: name"),
        pytest.param("country", "ZZ", None, id="country: unknown code"),
        pytest.param("country", 82, None, id="country: number"),
        pytest.param("language", "fil", "fil", id="language: three letters"),
        pytest.param("language", "no", None, id="language: not on the list"),
        pytest.param("language", "en-US", None, id="language: locale"),
        pytest.param("language", "ko", "ko", id="language"),
        pytest.param("language", "Korean", None, id="language: name"),
        pytest.param("time_zone", "Asia/Seoul", "Asia/Seoul", id="zone"),
        pytest.param("time_zone", "Eastern Time (US & Canada)", "Eastern Time (US & Canada)", id="zone: Rails style"),
        pytest.param("time_zone", "Abu Dhabi", "Abu Dhabi", id="zone: Rails style, elsewhere"),
        pytest.param("time_zone", "Mars/Olympus_Mons", None, id="zone: unknown"),
        pytest.param("time_zone", "../../etc/passwd", None, id="zone: path"),
        pytest.param("current_location", {"longitude": 1, "latitude": 2}, {"longitude": 1, "latitude": 2}, id="place"),
        pytest.param("current_location", {"longitude": 200, "latitude": 2}, None, id="place: off the map"),
        pytest.param("date_of_first_session", T0, T0, id="date-time"),
        pytest.param("date_of_first_session", "yesterday", None, id="date-time: word"),
        pytest.param("email_open_tracking_disabled", True, True, id="boolean"),
        pytest.param("email_open_tracking_disabled", "true", None, id="boolean: text"),
        pytest.param("phone", "+82 2-123-4567", "+82 2-123-4567", id="phone"),
        pytest.param("phone", "12", "12", id="phone: invalid, and kept"),
        pytest.param("phone", 12, None, id="phone: number"),
        pytest.param("facebook", {"id": "1", "likes": []}, {"id": "1", "likes": []}, id="facebook"),
        pytest.param("facebook", {"id": 1}, None, id="facebook: wrong type"),
        pytest.param("twitter", {"id": 1, "screen_name": "ann"}, {"id": 1, "screen_name": "ann"}, id="twitter"),
        pytest.param("twitter", {"id": 1, "name": "ann"}, {"id": 1, "name": "ann"}, id="twitter: unknown field"),
        pytest.param("twitter", {"id": 1, "friends_count": "5"}, None, id="twitter: wrong type"),
        pytest.param("email_subscribe", "opted_in", "opted_in", id="e-mail state"),
        pytest.param("alias_name", "a1", None, id="alias_name outside user_alias"),
    ],
)
def test_standard_field_is_kept_if_it_fits_and_else_dropped_in_silence(braze, name, sent, kept):
    send(braze, {"external_id": "u1", name: sent})
    assert braze.profile(external_id="u1").get(name) == kept
    assert [field for field, _ in drops(braze)] == ([] if kept is not None else [name])
    assert stored(braze) == {}


def test_unmappable_country_becomes_null(braze):
    send(braze, {"external_id": "u1", "country": "KR"}, {"external_id": "u1", "country": "Atlantis"})
    assert "country" not in braze.profile(external_id="u1")


def test_null_removes_standard_fields_and_custom_attributes(braze):
    send(
        braze,
        {"external_id": "u1", "email": "a@example.com", "country": "KR", "plan": "pro", "kept": 1},
        {"external_id": "u1", "email": None, "country": None, "plan": None},
    )
    profile = braze.profile(external_id="u1")
    assert "email" not in profile
    assert "country" not in profile
    assert profile["custom_attributes"] == {"kept": 1}
    assert braze.profile(email="a@example.com") is None


def test_names_of_standard_fields_are_case_sensitive(braze):
    send(braze, {"external_id": "u1", "Email": "A@B.c"})
    assert stored(braze) == {"Email": "A@B.c"}


# Custom attributes: values


@pytest.mark.parametrize(
    ("first", "then", "result"),
    [
        pytest.param(None, "text", "text", id="text"),
        pytest.param(None, "x" * 255, "x" * 255, id="255 characters"),
        pytest.param("old", "new", "new", id="replace"),
        pytest.param(None, True, True, id="boolean"),
        pytest.param(None, 0, 0, id="zero"),
        pytest.param(None, 2**63 - 1, 2**63 - 1, id="64 bits"),
        pytest.param(1, 2.5, Decimal("2.5"), id="integer, then decimal"),
        pytest.param(None, "2026-11-23", "2026-11-23", id="date"),
        pytest.param(None, "9999-01-01T00:00:00Z", "9999-01-01T00:00:00Z", id="year after 3000 stays a text"),
        pytest.param(None, [3, 1, 2], [3, 1, 2], id="array"),
        pytest.param(None, ["a", "b", "a"], ["b", "a"], id="array: duplicates collapse to the last"),
        pytest.param(None, [1, True, "1"], [1, True, "1"], id="array: true is not 1"),
        pytest.param(["a"], [], [], id="empty array"),
        pytest.param(None, nested(100), nested(100), id="array of 100 levels"),
        pytest.param(["a", "b"], {"add": ["c", "a"]}, ["b", "c", "a"], id="add: again moves to the end"),
        pytest.param(["a", "b"], {"remove": ["a", "x"]}, ["b"], id="remove"),
        pytest.param(["a", "b"], {"add": ["c"], "remove": ["a"]}, ["b", "c"], id="add and remove"),
        pytest.param(None, {"add": ["a"]}, ["a"], id="add to nothing"),
        pytest.param(5, {"inc": 3}, 8, id="inc"),
        pytest.param(5, {"inc": -7}, -2, id="inc: negative"),
        pytest.param(None, {"inc": 3}, 3, id="inc: from nothing"),
        pytest.param({"a": 1, "b": 2}, {"b": 3}, {"b": 3}, id="object: replaced"),
        pytest.param(None, {"at": {"$time": "2026-11-23"}}, {"at": {"$time": "2026-11-23"}}, id="object: time"),
        pytest.param(
            None, {"a": {"b": {"c": [1, "x", {"d": True}]}}}, {"a": {"b": {"c": [1, "x", {"d": True}]}}}, id="deep"
        ),
        pytest.param(
            [{"id": 1}], [{"id": 2}, {"id": 2}], [{"id": 2}, {"id": 2}], id="objects: replaced, equal ones too"
        ),
        pytest.param([{"id": 1}], {"$add": [{"id": 1}]}, [{"id": 1}, {"id": 1}], id="$add"),
        pytest.param(None, {"$add": [{"id": 1}]}, [{"id": 1}], id="$add to nothing"),
        pytest.param(
            [{"id": 1}, {"id": 2}, {"id": 1, "x": 1}],
            {"$remove": [{"$identifier_key": "id", "$identifier_value": 1}]},
            [{"id": 2}],
            id="$remove: every match",
        ),
        pytest.param(
            [{"id": 1, "x": 1}, {"id": 2}],
            {"$update": [{"$identifier_key": "id", "$identifier_value": 1, "$new_object": {"y": 2}}]},
            [{"y": 2}, {"id": 2}],
            id="$update: overwrites",
        ),
        pytest.param(
            [{"id": 1}],
            {
                "$update": [{"$identifier_key": "id", "$identifier_value": 2, "$new_object": {"id": 2, "n": 1}}],
                "$remove": [{"$identifier_key": "id", "$identifier_value": 1}],
                "$add": [{"id": 1, "new": True}, {"id": 2}],
            },
            [{"id": 2, "n": 1}],
            id="order: $add, $remove, $update",
        ),
    ],
)
def test_custom_attribute_becomes(braze, first, then, result):
    send(braze, {"external_id": "u1", "x": first}, {"external_id": "u1", "x": then})
    assert stored(braze) == {"x": result}
    assert drops(braze) == []


@pytest.mark.parametrize("switch", [True, "true"])
@pytest.mark.parametrize(
    ("first", "then", "result"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}, id="keys that were not sent stay"),
        pytest.param({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 5}}}, {"a": {"b": {"c": 5, "d": 2}}}, id="deep"),
        pytest.param({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, id="arrays inside are replaced"),
        pytest.param(
            {"t": {"$time": "2020-01-01"}}, {"t": {"$time": "2021-01-01"}}, {"t": {"$time": "2021-01-01"}}, id="time"
        ),
        pytest.param(None, {"a": 1}, {"a": 1}, id="into nothing"),
        pytest.param(
            [{"id": 1, "x": {"y": 1}}, {"id": 2}],
            {"$update": [{"$identifier_key": "id", "$identifier_value": 1, "$new_object": {"x": {"z": 2}}}]},
            [{"id": 1, "x": {"y": 1, "z": 2}}, {"id": 2}],
            id="$update",
        ),
    ],
)
def test_merge_objects_merges_at_all_depths(braze, switch, first, then, result):
    send(braze, {"external_id": "u1", "x": first}, {"external_id": "u1", "x": then, "_merge_objects": switch})
    assert stored(braze) == {"x": result}


def test_array_of_objects_and_other_values_is_kept_as_it_is(braze):
    send(braze, {"external_id": "u1", "x": [{"a": 1}, 2, {"a": 1}]})
    assert (stored(braze), braze.silent_drops()) == ({"x": [{"a": 1}, 2, {"a": 1}]}, [])


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        pytest.param("old", "x" * 256, "string longer than 255 characters", id="long text"),
        pytest.param({"a": 1}, {"a": None}, "null in a nested value", id="nested null"),
        pytest.param([1], [1, None], "null in a nested value", id="null in an array"),
        pytest.param(
            {"a": 1},
            {"a": "x" * 256},
            "string longer than 255 characters in a nested value",
            id="nested long text",
        ),
        pytest.param({"a": 1}, {"a": {"$time": "soon"}}, "invalid $time in a nested value", id="bad time"),
        pytest.param({"a": 1}, {"a": {"$time": None}}, "invalid $time in a nested value", id="null time"),
        pytest.param({"a": 1}, {"a": {"$time": "3001-01-01"}}, "invalid $time in a nested value", id="year after 3000"),
        pytest.param({"a": 1}, {"a b": 1}, BAD_KEY, id="blank in a key"),
        pytest.param({"a": 1}, {"a": {"b.c": 1}}, BAD_KEY, id="dot in a key"),
        pytest.param({"a": 1}, {"$a": 1}, BAD_KEY, id="dollar in a key"),
        pytest.param({"a": 1}, {"k" * 256: 1}, BAD_KEY, id="long key"),
        pytest.param({"a": 1}, {str(n): "x" * 250 for n in range(400)}, "more than 100 KB", id="big object"),
        pytest.param([{"a": 1}], {"$add": [{"x": "x" * 250}] * 400}, "more than 100 KB", id="$add beyond 100 KB"),
        pytest.param([{"a": 1}], [{"x": "x" * 250}] * 400, "more than 100 KB", id="big array of objects"),
        pytest.param([1], nested(101), "more than 100 levels", id="too deep"),
        pytest.param(1, {"inc": "1"}, "increment by something other than an integer", id="inc by text"),
        pytest.param(1, {"inc": 1.5}, "increment by something other than an integer", id="inc by a decimal"),
        pytest.param("a", {"inc": 1}, "increment of something other than an integer", id="inc of a text"),
        pytest.param(1.5, {"inc": 1}, "increment of something other than an integer", id="inc of a decimal"),
        pytest.param("a", {"add": ["b"]}, "add or remove on something other than an array", id="add to a text"),
        pytest.param(["a"], {"add": "b"}, "add or remove of something other than an array", id="add of a text"),
        pytest.param(["a"], {"add": [{"b": 1}]}, "add or remove of an object", id="add of an object"),
        pytest.param(
            "a", {"$add": [{"b": 1}]}, "array operator on something other than an array of objects", id="$add to a text"
        ),
        pytest.param([{"a": 1}], {"$add": [1]}, "array operator without an array of objects", id="$add of a number"),
        pytest.param([{"a": 1}], {"$add": [{"b": None}]}, "null in a nested value", id="$add of null"),
        pytest.param(
            [{"a": 1}],
            {"$remove": [{"a": 1}]},
            "array operator without $identifier_key and $identifier_value",
            id="$remove without key",
        ),
        pytest.param(
            [{"a": 1}],
            {"$update": [{"$identifier_key": "a", "$identifier_value": 1}]},
            "$update without $new_object",
            id="$update to nothing",
        ),
    ],
)
def test_bad_value_drops_the_update_of_its_attribute_alone(braze, first, then, reason):
    send(braze, {"external_id": "u1", "x": first}, {"external_id": "u1", "x": then, "y": 1})
    assert stored(braze) == {"x": first, "y": 1}
    assert braze.silent_drops() == [SilentDrop(request=2, input_array="attributes", index=0, field="x", reason=reason)]


@pytest.mark.parametrize("name", ["", "n" * 256])
def test_attribute_with_a_bad_name_is_dropped(braze, name):
    send(braze, {"external_id": "u1", name: 1, "n" * 255: 2})
    assert stored(braze) == {"n" * 255: 2}
    assert drops(braze) == [(name, "name is empty or longer than 255 characters")]


def test_spaces_around_a_name_are_cut_off(braze):
    send(braze, {"external_id": "u1", " plan ": "pro"}, {"external_id": "u1", "plan\t": 5, "   ": 1})
    assert stored(braze) == {"plan": "5"}
    moved = "stored under its name without the spaces around it"
    assert drops(braze) == [
        (" plan ", moved),
        ("plan\t", moved),
        ("plan\t", "number stored as string, the attribute's type"),
        ("   ", "name is empty or longer than 255 characters"),
    ]


def test_array_of_more_than_500_loses_its_oldest(braze):
    send(braze, {"external_id": "u1", "x": list(range(501))}, {"external_id": "u1", "x": {"add": [501]}})
    assert stored(braze) == {"x": list(range(2, 502))}
    assert drops(braze) == [("x", "more than 500 elements in the array: the oldest were dropped")] * 2


def test_array_of_objects_may_be_longer_than_500(braze):
    send(braze, {"external_id": "u1", "x": [{"n": n} for n in range(600)]})
    assert len(stored(braze)["x"]) == 600


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        pytest.param(5, "five", "type string, but the attribute's type is number", id="number, then text"),
        pytest.param(5, "05", "type string, but the attribute's type is number", id="number, then digits of no number"),
        pytest.param(5, True, "type boolean, but the attribute's type is number", id="number, then boolean"),
        pytest.param(True, 2, "type number, but the attribute's type is boolean", id="boolean, then number"),
        pytest.param(5, "", "type string, but the attribute's type is number", id="number, then empty text"),
        pytest.param(True, "yes", "type string, but the attribute's type is boolean", id="boolean, then text"),
        pytest.param("5", [5], "type array, but the attribute's type is string", id="text, then array"),
        pytest.param([5], 5, "type number, but the attribute's type is array", id="array, then number"),
        pytest.param(
            {"a": 1}, [{"a": 1}], "type object array, but the attribute's type is object", id="object, then array"
        ),
        pytest.param([1], [{"a": 1}], "type object array, but the attribute's type is array", id="array, then objects"),
        pytest.param([1], {"inc": 1}, "increment of something other than an integer", id="array, then inc"),
    ],
)
def test_first_seen_type_of_an_attribute_wins(braze, first, then, reason):
    send(braze, {"external_id": "u1", "x": first}, {"external_id": "u1", "x": then})
    assert stored(braze) == {"x": first}
    assert drops(braze) == [("x", reason)]


@pytest.mark.parametrize(
    ("first", "then", "kept", "warning"),
    [
        pytest.param(5, "100", 100, "string stored as number, the attribute's type", id="number, then digits"),
        pytest.param(5, "-0.50", Decimal("-0.50"), "string stored as number, the attribute's type", id="and decimals"),
        pytest.param("x", 5, "5", "number stored as string, the attribute's type", id="text, then number"),
        pytest.param("x", True, "true", "boolean stored as string, the attribute's type", id="text, then boolean"),
        *(
            pytest.param(
                True, then, kept, f"{kind} stored as boolean, the attribute's type", id=f"boolean, then {then!r}"
            )
            for then, kept, kind in (
                *((text, True, "string") for text in ("true", "t", "1")),
                *((text, False, "string") for text in ("false", "f", "0")),
                *((1, True, "number"), (0, False, "number")),
            )
        ),
    ],
)
def test_value_is_converted_to_the_first_seen_type_with_a_warning(braze, first, then, kept, warning):
    send(braze, {"external_id": "u1", "x": first}, {"external_id": "u2", "x": then})
    assert (stored(braze, "u2"), type(stored(braze, "u2")["x"])) == ({"x": kept}, type(kept))
    assert drops(braze) == [("x", warning)]


def test_type_of_an_attribute_holds_for_all_users_and_outlives_its_values(braze):
    send(braze, {"external_id": "u1", "x": 1}, {"external_id": "u1", "x": None}, {"external_id": "u2", "x": "one"})
    assert stored(braze, "u2") == {}
    assert drops(braze) == [("x", "type string, but the attribute's type is number")]


def test_type_drift_can_be_let_through():
    with Sandbox(keep_first_type=False) as braze:
        send(braze, {"external_id": "u1", "x": 1}, {"external_id": "u1", "x": "one"}, {"external_id": "u1", "x": [1]})
        assert stored(braze) == {"x": [1]}
        assert drops(braze) == []


# Subscriptions in attributes


def test_subscription_change_spreads_over_a_shared_email(braze):
    send(
        braze,
        {"external_id": "u1", "email": "a@example.com", "email_subscribe": "subscribed"},
        {"external_id": "u2", "email": "A@example.com"},
        {"external_id": "u3", "email": "b@example.com"},
        {
            "external_id": "u2",
            "email_subscribe": "unsubscribed",
            "subscription_groups": [in_group()],
        },
    )
    found = {one["external_id"]: (one.get("email_subscribe"), one["subscription_groups"]) for one in braze.profiles()}
    changed = ("unsubscribed", {GROUP: "subscribed"})
    assert found == {"u1": changed, "u2": changed, "u3": (None, {})}


# Events and purchases


def test_equal_events_are_separate_events(braze):
    track(braze, events=[event(properties={"n": 1.50}), event(properties={"n": 1.50})])
    track(braze, events=[event(app_id="app")])
    seen = {"external_id": "u1", "name": "seen", "time": T0}
    assert braze.events(external_id="u1") == [
        {**seen, "properties": {"n": Decimal("1.5")}},
        {**seen, "properties": {"n": Decimal("1.5")}},
        {**seen, "app_id": "app"},
    ]
    assert braze.events(external_id="u2") == []
    assert len(braze.events()) == 3


def test_purchase_of_quantity_three_counts_as_three(braze):
    track(braze, purchases=[purchase(quantity=3, properties={"color": "red"}), purchase(price=-5, quantity=None)])
    bought = {"external_id": "u1", "product_id": "p1", "currency": "USD", "time": T0}
    assert braze.purchases(external_id="u1") == [
        {**bought, "price": Decimal("9.99"), "quantity": 3, "properties": {"color": "red"}},
        {**bought, "price": -5, "quantity": 1},
    ]
    assert braze.counts()["purchases"] == 4


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param("2026-11-23T08:15:00.123Z", "2026-11-23T08:15:00.123Z", id="past"),
        pytest.param("2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z", id="now"),
        pytest.param("2027-01-15T08:00:01Z", "2027-01-15T08:00:00.000Z", id="a second ahead"),
        pytest.param("2027-01-15T09:30:00+02:00", "2027-01-15T09:30:00+02:00", id="past in its zone"),
        pytest.param("2027-01-15T08:30:00-01:00", "2027-01-15T08:00:00.000Z", id="future in its zone"),
        pytest.param("2026-11-23T08:15:00:123+0900", "2026-11-23T08:15:00:123+0900", id="colon before milliseconds"),
    ],
)
def test_time_in_the_future_becomes_now(braze, sent, kept):
    track(braze, events=[event(time=sent)], purchases=[purchase(time=sent)])
    assert [act["time"] for act in braze.events() + braze.purchases()] == [kept, kept]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        pytest.param("", 1, BAD_NAME, id="empty name"),
        pytest.param("$a", 1, BAD_NAME, id="dollar"),
        pytest.param("n" * 256, 1, BAD_NAME, id="long name"),
        pytest.param("a", "x" * 256, BAD_PROPERTY, id="long text"),
        pytest.param("a", {"b": ["x" * 256]}, BAD_PROPERTY, id="deep long text"),
        pytest.param("a", {"b": {"$time": "soon"}}, BAD_PROPERTY, id="bad time"),
    ],
)
def test_bad_property_is_dropped_alone(braze, name, value, reason):
    track(braze, events=[event(properties={name: value, "ok": {"deep": [1]}})])
    assert braze.events()[0]["properties"] == {"ok": {"deep": [1]}}
    assert drops(braze) == [(f"properties.{name}", reason)]


def test_more_than_256_properties_are_ignored(braze):
    track(braze, events=[event(properties={f"p{n}": n for n in range(258)})])
    assert braze.events()[0]["properties"] == {f"p{n}": n for n in range(256)}
    assert drops(braze) == [(f"properties.p{n}", "more than 256 properties") for n in (256, 257)]


def test_attributes_come_before_events_and_purchases(braze):
    """An update-only event finds the user that the same request makes."""
    track(braze, events=[event(_update_existing_only=True)], attributes=[{"external_id": "u1"}])
    assert len(braze.events(external_id="u1")) == 1


# Sums


@pytest.mark.parametrize(
    ("body", "written", "points"),
    [
        pytest.param({"attributes": [{"external_id": "u1", "a": 1, "b": "x"}]}, 2, 2, id="two attributes"),
        pytest.param({"attributes": [{"external_id": "u1", "a": 1}] * 2}, 2, 2, id="unchanged values cost again"),
        pytest.param({"attributes": [{"external_id": "u1", "a": None}]}, 1, 1, id="null costs"),
        pytest.param({"attributes": [{"external_id": "u1", "a": "x" * 256}]}, 0, 0, id="what is dropped is free"),
        pytest.param(
            {"attributes": [{"external_id": "u1", "first_name": "Ann", "dob": "1980-12-21"}]},
            2,
            2,
            id="fields that cost",
        ),
        pytest.param(
            {"attributes": [{"external_id": "u1", "email_subscribe": "opted_in", "_merge_objects": True}]},
            1,
            0,
            id="fields that are free",
        ),
        pytest.param({"attributes": [{"external_id": "u1", "a": [1, 2, 3]}]}, 1, 1, id="array"),
        pytest.param({"attributes": [{"external_id": "u1", "a": {"add": [1, 2]}}]}, 1, 2, id="values added"),
        pytest.param({"attributes": [{"external_id": "u1", "a": {"inc": 1}}]}, 1, 1, id="inc"),
        pytest.param(
            {"attributes": [{"external_id": "u1", "a": {"b": 1, "c": {"d": 2, "e": [3, 4]}}}]},
            1,
            4,
            id="object: each key",
        ),
        pytest.param(
            {"attributes": [{"external_id": "u1", "a": {"$add": [{"b": 1}, {"b": 2}]}}]}, 1, 2, id="$add: each item"
        ),
        pytest.param({"attributes": [{"external_id": "u1", "_update_existing_only": True, "a": 1}]}, 0, 0, id="nobody"),
        pytest.param({"events": [event(properties={"a": 1, "b": 2})]}, 0, 1, id="event"),
        pytest.param({"purchases": [purchase(quantity=6)]}, 0, 6, id="purchase of six"),
    ],
)
def test_attributes_and_data_points_are_counted(braze, body, written, points):
    assert track(braze, **body)[0] == 201
    counts = braze.counts()
    assert (counts["attributes_written"], counts["data_points"]) == (written, points)


def test_counts_name_everything(braze):
    track(braze, attributes=[{"external_id": "u1", "a": 1, "b": "x" * 256}], events=[event()], purchases=[purchase()])
    track(braze)
    assert braze.counts() == {
        "users": 1,
        "events": 1,
        "purchases": 1,
        "requests": 1,
        "empty_requests": 1,
        "attributes_written": 1,
        "data_points": 3,
        "silent_drops": 1,
    }
