"""`mode: users_merge`: one user is merged into another, for good, and comes back by no sync of the target."""

import json
from typing import Any

import pytest

from reverse_etl.runs.outcome import CanaryResult
from reverse_etl.sandbox import Fault
from tests.shop import Held, Retl, Shop, running

MERGES = {"mode": "users_merge", "allow_destructive": True}
PEOPLE = "SELECT 'u' || i AS external_id, i AS n FROM range(6) r(i)"


@pytest.fixture
def people(shop: Shop) -> Shop:
    """A shop whose users u0 ... u5 are in Braze."""
    shop.sync("people", PEOPLE).run("people")
    return shop


def merging(shop: Shop, *pairs: tuple[str, str], **options: Any) -> Shop:
    rows = ", ".join(f"('{one}', '{other}')" for one, other in pairs)
    return shop.sync(
        "it", f"SELECT * FROM (VALUES {rows}) AS t(external_id, keep_external_id)", **{**MERGES, **options}
    )


def merged(shop: Shop) -> list[Any]:
    """The merges of each request."""
    return [json.loads(one.body)["merge_updates"] for one in shop.braze.requests() if one.path == "/users/merge"]


def of_ids(one: str, other: str) -> dict[str, Any]:
    return {"identifier_to_merge": {"external_id": one}, "identifier_to_keep": {"external_id": other}}


def invalid(shop: Shop, **options: Any) -> list[tuple[str, str, str]]:
    return [(row.key, row.column, row.reason) for row in shop.run("it", **options).invalid]


@pytest.mark.long
def test_user_who_was_merged_is_gone_and_no_other_sync_sends_them_again(people: Shop):
    result = merging(people, ("u1", "u2")).run("it")
    assert (result.status, result.plan.deletes, result.delivery.accepted) == ("success", 1, 1)
    assert merged(people) == [[of_ids("u1", "u2")]]
    assert [user["external_id"] for user in people.braze.profiles()] == ["u0", "u2", "u3", "u4", "u5"]
    people.sync("people", f"SELECT external_id, n + 1 AS n FROM ({PEOPLE})")
    plan = people.run("people").plan
    assert (plan.suppressed, plan.to_send) == (1, 5)
    again = people.run("it")
    assert (again.plan.to_send, len(merged(people)), people.rows_of("state", "*", sync="it")) == (0, 1, [])


def test_identifiers_are_those_that_braze_takes(people: Shop):
    rows = """SELECT * FROM (VALUES
        (1, NULL, 'a1', 'cookie', NULL, NULL, NULL, 'u2', NULL, NULL, NULL, NULL),
        (2, NULL, NULL, NULL, 'ada@example.com', NULL, ['unidentified'], NULL, NULL, 'ada@example.com', NULL, ['identified']),
        (3, NULL, NULL, NULL, NULL, '+14155552671', ['unidentified', 'least_recently_updated'], NULL,
            {'alias_name': 'b', 'alias_label': 'crm'}, NULL, NULL, NULL),
        (4, 'u5', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155552672', ['most_recently_updated'])
    ) AS t(row, external_id, alias_name, alias_label, email, phone, prioritization,
        keep_external_id, keep_user_alias, keep_email, keep_phone, keep_prioritization)"""
    result = people.sync("it", rows, primary_key="row", exclude_columns="row", **MERGES).run("it")
    assert (result.status, result.invalid) == ("success", [])
    assert merged(people) == [
        [
            {
                "identifier_to_merge": {"user_alias": {"alias_name": "a1", "alias_label": "cookie"}},
                "identifier_to_keep": {"external_id": "u2"},
            },
            {
                "identifier_to_merge": {"email": "ada@example.com", "prioritization": ["unidentified"]},
                "identifier_to_keep": {"email": "ada@example.com", "prioritization": ["identified"]},
            },
            {
                "identifier_to_merge": {
                    "phone": "+14155552671",
                    "prioritization": ["unidentified", "least_recently_updated"],
                },
                "identifier_to_keep": {"user_alias": {"alias_name": "b", "alias_label": "crm"}},
            },
            {
                "identifier_to_merge": {"external_id": "u5"},
                "identifier_to_keep": {"phone": "+14155552672", "prioritization": ["most_recently_updated"]},
            },
        ]
    ]


def test_nobody_is_merged_unless_the_sync_says_so_and_the_number_is_allowed(people: Shop, retl: Retl):
    merging(people, ("u1", "u2"), allow_destructive=False)
    said = retl("plan", "it", folder=people.folder)
    assert (said.code, 'mode: users_merge" in sync "it" merges users' in said.err) == (2, True)
    assert 'add "allow_destructive: true" to the sync: merging cannot be undone' in said.err
    many = "SELECT 'a' || i AS external_id, 'u2' AS keep_external_id FROM range(51) r(i)"
    blocked = people.sync("it", many, **MERGES).run("it", skip_guards=["max_merges"])
    assert [(error.message, error.hint) for error in blocked.errors] == [
        (
            "it: guard max_merges: 51 users would be merged; at most 50 are allowed (50, or 0.1% of 6 users in the "
            "target's states), and --skip-guard max_merges needs a number",
            "check the model: `retl show it`; --skip-guard max_merges=51 may merge these users, for good",
        )
    ]
    assert merged(people) == []
    assert people.run("it", skip_guards=["max_merges=51"]).delivery.accepted == 51


