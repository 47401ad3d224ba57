"""Deleting users, which cannot be undone: how many at once, and not before they were listed for a while."""

import json
from datetime import timedelta
from gzip import compress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.runs.outcome import Options
from reverse_etl.runs.run import baseline, jobs_of, opened, plan_sync
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.look import rows_not_in_braze
from tests.bucket import Bucket
from tests.shop import FakeClock, Retl, Shop, examples

GONE = {"mode": "users_delete", "allow_destructive": True}
LISTED = "SELECT external_id FROM gone"


@pytest.fixture
def gone(shop: Shop) -> Shop:
    """A shop with a table of users to delete: u1, u2."""
    shop.warehouse("CREATE TABLE gone AS SELECT * FROM (VALUES ('u1'), ('u2')) AS t(external_id)")
    return shop


def after(shop: Shop, **passed: int) -> Shop:
    """The same shop, so much later than now."""
    shop.clock = FakeClock(ahead=timedelta(**passed))
    return shop


def many(shop: Shop, users: int) -> None:
    """So many users are to be deleted."""
    shop.warehouse(f"CREATE OR REPLACE TABLE gone AS SELECT 'u' || i AS external_id FROM range({users}) r(i)")


def deleted(shop: Shop) -> int:
    """How many users Braze was asked to delete so far."""
    bodies = [json.loads(request.body) for request in shop.braze.requests() if request.path == "/users/delete"]
    return sum(len(ids) for body in bodies for ids in body.values())


def is_in_braze(shop: Shop, name: str, sql: str, **options: object) -> None:
    """A sync whose rows are taken for sent."""
    shop.sync(name, sql, **options)
    project = shop.project()
    baseline(jobs_of(project, [project.sync(name)], Options(), shop.listener)[0])


# --- max_deletes -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_bad_join_deletes_nobody_until_the_number_is_typed(gone: Shop):
    many(gone, 102)
    gone.sync("it", LISTED, **GONE)
    said = "it: guard max_deletes: 102 users would be deleted; at most 50 are allowed (50, or 0.1% of 0 users in the target's states)"
    hint = "check the model: `retl show it`; --skip-guard max_deletes=102 may delete these users, for good"
    for skipped, more in {
        (): "",
        ("max_deletes",): ", and --skip-guard max_deletes needs a number",
        ("max_deletes=101",): ", and --skip-guard max_deletes=101 allows 101",
    }.items():
        result = gone.run(skip_guards=skipped)
        assert [(error.message, error.hint) for error in result.errors] == [(said + more, hint)]
        assert (result.status, result.exit_code, deleted(gone)) == ("blocked", 1, 0)
    assert gone.run(skip_guards=["max_deletes=102"]).delivery.accepted == 102
    again = gone.run(full_refresh=True)
    assert (again.status, again.plan.deletes, deleted(gone)) == ("blocked", 102, 102)


@pytest.mark.long
def test_max_deletes_counts_users_whose_rows_are_removed_and_none_that_are_only_sent(gone: Shop):
    many(gone, 130)
    options = {"on_removed": "delete", "allow_destructive": True, "guards": {"max_removed": "100%"}}
    assert gone.sync("it", "SELECT external_id, 'x' AS tier FROM gone", **options).run().delivery.accepted == 130
    gone.warehouse("DELETE FROM gone WHERE external_id < 'u3'")
    blocked = gone.run(skip_guards=["max_removed"])
    assert [error.message for error in blocked.errors] == [
        "it: guard max_deletes: 53 users would be deleted; at most 50 are allowed (50, or 0.1% of 130 users in the target's states)"
    ]
    assert (gone.run(skip_guards=["max_deletes=60"]).delivery.accepted, deleted(gone)) == (53, 53)


