"""Values that make Braze reject the whole record: retl finds the row invalid, and sends its opt-outs nevertheless."""

import json
from typing import Any

import pytest

from reverse_etl.sandbox import Sandbox
from tests.shop import Shop, database

GROUP = "b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10"
STATES = "is not one of opted_in, subscribed, unsubscribed"
NO_EMAIL, NO_PHONE = "is not a valid email address", "is not a valid phone number"
NO_ITEM = "has an item that is not an object with subscription_group_id and subscription_state"
NO_GROUP = "has a subscription_group_id that is not a UUID"
NO_STATE = "has a subscription_state that is not one of subscribed, unsubscribed"
NO_LOCATION = "is not an object with a number as longitude and latitude"
NO_TOKEN = "has an item that is not an object with app_id and token as strings"
NO_DEVICE = "has a device_id that is not a string of 8 to 255 bytes"
WITH_ID = "is set for a user with external_id or braze_id; a token import has neither"
NO_TOKENS = "is set for a record without push_tokens"
TOKEN = '[{"app_id": "a", "token": "t"}]'


def groups(*items: tuple[str, str]) -> str:
    return "'" + json.dumps([{"subscription_group_id": i, "subscription_state": state} for i, state in items]) + "'"


# Of each case: the columns of its row, the column that is listed, and the reason.
REJECTED = {
    "external_id over 987 bytes": ({"external_id": "repeat('é', 494)"}, "external_id", "is longer than 987 bytes"),
    "email_subscribe": ({"email_subscribe": "'yes'"}, "email_subscribe", STATES),
    "push_subscribe": ({"push_subscribe": "'Subscribed'"}, "push_subscribe", STATES),
    "groups are an object": (
        {"subscription_groups": f"""'{{"{GROUP}": "subscribed"}}'"""},
        "subscription_groups",
        "is not a JSON array",
    ),
    "group is a text": ({"subscription_groups": f"""'["{GROUP}"]'"""}, "subscription_groups", NO_ITEM),
    "group without a state": (
        {"subscription_groups": f"""'[{{"subscription_group_id": "{GROUP}"}}]'"""},
        "subscription_groups",
        NO_ITEM,
    ),
    "group id is a name": (
        {"subscription_groups": groups(("newsletter", "subscribed"))},
        "subscription_groups",
        NO_GROUP,
    ),
    "group state": ({"subscription_groups": groups((GROUP, "opted_in"))}, "subscription_groups", NO_STATE),
    "location is an array": ({"current_location": "'[13.4, 52.5]'"}, "current_location", "is not a JSON object"),
    "location without longitude": ({"current_location": """'{"latitude": 52.5}'"""}, "current_location", NO_LOCATION),
    "location of texts": (
        {"current_location": """'{"longitude": "13.4", "latitude": "52.5"}'"""},
        "current_location",
        NO_LOCATION,
    ),
    "tokens are texts": ({"push_tokens": """'["t"]'"""}, "push_tokens", NO_TOKEN),
    "token is a number": ({"push_tokens": """'[{"app_id": "a", "token": 5}]'"""}, "push_tokens", NO_TOKEN),
    "token of an app without a name": (
        {"push_tokens": """'[{"app_id": "", "token": "t"}]'"""},
        "push_tokens",
        NO_TOKEN,
    ),
    "token without app_id": ({"push_tokens": """'[{"token": "t"}]'"""}, "push_tokens", NO_TOKEN),
    "device_id of 7 bytes": (
        {"push_tokens": """'[{"app_id": "a", "token": "t", "device_id": "1234567"}]'"""},
        "push_tokens",
        NO_DEVICE,
    ),
    "token import with external_id": (
        {"push_tokens": f"'{TOKEN}'", "push_token_import": "true"},
        "push_token_import",
        WITH_ID,
    ),
    "token import without tokens": (
        {"external_id": "NULL", "email": "'t@example.com'", "push_token_import": "true"},
        "push_token_import",
        NO_TOKENS,
    ),
    "only phone": ({"external_id": "NULL", "phone": "'0151 2345678'"}, "phone", NO_PHONE),
    "only phone of ten digits that begins with 1": (
        {"external_id": "NULL", "phone": "'1234567890'"},
        "phone",
        NO_PHONE,
    ),
    **{
        f"email {address!r}": ({"email": f"'{address}'"}, "email", NO_EMAIL)
        for address in (
            "",
            "ann",
            "ann@",
            "@example.com",
            " ann@example.com",
            "ann @example.com",
            '"ann"@example.com',
            ".ann@example.com",
            "ann.@example.com",
            "x" * 65 + "@example.com",
            "ann@example",
            "ann@exa_mple.com",
            "ann@-example.com",
            "ann@" + "x" * 64 + ".com",
            "ann@example..com",
            "ann@example.123",
            "ann@example.c",
            "ann@example.c1",
            "ann@192.168.1.1",
            "ann@[192.168.1.1]",
            "ann@bücher.example",
            "a@gmail.com",
            "a..nn@hotmail.com",
            "änn@outlook.com",
            "a!nn@live.com",
            "ann@bo@example.com",
        )
    },
}
TAKEN: dict[str, dict[str, str]] = {
    "external_id of 987 bytes": {"external_id": "repeat('é', 493) || 'x'"},
    "opted_in": {"email_subscribe": "'opted_in'", "push_subscribe": "'opted_in'"},
    "groups": {"subscription_groups": groups((GROUP, "subscribed"), (GROUP.upper(), "unsubscribed"))},
    "location": {"current_location": """'{"longitude": 13, "latitude": -52.5}'"""},
    "tokens": {"push_tokens": """'[{"app_id": "a", "token": "t", "device_id": "12345678"}]'"""},
    "no import": {"push_tokens": f"'{TOKEN}'", "push_token_import": "false"},
    "phone beside an id": {"phone": "'0151 2345678'"},
    "only phone": {"external_id": "NULL", "phone": "'+49 (151) 234-5678'"},
    "only phone of ten digits": {"external_id": "NULL", "phone": "'415-555-2671'"},
    **{
        address: {"email": f"'{address}'"}
        for address in (
            "ann@example.com",
            "Ann.B+c!#@EXAMPLE.co.uk",
            "änn@example.com",
            "x" * 64 + "@example.com",
            "ann@xn--bcher-kva.com",
            "ab@gmail.com",
            "a.n-n_1+b..!@hotmail.com",
            "a..b@example.com",
        )
    },
}
JSON = ["subscription_groups", "current_location", "push_tokens"]


