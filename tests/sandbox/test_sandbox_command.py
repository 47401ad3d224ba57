"""`retl sandbox` as other programs start it, and the examples of docs/sandbox.md."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from reverse_etl.sandbox import parse_fault
from reverse_etl.sandbox.http.faults import KINDS, as_json
from tests.processes import Forked, command
from tests.shop import Retl

BIN = Path(sys.executable).parent
DOCS = (Path(__file__).parents[2] / "docs/sandbox.md").read_text(encoding="utf-8")
KEY = {"Authorization": "Bearer sandbox"}


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[Forked, dict[str, Any], str]]:
    """A sandbox that says it is ready: its process, its ready file, the line it printed."""
    ready = folder / "ready.json"
    arguments = ["sandbox", "--port", "0", "--ready-file", str(ready), *options]
    process = Forked(command, folder, dict(os.environ), *arguments)
    try:
        process.wait_until(lambda: ready.exists() and process.out.endswith("\n"))
        yield process, json.loads(ready.read_text()), process.out
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def test_ready_file_says_where_it_answers_and_goes_with_it(tmp_path: Path):
    with running(tmp_path, "--key", "k1", "--key", "k2:users.track") as (process, ready, line):
        url = f"http://127.0.0.1:{ready['port']}"
        assert ready == {"url": url, "port": ready["port"], "pid": process.pid, "keys": ["k1", "k2"]}
        assert line == f"{url}  keys: k1, k2  file: temporary\n"
        assert stat.S_IMODE((tmp_path / "ready.json").stat().st_mode) == 0o600
        assert requests.get(url).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert list(tmp_path.iterdir()) == []


def test_faults_work_by_flag(tmp_path: Path):
    flags = ("--fault", "status:status=429,times=1,path=/users/track", "--fault", "delay:seconds=0.001", "--seed", "5")
    with running(tmp_path, *flags) as (_, ready, _):
        one = {"attributes": [{"external_id": "u1", "plan": 1}]}
        statuses = [requests.post(f"{ready['url']}/users/track", json=one, headers=KEY).status_code for _ in range(2)]
        assert statuses == [429, 201]


def test_it_ends_after_the_process_that_asked_for_it(tmp_path: Path):
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent,
        running(tmp_path, "--parent-pid", str(parent.pid)) as (process, ready, _),
    ):
        assert requests.get(ready["url"]).status_code == 200
        parent.communicate(b"\n")
        assert process.wait(timeout=60) == 0


def test_in_a_project_it_keeps_what_is_sent_where_runs_do(retl: Retl, tmp_path: Path):
    retl("init")
    with running(tmp_path) as (_, ready, line):
        assert line.rstrip().endswith(".retl/sandbox/sandbox.sqlite")
        requests.post(f"{ready['url']}/users/track", json={}, headers=KEY)
    assert retl("sandbox", "--last", "1").out == "/users/track  400  (empty, such as those of `retl debug`)\n{}\n"


def test_last_requests_are_told_by_method_and_those_without_a_body_by_nothing_else(tmp_path: Path, retl: Retl):
    with running(tmp_path, "--file", "braze.sqlite") as (_, ready, _):
        catalog = {"name": "shop", "description": "-", "fields": [{"name": "id", "type": "string"}]}
        requests.post(f"{ready['url']}/catalogs", json={"catalogs": [catalog]}, headers=KEY)
        requests.get(f"{ready['url']}/catalogs", headers=KEY)
        requests.delete(f"{ready['url']}/catalogs/shop/items", json={"items": [{"id": "mug"}]}, headers=KEY)
    said = retl("sandbox", "--last", "2", "--file", "braze.sqlite").out
    assert said == 'GET /catalogs  200\nDELETE /catalogs/shop/items  202\n{"items": [{"id": "mug"}]}\n'


def test_file_is_kept_for_the_next_start(tmp_path: Path):
    for number in (1, 2):
        with running(tmp_path, "--file", "kept/braze.sqlite") as (_, ready, _):
            requests.post(f"{ready['url']}/users/track", json={}, headers=KEY)
            assert requests.get(f"{ready['url']}/_sandbox/counts").json()["empty_requests"] == number


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(
            ("--last", "1"),
            "--last: there is no project in this folder\n  hint: pass the sandbox file with --file\n",
            id="last without a project",
        ),
        pytest.param(
            ("--ready-file", "no/such/folder/f", "--port", "0"),
            "no/such/folder/f.{pid}: No such file or directory\n  hint: pass a path that can be written\n",
            id="ready file in no folder",
        ),
    ],
)
def test_wrong_command_is_said_and_nothing_is_served(retl: Retl, options: tuple[str, ...], said: str):
    outcome = retl("sandbox", *options)
    assert (outcome.code, outcome.err) == (2, said.format(pid=os.getpid()))


def test_project_that_was_asked_for_must_be_there(retl: Retl):
    outcome = retl("sandbox", "--target", "prod", "--port", "0")
    assert outcome.code == 2
    assert "syncs.yml" in outcome.err


def test_help_names_what_it_takes(retl: Retl):
    text = " ".join(retl("sandbox", "--help").out.split())
    assert "Needs no project" in text
    for option in [
        "--port",
        "--file",
        "--fault",
        "--seed",
        "--last",
        "--key",
        "--ready-file",
        "--parent-pid",
        "--project-dir",
        "--target",
    ]:
        assert option in text


@pytest.mark.parametrize("kind", KINDS)
def test_fault_is_the_same_by_flag_and_by_endpoint(braze, kind: str):
    text = f"{kind}:status=503,seconds=0.5,share=0.25,times=3,external_ids=u1+u2,path=/users"
    by_flag = as_json(parse_fault(text))
    fields = {"status": 503, "seconds": 0.5, "share": 0.25, "times": 3, "external_ids": ["u1", "u2"], "path": "/users"}
    answer = requests.post(f"{braze.url}/_sandbox/faults", json=[text, {"kind": kind, **fields}])
    assert answer.json() == [by_flag, by_flag]


def example(language: str, holds: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL) if holds in text]
    return found


def test_shell_example_of_the_docs_runs(tmp_path: Path):
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example("sh", "--ready-file")],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert '"attributes_processed":1' in done.stdout
    assert '{"name":"one user"}' in done.stdout


@pytest.mark.long
def test_python_examples_of_the_docs_run(tmp_path: Path):
    (tmp_path / "test_signup.py").write_text(example("python", "def test_signup"))
    (tmp_path / "plain.py").write_text(example("python", "with Sandbox("))
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_signup.py"]
    for typed in (suite, [sys.executable, "plain.py"]):
        subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)


def test_requests_are_answered_while_a_snapshot_is_taken_and_restored(braze):
    """Restoring is one step: nobody sees half of it."""
    for n in range(20):
        users = [{"external_id": f"u{n}-{k}", "x": "y" * 200} for k in range(75)]
        requests.post(f"{braze.url}/users/track", json={"attributes": users}, headers=KEY)
    braze.snapshot("full")
    statuses, stop, answered = set(), threading.Event(), threading.Semaphore(0)

    def send() -> None:
        one = {"attributes": [{"external_id": "more", "x": 1}]}
        while not stop.is_set():
            statuses.add(requests.post(f"{braze.url}/users/track", json=one, headers=KEY).status_code)
            statuses.add(requests.get(f"{braze.url}/_sandbox/pulse").status_code)
            answered.release()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for _ in range(5):
            assert requests.post(f"{braze.url}/_sandbox/snapshot").status_code == 201
            assert requests.post(f"{braze.url}/_sandbox/restore", json={"name": "full"}).status_code == 200
            assert answered.acquire(timeout=60)
    finally:
        stop.set()
        thread.join()
    braze.restore("full")
    assert (statuses, braze.counts()["users"]) == ({200, 201}, 1500)


@pytest.mark.parametrize("options", [["--project-dir", "nowhere"], ["--target", "prod"], ["--vars", "{a: 1}"]])
def test_file_and_a_project_are_not_both_taken(retl: Retl, tmp_path: Path, options):
    outcome = retl("sandbox", "--file", "braze.sqlite", *options)
    message = f"--file cannot be combined with {options[0]}: both set the data file\n  hint: remove one of them\n"
    assert (outcome.code, outcome.err) == (2, message)
    assert list(tmp_path.iterdir()) == []
