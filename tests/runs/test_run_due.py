"""`retl run-due` and `retl scheduler`: what is due runs, for the moment it was due, and nothing runs twice."""

import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from reverse_etl.delivery.session import open_session
from reverse_etl.errors import ProjectError
from reverse_etl.project.cron import Cron
from reverse_etl.project.project import load_project
from reverse_etl.runs.due import find_due, next_due
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.scheduler import due_jobs, passes
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Fault
from reverse_etl.state import done, state
from reverse_etl.state.tries import Failing, after_run, failing_syncs, next_try, waits, waits_until
from tests.processes import Forked
from tests.shop import (
    FIVE_REQUESTS,
    KEY,
    MANY,
    Held,
    LettingGo,
    Retl,
    Shop,
    Silent,
    database,
    running,
    start,
)

NOW = datetime.now(UTC)
YEARLY = {"schedule": f"0 0 1 {(NOW.month + 5) % 12 + 1} *", "timezone": "Asia/Seoul"}  # not while the tests run
LATEST, FOLLOWING = Cron(*YEARLY.values()).latest(NOW), Cron(*YEARLY.values()).following(NOW)
MISSED = Cron(*YEARLY.values()).missed(datetime(2001, 1, 1, tzinfo=UTC))
ONE = "SELECT 'u1' AS external_id, 'x' AS a"
TWO, THREE, FOUR = (ONE.replace(" AS a", f" AS {name}") for name in "bcd")  # no two write one attribute
NOTHING_DUE = f"nothing is due; next: it at {FOLLOWING:%Y-%m-%d %H:%M} UTC\n"


def scheduled_times(shop: Shop, sync: str = "it") -> list[str]:
    return [text for (text,) in shop.rows_of("runs", "strftime(scheduled_time, '%Y-%m-%d %H:%M')", sync=sync)]


def next_try_of(shop: Shop, sync: str) -> str:
    until = waits(shop.project(), failing_syncs(shop.project()), shop.project().sync(sync), datetime.now(UTC))
    return f"{until:%Y-%m-%d %H:%M} UTC"


def statuses(shop: Shop, sync: str = "it") -> list[str]:
    return [status for (status,) in shop.rows_of("runs", "status", sync=sync)]


