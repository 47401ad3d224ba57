"""One sync is planned while another sends, and two send side by side: what is the same as one after another, and when."""

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.plan.workbench import part_of
from reverse_etl.runs.outcome import RunResult
from reverse_etl.sandbox import Fault, LoggedRequest, Sandbox
from tests.shop import EVENTS, Held, Shop, Silent, examples, start

GROUP = "b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10"
USERS = "SELECT 'u' || i AS external_id, i AS visits FROM range(10) r(i)"
SCORES = "SELECT 'u' || i AS external_id, i AS score FROM range(10) r(i)"
SEEN = "SELECT 'e' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range(10) r(i)"
GROUPS = f"""SELECT 'u' || i AS external_id, '{GROUP}' AS subscription_group_id, 'unsubscribed' AS subscription_state
    FROM range(10) r(i)"""
ALIASES = "SELECT 'a' || i AS alias_name, 'l' AS alias_label, 'u' || i AS external_id FROM range(10) r(i)"
BY_GROUP = {"mode": "subscription_status_set"}
BY_ALIAS = {"mode": "users_alias_new"}


class Told(Silent):
    """A listener that writes down when syncs are planned and sent, and does something at one of these moments."""

    def __init__(self, at: tuple[str, str] = ("", ""), do: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.events: list[tuple[str, str]] = []
        self._at, self._do = at, do

    def _tell(self, *event: str) -> None:
        self.events.append((event[0], event[1]))
        if event == self._at:
            self._do()

    @contextmanager
    def planning(self, sync: Any) -> Iterator[None]:
        self._tell("plans", sync.name)
        yield
        self._tell("has planned", sync.name)

    @contextmanager
    def sending(self, sync: Any, plan: Any, sender: Any) -> Iterator[None]:
        self._tell("sends", sync.name)
        yield
        self._tell("has sent", sync.name)


def run(shop: Shop, listener: Told, **options: Any) -> dict[str, str]:
    shop.listener = listener
    return statuses(shop.run_all(*(sync["name"] for sync in shop.syncs), **options))


def statuses(results: list[RunResult]) -> dict[str, str]:
    return {result.sync: result.status for result in results}


def paths(shop: Shop) -> list[str]:
    return [request.path for request in shop.braze.requests()]


def files(shop: Shop, sync: str) -> list[str]:
    """What is in the folder of a state, beside its ledger."""
    return sorted({path.name for path in (shop.folder / ".retl/test" / sync).iterdir()} - {"ledger"})


def test_next_sync_is_planned_while_the_first_sends_and_sends_after_it(shop: Shop):
    """The response to the first goes out once the second is planned."""
    shop.sync("users", USERS).sync("scores", SCORES)
    answer = Held(shop.braze, external_ids=["u0"])
    told = Told(("has planned", "scores"), answer.goes_out.set)
    assert run(shop, told) == {"users": "success", "scores": "success"}
    assert told.events == [
        ("plans", "users"),
        ("has planned", "users"),
        ("sends", "users"),
        ("plans", "scores"),
        ("has planned", "scores"),
        ("has sent", "users"),
        ("sends", "scores"),
        ("has sent", "scores"),
    ]
    first, second = (json.loads(body)["attributes"] for body in shop.sent())
    assert (len(first), len(second)) == (10, 10)
    assert {frozenset(one) for one in first} == {frozenset({"external_id", "visits"})}
    assert {frozenset(one) for one in second} == {frozenset({"external_id", "score"})}


def test_syncs_of_families_with_limits_of_their_own_send_side_by_side(shop: Shop):
    """The response to the first goes out once the second has been sent whole."""
    shop.sync("users", USERS).sync("groups", GROUPS, **BY_GROUP)
    answer = Held(shop.braze, external_ids=["u0"])
    told = Told(("has sent", "groups"), answer.goes_out.set)
    assert run(shop, told) == {"users": "success", "groups": "success"}
    assert told.events[-2:] == [("has sent", "groups"), ("has sent", "users")]
    assert sorted(paths(shop)) == ["/users/track", "/v2/subscription/status/set"]


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        pytest.param({}, {**BY_GROUP, "after": ["first"]}, {}, id="after"),
        pytest.param({}, BY_ALIAS, {}, id="the second gives names"),
        pytest.param(BY_ALIAS, {}, {}, id="the first gives names"),
        pytest.param(
            {"on_removed": "delete", "allow_destructive": True}, BY_GROUP, {}, id="the first deletes who left the model"
        ),
        pytest.param({}, BY_GROUP, {"read_first": True}, id="Braze is asked first"),
    ],
)
@pytest.mark.sampled(3)
def test_nothing_is_planned_before_what_it_depends_on_is_done(shop: Shop, first: Any, second: Any, options: Any):
    models = {"users_alias_new": ALIASES, "subscription_status_set": GROUPS}
    shop.sync("first", models.get(first.get("mode"), USERS), **first)
    shop.sync("second", models.get(second.get("mode"), USERS), **second)
    told = Told()
    assert run(shop, told, **options) == {"first": "success", "second": "success"}
    assert [name for _, name in told.events] == ["first"] * 4 + ["second"] * 4


