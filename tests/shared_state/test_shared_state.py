"""A state in an object store: machines that share it neither meet, nor move it back, nor lose what one of them sent."""

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests

from reverse_etl.delivery.session import open_session
from reverse_etl.runs.due import find_due
from reverse_etl.runs.flaps import HowToLook, flaps
from reverse_etl.runs.forgetting import Forgetting, asked_for, check, forget
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.scheduler import due_jobs
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.runs.site import collect
from reverse_etl.runs.why import why
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.shared_state import lock, object_store
from reverse_etl.shared_state.head import new_holder, read_head
from reverse_etl.shared_state.object_store import settings
from reverse_etl.shared_state.reading import left_of
from reverse_etl.shared_state.shared import acquired
from reverse_etl.state.edit import reset, resolve
from reverse_etl.state.history import past_runs
from reverse_etl.state.look import acknowledged_row, rows_not_in_braze, sync_status
from reverse_etl.state.persons import Found
from reverse_etl.state.places import place_of
from reverse_etl.system.file_lock import wait_for
from tests.bucket import SECRET, Bucket
from tests.processes import HANG_S, Forked
from tests.runs.test_run_due import YEARLY
from tests.shop import (
    EVENTS,
    FIVE_REQUESTS,
    KEY,
    MANY,
    SEEN,
    FakeClock,
    Held,
    Retl,
    Shop,
    examples,
    running,
    some,
    start,
)

