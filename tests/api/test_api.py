"""retl from Python: what its calls return, raise and leave alone."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from reverse_etl import Project, RetlError, SyncError, SyncResult
from tests.processes import Forked
from tests.shop import FIVE_REQUESTS, KEY, FakeClock, Held, Retl, Shop, Silent

ROWS = "SELECT 'u' || i AS external_id, i AS n FROM range({rows}) AS t(i)"
OTHERS = ROWS.replace(" AS n ", " AS m ")  # another attribute: no two syncs write one


def project(shop: Shop, **options: Any) -> Project:
    return Project(shop.folder, environ={"BRAZE_API_KEY": KEY}, **options)


def test_sync_returns_what_happened(shop: Shop):
    shop.sync("people", ROWS.format(rows=3))
    result = project(shop).sync("people")
    assert (result.sync, result.mode, result.target) == ("people", "users_track / attributes", "test")
    assert (result.status, result.exit_code, result.is_success) == ("success", 0, True)
    assert (result.accepted, result.rejected, result.in_doubt, result.unsent, result.invalid) == (3, 0, 0, 0, 0)
    assert (result.requests, result.attributes, result.errors) == (1, 3, ())
    assert result.plan is not None
    assert result.run_id == result.plan.run_id == shop.rows_of("runs", "run_id")[0][0]
    assert result.started_at is not None
    assert result.started_at.tzinfo is UTC
    assert result.raise_for_status() is result
    assert str(result).startswith("people: success, 3 of 3 rows accepted in 1 request, 3 attributes written (")
    assert json.loads(json.dumps(result.as_dict()))["delivery"]["accepted"] == 3


def test_second_sync_of_one_project_sees_what_the_files_hold_by_then(shop: Shop):
    shop.sync("people", ROWS.format(rows=3))
    here = project(shop)
    assert here.sync("people").accepted == 3
    shop.model("people", ROWS.format(rows=4))
    assert here.sync("people").accepted == 1


def test_syncs_are_named_in_the_order_in_which_they_run(shop: Shop):
    shop.sync("late", ROWS.format(rows=1), after=["early"], tags=["x"]).sync("early", ROWS.format(rows=1), tags=["x"])
    shop.sync("other", ROWS.format(rows=1))
    here = project(shop)
    assert here.syncs() == ["early", "late", "other"]
    assert here.syncs("tag:x", exclude=["late"]) == ["early"]
    assert [result.sync for result in here.sync_all("other", select="late")] == ["late", "other"]
    assert [result.sync for result in here.sync_all(exclude="late")] == ["early", "other"]
    assert (here.syncs(select=[]), here.sync_all(select=[])) == ([], ())


def test_plan_sends_nothing_and_needs_no_key(shop: Shop):
    shop.sync("people", ROWS.format(rows=3))
    plan = Project(shop.folder).plan("people", max_changes=2)
    assert (plan.has_changes, plan.plan.added, dict(plan.columns)) == (True, 3, {"n": 3})
    assert [stop.message for stop in plan.blocked_by] == [
        "people: guard max_changes: 3 rows would be sent; at most 2 are allowed"
    ]
    assert "| people | users_track / attributes | 3 | 0 | 0 | 0 | 1 |" in plan.markdown
    assert "n: ***" in str(plan)
    assert plan.as_dict()["to_send"] == 3
    assert shop.sent() == []
    assert [one.sync for one in Project(shop.folder).plan_all()] == ["people"]


def test_what_goes_wrong_in_a_sync_is_in_its_result_until_it_is_asked_to_raise(shop: Shop):
    shop.sync("people", "SELECT nothing FROM nowhere")
    result = project(shop).sync("people")
    assert (result.status, result.exit_code, result.run_id) == ("failed", 2, None)
    with pytest.raises(SyncError) as caught:
        result.raise_for_status()
    assert str(caught.value).splitlines()[0] == "people: failed"
    assert caught.value.problems[1:] == result.errors
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, RetlError)


def test_error_of_several_syncs_names_those_that_failed(shop: Shop):
    shop.sync("good", ROWS.format(rows=1)).sync("bad", "SELECT '' AS external_id, 1 AS n")
    results = project(shop).sync_all()
    assert (results.is_success, results.exit_code, [result.status for result in results]) == (
        False,
        1,
        ["success", "blocked"],
    )
    with pytest.raises(SyncError, match="bad: blocked") as caught:
        results.raise_for_status()
    assert "good" not in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))  # as orchestrators carry it from one process to another
    assert (str(copy), copy.exit_code, copy.results) == (str(caught.value), 1, results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"wait": 3}, 'unknown option "wait"\n  hint: did you mean "wait_s"?', id="unknown"),
        pytest.param({"threads": 0}, "threads must be between 1 and 500, not 0", id="threads"),
        pytest.param({"rate_limit_share": 2}, "rate_limit_share must be between 0.01 and 1, not 2", id="share"),
        pytest.param(
            {"skip_guards": "max_change"},
            'skip_guards: unknown guard "max_change"\n  hint: did you mean "max_changes"?',
            id="guard",
        ),
        pytest.param(
            {"skip_guards": {"max_changes": -1}},
            'skip_guards: the number of guard max_changes must be an integer, not "-1"\n'
            "  hint: write it as max_changes=500",
            id="number",
        ),
        pytest.param(
            {"max_changes": "many"},
            'max_changes must be a number of rows, or a percentage such as "10%"',
            id="bound",
        ),
        pytest.param(
            {"scheduled_time": datetime(2026, 11, 24, 8)},
            "scheduled_time 2026-11-24 08:00:00 has no time zone\n  hint: pass a datetime with a time zone: datetime(..., tzinfo=UTC)",
            id="naive time",
        ),
    ],
)
def test_wrong_option_is_an_error_and_nothing_is_tried(shop: Shop, options: dict[str, Any], message: str):
    shop.sync("people", ROWS.format(rows=1))
    with pytest.raises(RetlError) as caught:
        project(shop).sync("people", **options)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
    assert shop.sent() == []


def test_unknown_sync_and_missing_key_are_errors(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BRAZE_API_KEY", raising=False)
    shop.sync("people", ROWS.format(rows=1))
    with pytest.raises(RetlError, match=r'unknown sync "peoples"\n  hint: did you mean "people"\?'):
        project(shop).sync("peoples")
    with pytest.raises(RetlError, match='environment variable "BRAZE_API_KEY" is not set'):
        Project(shop.folder).sync("people")


def test_options_are_those_of_the_command(shop: Shop):
    shop.sync("people", ROWS.format(rows=3), guards={"max_changes": 1})
    here = project(shop)
    assert here.sync("people").status == "blocked"
    assert here.sync("people", max_changes="100%").accepted == 3
    assert here.sync("people", full_refresh=True, skip_guards=["max_changes"], threads=1).accepted == 3


def test_vars_and_scheduled_time_reach_the_model(shop: Shop):
    shop.sync("people", "SELECT 'u1' AS external_id, '{{ var('country') }} {{ scheduled_time }}' AS due")
    seoul = timezone(timedelta(hours=9))
    here = project(shop, vars={"country": "KR"})
    here.sync("people", scheduled_time=datetime(2026, 11, 24, 17, tzinfo=seoul)).raise_for_status()
    assert [json.loads(body)["attributes"][0]["due"] for body in shop.sent()] == ["KR 2026-11-24 08:00:00+00:00"]
    assert shop.rows_of("runs", "epoch(scheduled_time)") == [(datetime(2026, 11, 24, 8, tzinfo=UTC).timestamp(),)]


def test_it_is_quiet_and_a_logger_hears_what_goes_on(shop: Shop, caplog: pytest.LogCaptureFixture, capfd: Any):
    shop.sync("people", "SELECT 'u1' AS external_id, 'secret@example.com' AS email")
    with caplog.at_level(logging.INFO, logger="reverse_etl"):
        result = project(shop).sync("people")
        project(shop).sync("people", full_refresh=True, max_changes=0)
    assert capfd.readouterr() == ("", "")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines[:3] == [
        ("INFO", "people: running the model and computing changes"),
        ("INFO", "people: 1 row in the model: 1 added, 0 changed, 0 removed, 0 unchanged"),
        ("INFO", str(result)),
    ]
    assert [level for level, _ in lines[-2:]] == ["ERROR", "ERROR"]
    assert not any("secret" in line for _, line in lines)


@pytest.mark.long
def test_listener_hears_it_in_place_of_the_logger(shop: Shop):
    aliases = "SELECT 'cookie' AS alias_label, 'a1' AS alias_name, 'u0' AS external_id"
    shop.sync("first", ROWS.format(rows=1)).sync("second", aliases, mode="users_alias_new", after=["first"])
    listener = Silent()
    project(shop, listener=listener).sync_all()
    assert listener.notices == [
        "second: first has just sent requests, which Braze may take minutes to apply; "
        "to wait, write `{sync: first, wait: 5 minutes}` in `after`"
    ]


def test_syncs_run_in_threads_at_the_same_time(shop: Shop):
    """No signal can be taken there, and the mask for new files belongs to all of them."""
    names = ["a", "b", "c", "d"]
    for name in names:
        shop.sync(name, ROWS.format(rows=200).replace(" AS n ", f" AS n_{name} "))
    here, results = project(shop), dict[str, SyncResult]()
    mask = os.umask(0o022)
    try:
        threads = [threading.Thread(target=lambda name=name: results.update({name: here.sync(name)})) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
    assert {name: (result.status, result.accepted) for name, result in results.items()} == dict.fromkeys(
        names, ("success", 200)
    )
    files = [path for path in (shop.folder / ".retl").rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_mode & 0o077 for path in files} == {path.name: 0 for path in files}


@pytest.mark.long
def test_one_sync_twice_at_once_runs_once(shop: Shop):
    shop.sync("people", ROWS.format(rows=1))

    class Second(Silent):
        @contextmanager
        def planning(self, sync: Any) -> Iterator[None]:
            second.append(project(shop).sync("people"))
            yield

    second: list[SyncResult] = []
    assert project(shop, listener=Second()).sync("people").is_success
    assert [(result.status, result.exit_code) for result in second] == [("running", 1)]
    assert 'sync "people" on target "test" is already running' in second[0].errors[0].message


def sync_and_fork(folder: Path) -> None:
    here = Project(folder, environ={"BRAZE_API_KEY": KEY})
    print(here.sync("first"), flush=True)
    child = os.fork()
    if not child:
        print(here.sync("second"), flush=True)
        os._exit(0)
    sys.exit(os.waitpid(child, 0)[1])


@pytest.mark.long
def test_sync_runs_in_a_forked_process(shop: Shop):
    shop.sync("first", ROWS.format(rows=2)).sync("second", OTHERS.format(rows=2))
    with Forked(sync_and_fork, shop.folder) as process:
        assert process.wait() == 0, process.err
    assert [line.split(" accepted")[0] for line in process.out.splitlines()] == [
        "first: success, 2 of 2 rows",
        "second: success, 2 of 2 rows",
    ]


class EndedError(Exception):
    pass


def sync_until_sigterm(folder: Path) -> None:
    def end(number: int, frame: object) -> None:
        raise EndedError

    signal.signal(signal.SIGTERM, end)
    try:
        Project(folder, environ={"BRAZE_API_KEY": KEY}).sync("people", threads=1)
    except EndedError:
        sys.exit(7)


@pytest.mark.long
def test_task_that_is_ended_by_an_exception_starts_no_more_requests_and_loses_nothing(shop: Shop):
    """Orchestrators end a task so: their signal handler raises where the main thread stands."""
    shop.destination = {**FIVE_REQUESTS, "timeout_s": 600}
    shop.sync("people", ROWS.format(rows=1000))
    answer = Held(shop.braze, external_ids=["u300"])
    with Forked(sync_until_sigterm, shop.folder) as process:
        process.wait_until(answer.is_held.is_set)
        process.send_signal(signal.SIGTERM)
        answer.goes_out.set()
        assert process.wait() == 7
    assert len(list(shop.braze.profiles())) == 375
    result = shop.run()
    assert shop.listener.notices == []
    assert (result.status, result.plan.added, len(list(shop.braze.profiles()))) == ("success", 625, 1000)
    assert shop.rows_of("runs", "status") == [("interrupted",), ("success",)]


_COST = """
import sys
import reverse_etl
print(sorted({"duckdb", "pydantic", "requests", "rich", "typer", "jinja2"} & set(sys.modules)), "Project" in dir(reverse_etl))
"""


def test_import_is_cheap(tmp_path: Path):
    command = [sys.executable, "-c", _COST]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[] True\n"


def test_unknown_name_of_the_package_is_an_attribute_error():
    import reverse_etl

    with pytest.raises(AttributeError, match="module 'reverse_etl' has no attribute 'Projects'"):
        reverse_etl.Projects  # noqa: B018


def test_api_and_command_go_on_where_the_other_ended(shop: Shop, retl: Retl):
    shop.sync("people", ROWS.format(rows=3))
    assert retl("sync", "people", folder=shop.folder).code == 0
    assert project(shop).sync("people").requests == 0


# --- after it was sent -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_run_is_reverted_pinned_applied_and_unpinned(shop: Shop, tmp_path: Path):
    here, model = project(shop), "SELECT 'u1' AS external_id, {} AS n"
    shop.sync("people", model.format(1))
    here.sync("people")
    shop.model("people", model.format(2))
    run = here.sync("people").run_id
    assert run is not None
    with pytest.raises(RetlError, match="the model still returns 1 of 1 value to be reverted"):
        here.revert(run)
    planned = here.revert(run, pin=True, out=tmp_path / "revert.plan")
    assert (planned.run, planned.cells, planned.not_reverted, planned.plan.changed) == (run, 1, (), 1)
    assert str(planned).splitlines()[0] == (
        f"people: 1 value of {run} to be reverted, pinned until the model returns others"
    )
    assert pickle.loads(pickle.dumps(planned.as_dict()))["cells"] == 1
    assert len(shop.sent()) == 2
    (applied,) = here.apply(tmp_path / "revert.plan", digest=planned.digest)
    assert (applied.status, applied.accepted) == ("success", 1)
    assert [profile["custom_attributes"] for profile in shop.braze.profiles()] == [{"n": 1}]
    with pytest.raises(RetlError, match="it was already applied"):
        here.apply(tmp_path / "revert.plan")
    assert here.sync("people").plan.to_send == 0  # type: ignore[union-attr]
    assert (here.unpin(run), here.unpin(run)) == (1, 0)
    assert here.sync("people").accepted == 1


@pytest.mark.long
def test_what_braze_has_otherwise_is_compared_and_repaired(shop: Shop):
    shop.clock = FakeClock(ahead=-timedelta(minutes=2))  # Braze shows by now what it has taken
    shop.sync("people", ROWS.format(rows=3)).run()
    here = project(shop)
    assert here.verify("people", seed=1).is_success
    shop.sync("other", "SELECT 'u1' AS external_id, 7 AS n", shares=["n"])
    shop.sync("people", ROWS.format(rows=3), shares=["n"])
    here.sync("other")
    found = here.verify("people", sample=10, seed=1, repair=True)
    assert (found.is_success, found.rows, found.sampled, found.as_sent, found.differing) == (False, 3, 3, 2, 1)
    assert found.differences == (("n", "sent a number, and Braze has another", 1),)
    assert (found.repaired, found.share, found.as_dict()["seed"]) == (1, (1 / 3, 1 / 3), 1)
    assert here.sync("people").accepted == 1
    assert here.verify("people").is_success
    with pytest.raises(RetlError, match="sample must be between 1 and"):
        here.verify("people", sample=0)


def artifact(shop: Shop, name: str) -> dict[str, Any]:
    return json.loads((shop.folder / "target" / f"{name}.json").read_text(encoding="utf-8"))


def without_what_differs(value: Any) -> Any:
    """An artifact without ids, times and what was typed."""
    if isinstance(value, list):
        return [without_what_differs(one) for one in value]
    if isinstance(value, dict):
        others = ("_at", "_time", "_id", "_s")
        kept = {
            name: one for name, one in value.items() if not name.endswith(others) and name not in ("args", "timing")
        }
        return {name: without_what_differs(one) for name, one in kept.items()}
    return value


@pytest.mark.long
def test_calls_leave_the_artifacts_that_commands_leave(shop: Shop, retl: Retl):
    shop.sync("people", ROWS.format(rows=3)).sync("others", "select nothing from nowhere")
    found = {}
    for who in ("api", "command"):
        if who == "api":
            project(shop).plan("people")
            project(shop).sync_all()
        else:
            retl("state", "reset", "people", "--yes")
            retl("plan", "people")
            retl("sync", "--all")
        found[who] = [without_what_differs(artifact(shop, name)) for name in ("manifest", "plan", "run_results")]
    assert found["api"] == found["command"]
    assert [one["status"] for one in artifact(shop, "run_results")["results"]] == ["success", "failed"]


def test_call_that_cannot_start_leaves_results_that_say_so(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    shop.sync("people", ROWS.format(rows=3))
    monkeypatch.delenv("BRAZE_API_KEY", raising=False)
    with pytest.raises(RetlError):
        Project(shop.folder).sync("people")
    (result,) = artifact(shop, "run_results")["results"]
    assert (result["sync"], result["status"]) == ("people", "failed")
    assert artifact(shop, "run_results")["args"] == {"syncs": ["people"]}


def test_artifacts_that_cannot_be_written_stop_nothing(shop: Shop, caplog: pytest.LogCaptureFixture):
    shop.sync("people", ROWS.format(rows=3))
    (shop.folder / "target" / "run_results.json").mkdir(parents=True)
    assert project(shop).sync("people").accepted == 3
    assert "cannot write" in caplog.text


@pytest.mark.long
def test_options_are_checked_by_mypy_in_the_code_of_users(tmp_path: Path):
    """A name that no option has, and a value of another type, are found before anything runs."""
    calls = ("here.sync('a', fail_fast=True)", "here.sync('a', fail_fats=True)", "here.sync_all(threads='8')")
    calls += ("here.plan('a', max_changes='10%')", "here.plan('a', threads=8)", "here.syncs('state:new', state='main')")
    code = tmp_path / "code.py"
    code.write_text("from reverse_etl import Project\n\nhere = Project('.')\n" + "\n".join(calls) + "\n")
    command = [sys.executable, "-m", "mypy", str(code)]  # with the cache of `make types`, which CI has run before
    checked = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert [int(line.split(":")[1]) - 4 for line in checked.stdout.splitlines() if ": error:" in line] == [1, 2, 4]


@pytest.mark.long
def test_state_and_result_select_as_for_commands(shop: Shop, tmp_path: Path):
    shop.sync("people", ROWS.format(rows=3)).sync("others", "select nothing from nowhere")
    here = project(shop)
    here.sync_all()
    (shop.folder / "target").rename(tmp_path / "main")
    shop.model("people", ROWS.format(rows=4))
    assert here.syncs("state:modified", state=tmp_path / "main") == ["people"]
    assert here.syncs("result:error", state=tmp_path / "main") == ["others"]
    assert [one.sync for one in here.plan_all(select="state:modified", state=tmp_path / "main")] == ["people"]
    assert [one.sync for one in here.sync_all(exclude="result:error", state=tmp_path / "main")] == ["people"]
    assert here.syncs("result:success") == ["people"]  # of the last call
    with pytest.raises(RetlError, match="--state"):
        here.syncs("state:modified")
