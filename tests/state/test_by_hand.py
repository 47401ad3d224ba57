"""What people do to a state by hand: resolve doubts, retry rejects, baseline, forget."""

import json
import re
import sys
from collections import Counter
from datetime import timedelta

import pytest

from reverse_etl.plan.actions import Intent
from reverse_etl.project.project import load_project
from reverse_etl.sandbox import Fault
from reverse_etl.state.edit import resolve
from tests.shop import KEY, MANY, FakeClock, Retl, Shop, erased_from, running, some

PEOPLE = "SELECT 'u' || i AS external_id, i AS n FROM range(10) r(i)"
SEEN = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range(10) r(i)"
EVENTS = {"mode": "users_track", "track_record_type": "events"}
KEYED = {**EVENTS, "primary_key": "external_id"}


def in_doubt(shop: Shop, sql: str = SEEN, **options: object) -> Shop:
    """A run whose only request was taken, and whose answer never came."""
    shop.sync("it", sql, **(options or KEYED))
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 10
    return shop


# --- rows in doubt ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_rows_in_doubt_are_listed_and_held_until_somebody_decides_and_resent_once(shop: Shop, retl: Retl):
    in_doubt(shop)
    held = retl("sync", "it", folder=shop.folder)
    assert (held.code, "10 held, in doubt since an earlier run" in held.out) == (1, True)
    look = "10 rows in doubt: `retl rejects it` says which; look for them in Braze, then `retl resolve it`"
    assert (f"it: {look}\n" in held.err, f"it: {look}\n" in retl("status", folder=shop.folder).err) == (True, True)
    listed = retl("rejects", "it", folder=shop.folder).out
    assert "check in Braze, then run `retl resolve it` with --resend or --mark-accepted" in listed
    assert (listed.split()[0], listed.count("in doubt"), listed.splitlines()[1].split()[0]) == ("rows", 1, "10")
    found = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert [(row["status"], row["resolution"]) for row in found] == [("in_doubt", None)] * 10
    assert len(shop.braze.requests()) == 1
    said = retl("resolve", "it", "--resend", "--yes", folder=shop.folder)
    assert said.out == "it: 10 rows will be sent again by the next run, if valid\n"
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 10
    assert len(shop.rows_of("in_doubt")) == 10  # a row that is doubted again stands there once
    retl("resolve", "it", "--resend", "--yes", folder=shop.folder)
    assert (shop.run().delivery.accepted, shop.run().delivery.requests) == (10, 0)
    assert len(shop.braze.events()) == 30  # the first two requests had arrived: that is what the doubts were about
    assert shop.rows_of("in_doubt") == []


@pytest.mark.long
def test_many_rows_are_counted_by_reason_and_the_first_are_listed(shop: Shop, retl: Retl):
    shop.sync("it", SEEN.replace("range(10)", "range(70)"), **KEYED)
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 70
    listed = retl("rejects", "it", folder=shop.folder)
    assert (len(listed.out.splitlines()), listed.out.count("--mark-accepted")) == (1 + 1, 1)
    assert listed.out.splitlines()[-1].split()[0] == "70"
    assert listed.out.endswith("  u0, u1, u10 and 67 more\n")
    assert len(json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)) == 70


@pytest.mark.long
def test_rows_of_all_syncs_are_listed_at_once_but_of_the_one_that_is_running(shop: Shop, retl: Retl):
    in_doubt(shop)
    shop.sync(
        "other", "SELECT 'u1' AS external_id, repeat('x', 300) AS t", strict=True, skip_on_invalid_records=True
    ).run("other")
    shop.sync("fine", "SELECT 'u1' AS external_id").run("fine")
    listed = retl("rejects", folder=shop.folder)
    assert (listed.code, listed.out.split()[:3]) == (0, ["sync", "rows", "kind"])
    found = json.loads(retl("rejects", "--output", "json", folder=shop.folder).out)
    assert Counter(row["sync"] for row in found) == {"it": 10, "other": 1}
    assert retl("rejects", "other", folder=shop.folder).out.split()[:3] == ["rows", "kind", "status"]
    assert retl("rejects", "fine", folder=shop.folder).err == "fine: no invalid, rejected or in-doubt rows\n"
    shop.sync("other", MANY)
    with running(shop, until="u300", arguments=["sync", "other", "--threads", "1"]):
        listed = retl("rejects", "--output", "json", folder=shop.folder)
    assert (listed.code, len(json.loads(listed.out))) == (1, 10)
    assert listed.err.startswith('sync "other" on target "test" is already running: ')


