"""Rows that a run planned and did not bring to Braze are counted, until a run does; so are those to be sent again."""

import json
from typing import Any

import pytest

from reverse_etl.sandbox import Fault
from reverse_etl.state.edit import resolve
from reverse_etl.state.history import past_runs
from reverse_etl.state.look import SyncStatus, sync_status
from tests.shop import EVENTS, Retl, Shop

PEOPLE = "SELECT 'u' || i AS external_id, i AS n FROM range(150) r(i)"
ONE_INVALID = "SELECT 'u' || i AS external_id, if(i = 7, 'x', 'x@x.example') AS email FROM range(150) r(i)"
TWO = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range(2) r(i)"
NONE = Fault("status", status=401, times=None)


def status(shop: Shop) -> SyncStatus:
    return sync_status(shop.project(), shop.project().sync("it"))


def to_send(shop: Shop) -> list[int | None]:
    """By status, and by the past runs, the latest first."""
    project = shop.project()
    past = past_runs(project, [project.sync("it")], 10)
    return [status(shop).to_send, *(run.to_send for run in past)]


@pytest.mark.parametrize(
    ("faults", "left"),
    [
        pytest.param([NONE], 150, id="no request is accepted"),
        pytest.param([Fault("status", status=401, times=None, skip=1)], 75, id="one request is accepted"),
        pytest.param([Fault("status", status=500, times=None, skip=1)], 75, id="the response to one is unclear"),
    ],
)
def test_rows_that_a_run_did_not_send_are_counted_until_they_are_accepted(shop: Shop, faults: list[Fault], left: int):
    shop.sync("it", PEOPLE)
    for fault in faults:
        shop.braze.add_fault(fault)
    shop.run()
    assert to_send(shop) == [left, left]
    shop.braze.clear_faults()
    shop.run()
    assert to_send(shop) == [0, 0, left]


@pytest.mark.parametrize(
    ("sql", "options", "left"),
    [
        pytest.param(ONE_INVALID, {}, 149, id="by an invalid row"),
        pytest.param(PEOPLE, {"guards": {"max_changes": 10}}, 150, id="by a guard"),
    ],
)
def test_rows_of_a_run_that_is_blocked_are_to_be_sent(shop: Shop, sql: str, options: dict[str, Any], left: int):
    result = shop.sync("it", sql, **options).run()
    assert result.status == "blocked"
    assert to_send(shop) == [left, left]


def test_rows_that_wait_for_the_opt_outs_of_a_blocked_run_are_to_be_sent(shop: Shop):
    rows = "('u1', 'a@x.example', 'unsubscribed'), ('u2', 'b@x.example', 'subscribed'), ('u3', 'x', 'subscribed')"
    shop.sync("it", f"FROM (VALUES {rows}) t(external_id, email, email_subscribe)")
    result = shop.run()
    assert (result.status, result.delivery.accepted) == ("blocked", 1)
    assert (status(shop).to_send, status(shop).rejected) == (2, 1)


def test_rows_in_doubt_count_as_to_be_sent_once_it_is_decided_so(shop: Shop):
    shop.sync("it", TWO, **EVENTS)
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 2
    assert to_send(shop) == [0, 0]
    project = shop.project()
    resolve(project, project.sync("it"), "resend", [])
    assert to_send(shop) == [2, 0]
    resolve(project, project.sync("it"), "mark_accepted", ["u0"])
    assert to_send(shop) == [1, 0]
    shop.braze.add_fault(NONE)
    shop.run()
    assert to_send(shop) == [1, 1, 0]  # the same row, not one more
    shop.braze.clear_faults()
    shop.run()
    assert to_send(shop) == [0, 0, 1, 0]


def test_nothing_is_said_of_rows_where_no_run_has_counted_them(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    assert to_send(shop) == [None]
    shop.run()
    shop.sync("it", "SELECT nothing")
    assert retl("sync", "it", folder=shop.folder).code == 2
    found = status(shop)
    assert (found.last_run, found.rows, found.to_send) == ("failed", 150, None)


def test_status_shows_them_in_words_and_in_json(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE)
    shop.braze.add_fault(NONE)
    shop.run()
    heading, row = retl("status", folder=shop.folder).out.splitlines()
    assert heading.split()[-7:] == ["in", "Braze", "to", "send", "rejects", "in", "doubt"]
    assert row.split()[-4:] == ["0", "150", "0", "0"]
    (found,) = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
    assert (found["rows"], found["to_send"], found["rejected"]) == (0, 150, 0)
    (run,) = json.loads(retl("history", "--output", "json", folder=shop.folder).out)
    assert (run["accepted"], run["to_send"]) == (0, 150)
