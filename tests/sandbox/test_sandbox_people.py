"""Endpoints of the sandbox about who is who, subscription groups, and reading back."""

from decimal import Decimal
from typing import Any

import pytest
import requests

from reverse_etl.sandbox import Sandbox

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
KEY = {"Authorization": "Bearer sandbox"}
IDS_EXCEEDED = "The max number of ids per request was exceeded"
ALIASES_EXCEEDED = "The max number of external_ids and aliases per request was exceeded"
SUCCESS = {"message": "success"}


@pytest.fixture
def braze():
    with Sandbox(clock=lambda: NOW) as sandbox:
        yield sandbox


def post(braze: Sandbox, path: str, body: Any) -> tuple[int, Any]:
    answer = requests.post(braze.url + path, json=body, headers=KEY)
    return answer.status_code, answer.json()


def have(braze: Sandbox, *objects: dict[str, Any]) -> None:
    """Users made or changed by attributes objects, in this order."""
    for one in objects:
        assert post(braze, "/users/track", {"attributes": [one]})[0] == 201


def alias(name: str, label: str = "crm") -> dict[str, str]:
    return {"alias_name": name, "alias_label": label}


def alias_user(name: str, label: str = "crm", **more: Any) -> dict[str, Any]:
    return {"user_alias": alias(name, label), "_update_existing_only": False, **more}


def known(braze: Sandbox) -> dict[str | None, dict[str, Any]]:
    """external id -> custom attributes"""
    return {one.get("external_id"): one["custom_attributes"] for one in braze.profiles()}


def names(braze: Sandbox) -> list[tuple[str | None, list[str]]]:
    """(external id, alias names) of all users"""
    return [(one.get("external_id"), [a["alias_name"] for a in one["user_aliases"]]) for one in braze.profiles()]


def seen(external_id: str | None = "u1", **more: Any) -> dict[str, Any]:
    return {"external_id": external_id, "name": "seen", "time": "2027-01-01T00:00:00Z", **more}


def nothing_done(braze: Sandbox) -> list[tuple[str, int, str, str]]:
    """What was a success and changed nobody: array, index, field, reason."""
    return [(one.input_array, one.index, one.field, one.reason) for one in braze.silent_drops()]


# /users/alias/new


def test_alias_is_attached_to_a_known_user_and_made_alone_without_id(braze):
    have(braze, {"external_id": "u1"})
    body = {"user_aliases": [{"external_id": "u1", **alias("a1")}, alias("a2"), {"external_id": "u9", **alias("a3")}]}
    assert post(braze, "/users/alias/new", body) == (201, {"aliases_processed": 3, "message": "success"})
    assert names(braze) == [("u1", ["a1"]), (None, ["a2"])]
    assert nothing_done(braze) == [("user_aliases", 2, "", "no user has this external_id")]


@pytest.mark.parametrize(
    ("second", "reasons"),
    [
        pytest.param({"external_id": "u2", **alias("a1")}, ["another user has this alias"], id="pair is taken"),
        pytest.param(
            {"external_id": "u1", **alias("a2")}, ["the user has another alias with this label"], id="label is taken"
        ),
        pytest.param(alias("a1"), [], id="alias user exists"),
        pytest.param({"external_id": "u1", **alias("a1")}, [], id="again"),
    ],
)
def test_alias_that_is_taken_changes_nothing(braze, second, reasons):
    have(braze, {"external_id": "u1"}, {"external_id": "u2"})
    for one in ({"external_id": "u1", **alias("a1")}, second):
        answer = post(braze, "/users/alias/new", {"user_aliases": [one]})
        assert answer == (201, {"aliases_processed": 1, "message": "success"})
    assert names(braze) == [("u1", ["a1"]), ("u2", [])]
    assert nothing_done(braze) == [("user_aliases", 0, "", reason) for reason in reasons]


def test_user_has_one_alias_for_each_of_many_labels(braze):
    have(braze, {"external_id": "u1"})
    sent = [{"external_id": "u1", **alias("a1", "crm")}, {"external_id": "u1", **alias("a1", "app")}]
    post(braze, "/users/alias/new", {"user_aliases": sent})
    assert braze.profile(external_id="u1")["user_aliases"] == [alias("a1", "app"), alias("a1", "crm")]


def test_bad_alias_is_refused_alone(braze):
    problem = "'alias_name' and 'alias_label' are required"
    sent = [{"alias_name": "a1"}, alias("a2")]
    assert post(braze, "/users/alias/new", {"user_aliases": sent}) == (
        201,
        {
            "aliases_processed": 1,
            "message": "success",
            "errors": [{"type": problem, "input_array": "user_aliases", "index": 0}],
        },
    )
    assert post(braze, "/users/alias/new", {"user_aliases": sent[:1]}) == (
        400,
        {
            "message": "Valid data must be provided in the 'user_aliases' field.",
            "errors": [{"type": problem, "input_array": "user_aliases", "index": 0}],
        },
    )