HOUR = timedelta(hours=1)


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is down on purpose is not waited for."""
    monkeypatch.setattr(object_store, "_RETRIES", 0)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as bucket:
        yield bucket


def machine(folder: Path, braze: Sandbox, bucket: Bucket) -> Shop:
    shop = Shop(folder, braze, state={"path": bucket.url}, environ={"BRAZE_API_KEY": KEY, **bucket.environ})
    for name, value in bucket.environ.items():
        shop.environ[name] = value
    return shop


@pytest.fixture
def one(tmp_path: Path, braze: Sandbox, bucket: Bucket) -> Shop:
    return machine(tmp_path / "one", braze, bucket)


@pytest.fixture
def two(tmp_path: Path, braze: Sandbox, bucket: Bucket) -> Shop:
    """Another machine: another folder, with the same project."""
    return machine(tmp_path / "two", braze, bucket)


def both(one: Shop, two: Shop, sql: str, **options: Any) -> None:
    for shop in (one, two):
        shop.sync("it", sql, **options)


def later(shop: Shop) -> Shop:
    """An hour later: the locks of machines that died have run out."""
    shop.clock = FakeClock(ahead=HOUR)
    return shop


def as_before(shop: Shop, bucket: Bucket, runs: list[dict[str, Any]]) -> None:
    """Let the store, and the copy of a machine that ran last, be what version 0.1.0 left: its state is one file."""
    objects, folder = bucket.objects(), shop.folder / ".retl/test/it"
    with duckdb.connect(folder / "state.duckdb") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'revision'; CHECKPOINT")
    data, name = (folder / "state.duckdb").read_bytes(), "state-1-0123456789abcdef-0123.duckdb"
    objects.write(name, data)
    state = {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "users": 1000}
    head = {"format": 1, "retl": "0.1.0", "sync": "it", "target": "test", "generation": 1, "state": state, "runs": runs}
    objects.write("head.json", json.dumps({**head, "before": None, "holder": None, "sending": None}).encode())
    copy = {"url": objects.url, "base": name, "is_changed": False, "token": "0123456789abcdef", "run_token": None}
    (folder / "copy.json").write_text(json.dumps(copy))
    (folder / "log.json").unlink()


def states(bucket: Bucket) -> list[str]:
    return [name for name in bucket.names() if name.startswith("state-")]


# --- sharing -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_fresh_machine_knows_what_happened_and_sends_nothing_when_nothing_changed(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, MANY)
    project = two.project()
    assert sync_status(project, project.sync("it")).last_run == "never"
    assert bucket.names() == []
    assert one.run().delivery.accepted == 1000
    assert [(run.status, run.accepted) for run in past_runs(project, [project.sync("it")], 10)] == [("success", 1000)]
    result = two.run()
    assert (result.status, result.plan.unchanged, result.delivery.requests) == ("success", 1000, 0)
    assert bucket.head().holder is bucket.head().sending is None
    bucket.log.clear()
    one.run()  # it keeps its copy, and fetches none
    assert [path for method, path in bucket.log if method == "GET" and "state-" in path] == []


@pytest.mark.long
def test_machines_take_turns_and_a_run_that_changes_nothing_uploads_no_state_and_is_known_all_the_same(
    one: Shop, two: Shop, bucket: Bucket
):
    both(one, two, MANY)
    one.run()
    before = states(bucket)
    bucket.log.clear()
    runs = [one.run().plan.run_id, one.run().plan.run_id]
    assert states(bucket) == before
    head = f"/{bucket.name}/retl/test/it/head.json"
    assert [path for method, path in bucket.log if method == "PUT"] == [head] * 4  # the lock, and what is new
    assert sync_status(two.project(), two.project().sync("it")).last_run == "success"
    assert {run for (run,) in two.rows_of("runs", "run_id")} >= set(runs)
    two.sync("it", MANY.replace("range(1000)", "range(1010)"))
    assert two.run().delivery.accepted == 10
    assert states(bucket) == before
    assert len(one.rows_of("runs", "1")) == 3
    one.sync("it", MANY.replace("range(1000)", "range(1020)").replace("i AS n", "i + 1 AS n"))
    result = one.run()
    assert (result.plan.added, result.plan.changed) == (10, 1010)
    assert len(one.rows_of("runs", "1")) == 5
    assert bucket.head().generation == 5
    assert bucket.names() == sorted(["head.json", *(stored.name for stored in bucket.head().objects())])


@pytest.mark.long
def test_runs_that_a_machine_of_the_version_before_noted_are_known_in_the_words_of_today(
    one: Shop, two: Shop, bucket: Bucket
):
    both(one, two, MANY)
    one.run()
    counts = {"rows": 1000, "remembered": 2, "adopted": 3, "fates": {"accepted": 4, "maybe_twice": 5}}
    times = dict.fromkeys(["started_at", "finished_at", "scheduled_time"], "2026-01-01 00:00:00+00")
    before = {"run_id": "20260101T000000-abcdef", "status": "stopped", "message": None, "counts": json.dumps(counts)}
    as_before(one, bucket, [{**before, **times}])
    result = two.run()
    assert (result.status, result.delivery.requests) == ("success", 0)
    (found,) = two.rows_of("runs", "status", "counts", "run_id LIKE '20260101%'")[:1]
    assert (found[0], json.loads(found[1]), found[2]) == (
        "blocked",
        {
            "rows": 1000,
            "previously_rejected": 2,
            "marked_accepted": 3,
            "delivery": {"accepted": 4, "possible_duplicates": 5},
        },
        True,
    )
    assert [run.status for run in past_runs(two.project(), [two.project().sync("it")], 10)].count("blocked") == 1
    assert (bucket.head().format, bucket.head().runs) == (3, ())
    bucket.log.clear()
    assert one.run().delivery.requests == 0
    assert len(one.rows_of("runs", "1")) == 4
    assert bucket.names() == sorted(["head.json", *(stored.name for stored in bucket.head().objects())])


@pytest.mark.long
def test_state_of_another_duckdb_is_read_if_it_is_an_older_one(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, "SELECT 'a' AS external_id, 1 AS n")
    one.run()
    ours = bucket.head().duckdb
    for theirs in ("99.0.0", "1.5.0"):
        data, seen = bucket.objects().read("head.json")
        head = read_head(data).model_copy(update={"duckdb": theirs})
        assert bucket.objects().swap("head.json", head.to_json(), seen)
        before = states(bucket)
        result = two.run()
        if theirs == "99.0.0":
            (error,) = result.errors
            what = f"the state at {bucket.url}/test/it was written with DuckDB 99.0.0; this machine has {ours}"
            assert (error.message, error.hint) == (what, 'upgrade it: `pip install "duckdb>=99.0.0"`')
        else:
            assert result.delivery.requests == 0
            assert states(bucket) != before  # a base of one version, and a log of that
    assert bucket.head().duckdb == ours


@pytest.mark.long
@pytest.mark.parametrize("last", ["one", "two"])
def test_machine_that_has_the_copy_of_the_version_before_goes_on_with_it(
    one: Shop, two: Shop, bucket: Bucket, last: str
):
    both(one, two, SEEN, **EVENTS)
    one.run()
    as_before(one, bucket, [])
    bucket.log.clear()
    for shop in (one, two) if last == "two" else (two, one):
        assert shop.run().delivery.requests == 0
    assert len(one.braze.events()) == 1000
    fetched = [path for method, path in bucket.log if method == "GET" and "/state-1-" in path]
    assert len(fetched) == (0 if last == "two" else 1)


@pytest.mark.long
def test_incremental_run_without_news_uploads_no_state(one: Shop, bucket: Bucket):
    sql = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, i FROM range(9) r(i)"
    one.sync("it", sql, **{**EVENTS, "primary_key": "i", "incremental": {"cursor": "i"}}).run()
    before = states(bucket)
    assert one.run().status == "success"
    assert states(bucket) == before


@pytest.mark.long
def test_plan_uploads_nothing_leaves_no_lock_and_is_refused_once_another_machine_applied_it(
    one: Shop, two: Shop, bucket: Bucket, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    both(one, two, MANY)
    assert retl("plan", "it", "--out", "../plan", folder=one.folder).code == 0
    assert bucket.names() == ["head.json"]
    assert retl("apply", "../plan", folder=two.folder).code == 0
    before = (bucket.names(), bucket.head())
    one.sync("it", MANY.replace("i AS n", "i + 1 AS n"))
    outcome = retl("plan", "it", folder=one.folder)
    assert (outcome.code, "~ 1,000 changed" in outcome.out) == (0, True), outcome
    assert (bucket.names(), bucket.head()) == before
    one.sync("it", MANY)
    outcome = retl("apply", "../plan", folder=one.folder)
    assert outcome.code == 1
    assert outcome.err.startswith("it: plan refused: it was already applied, at ")
    assert len(one.sent()) == 14


@pytest.mark.long
def test_state_looks_the_same_from_a_fresh_machine(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, "SELECT * FROM (VALUES ('a', 1), ('', 2)) t(external_id, n)", skip_on_invalid_records=True)
    one.run()
    for shop in (one, two):
        project, sync = shop.project(), shop.project().sync("it")
        assert sync_status(project, sync).cells()[3:] == ("1", "0", "1", "0")
        assert [row["status"] for row in rows_not_in_braze(project, sync, False)] == ["invalid"]
        assert acknowledged_row(project, sync, "a")["n"] == "1"


@pytest.mark.long
def test_what_is_due_runs_on_one_machine_and_is_found_done_by_the_others(one: Shop, two: Shop):
    both(one, two, MANY, **YEARLY)
    statuses = []
    for shop in (one, two, one):
        project = shop.project()
        dues = find_due(project, project.spec.syncs, project.started_at)
        with open_session(project) as session:
            run = run_jobs(due_jobs(project, dues, Options(clock=shop.clock), shop.listener), session)
            statuses.append([result.status for result in run])
    assert statuses == [["success"], ["already_run"], []]


# --- one at a time -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_second_machine_is_told_who_is_at_work_and_takes_the_lock_of_a_dead_one_when_it_has_run_out(
    one: Shop, two: Shop
):
    both(one, two, MANY)
    with running(one, until="u300") as process:
        result = two.run()
        project = two.project()
        assert sync_status(project, project.sync("it")).last_run == "running"
        process.kill()
    assert (result.status, result.exit_code) == ("running", 1)
    what = result.errors[0].message
    assert what.startswith(f'sync "it" on target "test" is already running: process {process.pid} on ')
    assert result.errors[0].hint == wait_for("it")
    two.clock = FakeClock(ahead=-HOUR)
    assert two.run().errors[0].message.startswith('sync "it" on target "test" is already running')
    assert later(two).run().status == "success"
    owner = two.listener.notices[0]
    assert owner.startswith(f"it: took over the lock of process {process.pid} on ")
    assert owner.endswith(", which ended without releasing it")


@pytest.mark.long
def test_run_that_was_killed_while_it_sent_and_recovered_elsewhere_is_not_said_to_have_sent_nothing(
    one: Shop, two: Shop
):
    both(one, two, MANY)
    with running(one, until="u300") as process:
        process.kill()
    assert later(two).run().status == "success"
    project = one.project()
    assert sync_status(project, project.sync("it")).last_run == "success"
    one.clock = FakeClock(ahead=2 * HOUR)
    result = one.run()
    assert (result.status, result.delivery.requests) == ("success", 0)
    assert [notice for notice in one.listener.notices if "killed" in notice] == []


@pytest.mark.long
def test_of_two_machines_that_wait_one_sends_and_the_other_finds_nothing_to_do(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, SEEN, **EVENTS)
    runs = [start(shop, "sync", "it", "--wait", "300") for shop in (one, two, one, two)[: examples(2, 4)]]
    outs = [run.communicate() for run in runs]
    assert {run.returncode for run in runs} == {0}, outs
    assert sorted("nothing to send, 0 requests" in out for out, _ in outs) == [False, *[True] * (len(runs) - 1)]
    assert len(one.braze.events()) == 1000


@pytest.mark.long
def test_lock_of_a_process_that_died_on_this_machine_is_not_waited_for(one: Shop):
    one.sync("it", SEEN, **EVENTS)
    with running(one, until="u300") as process:
        process.kill()
    result = one.run()
    assert one.listener.notices[1:] == [
        "it: recovered the last run, which was killed: 300 rows accepted, 0 rejected, 75 in doubt, 625 still to be sent"
    ]
    assert (result.status, result.plan.held, result.delivery.accepted) == ("incomplete", 75, 625)
    names = [event["external_id"] for event in one.braze.events()]
    assert len(names) == len(set(names)) == 1000


def take_lock(bucket: Bucket) -> None:
    """What another machine does first; and again, should the lock be renewed just then."""
    objects, swapped = bucket.objects(), None
    while not swapped:
        data, seen = objects.read("head.json")
        head = json.loads(data)
        head["holder"] = {**head["holder"], "token": "other", "host": "elsewhere", "pid": 7}
        swapped = objects.swap("head.json", json.dumps(head).encode(), seen)


def take_lock_of_nobody(bucket: Bucket) -> None:
    data, seen = bucket.objects().read("head.json")
    holder = new_holder("other", "elsewhere", 7, datetime.now(UTC))
    assert bucket.objects().swap("head.json", read_head(data).held_by(holder).to_json(), seen)


def at_record(shop: Shop, identifier: str, do: Callable[[], object]) -> None:
    """Do something as the record of that user arrives at Braze."""

    def matches(found: str) -> bool:
        if found == identifier:
            do()
        return found == identifier

    shop.braze.add_fault(Fault("delay", matches=matches))


class Standing(FakeClock):
    """A clock on which nobody's time comes: who waits for it waits until the run stops."""

    def wait(self, wait_s: float, stop: threading.Event) -> None:
        assert stop.wait(HANG_S)