def test_two_syncs_that_opt_users_out_send_one_after_the_other(shop: Shop):
    """Attributes may write the same group, so the later sync is the one that counts."""
    opt_out = "SELECT 'u' || i AS external_id, 'unsubscribed' AS email_subscribe FROM range(10) r(i)"
    shop.sync("users", opt_out).sync("groups", GROUPS, **BY_GROUP)
    answer = Held(shop.braze, external_ids=["u0"])
    told = Told(("has planned", "groups"), answer.goes_out.set)
    assert run(shop, told) == {"users": "success", "groups": "success"}
    assert told.events[-3:] == [("has sent", "users"), ("sends", "groups"), ("has sent", "groups")]


def test_one_thread_has_one_request_in_flight_whatever_the_families(shop: Shop):
    shop.sync("users", USERS).sync("groups", GROUPS, **BY_GROUP)
    answer = Held(shop.braze, external_ids=["u0"])
    told = Told(("has planned", "groups"), answer.goes_out.set)
    assert run(shop, told, threads=1) == {"users": "success", "groups": "success"}
    assert told.events[-3:] == [("has sent", "users"), ("sends", "groups"), ("has sent", "groups")]


# --- a plan is sent as it was made -----------------------------------------------------------------------------------


def test_sync_that_needs_to_know_whom_others_have_sent_waits_for_them(shop: Shop):
    """As if it had been planned when the first was done: its users are known, and no row is uncertain."""
    only = "SELECT 'u' || i AS external_id, i AS score, true AS _update_existing_only FROM range(10) r(i)"
    shop.sync("users", USERS).sync("scores", only)
    answer = Held(shop.braze, external_ids=["u0"])
    told = Told(("plans", "scores"), answer.goes_out.set)
    assert run(shop, told) == {"users": "success", "scores": "success"}
    assert told.events[2:] == [
        ("sends", "users"),
        ("plans", "scores"),
        ("has sent", "users"),
        ("has planned", "scores"),
        ("sends", "scores"),
        ("has sent", "scores"),
    ]
    assert told.notices == []
    assert run(shop, Told()) == {"users": "success", "scores": "success"}
    assert len(shop.sent()) == 2


def test_who_is_erased_between_plan_and_sending_is_not_sent(shop: Shop):
    from datetime import UTC, datetime

    from reverse_etl.plan.workbench import connect
    from reverse_etl.state.erasures import erasures_of
    from reverse_etl.state.places import place_of

    shop.sync("users", USERS).sync("seen", SEEN, **EVENTS)
    project = shop.project()

    def erase() -> None:
        erasures = erasures_of(place_of(project, project.sync("seen")))
        with connect() as connection:
            erasures.record(erasures.hashed(connection, "SELECT 'external_id:e3' AS who"), datetime.now(UTC))
        answer.goes_out.set()

    answer = Held(shop.braze, external_ids=["u0"])
    assert run(shop, Told(("has planned", "seen"), erase)) == {"users": "success", "seen": "success"}
    (_, events) = shop.sent()
    assert sorted(one["external_id"] for one in json.loads(events)["events"]) == [
        f"e{number}" for number in range(10) if number != 3
    ]


