"""`--canary`: some rows are sent first and read back, over the real HTTP of the sandbox."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from reverse_etl.plan.canary import smallest_cover
from reverse_etl.runs import canary
from reverse_etl.runs.outcome import CanaryResult, Untaken
from reverse_etl.sandbox import Fault, Sandbox
from tests.shop import KEY, Held, Retl, Shop, running

ROWS = "SELECT 'u' || i AS external_id, i AS n FROM range(300) r(i)"
READS = "/users/export/ids"


def in_braze(shop: Shop, *attributes: dict[str, Any]) -> None:
    """What is there before; the first value of an attribute decides on its type."""
    body = {"attributes": list(attributes)}
    answer = requests.post(f"{shop.braze.url}/users/track", json=body, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.json()["message"] == "success", answer.text


def sent(shop: Shop, after: int = 0) -> list[list[Any]]:
    """The objects of each request, of those that write something."""
    bodies = [json.loads(one.body) for one in shop.braze.requests(after) if one.path != READS]
    return [objects for body in bodies for objects in body.values()]


def read(shop: Shop) -> int:
    return len([one for one in shop.braze.requests() if one.path == READS])


@pytest.fixture
def slow() -> Iterator[Sandbox]:
    """A Braze that shows what it has taken half a minute later, by the clock of the run."""
    clock = [0.0]
    with Sandbox(read_lag_s=30, clock=lambda: clock[0]) as sandbox:
        sandbox.clock = clock  # type: ignore[attr-defined]
        yield sandbox


def test_rest_goes_out_once_braze_has_the_canary_as_sent(shop: Shop):
    result = shop.sync("it", ROWS).run(canary=10)
    assert (result.status, result.canary) == (
        "success",
        CanaryResult(10, 10, 10, 2, 2, [], [], 0.025),
    )
    canary, *rest = map(len, sent(shop))
    assert (canary, sorted(rest)) == (10, [65, 75, 75, 75])
    assert (read(shop), shop.rows_of("state", "count(*)")) == (2, [(300,)])
    assert [notice for notice in shop.listener.notices if "canary" in notice] == [
        "it: canary: 10 rows sent, which have all kinds of values: reading back",
        "it: canary: Braze has 10 rows as sent, after 0.0 s",
    ]


def test_rows_that_braze_has_otherwise_are_not_accepted_and_are_sent_again(shop: Shop):
    in_braze(shop, {"external_id": "another", "n": "text"})  # numbers become texts from here on
    shop.sync("it", f"SELECT *, 'x' AS name FROM ({ROWS})")
    result = shop.run(canary=10)
    assert (result.status, result.exit_code, [problem.message for problem in result.errors]) == (
        "failed",
        1,
        ["it: Braze has 10 of 10 rows of the canary otherwise than sent, so nothing more was: n"],
    )
    assert result.canary == CanaryResult(
        10, 10, 0, 3, 3, [Untaken("n", "sent a number, and Braze has a string", 10)], [], 60.0
    )
    assert result.delivery is not None
    assert (result.delivery.accepted, result.delivery.unsent) == (0, 300)
    assert shop.rows_of("state", "count(*)", "count(_retl_sent_at)", "any_value(len(_retl_unsure))") == [(10, 0, 2)]
    shop.braze.reset()
    again = shop.run(canary=10)
    assert (again.status, again.delivery and again.delivery.accepted) == ("success", 300)


def test_it_waits_for_what_braze_shows_half_a_minute_later(tmp_path, slow: Sandbox):
    shop = Shop(tmp_path / "shop", slow)

    class Clock(type(shop.clock)):  # type: ignore[misc]
        def wait(self, wait_s: float, stop: Any) -> None:
            super().wait(wait_s, stop)
            slow.clock[0] += wait_s  # type: ignore[attr-defined]

    shop.clock = Clock()
    result = shop.sync("it", ROWS).run(canary=10)
    assert result.canary is not None
    assert (result.status, result.canary.as_sent, round(result.canary.seconds)) == ("success", 10, 31)
    assert [wait for wait in shop.clock.waits if wait >= 1] == [1, 2, 4, 8, 16]


def test_canary_has_each_kind_of_value_of_each_column(shop: Shop):
    rows = """SELECT 'u' || i AS external_id, i AS n, 'text' AS name, [i] AS list, '["x"]' AS doc FROM range(500) r(i)
        UNION ALL SELECT 'only-null', 1, NULL, [1], '["y"]'
        UNION ALL SELECT 'only-empty', 1, '', NULL, '{"add": ["z"]}'"""
    shop.sync("it", rows, pre_formatted_fields=["doc"], nulls="send")
    result = shop.run(canary=4)
    first = {one["external_id"]: one for one in sent(shop)[0]}
    assert {"only-null", "only-empty"} < set(first)
    assert result.canary is not None
    assert (result.status, len(first), result.canary.covered, result.canary.kinds) == ("success", 4, 9, 9)


def test_operators_are_compared_with_what_they_make_of_the_value_before(shop: Shop):
    in_braze(shop, {"external_id": "u1", "score": 5, "tags": ["a", "b"], "cards": [{"id": 1}, {"id": 2}]})
    shop.sync(
        "it",
        """SELECT 'u1' AS external_id, {'inc': 3} AS score, {'add': ['c', 'a']} AS tags,
        {'$update': [{'$identifier_key': 'id', '$identifier_value': 2, '$new_object': {'id': 9}}]} AS cards""",
    )
    result = shop.run(canary=1)
    assert (result.status, result.errors, shop.braze.profile("u1")["custom_attributes"]["score"]) == ("success", [], 8)


def test_what_is_not_safe_to_send_twice_is_in_doubt_if_braze_has_it_otherwise(shop: Shop):
    in_braze(shop, {"external_id": "u1", "score": "five"})
    result = shop.sync("it", "SELECT 'u1' AS external_id, {'inc': 3} AS score").run(canary=1)
    assert result.delivery is not None
    assert (result.status, result.delivery.in_doubt, result.delivery.accepted) == ("failed", 1, 0)
    assert shop.rows_of("in_doubt", "key", "reason") == [("u1", "read back from Braze, and not as it was sent")]
    assert shop.run(canary=1).status == "incomplete"
    assert len(sent(shop)) == 2


def test_values_come_back_as_braze_stores_them(shop: Shop):
    row = """SELECT 'u1' AS external_id, 'Ann@Example.COM' AS email, '4155552671' AS phone, 'kr' AS country,
        DATE '1990-02-03' AS dob, {'longitude': 126.5, 'latitude': 37} AS current_location, TIMESTAMP '2026-11-23 08:15:00' AS t,
        1.50::DECIMAL(9, 2) AS price, 0.1::FLOAT AS small, [3, 1, 3] AS list, [{'a': 1, 'at': TIMESTAMP '2026-11-23'}] AS objects,
        {'b': {'c': [1]}} AS nested, true AS flag, '' AS blank, 9007199254740993 AS big, 'subscribed' AS email_subscribe"""
    result = shop.sync("it", row).run(canary=5)
    assert (result.status, result.canary and result.canary.differences) == ("success", []), result.canary


def test_opt_outs_go_first_and_the_rest_is_held_back(shop: Shop):
    in_braze(shop, {"external_id": "another", "n": "text"})
    rows = f"SELECT *, CASE WHEN n < 3 THEN 'unsubscribed' END AS email_subscribe FROM ({ROWS})"
    result = shop.sync("it", rows).run(canary=5)
    assert result.errors[0].code == "X012"
    out, canary = sent(shop, after=1)
    assert [one["email_subscribe"] for one in out] == ["unsubscribed"] * 3
    assert len(canary) <= 5
    assert shop.rows_of("opt_outs", "count(*)") == [(3,)]


def test_groups_are_read_back_of_those_that_can_be_asked_for(shop: Shop):
    group = "6f1c2a3e-0b5d-4c7e-9a41-2d8e5f60b7a1"
    states = f"[{{'subscription_group_id': '{group}', 'subscription_state': 'subscribed'}}] AS subscription_groups"
    shop.sync("it", f"SELECT 'u1' AS external_id, {states}")
    assert shop.run(canary=5, skip_guards={"max_resubscribed": None}).status == "success"
    assert [one.path for one in shop.braze.requests() if one.path == "/subscription/user/status"]


def test_columns_that_braze_does_not_export_are_said(shop: Shop):
    result = shop.sync("it", "SELECT 'u1' AS external_id, 'https://a.example/i.png' AS image_url").run(canary=5)
    assert (result.status, result.canary and result.canary.not_compared) == ("success", ["image_url"])
    assert "it: canary: not compared, as Braze does not tell: image_url" in shop.listener.notices


def test_key_that_may_not_read_sends_nothing(tmp_path):
    with Sandbox(keys={KEY: {"users.track"}}) as braze:
        shop = Shop(tmp_path / "shop", braze).sync("it", ROWS)
        result = shop.run(canary=5)
        assert [(one.code, one.message) for one in result.errors] == [("S029", f"{READS}: Braze returned 403")]
        assert "create a new API key with the permission users.export.ids" in str(result.errors[0].hint)
        assert sent(shop) == []
        assert shop.run().status == "success"


def test_braze_that_does_not_answer_after_the_canary_stops_the_run_and_what_was_accepted_stays_so(shop: Shop):
    shop.braze.add_fault(Fault("status", status=403, path=READS, skip=1))
    result = shop.sync("it", ROWS).run(canary=5)
    assert [problem.code for problem in result.errors] == ["X012"]
    assert shop.rows_of("state", "count(*)") == [(5,)]


def test_canary_that_braze_rejects_as_a_whole_stops_the_run(shop: Shop):
    shop.braze.add_fault(
        Fault("object_error", path="/users/track", external_ids=[f"u{i}" for i in range(300)], error="blocked")
    )
    result = shop.sync("it", ROWS).run(canary=5)
    assert [problem.message for problem in result.errors] == ["it: Braze rejected all of the canary: 5 rows"]
    assert len(shop.rows_of("rejects", "key")) == 5


def test_deleted_users_are_gone(shop: Shop):
    in_braze(shop, *({"external_id": f"u{i}"} for i in range(3)))
    shop.sync(
        "it", "SELECT unnest(['u0', 'u1', 'unknown']) AS external_id", mode="users_delete", allow_destructive=True
    )
    result = shop.run(canary=5, skip_guards={"max_deletes": 3})
    assert (result.status, result.canary and result.canary.as_sent) == ("success", 3)
    assert [one["external_id"] for one in shop.braze.profiles()] == ["u2"]


@pytest.mark.long
def test_run_that_is_killed_while_it_reads_back_is_recovered(shop: Shop):
    shop.sync("it", ROWS)
    held = Held(shop.braze, path=READS, skip=1)
    with running(shop, held, ["sync", "it", "--canary", "5"]) as process:
        process.kill()
        process.wait()
    held.goes_out.set()
    result = shop.run()
    assert "it: recovered the last run, which was killed: 5 rows accepted, 0 rejected, 295 still to be sent" in (
        shop.listener.notices
    )
    assert (result.status, shop.rows_of("state", "count(*)")) == ("success", [(300,)])
    assert sum(map(len, sent(shop))) == 300


def test_plan_is_applied_with_a_canary(shop: Shop, retl: Retl):
    shop.sync("it", ROWS)
    assert retl("plan", "it", "--out", "plan.retl", folder=shop.folder).code == 0
    applied = retl("apply", "plan.retl", "--canary", "5", folder=shop.folder)
    assert (applied.code, "canary: Braze has 5 rows as sent" in applied.err) == (0, True)
    results = json.loads((shop.folder / "target/run_results.json").read_text())["results"]
    assert [(one["canary"]["rows"], one["canary"]["as_sent"]) for one in results] == [(5, 5)]


def test_values_are_shown_to_those_who_ask_for_them(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canary, "LAG_S", 0.0)  # by the clock on the wall
    in_braze(shop, {"external_id": "another", "country": "KR"})
    shop.sync("it", "SELECT 'u1' AS external_id, 'Albania' AS country")
    arguments = ("sync", "it", "--canary", "5")
    masked, shown = (retl(*arguments, *more, folder=shop.folder) for more in ((), ("--show-values",)))
    assert "canary: country of u1: sent a string, and Braze has none\n" in masked.err
    assert '"Albania" became null' in shown.err


@pytest.mark.parametrize(
    ("having", "most", "expected"),
    [
        pytest.param({1: {("a",)}, 2: {("a",), ("b",)}, 3: {("c",)}}, 9, [2, 3], id="as few as have all"),
        pytest.param({1: {("a",)}, 2: {("a",), ("b",)}, 3: {("c",)}}, 1, [2], id="no more than asked for"),
        pytest.param({}, 3, [], id="nothing to send"),
    ],
)
def test_cover_is_small(having, most, expected):
    assert smallest_cover(having, most) == expected