@pytest.mark.long
def test_discarded_doubts_count_as_sent_where_the_whole_row_is_the_key(shop: Shop, retl: Retl):
    in_doubt(shop, **EVENTS)
    said = retl("resolve", "it", "--mark-accepted", folder=shop.folder)
    assert said.out == "it: 10 rows in doubt will be recorded as accepted by the next run\n"
    said = retl("sync", "it", folder=shop.folder)
    of_them = "nothing to send, 0 requests; 10 recorded as accepted, as `retl resolve` has marked them"
    assert (said.code, of_them in said.out, len(shop.braze.events())) == (0, True, 10)
    assert (shop.rows_of("in_doubt"), len(shop.rows_of("state"))) == ([], 10)
    assert shop.run().plan.added == 0


@pytest.mark.long
def test_doubts_are_resolved_one_by_one_and_discarded_ones_count_as_sent(shop: Shop, retl: Retl):
    in_doubt(shop)
    retl("resolve", "it", "--resend", "--yes", "--key", "u3", "--key", "u4", folder=shop.folder)
    result = shop.run()
    assert (result.plan.held, result.delivery.accepted) == (8, 2)
    said = retl("resolve", "it", "--mark-accepted", folder=shop.folder)
    assert said.out == "it: 8 rows in doubt will be recorded as accepted by the next run\n"
    assert retl("rejects", "it", folder=shop.folder).out.split()[:4] == ["rows", "kind", "status", "resolution"]
    found = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert {(row["status"], row["resolution"], row["hint"]) for row in found} == {("in_doubt", "mark_accepted", None)}
    result = shop.run()
    assert (result.status, result.delivery.requests, len(shop.braze.events())) == ("success", 0, 12)
    assert (shop.rows_of("in_doubt"), len(shop.rows_of("state"))) == ([], 10)
    assert shop.run().plan.added == 0


@pytest.mark.long
def test_decision_about_one_row_is_not_overridden_by_one_about_the_others(shop: Shop, retl: Retl):
    in_doubt(shop)
    retl("resolve", "it", "--mark-accepted", "--key", "u3", folder=shop.folder)
    assert retl("resolve", "it", "--resend", "--yes", folder=shop.folder).out.startswith("it: 9 rows")
    again = retl("resolve", "it", "--resend", "--yes", folder=shop.folder)
    assert (again.code, again.err) == (
        1,
        "it: every row in doubt is resolved already\n  hint: to change what was decided, name rows with --key or --keys-from\n",
    )
    result = shop.run()
    assert (result.plan.marked_accepted, result.delivery.accepted) == (1, 9)


# --- keys in a file --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_rows_whose_keys_are_in_a_file_are_resolved_and_no_others(shop: Shop, retl: Retl):
    in_doubt(shop)
    (shop.folder / "keys.txt").write_bytes(b"\xef\xbb\xbfu3\r\n\r\nu4\nu3\n")
    said = retl("resolve", "it", "--mark-accepted", "--keys-from", str(shop.folder / "keys.txt"), folder=shop.folder)
    assert said.out == "it: 2 rows in doubt will be recorded as accepted by the next run\n"
    (shop.folder / "more.txt").write_text("u5")
    more = ["--keys-from", str(shop.folder / "more.txt"), "--key", "u6"]
    assert retl("resolve", "it", "--resend", *more, folder=shop.folder).code == 2  # it asks, as without a file
    said = retl("resolve", "it", "--resend", "--yes", *more, folder=shop.folder)
    assert said.out == "it: 2 rows will be sent again by the next run, if valid\n"
    said = retl("resolve", "it", "--give-up", "--keys-from", str(shop.folder / "more.txt"), folder=shop.folder)
    assert said.out == "it: 1 row given up, and not in Braze: not sent until changed\n"
    result = shop.run()
    assert (result.plan.marked_accepted, result.plan.held, result.plan.given_up) == (2, 6, 1)
    assert (result.delivery.accepted, len(shop.rows_of("state"))) == (1, 3)


