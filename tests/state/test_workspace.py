"""A state is of one workspace: what one has acknowledged, another one lacks."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from reverse_etl.delivery.destination import NEW_SANDBOX, Destination
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.workspace import KnownWorkspace, unknown
from tests.shop import KEY, Held, Retl, Shop, database, edit, running

USERS = "SELECT 'u' || i AS external_id, i AS n FROM range(3) r(i)"
OLD, NEW = "11111111-aaaa-4aaa-8aaa-000000000001", "22222222-bbbb-4bbb-8bbb-000000000002"
PERMISSIONS = {OLD: {"*"}, NEW: {"*"}, KEY: {"*"}}


@contextmanager
def as_braze(sandbox: Sandbox) -> Iterator[str]:
    """The address of a server that answers as Braze does, and not about being a sandbox."""

    class Front(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = requests.post(f"{sandbox.url}{self.path}", body, headers=dict(self.headers), timeout=60)
            self.answer(answer.status_code, answer.content)

        def do_GET(self) -> None:
            self.answer(404, b'{"message": "not found"}')

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def braze() -> Iterator[Sandbox]:
    with Sandbox(keys=PERMISSIONS) as sandbox:
        yield sandbox


@pytest.fixture
def other() -> Iterator[Sandbox]:
    with Sandbox(keys=PERMISSIONS) as sandbox:
        yield sandbox


@pytest.fixture
def address(braze: Sandbox) -> Iterator[str]:
    with as_braze(braze) as url:
        yield url


def pointed_at(shop: Shop, url: str, key: str = KEY) -> Shop:
    shop.destination, shop.environ = {"endpoint": url}, {"BRAZE_API_KEY": key}
    shop.write()
    return shop


def hint(name: str = "it") -> str:
    accept, reset = f"`retl state accept-workspace {name}`", f"`retl state reset {name}`"
    return f"  hint: for the same workspace, run {accept}; another one needs a target of its own, or {reset}"


def errors(shop: Shop) -> list[str]:
    result = shop.run()
    assert (result.status, result.exit_code, result.plan) == ("failed", 1, None)
    return [str(error) for error in result.errors]


def known(shop: Shop) -> str:
    return str(shop.rows_of("meta WHERE key = 'workspace'", "value")[0][0])


@pytest.mark.long
def test_rows_of_one_workspace_do_not_count_as_being_in_another(shop: Shop, other: Sandbox, retl: Retl):
    """And a state of before takes up the first one that it sees."""
    shop.sync("it", USERS).run()
    first = "sandbox " + requests.get(f"{shop.braze.url}/_sandbox/about").json()["file_id"]
    second = "sandbox " + requests.get(f"{other.url}/_sandbox/about").json()["file_id"]
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'workspace'")
    assert shop.run().delivery.requests == 0
    assert retl("debug", folder=shop.folder).code == 0
    pointed_at(shop, other.url)
    assert errors(shop) == [
        f"syncs.yml:9:7: it: its rows are in {first}, and the target sends to {second}\n{hint()}",
    ]
    assert other.requests() == []
    found = retl("debug", folder=shop.folder)
    assert found.code == 1
    assert "it: its rows are in sandbox" in found.out


def test_port_and_key_of_a_sandbox_say_nothing_about_it(shop: Shop, tmp_path: Path):
    shop.sync("it", USERS)
    for key in (OLD, NEW):
        with Sandbox(tmp_path / "braze.sqlite", keys=PERMISSIONS) as served:
            assert pointed_at(shop, served.url, key).run().status == "success"
            assert served.counts()["requests"] == 1


def test_another_api_key_may_be_of_another_workspace_of_the_same_address_and_the_state_keeps_none(
    shop: Shop, address: str
):
    pointed_at(shop, address, OLD).sync("it", USERS).run()
    assert all(OLD.encode() not in path.read_bytes() for path in (shop.folder / ".retl").rglob("*") if path.is_file())
    assert OLD not in known(shop)
    pointed_at(shop, address, NEW)
    assert errors(shop) == [
        f"syncs.yml:9:7: it: its rows were sent to {address} with another API key, perhaps to another workspace\n{hint()}"
    ]
    assert pointed_at(shop, address, OLD).run().status == "success"
    assert len(shop.braze.requests()) == 1


@pytest.mark.long
def test_key_is_accepted_before_it_is_rotated_and_the_old_one_still_works(
    shop: Shop, address: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    pointed_at(shop, address, OLD).sync("it", USERS).sync("new", f"SELECT external_id, 1 AS m FROM ({USERS})").run()
    monkeypatch.setenv("BRAZE_API_KEY", NEW)
    accepted = retl("state", "accept-workspace", "--all", "--yes", folder=shop.folder)
    with_key = "with the API key in the environment"
    assert accepted.err.splitlines() == [f"it: {address} accepted {with_key}", "new: nothing to accept"]
    assert not (shop.folder / ".retl/test/new").exists()
    assert retl("state", "accept-workspace", "it", "--yes", folder=shop.folder).err == "it: nothing to accept\n"
    for key in (OLD, NEW, OLD):
        assert pointed_at(shop, address, key).run().status == "success"
    assert len(shop.braze.requests()) == 1


def test_accepting_says_what_it_does_and_asks(shop: Shop, retl: Retl):
    shop.sync("it", USERS).run()
    asked = retl("state", "accept-workspace", "it", folder=shop.folder)
    place = "sandbox " + requests.get(f"{shop.braze.url}/_sandbox/about").json()["file_id"]
    assert (asked.code, asked.err) == (
        2,
        f"what it sent before counts as sent to {place}, and is not sent there again\n  hint: to confirm, pass --yes\n",
    )
    unnamed = retl("state", "accept-workspace", folder=shop.folder)
    assert (unnamed.code, unnamed.err) == (
        2,
        "name one or more syncs, or pass --all\n  hint: one of: it\n",
    )


def test_plan_needs_no_key_and_stops_at_another_address(shop: Shop, address: str, other: Sandbox, retl: Retl):
    pointed_at(shop, address, OLD).sync("it", USERS).run()
    shop.environ = {}
    edit(shop.folder / "syncs.yml", "BRAZE_API_KEY", "NO_SUCH_KEY")
    assert retl("plan", "it", folder=shop.folder).code == 0
    edit(shop.folder / "syncs.yml", address, other.url)
    stopped = retl("plan", "it", folder=shop.folder)
    assert stopped.code == 1
    assert f"it: its rows are in {address}, and the target sends to sandbox " in stopped.err


def test_saved_plan_is_not_sent_to_another_workspace(
    shop: Shop, address: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    pointed_at(shop, address, OLD).sync("it", USERS).run()
    shop.sync("it", f"{USERS} UNION SELECT 'new', 1")
    monkeypatch.setenv("BRAZE_API_KEY", OLD)
    assert retl("plan", "it", "--out", "plan.retl", folder=shop.folder).code == 0
    monkeypatch.setenv("BRAZE_API_KEY", NEW)
    applied = retl("apply", "plan.retl", folder=shop.folder)
    assert (applied.code, len(shop.braze.requests())) == (1, 1)
    assert "with another API key, perhaps to another workspace" in applied.err


def test_what_a_killed_run_sent_is_of_the_workspace_it_was_sent_to(shop: Shop, other: Sandbox):
    shop.sync("it", USERS)
    with running(shop, Held(shop.braze)) as process:
        process.kill()
    assert "its rows are in sandbox" in errors(pointed_at(shop, other.url))[0]


def test_state_in_which_nothing_ever_arrived_is_of_no_workspace(shop: Shop, other: Sandbox):
    shop.braze.add_fault(Fault("status", status=401, times=None))
    assert shop.sync("it", USERS).run().status == "failed"
    assert pointed_at(shop, other.url).run().status == "success"
    assert other.counts()["users"] == 3


@pytest.mark.long
def test_sandbox_that_was_deleted_is_another_one(shop: Shop, retl: Retl):
    shop.sync("it", USERS)
    text = yaml.safe_load((shop.folder / "syncs.yml").read_text())
    text["targets"]["test"]["destination"] = {"type": "braze", "endpoint": "sandbox"}
    (shop.folder / "syncs.yml").write_text(yaml.safe_dump(text, sort_keys=False))
    assert retl("sync", "it", folder=shop.folder).code == 0
    assert retl("sync", "it", folder=shop.folder).code == 0
    for path in (shop.folder / ".retl/test").glob("sandbox.sqlite*"):
        path.unlink()
    stopped = retl("sync", "it", folder=shop.folder)
    assert stopped.code == 1
    assert f"and the target sends to {NEW_SANDBOX}\n{hint()}" in stopped.err
    assert not (shop.folder / ".retl/test/sandbox.sqlite").exists()
    retl("state", "reset", "it", "--yes", folder=shop.folder)
    assert retl("sync", "it", folder=shop.folder).code == 0


@pytest.mark.parametrize("places", [(), ("https://a",), ("https://a", "https://b")])
@pytest.mark.parametrize("keys", [(), ("k1",), ("k1", "k2")])
def test_destination_is_another_one_if_its_address_or_key_was_not_accepted(places: tuple[str], keys: tuple[str]):
    workspace = unknown()
    for place, key in itertools.product(places or [None], keys or [None]):
        workspace = workspace.with_destination(Destination(place, key))
    for place, key in itertools.product([None, *places, "https://c"], [None, *keys, "k3"]):
        is_known = place in (None, *places) or not places
        is_known = is_known and (key in (None, *keys) or not keys)
        assert (workspace.difference(Destination(place, key)) is None) == is_known, (place, key)


def test_fingerprints_of_one_key_differ_from_state_to_state():
    made = [KnownWorkspace.with_destination(unknown(), Destination("https://a", OLD)).keys for _ in range(2)]
    assert made[0] != made[1]