# --- a sync that is planned, and not sent after all ------------------------------------------------------------------


@pytest.mark.long
def test_with_fail_fast_nothing_more_is_sent_after_a_failure(shop: Shop):
    shop.sync("users", USERS).sync("groups", GROUPS, **BY_GROUP).sync("scores", SCORES)
    shop.braze.add_fault(Fault("status", status=401, until=None))
    told = Told()
    shop.listener = told
    results = shop.run_all("users", "groups", "scores", fail_fast=True)
    assert statuses(results) == {"users": "failed", "groups": "skipped", "scores": "skipped"}
    ended = "skipped: the command ended before this sync"
    assert results[1].errors[0].message in (f"groups: {ended} sent anything", f"groups: {ended} started")
    assert paths(shop) == ["/users/track"]
    assert files(shop, "users") == ["has-run", "lock", "state.duckdb"]
    assert run(shop, Told()) == {"users": "success", "groups": "success", "scores": "success"}


@pytest.mark.long
def test_planned_sync_is_dropped_when_a_command_is_interrupted(shop: Shop):
    """Ctrl-C while the first sends: its requests in flight are answered; of the second, which was ready, nothing is."""
    shop.destination = {"rate_limits": {"users_track": {"requests": 2, "per_seconds": 3600}}, "timeout_s": 600}
    shop.sync("users", USERS.replace("10", "1000")).sync("scores", SCORES).sync("groups", GROUPS, **BY_GROUP)
    shop.sync("seen", SEEN, **EVENTS)
    answer = Held(shop.braze, external_ids=["u0"])
    with start(shop, "sync", "--all", "--threads", "20") as process:
        process.wait_until(lambda: "/v2/subscription/status/set" in paths(shop))  # so the one before is planned
        process.wait_until(lambda: files(shop, "groups") == ["has-run", "lock", "state.duckdb"])
        process.send_signal(signal.SIGINT)
        answer.goes_out.set()
        assert process.wait() == 130, process.err
    assert "interrupted while no requests" not in process.err
    kept = json.loads((shop.folder / "target" / "run_results.json").read_text())["results"]
    assert [(one["sync"], one["status"]) for one in kept] == [
        ("users", "interrupted"),
        ("scores", "skipped"),
        ("groups", "success"),
        ("seen", "skipped"),
    ]
    assert kept[1]["errors"][0]["message"] == "scores: skipped: the command ended before this sync sent anything"
    assert kept[3]["errors"][0]["message"] == "seen: skipped: the command ended before this sync started"
    assert files(shop, "users") == ["has-run", "lock", "state.duckdb"]
    assert files(shop, "scores") == ["lock", "state.duckdb"]
    assert {frozenset(one) for body in shop.sent() for one in json.loads(body).get("attributes", [])} == {
        frozenset({"external_id", "visits"})
    }


@pytest.mark.long
def test_plan_that_is_being_made_ends_when_a_command_is_interrupted(shop: Shop, tmp_path: Path):
    """Ctrl-C while the first sends, and the model of the second waits for what it reads."""
    pipe = tmp_path / "pipes" / "pipe"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    shop.engine = {**shop.engine, "files": [str(pipe.parent)]}
    shop.destination = {"rate_limits": {"users_track": {"requests": 2, "per_seconds": 3600}}, "timeout_s": 600}
    shop.sync("users", USERS.replace("10", "1000"))
    product = "SELECT sum(hash(a.range, b.range)) AS n FROM range(1000000) a, range(10000000) b"
    slow = f"{product} WHERE a.range >= (SELECT length(content) FROM read_text('{pipe}'))"
    shop.sync("slow", f"SELECT 'u' AS external_id, n FROM ({slow})")
    answer = Held(shop.braze, external_ids=["u0"])
    with start(shop, "sync", "--all", "--threads", "2") as process:
        process.wait_until(answer.is_held.is_set)
        process.wait_until(lambda: reads(pipe))
        process.send_signal(signal.SIGINT)
        answer.goes_out.set()
        assert process.wait() == 130, process.err
    kept = json.loads((shop.folder / "target" / "run_results.json").read_text())["results"]
    assert [(one["sync"], one["status"]) for one in kept] == [("users", "interrupted"), ("slow", "interrupted")]
    assert files(shop, "users") == ["has-run", "lock", "state.duckdb"]
    assert files(shop, "slow") == ["lock", "state.duckdb"]