@pytest.mark.long
def test_saved_plan_is_measured_when_it_is_applied(gone: Shop, retl: Retl):
    many(gone, 51)
    gone.sync("it", LISTED, **GONE)
    assert retl("plan", "it", "--out", "p", "--output", "json", folder=gone.folder).code == 1
    for words in ([], ["--skip-guard", "max_deletes"], ["--skip-guard", "max_deletes=50"]):
        assert retl("apply", "p", *words, folder=gone.folder).code == 1
    assert deleted(gone) == 0
    assert retl("apply", "p", "--skip-guard", "max_deletes=51", folder=gone.folder).code == 0
    assert deleted(gone) == 51


@pytest.mark.long
def test_plan_that_was_saved_before_deletes_were_counted_is_measured_too(gone: Shop, retl: Retl):
    many(gone, 51)
    gone.sync("it", LISTED, **GONE)
    retl("plan", "it", "--out", "p", folder=gone.folder)
    with duckdb.connect(gone.folder / "p") as file:
        ((text,),) = file.execute("SELECT plan FROM syncs").fetchall()
        counts = json.loads(text)
        for name in ("deletes", "withheld", "quarantined"):
            del counts[name]
        file.execute("UPDATE syncs SET plan = ?", [json.dumps(counts)])
    digest = ("--digest", sha256((gone.folder / "p").read_bytes()).hexdigest())
    blocked = retl("apply", "p", *digest, folder=gone.folder)
    assert (blocked.code, "guard max_deletes: 51 users would be deleted" in blocked.err) == (1, True)
    assert retl("apply", "p", *digest, "--skip-guard", "max_deletes=51", folder=gone.folder).code == 0
    assert deleted(gone) == 51


@pytest.mark.long
def test_users_that_the_states_know_are_counted_once_and_only_those_in_braze(gone: Shop):
    is_in_braze(gone, "all", "SELECT i AS external_id, 1 AS n FROM range(60_000) r(i)")
    is_in_braze(gone, "some", "SELECT i AS external_id, 2 AS m FROM range(30_000) r(i)")
    seen = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range(90_000) r(i)"
    is_in_braze(gone, "events", seen, mode="users_track", track_record_type="events", primary_key="external_id")
    group = "SELECT i // 2 AS external_id, 'g' || i % 2 AS subscription_group_id, 'subscribed' AS subscription_state"
    is_in_braze(gone, "groups", f"{group} FROM range(100_000) r(i)", mode="subscription_status_set")
    many(gone, 61)
    assert [error.message for error in gone.sync("it", LISTED, **GONE).run("it").errors] == [
        "it: guard max_deletes: 61 users would be deleted; at most 60 are allowed (0.1% of 60,000 users in the target's states)"
    ]
    gone.warehouse("DELETE FROM gone WHERE external_id = 'u1'")
    assert gone.run("it").delivery.accepted == 60


@pytest.mark.long
def test_heads_of_shared_states_tell_how_many_users_there_are_without_a_download(tmp_path: Path, braze: Sandbox):
    with Bucket() as bucket:
        shop = Shop(tmp_path / "shop", braze, state={"path": bucket.url})
        shop.environ |= bucket.environ
        is_in_braze(shop, "all", "SELECT i AS external_id, 1 AS n FROM range(200) r(i)")
        assert bucket.objects("all").read("head.json")
        many(shop, 100)
        shop.sync("it", LISTED, **GONE, guards={"max_deletes": "50%"})
        bucket.log.clear()
        assert shop.run("it").delivery.accepted == 100
        assert [path for verb, path in bucket.log if verb == "GET" and "/all/state" in path] == []