def test_alias_update_renames_known_pairs_only(braze):
    have(braze, alias_user("a1", n=1), alias_user("a2", n=2))
    updates = [
        {"alias_label": "crm", "old_alias_name": "a1", "new_alias_name": "b1"},
        {"alias_label": "crm", "old_alias_name": "a9", "new_alias_name": "b9"},
        {"alias_label": "crm", "old_alias_name": "a2", "new_alias_name": "b1"},
    ]
    assert post(braze, "/users/alias/update", {"alias_updates": updates}) == (201, SUCCESS)
    assert names(braze) == [(None, ["b1"]), (None, ["a2"])]
    assert nothing_done(braze) == [
        ("alias_updates", 1, "", "no user has this alias"),
        ("alias_updates", 2, "", "another user has the new alias"),
    ]


# Too many, too few, misshapen


@pytest.mark.parametrize(
    ("path", "array", "item", "message"),
    [
        ("/users/alias/new", "user_aliases", alias("a"), ALIASES_EXCEEDED),
        (
            "/users/alias/update",
            "alias_updates",
            {"alias_label": "l", "old_alias_name": "a", "new_alias_name": "b"},
            ALIASES_EXCEEDED,
        ),
        ("/users/identify", "aliases_to_identify", {"external_id": "u", "user_alias": alias("a")}, IDS_EXCEEDED),
        ("/users/delete", "external_ids", "u", IDS_EXCEEDED),
        ("/users/delete", "user_aliases", alias("a"), ALIASES_EXCEEDED),
        (
            "/users/merge",
            "merge_updates",
            {"identifier_to_merge": {"external_id": "a"}, "identifier_to_keep": {"external_id": "b"}},
            "a single request may not contain more than 50 merge updates",
        ),
        (
            "/users/external_ids/rename",
            "external_id_renames",
            {"current_external_id": "a", "new_external_id": "b"},
            IDS_EXCEEDED,
        ),
        ("/users/external_ids/remove", "external_ids", "u", IDS_EXCEEDED),
    ],
)
def test_fifty_are_taken_and_fifty_one_refused(braze, path, array, item, message):
    assert post(braze, path, {array: [item] * 50})[0] in (201, 202)
    assert post(braze, path, {array: [item] * 51}) == (400, {"message": message})


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        pytest.param("/users/alias/new", {}, "'user_aliases' must be an array", id="alias new: nothing"),
        pytest.param(
            "/users/alias/new", {"user_aliases": []}, "'user_aliases' must not be empty", id="alias new: empty"
        ),
        pytest.param(
            "/users/alias/update",
            {"alias_updates": [{"alias_label": "l"}]},
            "'alias_updates' must have 'alias_label', 'old_alias_name' and 'new_alias_name'",
            id="alias update: half",
        ),
        pytest.param(
            "/users/identify",
            {},
            "one of 'aliases_to_identify', 'emails_to_identify', 'phone_numbers_to_identify' is required",
            id="identify: nothing",
        ),
        pytest.param(
            "/users/delete",
            {"external_ids": ["u1"], "braze_ids": ["b1"]},
            "exactly one of 'external_ids', 'user_aliases', 'braze_ids', 'email_addresses', 'phone_numbers' "
            "is required",
            id="delete: two kinds",
        ),
        pytest.param(
            "/users/delete", {"external_ids": [1]}, "'external_ids' has an item of the wrong shape", id="delete: number"
        ),
        pytest.param(
            "/users/delete",
            {"email_addresses": ["a@example.com"]},
            "'email_addresses' has an item of the wrong shape",
            id="delete: e-mail as text",
        ),
        pytest.param(
            "/users/delete",
            {"email_addresses": [{"email": "a@example.com"}]},
            "'prioritization' is required",
            id="delete: no prioritization",
        ),
        pytest.param(
            "/users/delete",
            {"phone_numbers": [{"phone": "+14155550100", "prioritization": ["least_recently_updated"]}]},
            "'prioritization' must not contain 'least_recently_updated'",
            id="delete: other prioritization",
        ),
        pytest.param(
            "/users/merge",
            {"merge_updates": "all"},
            "'merge_updates' must be an array of objects",
            id="merge: no array",
        ),
        pytest.param(
            "/users/merge",
            {"merge_updates": [{"identifier_to_merge": {"external_id": "a"}}]},
            "'merge_updates' must only have 'identifier_to_merge' and 'identifier_to_keep'",
            id="merge: half",
        ),
        pytest.param(
            "/users/merge",
            {"merge_updates": [{"identifier_to_merge": {"external_id": "a"}, "identifier_to_keep": {}}]},
            "identifiers must be objects with an 'external_id' property that is a string, 'user_alias' property that "
            "is an object, 'email' property that is a string, or 'phone' property that is a string",
            id="merge: nobody",
        ),
        pytest.param(
            "/users/external_ids/rename",
            {"external_id_renames": []},
            "'external_id_renames' must not be empty",
            id="rename: empty",
        ),
        pytest.param("/users/export/ids", {"external_ids": ["u1"]}, "'fields_to_export' is required", id="export"),
        pytest.param(
            "/users/export/ids",
            {"external_ids": ["u1"] * 30, "user_aliases": [alias("a")] * 21, "fields_to_export": ["email"]},
            ALIASES_EXCEEDED,
            id="export: 51",
        ),
    ],
)
def test_request_is_refused_as_a_whole(braze, path, body, message):
    assert post(braze, path, body) == (400, {"message": message})


