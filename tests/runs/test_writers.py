"""Two syncs that write the same attribute: said before anything is sent, unless both say that it is meant."""

import re

import pytest

from tests.shop import EVENTS, Retl, Shop
from tests.test_docs import text_of

TIERS = "SELECT 'u1' AS external_id, 'gold' AS tier, 3 AS orders UNION ALL SELECT 'u2', 'basic', 1"
OTHERS = TIERS.replace("'gold'", "'silver'").replace("'u2'", "'u3'")


def refused(shop: Shop, name: str) -> list[str]:
    """The errors of a sync, nothing of which is sent."""
    before = shop.sent()
    result = shop.run(name)
    assert (result.status, result.exit_code, shop.sent()) == ("failed", 2, before)
    return [str(problem) for problem in result.errors]


def heard(shop: Shop, *names: str) -> list[str]:
    """What runs of some syncs said, all of which succeed."""
    shop.listener.notices.clear()
    results = shop.run_all(*names)
    assert [(result.status, result.errors) for result in results] == [("success", [])] * len(names)
    return shop.listener.notices


def no_longer_sent(sync: str, column: str) -> str:
    kept = "Braze keeps the values. To clear them, return NULL instead, and drop the column after that run"
    return f"{sync}: column no longer sent: {column}; {kept}"


@pytest.mark.long
def test_two_syncs_that_write_one_attribute_of_one_user_are_refused_until_both_share_it(shop: Shop):
    """They were both told "success" before, and each run overwrote what the other one had sent."""
    shop.sync("a", TIERS).sync("b", OTHERS)
    hint = (
        "\n  hint: let one of them write it: remove the column from the other, or list it in its exclude_columns; "
        "if both are meant to, add shares: [tier, orders] to both"
    )
    said = '"tier", "orders" are written by sync "{}" (syncs.yml:{}:10), too: 1 user is in both models, '
    said += 'and the values differ: "tier" for 1'
    assert refused(shop, "a") == [f"syncs.yml:14:10: a: {said.format('b', 18)}{hint}"]
    assert refused(shop, "b") == [f"syncs.yml:18:10: b: {said.format('a', 14)}{hint}"]
    shop.sync("a", TIERS, shares=["tier", "orders"])
    assert refused(shop, "a") == [f"syncs.yml:18:10: a: {said.format('b', 14)}{hint}"]
    shop.sync("b", OTHERS, shares=["orders", "tier"])
    assert heard(shop, "a", "b") == []
    shop.sync("b", OTHERS, shares=["orders"])
    (one,) = refused(shop, "b")
    assert '"tier" is written by sync "a"' in one
    assert "shares: [tier] to both" in one
    shop.sync("b", OTHERS, shares=["orders"], exclude_columns=["tier"])
    assert heard(shop, "a", "b") == [no_longer_sent("b", "tier")]
    assert heard(shop, "a", "b") == []


@pytest.mark.long
def test_syncs_split_by_users_run_with_one_note(shop: Shop):
    split = "SELECT * FROM (VALUES ('k1', 1, 'KR'), ('j1', 2, 'JP')) AS t(external_id, points, country) WHERE country = '{}'"
    shop.sync("kr", split.format("KR")).sync("jp", split.format("JP"))
    note = '"points", "country" are written by sync "jp" (syncs.yml:18:10), too; no user is in both models'
    assert heard(shop, "kr", "jp") == [f"kr: {note}"]
    assert heard(shop, "jp") == [f"jp: {note.replace('jp', 'kr').replace('18', '14')}"]
    shop.sync("jp", split.format("JP").replace("'j1'", "'k1'"))
    (one,) = refused(shop, "jp")
    assert '1 user is in both models, and the values differ: "points" for 1, "country" for 1\n' in one