@pytest.mark.long
@settings(max_examples=examples(4, 60), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),  # users that are to be deleted
            st.sampled_from([None, 0, 2, "50%", "100%"]),  # of the guard
            st.sampled_from([None, 0, 1, 5]),  # what is typed
            st.booleans(),  # with a full refresh
        ),
        min_size=3,
        max_size=5,
    )
)
def test_no_run_deletes_more_than_is_allowed_or_typed(history: list[tuple[int, int | str | None, int | None, bool]]):
    with TemporaryDirectory() as folder, Sandbox() as braze:
        shop = Shop(Path(folder), braze)
        is_in_braze(shop, "all", "SELECT i AS external_id, 1 AS n FROM range(6) r(i)")
        for users, bound, typed, full_refresh in history:
            many(shop, users)
            guards = {} if bound is None else {"max_deletes": bound}
            shop.sync("it", LISTED, **GONE, guards={"empty_model": False, **guards})
            before = deleted(shop)
            skipped = [] if typed is None else [f"max_deletes={typed}"]
            result = shop.run("it", skip_guards=["max_deletes"] if typed == 0 else skipped, full_refresh=full_refresh)
            allowed = {None: 50, 0: 0, 2: 2, "50%": 3, "100%": 6}[bound]
            assert deleted(shop) - before <= max(allowed, typed or 0)
            if result.plan.deletes > max(allowed, typed or 0):
                assert (result.status, deleted(shop)) == ("blocked", before)
            else:
                assert (result.status, deleted(shop) - before) == ("success", result.plan.deletes)


# --- by email and phone ----------------------------------------------------------------------------------------------

NAMED = """SELECT * FROM (VALUES
    ('u1', NULL, NULL, NULL),
    (NULL, 'ada@example.com', NULL, ['unidentified', 'most_recently_updated']),
    (NULL, NULL, '+14155552671', ['identified'])
) AS t(external_id, email, phone, prioritization)"""


@pytest.mark.long
def test_users_are_deleted_by_email_and_phone_with_braze_s_prioritization(shop: Shop):
    users = """SELECT * FROM (VALUES ('u1', 'ben@example.com', NULL), ('u2', 'ada@example.com', NULL),
        ('u3', NULL, '+14155552671'), ('u4', NULL, '+14155552672')) AS t(external_id, email, phone)"""
    shop.sync("users", users).run("users")
    anonymous = "SELECT 'a1' AS alias_name, 'cookie' AS alias_label, 'ada@example.com' AS email"
    shop.sync("anonymous", anonymous).run("anonymous")
    result = shop.sync("it", NAMED, **GONE).run("it")
    assert (result.status, result.plan.deletes, result.delivery.accepted) == ("success", 3, 3)
    assert sorted(request.body for request in shop.braze.requests() if request.path == "/users/delete") == [
        '{"email_addresses":[{"email":"ada@example.com","prioritization":["unidentified","most_recently_updated"]}]}',
        '{"external_ids":["u1"]}',
        '{"phone_numbers":[{"phone":"+14155552671","prioritization":["identified"]}]}',
    ]
    assert [shop.braze.profile(external_id=f"u{i}") is not None for i in (1, 2, 3, 4)] == [False, True, False, True]
    assert shop.braze.profile(alias=("a1", "cookie")) is None
    assert shop.run("it").delivery.requests == 0


def test_email_without_a_usable_prioritization_is_invalid_and_an_id_needs_none(shop: Shop):
    rows = """SELECT * FROM (VALUES
        (NULL, 'a@example.com', NULL),
        (NULL, 'b@example.com', '[]'),
        (NULL, 'c@example.com', '["identified","unidentified"]'),
        (NULL, 'd@example.com', '["least_recently_updated"]'),
        (NULL, 'e@example.com', '{"identified":1}'),
        ('u1', 'f@example.com', '["identified"]'),
        (NULL, 'g@example.com', '["identified"]'),
        ('u2', NULL, '["nonsense"]')
    ) AS t(external_id, email, prioritization)"""
    options = {"pre_formatted_fields": ["prioritization"], "skip_on_invalid_records": True}
    result = shop.sync("it", rows, **GONE, **options).run()
    words = "identified, unidentified, most_recently_updated"
    assert sorted((row.column, row.reason) for row in result.invalid) == [
        ("external_id", "is ambiguous: more than one of external_id, email is set"),
        ("prioritization", "is ambiguous: both identified and unidentified are set"),
        ("prioritization", "is missing"),
        ("prioritization", "is missing"),
        ("prioritization", "is not a JSON array"),
        ("prioritization", f"is not one of {words}"),
    ]
    assert "@" not in str(result.invalid)
    assert sorted(shop.sent()) == [
        '{"email_addresses":[{"email":"g@example.com","prioritization":["identified"]}]}',
        '{"external_ids":["u2"]}',
    ]