@pytest.mark.long
def test_run_that_lost_its_lock_stops_sending_and_moves_nothing(one: Shop, bucket: Bucket, monkeypatch):
    monkeypatch.setattr(lock, "RENEW_EVERY_S", 0.02)
    one.clock, one.destination = Standing(), FIVE_REQUESTS
    one.sync("it", MANY)
    at_record(one, "u300", lambda: take_lock(bucket))
    result = one.run(threads=1)
    assert (result.status, result.exit_code) == ("failed", 1)
    assert len(one.sent()) == 5
    (problem,) = result.errors
    assert problem.message.startswith(
        f"it: another machine took over the state at {bucket.url}/test/it: process 7 on else"
    )
    assert ": 375 rows that Braze accepted in this run are recorded only in " in problem.message
    head = bucket.head()
    assert (head.generation, head.state, head.holder.host) == (0, None, "elsewhere")
    assert states(bucket) == []


@pytest.mark.long
def test_machine_that_slept_longer_than_its_lock_sends_nothing_more(one: Shop, bucket: Bucket):
    one.sync("it", MANY)
    at_record(one, "u300", lambda: setattr(one.clock, "ahead", HOUR))
    result = one.run(threads=1)
    assert (result.status, result.delivery.accepted) == ("failed", 375)
    assert result.errors[0].message == "it: cannot write the journal: the state lock expired"
    assert one.run().status == "success"
    assert len(list(one.braze.profiles())) == 1000


@pytest.mark.long
def test_interrupted_run_moves_the_state_and_lets_go(one: Shop, two: Shop, bucket: Bucket):
    one.destination = FIVE_REQUESTS
    both(one, two, MANY)
    answer = Held(one.braze, external_ids=["u300"])
    with running(one, until=answer) as process:
        process.send_signal(signal.SIGINT)
        answer.goes_out.set()
        assert process.wait() == 130
    head = bucket.head()
    assert (head.generation, head.holder, head.sending) == (1, None, None)
    assert len(list(one.braze.profiles())) == 375
    assert two.run().plan.added == 625


