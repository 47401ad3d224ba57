"""What commands leave in target/, and what reads it again: --state, retry, history."""

import io
import json
import os
import re
import signal
import stat
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reverse_etl.report.artifacts import ARTIFACTS, artifact_schema
from reverse_etl.report.text import result_line
from reverse_etl.sandbox import Fault
from tests.processes import Forked
from tests.shop import FakeClock, Retl, Shop, Silent, edit, start


def artifact(folder: Path, name: str) -> Any:
    """An artifact, checked against its schema and its mode."""
    path = folder / "target" / ARTIFACTS[name][0]
    found = json.loads(path.read_text())
    schema = Draft202012Validator(artifact_schema(name), format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in schema.iter_errors(found)] == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [other.name for other in path.parent.iterdir() if other.name.startswith(".")] == [".gitignore"]
    return found


def statuses(folder: Path) -> dict[str, str]:
    return {result["sync"]: result["status"] for result in artifact(folder, "run-results")["results"]}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_schema_of_an_artifact_is_a_schema_and_is_printed(retl: Retl, name: str):
    Draft202012Validator.check_schema(artifact_schema(name))
    assert json.loads(retl("schema", name).out) == artifact_schema(name)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_every_field_of_an_artifact_has_a_description(name: str):
    schema = artifact_schema(name)
    parts = {name: schema, **schema["$defs"]}
    fields = {f"{part}.{field}": about for part in parts for field, about in parts[part]["properties"].items()}
    assert len(fields) > 20
    assert [field for field, about in fields.items() if "description" not in about] == []


# --- manifest.json ---------------------------------------------------------------------------------------------------


def test_manifest_says_what_is_built_from_what(retl: Retl, starter: Path):
    assert retl("ls").code == 0
    manifest = artifact(starter, "manifest")
    assert manifest["metadata"]["command"] == "ls"
    assert manifest["parent_map"] == {
        "seed.raw_customers": [],
        "seed.raw_orders": [],
        "model.customers": ["seed.raw_customers"],
        "model.newsletter": ["model.customers"],
        "model.orders": ["seed.raw_orders"],
        "model.users_track": ["model.customers", "seed.raw_orders"],
        "sync.users_track": ["model.users_track"],
        "sync.orders": ["model.orders"],
        "sync.newsletter": ["model.newsletter"],
    }
    assert manifest["child_map"]["model.customers"] == ["model.newsletter", "model.users_track"]
    (written,) = [
        one for one in yaml.safe_load((starter / "syncs.yml").read_text())["syncs"] if one["name"] == "orders"
    ]
    assert manifest["syncs"]["sync.orders"] == {
        "unique_id": "sync.orders",
        "name": "orders",
        "model": "orders",
        "path": "models/orders.sql",
        "tags": ["hourly"],
        "config": written,
        "depends_on": {"nodes": ["model.orders"]},
        "fingerprint": manifest["syncs"]["sync.orders"]["fingerprint"],
    }


@pytest.mark.parametrize("command", ["ls", "plan", "compile", "sync --all"])
def test_commands_that_read_the_project_write_its_manifest(retl: Retl, starter: Path, command: str):
    assert retl(*command.split()).code == 0
    assert artifact(starter, "manifest")["metadata"]["command"] == command.split()[0]


def test_manifest_holds_no_value_of_the_environment(retl: Retl, starter: Path, monkeypatch):
    monkeypatch.setenv("TEAM", "top-secret-team")
    edit(starter / "syncs.yml", "what customers bought", "\"{{ env_var('TEAM') }}\"")
    edit(starter / "models/orders.sql", "select", "-- {{ env_var('TEAM') }}\nselect")
    assert retl("ls").code == 0
    text = json.dumps(artifact(starter, "manifest"))
    assert "top-secret-team" not in text
    assert "env_var('TEAM')" in text