def test_answer_about_two_syncs_in_the_docs_has_both_cases():
    (answer,) = re.findall(r"\*\*Can two syncs write one attribute\?\*\* (.*?)\n\n", text_of("docs/faq.md"), re.DOTALL)
    assert answer.startswith("Of different users, yes")
    assert "If a user is in\nboth models, it is error `P096`, unless both syncs list" in answer


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("'5'", "5", 'VARCHAR (a Braze string), and models/b.sql, of sync "b", returns it as INTEGER (a Braze number)'),
        (
            "true",
            "'yes'",
            'BOOLEAN (a Braze boolean), and models/b.sql, of sync "b", returns it as VARCHAR (a Braze string)',
        ),
        (
            "DATE '2026-01-01'",
            "[1]",
            'DATE (a Braze time), and models/b.sql, of sync "b", returns it as INTEGER[] (a Braze array)',
        ),
        (
            "{'a': 1}",
            "[{'a': 1}]",
            'STRUCT(a INTEGER) (a Braze object), and models/b.sql, of sync "b", returns it as STRUCT(a INTEGER)[] (a Braze object array)',
        ),
    ],
    ids=["text", "boolean", "time", "object"],
)
def test_another_type_for_one_name_is_always_an_error(shop: Shop, one: str, other: str, says: str):
    """Whoever is meant, and whatever is shared: Braze keeps one type for all users."""
    shop.sync("a", f"SELECT 'u1' AS external_id, {one} AS score", shares=["score"])
    shop.sync("b", f"SELECT 'b@example.com' AS email, {other} AS score", shares=["score"])
    hint = "CAST it to the same type in both, or rename one of them with AS: Braze keeps the type that it sees first, "
    hint += "and drops or converts values of another one without an error"
    assert refused(shop, "a") == [f'models/a.sql: column "score" is {says}\n  hint: {hint}']
    assert len(refused(shop, "b")) == 1


def test_types_that_braze_does_not_tell_apart_are_one(shop: Shop):
    """And of JSON text, only the values tell."""
    shop.sync("a", "SELECT 'u1' AS external_id, 1 AS n, DATE '2026-01-01' AS day, [1] AS list, '{}'::JSON AS j")
    shop.sync("b", "SELECT 'u2' AS external_id, 1.5 AS n, now() AS day, ['x'] AS list, '[]'::JSON AS j")
    assert heard(shop, "a", "b") == [
        'a: "n", "day", "list", "j" are written by sync "b" (syncs.yml:18:10), too; no user is in both models'
    ]


@pytest.mark.long
def test_fields_of_profiles_count_and_identifiers_do_not(shop: Shop):
    """An email that identifies the user is not written; beside an id, it is. Groups of subscriptions add up."""
    groups = "[{'subscription_group_id': '5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a', 'subscription_state': 'subscribed'}] AS subscription_groups"
    shop.sync("a", f"SELECT 'u1' AS external_id, 'a@example.com' AS email, {groups}, false AS _update_existing_only")
    shop.sync("b", f"SELECT 'b@example.com' AS email, {groups}, false AS _update_existing_only")
    assert heard(shop, "a", "b") == []
    shop.sync("c", "SELECT 1 AS x, 'u1' AS external_id, 'A@example.com' AS email")
    (one,) = refused(shop, "c")
    assert '"email" is written by sync "a" (syncs.yml:14:10), too: 1 user is in both models, and the values' in one


def test_users_with_other_identifiers_are_a_warning(shop: Shop):
    shop.sync("a", "SELECT 'u1' AS external_id, 1 AS score").sync("b", "SELECT 'b@example.com' AS email, 2 AS score")
    assert heard(shop, "a", "b") == [
        'a: "score" is written by sync "b" (syncs.yml:18:10), too: users are identified by external_id here, and by '
        "email there, so whether for the same users is not known; if it is meant, add shares: [score] to both"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7 AS external_id", "'7' AS external_id"),
        ("'A@Example.com' AS email", "'a@example.com' AS email"),
        ("'c' AS alias_name, 'web' AS alias_label", "{'alias_label': 'web', 'alias_name': 'c'} AS user_alias"),
        (
            "'c' AS alias_name, 'web' AS alias_label",
            """'{"alias_label": "web", "alias_name": "c"}'::JSON AS user_alias""",
        ),
        ("NULL AS external_id, 'b1' AS braze_id", "'b1' AS braze_id, 'b@example.com' AS email"),
    ],
    ids=["number", "capitals", "struct", "json", "second"],
)
def test_the_same_user_is_found_however_it_is_spelled(shop: Shop, one: str, other: str):
    shop.sync("a", f"SELECT {one}, [1, 2] AS scores").sync("b", f"SELECT {other}, [2, 1] AS scores")
    (said,) = refused(shop, "a")
    assert '1 user is in both models, and the values differ: "scores" for 1' in said


def test_values_that_are_equal_to_braze_do_not_differ(shop: Shop):
    shop.sync(
        "a", """SELECT 1 AS external_id, 1 AS n, '{"a": 1, "b": 2}'::JSON AS j, 'x' AS t, DATE '2026-01-01' AS dob"""
    )
    shop.sync("b", """SELECT 1 AS external_id, 1.0 AS n, {'b': 2, 'a': 1} AS j, 'x' AS t, '2026-01-01' AS dob""")
    (said,) = refused(shop, "a")
    assert (
        '"dob" are written by sync "b" (syncs.yml:18:10), too: 1 user is in both models, with the same values' in said
    )