# /users/identify


def test_identify_gives_an_unknown_id_to_the_anonymous_user(braze):
    have(braze, alias_user("a1", plan="pro"))
    body = {"aliases_to_identify": [{"external_id": "u1", "user_alias": alias("a1")}]}
    assert post(braze, "/users/identify", body) == (201, {"aliases_processed": 1, "message": "success"})
    assert known(braze) == {"u1": {"plan": "pro"}}
    assert braze.profile(alias=("a1", "crm"))["external_id"] == "u1"


def test_identify_moves_what_only_the_anonymous_user_has(braze):
    have(
        braze,
        {"external_id": "u1", "first_name": "Ann", "plan": "pro"},
        alias_user("a1", first_name="Old", last_name="Lee", plan="free", visits=3),
    )
    events = [seen(), seen(None, user_alias=alias("a1"))]
    post(braze, "/users/track", {"events": events})
    post(braze, "/users/identify", {"aliases_to_identify": [{"external_id": "u1", "user_alias": alias("a1")}]})
    profile = braze.profile(external_id="u1")
    assert braze.counts()["users"] == 1
    assert (profile["first_name"], profile["last_name"]) == ("Ann", "Lee")
    assert profile["custom_attributes"] == {"plan": "pro", "visits": 3}
    assert profile["user_aliases"] == [alias("a1")]
    assert len(braze.events(external_id="u1")) == 2


def test_identify_does_not_combine_users_with_an_alias_of_the_same_label(braze):
    have(braze, {"external_id": "u1"}, alias_user("a1"))
    post(braze, "/users/alias/new", {"user_aliases": [{"external_id": "u1", **alias("a2")}]})
    post(braze, "/users/identify", {"aliases_to_identify": [{"external_id": "u1", "user_alias": alias("a1")}]})
    assert names(braze) == [("u1", ["a2"]), (None, ["a1"])]
    assert nothing_done(braze) == [("aliases_to_identify", 0, "", "both users have an alias with one label")]


def test_identify_leaves_identified_and_unknown_users_alone(braze):
    have(braze, {"external_id": "u1", "email": "a@example.com"}, {"external_id": "u2"})
    body = {
        "aliases_to_identify": [{"external_id": "u2", "user_alias": alias("nobody")}],
        "emails_to_identify": [
            {"external_id": "u2", "email": "a@example.com"},
            {"external_id": "u1", "email": "a@example.com"},
            {"external_id": "u2", "email": "nobody@example.com"},
        ],
        "phone_numbers_to_identify": [{"external_id": "u2", "phone": "+14155550100"}],
    }
    assert post(braze, "/users/identify", body) == (
        201,
        {"aliases_processed": 1, "emails_processed": 3, "phone_numbers_processed": 1, "message": "success"},
    )
    assert known(braze) == {"u1": {}, "u2": {}}
    assert nothing_done(braze) == [
        ("aliases_to_identify", 0, "", "no user has this alias"),
        ("emails_to_identify", 0, "", "the user has another external_id"),
        ("emails_to_identify", 2, "", "no user has this email, or more than one"),
        ("phone_numbers_to_identify", 0, "", "no user has this phone, or more than one"),
    ]


@pytest.mark.parametrize(
    ("prioritization", "chosen"),
    [
        pytest.param(["unidentified", "most_recently_updated"], 3, id="latest anonymous"),
        pytest.param(["unidentified", "least_recently_updated"], 2, id="oldest anonymous"),
        pytest.param(["unidentified"], None, id="still ambiguous"),
        pytest.param(["identified", "most_recently_updated"], None, id="identified: for merge"),
        pytest.param(None, None, id="none given"),
    ],
)
def test_identify_by_email_follows_the_prioritization(braze, prioritization, chosen):
    email = "a@example.com"
    have(braze, {"external_id": "u1", "email": email, "n": 1}, alias_user("a2", email=email, n=2))
    have(braze, alias_user("a3", email=email, n=3))
    one = {"external_id": "new", "email": "A@example.com", "prioritization": prioritization}
    post(braze, "/users/identify", {"emails_to_identify": [one]})
    found = braze.profile(external_id="new")
    assert (found and found["custom_attributes"]["n"]) == chosen


def test_identify_refuses_entries_at_a_201(braze):
    clash = ["most_recently_updated", "least_recently_updated"]
    body = {
        "aliases_to_identify": [{"user_alias": alias("a1")}],
        "emails_to_identify": [{"external_id": "u1", "email": "a@example.com", "prioritization": clash}],
        "phone_numbers_to_identify": [{"external_id": "u1", "phone": "+14155550100"}],
    }
    text = (
        "Request can not contain both of 'most_recently_updated' and 'least_recently_updated' values in the "
        "'prioritization' array"
    )
    assert post(braze, "/users/identify", body) == (
        201,
        {
            "aliases_processed": 0,
            "emails_processed": 0,
            "phone_numbers_processed": 1,
            "message": "success",
            "errors": [
                {"type": "'external_id' is required", "input_array": "user_identifiers", "index": 0},
                {"type": text, "input_array": "user_identifiers", "index": 0},
            ],
        },
    )