@pytest.mark.long
def test_masked_keys_from_stdin_mean_their_rows(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    in_doubt(
        shop, SEEN.replace("'u' || i AS external_id", "'u' || i || '@x.de' AS email"), **EVENTS, primary_key="email"
    )
    listed = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    keys = [row["key"] for row in listed[:4]]
    assert all(re.fullmatch("email:[0-9a-f]{12}", key) for key in keys)
    (shop.folder / "keys.txt").write_text("\n".join(keys))
    with (shop.folder / "keys.txt").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        said = retl("resolve", "it", "--mark-accepted", "--keys-from", "-", folder=shop.folder)
    assert said.out == "it: 4 rows in doubt will be recorded as accepted by the next run\n"
    assert len(shop.rows_of("in_doubt WHERE resolution = 'mark_accepted'")) == 4


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n\r\n", "{} has no key"),
        (b"", "{} has no key"),
        (b"\xff\xfe", "{} is not UTF-8 text"),
        (None, "cannot read {}: No such file or directory"),
    ],
    ids=["blank", "empty", "binary", "missing"],
)
def test_file_without_a_key_means_no_row_and_not_all(shop: Shop, retl: Retl, content: bytes | None, what: str):
    shop.sync("it", SEEN, **KEYED)
    shop.braze.add_fault(Fault("drop_after"))
    shop.run()
    path = shop.folder / "keys.txt"
    if content is not None:
        path.write_bytes(content)
    for decision in ("--mark-accepted", "--resend", "--give-up"):
        said = retl("resolve", "it", decision, "--yes", "--keys-from", str(path), folder=shop.folder)
        assert (said.code, said.err.splitlines()[0]) == (2, f"--keys-from: {what.format(path)}")
    assert set(shop.rows_of("in_doubt", "resolution")) == {(None,)}


@pytest.mark.long
def test_file_with_a_key_of_which_nothing_can_be_decided_changes_nothing(shop: Shop, retl: Retl):
    in_doubt(shop)
    (shop.folder / "keys.txt").write_text("u3\nu77\n")
    said = retl("resolve", "it", "--mark-accepted", "--keys-from", str(shop.folder / "keys.txt"), folder=shop.folder)
    assert (said.code, said.err.splitlines()[0]) == (1, 'it: the row with the key "u77" is not in doubt')
    assert set(shop.rows_of("in_doubt", "resolution")) == {(None,)}


# --- what becomes of doubts ---------------------------------------------------------------------------------------------


@pytest.mark.long
def test_discarded_operation_on_a_row_that_has_changed_since_stays_held(shop: Shop):
    counter = """SELECT 'u' || i AS external_id, '{"inc": 1}' AS visits, {n} AS n FROM range(10) r(i)"""
    options = {"pre_formatted_fields": ["visits"], "mode": "users_track", "track_record_type": "attributes"}
    in_doubt(shop, counter.replace("{n}", "1"), **options)
    project = load_project(shop.folder, environ={"BRAZE_API_KEY": KEY})
    assert resolve(project, project.sync("it"), "mark_accepted", []) == 10
    shop.model("it", counter.replace("{n}", "2"))
    assert (shop.run().plan.held, shop.braze.profile("u1")["custom_attributes"]["visits"]) == (10, 1)
    shop.model("it", counter.replace("{n}", "1"))
    assert (shop.run().plan.marked_accepted, shop.run().plan.changed) == (10, 0)