def test_manifest_is_written_although_a_model_is_broken(retl: Retl, starter: Path):
    (starter / "models/customers.sql").write_text("select {% nonsense %} from {{ ref('raw_customers') }}")
    assert retl("ls").code == 0
    assert "sync.users_track" in artifact(starter, "manifest")["syncs"]


def test_folder_that_takes_no_manifest_keeps_no_command_from_its_work(retl: Retl, starter: Path):
    (starter / "target").write_text("a file")
    done = retl("ls")
    assert (done.code, len(done.out.splitlines())) == (0, 4)
    assert "cannot write target/manifest.json: File exists" in done.err


# --- state: ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def main(retl: Retl, starter: Path, tmp_path: Path) -> Path:
    """A manifest of the starter, put aside as a pull request finds main's."""
    assert retl("ls").code == 0
    folder = tmp_path / "main"
    folder.mkdir()
    (starter / "target/manifest.json").rename(folder / "manifest.json")
    return folder


def listed(done: Any) -> list[str]:
    assert done.code == 0, done.err
    return [line.split()[0] for line in done.out.splitlines()[1:]]


def test_nothing_is_modified_in_an_unchanged_project(retl: Retl, main: Path):
    done = retl("ls", "--select", "state:modified", "--state", str(main))
    assert (done.code, listed(done), done.err) == (0, [], "nothing to do: no syncs selected\n")


def test_model_that_a_model_refs_modifies_its_syncs(retl: Retl, starter: Path, main: Path):
    edit(starter / "models/customers.sql", "select", "select /* new */")
    assert listed(retl("ls", "-s", "state:modified", "--state", str(main))) == ["users_track", "newsletter"]
    assert listed(retl("ls", "-s", "state:unmodified", "--state", str(main))) == ["orders"]


def test_keys_modify_a_sync_and_words_about_it_do_not(retl: Retl, starter: Path, main: Path):
    edit(starter / "syncs.yml", "who gets the newsletter", "who reads it")
    edit(starter / "syncs.yml", "primary_key: order_id", "primary_key: [order_id]\n    skip_on_invalid_records: true")
    assert listed(retl("ls", "-s", "state:modified", "--state", str(main))) == ["orders"]


def test_only_vars_that_models_use_modify_a_sync(retl: Retl, starter: Path, tmp_path: Path):
    edit(starter / "syncs.yml", "syncs:", "vars: {used: 1, unused: 1}\nsyncs:")
    edit(starter / "models/orders.sql", "select", "{% if is_incremental() %} -- {{ var('used') }} {% endif %}\nselect")
    assert retl("ls").code == 0
    (starter / "target").rename(tmp_path / "then")
    edit(starter / "syncs.yml", "unused: 1", "unused: 2")
    assert listed(retl("ls", "-s", "state:modified", "--state", "then")) == []
    edit(starter / "syncs.yml", "used: 1", "used: 2")
    assert listed(retl("ls", "-s", "state:modified", "--state", "then")) == ["orders"]


def test_new_sync_is_new_and_modified(retl: Retl, starter: Path, main: Path, monkeypatch):
    monkeypatch.setenv("RETL_STATE", str(main))
    more = "{name: more, model: orders, mode: users_track, track_record_type: purchases, primary_key: order_id}"
    edit(starter / "syncs.yml", "\nsyncs:\n", f"\nsyncs:\n  - {more}\n")
    assert listed(retl("ls", "-s", "state:new")) == ["more"]
    assert listed(retl("ls", "-s", "state:modified")) == ["more"]


def test_state_may_be_the_target_folder_itself(retl: Retl, starter: Path):
    assert retl("ls").code == 0
    edit(starter / "models/orders.sql", "select", "select /* new */")
    assert listed(retl("ls", "-s", "state:modified", "--state", "target")) == ["orders"]
    assert listed(retl("ls", "-s", "state:modified", "--state", "target")) == []