# /users/merge


def test_merge_takes_over_what_is_missing_and_adds_up(braze):
    have(
        braze,
        {"external_id": "keep", "plan": "pro"},
        {"external_id": "gone", "plan": "free", "visits": 3, "email": "a@example.com"},
    )
    post(braze, "/users/track", {"events": [seen("keep"), seen("gone")]})
    body = {
        "merge_updates": [
            {"identifier_to_merge": {"external_id": "gone"}, "identifier_to_keep": {"external_id": "keep"}}
        ]
    }
    assert post(braze, "/users/merge", body) == (202, SUCCESS)
    assert known(braze) == {"keep": {"plan": "pro", "visits": 3}}
    assert braze.profile(email="a@example.com")["external_id"] == "keep"
    assert len(braze.events(external_id="keep")) == 2


def test_merge_keeps_the_earlier_first_and_the_later_last_session(braze):
    have(
        braze,
        {"external_id": "keep", "date_of_first_session": "2026-03-01", "date_of_last_session": "2026-04-01"},
        {"external_id": "gone", "date_of_first_session": "02/01/2026", "date_of_last_session": "2026-03-01T00:00:00Z"},
    )
    merge = {"identifier_to_merge": {"external_id": "gone"}, "identifier_to_keep": {"external_id": "keep"}}
    assert post(braze, "/users/merge", {"merge_updates": [merge]}) == (202, SUCCESS)
    profile = braze.profile(external_id="keep")
    assert (profile["date_of_first_session"], profile["date_of_last_session"]) == ("02/01/2026", "2026-04-01")


def test_merge_of_unknown_or_same_users_does_nothing(braze):
    have(braze, {"external_id": "u1"})
    pairs = [("u1", "u1"), ("u1", "u9"), ("u9", "u1")]
    updates = [{"identifier_to_merge": {"external_id": a}, "identifier_to_keep": {"external_id": b}} for a, b in pairs]
    assert post(braze, "/users/merge", {"merge_updates": updates}) == (202, SUCCESS)
    assert known(braze) == {"u1": {}}
    reason = "one of the identifiers means no user, or more than one"
    assert nothing_done(braze) == [("merge_updates", n, "", reason) for n in (1, 2)]


# /users/delete


def test_delete_counts_ids_and_not_users(braze):
    have(braze, {"external_id": "u1"}, {"external_id": "u2"}, {"external_id": "u3"})
    post(braze, "/users/track", {"events": [seen("u1")]})
    body = {"external_ids": ["u1", "u2", "u8", "u9"]}
    assert post(braze, "/users/delete", body) == (201, {"deleted": 4, "message": "success"})
    assert known(braze) == {"u3": {}}
    assert (braze.events(), nothing_done(braze)) == ([], [])


def test_deleted_user_comes_back_empty_and_under_a_new_braze_id(braze):
    have(braze, {"external_id": "u1", "plan": "pro"})
    before = braze.profile(external_id="u1")["braze_id"]
    post(braze, "/users/delete", {"external_ids": ["u1"]})
    have(braze, {"external_id": "u1"})
    after = braze.profile(external_id="u1")
    assert after["custom_attributes"] == {}
    assert after["braze_id"] != before


@pytest.mark.parametrize("kind", ["user_aliases", "braze_ids", "email_addresses", "phone_numbers"])
def test_delete_takes_every_kind_of_identifier(braze, kind):
    have(braze, alias_user("a1", email="a@example.com", phone="+14155550100"), {"external_id": "u2"})
    ids = {
        "user_aliases": alias("a1"),
        "braze_ids": braze.profile(alias=("a1", "crm"))["braze_id"],
        "email_addresses": {"email": "a@example.com", "prioritization": ["unidentified", "most_recently_updated"]},
        "phone_numbers": {"phone": "+14155550100", "prioritization": ["unidentified"]},
    }
    assert post(braze, "/users/delete", {kind: [ids[kind]]}) == (201, {"deleted": 1, "message": "success"})
    assert known(braze) == {"u2": {}}


def test_delete_by_an_email_that_stays_ambiguous_deletes_nobody(braze):
    have(braze, {"external_id": "u1", "email": "a@example.com"}, {"external_id": "u2", "email": "a@example.com"})
    post(braze, "/users/delete", {"email_addresses": [{"email": "a@example.com", "prioritization": ["identified"]}]})
    assert known(braze) == {"u1": {}, "u2": {}}
    assert nothing_done(braze) == [("email_addresses", 0, "", "more than one user is left: none is deleted")]


# /users/external_ids