def test_whole_model_of_an_incremental_sync_counts(shop: Shop):
    """Its run would return new rows only."""
    rows = "SELECT * FROM (VALUES ('u1', 1, TIMESTAMP '2026-01-01'), ('u2', 2, TIMESTAMP '2026-02-01')) AS t(external_id, {}, seen) "
    new = "{% if is_incremental() %} WHERE seen > {{ cursor() }} {% endif %}"
    shop.sync("a", rows.format("n") + new, incremental={"cursor": "seen"}, exclude_columns=["seen"])
    assert heard(shop, "a") == []
    shop.sync("b", rows.format("n"), exclude_columns=["seen"])
    assert ["2 users are in both models" in refused(shop, name)[0] for name in ("a", "b")] == [True, True]


def test_events_write_no_attributes_and_a_broken_model_stops_nobody_else(shop: Shop):
    shop.sync("a", TIERS).sync("b", "SELECT oops").sync(
        "c", "SELECT 'u1' AS external_id, error('no') AS tier, 1 AS orders"
    )
    shop.sync("d", "SELECT 'u1' AS external_id, 'x' AS name, now() AS time, 1 AS tier", **EVENTS)
    assert heard(shop, "a", "d") == [
        'a: "tier", "orders" are written by sync "c" (syncs.yml:22:10), too; whether for the same users is not known: '
        "one of the models cannot be run"
    ]


@pytest.mark.long
def test_names_that_are_almost_the_same_are_a_warning_once_in_a_command(shop: Shop):
    shop.sync("a", "SELECT 'u1' AS external_id, 'x' AS firstName, 1 AS loyaltyTier")
    shop.sync("b", "SELECT 'u1' AS external_id, 'y' AS first_name, 1 AS loyalty_tier").sync(
        "c", "SELECT 1 AS email, 2 AS n"
    )
    again = "if one is meant, rename it with AS"
    assert heard(shop, "a", "b") == [
        f'a: attributes with almost the same name: "firstName" (a) and "first_name" (b); {again}',
        f'a: attributes with almost the same name: "loyaltyTier" (a) and "loyalty_tier" (b); {again}',
    ]
    shop.syncs = []
    shop.sync("a", "SELECT 'u1' AS external_id, 'x' AS firstName")
    assert heard(shop, "a") == [
        f'a: attributes with almost the same name: "firstName" (a) and "first_name" (a field of Braze); {again}',
        no_longer_sent("a", "loyaltyTier"),
    ]


def test_plan_says_it_debug_says_what_it_can_tell_without_running_a_model(shop: Shop, retl: Retl):
    shop.sync("a", TIERS).sync("b", OTHERS).sync("c", "SELECT 'u1' AS external_id, 1 AS tier, 1 AS Orders")
    plan = retl("plan", "a", folder=shop.folder)
    assert (plan.code, plan.out) == (2, "")
    assert [line.split(": ")[0] for line in plan.err.splitlines() if "hint" not in line] == [
        "syncs.yml:14:10",
        "models/a.sql",
        "syncs.yml:14:10",
    ]
    debug = retl("debug", folder=shop.folder)
    lines = [line for line in debug.out.splitlines() if "attributes" in line]
    assert [line[:5] for line in lines] == ["warn ", "FAIL ", "warn ", "FAIL ", "warn ", "warn "]
    assert lines[0] == 'warn  attributes: a: "tier", "orders" are written by sync "b" (syncs.yml:18:10), too'
    assert lines[-1] == (
        'warn  attributes with almost the same name: "Orders" (c) and "orders" (a, b); if one is meant, rename it with AS'
    )
    assert debug.code == 1


def test_shares_lists_columns_of_the_model_in_attributes_only(shop: Shop, retl: Retl):
    shop.sync("a", TIERS, shares=["teir"])
    assert refused(shop, "a") == [
        'syncs.yml:18:5: "shares" in sync "a": the model has no column "teir"\n  hint: did you mean "tier"?'
    ]
    shop.sync("a", TIERS, shares=["tier"], mode="users_delete", allow_destructive=True)
    assert '"shares" in sync "a" is not supported by mode users_delete' in retl("ls", folder=shop.folder).err