# --- a machine that is lost --------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("until", some(["u300", "u0", "u999"], every=3))
def test_lost_machine_of_events_doubles_none_not_even_if_it_comes_back_and_what_may_have_arrived_is_listed(
    one: Shop, two: Shop, until: str
):
    both(one, two, SEEN, **EVENTS)
    with running(one, until=until) as process:
        process.kill()
    arrived = {event["external_id"] for event in one.braze.events()}
    result = later(two).run()
    project, sync = two.project(), two.project().sync("it")
    known = {key for (key,) in two.rows_of("state", "external_id") if key}
    doubtful = {row["key"] for row in rows_not_in_braze(project, sync, False)}
    assert arrived <= known | doubtful  # no doubtful one is silent
    assert known & doubtful == set()
    assert len(known | doubtful) == 1000
    assert result.status == "incomplete"
    _, killed = two.listener.notices
    assert killed.startswith("it: recovered the last run, which was killed: ")
    back = later(one).run()
    assert one.listener.notices[1:] == [
        "it: another machine recovered a run that was cut off here; responses that only this machine saw are ignored"
    ]
    assert (back.plan.held, back.delivery.requests) == (result.plan.held, 0)
    for resolution, keys in (("mark_accepted", doubtful & arrived), ("resend", doubtful - arrived)):
        if keys:
            resolve(project, sync, resolution, sorted(keys))
    assert one.run().status == "success"  # the decision was taken on one machine, and is followed on the other
    names = [event["external_id"] for event in one.braze.events()]
    assert len(names) == len(set(names)) == 1000
    assert two.run().delivery.requests == 0


@pytest.mark.long
def test_machine_that_was_only_thought_to_be_lost_doubles_nothing_in_silence_and_only_what_it_released_is_in_doubt(
    one: Shop, two: Shop
):
    """The clock of the second is an hour off, so it takes over from one that lives, and goes on when it is answered."""
    both(one, two, SEEN.replace("range(1000)", "range(6000)"), **EVENTS)
    answer = Held(one.braze, external_ids=["u300"])
    with running(one, until=answer) as process:
        result = later(two).run()
        answer.goes_out.set()
        _, err = process.communicate()
    assert process.returncode == 1
    assert "it: another machine took over the state at " in err
    names = [event["external_id"] for event in one.braze.events()]
    assert len(names) == len(set(names))
    project = two.project()
    doubtful = {row["key"] for row in rows_not_in_braze(project, project.sync("it"), False)}
    known = {key for (key,) in two.rows_of("state", "external_id")}
    assert set(names) <= known | doubtful
    assert len(doubtful) == result.plan.held == 6000 - len(known)
    assert 0 < result.plan.held <= 5000
    assert result.delivery.accepted == 1000


@pytest.mark.long
@pytest.mark.parametrize("until", some(["u300", "u0", "u999"], every=3))
def test_lost_machine_of_attributes_loses_nothing(one: Shop, two: Shop, until: str):
    both(one, two, MANY)
    one.run()
    for shop in (one, two):
        shop.sync("it", MANY.replace("i AS n", "i + 1 AS n"))
    with running(one, until=until) as process:
        process.kill()
    two.sync("it", MANY)  # back to what was acknowledged: what may have arrived must be mended
    result = later(two).run()
    assert result.status == "success"
    profiles = {profile["external_id"]: profile for profile in two.braze.profiles()}
    assert {name: profile["custom_attributes"]["n"] for name, profile in profiles.items()} == {
        f"u{i}": i for i in range(1000)
    }
    assert two.run().delivery.requests == 0


@pytest.mark.long
def test_machine_that_dies_while_it_takes_over_is_taken_over_in_turn(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, SEEN, **EVENTS)
    with running(one, until="u300") as process:
        process.kill()
    bucket.refuses_states = True
    assert later(two).run().errors[0].message.startswith(f"no permission to write {bucket.url}/test/it/state-")
    bucket.refuses_states = False
    assert bucket.head().sending is not None
    two.clock = FakeClock(ahead=2 * HOUR)
    result = two.run()
    assert result.status == "incomplete"
    assert result.plan.held + len(two.rows_of("state", "1", sync="it")) >= 1000
    names = [event["external_id"] for event in one.braze.events()]
    assert len(names) == len(set(names))


@pytest.mark.long
@pytest.mark.parametrize("write", some([2, 3, 4, 5, 6], every=2))
def test_what_a_killed_run_has_left_in_the_store_is_deleted_by_the_machine_that_takes_over(
    one: Shop, two: Shop, bucket: Bucket, write: int
):
    both(one, two, MANY)
    one.run()
    for shop in (one, two):
        shop.sync("it", MANY.replace("i AS n", "i + 1 AS n"))
    running_now: list[Forked] = []
    bucket.at_write(write, lambda: running_now[0].kill())
    with start(one, "sync", "it") as process:
        running_now.append(process)
        process.wait()
    bucket.at_write(0, lambda: None)
    later(two).run()
    head, end = bucket.head(), ("run-", 20)  # the end of its journal stays for a day
    listed = {name: one.size for name, one in bucket.objects().listed().items()}
    named = {"head.json", *(stored.name for stored in head.objects())}
    of_state = {name for name in listed if not name.startswith("ledger/")}
    assert {name for name in of_state if (name[:4], listed[name]) != end} == named
    assert {profile["custom_attributes"]["n"] for profile in two.braze.profiles()} == set(range(1, 1001))
    assert one.run().delivery.requests == 0


