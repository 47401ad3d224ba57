"""Deleting users, which cannot be undone: how many at once, and not before they were listed for a while."""

import json
from datetime import timedelta

import pytest

from reverse_etl.sandbox import Fault
from tests.shop import FakeClock, Retl, Shop

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


# --- quarantine ------------------------------------------------------------------------------------------------------


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


def test_user_who_left_the_list_in_between_waits_anew(gone: Shop):
    gone.sync("it", LISTED, **GONE, quarantine="1 day").run()
    gone.warehouse("DELETE FROM gone WHERE external_id = 'u1'")
    after(gone, hours=12).run()
    gone.warehouse("INSERT INTO gone VALUES ('u1')")
    result = after(gone, hours=25).run()
    assert (gone.sent(), [row.key for row in result.withheld]) == (['{"external_ids":["u2"]}'], ["u1"])


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


def test_full_refresh_and_retry_do_not_shorten_a_quarantine(gone: Shop, retl: Retl):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours").run()
    assert gone.run(full_refresh=True).plan.quarantined == 2
    assert retl("retry", "it", folder=gone.folder).code == 0
    assert gone.sent() == []


def test_user_who_has_waited_and_could_not_be_deleted_does_not_wait_again(gone: Shop):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours").run()
    gone.braze.add_fault(Fault("status", status=401))
    assert after(gone, hours=25).run().status == "failed"
    gone.braze.clear_faults()
    assert after(gone, hours=26).run().delivery.accepted == 2


def test_saved_plan_counts_as_listed_when_it_is_applied(gone: Shop, retl: Retl):
    gone.sync("it", LISTED, **GONE, quarantine="24 hours")
    assert retl("plan", "it", "--out", "p", folder=gone.folder).code == 0
    assert retl("apply", "p", folder=gone.folder).code == 0
    assert gone.sent() == []
    assert after(gone, hours=25).run().delivery.accepted == 2


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
    assert f" u1 external_id is in quarantine until {until} {hint} u2 external_id is" in " ".join(ran.err.split())
    assert "ada@example.com" not in f"{planned} {ran} {listed} {preview}"
    assert retl("status", folder=gone.folder).out.split("\n")[1].split()[-2:] == ["0", "0"]