@pytest.mark.long
def test_nobody_is_merged_into_a_user_who_does_not_remain(people: Shop):
    into_nobody = "is a user who is merged or deleted, too"
    merging(people, ("u1", "u2"), ("u2", "u3"), ("u4", "u4"), skip_on_invalid_records=True)
    assert invalid(people) == [
        ("u1", "keep_external_id", into_nobody),
        ("u4", "keep_external_id", "is the user that is to be merged"),
    ]
    assert merged(people) == [[of_ids("u2", "u3")]]
    people.sync("gone", "SELECT 'u5' AS external_id", mode="users_delete", allow_destructive=True).run("gone")
    merging(people, ("u1", "u2"), ("u2", "u3"), ("u4", "u5"), ("u0", "u3"), skip_on_invalid_records=True)
    assert invalid(people) == [("u1", "keep_external_id", into_nobody), ("u4", "keep_external_id", into_nobody)]
    assert merged(people)[1:] == [[of_ids("u0", "u3")]]


def test_user_merged_into_somebody_whom_no_sync_has_sent_may_still_be_there_and_is_not_suppressed(people: Shop):
    result = merging(people, ("u1", "nobody")).run("it")
    assert (result.status, result.plan.uncertain) == ("success", 1)
    assert people.listener.notices[-1] == (
        "it: 1 row is for a user that no sync of this target has sent: Braze responds success and does nothing if they "
        "do not exist"
    )
    people.sync("people", f"SELECT external_id, n + 1 AS n FROM ({PEOPLE})")
    assert people.run("people").plan.suppressed == 0


@pytest.mark.long
def test_address_of_a_user_who_was_merged_may_be_that_of_the_other_and_is_sent_to(people: Shop):
    people.sync("mail", "SELECT 'ada@example.com' AS email, 1 AS n").run("mail")
    row = "SELECT 'ada@example.com' AS email, ['unidentified'] AS prioritization, 'u2' AS keep_external_id"
    assert people.sync("it", row, **MERGES).run("it").delivery.accepted == 1
    people.sync("mail", "SELECT 'ada@example.com' AS email, 2 AS n")
    assert (people.run("mail").plan.suppressed, people.run("it").plan.to_send) == (0, 0)


@pytest.mark.parametrize(("by", "status"), [("external_id", "success"), ("email", "incomplete")])
def test_merge_without_a_response_is_sent_again_by_id_and_is_in_doubt_by_address(people: Shop, by: str, status: str):
    """Of an address, a second merge might find the next profile that has it."""
    people.braze.add_fault(Fault("drop_after", path="/users/merge"))
    one = {
        "external_id": "'u1' AS external_id",
        "email": "'a@example.com' AS email, ['unidentified'] AS prioritization",
    }
    result = people.sync("it", f"SELECT {one[by]}, 'u2' AS keep_external_id", **MERGES).run("it")
    assert (result.status, len(merged(people))) == (status, 2 if by == "external_id" else 1)
    assert (result.delivery.in_doubt, people.run("it").plan.held) == ((0, 0) if by == "external_id" else (1, 1))


@pytest.mark.parametrize(
    ("columns", "column", "reason"),
    [
        ("'u1' AS external_id, CAST(NULL AS VARCHAR) AS keep_external_id", "keep_external_id", "is missing"),
        (
            "'u1' AS external_id, 'u2' AS keep_external_id, 'a@example.com' AS keep_email, ['identified'] AS keep_prioritization",
            "keep_external_id",
            "is ambiguous: more than one of keep_external_id, keep_email is set",
        ),
        (
            "'u1' AS external_id, 'a@example.com' AS keep_email, [] AS keep_prioritization",
            "keep_prioritization",
            "is missing",
        ),
        (
            "'u1' AS external_id, 'ada' AS keep_email, ['identified'] AS keep_prioritization",
            "keep_email",
            "is not a valid email address",
        ),
        ("'u1' AS external_id, {'alias_name': 'b'} AS keep_user_alias", "keep_user_alias", "has no alias_label"),
        ("'u1' AS external_id, repeat('é', 494) AS keep_external_id", "keep_external_id", "is longer than 987 bytes"),
    ],
)
@pytest.mark.sampled(3)
def test_user_to_keep_is_checked_before_anything_is_sent(people: Shop, columns: str, column: str, reason: str):
    people.sync("it", f"SELECT {columns}", **MERGES)
    assert invalid(people) == [("u1", column, reason)]
    assert merged(people) == []


def test_canary_looks_whether_users_are_gone(people: Shop):
    result = merging(people, ("u1", "u2"), ("u3", "u4")).run("it", canary=1)
    assert (result.status, [len(one) for one in merged(people)]) == ("success", [1, 1])
    assert result.canary == CanaryResult(1, 1, 1, 1, 1, [], [], 0.025)


@pytest.mark.long
def test_killed_run_loses_no_merge_and_what_it_has_merged_stays_gone(people: Shop):
    pairs = [(f"a{number}", f"u{number % 6}") for number in range(120)]
    merging(people, *pairs, guards={"max_merges": 200})
    with running(people, Held(people.braze, external_ids=["a60"])) as process:
        process.kill()
    assert people.run("it").status == "success"
    assert people.rows_of("deleted", "count(*)", sync="it") == [(120,)]
    assert {one["identifier_to_merge"]["external_id"] for request in merged(people) for one in request} == {
        one for one, _ in pairs
    }
    people.sync("people", "SELECT 'a1' AS external_id, CAST(7 AS BIGINT) AS n")
    assert people.run("people").plan.suppressed == 1