@pytest.mark.long
@pytest.mark.parametrize("name", ["log.json", "state.duckdb.wal", "state.duckdb"])
def test_machine_that_has_lost_a_part_of_its_copy_still_knows_what_it_has_sent(
    one: Shop, two: Shop, bucket: Bucket, name: str
):
    both(one, two, SEEN, **EVENTS)
    one.run()
    both(one, two, SEEN.replace("range(1000)", "range(1300)"), **EVENTS)
    one.run()
    both(one, two, SEEN.replace("range(1000)", "range(2300)"), **EVENTS)
    with running(one, until="u1600") as process:
        process.kill()
    (one.folder / ".retl/test/it" / name).unlink()
    result = one.run()
    assert (result.status, result.plan.held, result.delivery.accepted) == ("incomplete", 75, 625)
    names = [event["external_id"] for event in one.braze.events()]
    assert len(names) == len(set(names)) == 2300
    assert two.run().delivery.requests == 0


@pytest.mark.long
def test_why_and_flaps_read_a_state_that_another_machine_uses_with_its_ledger(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, "SELECT 'a' AS external_id, 1 AS n")
    one.run()
    both(one, two, "SELECT 'a' AS external_id, 2 AS n")
    one.run()
    take_lock_of_nobody(bucket)
    project = two.project()
    found = why(project, "a", "n", [project.sync("it")], None, True)
    assert found.notes == ["it: in use by a sync; shown is the state from before that run"]
    assert [(write.old, write.new) for write in found.cells[0].writes] == [("1", "2"), (None, "1")]
    changed = flaps(project, [project.sync("it")], HowToLook(30, 10, project.started_at)).columns
    assert [(one.column, one.changes) for one in changed] == [("n", 1)]
    assert bucket.head().holder is not None
    assert not [*(two.folder / ".retl/test/it").glob(".copy-*")]


def test_history_of_a_state_that_another_machine_uses_leaves_no_copy_behind(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, "SELECT 'a' AS external_id, 1 AS n")
    one.run()
    take_lock_of_nobody(bucket)
    folder, project = one.folder / ".retl/test/it", one.project()
    before = sorted(path.name for path in folder.iterdir())
    assert [run.status for run in past_runs(project, [project.sync("it")], 10)] == ["success"]
    assert sorted(path.name for path in folder.iterdir()) == before
    left = folder / ".copy-of-a-process-that-was-killed"
    left.mkdir()
    (left / "state.duckdb").touch()
    os.utime(left, (0, 0))
    later(one).run()
    assert not left.exists()


# --- a store that is not there -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("asked_once")
@pytest.mark.long
def test_store_that_cannot_be_reached_or_refuses_is_said_before_anything_is_sent_and_no_secret_is(
    one: Shop, bucket: Bucket
):
    one.sync("it", MANY)
    bucket.is_down = True
    result = one.run()
    assert (result.status, result.exit_code) == ("failed", 1)
    assert result.errors[0].message == f"cannot reach {bucket.url}/test/it/head.json: 503 Service Unavailable SlowDown"
    assert sync_status(one.project(), one.project().sync("it")).last_run == "unreachable"
    bucket.is_down, bucket.refuses = False, True
    said = str(one.run().errors[0])
    assert said == (
        f"no permission to read {bucket.url}/test/it/head.json: 403 Forbidden AccessDenied\n"
        "  hint: check the credentials in the environment or .env; docs/state.md lists the permissions they need"
    )
    assert SECRET not in said
    assert one.sent() == []
    bucket.refuses = False
    assert one.run().status == "success"


@pytest.mark.long
@pytest.mark.usefixtures("asked_once")
def test_store_that_breaks_off_while_sending_leaves_the_run_here_and_it_is_brought_later(
    one: Shop, two: Shop, bucket: Bucket
):
    both(one, two, SEEN, **EVENTS)
    at_record(one, "u300", lambda: setattr(bucket, "is_down", True))
    result = one.run()
    assert result.status == "failed"
    assert result.errors[0].message.endswith(
        f"; the shared state was not updated: 1,000 rows that Braze accepted in this run are recorded only in "
        f"{one.folder}/.retl/test/it"
    )
    bucket.is_down = False
    assert one.run().delivery.requests == 0
    assert two.run().delivery.requests == 0
    assert len(one.braze.events()) == 1000


def test_store_that_does_not_compare_is_refused(one: Shop, bucket: Bucket, retl: Retl, monkeypatch):
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    one.sync("it", MANY)
    assert f"ok    state.path: {bucket.url}\n" in retl("debug", folder=one.folder).out
    assert bucket.objects("").names() == []
    bucket.ignores_conditions = True
    what = "does not honor conditional writes: it accepted what If-Match and If-None-Match forbid"
    assert f"FAIL  state.path: {bucket.url}/test {what}" in retl("debug", folder=one.folder).out
    assert one.run().errors[0].message == f"{bucket.url}/test/it {what}"
    assert set(one.sent()) == {"{}"}  # of `debug`, for the key's permissions


def test_bucket_that_is_not_there_is_named(one: Shop):
    one.state = {"path": "s3://nowhere/retl"}
    one.sync("it", MANY)
    assert one.run().errors[0].message == "cannot reach s3://nowhere/retl/test/it/head.json: the bucket does not exist"


def test_missing_package_is_a_mistake_of_the_set_up(one: Shop, bucket: Bucket, retl: Retl, monkeypatch):
    one.sync("it", MANY)
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    for name in ["obstore", *(name for name in sys.modules if name.startswith("obstore."))]:
        monkeypatch.setitem(sys.modules, name, None)
    result = one.run()
    said = f'the state at {bucket.url}/test/it needs the package obstore\n  hint: install it: `pip install "reverse-etl[state]"`'
    assert (result.exit_code, str(result.errors[0])) == (2, said)
    for command in (["status"], ["history"], ["rejects", "it"], ["state", "show", "it"], ["why", "u1"], ["plan"]):
        done = retl(*command, folder=one.folder)
        assert (done.code, said in done.err) == (2, True), (command, done.out, done.err)


def test_state_does_not_travel_unencrypted_to_another_machine(one: Shop, bucket: Bucket):
    one.sync("it", MANY)
    one.environ["AWS_ENDPOINT_URL"] = "http://minio.example.com:9000"
    result = one.run()
    assert (result.exit_code, result.errors[0].message) == (
        2,
        f"the state at {bucket.url}/test/it would be sent unencrypted, and it contains personal data",
    )