def model(cases: dict[str, dict[str, str]]) -> str:
    """A row for each case, under its name in `id`."""
    rows = []
    for number, (name, columns) in enumerate(cases.items()):
        of_row = {"external_id": f"'u{number}'", **columns}
        listed = ", ".join(f"{sql} AS {column}" for column, sql in of_row.items())
        rows.append(f"SELECT '{name.replace(chr(39), chr(39) * 2)}' AS id, {listed}")
    return " UNION ALL BY NAME ".join(rows)


OPTIONS: dict[str, Any] = {
    "primary_key": "id",
    "exclude_columns": "id",
    "pre_formatted_fields": JSON,
    "skip_on_invalid_records": True,
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Column and reason of each row that is not sent, by its case: all cases are in one run."""
    with Sandbox() as braze:
        shop = Shop(tmp_path_factory.mktemp("rejected") / "shop", braze)
        cases = {name: columns for name, (columns, _, _) in REJECTED.items()} | {f"ok {n}": c for n, c in TAKEN.items()}
        shop.sync("it", model(cases), **OPTIONS)
        shop.run()
        found = shop.rows_of("rejects", "key", "column_name", "reason", "rejected_by")
    assert {by for *_, by in found} == {"retl"}
    return {key: (column, reason) for key, column, reason, _ in found}


@pytest.mark.parametrize("case", REJECTED)
def test_row_that_braze_would_reject_is_invalid(listed: dict[str, tuple[str, str]], case: str):
    assert listed[case] == REJECTED[case][1:]


@pytest.mark.parametrize("case", TAKEN)
def test_row_that_braze_accepts_is_sent(listed: dict[str, tuple[str, str]], case: str):
    assert f"ok {case}" not in listed


def test_name_that_braze_rejects_is_no_attribute(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, {'a': 1} AS email_subscription_info")
    (error,) = shop.run().errors
    assert (error.code, error.message, error.hint) == (
        "P061",
        'column "email_subscription_info" cannot be an attribute: Braze rejects every record that has it',
        'rename it with AS, or list it in "exclude_columns"',
    )


def test_opt_outs_are_sent_whatever_braze_would_reject_of_their_rows(shop: Shop):
    """Of the column itself, the opt-outs that Braze accepts."""
    other = f"{'a' * 8}-0000-4000-8000-000000000000"
    rows = {
        "email": {"email": "'ann'", "email_subscribe": "'unsubscribed'"},
        "groups": {"subscription_groups": groups((GROUP, "unsubscribed"), (other, "paused"), ("x", "unsubscribed"))},
        "location": {"current_location": "'{}'", "push_subscribe": "'unsubscribed'"},
        "import": {"push_token_import": "true", "email_subscribe": "'unsubscribed'"},
    }
    result = shop.sync("it", model(rows), **{**OPTIONS, "pre_formatted_fields": JSON[:2]}).run()
    assert [(row.key, row.column, row.reason) for row in result.invalid] == [
        ("email", "email", NO_EMAIL),
        ("groups", "subscription_groups", NO_GROUP),
        ("import", "push_token_import", WITH_ID),
        ("location", "current_location", NO_LOCATION),
    ]
    (body,) = shop.sent()
    assert sorted(json.loads(body)["attributes"], key=lambda one: one["external_id"]) == [
        {"external_id": "u0", "email_subscribe": "unsubscribed"},
        {
            "external_id": "u1",
            "subscription_groups": [{"subscription_group_id": GROUP, "subscription_state": "unsubscribed"}],
        },
        {"external_id": "u2", "push_subscribe": "unsubscribed"},
        {"external_id": "u3", "email_subscribe": "unsubscribed"},
    ]


@pytest.mark.long
def test_value_that_is_not_sent_makes_no_row_invalid(shop: Shop):
    """Braze has it, as far as the state knows: only what changed is sent."""
    shop.sync("it", "SELECT 'u1' AS external_id, 'ann@example.com' AS email, 1 AS n").run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as state:
        state.execute("UPDATE state SET email = 'ann'")
    assert shop.sync("it", "SELECT 'u1' AS external_id, 'ann' AS email, 2 AS n").run().status == "success"
    assert shop.sent()[1:] == ['{"attributes":[{"external_id":"u1","n":2}]}']


@pytest.mark.parametrize(
    ("mode", "columns", "reasons"),
    [
        (
            {"mode": "subscription_status_set"},
            f"external_id, email, phone, '{GROUP}' AS subscription_group_id, 'unsubscribed' AS subscription_state",
            [NO_EMAIL, "is longer than 987 bytes", NO_PHONE, NO_PHONE],
        ),
        (
            {"mode": "users_delete", "allow_destructive": True},
            "external_id, email, phone, ['identified'] AS prioritization",
            [NO_EMAIL, "is longer than 987 bytes", NO_PHONE],
        ),
        (
            {"mode": "users_track", "track_record_type": "events"},
            "external_id, email, phone, 'seen' AS name, now() AS time",
            [NO_EMAIL, "is longer than 987 bytes", NO_PHONE],
        ),
    ],
    ids=["subscription_status_set", "users_delete", "events"],
)
def test_identifiers_have_the_same_rules_in_every_mode(
    shop: Shop, mode: dict[str, Any], columns: str, reasons: list[str]
):
    """A number without E.164 form identifies nobody in subscription groups."""
    rows = "(NULL, 'ann', NULL), (repeat('x', 988), NULL, NULL), (NULL, NULL, '0151'), (NULL, NULL, '415 555 2671')"
    shop.sync("it", f"SELECT {columns} FROM (VALUES {rows}) t(external_id, email, phone)", **mode)
    shop.run()
    assert sorted(reason for (reason,) in shop.rows_of("rejects", "reason")) == sorted(reasons)


def test_users_are_identified_by_valid_addresses_alone(shop: Shop):
    rows = "SELECT 'u1' AS external_id, 'ann' AS email, NULL AS phone UNION ALL SELECT 'u2', NULL, '0151'"
    first = "['unidentified', 'most_recently_updated'] AS prioritization"
    shop.sync("it", f"SELECT *, {first} FROM ({rows})", mode="users_identify").run()
    assert sorted(shop.rows_of("rejects", "column_name", "reason")) == [("email", NO_EMAIL), ("phone", NO_PHONE)]
