"""Which keys and texts are personal, and what is shown instead."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.masking import Keys, all_masked, masked, of_request, of_response, of_warehouse
from tests.shop import one_duckdb

SALT = "5a17"
ANN = "email:ea06fcbc88e9"  # sha256("5a17ann@example.com")


# --- keys ------------------------------------------------------------------------------------------------------------


def test_key_of_a_personal_column_is_its_column_and_a_digest():
    assert Keys(("email",), SALT).shown("ann@example.com") == ANN


@pytest.mark.parametrize(
    ("columns", "key", "shown"),
    [
        (["external_id"], "u1", "u1"),
        (["external_id"], "4915112345678", "4915112345678"),
        (["external_id"], "ann@example.com", "external_id:***"),
        (["alias_name"], "+49 151 1234-5678", "alias_name:***"),
        (["phone"], "1", "phone:***"),
        (["billing_EMAIL"], "ann", "billing_EMAIL:***"),
        (["email", "subscription_group_id"], '["ann@example.com","g1"]', '["email:***","g1"]'),
        (["id", "name"], '["1",null]', '["1",null]'),
        (
            ["external_id", "name", "_retl_number"],
            "d41d8cd98f00b204e9800998ecf8427e#1",
            "d41d8cd98f00b204e9800998ecf8427e#1",
        ),
        ([], "u1", "u1"),
        ([], "ann@example.com", "key:***"),
        (["a", "b"], '["ann@example.com"]', "key:***"),
        (["a", "b"], "11111111111111111111111111111111", "11111111111111111111111111111111"),
    ],
)
def test_key_is_shown_as(columns: list[str], key: str, shown: str):
    """`***` stands for the digest where there is no state, and so no salt."""
    assert Keys(columns).shown(key) == shown
    assert Keys(columns, in_full=True).shown(key) == key


def test_identifier_is_shown_by_its_columns():
    keys = Keys((), SALT)
    assert keys.identifier({"email": "ann@example.com"}) == ANN
    assert keys.identifier({"alias_name": "ann", "alias_label": "shop"}) == "alias_name:ann alias_label:shop"
    assert (
        keys.identifier({"user_alias": {"alias_name": "a@b", "alias_label": "x"}})
        == "alias_name:e91d87ecc774 alias_label:x"
    )
    assert Keys((), SALT, in_full=True).identifier({"phone": "+49151123456"}) == "phone:+49151123456"


@given(st.sampled_from(["email", "external_id"]), st.text(st.sampled_from("a@+0123456789 ().-'é")))
def test_sql_and_python_show_the_same(column: str, value: str):
    keys = Keys((column,), SALT)
    ((shown,),) = one_duckdb().execute(f"SELECT {keys.part_sql(column, '$value')}", {"value": value}).fetchall()
    assert shown == keys.shown(value)


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot parse email u1@... of u2@example.com.", "cannot parse email *** of ***"),
        ("call +82 10-1234-5678 or (+49)151", "call *** or (+49)151"),
        ("https://x.test/?email=ann%40example.com&a=1", "https://x.test/?email=***&a=1"),
        ("3 rows: 3 added (+ 2,000), 2026-11-23 08:15:00+00", "3 rows: 3 added (+ 2,000), 2026-11-23 08:15:00+00"),
        ("an @ alone, and @handle", "an @ alone, and @handle"),
    ],
)
def test_text_without_what_looks_personal(text: str, shown: str):
    assert masked(text) == shown


def test_texts_within_lists_and_dicts_are_masked():
    value = {"a@b": [{"c": "d@e"}, 1, None, True], "f": ("g@h",)}
    assert all_masked(value) == {"***": [{"c": "***"}, 1, None, True], "f": ["***"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Invalid Input Error: call 010-1234-5678", "Invalid Input Error: call ***"),
        ("Invalid Input Error: (555) 123-4567!", "Invalid Input Error: ***!"),
        ("cannot open data/20261129.csv", "cannot open data/20261129.csv"),
        ("of 2026-11-23, 256.0 KiB, line 123456", "of 2026-11-23, 256.0 KiB, line 123456"),
    ],
)
def test_error_of_a_model_without_what_looks_personal(text: str, shown: str):
    assert of_warehouse(text) == shown


def test_reason_of_braze_without_what_it_quotes_or_repeats():
    record = json.dumps({"external_id": "u1", "name": "Ann Lee", "tags": ["gold"], "n": 4711, "ok": True})
    assert of_response("bad value Ann Lee of 'u1', goldfish, gold, 4711, true", [record]) == (
        "bad value *** of ***, goldfish, ***, ***, true"
    )
    assert of_response('no "time" for 01012345678', []) == "no *** for ***"


def test_words_of_retl_about_a_request_stay():
    record = json.dumps({"external_id": "sent"})
    assert of_request("sent, but no response received", [record]) == "sent, but no response received"
    assert (
        of_request("sent once; Braze returned 500: was sent 'x'", [record])
        == "sent once; Braze returned 500: was *** ***"
    )


def test_record_that_cannot_be_read_masks_nothing_and_stops_nothing():
    deep = "[" * 100_000 + "]" * 100_000
    assert of_response("bad u123", [deep, "{", '"u123"']) == "bad ***"