@pytest.mark.parametrize("address", ["minio.example.com", "minio:9000", "https://"])
def test_address_that_is_none_is_said(one: Shop, bucket: Bucket, address: str):
    one.sync("it", MANY)
    one.environ["AWS_ENDPOINT_URL"] = address
    result = one.run()
    assert (result.exit_code, result.errors[0].message) == (
        2,
        f"invalid endpoint for the store at {bucket.url}/test/it: {address}",
    )


def test_settings_of_a_store_come_from_the_variables_that_its_tools_have():
    environ = {
        "AWS_ENDPOINT_URL": "",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_SESSION_TOKEN": "t",
        "AZURE_CLIENT_ID": "c",
    }
    assert settings("s3", environ) == {
        "region": "eu-west-1",
        "session_token": "t",
        "endpoint": "https://s3.eu-west-1.amazonaws.com",
    }
    assert settings("s3", {"AWS_ENDPOINT_URL": "https://a", "AWS_ENDPOINT_URL_S3": "https://b"}) == {
        "region": "us-east-1",
        "endpoint": "https://b",
    }
    assert settings("az", {**environ, "AZURE_STORAGE_ACCOUNT_NAME": "a"}) == {"client_id": "c", "account_name": "a"}
    assert settings("gs", {"GOOGLE_SERVICE_ACCOUNT": "/key.json"}) == {"service_account": "/key.json"}


@pytest.mark.long
def test_state_that_was_written_over_is_found_out(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, MANY)
    one.run()
    bucket.objects().write(states(bucket)[0], b"x" * bucket.head().state.size)
    assert (
        two.run().errors[0].message == f"{bucket.url}/test/it/{states(bucket)[0]} does not match its recorded checksum"
    )
    bucket.objects().delete(states(bucket))
    assert two.run().errors[0].message.endswith(" is missing, but head.json names it as the current state")


# --- by hand, and from one place to another ----------------------------------------------------------------------------


@pytest.mark.long
def test_forgotten_person_is_gone_from_the_store_and_a_reset_is_one_on_all_machines(
    one: Shop, two: Shop, bucket: Bucket
):
    """What remains is named."""
    both(one, two, MANY)
    one.run()
    both(one, two, MANY.replace("i AS n", "i + 1 AS n"))
    two.run()
    bucket.objects().write("state-0-backup.duckdb", b"of somebody")
    how = Forgetting(one.project(), print)
    gone = forget(how, asked_for(how, "u7"), in_braze=False)
    assert gone.found == {"it": Found(acknowledged=1, ledger=2)}
    assert gone.out_of_reach == [f"{bucket.url}/test/it/state-0-backup.duckdb"]
    assert len(states(bucket)) == 2
    result = two.run()
    assert (result.plan.suppressed, result.delivery.requests) == (1, 0)
    assert check(Forgetting(two.project(), print), gone.receipt).wrong == []
    before = bucket.head()
    old = reset(place_of(one.project(), one.project().sync("it")))
    assert two.run().plan.added == 1000
    assert one.run().delivery.requests == 0
    kept = bucket.objects().read(old.removeprefix(f"{bucket.url}/test/it/"))
    assert read_head(kept[0]).objects() == before.objects()
    bucket.objects().write("head.json", kept[0])  # as docs/state.md says
    assert [one.run().delivery.requests, two.run().delivery.requests] == [0, 0]
    assert bucket.head().generation == before.generation + 2


@pytest.mark.long
def test_state_of_before_sharing_is_what_the_store_begins_with(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, MANY)
    for shop in (one, two):
        shop.state = {}
        shop.write()
    one.run()
    two.sync("it", MANY.replace("range(1000)", "range(1)")).run()
    for shop in (one, two):
        shop.state = {"path": bucket.url}
        shop.sync("it", MANY)
    result = one.run()
    assert one.listener.notices == [f"it: the state in this folder becomes the initial state at {bucket.url}/test/it"]
    assert (result.plan.unchanged, result.delivery.requests) == (1000, 0)
    assert two.run().delivery.requests == 0
    (kept,) = (two.folder / ".retl/test/it").glob("before-sharing-*.duckdb")
    assert two.listener.notices == [
        f"it: {bucket.url}/test/it already has a state; the one in this folder is kept in {kept}"
    ]


@pytest.mark.long
def test_state_of_before_sharing_is_never_lost_to_a_run_that_was_cut_off_elsewhere(one: Shop, two: Shop):
    both(one, two, MANY)
    two.state = {}
    two.write()
    two.run()
    with running(one, until="u300") as process:
        process.kill()
    two.state = {"path": one.state["path"]}
    two.write()
    later(two).run()
    (kept,) = (two.folder / ".retl/test/it").glob("before-sharing-*.duckdb")
    assert any(str(kept) in note for note in two.listener.notices)


def test_copy_is_not_taken_for_a_state_when_state_path_is_taken_out_or_leads_to_an_empty_store(
    one: Shop, bucket: Bucket
):
    one.sync("it", MANY).run()
    one.state = {}
    one.write()
    result = one.run()
    assert result.errors[0].message.endswith(", but the target no longer sets state.path")
    assert result.delivery is None
    one.state = {"path": f"{bucket.url}-moved"}
    one.write()
    what = f"{bucket.url}-moved/test/it is empty, but {one.folder}/.retl/test/it is a copy of {bucket.url}/test/it"
    assert one.run().errors[0].message == what
    assert len(one.sent()) == 14