def test_plan_and_sync_take_state_too(retl: Retl, starter: Path, main: Path):
    edit(starter / "models/orders.sql", "select", "select /* new */")
    assert retl("plan", "-s", "state:modified", "--state", str(main)).out.startswith("orders (")
    assert [p["sync"] for p in artifact(starter, "plan")["plans"]] == ["orders"]
    assert retl("sync", "-s", "state:modified", "--state", str(main)).out.startswith("orders: success")
    assert statuses(starter) == {"orders": "success"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "main/manifest.json does not exist", id="missing"),
        pytest.param("{", "main/manifest.json is not JSON", id="not JSON"),
        pytest.param("[]", "main/manifest.json is not a retl artifact of this type", id="foreign"),
        pytest.param(
            json.dumps({"metadata": {"dbt_schema_version": "v12"}}),
            "main/manifest.json was written by dbt, not by retl",
            id="dbt's",
        ),
        pytest.param(
            json.dumps({"metadata": {"artifact": "manifest", "retl_schema_version": 99}}),
            "main/manifest.json was written by a newer version of retl (schema 99; this version reads 2)\n"
            "  hint: upgrade retl",
            id="newer",
        ),
        pytest.param(
            json.dumps({"metadata": {"artifact": "manifest", "retl_schema_version": 1}}),
            "main/manifest.json is damaged, at metadata.retl_version",
            id="damaged",
        ),
    ],
)
def test_manifest_that_cannot_be_compared_with_is_named(retl: Retl, main: Path, text: str | None, message: str):
    (main / "manifest.json").unlink()
    if text is not None:
        (main / "manifest.json").write_text(text)
    done = retl("sync", "-s", "state:modified", "--state", "main")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message + "\n")


# --- run_results.json and plan.json ----------------------------------------------------------------------------------

ROWS = "SELECT 'u' || i AS external_id, 'secret-value' AS tier FROM range(3) t(i)"


def test_run_results_say_what_came_of_each_sync(shop: Shop, retl: Retl):
    shop.sync("users", ROWS + " -- {{ var('country') }}").sync("broken", "SELECT nothing")
    done = retl("sync", "--all", "--vars", "{country: KR}", folder=shop.folder)
    assert done.code == 1
    found = artifact(shop.folder, "run-results")
    users, broken = found["results"]
    assert (users["unique_id"], users["status"], users["failures"], users["message"]) == (
        "sync.users",
        "success",
        0,
        None,
    )
    assert [part["name"] for part in users["timing"]] == ["plan", "execute"]
    assert users["timing"][0]["completed_at"] == users["timing"][1]["started_at"]
    assert users["delivery"]["accepted"] == 3
    assert users["run_id"] == users["plan"]["run_id"] == shop.rows_of("runs", "run_id", sync="users")[0][0]
    assert (broken["status"], broken["failures"], broken["timing"]) == ("failed", None, [])
    assert broken["errors"][0]["location"] == {"file": "models/broken.sql", "line": 1, "column": 0}
    assert broken["message"] == broken["errors"][0]["message"]
    assert {name: found["args"][name] for name in ("target", "vars", "all_syncs", "full_refresh")} == {
        "target": "test",
        "vars": "{country: KR}",
        "all_syncs": True,
        "full_refresh": False,
    }
    text = (shop.folder / "target/run_results.json").read_text()
    assert "secret-value" not in text


def test_run_results_are_there_when_nothing_could_be_tried(shop: Shop, retl: Retl, monkeypatch):
    shop.sync("users", ROWS)
    monkeypatch.delenv("BRAZE_API_KEY")
    assert retl("sync", "users", folder=shop.folder).code == 2
    (result,) = artifact(shop.folder, "run-results")["results"]
    assert (result["status"], result["message"]) == ("failed", 'environment variable "BRAZE_API_KEY" is not set')


def test_apply_leaves_results_too(shop: Shop, retl: Retl):
    shop.sync("users", ROWS)
    assert retl("plan", "--out", "p", folder=shop.folder).code == 0
    assert retl("apply", "p", folder=shop.folder).code == 0
    assert statuses(shop.folder) == {"users": "success"}
    assert artifact(shop.folder, "run-results")["metadata"]["command"] == "apply"


