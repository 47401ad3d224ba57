"""Users who left the model: kept in the state for `keep_removed`, then forgotten, and sent whole when they come back."""

import json
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.sandbox import Sandbox
from tests.shop import Retl, Shop, database, examples, running

PEOPLE = "SELECT id AS external_id, language, email FROM people"
KEPT = timedelta(days=90)


def people(shop: Shop, *rows: tuple[str, str], sql: str = PEOPLE, **options: Any) -> Shop:
    """A sync of these users, with their language."""
    shop.warehouse("CREATE OR REPLACE TABLE people (id VARCHAR, language VARCHAR, email VARCHAR)")
    for user, language in rows:
        shop.warehouse("INSERT INTO people VALUES (?, ?, ?)", user, language, f"{user}@example.com")
    return shop.sync("it", sql, **options)


def later(shop: Shop, **time: float) -> None:
    shop.clock.ahead += timedelta(**time)


def kept(shop: Shop) -> list[str]:
    return [user for (user,) in shop.rows_of("state", "external_id")]


def absent(shop: Shop) -> list[str]:
    return [user for user, since in shop.rows_of("state", "external_id", "_retl_absent_since::VARCHAR") if since]


@pytest.mark.long
def test_user_who_left_is_forgotten_after_a_while_and_nothing_is_sent_and_it_is_said(shop: Shop):
    people(shop, ("u1", "en"), ("u2", "en")).run()
    people(shop, ("u2", "en"))
    result = shop.run()
    assert (result.status, result.plan.removed, kept(shop), absent(shop)) == ("success", 0, ["u1", "u2"], ["u1"])
    told = "it: 1 row has left the model: the state forgets it after 90 days (keep_removed), Braze does not"
    assert shop.listener.notices == [told]
    later(shop, days=89)
    shop.run()
    assert kept(shop) == ["u1", "u2"]
    later(shop, days=2)
    result = shop.run()
    assert (result.delivery.requests, result.status, kept(shop)) == (0, "success", ["u2"])
    assert shop.listener.notices == [
        told,
        "it: the state forgot 1 row not in the model for 90 days (keep_removed); Braze keeps it",
    ]
    assert len(shop.braze.requests()) == 1


@pytest.mark.parametrize("away", [80, 100])
@pytest.mark.long
def test_user_who_comes_back_is_sent_whole_once_forgotten(shop: Shop, away: int):
    people(shop, ("u1", "en"), ("u2", "en")).run()
    people(shop, ("u2", "en")).run()
    later(shop, days=away)
    shop.run()
    people(shop, ("u1", "de"), ("u2", "en"))
    result = shop.run()
    assert (result.plan.added, result.plan.changed) == ((1, 0) if away > 90 else (0, 1))
    (sent,) = json.loads(shop.sent()[-1])["attributes"]
    whole = {"external_id": "u1", "language": "de", "email": "u1@example.com"}
    assert sent == (whole if away > 90 else {"external_id": "u1", "language": "de"})
    assert absent(shop) == []


@pytest.mark.long
def test_user_who_was_back_in_between_counts_anew(shop: Shop):
    people(shop, ("u1", "en"), ("u2", "en")).run()
    for there in (False, True, False):
        people(shop, *([("u1", "en")] if there else []), ("u2", "en")).run()
        assert absent(shop) == ([] if there else ["u1"])
        later(shop, days=80)
    shop.run()
    assert kept(shop) == ["u1", "u2"]


def test_run_in_which_nobody_comes_or_goes_leaves_the_state_as_it_is(shop: Shop):
    people(shop, ("u1", "en"), ("u2", "en")).run()
    people(shop, ("u2", "en")).run()
    version = "(SELECT value FROM meta WHERE key = 'version')"
    before = shop.rows_of("state", "*", version)
    later(shop, days=1)
    shop.run()
    assert shop.rows_of("state", "*", version) == before


@pytest.mark.long
def test_users_are_kept_forever_if_that_is_said(shop: Shop):
    people(shop, ("u1", "en"), ("u2", "en"), keep_removed="forever").run()
    people(shop, ("u2", "en"), keep_removed="forever").run()
    later(shop, days=4000)
    shop.run()
    assert (kept(shop), shop.listener.notices) == (["u1", "u2"], [])


def test_state_of_before_forgets_nobody_at_once(shop: Shop):
    """Nobody knows since when they are away: that counts from the first run."""
    people(shop, ("u1", "en"), ("u2", "en"), ("u3", "en"), keep_removed="forever").run()
    people(shop, ("u3", "en"))
    shop.run()
    later(shop, days=89)
    shop.run()
    assert kept(shop) == ["u1", "u2", "u3"]
    assert shop.listener.notices == [
        "it: 2 rows have left the model: the state forgets them after 90 days (keep_removed), Braze does not"
    ]


CONSENT = "SELECT id AS external_id, language AS email_subscribe, email FROM people"


@pytest.mark.long
def test_what_a_user_agreed_to_outlives_the_rest_of_the_row(shop: Shop):
    """Of u1, the state knows an opt-out. Of u3, only Braze may: an opt-in that is sent again would end it."""
    people(shop, ("u1", "subscribed"), ("u2", "subscribed"), ("u3", "subscribed"), sql=CONSENT).run()
    people(shop, ("u1", "unsubscribed"), ("u2", "subscribed"), ("u3", "subscribed"), sql=CONSENT).run()
    people(shop, ("u2", "subscribed"), sql=CONSENT).run()
    later(shop, days=91)
    shop.run()
    assert shop.rows_of("state", "external_id", "email", "email_subscribe") == [
        ("u1", None, "unsubscribed"),
        ("u2", "u2@example.com", "subscribed"),
        ("u3", None, "subscribed"),
    ]
    before = len(shop.sent())
    later(shop, days=300)
    version = [row for row in shop.rows_of("meta") if row[0] != "to_send"]  # which names the run that it is of
    shop.run()
    assert [row for row in shop.rows_of("meta") if row[0] != "to_send"] == version
    people(shop, ("u1", "subscribed"), ("u2", "subscribed"), ("u3", "subscribed"), sql=CONSENT)
    assert shop.run().plan.withheld == 1
    sent = [row for body in shop.sent()[before:] for row in json.loads(body)["attributes"]]
    assert {row["external_id"]: row.get("email_subscribe") for row in sent} == {"u1": "unsubscribed", "u3": None}
    assert {row["external_id"]: row.get("email") for row in sent} == {f"u{n}": f"u{n}@example.com" for n in (1, 3)}
    assert absent(shop) == []