def test_renamed_id_stays_valid_until_it_is_removed(braze):
    have(braze, {"external_id": "old"}, {"external_id": "other"})
    renames = [("old", "new"), ("other", "new"), ("nobody", "x"), ("other", "other")]
    body = {"external_id_renames": [{"current_external_id": a, "new_external_id": b} for a, b in renames]}
    assert post(braze, "/users/external_ids/rename", body) == (
        201,
        {
            "message": "success",
            "external_ids": ["new"],
            "rename_errors": [
                [1, "new_external_id is already in use"],
                [2, "'current_external_id' is not the primary id of a user"],
                [3, "new_external_id is already in use"],
            ],
        },
    )
    have(braze, {"external_id": "old", "plan": "pro"})
    assert known(braze) == {"new": {"plan": "pro"}, "other": {}}
    assert braze.profile(external_id="old")["external_id"] == "new"

    assert post(braze, "/users/external_ids/remove", {"external_ids": ["old", "new"]}) == (
        201,
        {"message": "success", "removed_ids": ["old"], "removal_errors": [[1, "not a deprecated external_id"]]},
    )
    have(braze, {"external_id": "old"})
    assert known(braze) == {"new": {"plan": "pro"}, "other": {}, "old": {}}


def test_deprecated_id_deletes_its_user_too(braze):
    have(braze, {"external_id": "old"})
    body = {"external_id_renames": [{"current_external_id": "old", "new_external_id": "new"}]}
    post(braze, "/users/external_ids/rename", body)
    post(braze, "/users/delete", {"external_ids": ["old"]})
    assert known(braze) == {}


# Subscription groups


def groups(braze: Sandbox) -> dict[str, dict[str, str]]:
    return {one["external_id"]: one["subscription_groups"] for one in braze.profiles()}


@pytest.fixture
def subscribers(braze):
    """u1 and u2 share an e-mail, u3 has a phone."""
    have(
        braze,
        {"external_id": "u1", "email": "a@example.com"},
        {"external_id": "u2", "email": "A@example.com"},
        {"external_id": "u3", "phone": "+14155550100"},
    )
    return braze


@pytest.mark.parametrize(
    ("who", "changed"),
    [
        pytest.param({"external_ids": ["u3", "u9"]}, {"u3"}, id="ids, unknown ones too"),
        pytest.param({"external_ids": ["u1"]}, {"u1", "u2"}, id="id with a shared e-mail"),
        pytest.param({"emails": ["A@EXAMPLE.com"]}, {"u1", "u2"}, id="shared e-mail"),
        pytest.param({"phones": ["+14155550100"]}, {"u3"}, id="phone"),
        pytest.param({"emails": ["nobody@example.com"]}, set(), id="nobody"),
    ],
)
def test_v2_sets_a_group_for(subscribers, who, changed):
    group = {"subscription_group_id": "g1", "subscription_state": "unsubscribed", **who}
    body = {
        "subscription_groups": [group, {**group, "subscription_group_id": "g2", "subscription_state": "subscribed"}]
    }
    assert post(subscribers, "/v2/subscription/status/set", body) == (201, SUCCESS)
    both = {"g1": "unsubscribed", "g2": "subscribed"}
    assert groups(subscribers) == {user: both if user in changed else {} for user in ("u1", "u2", "u3")}
    unknown = [("subscription_groups", n, "external_ids", "no user has this external_id") for n in (0, 1)]
    assert nothing_done(subscribers) == (unknown if "u9" in who.get("external_ids", ()) else [])


@pytest.mark.parametrize(
    ("who", "changed"),
    [
        pytest.param({"external_id": "u3"}, {"u3"}, id="id"),
        pytest.param({"external_id": ["u2", "u3"]}, {"u1", "u2", "u3"}, id="ids"),
        pytest.param({"email": "a@example.com"}, {"u1", "u2"}, id="e-mail"),
        pytest.param({"phone": ["+14155550100"]}, {"u3"}, id="phones"),
        pytest.param({"external_id": "u3", "email": "a@example.com"}, {"u1", "u2", "u3"}, id="id and e-mail"),
    ],
)
def test_v1_sets_a_group_for(subscribers, who, changed):
    body = {"subscription_group_id": "g1", "subscription_state": "subscribed", **who}
    assert post(subscribers, "/subscription/status/set", body) == (201, SUCCESS)
    assert {user for user, states in groups(subscribers).items() if states == {"g1": "subscribed"}} == changed


