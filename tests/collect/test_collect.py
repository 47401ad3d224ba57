"""`retl collect` over real HTTP: what it answers, what it keeps, and what it withstands."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
import trustme

from reverse_etl.collect.log import Log
from reverse_etl.collect.server import Collector
from tests.canary import KEY
from tests.collect.collectors import SYNCS, Running, collecting, project, records, start
from tests.shop import FakeClock, Retl


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with collecting(tmp_path) as found:
        yield found


def raw(running: Running, data: bytes, until: bytes = b"") -> bytes:
    """What comes back on a connection of its own, up to some text, or until the collector closes it."""
    port = int(running.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        found = b""
        while not until or until not in found:
            part = connection.recv(65536)
            if not part:
                break
            found += part
        return found


HEAD = f"POST /postback/v3/event/shop/opt_outs HTTP/1.1\r\nHost: x\r\nX-TD-Write-Key: {KEY}\r\n".encode()


# --- what it keeps ---------------------------------------------------------------------------------------------------


def test_what_was_sent_is_in_parquet_files_when_it_has_ended(running: Running):
    answer = running.post('{"external_id":"u1","price":1.10}')
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "{}", "application/json")
    assert running.post({"external_id": "u2"}, headers={"Content-Type": "text/plain"}).status_code == 200
    assert running.post({"events": [{"n": 1}, {"n": 2}]}, "events", params={"unwrap": "events"}).status_code == 200
    assert running.post("", "events", params={"unwrap": "events"}).status_code == 200
    assert running.end() == 0
    assert records(running.folder) == [{"external_id": "u1", "price": 1.1}, {"external_id": "u2"}]
    assert records(running.folder, "events") == [{"n": 1}, {"n": 2}]
    assert counts(running) == ["2 records for shop.events, 2 records for shop.opt_outs"]


def test_what_was_answered_is_kept_if_it_is_killed_at_that_moment(tmp_path: Path):
    with collecting(tmp_path) as running:
        assert running.post({"n": 1}).status_code == 200
        running.process.kill()
        running.process.wait()
    assert records(tmp_path) == []
    with collecting(tmp_path) as running:
        running.process.wait_until(lambda: records(tmp_path) == [{"n": 1}])
        assert running.post({"n": 2}).status_code == 200
        assert running.end() == 0
    assert records(tmp_path) == [{"n": 1}, {"n": 2}]


def test_the_log_becomes_parquet_while_it_runs(tmp_path: Path):
    with collecting(tmp_path, EVERY_S=0.01) as running:
        for n in range(3):
            running.post({"n": n})
            running.process.wait_until(lambda n=n: len(records(tmp_path)) == n + 1)  # type: ignore[misc]
        running.process.kill()
    assert records(tmp_path) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_its_files_are_private_and_ignored_by_git(running: Running):
    running.post({"n": 1})
    assert running.end() == 0
    folder = running.folder / "collected"
    found = [folder, *folder.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}
    assert (folder / ".gitignore").read_text() == "*\n"


def test_many_clients_at_once(running: Running):
    def send(who: int) -> None:
        with requests.Session() as session:
            client = Running(running.folder, running.process, running.url, session)
            answers.extend(client.post({"who": who, "n": n}).status_code for n in range(20))

    answers: list[int] = []
    clients = [threading.Thread(target=send, args=(who,)) for who in range(10)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    assert answers == [200] * 200
    assert running.end() == 0
    kept = [(one["who"], one["n"]) for one in records(running.folder)]
    assert sorted(kept) == [(who, n) for who in range(10) for n in range(20)]


def counts(running: Running) -> list[str]:
    """What it has said of each minute, and at its end."""
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d UTC: ", "", line) for line in running.process.err.splitlines()]


# --- what it refuses -------------------------------------------------------------------------------------------------


def refused(answer: requests.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


def test_refusals_are_json_and_leave_nothing(running: Running):
    assert refused(running.post({"n": 1}, key="wrong")) == (403, {"error": "the write key is missing or wrong"})
    assert refused(running.post({"n": 1}, "other")) == (404, {"error": "there is no such table in this database"})
    assert refused(running.post("[1]")) == (400, {"error": "the body is not a JSON object; to send an array of objects, add ?unwrap to the URL"})  # fmt: skip
    gzip = {"Content-Encoding": "gzip"}
    assert refused(running.post(b"\x1f\x8b", headers=gzip)) == (415, {"error": "send the body without compression"})
    pixel = requests.get(f"{running.url}/postback/v3/event/shop/opt_outs?td_format=pixel")
    assert (*refused(pixel), pixel.headers["allow"]) == (405, {"error": "use POST: tracking pixels are not supported"}, "POST")  # fmt: skip
    assert running.end() == 0
    assert records(running.folder) == []


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(running: Running, is_chunked: bool):
    def body(size: int) -> Any:
        whole = b'{"a":"' + b"x" * (size - 8) + b'"}'
        return iter([whole[:1000], whole[1000:]]) if is_chunked else whole

    assert running.post(body(1_048_064)).status_code == 200
    too_large = (413, {"error": "the body is larger than 1,048,064 bytes"})
    assert refused(running.post(body(1_048_065))) == too_large
    assert refused(running.post(body(9_000_000))) == too_large
    assert running.post({"n": 1}).status_code == 200
    assert running.end() == 0
    assert [len(json.dumps(one)) for one in records(running.folder)] == [1_048_065, 8]


def test_who_asks_before_sending_is_answered_before(running: Running):
    expect = b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
    assert raw(running, HEAD.replace(KEY.encode(), b"wrong") + expect, b"}").startswith(b"HTTP/1.1 403 ")
    asked = HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert raw(running, asked, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\x01\x02\r\n\r\n", id="no HTTP"),
        pytest.param(HEAD + b"Content-Length: x\r\n\r\n", id="a length that is no number"),
        pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", id="two lengths"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", id="a chunk without a length"),
        pytest.param(HEAD + b"X: " + b"x" * 100_000, id="an endless head"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
    ],
)
def test_what_is_no_http_is_refused_and_changes_nothing(running: Running, data: bytes):
    assert raw(running, data).partition(b"\r\n")[0] in (b"HTTP/1.1 400 Bad Request", b"HTTP/1.1 400 ")
    assert running.post({"n": 1}).status_code == 200
    assert running.end() == 0
    assert counts(running) == ["1 record for shop.opt_outs"]


def test_half_a_request_is_nothing(running: Running):
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as connection:
        connection.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"n":1}')
    assert running.post({"n": 2}).status_code == 200
    assert running.end() == 0
    assert records(running.folder) == [{"n": 2}]


def test_two_requests_in_one_packet_are_both_answered(running: Running):
    one = HEAD + b'Content-Length: 7\r\n\r\n{"n":1}'
    both = raw(running, one + one.replace(b'"n":1', b'"n":2').replace(b"Host", b"Connection: close\r\nHost"))
    assert both.count(b"HTTP/1.1 200 OK") == 2
    assert running.end() == 0
    assert records(running.folder) == [{"n": 1}, {"n": 2}]


def test_rate_limit_of_a_key(tmp_path: Path):
    limited = SYNCS.replace("      tables", "      rate_limit: 1\n      tables")
    with collecting(project(tmp_path, limited)) as running:
        assert running.post({"n": 1}).status_code == 200
        answer = running.post({"n": 2})
        while answer.status_code == 200:  # on a slow machine, a second has gone by
            answer = running.post({"n": 2})
        assert refused(answer) == (429, {"error": "too many requests with this key"})
        assert answer.headers["retry-after"] == "1"
        assert running.post({}, key="wrong").status_code == 403  # which has no limit, and counts for nobody's


# --- slow clients, and many ------------------------------------------------------------------------------------------


def test_a_head_that_never_ends_is_cut_off(tmp_path: Path):
    with collecting(tmp_path, HEAD_S=0.1) as running:
        assert raw(running, b"") == b""
        assert raw(running, b"POST / HTTP/1.1\r\nX: ") == b""
        assert running.post({"n": 1}).status_code == 200


def test_a_body_that_never_arrives_is_refused(tmp_path: Path):
    with collecting(tmp_path, BODY_S=0.1) as running:
        found = raw(running, HEAD + b'Content-Length: 100\r\n\r\n{"n":')
        assert found.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert found.endswith(b'{"error": "the body did not arrive within 0.1 s"}')
        assert running.post({"n": 1}).status_code == 200


def trickle(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        time.sleep(0.01)


def test_a_refused_body_that_never_ends_is_cut_off(tmp_path: Path):
    """Its sender sees the response meanwhile."""
    with collecting(tmp_path, HEAD_S=0.1) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(HEAD.replace(KEY.encode(), b"wrong") + b"Transfer-Encoding: chunked\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                trickle(connection)


def test_more_connections_than_it_takes_are_told_to_come_back(tmp_path: Path):
    with collecting(tmp_path, MAX_CONNECTIONS=3) as running:
        port = int(running.url.rpartition(":")[2])
        held = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(3)]
        one = HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
        found = raw(running, b"")
        assert found.startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
        assert found.endswith(b'{"error": "too many connections"}')
        for connection in held:
            connection.close()
        while raw(running, one).startswith(b"HTTP/1.1 503"):  # until it has noticed
            pass
        assert raw(running, one).startswith(b"HTTP/1.1 200")


def test_more_than_fits_into_memory_is_told_to_come_back(tmp_path: Path):
    with collecting(tmp_path, MAX_WAITING_BYTES=1000) as running:
        answer = running.post({"a": "x" * 2000})
        assert refused(answer) == (503, {"error": "too much is waiting for the disk; nothing was kept"})
        assert answer.headers["retry-after"] == "1"
        assert running.post({"a": "x" * 100}).status_code == 200
        assert running.end() == 0
    assert records(tmp_path) == [{"a": "x" * 100}]


# --- a disk that is full ---------------------------------------------------------------------------------------------


def room(running: Running, size: int) -> None:
    """How large a file of the collector may become: as on a full disk, what is more is not written."""
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_is_a_503_until_there_is_room(running: Running):
    full = {"error": "the disk takes nothing at the moment; nothing was kept"}
    assert running.post({"n": 1}).status_code == 200
    room(running, 100)
    answer = running.post({"n": 2})
    assert (*refused(answer), answer.headers["retry-after"]) == (503, full, "10")
    assert refused(running.post([{"n": 3}, {"n": 4}], params={"unwrap": ""})) == (503, full)
    room(running, 0)
    assert refused(requests.get(f"{running.url}/health")) == (503, full)
    room(running, resource.RLIM_INFINITY)
    assert refused(requests.get(f"{running.url}/health")) == (200, {})
    assert running.post({"n": 5}).status_code == 200
    assert running.end() == 0
    assert records(running.folder) == [{"n": 1}, {"n": 5}]


def test_a_disk_too_full_for_parquet_keeps_the_log_and_says_so(tmp_path: Path):
    with collecting(tmp_path, EVERY_S=0.01) as running:
        room(running, 250)
        assert running.post({"n": 1}).status_code == 200
        running.process.wait_until(lambda: "cannot write" in running.process.err)
        room(running, resource.RLIM_INFINITY)
        running.process.wait_until(lambda: "again" in running.process.err)
        assert [line for line in running.process.err.splitlines() if "UTC: 1 record for" not in line] == [
            "cannot write Parquet files: File too large; the log has all records, and it is tried every minute",
            "Parquet files are written again",
        ]
    assert records(tmp_path) == [{"n": 1}]


def health(app: Collector) -> list[Any]:
    """What is answered to GET /health."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("there is no body")

    async def send(message: Any) -> None:
        sent.append(message.get("status", message.get("body")))

    asyncio.run(app({"type": "http", "method": "GET", "path": "/health"}, receive, send))
    return sent