def test_state_in_a_folder_moves_there(shop: Shop, tmp_path: Path):
    shop.state = {"path": "../elsewhere"}
    shop.sync("it", MANY)
    assert shop.run().delivery.accepted == 1000
    assert (tmp_path / "elsewhere/test/it/state.duckdb").exists()
    assert not (shop.folder / ".retl/test/it").exists()
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_state_that_was_left_behind_is_named_before_everything_goes_out_again(shop: Shop, tmp_path: Path):
    shop.sync("it", MANY).run()
    shop.state = {"path": str(tmp_path / "elsewhere")}
    shop.write()
    result = shop.run()
    before = shop.folder / ".retl/test/it"
    what = f"there is no state in {tmp_path}/elsewhere/test/it, but there is one in its previous location, {before}"
    assert (result.errors[0].message, result.exit_code) == (what, 1)
    (tmp_path / "elsewhere/test").mkdir(parents=True)
    before.rename(tmp_path / "elsewhere/test/it")
    assert shop.run().delivery.requests == 0


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("ftp://x/y", "must be a folder, or start with s3://bucket, gs://bucket or az://container"),
        ("s3://", "must be a folder, or start with s3://bucket, gs://bucket or az://container"),
        ("s3://key:secret@bucket", "must contain only a bucket and a path: credentials come from the environment"),
    ],
)
def test_state_path_that_is_none_is_shown_in_its_place(shop: Shop, retl: Retl, path: str, why: str):
    shop.state = {"path": path}
    shop.sync("it", MANY)
    outcome = retl("ls", folder=shop.folder)
    assert (outcome.code, outcome.err) == (2, f'syncs.yml:13:13: "path" in target "test" {why}\n')
    assert outcome.out == ""


@pytest.mark.long
def test_opt_outs_that_one_machine_has_read_in_braze_are_known_to_the_other(one: Shop, two: Shop):
    both(one, two, "SELECT 'u1' AS external_id, 'opted_in' AS email_subscribe, 1 AS n")
    out = {"attributes": [{"external_id": "u1", "email_subscribe": "unsubscribed"}]}
    requests.post(f"{one.braze.url}/users/track", json=out, headers={"Authorization": f"Bearer {KEY}"})
    assert (one.run("it", read_first=True).plan.withheld, two.run("it").plan.withheld) == (1, 1)
    assert one.braze.profile("u1")["email_subscribe"] == "unsubscribed"


@pytest.mark.long
def test_users_of_another_sync_are_looked_up_in_the_store(one: Shop, two: Shop):
    """By a machine that has no copy of that state, and by one that has."""
    for shop in (one, two):
        shop.sync("people", "SELECT 'u1' AS external_id, 1 AS n")
        alias = "SELECT 'a1' AS alias_name, 'cookie' AS alias_label, 'u1' AS external_id"
        shop.sync("aliases", alias, mode="users_alias_new")
    one.run("people")
    assert (two.run("aliases").plan.uncertain, one.run("aliases").plan.to_send) == (0, 0)
    for shop in (one, two):
        shop.sync("more", alias.replace("a1", "a2"), mode="users_alias_new")
    assert one.run("more").plan.uncertain == 0
    assert [path.name for path in two.folder.glob(".retl/test/aliases/other*")] == []


@pytest.mark.long
def test_state_whose_head_cannot_be_read_goes_on_with_a_copy(one: Shop, two: Shop, bucket: Bucket):
    """As docs/state.md says; nothing is sent again."""
    both(one, two, SEEN, **EVENTS)
    one.run()
    objects = bucket.objects()
    _, seen = objects.read("head.json") or (b"", None)
    assert objects.swap("head.json", b"{", seen)
    assert (
        one.run().errors[0].hint
        == "restore an older version of that object; docs/state.md says what to do if there is none"
    )
    objects.delete(["head.json"])
    (one.folder / ".retl/test/it/copy.json").unlink()
    assert one.run().errors[0].message == LOST.format(bucket.url)  # nobody knows whether it is the copy that ran last
    move_elsewhere(bucket)
    assert (one.run().status, two.run().status) == ("success", "success")
    assert len(one.braze.events()) == 1000


LOST = "{}/test/it/head.json is missing, but objects of the state are left next to it: there were runs"


def in_environment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)


def move_elsewhere(bucket: Bucket) -> None:
    objects, elsewhere = bucket.objects(), bucket.objects("elsewhere")
    for name in objects.names():
        elsewhere.write(name, (objects.read(name) or (b"",))[0])
    objects.delete(objects.names())