def test_latest_state_of_a_group_holds(subscribers):
    for state in ("subscribed", "unsubscribed"):
        group = {"subscription_group_id": "g1", "subscription_state": state, "external_ids": ["u3"]}
        post(subscribers, "/v2/subscription/status/set", {"subscription_groups": [group]})
    assert subscribers.profile(external_id="u3")["subscription_groups"] == {"g1": "unsubscribed"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"subscription_group_id": ""}, "'subscription_group_id' is required", id="no group"),
        pytest.param(
            {"subscription_state": "opted_in"},
            "'subscription_state' must be 'subscribed' or 'unsubscribed'",
            id="bad state",
        ),
        pytest.param(
            {"emails": ["a@example.com"], "phones": ["+14155550100"]},
            "Either an email address or a phone number should be provided, but not both.",
            id="e-mail and phone",
        ),
        pytest.param({"external_ids": []}, "an external id, an email or a phone number is required", id="nobody"),
        pytest.param(
            {"external_ids": [1]}, "external ids, emails and phone numbers must be non-empty strings", id="numeric id"
        ),
        pytest.param({"external_ids": ["u1"] * 51}, IDS_EXCEEDED, id="51 users"),
        pytest.param({"phones": ["4155550100"]}, "phone numbers must be in E.164 format", id="phone without a plus"),
    ],
)
def test_bad_subscription_change_is_refused_with_all_others(subscribers, change, message):
    good = {"subscription_group_id": "g1", "subscription_state": "subscribed", "external_ids": ["u1"]}
    body = {"subscription_groups": [good, {**good, **change}]}
    assert post(subscribers, "/v2/subscription/status/set", body) == (400, {"message": message})
    assert groups(subscribers) == {"u1": {}, "u2": {}, "u3": {}}


def read(braze: Sandbox, path: str, query: dict[str, Any]) -> tuple[int, Any]:
    answer = requests.get(braze.url + path, params=query, headers=KEY)
    return answer.status_code, answer.json()


def set_group(braze: Sandbox, group_id: str, state: str, *external_ids: str) -> None:
    group = {"subscription_group_id": group_id, "subscription_state": state, "external_ids": external_ids}
    assert post(braze, "/v2/subscription/status/set", {"subscription_groups": [group]})[0] == 201


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param(
            {"external_id[]": ["u1", "u3", "u9"]},
            {"u1": "Subscribed", "u3": "Unsubscribed", "u9": "Unknown"},
            id="ids",
        ),
        pytest.param({"external_id": "u3"}, {"u3": "Unsubscribed"}, id="id"),
        pytest.param({"email": "A@example.com"}, {"A@example.com": "Subscribed"}, id="e-mail"),
        pytest.param(
            {"phone[]": ["+14155550100", "+14155550199"]},
            {"+14155550100": "Unsubscribed", "+14155550199": "Unknown"},
            id="phones",
        ),
        pytest.param(
            {"external_id": "u3", "email": "a@example.com", "phone": "+1"}, {"u3": "Unsubscribed"}, id="id goes first"
        ),
    ],
)
def test_subscription_state_is_read_back_capitalised(subscribers, query, status):
    set_group(subscribers, "g1", "subscribed", "u1")
    set_group(subscribers, "g1", "unsubscribed", "u3")
    answer = read(subscribers, "/subscription/status/get", {"subscription_group_id": "g1", **query})
    assert answer == (200, {"status": status, "message": "success"})


def user(email: str | None, phone: str | None, external_id: str, *groups: tuple[str, str, str]) -> dict[str, Any]:
    shown = [{"id": id, "name": id, "channel": channel, "status": status} for id, channel, status in groups]
    return {"email": email, "phone": phone, "external_id": external_id, "subscription_groups": shown}


def test_groups_of_users_are_read_back_and_users_with_one_email_are_told_apart(subscribers):
    set_group(subscribers, "g1", "subscribed", "u3")
    set_group(subscribers, "g2", "unsubscribed", "u1", "u3")
    u1, u2 = (user("a@example.com", None, id, ("g2", "email", "Unsubscribed")) for id in ("u1", "u2"))
    u3 = user(None, "+14155550100", "u3", ("g1", "sms", "Subscribed"), ("g2", "sms", "Unsubscribed"))
    path = "/subscription/user/status"
    assert read(subscribers, path, {"external_id": "u3"}) == (
        200,
        {"users": [u3], "total_count": 1, "message": "success"},
    )
    assert read(subscribers, path, {"external_id[]": ["u3", "u9", "u1"]})[1]["users"] == [u3, u1]
    assert read(subscribers, path, {"email": "a@example.com"})[1] == {
        "users": [u1, u2],
        "total_count": 2,
        "message": "success",
    }
    assert read(subscribers, path, {"email": "a@example.com", "limit": 1, "offset": 1})[1] == {
        "users": [u2],
        "total_count": 2,
        "message": "success",
    }


def test_user_without_a_state_has_no_groups(subscribers):
    answer = read(subscribers, "/subscription/user/status", {"external_id": "u3"})
    assert answer[1]["users"] == [user(None, "+14155550100", "u3")]


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        pytest.param("status/get", {"external_id": "u1"}, "'subscription_group_id' is required", id="no group"),
        pytest.param(
            "status/get",
            {"subscription_group_id": "g1"},
            "'external_id', 'email' or 'phone' is required",
            id="nobody",
        ),
        pytest.param(
            "status/get",
            {"subscription_group_id": "g1", "email": "a@example.com", "phone": "+14155550100"},
            "Either an email address or a phone number should be provided, but not both.",
            id="e-mail and phone",
        ),
        pytest.param(
            "status/get",
            {"subscription_group_id": "g1", "external_id[]": [f"u{n}" for n in range(51)]},
            IDS_EXCEEDED,
            id="51 ids",
        ),
        pytest.param("user/status", {}, "'external_id', 'email' or 'phone' is required", id="nobody's groups"),
        pytest.param("user/status", {"external_id": "u1", "limit": "all"}, "'limit' must be a number", id="no number"),
    ],
)
def test_bad_subscription_query_is_refused(subscribers, path, query, message):
    assert read(subscribers, f"/subscription/{path}", query) == (400, {"message": message})