def test_plan_is_left_as_it_is_printed(shop: Shop, retl: Retl):
    shop.sync("users", ROWS)
    printed = json.loads(retl("plan", "--output", "json", folder=shop.folder).out)
    assert artifact(shop.folder, "plan")["plans"] == printed
    assert "secret-value" not in (shop.folder / "target/plan.json").read_text()


@pytest.fixture
def pipe(shop: Shop) -> Path:
    """A file for a model to read, which waits there until somebody has written it."""
    path = shop.folder / "pipe"
    os.mkfifo(path)
    return path


def writing(pipe: Path, process: Forked) -> IO[str]:
    """The end of the pipe to write to, once the process reads the other one."""
    ends: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # nobody reads it yet
            ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    process.wait_until(is_read)
    return os.fdopen(ends[0], "w")


@pytest.mark.long
def test_interrupted_run_leaves_results(shop: Shop, retl: Retl, pipe: Path):
    """A real process and a real signal, while its model runs for hours; the sync behind it was not begun."""
    after_reading = f"WHERE a.range >= (SELECT length(content) FROM read_text('{pipe}'))"
    product = f"SELECT sum(hash(a.range, b.range)) AS n FROM range(1000000) a, range(10000000) b {after_reading}"
    shop.sync("slow", f"SELECT 'u' AS external_id, n FROM ({product})")
    shop.sync("next", ROWS)
    with start(shop, "--log-format", "json", "sync", "--all") as process:
        writing(pipe, process).close()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    lines = [json.loads(line) for line in process.err.splitlines()]
    assert lines[0]["event"] == "planning"
    assert lines[-1]["event"] == "interrupted"
    assert statuses(shop.folder) == {"slow": "interrupted", "next": "skipped"}


# --- retry -----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_retry_runs_what_did_not_succeed_in_the_last_run(shop: Shop, retl: Retl):
    shop.sync("good", ROWS).sync("broken", "SELECT nothing")
    shop.sync("behind", "SELECT 'u1' AS external_id, 1 AS visits", after=["broken"])
    assert retl("sync", "--all", folder=shop.folder).code == 1
    assert statuses(shop.folder) == {"good": "success", "broken": "failed", "behind": "skipped"}
    shop.sync("broken", "SELECT 'u1' AS external_id, 1 AS score")
    done = retl("retry", folder=shop.folder)
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["broken: success", "behind: success"]
    assert (done.code, statuses(shop.folder)) == (0, {"broken": "success", "behind": "success"})
    again = retl("retry", folder=shop.folder)
    assert (again.code, again.out, again.err) == (0, "", "every sync of the last run succeeded: nothing to retry\n")


@pytest.mark.long
def test_retry_sends_what_braze_rejected_with_a_name_and_without(shop: Shop, retl: Retl):
    shop.sync("users", ROWS)
    for command, sent in [(["sync", "users"], 1), (["sync", "users"], 1), (["retry"], 2), (["retry", "users"], 3)]:
        shop.braze.add_fault(Fault("object_error", external_ids=["u1"]))
        assert retl(*command, folder=shop.folder).code == 1
        assert (len(shop.sent()), statuses(shop.folder)) == (sent, {"users": "incomplete"})


def test_retry_keeps_target_and_variables_of_the_run(shop: Shop, retl: Retl):
    shop.sync("users", "SELECT '{{ target.name }}' AS external_id, '{{ var(\"country\") }}' AS country, nope")
    text = (shop.folder / "syncs.yml").read_text()
    target = text[text.index("  test:") : text.index("syncs:")]
    (shop.folder / "syncs.yml").write_text(text.replace("syncs:", target.replace("test:", "other:") + "syncs:"))
    arguments = ("--target", "other", "--vars", "{country: KR}")
    assert retl("sync", "users", *arguments, folder=shop.folder).code == 2
    model = shop.folder / "models/users.sql"
    model.write_text(model.read_text().replace(", nope", ""))
    assert retl("retry", folder=shop.folder).code == 0
    assert shop.sent() == ['{"attributes":[{"external_id":"other","country":"KR"}]}']


