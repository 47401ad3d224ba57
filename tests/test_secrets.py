"""No command, file or process says an API key, whatever a server does with it. See canary.py for all other tests."""

import base64
import html
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.canary import KEY, STORE_SECRET, is_leaked, leaks
from tests.shop import EVENTS, Outcome, Retl, Shop, database


class Echo(ThreadingHTTPServer):
    """A server that says the API key back, with a status for events and one for attributes, each time in the next form."""

    events, attributes = 400, 401
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echoing)
        self.forms, self.said = itertools.cycle(FORMS), 0
        self.seen: list[str] = []  # command lines of processes, at the time of their requests
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Echoing(BaseHTTPRequestHandler):
    server: Echo
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.process:
            self.server.seen.append(Path(f"/proc/{self.server.process.pid}/cmdline").read_text())
        key = self.headers["Authorization"].removeprefix("Bearer ")
        said, self.server.said = next(self.server.forms)(key), self.server.said + 1
        errors = [{"type": f"not for {said}", "input_array": name, "index": 0} for name in ("attributes", "events")]
        body = json.dumps({"message": f"Invalid API key: {said}", "errors": errors}).encode()
        self.send_response(
            self.server.events if "events" in sent else self.server.attributes, said[:40].replace("\n", " ")
        )
        for name, value in {"Content-Length": len(body), "X-Key": said}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def echoed(shop: Shop, echo: Echo) -> Shop:
    """Two syncs to that server: users, and events, one for each form of the key and in a request of its own."""
    shop.destination = {"endpoint": echo.url, "max_objects_per_request": 1}
    shop.sync("users", "SELECT 'u' || i AS external_id, i AS n FROM range(3) r(i)", schedule="* * * * *")
    seen = (
        f"SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range({len(FORMS)}) r(i)"
    )
    shop.sync("seen", seen, **EVENTS)
    return shop


def basic(key: str) -> str:
    return f"Basic {base64.b64encode(f'user:{key}'.encode()).decode()}"


FORMS = [
    str, repr, quote, html.escape, basic,
    lambda key: key.encode().hex(), lambda key: f"{'x' * 250}{key}", lambda key: key[:20], lambda key: f"{key[:20]}...",
]  # fmt: skip
COMMANDS = [
    "sync --all", "--log-format json sync --all", "retry", "retry users", "run-due", "plan", "plan --output json",
    "plan --show-values", "plan --out saved.plan", "--log-format json apply saved.plan", "rejects",
    "rejects --output json", "history", "history --output json", "status", "status --output json", "debug", "show users",
    "compile users", "ls", "ls --output json", "state show users", "test", "resolve seen --resend --yes", "sync seen",
    "--log-format json debug",
]  # fmt: skip


@pytest.mark.long
def test_key_that_a_server_says_back_is_nowhere(echoed: Shop, echo: Echo, retl: Retl):
    outcomes = {command: retl(*command.split(), folder=echoed.folder) for command in COMMANDS}
    assert outcomes["sync --all"].code == 1
    assert_nothing_said(outcomes, echoed)


@pytest.mark.long
@pytest.mark.parametrize("status", [201, 400, 401, 403])
def test_key_is_nowhere_whatever_form_a_server_gives_it(status: int, echoed: Shop, echo: Echo, retl: Retl):
    """Where every record is rejected, a run or two are told all forms; a key that is refused ends a run at its first."""
    echo.events, outcomes = status, dict[str, Outcome]()
    while echo.said < len(FORMS) and len(outcomes) < len(FORMS):
        outcomes[f"run {len(outcomes)}"] = retl("sync", "seen", folder=echoed.folder)
    assert {one.code for one in outcomes.values()} == {1}
    assert echo.said >= len(FORMS)
    for command in ("rejects --output json", "history"):
        outcomes[command] = retl(*command.split(), folder=echoed.folder)
    assert outcomes["rejects --output json"].out.count("***") >= (len(FORMS) if status in (201, 400) else 0)
    assert_nothing_said(outcomes, echoed)


def assert_nothing_said(outcomes: dict[str, Outcome], shop: Shop) -> None:
    assert "***" in "".join(f"{one.out}{one.err}" for one in outcomes.values())
    assert [command for command, one in outcomes.items() if is_leaked(str(one))] == []
    assert leaks(shop.folder) == []
    assert not is_leaked(stored(shop))


def stored(shop: Shop) -> str:
    """All values in all states, whatever DuckDB's files do to them."""
    values = []
    for path in shop.folder.rglob("state.duckdb"):
        with database(path, "READ_ONLY") as connection:
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                values += connection.execute(f"FROM {table}").fetchall()
    return str(values)


@pytest.mark.long
def test_process_does_not_say_its_key_to_others(echoed: Shop, echo: Echo):
    """Its command line; both streams, and the files that it leaves."""
    arguments = [sys.executable, "-m", "reverse_etl", "--log-format", "json", "sync", "--all"]
    process = subprocess.Popen(
        arguments, cwd=echoed.folder, env={**os.environ, **echoed.environ, "RETL_PLAN_KEY": STORE_SECRET},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    echo.process = process
    out, err = process.communicate()
    assert "Invalid API key: ***" in err
    assert (process.returncode, is_leaked(out), is_leaked(err), leaks(echoed.folder)) == (1, False, False, [])
    assert echo.seen
    assert not any(is_leaked(line) for line in echo.seen)


def test_canary_would_be_found(tmp_path: Path):
    for n, text in enumerate([KEY, basic(KEY), KEY[:14], f"...{KEY[20:]}", quote(STORE_SECRET, safe="")]):
        (tmp_path / str(n)).write_text(f"some text {text}")
    (tmp_path / "5").write_text("some other text")
    assert sorted(leaks(tmp_path)) == ["0", "1", "2", "3", "4"]


def test_key_in_the_project_is_not_said_either(echoed: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    """From .env, by a command that fails before it sends anything, and one whose YAML is not valid."""
    monkeypatch.delenv("BRAZE_API_KEY")
    (echoed.folder / ".env").write_text(f"BRAZE_API_KEY={KEY}\n")
    echoed.model("users", "SELECT 'u1' AS external_id, {{ 1 / 0 }} AS n, '{{ var('x') }}' AS x")
    said: list[Outcome] = [retl("sync", "users", "--vars", f"{{x: {KEY}}}", folder=echoed.folder)]
    text = (echoed.folder / "syncs.yml").read_text()
    (echoed.folder / "syncs.yml").write_text(text.replace("{{ env_var('BRAZE_API_KEY') }}", KEY))
    said.append(retl("sync", "users", folder=echoed.folder))
    assert [(one.code, is_leaked(str(one))) for one in said] == [(2, False), (2, False)]
    assert leaks(echoed.folder) == []
