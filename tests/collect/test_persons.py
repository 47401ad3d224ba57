"""Whom a collected record is about."""

import json
from typing import Any

import pytest

from reverse_etl.collect.persons import named_in

ANN = {"external_id:ann", "braze_id:b1", "user_alias:shop\x1fnick", "email:ann@x.example", "phone:4915155500"}
CHANGED = "users.behaviors.subscription.GlobalStateChange"


def about(record: Any) -> bool:
    named = named_in(record if isinstance(record, str) else json.dumps(record))
    assert named is not None
    return named.is_about(ANN.__contains__)


@pytest.mark.parametrize(
    "record",
    [
        {"external_id": "ann"},
        {"external_user_id": "ann", "email": "other@x.example"},
        {"user_id": "ann"},
        {"braze_id": "b1"},
        {"user_id": "b1", "event_type": CHANGED},
        {
            "event_type": CHANGED,
            "user": {"user_id": "b1", "external_user_id": "ann"},
            "properties": {"channel": "email"},
        },
        {"event_type": CHANGED, "user": {"user_id": "b2"}, "properties": {"email_address": "Ann@X.example "}},
        {"event_type": CHANGED, "properties": {"channel": "email", "channel_identifier": "ann@x.example"}},
        {"properties": {"channel": "sms", "channel_identifier": "+49 151-55500"}},
        {"user_alias": {"alias_name": "nick", "alias_label": "shop"}},
        {"alias_name": "nick", "alias_label": "shop", "reason": "spam"},
        {"email": " ANN@x.example"},
        {"phone": "+49 (151) 555-00"},
        {"phone_number": 4915155500},
        {"address": "ann@x.example"},
        {"said": {"by": ["x", "ann@x.example"]}},
        {"email": "ann@x.example", "referred_by": {"external_id": "ben"}},
        {"braze_id": "b9", "email": "ann@x.example"},
        '{"external_id": "ben", "external_id": "ann"}'.replace('"ben"', '"ann"'),
        '{"e\\u006dail": "\\u0061nn@x.example"}',
    ],
)
def test_record_with_an_identifier_of_the_person_is_about_them(record: Any):
    assert about(record)


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        "7",
        {"external_id": "Ann"},
        {"external_id": 7},
        {"external_id": "ben", "email": "ann@x.example"},
        {"event_type": CHANGED, "user": {"external_user_id": "ben"}, "properties": {"email_address": "ann@x.example"}},
        {"external_id": "ben", "referred_by": "ann"},
        {"external_id": "ben", "friend": {"external_id": "ann"}},
        {"users": [{"external_id": "ann"}, {"external_id": "ben"}]},
        {"coupon": "ann"},
        {"number": "4915155500"},
        {"alias_name": "nick", "alias_label": "other"},
        {"alias_name": "nick"},
        {"email": "ben@x.example", "cc": "ann@x.example"},
        {"email": ""},
        {"email": None, "phone": True},
        '{"external_id": "ben", "external_id": "ann"}',
    ],
)
def test_record_about_another_user_or_nobody_is_not(record: Any):
    assert not about(record)


def test_text_that_is_not_json_names_nobody():
    assert [named_in(text) for text in ("", "{", "[" * 100_000, "9" * 5000)] == [None] * 4


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        ({"external_id": "ben", "referred_by": "ann", "n": 3}, {"referred_by"}),
        ({"external_id": "ben", "friend": {"email": "ANN@x.example"}}, {"email"}),
        ({"calls": ["+49 151 55500", "b1"]}, {"calls"}),
        ({"external_id": "ben", "said": "hello ann"}, set()),
    ],
)
def test_mentions_are_the_keys_of_their_values(record: Any, keys: set[str]):
    named = named_in(json.dumps(record))
    assert named is not None
    assert named.mentions(ANN.__contains__) == keys


def test_record_says_what_belongs_together_unless_it_names_several():
    one = named_in(json.dumps({"external_id": "ann", "email": "Ann@x.example", "friend": {"email": "ben@x.example"}}))
    two = named_in(json.dumps({"email": "ann@x.example", "email_address": "old@x.example"}))
    assert one is not None
    assert two is not None
    assert one.row == {"external_id": "external_id:ann", "email": "email:ann@x.example"}
    assert two.row == {}