def test_retry_without_a_last_run_says_so(shop: Shop, retl: Retl):
    done = retl("retry", folder=shop.folder)
    assert (done.code, done.err) == (
        2,
        "target/run_results.json does not exist\n  hint: run `retl sync --all` first, or retry one sync by name: `retl retry NAME`\n",
    )


# --- history ---------------------------------------------------------------------------------------------------------


def test_history_lists_runs_the_newest_first(shop: Shop, retl: Retl):
    shop.sync("users", ROWS)
    assert retl("history", folder=shop.folder).err == "no sync has run yet\n"
    assert retl("sync", "users", folder=shop.folder).code == 0
    shop.sync("users", ROWS.replace("range(3)", "range(4)"))
    assert retl("sync", "users", folder=shop.folder).code == 0
    done = retl("history", folder=shop.folder)
    assert [line.split()[:1] + line.split()[4:5] for line in done.out.splitlines()[1:]] == [["users", "success"]] * 2
    runs = json.loads(retl("history", "--output", "json", folder=shop.folder).out)
    assert [(run["rows"], run["accepted"], run["requests"], run["attributes"]) for run in runs] == [
        (4, 1, 1, 1),
        (3, 3, 1, 3),
    ]
    assert len(json.loads(retl("history", "--limit", "1", "--output", "json", folder=shop.folder).out)) == 1