def test_a_disk_that_does_not_answer_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    has_begun, goes_on = threading.Event(), threading.Event()

    def flush(file: int) -> None:
        has_begun.set()
        assert goes_on.wait(timeout=60)

    monkeypatch.setattr(os, "fdatasync", flush)
    clock = FakeClock()
    app = Collector({}, clock, print)
    with Log[Any](tmp_path, lambda whose, error: None, clock) as app.log:
        app.log.append(b"1\n", None)
        assert has_begun.wait(timeout=60)
        assert health(app) == [200, b"{}"]
        clock.wait(11, threading.Event())
        assert health(app) == [503, b'{"error": "the disk has not answered for over 10 s"}']
        goes_on.set()
    assert health(app) == [200, b"{}"]


# --- how it starts and ends ------------------------------------------------------------------------------------------


def test_it_says_where_it_answers(tmp_path: Path):
    with collecting(tmp_path) as running:
        assert running.process.out == f"{running.url}  tables: shop.events, shop.opt_outs  folder: collected\n"
        ready = json.loads((tmp_path / "ready.json").read_text())
        assert ready == {"url": running.url, "port": ready["port"], "pid": running.process.pid}
        assert running.end() == 0
        assert not (tmp_path / "ready.json").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_has_begun_be_answered(tmp_path: Path, number: signal.Signals):
    with collecting(tmp_path) as running:
        port = int(running.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 7\r\n\r\n")
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            running.process.send_signal(number)
            while True:  # until it takes no more connections
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=60).close()
                except (ConnectionRefusedError, ConnectionResetError):
                    break
            connection.sendall(b'{"n":1}')
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert running.process.wait() == 0
    assert records(tmp_path) == [{"n": 1}]