def test_resolving_nothing_is_an_error(shop: Shop, retl: Retl):
    shop.sync("it", SEEN, **KEYED).run()
    one = "pass exactly one of --resend, --mark-accepted and --give-up"
    for arguments, message in (
        ([], one),
        (["--resend", "--mark-accepted"], one),
        (["--resend"], "it: no row is in doubt"),
        (["--resend", "--key", "u1"], 'it: the row with the key "u1" is not in doubt or given up'),
    ):
        said = retl("resolve", "it", *arguments, folder=shop.folder).err
        assert said == f"{message}\n  hint: list the rows: `retl rejects it`\n"


def test_on_in_doubt_resend_sends_again_at_once_and_says_so(shop: Shop, retl: Retl):
    shop.sync("it", SEEN, **KEYED, on_in_doubt="resend")
    shop.braze.add_fault(Fault("drop_after"))
    result = retl("sync", "it", folder=shop.folder)
    assert result.code == 0
    assert "10 of 10 rows accepted in 2 requests; 10 possibly duplicated in Braze (on_in_doubt: resend)" in result.out
    assert len(shop.braze.events()) == 20


def test_doubts_of_before_go_out_once_the_sync_says_resend(shop: Shop):
    in_doubt(shop)
    shop.sync("it", SEEN, **KEYED, on_in_doubt="resend")
    assert shop.run().delivery.accepted == 10
    assert shop.rows_of("in_doubt") == []


# --- rejects ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_retry_sends_what_braze_rejected_before(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    shop.braze.add_fault(Fault("object_error", external_ids=["u3", "u4"]))
    assert (shop.run().delivery.rejected, shop.run().plan.previously_rejected) == (2, 2)
    shop.braze.add_fault(Fault("object_error", external_ids=["u4"]))
    result = retl("retry", "it", folder=shop.folder)
    assert (result.code, "1 of 2 rows accepted in 1 request" in result.out) == (1, True)
    assert (shop.rows_of("rejects", "key"), shop.run().plan.previously_rejected) == ([("u4",)], 1)
    assert retl("retry", "it", folder=shop.folder).code == 0


@pytest.mark.long
def test_retry_that_reaches_nobody_forgets_nothing(shop: Shop):
    shop.sync("it", PEOPLE)
    shop.braze.add_fault(Fault("object_error", external_ids=["u3"]))
    shop.run()
    shop.braze.add_fault(Fault("status", status=401))
    assert shop.run(intent=Intent.RETRY).delivery.unsent == 1
    assert shop.run().delivery.accepted == 1


# --- baseline --------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("sql", "options"), some([(PEOPLE, {}), (SEEN, EVENTS), (SEEN, KEYED)]))
def test_baseline_takes_the_model_as_already_in_braze_and_only_changes_go_out(
    shop: Shop, retl: Retl, sql: str, options
):
    shop.sync("it", sql, **options)
    said = retl("state", "baseline", "it", "--yes", folder=shop.folder)
    assert (said.code, said.out) == (0, "it: 10 rows recorded as already in Braze, 0 requests\n")
    assert (shop.run().delivery.requests, shop.braze.requests()) == (0, [])
    assert retl("status", folder=shop.folder).out.splitlines()[1].split()[1] == "success"
    changes = not options  # events have none
    shop.sync("it", sql.replace("i AS n", "CASE WHEN i = 3 THEN 33 ELSE i END AS n").replace("10", "11"), **options)
    result = shop.run()
    assert (result.plan.added, result.plan.changed, result.delivery.accepted) == (1, changes, 1 + changes)


@pytest.mark.long
def test_baseline_leaves_invalid_rows_out_and_says_so(shop: Shop, retl: Retl):
    shop.sync(
        "it",
        "SELECT 'u' || i AS external_id, CASE WHEN i = 3 THEN repeat('x', 300) END AS t FROM range(10) r(i)",
        strict=True,
    )
    said = retl("state", "baseline", "it", "--yes", folder=shop.folder)
    assert (
        said.out
        == "it: 9 rows recorded as already in Braze, 0 requests; 1 invalid row not recorded, see `retl rejects it`\n"
    )
    assert shop.run().plan.invalid == 1