def reads(pipe: Path) -> bool:
    """Let whoever reads a named pipe go on; False if nobody does yet."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


class EndedError(Exception):
    pass


def test_exception_in_the_calling_thread_ends_what_is_being_sent_and_loses_nothing(shop: Shop):
    """As those of an orchestrator: it is raised while the second is planned and the first waits for its response."""

    def end() -> None:
        threading.Timer(0, answer.goes_out.set).start()
        raise EndedError

    shop.sync("users", USERS).sync("scores", SCORES)
    answer = Held(shop.braze, external_ids=["u0"])
    with pytest.raises(EndedError):
        run(shop, Told(("plans", "scores"), end))
    assert len(shop.sent()) == 1
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("retl-s")] == []
    told = Told()
    assert run(shop, told) == {"users": "success", "scores": "success"}
    assert (told.notices, len(shop.sent())) == ([], 2)


@pytest.mark.long
def test_command_that_is_given_up_after_its_first_result_drops_what_it_has_planned(shop: Shop):
    from reverse_etl.delivery.session import open_session
    from reverse_etl.runs.outcome import Options
    from reverse_etl.runs.run import jobs_of
    from reverse_etl.runs.sequence import run_jobs

    shop.sync("users", USERS).sync("scores", SCORES).sync("seen", SEEN, **EVENTS)
    project = shop.project()
    with open_session(project) as session:
        results = run_jobs(jobs_of(project, project.spec.syncs, Options(clock=shop.clock), Silent()), session)
        assert next(results).status == "success"
        results.close()
    assert list(shop.folder.glob(".retl/test/*/outbox.duckdb")) == []
    assert run(shop, Told()) == {"users": "success", "scores": "success", "seen": "success"}
    assert len(list(shop.braze.profiles())) == 20
    assert len(shop.sent()) == 3


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "part", "less"),
    [
        (None, 0.5, "1000MB"),
        ("512MB", 0.25, "128MB"),
        ("1.5GiB", 0.5, "0.75GiB"),
        ("4 GB", 0.25, "1GB"),
        ("80%", 0.5, "40%"),
        ("much", 0.5, "much"),
    ],
)
def test_memory_limit_of_a_command_is_divided_among_its_syncs(limit: str | None, part: float, less: str):
    assert part_of(limit, part) == less


@pytest.mark.long
def test_sync_for_which_a_part_of_the_memory_is_not_enough_is_planned_again_when_it_is_alone(shop: Shop):
    whole = "SELECT 'u1' AS external_id, len(list(i)) AS many FROM range(12000000) r(i)"
    shop.sync("users", USERS).sync("many", whole)
    told = Told()
    assert run(shop, told, memory_limit="300MB") == {"users": "success", "many": "success"}
    assert [event for event in told.events if event[0] == "plans"] == [
        ("plans", "users"),
        ("plans", "many"),
        ("plans", "many"),
    ]


# --- the same as one after the other ---------------------------------------------------------------------------------

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "users": ("SELECT 'u' || i AS external_id, v AS visits FROM t", {}),
    "scores": ("SELECT 'u' || i AS external_id, v AS score, i % 2 = 0 AS _update_existing_only FROM t", {}),
    "opt_outs": (
        "SELECT 'u' || i AS external_id, CASE v WHEN 0 THEN 'subscribed' ELSE 'unsubscribed' END AS email_subscribe FROM t",
        {},
    ),
    "seen": ("SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, v FROM t", EVENTS),
    "groups": (
        f"""SELECT 'u' || i AS external_id, '{GROUP}' AS subscription_group_id,
        CASE v WHEN 0 THEN 'unsubscribed' ELSE 'subscribed' END AS subscription_state FROM t""",
        BY_GROUP,
    ),
    "aliases": ("SELECT 'a' || i AS alias_name, 'l' AS alias_label, 'u' || i AS external_id FROM t", BY_ALIAS),
    "invalid": (
        "SELECT 'u' || i AS external_id, CASE v WHEN 0 THEN repeat('x', 300) END AS nickname FROM t",
        {"strict": True, "skip_on_invalid_records": True},
    ),
}


@st.composite
def commands(draw: st.DrawFn) -> tuple[list[tuple[str, list[str]]], list[tuple[int, int]]]:
    """Syncs in their order, each with those that it runs after; how the table changes between two commands."""
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=5, unique=True))
    syncs = [
        (name, sorted(draw(st.sets(st.sampled_from(names[:number]), max_size=1)) if number else []))
        for number, name in enumerate(names)
    ]
    changes = draw(st.lists(st.tuples(st.integers(2, 5), st.integers(0, 4)), min_size=1, max_size=2))
    return syncs, changes


def history(folder: Path, several: bool, command: Any) -> tuple[Any, ...]:
    """What Braze got, by family, and what the states hold, after commands of several syncs, or of one sync each."""
    syncs, changes = command
    with Sandbox() as braze:
        shop = Shop(folder, braze, destination={"max_objects_per_request": 7})
        for name, after in syncs:
            sql, options = KINDS[name]
            shop.sync(name, sql, **options, **({"after": after} if after else {}))
        shop.warehouse("CREATE TABLE t AS SELECT i, i % 3 AS v FROM range(20) r(i)")
        found: list[Any] = []
        sent, seen = list[Any](), 0
        for of, rest in [(1, 1), *changes]:
            shop.warehouse(f"UPDATE t SET v = (v + 1) % 3 WHERE i % {of} = {rest}")
            if several:
                results = shop.run_all(*(name for name, _ in syncs), threads=2)
            else:
                results = []
                for name, after in syncs:
                    if set(after) <= {result.sync for result in results if result.status == "success"}:
                        results += shop.run_all(name, threads=2)
            found += [(one.sync, one.status, one.delivery) for one in results if one.status != "skipped"]
            new = braze.requests(after=seen)
            seen += len(new)
            sent += [in_order([one for one in new if one.path == path]) for path in sorted({one.path for one in new})]
        kept = {
            name: {
                table: shop.rows_of(table, f"* EXCLUDE ({', '.join(times)})", sync=name)
                for table, times in (
                    ("state", ["_retl_sent_at", "_retl_run_id"]),
                    ("rejects", ["rejected_at", "run_id"]),
                    ("opt_outs", ["opted_out_at"]),
                )
            }
            for name, _ in syncs
            if any(one[0] == name for one in found)
        }
        by_user = {
            profile["external_id"]: {name: profile[name] for name in profile.keys() - {"braze_id", "created_at"}}
            for profile in braze.profiles()
        }
        return found, sent, kept, by_user


def in_order(requests: list[LoggedRequest]) -> tuple[list[Any], list[str]]:
    """What was sent to one endpoint: whose records came after whose, and all of them. Two threads change places."""

    def of(request: LoggedRequest) -> Any:
        ((array, records),) = json.loads(request.body).items()
        return array, sorted({name for record in records for name in record} - {"_update_existing_only"})

    return [sync for sync, _ in groupby(map(of, requests))], sorted(request.body for request in requests)


@pytest.mark.long
@settings(max_examples=examples(4, 60), deadline=None)
@given(commands())
def test_overlapping_syncs_send_and_keep_what_they_do_one_after_the_other(command):
    with tempfile.TemporaryDirectory() as folder:
        overlapping = history(Path(folder) / "several", True, command)
        alone = history(Path(folder) / "single", False, command)
    assert overlapping == alone