def test_a_client_that_never_ends_does_not_keep_it_from_ending(tmp_path: Path):
    with collecting(tmp_path, STOP_S=0.1) as running:
        port = int(running.url.rpartition(":")[2])
        running.post({"n": 1})
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 7\r\n\r\n")
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert running.end() == 0
    assert records(tmp_path) == [{"n": 1}]
    assert counts(running) == ["1 record for shop.opt_outs"]


def test_a_second_collector_is_told_who_has_the_folder(running: Running):
    ready = (running.folder / "ready.json").read_text()
    with start(running.folder) as second:
        assert second.wait() == 1
        said = re.sub(r"since .* UTC", "since then", second.err)
        host = socket.gethostname()
        assert said == (
            f"collected is in use: process {running.process.pid} on {host}, since then [B003]\n"
            "  hint: one collector at a time writes to a folder: end that process, or wait for `retl forget`\n"
        )
    assert (running.folder / "ready.json").read_text() == ready
    assert running.post({"n": 1}).status_code == 200


def test_https_with_a_certificate(tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("127.0.0.1")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in ours.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    with collecting(tmp_path, "--cert", "cert.pem", "--cert-key", "key.pem") as running:
        assert running.url.startswith("https://127.0.0.1:")
        assert running.post({"n": 1}, verify=str(tmp_path / "ca.pem")).status_code == 200
        context = ssl.create_default_context()
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as plain:  # noqa: SIM117
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(plain, server_hostname="127.0.0.1")
        assert running.end() == 0
    assert records(tmp_path) == [{"n": 1}]
    assert counts(running) == ["1 record for shop.opt_outs"]


def failed(retl: Retl, folder: Path, *options: str) -> tuple[int, str]:
    said = retl("collect", "--port", "0", *options, folder=folder)
    assert said.out == ""
    return said.code, said.err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTBACK_KEY", KEY)
    return project(tmp_path / "it")


def test_errors_before_it_begins(retl: Retl, place: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert failed(retl, place, "--port", str(port)) == (
            2,
            f"cannot listen on 127.0.0.1, port {port}: Address already in use\n"
            "  hint: use --port 0 to pick a free port, and an address of this machine with --host\n",
        )
    assert failed(retl, place, "--cert", "a.pem") == (2, "--cert and --cert-key need each other\n  hint: pass both, or neither\n")  # fmt: skip
    assert failed(retl, place, "--cert", "a.pem", "--cert-key", "b.pem") == (
        2,
        "--cert a.pem, --cert-key b.pem: No such file or directory\n"
        "  hint: pass PEM files that can be read, and the key that belongs to the certificate\n",
    )
    (place / "a.pem").write_text("no certificate")
    assert failed(retl, place, "--cert", "a.pem", "--cert-key", "a.pem") == (
        2,
        "--cert a.pem, --cert-key a.pem: not a certificate with its key, in PEM\n"
        "  hint: pass PEM files that can be read, and the key that belongs to the certificate\n",
    )
    monkeypatch.setenv("POSTBACK_KEY", "short")
    assert failed(retl, place) == (
        2,
        'syncs.yml:11:7: a key of source "shop" has less than 16 characters\n'
        "  hint: make a random one: `openssl rand -hex 20`\n",
    )
    monkeypatch.delenv("POSTBACK_KEY")
    assert failed(retl, place) == (
        2,
        'syncs.yml:11:14: environment variable "POSTBACK_KEY" is not set\n'
        "  hint: set POSTBACK_KEY in the environment or in .env\n",
    )
    (place / "syncs.yml").write_text(SYNCS.partition("collect:")[0])
    assert failed(retl, place) == (2, 'syncs.yml: there is no "collect"\n  hint: docs/collect.md shows the keys\n')


def test_a_folder_that_cannot_be_written_is_an_error(retl: Retl, place: Path):
    (place / "collected").write_text("a file")
    assert failed(retl, place) == (
        2,
        "cannot write collected: File exists\n  hint: move the file away that is where a folder must be\n",
    )


def test_a_host_that_is_not_loopback_without_https_is_a_warning(tmp_path: Path):
    with collecting(tmp_path, "--host", "0.0.0.0") as running:
        assert running.process.err == "0.0.0.0 without --cert: put a proxy that speaks HTTPS in front of it\n"


# --- what it says ----------------------------------------------------------------------------------------------------


def test_it_says_what_came_by_number_and_nothing_of_what_it_was(tmp_path: Path):
    email = "somebody@example.com"
    with collecting(tmp_path) as running:
        for n in range(3):
            running.post({"email": email, "n": n})
        running.post([{"email": email}] * 2, "events", params={"unwrap": ""})
        running.post(f'{{"{email}"', headers={"X-Secret": email})
        running.post({}, key="1/wrong-key-of-somebody")
        requests.get(f"{running.url}/{email}")
        requests.get(f"{running.url}/health")
        assert running.end() == 0
    assert counts(running) == ["2 records for shop.events, 3 records for shop.opt_outs, 1 x 400, 1 x 403, 1 x 404"]
    said = running.process.err + running.process.out
    assert [text for text in (email, "wrong-key", KEY) if text in said] == []


def test_it_says_so_every_minute_in_which_something_came(tmp_path: Path):
    with collecting(tmp_path, EVERY_S=0.01) as running:
        for n in range(1, 4):
            running.post({"n": n})
            running.process.wait_until(lambda n=n: len(counts(running)) == n)  # type: ignore[misc]
        assert counts(running) == ["1 record for shop.opt_outs"] * 3


def test_duckdb_reads_it_while_it_is_written(running: Running):
    """Without a lock, and without the collector knowing."""
    running.post({"n": 1})
    folder = running.folder / "collected"
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT records[1].record FROM read_ndjson('{folder}/log/*.jsonl')").fetchall()
    assert found == [('{"n": 1}',)]
    assert os.path.exists(folder / ".lock")