# /users/export/ids


def test_export_gives_the_fields_that_were_asked_for_and_are_set(braze):
    have(
        braze,
        {
            "external_id": "u1",
            "email": "Ann@Example.com",
            "dob": "1980-12-21",
            "country": "KR",
            "plan": "pro",
            "tags": [],
            "score": 1.10,
            "current_location": {"longitude": 127, "latitude": 37.5},
        },
    )
    time = "2027-01-{:02}T00:00:00Z"
    events = [seen(time=time.format(day)) for day in (3, 1, 2)] + [seen(time="2026-10-01T00:00:00Z")]
    price = {"external_id": "u1", "product_id": "p1", "currency": "USD", "price": 2.5, "time": time.format(4)}
    post(braze, "/users/track", {"events": events, "purchases": [{**price, "quantity": 3}, price]})
    fields = ["external_id", "braze_id", "user_aliases", "first_name", "email", "dob", "country", "custom_attributes"]
    fields += ["custom_events", "purchases", "created_at", "total_revenue", "last_coordinates", "push_tokens", "apps"]
    status, answer = post(braze, "/users/export/ids", {"external_ids": ["u1", "u9"], "fields_to_export": fields})
    braze_id = braze.profile(external_id="u1")["braze_id"]
    assert (status, answer) == (
        201,
        {
            "message": "success",
            "users": [
                {
                    "external_id": "u1",
                    "braze_id": braze_id,
                    "appboy_id": braze_id,
                    "user_aliases": [],
                    "email": "ann@example.com",
                    "dob": "1980-12-21T00:00:00.000Z",
                    "country": "KR",
                    "custom_attributes": {"plan": "pro", "tags": [], "score": 1.1},
                    "custom_events": [
                        {
                            "name": "seen",
                            "first": "2027-01-01T00:00:00.000Z",
                            "last": "2027-01-03T00:00:00.000Z",
                            "count": 3,
                        }
                    ],
                    "purchases": [
                        {
                            "name": "p1",
                            "first": "2027-01-04T00:00:00.000Z",
                            "last": "2027-01-04T00:00:00.000Z",
                            "count": 4,
                        }
                    ],
                    "created_at": "2027-01-15T08:00:00.000Z",
                    "total_revenue": 10.0,
                    "last_coordinates": [127, 37.5],
                }
            ],
            "invalid_user_ids": ["u9"],
        },
    )


@pytest.mark.parametrize(
    "selector",
    [
        pytest.param({"user_aliases": [alias("a1")]}, id="alias"),
        pytest.param({"email_address": "A@example.com"}, id="e-mail"),
        pytest.param({"phone": "+14155550100"}, id="phone"),
        pytest.param({"device_id": "device-1"}, id="device"),
    ],
)
def test_export_selects_by(braze, selector):
    token = {"app_id": "app", "token": "t1", "device_id": "device-1"}
    have(braze, alias_user("a1", email="a@example.com", phone="+14155550100", push_tokens=[token]))
    body = {**selector, "fields_to_export": ["user_aliases", "phone"]}
    assert post(braze, "/users/export/ids", body) == (
        201,
        {"message": "success", "users": [{"user_aliases": [alias("a1")], "phone": "+14155550100"}]},
    )


def test_export_shows_push_tokens(braze):
    have(braze, {"external_id": "u1", "push_tokens": [{"app_id": "a", "token": "t", "device_id": "device-1"}]})
    body = {"external_ids": ["u1"], "fields_to_export": ["push_tokens"]}
    tokens = [{"app": "a", "token": "t", "device_id": "device-1"}]
    assert post(braze, "/users/export/ids", body)[1]["users"] == [{"push_tokens": tokens}]


def test_what_is_read_is_as_old_as_the_lag():
    now = [NOW]
    with Sandbox(clock=lambda: now[0], read_lag_s=30) as braze:
        fields = {"fields_to_export": ["custom_attributes"]}

        def plan_of() -> object:
            users = post(braze, "/users/export/ids", {"external_ids": ["u1"], **fields})[1]["users"]
            return users[0]["custom_attributes"]["plan"] if users else None

        seen = []
        for wait, plan in ((0, "a"), (20, "b"), (9, None), (1, None), (19, None), (1, None)):
            now[0] += wait
            if plan:
                have(braze, {"external_id": "u1", "plan": plan})
            seen.append(plan_of())
        assert seen == [None, None, None, "a", "a", "b"]