def test_email_needs_a_column_that_says_which_profile_is_meant(shop: Shop):
    shop.sync("it", "SELECT 'a@example.com' AS email, 'u1' AS external_id", **GONE)
    assert [(str(error.location), error.message, error.hint) for error in shop.run().errors] == [
        (
            "models/it.sql",
            'column "email" requires column "prioritization" in mode users_delete',
            "add it, a list that says which profile is meant, of identified, unidentified, most_recently_updated",
        )
    ]


def test_email_to_identify_needs_priorities_that_do_not_clash_and_an_alias_needs_none(shop: Shop):
    rows = """SELECT *, 'u' || email AS external_id FROM (VALUES
        ('a1', NULL, NULL),
        (NULL, 'a@x.example', NULL),
        (NULL, 'b@x.example', ['unidentified', 'identified']),
        (NULL, 'c@x.example', ['most_recently_updated', 'identified', 'least_recently_updated']),
        (NULL, 'd@x.example', ['newest']),
        (NULL, 'e@x.example', ['unidentified', 'least_recently_updated'])
    ) AS t(alias_name, email, prioritization)"""
    rows = f"SELECT * REPLACE (coalesce(external_id, 'u') AS external_id), 'cookie' AS alias_label FROM ({rows})"
    rows = rows.replace("'cookie' AS", "CASE WHEN alias_name IS NOT NULL THEN 'cookie' END AS")
    result = shop.sync("it", rows, mode="users_identify", skip_on_invalid_records=True).run()
    words = "identified, unidentified, most_recently_updated, least_recently_updated"
    assert sorted((row.column, row.reason) for row in result.invalid) == [
        ("prioritization", "is ambiguous: both identified and unidentified are set"),
        ("prioritization", "is ambiguous: both most_recently_updated and least_recently_updated are set"),
        ("prioritization", "is missing"),
        ("prioritization", f"is not one of {words}"),
    ]
    assert sorted(shop.sent()) == [
        '{"aliases_to_identify":[{"user_alias":{"alias_name":"a1","alias_label":"cookie"},"external_id":"u"}]}',
        '{"emails_to_identify":[{"email":"e@x.example","prioritization":["unidentified","least_recently_updated"],"external_id":"ue@x.example"}]}',
    ]
    shop.sync("it", "SELECT 'a@example.com' AS email, 'u1' AS external_id", mode="users_identify")
    (error,) = shop.run().errors
    assert error.message == 'column "email" requires column "prioritization" in mode users_identify'


# --- quarantine ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_user_is_deleted_only_after_it_was_listed_throughout_its_quarantine(gone: Shop):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours")
    first = gone.run()
    assert (first.status, first.exit_code, first.plan.to_send, first.plan.quarantined) == ("success", 0, 0, 2)
    assert [row.key for row in first.withheld] == ["u1", "u2"]
    gone.warehouse("INSERT INTO gone VALUES ('u3')")
    assert after(gone, hours=23).run().plan.withheld == 3
    last = after(gone, hours=25).run()
    assert (last.exit_code, last.plan.deletes, last.plan.quarantined) == (0, 2, 1)
    assert gone.sent() == ['{"external_ids":["u1","u2"]}']
    assert after(gone, hours=48).run().delivery.accepted == 1
    assert gone.sent()[1:] == ['{"external_ids":["u3"]}']
    assert gone.rows_of("rejects") == []


@pytest.mark.long
def test_user_who_left_the_list_in_between_waits_anew(gone: Shop):
    gone.sync("it", LISTED, **GONE, quarantine="1 day").run()
    gone.warehouse("DELETE FROM gone WHERE external_id = 'u1'")
    after(gone, hours=12).run()
    gone.warehouse("INSERT INTO gone VALUES ('u1')")
    result = after(gone, hours=25).run()
    assert (gone.sent(), [row.key for row in result.withheld]) == (['{"external_ids":["u2"]}'], ["u1"])