def test_baseline_and_forget_ask_first(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    assert retl("state", "baseline", "it", folder=shop.folder).err == (
        "every valid row of it will be recorded as already in Braze, and not sent until it changes; "
        "an opt-out among them that Braze does not have is lost\n"
        "  hint: to confirm, pass --yes\n"
    )
    assert retl("forget", "u3", folder=shop.folder).err == (
        '"u3" (external_id) will be erased from all states of target test\n  hint: to confirm, pass --yes\n'
    )


# --- forgetting ------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_forgotten_person_is_in_no_byte_of_the_state(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, 'secret-' || i || '@example.com' AS email FROM range(10) r(i)")
    shop.braze.add_fault(Fault("object_error", external_ids=["u4"]))
    shop.run()
    folder = shop.folder / ".retl/test/it"

    def remembered(text: str) -> bool:
        return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    assert remembered("secret-3@example.com")
    assert remembered("secret-4@example.com")
    assert erased_from(retl("forget", "u3", "--yes", folder=shop.folder)) == {"it": (1, 0, 0)}
    assert erased_from(retl("forget", "secret-4@example.com", "--yes", folder=shop.folder)) == {"it": (0, 1, 0)}
    assert not remembered("secret-3@example.com")
    assert not remembered("secret-4@example.com")
    assert remembered("secret-5@example.com")
    result = shop.run()
    assert (result.status, result.plan.suppressed, result.delivery.requests) == ("success", 2, 0)


@pytest.mark.long
def test_person_is_forgotten_in_events_whose_key_is_the_whole_row(shop: Shop, retl: Retl):
    shop.sync("it", SEEN, **EVENTS)
    shop.run()
    in_doubt(shop, SEEN.replace("'seen'", "'gone'"), **EVENTS)
    assert erased_from(retl("forget", "u3", "--yes", folder=shop.folder)) == {"it": (1, 0, 1)}


@pytest.mark.long
def test_older_states_that_were_kept_aside_are_deleted(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE).run()
    retl("state", "reset", "it", "--yes", folder=shop.folder)
    shop.run()
    kept = (shop.folder / ".retl/test/it").glob
    assert len([*kept("before-reset-*/state.duckdb")]) == 1
    said = retl("forget", "u3", "--yes", folder=shop.folder)
    assert (said.code, [*kept("before-reset-*/state.duckdb")]) == (0, [])
    assert "look there yourself" not in said.err


def test_forgetting_who_is_not_there_is_no_error(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    assert erased_from(retl("forget", "nobody", "--yes", folder=shop.folder)) == {}


def test_row_without_a_primary_key_is_shown_by_the_key_that_the_plan_names(shop: Shop, retl: Retl):
    sql = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-25 08:00' AS time FROM range(2)"
    shop.sync("it", sql, mode="users_track", track_record_type="events")
    keys = re.findall(
        r"^  \+ (\w{32}#\d) \(external_id:u1\)$", retl("plan", "it", folder=shop.folder).out, flags=re.MULTILINE
    )
    assert [key[-2:] for key in keys] == ["#1", "#2"]
    shop.run()
    row = json.loads(retl("state", "show", "it", "--key", keys[1], "--output", "json", folder=shop.folder).out)
    assert (row["external_id"], row["name"], row["_retl_number"]) == ("u1", "seen", "2")


def test_last_run_in_the_future_asks_whether_the_clock_is_right(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id").run()
    assert "is the clock right?" not in retl("status", folder=shop.folder).err
    shop.clock = FakeClock(ahead=timedelta(hours=1))  # it has been set back since
    shop.run()
    shown = retl("status", folder=shop.folder)
    assert (shown.code, "is in the future: is the clock right? No schedule is due before" in shown.err) == (0, True)
