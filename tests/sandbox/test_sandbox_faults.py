"""Faults of the sandbox, as they look on the wire."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from reverse_etl.sandbox import Fault, Sandbox, parse_fault
from reverse_etl.sandbox.http.wire import Pause, Trickle

NOW = 1_800_000_000.0
U1 = {"attributes": [{"external_id": "u1", "plan": "pro"}]}
KEY = {"Authorization": "Bearer sandbox"}
ANSWER = b'{"message":"success","attributes_processed":1}'
HEAD = (
    b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ndate: Fri, 15 Jan 2027 08:00:00 GMT\r\n"
    b"x-ratelimit-limit: 3000\r\nx-ratelimit-remaining: 2999\r\nx-ratelimit-reset: 1800000003\r\n"
    b"content-length: 46\r\n\r\n"
)


@pytest.fixture
def braze():
    with Sandbox(clock=lambda: NOW) as sandbox:
        yield sandbox


def post(braze: Sandbox, path: str = "/users/track", body: Any = U1) -> Any:
    return requests.post(braze.url + path, json=body, headers=KEY)


def raw(braze: Sandbox, body: Any = U1) -> bytes:
    """All bytes that come back until the server closes the connection."""
    host, port = braze.url.removeprefix("http://").split(":")
    text = json.dumps(body).encode()
    head = (
        f"POST /users/track HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sandbox\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.settimeout(60)  # only so that a server which keeps the connection open fails
        client.sendall(head.encode() + text)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        return received


def wait_for_requests(braze: Sandbox, count: int) -> None:
    """Until so many have been taken: they are in the log before their answers wait."""
    give_up = time.monotonic() + 60
    while len(braze.requests()) < count:
        assert time.monotonic() < give_up, "the requests never came"


@pytest.mark.parametrize(
    ("kind", "received", "is_taken"),
    [
        pytest.param("drop_before", b"", False, id="drop_before"),
        pytest.param("drop_after", b"", True, id="drop_after"),
        pytest.param("truncate", HEAD + ANSWER[:23], True, id="truncate"),
        pytest.param("truncate_head", b"HTTP/1.1 201", True, id="truncate_head"),
    ],
)
def test_connection_ends_badly(braze, kind, received, is_taken):
    braze.add_fault(Fault(kind))
    assert raw(braze) == received
    assert braze.counts()["users"] == is_taken
    (line,) = braze.requests()
    answer = ANSWER.decode() if is_taken else ""
    assert (line.status, line.answer, line.fault) == (201 if is_taken else None, answer, kind)


def test_connection_is_whole_again_after_the_fault(braze):
    braze.add_fault(Fault("drop_after"))
    with requests.Session() as session:
        with pytest.raises(requests.ConnectionError):
            session.post(f"{braze.url}/users/track", json=U1, headers=KEY)
        assert session.post(f"{braze.url}/users/track", json=U1, headers=KEY).status_code == 201
    assert braze.counts()["attributes_written"] == 2


def test_slow_answer_trickles_and_is_whole(braze):
    braze.add_fault(Fault("slow", seconds=0.05))
    answer = requests.post(f"{braze.url}/users/track", json=U1, headers=KEY, stream=True)
    assert (answer.status_code, b"".join(answer.raw.stream(1))) == (201, ANSWER)


def test_slow_answer_waits_an_equal_part_of_its_seconds_before_each_byte():
    went: list[object] = []

    class Noted(Pause):
        async def __call__(self, seconds: float) -> bool:
            went.append(seconds)
            return True

    async def send(message: MutableMapping[str, Any]) -> None:
        went.append(message.get("body", "head"))

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nobody has left")

    asyncio.run(Trickle(b"abcd", 2, Noted())({}, receive, send))
    assert went == ["head", 0.5, b"a", 0.5, b"b", 0.5, b"c", 0.5, b"d", b""]


def test_delayed_request_is_taken_at_once_and_answered_late():
    with ThreadPoolExecutor() as pool, Sandbox() as braze:
        braze.add_fault(Fault("delay", seconds=120))
        answer = pool.submit(post, braze)
        wait_for_requests(braze, 1)
        assert (braze.counts()["users"], braze.requests()[0].fault, answer.done()) == (1, "delay", False)


def test_short_delay_only_delays(braze):
    """A wait of asyncio may end late, and never early: a slow machine has no say in this."""
    braze.add_fault(Fault("delay", seconds=0.05))
    begin = time.monotonic()
    assert post(braze).status_code == 201
    assert time.monotonic() - begin >= 0.05


def test_answer_waits_for_an_event_once_its_request_was_taken(braze):
    was_taken, may_go = threading.Event(), threading.Event()
    braze.add_fault(Fault("delay", until=lambda: was_taken.set() or may_go.is_set()))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, braze)
        assert was_taken.wait(60)
        assert (braze.counts()["users"], braze.requests()[0].fault, answer.done()) == (1, "delay", False)
        may_go.set()
        assert answer.result(60).status_code == 201


def test_sandbox_stops_at_once_with_answers_still_waiting():
    """Clients see the end of their connections, and not the answers that would have come."""
    with ThreadPoolExecutor() as pool, Sandbox() as braze:
        braze.add_fault(Fault("delay", seconds=120), Fault("slow", seconds=120, skip=1))
        answers = [pool.submit(post, braze) for _ in "ab"]
        wait_for_requests(braze, 2)
    for answer in answers:
        with pytest.raises(requests.RequestException):
            answer.result()


def test_status_fault_answers_for_braze_and_takes_nothing(braze):
    braze.add_fault(Fault("status", status=503, headers={"Retry-After": "7"}, body="<h1>busy</h1>"))
    answer = post(braze)
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "<h1>busy</h1>", "7")
    assert "x-ratelimit-limit" not in answer.headers
    assert braze.counts()["users"] == 0


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"message": "Internal Server Error"}),
        (429, {"message": "Too Many Requests"}),
        (599, {"message": "Status 599"}),
    ],
)
def test_status_fault_has_a_body_of_its_own(braze, status, body):
    braze.add_fault(Fault("status", status=status))
    answer = post(braze)
    assert (answer.status_code, answer.json()) == (status, body)


def test_status_without_a_body_has_none(braze):
    braze.add_fault(Fault("status", status=204))
    answer = post(braze)
    assert (answer.status_code, answer.content) == (204, b"")


def test_html_fault_is_a_200_that_took_nothing(braze):
    braze.add_fault(Fault("html"))
    answer = post(braze)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.startswith("<!doctype html>")
    assert braze.counts()["users"] == 0


# Refused objects


def test_object_error_refuses_the_named_objects_alone(braze):
    braze.add_fault(Fault("object_error", external_ids=["u2"], error="no luck"))
    body = {"attributes": [{"external_id": f"u{n}"} for n in (1, 2, 3)]}
    answer = post(braze, body=body)
    assert (answer.status_code, answer.json()) == (
        201,
        {
            "message": "success",
            "attributes_processed": 2,
            "errors": [{"type": "no luck", "input_array": "attributes", "index": 1}],
        },
    )
    assert [profile["external_id"] for profile in braze.profiles()] == ["u1", "u3"]


@pytest.mark.parametrize(
    ("path", "array", "one", "errors_in"),
    [
        ("/users/track", "attributes", {"email": "bad@example.com"}, "attributes"),
        ("/users/track", "events", {"phone": "+14155550100", "name": "n", "time": "2027-01-01"}, "events"),
        ("/users/alias/new", "user_aliases", {"alias_name": "bad", "alias_label": "l"}, "user_aliases"),
        (
            "/users/identify",
            "aliases_to_identify",
            {"external_id": "bad", "user_alias": {"alias_name": "a", "alias_label": "l"}},
            "user_identifiers",
        ),
    ],
)
def test_object_error_by_predicate_knows_every_identifier(braze, path, array, one, errors_in):
    braze.add_fault(Fault("object_error", matches=lambda text: text.startswith(("bad", "+1"))))
    errors = [{"type": "provided external_id is blacklisted and disallowed", "input_array": errors_in, "index": 0}]
    assert post(braze, path, {array: [one]}).json()["errors"] == errors


def test_object_error_is_used_up_only_by_requests_that_it_hits(braze):
    braze.add_fault(Fault("object_error", external_ids=["u2"], times=1))
    statuses = [post(braze, body={"attributes": [{"external_id": one}]}).status_code for one in ("u1", "u2", "u2")]
    assert statuses == [201, 400, 201]


# Where and how often


@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        pytest.param({}, "5222222222", id="once"),
        pytest.param({"times": 3}, "5552222222", id="three times"),
        pytest.param({"times": None}, "5555555555", id="for ever"),
        pytest.param({"times": 0}, "2222222222", id="never"),
        pytest.param({"skip": 2}, "2252222222", id="skip two"),
        pytest.param({"skip": 2, "times": 2}, "2255222222", id="skip two, then two"),
        pytest.param({"path": "/users/track", "times": None}, "5555555555", id="this path"),
        pytest.param({"path": "/users/delete", "times": None}, "2222222222", id="other path"),
        pytest.param({"path": "/users", "times": 1}, "5222222222", id="prefix"),
        pytest.param({"probability": 0.0, "times": None}, "2222222222", id="improbable"),
    ],
)
def test_fault_hits(braze, options, statuses):
    braze.add_fault(Fault("status", **options))
    assert "".join(str(post(braze).status_code)[0] for _ in statuses) == statuses


def test_probable_fault_is_the_same_for_the_same_seed():
    def hits(seed: int) -> list[int]:
        with Sandbox(seed=seed) as braze:
            braze.add_fault(Fault("status", times=None, probability=0.5))
            return [post(braze).status_code for _ in range(20)]

    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert set(hits(1)) == {201, 500}


def test_oldest_fault_decides_and_keeps_the_next_for_later(braze):
    braze.add_fault(Fault("status", status=500), Fault("status", status=502))
    assert [post(braze).status_code for _ in range(3)] == [500, 502, 201]


def test_cleared_faults_are_gone(braze):
    braze.add_fault(Fault("status", times=None))
    braze.clear_faults()
    assert post(braze).status_code == 201


def test_faults_do_not_touch_control_paths(braze):
    braze.add_fault(Fault("status", times=None))
    assert requests.get(f"{braze.url}/_sandbox/counts").status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "explode"}, "unknown fault 'explode'; expected one of status, html, drop_before, "),
        ({"kind": "status", "status": 99}, "a fault's status must be between 200 and 599, not 99"),
        ({"kind": "delay", "seconds": -1}, "skip, times and seconds of a fault must not be negative"),
        ({"kind": "html", "probability": 2}, "a fault's probability must be between 0 and 1, not 2"),
        ({"kind": "object_error"}, "an object_error requires external_ids or share"),
    ],
)
def test_fault_that_makes_no_sense_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        Fault(**options)


# Over HTTP


def test_faults_are_set_listed_and_cleared_over_http(braze):
    url = f"{braze.url}/_sandbox/faults"
    shown = {
        "kind": "status",
        "path": "/users",
        "times": 2,
        "skip": 0,
        "probability": 1.0,
        "burst": 1,
        "status": 502,
        "headers": {"a": "b"},
        "body": None,
        "seconds": 0.0,
        "external_ids": [],
        "share": 0.0,
        "error": "provided external_id is blacklisted and disallowed",
    }
    sent = [{"kind": "status", "path": "/users", "times": 2, "status": 502, "headers": {"a": "b"}}]
    assert requests.post(url, json=sent).json() == [shown]
    assert post(braze).status_code == 502
    assert requests.get(url).json() == [shown]
    assert requests.delete(url).json() == []
    assert post(braze).status_code == 201


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({}, "faults must be a JSON array of objects", id="no array"),
        pytest.param([{}], "a fault must be an object with a 'kind'", id="no kind"),
        pytest.param([{"kind": "explode"}], "unknown fault 'explode'", id="unknown kind"),
        pytest.param([{"kind": "delay", "second": 1}], "unknown field 'second' of a fault", id="unknown field"),
        pytest.param([{"kind": "delay", "seconds": "1"}], "field 'seconds' of a fault has the wrong type", id="type"),
        pytest.param([{"kind": "delay", "times": True}], "field 'times' of a fault has the wrong type", id="boolean"),
        pytest.param(
            [{"kind": "status", "headers": {"a": 1}}],
            "headers and external_ids of a fault must be strings",
            id="header",
        ),
    ],
)
def test_bad_fault_over_http_is_a_400_with_a_reason(braze, body, message):
    _refuses(braze, json.dumps(body), message)


def _refuses(braze: Sandbox, text: str | bytes, message: str) -> None:
    answer = requests.post(f"{braze.url}/_sandbox/faults", text)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message)
    assert post(braze).status_code == 201


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "the JSON is nested too deeply"),
        ('[{"kind": "status", "headers": {"X\\r\\nY": "a"}}]', "a fault cannot have the header 'X\\r\\nY'"),
        ('[{"kind": "status", "headers": {"": "a"}}]', "a fault cannot have the header ''"),
        ('[{"kind": "status", "headers": {"Content-Length": "9"}}]', "a fault cannot have the header 'Content-Length'"),
        (
            '[{"kind": "status", "headers": {"X": "a\\r\\nY: b"}}]',
            "a fault's header 'X' must be printable Latin-1 text",
        ),
        ('[{"kind": "status", "headers": {"X": "\\uace0"}}]', "a fault's header 'X' must be printable Latin-1 text"),
        ('[{"kind": "status", "body": "\\ud800"}]', "a fault must not contain half of a character, such as \\ud800"),
        ('[{"kind": "delay", "seconds": 1e999}]', "the seconds of a fault must be a finite number, not inf"),
        ('[{"kind": "delay", "seconds": NaN}]', "NaN is not JSON"),
        ('[{"kind": "status", "times": ' + "1" * 6000 + "}]", "Exceeds the limit"),
        (b"\xff\xfe", ""),
    ],
    ids=range(11),
)
def test_odd_body_is_a_400_and_no_fault(braze, text, message):
    _refuses(braze, text, message)


# --- as the command line has them ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop_after", Fault("drop_after", times=None)),
        ("delay:seconds=0.1", Fault("delay", seconds=0.1, times=None)),
        ("status:status=503,probability=0.5,times=3", Fault("status", status=503, probability=0.5, times=3)),
        ("status:status=429,burst=20", Fault("status", status=429, burst=20, times=None)),
        (
            "object_error:external_ids=u1+u2,error=no",
            Fault("object_error", external_ids=["u1", "u2"], error="no", times=None),
        ),
        ("object_error:share=0.01", Fault("object_error", share=0.01, times=None)),
    ],
)
def test_fault_is_read_from_text(text: str, fault: Fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("typo", "unknown fault 'typo'; expected one of status, html, drop_before, "),
        ("delay:second=1", "unknown field 'second' of a fault; expected one of kind, path, "),
        ("delay:seconds", "'seconds' in a fault must have the form NAME=VALUE"),
        ("delay:seconds=soon", "field 'seconds' of a fault has the wrong type"),
        ("delay:probability=2", "a fault's probability must be between 0 and 1, not 2"),
        ("object_error", "an object_error requires external_ids or share"),
        ("status:burst=0", "the burst of a fault must be at least 1"),
    ],
)
def test_bad_fault_is_told_from_text(retl, tmp_path, text: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_fault(text)
    retl("init")
    said = retl("sandbox", "--fault", text)
    assert (said.code, said.err.startswith(f"--fault: {message}")) == (2, True)


def test_burst_goes_on_once_it_has_begun():
    with Sandbox(seed=1) as braze:
        braze.add_fault(Fault("status", status=429, probability=0.2, burst=3, times=None))
        answers = "".join("x" if post(braze).status_code == 429 else "." for _ in range(60))
    runs = [run for run in answers.split(".") if run]
    assert runs
    assert all(len(run) % 3 == 0 for run in runs[:-1])


def test_same_seed_strikes_the_same_requests():
    def answers(seed: int) -> list[int]:
        with Sandbox(seed=seed) as braze:
            braze.add_fault(Fault("status", status=503, probability=0.5, times=None))
            return [post(braze).status_code for _ in range(30)]

    assert answers(3) == answers(3) != answers(4)


def test_share_of_users_is_always_the_same():
    with Sandbox() as braze:
        braze.add_fault(Fault("object_error", share=0.2, times=None))
        body = {"attributes": [{"external_id": f"u{n}", "x": 1} for n in range(75)]}
        first, second = (post(braze, body=body).json() for _ in range(2))
    assert first == second
    assert 5 < len(first["errors"]) < 30