class SetsTheClockBack(Silent):
    """A listener on whose machine the clock is set back by an hour during a run."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    def planned(self, sync: Any, plan: Any) -> None:
        self.clock.ahead -= timedelta(hours=1)


def test_duration_of_a_run_in_which_the_clock_was_set_back_is_unknown(shop: Shop, retl: Retl):
    shop.sync("users", ROWS)
    shop.listener = SetsTheClockBack(shop.clock)
    result = shop.run()
    assert (result.status, result_line(result).endswith(" (duration unknown)")) == ("success", True)
    lines = retl("history", folder=shop.folder).out.splitlines()
    heading, run = (re.split(r"\s{2,}", line.strip()) for line in lines)
    listed = dict(zip(heading, run, strict=False))  # without a message
    assert (listed["status"], listed["took"]) == ("success", "unknown")
    (run_,) = json.loads(retl("history", "--output", "json", folder=shop.folder).out)
    assert (run_["status"], run_["duration_s"]) == ("success", None)


@pytest.mark.long
def test_history_works_while_a_sync_runs_and_does_not_disturb_it(shop: Shop, retl: Retl, pipe: Path):
    shop.sync("users", ROWS)
    assert retl("sync", "users", folder=shop.folder).code == 0
    shop.sync("users", f"SELECT 'u' AS external_id, content AS tier FROM read_text('{pipe}')")
    with start(shop, "sync", "users") as process:
        with writing(pipe, process) as model:
            done = retl("history", folder=shop.folder)
            assert (done.code, len(done.out.splitlines())) == (0, 2)
            model.write("gold")
        assert process.wait() == 0
    assert shop.braze.profile("u")["custom_attributes"] == {"tier": "gold"}
    assert len(retl("history", folder=shop.folder).out.splitlines()) == 3


def test_history_names_a_damaged_state(shop: Shop, retl: Retl):
    shop.sync("users", ROWS)
    assert retl("sync", "users", folder=shop.folder).code == 0
    (shop.folder / ".retl/test/users/state.duckdb").write_bytes(b"no database" * 1000)
    done = retl("history", folder=shop.folder)
    assert done.code == 1
    assert re.match(r"cannot read .*state\.duckdb: ", done.err)


# --- logs ------------------------------------------------------------------------------------------------------------


def log(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"ts", "level", "event", "message", "invocation_id", "command", "target"} <= line.keys()
    return lines


def test_whole_run_is_told_as_json_lines(shop: Shop, retl: Retl):
    shop.sync("users", ROWS).sync("broken", "SELECT nothing")
    done = retl("--log-format", "json", "sync", "--all", folder=shop.folder)
    lines = log(done.err)
    assert [(line["event"], line.get("sync")) for line in lines] == [
        ("planning", "users"),
        ("planned", "users"),
        ("sent", "users"),
        ("finished", "users"),
        ("finished", "broken"),
        ("error", "broken"),
        ("summary", None),
    ]
    assert len({line["invocation_id"] for line in lines}) == 1
    assert {(line["command"], line["target"]) for line in lines} == {("sync", "test")}
    run_id = artifact(shop.folder, "run-results")["results"][0]["run_id"]
    assert {line["run_id"] for line in lines[1:4]} == {run_id}
    assert lines[1]["counts"]["added"] == 3
    assert lines[2]["counts"] == {"to_send": 3, "accepted": 3, "rejected": 0, "requests": 1}
    assert (lines[3]["status"], lines[3]["counts"]["accepted"], lines[3]["level"]) == ("success", 3, "info")
    assert lines[5]["location"] == {"file": "models/broken.sql", "line": 1, "column": 0}
    assert lines[6]["counts"] == {"success": 1, "failed": 1}
    assert "secret-value" not in done.err
    assert lines[0]["invocation_id"] == artifact(shop.folder, "run-results")["metadata"]["invocation_id"]
    assert done.out.splitlines()[0].startswith("users: success, 3 of 3 rows accepted")


def test_sending_is_told_while_it_goes(shop: Shop, monkeypatch):
    """The answer is held back until it was told twice."""
    from reverse_etl.report import stderr
    from reverse_etl.report.json_lines import JsonLines

    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    shop.braze.add_fault(Fault("delay", until=lambda: told.getvalue().count('"sending"') > 1))
    shop.listener = JsonLines(every_s=0.02)  # type: ignore[assignment]
    stderr.begin("sync", is_json=True)
    try:
        shop.sync("users", ROWS).run()
    finally:
        stderr.begin("", is_json=False)
    events = [line["event"] for line in log(told.getvalue())]
    assert events.count("sending") > 1
    assert events[-1] == "sent"


def test_invalid_rows_are_told_one_a_line_by_key(shop: Shop, retl: Retl):
    shop.sync("users", "SELECT 'u1' AS external_id, repeat('x', 300) AS bio", strict=True)
    done = retl("--log-format=json", "sync", "users", folder=shop.folder)
    (row,) = [line for line in log(done.err) if line["event"] == "invalid_row"]
    assert (row["sync"], row["key"], row["column"], row["level"]) == ("users", "u1", "bio", "error")
    assert "xxx" not in done.err


def test_mistakes_are_objects(retl: Retl, starter: Path, monkeypatch):
    monkeypatch.setenv("RETL_LOG_FORMAT", "json")
    edit(starter / "syncs.yml", "mode: users_track", "mode: users_trak")
    done = retl("ls")
    (line,) = log(done.err)
    assert done.code == 2
    assert (line["event"], line["level"], line["hint"]) == ("error", "error", 'did you mean "users_track"?')
    assert (line["location"]["file"], line["location"]["line"] > 0) == ("syncs.yml", True)


@pytest.mark.parametrize("arguments", [["nonsense"], ["sync", "--nonsense"], ["sync", "--threads", "0"]])
def test_wrong_command_line_is_an_object_too(retl: Retl, arguments: list[str]):
    done = retl("--log-format", "json", *arguments)
    (line,) = log(done.err)
    assert (done.code, done.out, line["event"]) == (2, "", "error")


def test_command_line_wins_over_the_environment(retl: Retl, starter: Path, monkeypatch):
    monkeypatch.setenv("RETL_LOG_FORMAT", "json")
    assert retl("--log-format", "text", "history").err == "no sync has run yet\n"
    (line,) = log(retl("history").err)
    assert (line["event"], line["message"]) == ("notice", "no sync has run yet")