@pytest.mark.parametrize("ledger", [{}, {"ledger": {"keep": 0}}], ids=["with a ledger", "without one"])
def test_state_whose_head_is_lost_is_no_first_run_and_nothing_of_it_is_deleted(
    one: Shop, two: Shop, bucket: Bucket, retl: Retl, ledger: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    in_environment(bucket, monkeypatch)
    both(one, two, SEEN, **EVENTS, **ledger)
    assert one.run().status == "success"
    head, _ = bucket.objects().read("head.json") or (b"", None)
    bucket.objects().delete(["head.json"])
    left, sent = bucket.objects().names(), len(one.braze.events())
    for shop in (one, two):
        result = shop.run()
        assert (result.status, result.errors[0].code) == ("failed", "S021")
        assert (result.errors[0].message, result.errors[0].hint) == (
            LOST.format(bucket.url),
            "restore the last version of that object; docs/state.md says what to do if there is none; "
            "as a last resort, pause its schedule, run `retl state reset it`, then `retl state baseline it`: "
            "the old files are kept, and what the model returns by now counts as sent",
        )
        for line in ("plan", "rejects", "history", "state show", "state baseline --yes"):
            said = retl(*line.split(), "it", folder=shop.folder)
            assert (said.code, LOST.format(bucket.url) in said.err) == (1, True), (line, said)
        assert retl("status", folder=shop.folder).out.splitlines()[1].split()[:2] == ["it", "damaged"]
    assert (bucket.objects().names(), len(one.braze.events())) == (left, sent)
    bucket.objects().write("head.json", head)
    assert [shop.run().delivery.requests for shop in (one, two)] == [0, 0]


@pytest.mark.long
def test_state_whose_head_is_lost_is_begun_anew_by_a_reset_which_keeps_all_of_it_for_a_month(
    one: Shop, two: Shop, bucket: Bucket, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    in_environment(bucket, monkeypatch)
    both(one, two, SEEN, **EVENTS)
    assert one.run().status == "success"
    bucket.objects().delete(["head.json"])
    left = bucket.objects().names()
    said = retl("state", "reset", "it", "--yes", folder=one.folder)
    assert (said.code, "state reset; the old state is in " in said.err) == (0, True)
    assert len([*one.folder.glob(".retl/test/it/before-reset-*/state.duckdb")]) == 1
    assert retl("state", "baseline", "it", "--yes", folder=one.folder).code == 0
    more = f"{SEEN} UNION ALL SELECT 'more' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-24' AS time"
    both(one, two, more, **EVENTS)
    assert (two.run().delivery.accepted, one.run().plan.unchanged) == (1, 1001)
    assert len(one.braze.events()) == 1001
    with acquired(place_of(one.project(), one.project().sync("it")), bucket.objects(), one.clock.utc) as shared:
        shared.delete_garbage()
    assert {*bucket.objects().names()} >= {*left}
    month = FakeClock(ahead=timedelta(days=31))
    for _ in range(2):  # the list goes, and then what it lists
        with acquired(place_of(one.project(), one.project().sync("it")), bucket.objects(), month.utc) as shared:
            shared.delete_garbage()
    assert {*bucket.names()} & {*left} == set()


@pytest.mark.long
def test_rows_of_a_state_whose_head_is_lost_are_not_verified(
    one: Shop, bucket: Bucket, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    in_environment(bucket, monkeypatch)
    one.sync("it", MANY).run()
    bucket.objects().delete(["head.json"])
    said = retl("verify", "it", folder=one.folder)
    assert (said.code, LOST.format(bucket.url) in said.err) == (1, True)


@pytest.mark.long
def test_head_that_is_lost_while_a_run_sends_is_no_first_run(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, SEEN, **EVENTS)
    with running(one, until="u300") as process:
        process.kill()
    bucket.objects().delete(["head.json"])
    there = len(one.braze.events())
    for shop in (later(one), later(two)):
        assert shop.run().errors[0].message == LOST.format(bucket.url)
    assert len(one.braze.events()) == there


@pytest.mark.long
def test_head_that_is_lost_is_not_made_of_what_a_rename_had_moved(one: Shop, bucket: Bucket):
    """Neither before the first run under the new name, nor after it."""
    one.sync("old", SEEN, **EVENTS).run()
    one.syncs = []
    one.sync("it", SEEN, **EVENTS, renamed_from="old").run()
    more = f"{SEEN} UNION ALL SELECT 'more' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-24' AS time"
    one.syncs = []
    assert one.sync("it", more, **EVENTS, renamed_from="old").run().delivery.accepted == 1
    bucket.objects().delete(["head.json"])
    assert one.run().errors[0].message == LOST.format(bucket.url)
    assert len(one.braze.events()) == 1001


def test_what_lies_beside_a_head_is_left_of_nothing(one: Shop, bucket: Bucket):
    """Two machines may begin at once: the second has seen no head, and sees what the first has uploaded since."""
    one.sync("it", SEEN, **EVENTS).run()
    assert (len(states(bucket)), left_of(bucket.objects())) == (1, [])
    bucket.objects().delete(["head.json"])
    assert states(bucket)[0] in left_of(bucket.objects())


@pytest.mark.long
def test_page_of_a_project_is_that_of_the_store_and_changes_nothing_there(one: Shop, two: Shop, bucket: Bucket):
    both(one, two, "SELECT 'u1' AS external_id, 'gold' AS tier")
    assert one.run().status == "success"
    one.model("it", "SELECT 'u1' AS external_id, 'silver' AS tier")
    assert one.run().status == "success"
    before, writes = bucket.names(), bucket.writes
    (sync,) = collect(two.project(), HowToLook(30, 1, two.clock.utc()), "1.0").syncs
    assert (sync.status, sync.rows, list(sync.notes)) == ("success", 1, [])
    assert [(column.name, column.filled, column.changes) for column in sync.columns] == [("tier", 1, 1)]
    assert [(run.accepted, run.changed) for run in sync.runs] == [(1, {"tier": 1}), (1, {})]
    assert (bucket.names(), bucket.writes) == (before, writes)


@pytest.mark.usefixtures("asked_once")
@pytest.mark.long
def test_page_says_that_a_state_cannot_be_reached(one: Shop, bucket: Bucket):
    one.sync("it", "SELECT 'u1' AS external_id, 'gold' AS tier").run()
    bucket.is_down = True
    (sync,) = collect(one.project(), HowToLook(30, 1, one.clock.utc()), "1.0").syncs
    assert (sync.status, [column.name for column in sync.columns]) == ("unreachable", ["tier"])
    assert sync.message.startswith(f"cannot reach {bucket.url}/test/it/head.json: 503")
    assert (sync.rows, sync.in_doubt) == (None, None)


@pytest.mark.long
def test_page_says_that_another_machine_is_running_a_sync_or_that_its_run_was_cut_off(one: Shop, two: Shop):
    both(one, two, SEEN, **EVENTS)
    with running(one, until="u300") as process:
        (sync,) = collect(two.project(), HowToLook(30, 1, two.clock.utc()), "1.0").syncs
        assert (sync.status, sync.rows) == ("running", None)
        assert sync.message.startswith('sync "it" on target "test" is already running: process ')
        process.kill()
    (sync,) = collect(two.project(), HowToLook(30, 1, later(two).clock.utc()), "1.0").syncs
    assert (sync.status, sync.rows, sync.in_doubt) == ("killed", None, None)
