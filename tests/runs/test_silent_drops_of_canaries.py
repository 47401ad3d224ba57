"""Each silent drop of the sandbox: a canary stops before the rest goes out, or `retl` does not send it at all."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from docs.sandbox_drops import DROPS, Fate, drops_in_code
from tests.shop import KEY, Shop

ME = {"external_id": "u1"}
ALIAS_NEW, IDENTIFY, DELETE = ({"mode": mode} for mode in ("users_alias_new", "users_identify", "users_delete"))
GROUP = "6f1c2a3e-0b5d-4c7e-9a41-2d8e5f60b7a1"


def alias(name: str, **more: Any) -> dict[str, Any]:
    return {"user_alias": {"alias_name": name, "alias_label": "cookie"}, **more}


def anonymous(name: str) -> dict[str, Any]:
    return alias(name, _update_existing_only=False, n=1)


@dataclass(frozen=True)
class Case:
    """A model whose one bad row Braze drops in silence, or in part, beside what is in Braze before; `rest` are rows
    that must not go out. `reason` is the drop as the sandbox lists it."""

    reason: str
    bad: str
    before: Sequence[dict[str, Any]] = ()
    options: dict[str, Any] = field(default_factory=dict)
    good: str = "SELECT 'good' || i AS external_id FROM range(100) r(i)"
    aliases: Sequence[dict[str, Any]] = ()


def attribute(reason: str, value: str, *before: Any, **options: Any) -> Case:
    """An attribute `x`, which the user has with another value before."""
    return Case(reason, f"SELECT 'u1' AS external_id, {value} AS x", [{**ME, "x": one} for one in before], options)


def of_all(
    reason: str,
    bad: str,
    before: Sequence[dict[str, Any]] = (),
    aliases: Sequence[dict[str, Any]] = (),
    **options: Any,
) -> Case:
    """A model of which every row is bad: no kind of value tells them apart."""
    return Case(reason, "", before, options, f"{bad} FROM range(101) r(i)", aliases)


JSON = {"pre_formatted_fields": ["x"]}
ALIASES = "SELECT 'a' || i AS alias_name, 'cookie' AS alias_label"
USERS = [{"external_id": f"u{i}", "n": 1} for i in range(101)]
ANONYMOUS = [anonymous(f"a{i}") for i in range(101)]
SAME, OTHERS = (
    [{"external_id": f"u{i}", "alias_name": f"{name}{i}", "alias_label": "cookie"} for i in range(101)] for name in "ab"
)
RENAMED_ALIASES = "SELECT 'a' || i AS old_alias_name, 'b' || i AS new_alias_name, 'cookie' AS alias_label"
CASES = [
    attribute("user does not exist, and is not created", "1, true AS _update_existing_only, 1", **{}),
    attribute("string stored as number, the attribute's type", "'12'", 1),
    attribute("type array, but the attribute's type is number", "[1]", 1),
    Case("not a country that can be mapped: stored as null", "SELECT 'u1' AS external_id, 'Albania' AS country"),
    Case("off the map", "SELECT 'u1' AS external_id, {'longitude': 9, 'latitude': 99} AS current_location"),
    attribute("increment of something other than an integer", "{'inc': 1}", "text"),
    attribute("add or remove on something other than an array", "{'add': ['a']}", "text"),
    attribute("array operator on something other than an array of objects", "{'$add': [{'a': 1}]}", "text"),
    attribute(
        "more than 500 elements in the array: the oldest were dropped", "{'add': ['new', 'newer']}", [*range(499)]
    ),
    attribute(
        "more than 100 KB",
        "{'add': [repeat('y', 200) || i FOR i IN range(100)]}",
        [f"{'z' * 230}{number}" for number in range(390)],
    ),
    attribute("more than 100 levels", f"'{'[' * 101}1{']' * 101}'", **JSON),
    Case("stored under its name without the spaces around it", "SELECT 'u1' AS external_id, 1 AS \" x\""),
    of_all("no user has this external_id", f"{ALIASES}, 'u' || i AS external_id", **ALIAS_NEW),
    of_all(
        "no user has this external_id",
        f"SELECT 'u' || i AS external_id, '{GROUP}' AS subscription_group_id, 'subscribed' AS subscription_state",
        mode="subscription_status_set",
    ),
    of_all("another user has this alias", f"{ALIASES}, 'u' || i AS external_id", USERS + ANONYMOUS, **ALIAS_NEW),
    of_all(
        "the user has another alias with this label", f"{ALIASES}, 'u' || i AS external_id", USERS, OTHERS, **ALIAS_NEW
    ),
    of_all("no user has this alias", f"{ALIASES}, 'u' || i AS external_id", **IDENTIFY),
    of_all("the user has another external_id", f"{ALIASES}, 'v' || i AS external_id", USERS, SAME, **IDENTIFY),
    of_all(
        "both users have an alias with one label",
        f"{ALIASES}, 'u' || i AS external_id",
        USERS + ANONYMOUS,
        OTHERS,
        **IDENTIFY,
    ),
    of_all("no user has this alias", RENAMED_ALIASES, mode="users_alias_update"),
    of_all(
        "another user has the new alias",
        RENAMED_ALIASES,
        USERS + [anonymous(f"b{i}") for i in range(101)],
        SAME,
        mode="users_alias_update",
    ),
    of_all(
        "one of the identifiers means no user, or more than one",
        "SELECT 'u' || i AS external_id, 'no' || i AS keep_external_id",
        USERS,
        mode="users_merge",
        allow_destructive=True,
    ),
    of_all(
        "more than one user is left: none is deleted",
        "SELECT 'e' || i || '@example.com' AS email, ['identified'] AS prioritization",
        [{"external_id": f"{user}{i}", "email": f"e{i}@example.com"} for i in range(101) for user in "uv"],
        allow_destructive=True,
        **DELETE,
    ),
]
# What `retl` leaves out of a row, takes for an invalid one, or for an error of the project.
LONG = "repeat('y', 256)"
PREVENTED = [
    ("not a string", "SELECT 'u1' AS external_id, 1 AS first_name", {}),
    ("not a boolean", "SELECT 'u1' AS external_id, 'x' AS email_open_tracking_disabled", {}),
    ("not one of M, F, O, N, P", "SELECT 'u1' AS external_id, 'x' AS gender", {}),
    ("not a date in the form YYYY-MM-DD", "SELECT 'u1' AS external_id, 'x' AS dob", {}),
    ("not a language code on Braze's list", "SELECT 'u1' AS external_id, 'x' AS language", {}),
    ("not a time zone", "SELECT 'u1' AS external_id, 'x' AS time_zone", {}),
    ("not a date-time", "SELECT 'u1' AS external_id, 'x' AS date_of_first_session", {}),
    ("not an object of {}", "SELECT 'u1' AS external_id, {'id': 1} AS facebook", {}),
    ("string longer than {} characters", f"SELECT 'u1' AS external_id, {LONG} AS x, {LONG} AS first_name", {}),
    ("part of an alias: use user_alias", "SELECT 'u1' AS external_id, 'x' AS alias_name", {}),
    ("name is empty or longer than {} characters", f"SELECT 'u1' AS external_id, 1 AS \"{'y' * 256}\"", {}),
    ("increment by something other than an integer", "SELECT 'u1' AS external_id, {'inc': 'x'} AS x", {}),
    ("add or remove of something other than an array", "SELECT 'u1' AS external_id, {'add': 'x'} AS x", {}),
    ("add or remove of an object", "SELECT 'u1' AS external_id, {'add': [{'a': 1}]} AS x", {}),
    ("array operator without an array of objects", "SELECT 'u1' AS external_id, {'$add': [1]} AS x", {}),
    (
        "array operator without $identifier_key and $identifier_value",
        "SELECT 'u1' AS external_id, {'$remove': [{'a': 1}]} AS x",
        {},
    ),
    (
        "$update without $new_object",
        "SELECT 'u1' AS external_id, {'$update': [{'$identifier_key': 'a', '$identifier_value': 1}]} AS x",
        {},
    ),
    ("null in a nested value", "SELECT 'u1' AS external_id, [1, NULL] AS x", {}),
    ("string longer than {} characters in a nested value", f"SELECT 'u1' AS external_id, [{LONG}] AS x", {}),
    ("invalid $time in a nested value", 'SELECT \'u1\' AS external_id, \'{"a": {"$time": "x"}}\' AS x', JSON),
    (
        "key has a space, a dot, a dollar sign or more than 255 characters",
        "SELECT 'u1' AS external_id, {'a b': 1} AS x",
        {},
    ),
]


def template_of(reason: str) -> str:
    """The drop in the table that a reason is one of."""
    found = [
        one
        for drops in DROPS.values()
        for one in drops
        if re.fullmatch(".+".join(map(re.escape, re.split(r"\{\}", one))), reason)
    ]
    return max(found, key=len)


def test_every_silent_drop_of_the_sandbox_has_its_case():
    listed = [reason for drops in DROPS.values() for reason in drops]
    assert sorted(drops_in_code()) == sorted(set(listed))
    cases = {template_of(case.reason) for case in CASES} | {"no user has {}"}
    assert cases == set(DROPS[Fate.READ])
    assert [reason for reason, *_ in PREVENTED] == list(DROPS[Fate.PREVENTED])


def tell(shop: Shop, path: str, name: str, records: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(records), 50):
        body = {name: records[start : start + 50]}
        answer = requests.post(shop.braze.url + path, json=body, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.json()["message"] == "success", answer.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.options.get('mode', '')} {case.reason}".strip())
@pytest.mark.sampled(6)
def test_canary_stops_before_the_rest_goes_out(shop: Shop, case: Case):
    tell(shop, "/users/track", "attributes", case.before)
    tell(shop, "/users/alias/new", "user_aliases", case.aliases)
    shop.sync("it", f"{case.good} UNION ALL BY NAME {case.bad}" if case.bad else case.good, **case.options)
    sent_before = len(shop.braze.requests())
    result = shop.run(canary=10, skip_guards=dict.fromkeys(("max_deletes", "max_merges"), 101))
    assert case.reason in {drop.reason for drop in shop.braze.silent_drops()}
    assert (result.status, [problem.code for problem in result.errors]) == ("failed", ["X012"])
    assert result.delivery is not None
    assert result.canary is not None
    lists = [
        len(items)
        for request in shop.braze.requests()[sent_before:]
        if request.path != "/users/export/ids" and request.body
        for items in json.loads(request.body).values()
    ]
    assert (sum(lists) <= 10, result.canary.rows) == (True, 10)
    assert (result.delivery.accepted, result.delivery.unsent + result.delivery.in_doubt) == (
        result.canary.as_sent,
        101 - result.canary.as_sent,
    )


@pytest.mark.long  # all of them together; `make test` has the rules, one by one
@pytest.mark.parametrize(("reason", "model", "options"), PREVENTED, ids=[reason for reason, *_ in PREVENTED])
def test_what_braze_would_drop_is_not_sent(shop: Shop, reason: str, model: str, options: dict[str, Any]):
    shop.sync("it", model, **options)
    result = shop.run(canary=10)
    assert (shop.braze.silent_drops(), result.exit_code in (1, 2)) == ([], True)


@pytest.mark.parametrize("kind", ["events", "purchases"])
def test_events_and_purchases_cannot_be_read_back(shop: Shop, kind: str):
    shop.sync("it", "SELECT 1 AS external_id", mode="users_track", track_record_type=kind)
    result = shop.run(canary=10)
    what = f"it: --canary cannot compare records of mode users_track / {kind}: Braze does not export them"
    assert ([problem.message for problem in result.errors], result.exit_code) == ([what], 2)
    assert shop.braze.requests() == []
