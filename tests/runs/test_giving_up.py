"""One row that Braze refuses: every run reads from there again, says so, and ends that at `retention`, or when told to."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from reverse_etl.sandbox import Fault
from tests.runs.test_incremental import NOON, SEEN, arrived, events, seen
from tests.shop import Retl, Shop

BAD = Fault("object_error", external_ids=["bad"])
BAD_TIME = SEEN.replace("seen_at AS time", "CASE WHEN id = 'bad' THEN NULL ELSE seen_at END AS time")
OUTCOMES = {"rejected": SEEN, "invalid": BAD_TIME, "in doubt": SEEN}


def hour(number: int) -> datetime:
    return NOON + timedelta(hours=number)


def days_later(shop: Shop, days: int) -> None:
    shop.clock.ahead += timedelta(days=days)


def held(shop: Shop, outcome: str = "rejected", **incremental: object) -> Shop:
    """A sync whose first run sent one event, and not another one."""
    seen(shop, ("fine", hour(0)), ("bad", hour(1)))
    shop.destination = {"max_objects_per_request": 1}
    fault = Fault("drop_after", external_ids=["bad"]) if outcome == "in doubt" else BAD
    if outcome != "invalid":
        shop.braze.add_fault(fault)
    shop.clock.ahead = hour(5).replace(tzinfo=UTC) - datetime.now(UTC)
    events(shop, OUTCOMES[outcome], incremental=incremental).run()
    shop.braze.clear_faults()
    if outcome != "in doubt":
        shop.braze.add_fault(BAD)
    return shop


def prune_past_a_row_that_was_given_up(shop: Shop, give_up: Callable[[], int]) -> None:
    held(shop, retention="3 days")
    assert give_up() == 0
    shop.run()
    seen(shop, ("later", hour(2)), ("last", hour(3)))
    shop.run()
    shop.warehouse("DELETE FROM seen WHERE id = 'later'")
    days_later(shop, 2)
    shop.run()
    days_later(shop, 2)
    shop.run()


def statuses(shop: Shop) -> list[str]:
    return [status for (status,) in shop.rows_of("rejects", "rejected_by")]


def one_a_day(shop: Shop, days: int, first: int = 0) -> list[int]:
    """An event and a run on each of these days: how many rows each run read."""
    rows = []
    for day in range(first, first + days):
        days_later(shop, 1)
        seen(shop, (f"day {day}", hour(24 * (day + 1))))
        rows.append(shop.run().plan.rows)
    return rows


@pytest.mark.long
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_watermark_waits_for_a_row_no_longer_than_retention(shop: Shop, outcome: str):
    held(shop, outcome, retention="3 days")
    assert one_a_day(shop, 5) == [2, 3, 4, 2, 2]
    assert len(arrived(shop)) == (7 if outcome == "in doubt" else 6)  # the one in doubt had arrived
    assert statuses(shop) == ["given_up"]
    days_later(shop, 1)
    assert (shop.run().plan.given_up, shop.run().plan.rows) == (0, 1)


@pytest.mark.long
def test_row_that_waited_for_retention_is_said_to_be_given_up_and_not_to_be_sent(shop: Shop, retl: Retl):
    held(shop, retention="3 days")
    assert shop.run().plan.previously_rejected == 1
    days_later(shop, 4)
    result = shop.run()
    assert (result.status, result.plan.given_up, result.plan.to_send, result.plan.kept_back) == ("success", 1, 0, 0)
    listed = retl("rejects", "it", "--output", "json", folder=shop.folder)
    (row,) = json.loads(listed.out)
    assert (row["status"], row["code"], row["key"]) == ("given_up", "R090", "bad")
    assert (
        row["hint"] == "not sent until it changes; to send it as it is, run `retl resolve it` with --resend --key KEY"
    )
    assert "it: 1 row given up, and not in Braze: `retl rejects it`" in retl("status", folder=shop.folder).err


@pytest.mark.long
def test_hold_is_said_by_the_next_run_and_by_status(shop: Shop, retl: Retl):
    held(shop)
    seen(shop, ("later", hour(2)))
    shop.run()
    (notice,) = shop.listener.notices
    since = (shop.clock.utc()).strftime("%Y-%m-%d")
    assert notice.startswith(f"it: the watermark is held at 2026-11-20 13:00:00 since {since} ")
    assert notice.endswith(" UTC by 1 row that is not in Braze: `retl rejects it`")
    assert notice in retl("status", folder=shop.folder).err
    (status,) = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
    assert (status["watermark_held_by"], status["watermark_held_since"][:10], status["given_up"]) == (1, since, 0)


@pytest.mark.long
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_row_that_is_given_up_by_hand_holds_nothing_and_is_not_sent(shop: Shop, retl: Retl, outcome: str):
    held(shop, outcome)
    told = retl("resolve", "it", "--give-up", "--key", "bad", folder=shop.folder)
    assert told.out == "it: 1 row given up, and not in Braze: not sent until changed\n"
    assert statuses(shop) == ["given_up"]
    said = retl("status", folder=shop.folder).err
    assert ("the watermark is held" in said, "it: 1 row given up" in said) == (False, True)
    result = shop.run()
    assert (result.plan.given_up, result.plan.to_send, result.status) == (1, 0, "success")
    seen(shop, ("later", hour(2)))
    assert [shop.run().plan.rows for _ in range(2)] == [2, 1]
    assert len(arrived(shop)) == (3 if outcome == "in doubt" else 2)
    assert statuses(shop) == ["given_up"]
    assert shop.rows_of("in_doubt") == []


@pytest.mark.long
def test_row_that_was_given_up_is_sent_when_it_changes(shop: Shop, retl: Retl):
    held(shop)
    shop.braze.clear_faults()
    assert retl("resolve", "it", "--give-up", "--key", "bad", folder=shop.folder).code == 0
    assert shop.run().plan.to_send == 0
    shop.warehouse("UPDATE seen SET seen_at = ? WHERE id = 'bad'", hour(3))
    assert (shop.run().delivery.accepted, statuses(shop), arrived(shop)) == (1, [], ["bad", "fine"])


@pytest.mark.long
@pytest.mark.parametrize("has_run", [True, False])
def test_row_that_was_given_up_can_be_sent_as_it_is_after_all(shop: Shop, retl: Retl, has_run: bool):
    held(shop)
    shop.braze.clear_faults()
    assert retl("resolve", "it", "--give-up", "--key", "bad", folder=shop.folder).code == 0
    if has_run:
        seen(shop, ("later", hour(2)))
        shop.run()
        assert shop.run().plan.rows == 1  # the watermark has passed it
    told = retl("resolve", "it", "--resend", "--key", "bad", folder=shop.folder)
    assert told.out == "it: 1 row will be sent again by the next run, if valid\n"
    shop.run()
    assert ("bad" in arrived(shop), statuses(shop)) == (True, [])


@pytest.mark.long
def test_row_before_what_was_pruned_cannot_be_sent_after_all(shop: Shop, retl: Retl):
    prune_past_a_row_that_was_given_up(
        shop, lambda: retl("resolve", "it", "--give-up", "--key", "bad", folder=shop.folder).code
    )
    told = retl("resolve", "it", "--resend", "--key", "bad", folder=shop.folder)
    assert told.code == 1
    assert told.err.splitlines() == [
        'it: the row with the key "bad" would not count as new: later ones were pruned',
        "  hint: give it a later cursor in the model",
    ]


@pytest.mark.long
def test_what_is_given_up_is_pruned_after_another_retention(shop: Shop):
    held(shop, retention="3 days")
    one_a_day(shop, 5)
    assert statuses(shop) == ["given_up"]
    assert one_a_day(shop, 4, first=5) == [2] * 4
    assert statuses(shop) == []
    assert len(arrived(shop)) == 10


@pytest.mark.long
def test_invalid_row_that_blocks_the_run_is_not_given_up_unasked(shop: Shop, retl: Retl):
    held(shop, "invalid", retention="3 days")
    shop.syncs[0]["skip_on_invalid_records"] = False
    shop.write()
    days_later(shop, 4)
    assert [shop.run().status for _ in range(2)] == ["blocked", "blocked"]
    assert retl("resolve", "it", "--give-up", "--key", "bad", folder=shop.folder).code == 0
    assert (shop.run().status, statuses(shop)) == ("success", ["given_up"])


PEOPLE = "SELECT id AS external_id, language FROM people"


@pytest.mark.long
def test_attributes_of_a_user_can_be_given_up_too_until_they_change(shop: Shop, retl: Retl):
    shop.warehouse("CREATE TABLE people AS SELECT 'u' || n AS id, 'en' AS language FROM range(3) AS r(n)")
    shop.braze.add_fault(Fault("object_error", external_ids=["u1"]))
    shop.sync("it", PEOPLE).run()
    assert shop.run().status == "incomplete"
    assert retl("resolve", "it", "--give-up", "--key", "u1", folder=shop.folder).code == 0
    assert [(shop.run().status, shop.run().plan.given_up) for _ in range(2)] == [("success", 1)] * 2
    shop.braze.clear_faults()
    assert retl("retry", "it", folder=shop.folder).code == 0
    assert (statuses(shop), shop.run().plan.given_up) == (["given_up"], 1)
    shop.warehouse("UPDATE people SET language = 'de' WHERE id = 'u1'")
    assert (shop.run().delivery.accepted, statuses(shop)) == (1, [])


def test_rows_are_given_up_by_name_only(shop: Shop, retl: Retl):
    held(shop)
    told = [
        retl("resolve", "it", *options, folder=shop.folder)
        for options in (["--give-up"], ["--give-up", "--key", "fine"], ["--give-up", "--resend", "--key", "bad"])
    ]
    assert [one.code for one in told] == [2, 1, 2]
    assert [one.err.splitlines() for one in told] == [
        ["--give-up needs --key or --keys-from", "  hint: list the rows: `retl rejects it`"],
        [
            'it: the row with the key "fine" is not invalid, rejected or in doubt',
            "  hint: list the rows: `retl rejects it`",
        ],
        [
            "pass exactly one of --resend, --mark-accepted and --give-up",
            "  hint: list the rows: `retl rejects it`",
        ],
    ]