def test_sync_that_never_ran_is_due_since_its_latest_moment_and_then_done(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, '{{ scheduled_time.isoformat() }}' AS at", **YEARLY)
    first = retl("run-due", folder=shop.folder)
    assert (first.code, first.out.split(" (")[0]) == (
        0,
        "it: success, 1 of 1 row accepted in 1 request, 1 attribute written",
    )
    assert f"it: due since {LATEST:%Y-%m-%d %H:%M} UTC\n" in first.err
    assert scheduled_times(shop) == [f"{LATEST:%Y-%m-%d %H:%M}"]
    assert shop.sent() == [f'{{"attributes":[{{"external_id":"u1","at":"{LATEST.isoformat()}"}}]}}']
    second = retl("run-due", folder=shop.folder)
    assert (second.code, second.out, second.err) == (0, NOTHING_DUE, "")


def test_clock_that_was_set_back_is_a_warning_and_nothing_runs_twice(shop: Shop, retl: Retl):
    """The state is of a run an hour ahead of the clock."""
    shop.sync("it", ONE, schedule="* * * * *").run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("UPDATE runs SET scheduled_time = started_at + INTERVAL 1 HOUR")
    (at,) = scheduled_times(shop)
    for how in ([], ["--dry-run"]):  # the second one by what the first has noted
        said = retl("run-due", *how, folder=shop.folder)
        warning, hint = said.err.splitlines()
        assert warning.startswith(f"warning: it ran for {at} UTC, and now it is ")
        assert hint == "  hint: check the clock of this machine; `retl sync it` runs it all the same"
        assert (said.code, said.out.startswith("nothing is due; "), len(shop.sent())) == (0, True, 1)


def test_clock_that_was_set_back_is_told_once_by_calls_of_every_minute_and_again_when_another_sync_is_ahead(
    shop: Shop, retl: Retl
):
    shop.sync("it", ONE, schedule="* * * * *").run()
    shop.sync("other", TWO, schedule="* * * * *").run("other")

    def ran_ahead(sync: str, hours: int) -> str:
        with database(shop.folder / f".retl/test/{sync}/state.duckdb") as connection:
            connection.execute(f"UPDATE runs SET scheduled_time = started_at + INTERVAL {hours} HOUR")
        return "".join(retl("run-due", folder=shop.folder).err.splitlines()[:1])

    assert ran_ahead("it", 1).startswith("warning: it ran for ")
    assert retl("run-due", folder=shop.folder).err == ""
    assert ran_ahead("other", 1).startswith("warning: ")
    assert retl("run-due", folder=shop.folder).err == ""
    assert retl("run-due", "it", folder=shop.folder).err == retl("run-due", "other", folder=shop.folder).err == ""
    assert ran_ahead("it", 2).startswith("warning: it ran for ")
    assert retl("run-due", folder=shop.folder).err == ""
    ran_ahead("it", 0)
    ran_ahead("other", 0)
    retl("run-due", folder=shop.folder)
    assert ran_ahead("it", 1).startswith("warning: it ran for ")


def test_result_for_programs_has_the_moment_that_was_due(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY)
    (result,) = json.loads(retl("run-due", "--output", "json", folder=shop.folder).out)
    assert (result["status"], result["scheduled_time"]) == ("success", LATEST.isoformat())
    assert json.loads(retl("run-due", "--output", "json", folder=shop.folder).out) == []


def test_dry_run_says_what_is_due_and_makes_nothing(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).sync("other", TWO)
    said = retl("run-due", "--dry-run", folder=shop.folder)
    assert (said.code, said.out, said.err) == (0, f"it: due since {LATEST:%Y-%m-%d %H:%M} UTC\n", "")
    told = json.loads(retl("run-due", "--dry-run", "--output", "json", folder=shop.folder).out)
    assert told == [{"sync": "it", "status": "due", "scheduled_time": LATEST.isoformat()}]
    assert not (shop.folder / ".retl").exists()
    assert sorted(path.name for path in (shop.folder / "target").iterdir()) == [".gitignore", "manifest.json"]


def test_sync_without_a_schedule_is_never_due(shop: Shop, retl: Retl):
    shop.sync("it", ONE)
    assert retl("run-due", folder=shop.folder).out == "nothing is due; no sync has a schedule\n"


def test_only_selected_syncs_run(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY, tags=["a"]).sync("other", TWO, **YEARLY, tags=["b"])
    assert retl("run-due", "--select", "tag:b", folder=shop.folder).out.startswith("other: success")
    assert retl("run-due", "--exclude", "it", "--dry-run", folder=shop.folder).out == NOTHING_DUE.replace("it", "other")
    assert retl("run-due", "--select", "tag:c", folder=shop.folder).code == 2


def test_nothing_due_needs_neither_key_nor_warehouse(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    shop.sync("it", ONE, **YEARLY).run()
    (shop.folder / "warehouse.duckdb").unlink()
    monkeypatch.delenv("BRAZE_API_KEY")
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE


# --- what counts as done ---------------------------------------------------------------------------------------------


def test_run_by_hand_counts_and_one_for_an_earlier_moment_does_not(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY)
    earlier = (LATEST - timedelta(hours=1)).isoformat()
    assert retl("sync", "it", "--scheduled-time", earlier, folder=shop.folder).code == 0
    assert scheduled_times(shop) == [f"{LATEST - timedelta(hours=1):%Y-%m-%d %H:%M}"]
    assert "due since" in retl("run-due", "--dry-run", folder=shop.folder).out
    assert retl("sync", "it", folder=shop.folder).code == 0
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE


def test_plan_can_stand_for_a_moment_too_and_what_is_applied_keeps_it(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, '{{ scheduled_time.isoformat() }}' AS at", **YEARLY)
    moment = "2026-01-02T08:00:00+09:00"
    assert retl("plan", "it", "--scheduled-time", moment, "--out", "p", folder=shop.folder).code == 0
    (result,) = json.loads(retl("apply", "p", "--output", "json", folder=shop.folder).out)
    assert (result["scheduled_time"], result["status"]) == ("2026-01-01T23:00:00+00:00", "success")
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","at":"2026-01-01T23:00:00+00:00"}]}']
    assert scheduled_times(shop) == ["2026-01-01 23:00"]


def test_run_that_did_all_it_could_is_not_repeated(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY)
    shop.braze.add_fault(Fault("object_error", external_ids=["u1"]))
    assert retl("run-due", folder=shop.folder).code == 1
    assert statuses(shop) == ["incomplete"]
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE


def let_pass(shop: Shop, wait: timedelta) -> None:
    """As if the last runs had ended so much earlier."""
    path = shop.folder / ".retl/test/tries.json"
    known = json.loads(path.read_text())
    for value in (value for value in known.values() if "at" in value):  # not of those that were skipped
        value["at"] = (datetime.fromisoformat(value["at"]) - wait).isoformat()
    path.write_text(json.dumps(known))


@pytest.mark.long
def test_failed_run_is_tried_again_after_1_2_4_minutes_and_status_says_so(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, nothing FROM nowhere", **YEARLY)
    shop.sync("next", ONE, **YEARLY, after="it").sync("other", TWO, **YEARLY).run("other")
    path = shop.folder / ".retl/test/tries.json"
    for times, minutes in [(1, 1), (2, 2), (3, 4), (4, 8)]:
        failed = retl("run-due", folder=shop.folder)
        assert (failed.code, failed.out) == (2, "it: failed\nnext: skipped\n")
        at = datetime.fromisoformat(json.loads(path.read_text())["it"]["at"])
        until = (at + timedelta(minutes=minutes, seconds=30)).replace(second=0, microsecond=0)
        waits = f"next: it at {until:%Y-%m-%d %H:%M} UTC\n"
        assert retl("run-due", folder=shop.folder).out == f"nothing is due; {waits}"
        said = f"it: failed {times} time{'s' * (times > 1)} in a row, the last at {at:%Y-%m-%d %H:%M} UTC: "
        said += f"SQL error [P051] in models/it.sql:1; its schedule tries again at {until:%Y-%m-%d %H:%M} UTC, or now: `retl sync it`\n"
        said += "next: skipped: its predecessors have not succeeded: it\n"
        assert retl("status", folder=shop.folder).err == said
        let_pass(shop, timedelta(minutes=minutes + 1))
    assert retl("run-due", "--dry-run", folder=shop.folder).out.splitlines() == [
        f"it: due since {LATEST:%Y-%m-%d %H:%M} UTC",
        f"next: due since {LATEST:%Y-%m-%d %H:%M} UTC",
    ]
    assert path.stat().st_mode & 0o077 == 0


def test_what_waits_is_shown_as_due_with_what_comes_after_it(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT oops", **YEARLY).sync("next", ONE, **YEARLY, after="it")
    retl("run-due", folder=shop.folder)
    waits = json.loads(retl("run-due", "--dry-run", "--output", "json", folder=shop.folder).out)
    until = datetime.fromisoformat(waits[0].get("next_try"))
    assert waits == [
        {"sync": name, "status": "due", "scheduled_time": LATEST.isoformat(), "next_try": until.isoformat()}
        for name in ("it", "next")
    ]
    line = f"due since {LATEST:%Y-%m-%d %H:%M} UTC, retry {until:%Y-%m-%d %H:%M} UTC"
    assert line in retl("ls", folder=shop.folder).out
    (it, _) = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
    assert (it["failures"], datetime.fromisoformat(it["next_try"])) == (1, until)


def test_sync_that_was_mended_is_tried_at_the_next_call_and_forgets_that_it_failed(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY, guards={"max_requests": 0})
    assert retl("run-due", folder=shop.folder).code == 1
    assert retl("run-due", folder=shop.folder).out.startswith("nothing is due; next: it at")
    assert statuses(shop) == ["blocked"]
    shop.sync("it", "SELECT 'u1' AS external_id, oops", **YEARLY)
    assert retl("run-due", folder=shop.folder).out == "it: failed\n"
    shop.sync("it", ONE, **YEARLY)
    assert retl("run-due", folder=shop.folder).out.startswith("it: success, 1 of 1 row")
    assert json.loads((shop.folder / ".retl/test/tries.json").read_text()) == {}


def test_wait_ends_at_the_next_scheduled_time_and_an_interrupted_run_does_not_count():
    """From 1 to 2^n minutes, at most the interval of the schedule: then one try per scheduled time."""
    begin, failing, tried = datetime(2026, 11, 25, 10, 0, 2, tzinfo=UTC), None, list[str]()
    now = begin
    while len(tried) < 10:
        this = Failing(1, now, now, "digest")
        failing = after_run(failing, "failed", this)
        assert failing is not None
        assert after_run(failing, "interrupted", this) == failing
        assert after_run(failing, "incomplete", this) is None
        tried.append(f"{now:%H:%M}")
        now = next_try(failing, Cron("0 * * * *")) + timedelta(seconds=2)
    assert tried == ["10:00", "10:01", "10:03", "10:07", "10:15", "10:31", "11:00", "12:00", "13:00", "14:00"]


def test_clock_that_was_set_back_keeps_nothing_waiting(shop: Shop):
    shop.sync("it", ONE, schedule="0 * * * *")
    sync, now = shop.project().sync("it"), datetime(2026, 11, 25, 10, tzinfo=UTC)
    failing = after_run(None, "failed", Failing(1, now, now, "digest"))
    assert waits_until(failing, sync, "digest", now) == now + timedelta(minutes=1)
    assert waits_until(failing, sync, "digest", now - timedelta(hours=1)) is None
    assert waits_until(failing, sync, "another digest", now) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"it": 1}', '{"it": {"times": "x"}}', '{"it": {"times": 1, "at": "2026"}}']
)
def test_file_of_failed_runs_that_is_damaged_is_begun_again(shop: Shop, retl: Retl, text: str):
    shop.sync("it", "SELECT oops", **YEARLY)
    path = shop.folder / ".retl/test/tries.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert retl("run-due", folder=shop.folder).out == "it: failed\n"
    assert json.loads(path.read_text())["it"]["times"] == 1


@pytest.mark.long
def test_killed_run_is_looked_at_without_a_trace_and_run_again(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(1000) r(i)", **YEARLY)
    with running(shop, until="u300", arguments=("run-due", "--threads", "1")) as process:
        process.kill()
    folder = shop.folder / ".retl/test/it"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert "outbox.duckdb" in before
    assert retl("run-due", "--dry-run", folder=shop.folder).out.startswith("it: due since")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    again = retl("run-due", folder=shop.folder)
    assert (again.code, again.out.split(" accepted")[0]) == (0, "it: success, 700 of 700 rows")
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE


def test_state_of_the_first_format_goes_by_the_start_of_runs(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN scheduled_time")
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE


@pytest.mark.long
def test_damaged_state_is_said_by_the_run_and_others_go_on(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).sync("other", TWO, **YEARLY).run("it")
    (shop.folder / ".retl/test/it/state.duckdb").write_text("what?")
    outcome = retl("run-due", folder=shop.folder)
    assert (outcome.code, outcome.out.splitlines()[0]) == (1, "it: failed")
    assert outcome.out.splitlines()[1].startswith("other: success")
    assert "cannot use .retl/test/it/state.duckdb" in outcome.err


# --- what is noted of states, so that they need not be opened --------------------------------------------------------


@pytest.fixture
def noted(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a project with a sync that is done, and with one that is gone since."""
    monkeypatch.setattr(done, "COARSEST", timedelta(days=-1))  # any file is old enough
    shop.sync("it", ONE, **YEARLY).sync("gone", TWO, **YEARLY).run_all("it", "gone")
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE
    shop.syncs.pop()
    shop.write()
    return shop.folder / ".retl/test/done.json"


def say(path: Path, **what: object) -> None:
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "it": {**known["it"], **what}}))


def test_state_is_noted_by_its_file_and_until_when_it_was_done(shop: Shop, retl: Retl, noted: Path):
    found = (shop.folder / ".retl/test/it/state.duckdb").stat()
    file = [found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    known = json.loads(noted.read_text())
    assert (sorted(known), known["it"]["file"], known["it"]["delay"]) == (["gone", "it"], file, 0)
    assert datetime.fromisoformat(known["it"]["until"]) >= LATEST
    assert noted.stat().st_mode & 0o777 == 0o600
    shop.run()
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE
    assert list(json.loads(noted.read_text())) == ["it"]


def test_state_that_has_not_changed_is_not_opened_and_one_that_has_is(shop: Shop, retl: Retl, noted: Path):
    state = shop.folder / ".retl/test/it/state.duckdb"
    with database(state) as connection:
        connection.execute("DELETE FROM runs")
    found = state.stat()
    say(noted, file=[found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns])
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE
    state.touch()
    assert "it: due since" in retl("run-due", "--dry-run", folder=shop.folder).out


def test_sync_that_is_due_by_what_is_noted_is_looked_up(shop: Shop, retl: Retl, noted: Path):
    say(noted, until=None)
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE
    assert json.loads(noted.read_text())["it"]["until"] is not None


@pytest.mark.parametrize("what", [{"delay": 60}, {"until": "soon"}, {"until": 1}, {"file": None}, {"file": [1]}])
@pytest.mark.sampled(3)
def test_what_is_noted_otherwise_is_looked_up(shop: Shop, retl: Retl, noted: Path, what: dict[str, object]):
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("DELETE FROM runs")
    say(noted, **what)
    assert "it: due since" in retl("run-due", "--dry-run", folder=shop.folder).out


def test_state_with_a_log_beside_it_is_looked_up(shop: Shop, retl: Retl, noted: Path):
    before = noted.read_text()
    (shop.folder / ".retl/test/it/state.duckdb.wal").touch()
    say(noted, until=(LATEST + timedelta(days=900)).isoformat())
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE
    assert json.loads(before)["it"] != json.loads(noted.read_text())["it"]  # not noted again either


def test_state_that_has_just_changed_is_not_noted(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).run()
    assert retl("run-due", folder=shop.folder).out == NOTHING_DUE
    assert not (shop.folder / ".retl/test/done.json").exists()


# --- several at once, and order --------------------------------------------------------------------------------------


@pytest.mark.long
def test_sync_that_is_at_work_elsewhere_is_left_to_it_with_what_comes_after(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).sync("next", THREE, **YEARLY, after="it").sync("other", TWO, **YEARLY)
    with running(shop, until="u1") as process:
        outcome = retl("run-due", folder=shop.folder)
        assert outcome.code == 0
        lines = [line.split(",")[0] for line in outcome.out.splitlines()]
        assert lines == ["it: running", "next: skipped", "other: success"]
        assert f'sync "it" on target "test" is already running: process {process.pid} on ' in outcome.err
        assert "--wait" not in outcome.err
        assert "next: skipped: its predecessors have not succeeded: it" in outcome.err
        assert json.loads(retl("run-due", "--dry-run", "--output", "json", folder=shop.folder).out) == [
            {"sync": "it", "status": "running", "scheduled_time": LATEST.isoformat()},
            {"sync": "next", "status": "due", "scheduled_time": LATEST.isoformat()},
        ]


def test_what_another_process_did_between_the_look_and_the_run_is_not_done_twice(shop: Shop):
    shop.sync("it", ONE, **YEARLY)
    project = load_project(shop.folder, environ={"BRAZE_API_KEY": KEY})
    dues = find_due(project, project.spec.syncs, project.started_at)
    assert [(due.sync.name, due.scheduled_time) for due in dues] == [("it", LATEST)]
    shop.run()
    with open_session(project) as session:
        (result,) = run_jobs(due_jobs(project, dues, Options(), Silent()), session)
    assert (result.status, result.exit_code, statuses(shop)) == ("already_run", 0, ["success"])


def hold(path: Path, is_read_only: bool) -> None:
    """Have a file of DuckDB's open, for ever."""
    with duckdb.connect(path, read_only=is_read_only):
        print("open", flush=True)
        signal.pause()


@pytest.mark.long
def test_state_that_something_else_has_open_is_a_failure_that_names_it(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).run()
    with Forked(hold, shop.folder / ".retl/test/it/state.duckdb", False) as holder:
        holder.wait_until(lambda: "open" in holder.out)
        outcome = retl("run-due", folder=shop.folder)
    assert (outcome.code, outcome.out) == (1, "it: failed\n")
    assert (
        f"state.duckdb is locked by {Path(sys.executable).resolve().name} (PID {holder.pid}), which has it open for writing"
        in outcome.err
    )


@pytest.mark.long
def test_run_is_not_refused_because_somebody_looks_into_its_state(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """DuckDB lets nobody write a file while another process reads it; `run-due` reads each minute."""
    shop.sync("it", ONE, **YEARLY).run()
    with Forked(hold, shop.folder / ".retl/test/it/state.duckdb", True) as looker:
        looker.wait_until(lambda: "open" in looker.out)
        clock = LettingGo(looker, after_waits=1)
        monkeypatch.setattr(state, "Clock", lambda: clock)
        assert shop.run().status == "success"
    assert clock.waits == [0.5]


def test_due_syncs_run_in_order_and_a_failed_one_holds_up_what_comes_after(shop: Shop, retl: Retl):
    shop.sync("last", TWO, **YEARLY, after="first").sync("first", "SELECT 1 AS external_id, oops", **YEARLY)
    failed = retl("run-due", folder=shop.folder)
    assert failed.out == "first: failed\nlast: skipped\n"
    assert "last: skipped: its predecessors have not succeeded: first" in failed.err
    shop.sync("first", ONE, **YEARLY)
    mended = retl("run-due", folder=shop.folder)
    assert [line.split(",")[0] for line in mended.out.splitlines()] == ["first: success", "last: success"]


def test_sync_that_was_skipped_is_not_said_to_have_succeeded(shop: Shop, retl: Retl):
    def statuses() -> dict[str, tuple[str, str | None]]:
        found = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
        return {one["sync"]: (one["last_run"], one["message"]) for one in found}

    shop.sync("first", ONE).sync("last", TWO, after="first")
    assert retl("sync", "--all", folder=shop.folder).code == 0
    shop.sync("first", "SELECT 1 AS external_id, oops")
    assert retl("sync", "--all", folder=shop.folder).code == 2
    assert statuses()["last"] == ("skipped", "skipped: its predecessors have not succeeded: first")
    assert retl("sync", "last", folder=shop.folder).code == 0
    assert statuses()["last"] == ("success", None)
    assert statuses()["first"][0] == "failed"


def test_failure_is_not_said_of_a_sync_that_has_succeeded_since(shop: Shop, retl: Retl):
    """Each machine knows of its own failures; the state is that of all."""
    shop.sync("it", "SELECT 1 AS external_id, oops")
    assert retl("sync", "it", folder=shop.folder).code == 2
    tries = shop.folder / ".retl/test/tries.json"
    of_this_machine = tries.read_text()
    shop.sync("it", ONE)
    assert retl("sync", "it", folder=shop.folder).code == 0
    tries.write_text(of_this_machine)
    (found,) = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
    assert (found["last_run"], found["message"], found["failures"]) == ("success", None, 0)


def test_moment_that_a_run_stands_for_has_to_be_one_and_past(shop: Shop, retl: Retl):
    shop.sync("it", ONE)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for text, what in [
        (
            "soon",
            '--scheduled-time: "soon" is not a valid time\n  hint: use a time with a time zone: 2026-11-25T08:00:00Z, or +09:00 instead of Z\n',
        ),
        (
            "2026-11-25T08:00",
            '--scheduled-time: "2026-11-25T08:00" has no time zone\n  hint: use a time with a time zone: 2026-11-25T08:00:00Z, or +09:00 instead of Z\n',
        ),
        (
            tomorrow,
            f'--scheduled-time: "{tomorrow}" is in the future\n'
            "  hint: use a time in the past: a future one has no data yet, and scheduled runs would wait until it has passed\n",
        ),
    ]:
        outcome = retl("sync", "it", "--scheduled-time", text, folder=shop.folder)
        assert (outcome.code, outcome.out, outcome.err) == (2, "", what)


# --- ls --------------------------------------------------------------------------------------------------------------


def test_ls_shows_schedules_and_when_they_are_due_next(shop: Shop, retl: Retl):
    shop.sync("it", ONE, **YEARLY).sync("other", TWO)
    retl("run-due", folder=shop.folder)
    heading, it, other = retl("ls", folder=shop.folder).out.splitlines()
    assert heading.split() == ["name", "mode", "model", "tags", "schedule", "next", "due", "description"]
    assert it.split(maxsplit=5)[5] == f"{YEARLY['schedule']} Asia/Seoul  {FOLLOWING:%Y-%m-%d %H:%M} UTC"
    assert other.split() == ["other", "users_track", "/", "attributes", "other"]
    listed = json.loads(retl("ls", "--output", "json", folder=shop.folder).out)
    assert [(one["schedule"], one["timezone"], one["next_due"]) for one in listed] == [
        (*YEARLY.values(), FOLLOWING.isoformat()),
        (None, "UTC", None),
    ]


@pytest.mark.long
def test_ls_shows_what_is_due_as_run_due_does(shop: Shop, retl: Retl):
    shop.sync("fails", "SELECT error('no') AS external_id", **YEARLY).run()
    shop.sync("succeeded", ONE, **YEARLY).run("succeeded")
    shop.sync("missed", TWO, **YEARLY).sync("never", THREE, **YEARLY).sync("unscheduled", FOUR).sync(
        "busy", MANY, **YEARLY
    )
    assert retl("sync", "missed", "--scheduled-time", "2001-01-01T00:00:00Z", folder=shop.folder).code == 0
    with running(shop, until="u0", arguments=("sync", "busy")) as process:
        due = retl("run-due", "--dry-run", folder=shop.folder).out.splitlines()
        due_json = json.loads(retl("run-due", "--dry-run", "--output", "json", folder=shop.folder).out)
        heading, *listed = retl("ls", folder=shop.folder).out.splitlines()
        listed_json = json.loads(retl("ls", "--output", "json", folder=shop.folder).out)
        process.kill()
        process.communicate()
    assert dict(line.split(": ") for line in due) == {
        "busy": "running",
        "missed": f"overdue since {MISSED:%Y-%m-%d %H:%M} UTC",
        "never": f"due since {LATEST:%Y-%m-%d %H:%M} UTC",
        "fails": f"due since {LATEST:%Y-%m-%d %H:%M} UTC, retry {next_try_of(shop, 'fails')}",
    }
    start = heading.index("next due")
    end = heading.index("description")
    shown = {line.split()[0]: line[start:end].strip() for line in listed}
    assert [f"{name}: {cell}" for name, cell in shown.items() if cell.startswith(("due", "overdue", "running"))] == due
    assert (shown["succeeded"], shown["unscheduled"]) == (f"{FOLLOWING:%Y-%m-%d %H:%M} UTC", "")
    assert [one["due"] for one in listed_json if one["due"]] == due_json


def test_ls_leaves_schedules_out_where_there_are_none(shop: Shop, retl: Retl):
    shop.sync("it", ONE)
    assert "schedule" not in retl("ls", folder=shop.folder).out


def test_next_due_is_the_first_of_all(shop: Shop):
    shop.sync("it", ONE, **YEARLY).sync("other", TWO, schedule="0 7 * * *")
    project = load_project(shop.folder, environ={"BRAZE_API_KEY": KEY})
    moment, sync = next_due(project, project.spec.syncs, datetime(2026, 11, 25, 8, tzinfo=UTC))
    assert (moment, sync.name) == (datetime(2026, 11, 26, 7, tzinfo=UTC), "other")


# --- the loop --------------------------------------------------------------------------------------------------------


def test_schedule_goes_on_after_a_sync_that_fails_runs_what_is_due_and_ends_well_when_it_is_idle(shop: Shop):
    shop.sync("broken", "SELECT oops", **YEARLY).sync("it", ONE, **YEARLY)
    with start(shop, "scheduler") as process:
        process.wait_until(lambda: "next: " in process.err)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert (process.returncode, out.split(" accepted")[0]) == (0, "broken: failed\nit: success, 1 of 1 row")
    assert err.endswith("\nstopped\n")


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_schedule_brings_in_what_is_in_flight_when_a_signal_comes(shop: Shop, number: signal.Signals, code: int):
    shop.destination = FIVE_REQUESTS
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(1000) r(i)", **YEARLY)
    answer = Held(shop.braze, external_ids=["u300"])
    with running(shop, until=answer, arguments=("scheduler", "--threads", "1")) as process:
        process.send_signal(number)
        answer.goes_out.set()
        out, err = process.communicate()
    assert process.returncode == code
    assert "it: interrupted" in out
    assert "interrupted: waited for the requests in flight and recorded the results" in err
    assert statuses(shop) == ["interrupted"]
    assert len(list(shop.braze.profiles())) == 375
    assert shop.run().plan.added == 625


def test_schedule_of_a_project_that_is_wrong_from_the_beginning_does_not_start(shop: Shop, retl: Retl):
    shop.sync("it", ONE, schedule="* * *")
    outcome = retl("scheduler", folder=shop.folder)
    assert (outcome.code, outcome.out) == (2, "")
    assert '"schedule" in sync "it": "* * *" is not a valid cron expression: it has 3 fields, not 5' in outcome.err


class Wall:
    """A clock on the wall: shows each time of the list, and says how long it was waited for."""

    def __init__(self, *texts: str) -> None:
        self._times = iter([datetime.fromisoformat(f"2026-11-25T{text}+00:00") for text in texts])
        self.waits: list[float] = []

    def now(self) -> datetime:
        return next(self._times)


def test_passes_begin_with_each_minute_and_a_late_one_is_followed_at_once():
    wall = Wall("08:00:20", "08:00:21", "08:01:00", "08:03:10", "08:03:10", "08:03:12")
    going = passes(lambda: "project", wall.now, wall.waits.append, print)
    assert [next(going) for _ in range(3)] == ["project"] * 3
    assert wall.waits == [39, 0]


def test_clock_that_was_set_back_is_not_waited_for():
    wall = Wall("08:00:20", "05:00:00", "05:01:00")
    going = passes(lambda: "project", wall.now, wall.waits.append, print)
    assert [next(going) for _ in range(2)] == ["project"] * 2
    assert wall.waits == [60]


def test_broken_project_runs_nothing_and_is_said_once_until_it_is_mended():
    versions, said = iter(["good", "!broken", "!broken", "!broken otherwise", "mended"]), list[str]()

    def load() -> str:
        version = next(versions)
        if version.startswith("!"):
            raise ProjectError(version[1:])
        return version

    wall = Wall(*["08:00:00"] * 20)
    going = passes(load, wall.now, wall.waits.append, said.append)
    assert [next(going), next(going)] == ["good", "mended"]
    waits = "no sync runs until this is fixed; checking again every minute"
    assert said == [f"broken\n{waits}", f"broken otherwise\n{waits}", "the project is valid again"]
    assert wall.waits == [60, 60, 60, 60]


def test_delayed_sync_runs_later_for_its_scheduled_time_and_a_run_before_that_does_not_count(shop: Shop, retl: Retl):
    at = (NOW - timedelta(minutes=1)).replace(second=0, microsecond=0)
    daily = {"schedule": f"{at.minute} {at.hour} * * *"}
    cron, before, then = (
        Cron(daily["schedule"], delay=timedelta(hours=1)),
        at + timedelta(minutes=59),
        at + timedelta(hours=1),
    )
    assert [cron.latest(now) for now in (before, then)] == [at - timedelta(days=1), at]
    assert [cron.following(now) for now in (before, then)] == [then, then + timedelta(days=1)]
    found = {}
    for delay in ("0", "1 hour"):
        shop.sync("it", ONE, **daily, delay=delay)
        assert retl("sync", "it", folder=shop.folder).code == 0
        project = shop.project()
        found[delay] = [due.scheduled_time for due in find_due(project, [project.sync("it")], NOW + timedelta(hours=1))]
    assert found == {"0": [], "1 hour": [at]}
    assert f"{daily['schedule']} UTC + 1 hour" in retl("ls", folder=shop.folder).out
    shop.sync("it", ONE, **daily, delay="soon")
    assert retl("ls", folder=shop.folder).err == (
        'syncs.yml:18:10: "delay" in sync "it" must be a time such as "5 minutes", or 0\n'
    )


def test_status_says_that_a_message_is_of_an_earlier_run_than_a_failure_which_left_no_trace(shop: Shop, retl: Retl):
    shop.sync("it", MANY, guards={"max_changes": 1})
    blocked = retl("sync", "it", folder=shop.folder)
    shop.model("it", "SELECT nothing FROM nowhere")
    assert (blocked.code, retl("sync", "it", folder=shop.folder).code) == (1, 2)
    at = datetime.fromisoformat(json.loads((shop.folder / ".retl/test/tries.json").read_text())["it"]["at"])
    told = retl("status", folder=shop.folder)
    assert told.err == (
        f"it: failed or blocked 2 times in a row, the last at {at:%Y-%m-%d %H:%M} UTC: SQL error [P051] in models/it.sql:1; "
        "the last run on record: guard max_changes: 1,000 rows would be sent; at most 1 is allowed\n"
    )


def test_sync_that_failed_in_its_model_after_a_success_has_failed_in_the_table(shop: Shop, retl: Retl):
    shop.sync("it", ONE)
    assert retl("sync", "it", folder=shop.folder).code == 0
    shop.model("it", "SELECT nothing FROM nowhere")
    assert retl("sync", "it", folder=shop.folder).code == 2
    at = datetime.fromisoformat(json.loads((shop.folder / ".retl/test/tries.json").read_text())["it"]["at"])
    assert retl("status", folder=shop.folder).out.splitlines()[-1].split()[:2] == ["it", "failed"]
    (listed,) = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
    found = listed["last_run"], listed["finished_at"], listed["failures"]
    assert found == ("failed", str(at.replace(microsecond=0)), 1)


@pytest.mark.long
def test_run_that_was_killed_after_failures_is_killed_in_the_table(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT nothing FROM nowhere")
    assert retl("sync", "it", folder=shop.folder).code == 2
    shop.model("it", ONE)
    with running(shop, until="u1") as process:
        process.kill()
    told = retl("status", folder=shop.folder)
    assert told.out.splitlines()[-1].split()[:2] == ["it", "killed"]
    assert told.err.startswith("it: failed 1 time in a row, the last at ")