def test_export_without_fields_has_all_of_them_by_an_older_contract():
    with Sandbox(clock=lambda: NOW, export_needs_fields=False) as braze:
        have(braze, {"external_id": "u1", "first_name": "Ann", "country": "KR", "plan": "pro"})
        (user,) = post(braze, "/users/export/ids", {"external_ids": ["u1"]})[1]["users"]
        braze_id = braze.profile(external_id="u1")["braze_id"]
        assert user == {
            "external_id": "u1",
            "braze_id": braze_id,
            "appboy_id": braze_id,
            "user_aliases": [],
            "first_name": "Ann",
            "country": "KR",
            "created_at": "2027-01-15T08:00:00.000Z",
            "random_bucket": int(braze_id[:8], 16) % 10_000,
            "custom_attributes": {"plan": "pro"},
        }


def test_export_names_each_user_once_and_unknown_aliases(braze):
    have(braze, {"external_id": "u1", "email": "a@example.com"})
    body = {
        "external_ids": ["u1", "u1"],
        "user_aliases": [alias("a9")],
        "email_address": "a@example.com",
        "fields_to_export": ["external_id"],
    }
    assert post(braze, "/users/export/ids", body) == (
        201,
        {"message": "success", "users": [{"external_id": "u1"}], "invalid_user_ids": [alias("a9")]},
    )


def test_profile_reads_decimals_exactly(braze):
    have(braze, {"external_id": "u1", "score": 0.1})
    assert braze.profile(external_id="u1")["custom_attributes"] == {"score": Decimal("0.1")}


# Names


def get(braze: Sandbox, path: str) -> tuple[Any, str | None]:
    """What is at a path, and its Link header."""
    answer = requests.get(braze.url + path, headers=KEY)
    assert answer.status_code == 200
    return answer.json(), answer.headers.get("Link")


def test_attributes_are_listed_with_their_types(braze):
    have(
        braze,
        {"external_id": "u1", "tier": "gold", "orders": 2, "vip": True, "tags": ["a", "b"], "first_name": "Ada"},
        {"external_id": "u2", "tags": ["a", "b", "c"], "home": {"city": "Ulm"}, "pets": [{"id": 1}], "gone": None},
    )
    listed, link = get(braze, "/custom_attributes")
    assert (link, listed["message"]) == (None, "success")
    assert [(one["name"], one["data_type"], one["array_length"]) for one in listed["attributes"]] == [
        ("home", "Object", None),
        ("orders", "Number", None),
        ("pets", "Array of Objects", 1),
        ("tags", "Array", 3),
        ("tier", "String", None),
        ("vip", "Boolean", None),
    ]
    assert {one["status"] for one in listed["attributes"]} == {"Active"}


def test_attributes_are_listed_in_pages_of_50_with_links(braze):
    known = [f"a{n:03}" for n in range(120)]
    have(braze, {"external_id": "u1", **dict.fromkeys(known, 1)})
    to_0, to_50, to_100 = (
        f"</custom_attributes?cursor={cursor}>" for cursor in ("c2tpcDow", "c2tpcDo1MA==", "c2tpcDoxMDA=")
    )
    pages = [get(braze, path) for path in ("/custom_attributes", to_50.strip("<>"), to_100.strip("<>"))]
    assert [[one["name"] for one in page["attributes"]] for page, _ in pages] == [
        known[:50],
        known[50:100],
        known[100:],
    ]
    assert [link for _, link in pages] == [
        f'{to_50}; rel="next"',
        f'{to_0}; rel="prev",{to_100}; rel="next"',
        f'{to_50}; rel="prev"',
    ]
    assert requests.get(f"{braze.url}/custom_attributes?cursor=50", headers=KEY).status_code == 400


def test_events_and_products_are_listed_by_name(braze):
    events = [seen(f"u{n}", name=f"event {n % 260:03}") for n in range(270)]
    bought = {"external_id": "u1", "product_id": "mug", "currency": "EUR", "price": 1, "time": "2027-01-01T00:00:00Z"}
    for first in range(0, 270, 75):
        assert post(braze, "/users/track", {"events": events[first : first + 75]})[0] == 201
    assert post(braze, "/users/track", {"purchases": [bought, bought]})[0] == 201
    assert get(braze, "/events/list")[0]["events"] == [f"event {n:03}" for n in range(250)]
    assert get(braze, "/events/list?page=1")[0]["events"] == [f"event {n:03}" for n in range(250, 260)]
    assert get(braze, "/events/list?page=2")[0] == {"events": [], "message": "success"}
    assert get(braze, "/purchases/product_list")[0] == {"products": ["mug"], "message": "success"}
    assert requests.get(f"{braze.url}/events/list?page=x", headers=KEY).status_code == 400


def test_lists_of_names_share_one_limit():
    with Sandbox(clock=lambda: NOW) as braze:
        left = [
            requests.get(braze.url + path, headers=KEY).headers["x-ratelimit-remaining"]
            for path in ("/custom_attributes", "/events/list", "/purchases/product_list")
        ]
    assert left == ["999", "998", "997"]