@pytest.mark.long
@settings(max_examples=examples(4, 60), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 14),  # hours since the run before
            st.sets(st.sampled_from("abc")),  # who is listed
            st.booleans(),  # with a full refresh
        ),
        min_size=4,
        max_size=6,
    )
)
def test_nobody_is_deleted_whom_not_every_run_of_a_day_has_listed(history: list[tuple[int, set[str], bool]]):
    with TemporaryDirectory() as folder, Sandbox() as braze:
        shop, now, since = Shop(Path(folder), braze), 0, dict[str, int]()
        shop.warehouse("CREATE TABLE gone (external_id VARCHAR)")
        shop.sync("it", LISTED, **GONE, quarantine="24 hours", guards={"empty_model": False})
        done = set[str]()
        for hours, listed, full_refresh in history:
            now += hours
            shop.warehouse("DELETE FROM gone")
            for user in sorted(listed):
                shop.warehouse("INSERT INTO gone VALUES (?)", user)
            done = set() if full_refresh else done & listed  # a user who left the list, and returns, is deleted again
            since = {user: since.get(user, now) for user in listed - done}
            due = {user for user, first in since.items() if now - first >= 24}
            before = len(shop.sent())
            result = after(shop, hours=now, seconds=now).run("it", full_refresh=full_refresh)
            sent = [user for body in shop.sent()[before:] for user in json.loads(body)["external_ids"]]
            assert (sorted(sent), result.plan.quarantined) == (sorted(due), len(since) - len(due))
            assert (result.status, result.exit_code) == ("success", 0)
            done |= due
            since = {user: first for user, first in since.items() if user not in due}


@pytest.mark.long
def test_removed_user_waits_and_is_spared_if_its_row_returns(gone: Shop):
    gone.sync(
        "it",
        "SELECT external_id, 'x' AS tier FROM gone",
        on_removed="delete",
        allow_destructive=True,
        quarantine="24 hours",
        guards={"max_removed": "100%"},
    ).run()
    gone.warehouse("DELETE FROM gone")
    gone.warehouse("INSERT INTO gone VALUES ('u3')")
    result = gone.run()
    assert (result.exit_code, result.plan.quarantined, result.delivery.accepted) == (0, 2, 1)
    gone.warehouse("INSERT INTO gone VALUES ('u1')")
    assert after(gone, hours=30).run().plan.unchanged == 2
    assert json.loads(gone.sent()[-1]) == {"external_ids": ["u2"]}
    assert len(gone.sent()) == 3


@pytest.mark.long
def test_full_refresh_and_retry_do_not_shorten_a_quarantine(gone: Shop, retl: Retl):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours").run()
    assert gone.run(full_refresh=True).plan.quarantined == 2
    assert retl("retry", "it", folder=gone.folder).code == 0
    assert gone.sent() == []


@pytest.mark.long
def test_user_who_has_waited_and_could_not_be_deleted_does_not_wait_again(gone: Shop):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours").run()
    gone.braze.add_fault(Fault("status", status=401))
    assert after(gone, hours=25).run().status == "failed"
    gone.braze.clear_faults()
    assert after(gone, hours=26).run().delivery.accepted == 2


@pytest.mark.long
def test_saved_plan_counts_as_listed_when_it_is_applied(gone: Shop, retl: Retl):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours")
    assert retl("plan", "it", "--out", "p", folder=gone.folder).code == 0
    assert retl("apply", "p", folder=gone.folder).code == 0
    assert gone.sent() == []
    assert after(gone, hours=25).run().delivery.accepted == 2