@pytest.mark.long
def test_operation_is_not_sent_again_for_having_been_forgotten(shop: Shop):
    sql = "SELECT id AS external_id, CAST('{\"inc\": 1}' AS JSON) AS visits FROM people"
    people(shop, ("u1", "en"), ("u2", "en"), sql=sql).run()
    people(shop, ("u2", "en"), sql=sql).run()
    later(shop, days=100)
    shop.run()
    people(shop, ("u1", "en"), ("u2", "en"), sql=sql)
    assert (shop.run().plan.to_send, kept(shop)) == (0, ["u1", "u2"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("mode", "sql"),
    [
        ("users_alias_new", "SELECT id AS external_id, email AS alias_name, 'mail' AS alias_label FROM people"),
        ("users_alias_new", "SELECT email AS alias_name, 'mail' AS alias_label FROM people"),
        ("users_identify", "SELECT id AS external_id, email, ['most_recently_updated'] AS prioritization FROM people"),
    ],
)
def test_rows_of_other_modes_are_forgotten_too(shop: Shop, mode: str, sql: str):
    options = {"mode": mode, "guards": {"empty_model": False}}
    people(shop, ("u1", "en"), ("u2", "en"), sql=sql, **options).run()
    assert len(shop.rows_of("state", "1")) == 2
    people(shop, ("u2", "en"), sql=sql, **options).run()
    later(shop, days=91)
    shop.run()
    assert len(shop.rows_of("state", "1")) == 1
    people(shop, ("u1", "en"), ("u2", "en"), sql=sql, **options)
    assert shop.run().plan.added == 1


@pytest.mark.long
def test_run_that_is_blocked_forgets_nobody(shop: Shop):
    people(shop, ("u1", "en"), ("u2", "en")).run()
    people(shop, ("u2", "en")).run()
    people(shop, ("u3", "en"), ("u2", "en"), guards={"max_changes": 0})
    later(shop, days=91)
    assert shop.run().status == "blocked"
    assert kept(shop) == ["u1", "u2"]
    people(shop, ("u3", "en"), ("u2", "en"))
    shop.run()
    assert kept(shop) == ["u2", "u3"]


@pytest.mark.long
def test_what_a_killed_run_was_about_to_forget_is_forgotten_when_it_is_recovered(shop: Shop, retl: Retl):
    people(shop, ("u1", "en"), ("u2", "en"), ("u4", "en")).run()
    people(shop, ("u2", "en")).run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("UPDATE state SET _retl_absent_since = _retl_absent_since - INTERVAL 91 DAY")
    people(shop, ("u2", "en"), ("u3", "en"), ("u4", "en"))
    with running(shop, until="u3") as process:
        process.kill()
        process.wait()
    assert kept(shop) == ["u1", "u2", "u4"]
    assert retl("status", folder=shop.folder).code == 0
    assert (kept(shop), absent(shop)) == (["u2", "u3", "u4"], [])  # u3 may have arrived


# --- whatever happens ------------------------------------------------------------------------------------------------

USERS = ("a", "b", "c", "d")


@pytest.mark.long
@given(
    steps=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(USERS), st.sampled_from(["en", "de"]), min_size=1),
            st.sampled_from([1, 40, 91]),  # days until the run
            st.sampled_from(["fine", "fine", "fine", "full refresh", "blocked"]),
        ),
        min_size=2,
        max_size=examples(6, 10),
    )
)
@settings(max_examples=examples(6, 100))
def test_state_keeps_and_sends_what_an_oracle_does(steps):
    with TemporaryDirectory() as folder, Sandbox() as braze:
        shop, now = Shop(Path(folder) / "shop", braze), timedelta()
        known: dict[str, str] = {}
        since: dict[str, timedelta] = {}
        for model, days, how in steps:
            later(shop, days=days)
            now += timedelta(days=days)
            expected = {user for user, language in model.items() if known.get(user) != language}
            if how == "full refresh":
                expected = set(model)
            is_blocked = how == "blocked" and bool(expected)
            people(shop, *model.items(), **({"guards": {"max_changes": 0}} if how == "blocked" else {}))
            before = len(shop.sent())
            result = shop.run(full_refresh=how == "full refresh")
            assert result.status == ("blocked" if is_blocked else "success")
            sent = [row["external_id"] for body in shop.sent()[before:] for row in json.loads(body)["attributes"]]
            assert sorted(sent) == ([] if is_blocked else sorted(expected))
            if is_blocked:
                continue
            gone = known.keys() - model.keys()
            if how != "full refresh":  # which does not look for who is gone
                over = {user for user in gone if user in since and now - since[user] > KEPT}
                known = {user: language for user, language in known.items() if user not in over}
                since = {user: since.get(user, now) for user in gone - over}
            else:
                since = {user: at for user, at in since.items() if user in gone}
            known |= model
            assert kept(shop) == sorted(known)
            assert absent(shop) == sorted(since)