@pytest.mark.long
def test_users_in_quarantine_are_listed_wherever_rows_are(gone: Shop, retl: Retl):
    gone.warehouse("INSERT INTO gone VALUES ('ada@example.com')")
    gone.sync("it", LISTED, **GONE, quarantine="24 hours")
    planned = retl("plan", "it", folder=gone.folder)
    assert (planned.code, "3 rows in quarantine: not deleted yet" in planned.out) == (0, True)
    (preview,) = json.loads(retl("plan", "it", "--output", "json", folder=gone.folder).out)
    assert (preview["withheld"], preview["quarantined"], preview["deletes"]) == (3, 3, 0)
    ran = retl("sync", "it", folder=gone.folder)
    assert (ran.code, ", nothing to send, 0 requests; 3 in quarantine" in ran.out) == (0, True)
    listed = json.loads(retl("rejects", "it", "--output", "json", folder=gone.folder).out)
    assert {(row["status"], row["code"], row["kind"]) for row in listed} == {("withheld", "R080", "added")}
    until = listed[1]["reason"].removeprefix("is in quarantine until ")
    hint = "check that this user is to be deleted: a run after that time deletes it, unless it leaves the list"
    told = " ".join(ran.err.split())
    assert f" 3 external_id is in quarantine until {until} {hint} external_id:" in told
    assert told.endswith(", u1, u2")
    assert "ada@example.com" not in f"{planned} {ran} {listed} {preview}"
    assert retl("status", folder=gone.folder).out.split("\n")[1].split()[-2:] == ["0", "0"]


@pytest.mark.long
def test_removed_user_whom_braze_does_not_delete_is_a_rejected_row(shop: Shop):
    """Its error names the array of the call that deletes, not that of the mode."""
    users = "SELECT 'u' || i AS external_id, i AS n FROM range({rows}) r(i)"
    on_removed = {"on_removed": "delete", "allow_destructive": True, "guards": {"max_removed": "100%"}}
    shop.sync("it", users.format(rows=4), **on_removed).run()
    refused = [{"type": "not now", "input_array": "external_ids", "index": 1}]
    body = json.dumps({"message": "success", "deleted": 1, "errors": refused})
    shop.braze.add_fault(Fault("status", status=201, body=body, path="/users/delete"))
    result = shop.sync("it", users.format(rows=2), **on_removed).run()
    assert (result.delivery.accepted, result.delivery.rejected, result.delivery.in_doubt) == (1, 1, 0)
    assert shop.rows_of("rejects", "key", "reason") == [("u3", "not now")]
    (row,) = rows_not_in_braze(shop.project(), shop.project().sync("it"), show_values=False)
    assert row["hint"] is None  # `retl retry` would delete the user


# --- what is uploaded ------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_run_that_deletes_few_users_has_nothing_of_those_who_were_deleted_before(gone: Shop):
    many(gone, 20_000)
    gone.sync("it", LISTED, **GONE)
    project = gone.project()
    (job,) = jobs_of(project, [project.sync("it")], Options(clock=gone.clock), gone.listener)
    baseline(job)
    gone.warehouse("DELETE FROM gone WHERE external_id IN ('u7', 'u8'); INSERT INTO gone VALUES ('new')")
    with opened(job) as state:
        planned = plan_sync(job, state).plan
        assert (planned.deletes, planned.unchanged) == (1, planned.rows - 1)
        uploaded = state.run.outbox_path.read_bytes()
        assert (b"u12345" in uploaded, len(compress(uploaded)) < 20_000) == (False, True), len(compress(uploaded))
        assert state.connection.execute("SELECT key FROM retl_run.main.outbox").fetchall() == [("new",)]
    assert gone.run(skip_guards=["max_deletes=1"]).delivery.accepted == 1
    with duckdb.connect(gone.folder / ".retl/test/it/state.duckdb", read_only=True) as state:
        assert state.execute("SELECT count(*) FROM deleted").fetchall() == [(planned.rows,)]
    assert (gone.run().plan.deletes, deleted(gone)) == (0, 1)


@pytest.mark.long
def test_user_who_leaves_the_list_and_returns_is_deleted_again(gone: Shop):
    gone.sync("it", LISTED, **GONE)
    gone.run()
    gone.warehouse("DELETE FROM gone WHERE external_id = 'u1'")
    assert (gone.run().plan.deletes, deleted(gone)) == (0, 2)
    gone.warehouse("INSERT INTO gone VALUES ('u1')")
    assert (gone.run().plan.deletes, deleted(gone)) == (1, 3)
