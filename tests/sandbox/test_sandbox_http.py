"""The sandbox as a server: keys, limits, sizes, its log, its control paths, its life."""

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests

from reverse_etl.sandbox import LoggedRequest, Sandbox, parse_limits, parse_others, serve

NOW = 1_800_000_001.5  # half past the first second of a window of 3 s, and of a minute
KEY = {"Authorization": "Bearer sandbox"}
U1 = {"attributes": [{"external_id": "u1", "plan": "pro"}]}


def post(braze: Sandbox, path: str = "/users/track", body: Any = U1, headers: Any = KEY, **more: Any) -> Any:
    return requests.post(braze.url + path, json=body, headers=headers, **more)


def limits(answer: requests.Response) -> tuple[str | None, ...]:
    """limit, remaining, reset"""
    return tuple(answer.headers.get(f"x-ratelimit-{name}") for name in ("limit", "remaining", "reset"))


# Keys and paths


@pytest.mark.parametrize(
    ("headers", "echo"),
    [
        pytest.param({"Authorization": "Bearer wrong-key"}, "wrong-key", id="unknown key"),
        pytest.param({"Authorization": 'Bearer "sandbox"'}, '"sandbox"', id="key in quotes"),
        pytest.param({"Authorization": "Basic sandbox"}, "Basic sandbox", id="other scheme"),
        pytest.param({"Authorization": "sandbox"}, "sandbox", id="no scheme"),
        pytest.param({}, "", id="no key"),
    ],
)
def test_unknown_key_is_a_401_that_echoes_it(headers, echo):
    with Sandbox() as braze:
        answer = post(braze, headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"message": f"Invalid API key: {echo}"})
        assert braze.counts()["users"] == 0


def test_key_without_the_permission_is_a_403():
    with Sandbox(keys={"tracker": {"users.track"}, "other": {"users.delete", "users.export.ids"}}) as braze:
        assert post(braze, headers={"Authorization": "Bearer tracker"}).status_code == 201
        answer = post(braze, headers={"Authorization": "Bearer other"})
        assert (answer.status_code, answer.json()) == (403, {"message": "Access Denied"})


LISTS = [("GET", path) for path in ("/catalogs", "/custom_attributes", "/events/list", "/purchases/product_list")]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/users/track", "users.track"),
        ("POST", "/users/alias/new", "users.alias.new"),
        ("POST", "/users/alias/update", "users.alias.update"),
        ("POST", "/users/identify", "users.identify"),
        ("POST", "/users/merge", "users.merge"),
        ("POST", "/users/delete", "users.delete"),
        ("POST", "/users/external_ids/rename", "users.external_ids.rename"),
        ("POST", "/users/external_ids/remove", "users.external_ids.remove"),
        ("POST", "/users/export/ids", "users.export.ids"),
        ("POST", "/subscription/status/set", "subscription.status.set"),
        ("POST", "/v2/subscription/status/set", "subscription.status.set"),
        ("GET", "/subscription/status/get", "subscription.status.get"),
        ("GET", "/subscription/user/status", "subscription.groups.get"),
        ("GET", "/custom_attributes", "custom_attributes.get"),
        ("GET", "/events/list", "events.list"),
        ("GET", "/purchases/product_list", "purchases.product_list"),
        ("GET", "/catalogs", "catalogs.get"),
        ("POST", "/catalogs", "catalogs.create"),
        ("DELETE", "/catalogs/c", "catalogs.delete"),
        ("POST", "/catalogs/c/fields", "catalogs.create_fields"),
        ("DELETE", "/catalogs/c/fields/f", "catalogs.delete_fields"),
        ("GET", "/catalogs/c/items", "catalogs.get_items"),
        ("POST", "/catalogs/c/items", "catalogs.add_items"),
        ("PATCH", "/catalogs/c/items", "catalogs.update_items"),
        ("PUT", "/catalogs/c/items", "catalogs.replace_items"),
        ("DELETE", "/catalogs/c/items", "catalogs.delete_items"),
        ("GET", "/catalogs/c/items/i", "catalogs.get_item"),
        ("POST", "/catalogs/c/items/i", "catalogs.create_item"),
        ("PATCH", "/catalogs/c/items/i", "catalogs.update_item"),
        ("PUT", "/catalogs/c/items/i", "catalogs.replace_item"),
        ("DELETE", "/catalogs/c/items/i", "catalogs.delete_item"),
    ],
)
def test_each_endpoint_asks_for_its_permission(method, path, scope):
    with Sandbox(keys={"right": {scope}, "none": set()}) as braze:

        def status(key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return requests.request(method, braze.url + path, json={}, headers=headers).status_code

        allowed = 404 if path.startswith("/catalogs/") else 200 if (method, path) in LISTS else 400
        assert (status("right"), status("none")) == (allowed, 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/users/tracks"),
        ("GET", "/users/track"),
        ("POST", "/_sandbox/x"),
        ("POST", "/messages/send"),
        ("PUT", "/catalogs"),
        ("GET", "/catalogs/c"),
        ("GET", "/catalogs/c/"),
        ("GET", "/catalogs/c/items/i/more"),
        ("POST", "/catalogs/c/selections"),
    ],
)
def test_anything_else_is_a_404(method, path):
    with Sandbox() as braze:
        answer = requests.request(method, braze.url + path, json=U1, headers=KEY)
        assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


# Bodies


def test_slash_at_the_end_of_a_path_looks_like_a_missing_permission():
    with Sandbox() as braze:
        answers = [
            post(braze, path, headers=headers) for path in ("/users/track/", "/users/trak/") for headers in (KEY, {})
        ]
        assert [(answer.status_code, answer.json()) for answer in answers] == [
            (403, {"message": "Access Denied"}),
            *[(404, {"message": "Not Found"})] * 3,
        ]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"attributes": [{"external_id": "u1", "x": NaN}]}', id="NaN"),
        pytest.param(b'{"attributes": [{"external_id": "u1", "x": -Infinity}]}', id="infinity"),
        pytest.param(b'{"attributes": [{"external_id": "u1", "x": 1e99999999999999999999}]}', id="endless exponent"),
        pytest.param(b'{"attributes": [{"external_id": "u1", "x": "\xff"}]}', id="no UTF-8"),
        pytest.param(b'{"attributes": [{"external_id": "u1", "x": "\\ud800"}]}', id="half a surrogate pair"),
        pytest.param(b'{"attributes": [{"external_id": "u1", "x": ' + b"[" * 50_000, id="endless array"),
        pytest.param(b"\x1f\x8b\x08\x00", id="gzip"),
    ],
)
def test_body_that_is_no_json_object_is_a_400_and_changes_nothing(body):
    with Sandbox() as braze:
        answer = requests.post(f"{braze.url}/users/track", data=body, headers=KEY)
        assert (answer.status_code, answer.json()) == (400, {"message": "Invalid JSON"})
        assert braze.counts()["users"] == 0


@pytest.mark.parametrize("levels", range(100, 1000, 50))
def test_very_deep_value_is_dropped_or_refused_and_spoils_nothing(levels):
    deep = "[" * levels + "]" * levels
    body = f'{{"attributes": [{{"external_id": "u1", "x": {deep}, "facebook": {deep}}}], "partner": {deep}}}'
    with Sandbox() as braze:
        assert requests.post(f"{braze.url}/users/track", data=body, headers=KEY).status_code in (201, 400)
        assert post(braze).status_code == 201
        assert braze.profile(external_id="u1")["custom_attributes"].keys() <= {"plan", "x"}


def test_body_over_4_mb_is_a_413_and_one_of_4_mb_is_not():
    start, end = b'{"attributes":[{"external_id":"u1"}],"partner":"', b'"}'
    fitting = start + b"x" * (4_000_000 - len(start) - len(end)) + end
    with Sandbox(limits={"users_track": [(10, 3)]}, clock=lambda: NOW) as braze:
        assert requests.post(f"{braze.url}/users/track", data=fitting, headers=KEY).status_code == 201
        answer = requests.post(f"{braze.url}/users/track", data=fitting + b" ", headers=KEY)
        assert (answer.status_code, answer.json()) == (413, {"message": "Payload Too Large"})
        assert limits(answer) == ("10", "8", "1800000003")
        assert braze.requests()[-1].body == ""


# Rate limits


HOURLY = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


def test_contract_by_active_users_tells_the_hour_in_seconds_left_and_at_429_only_how_long_to_wait():
    now = NOW
    windows = {"users_track": [(4, 3600), (2, 3)], "users": [(1, 60)]}
    with Sandbox(limits=windows, clock=lambda: now, contract="mau") as braze:
        answers = []
        for moment in (0, 0, 0.25, 1.5, 1.5, 4.5, 3600):
            now = NOW + moment
            answer = post(braze)
            told = {name: text for name, text in answer.headers.items() if name.startswith("x-ratelimit")}
            answers.append((answer.status_code, told))
        assert answers == [
            (201, dict(zip(HOURLY, ("4", "3", "3599"), strict=True))),
            (201, dict(zip(HOURLY, ("4", "2", "3599"), strict=True))),
            (429, {"x-ratelimit-retry-after": "2"}),  # of the burst nothing was told before
            (201, dict(zip(HOURLY, ("4", "1", "3597"), strict=True))),
            (201, dict(zip(HOURLY, ("4", "0", "3597"), strict=True))),
            (429, {"x-ratelimit-retry-after": "3594"}),
            (201, dict(zip(HOURLY, ("4", "3", "3599"), strict=True))),
        ]
        other = post(braze, "/users/identify", {})
        assert (other.status_code, limits(other)) == (400, ("1", "0", "1800003660"))
    with Sandbox(contract="mau", clock=lambda: NOW) as braze:
        assert limits(post(braze)) == ("250000", "249999", "3599")
    with Sandbox(contract="mau", limits={"users_track": []}) as braze:
        assert limits(post(braze)) == (None, None, None)


def test_limit_is_counted_in_fixed_windows_and_told_in_lower_case_headers():
    now = NOW
    with Sandbox(limits={"users_track": [(2, 3)]}, clock=lambda: now) as braze:
        connection = http.client.HTTPConnection(braze.url.removeprefix("http://"))
        answers = []
        for moment in (NOW, NOW + 1, NOW + 1.4, NOW + 1.5, NOW + 7):
            now = moment
            connection.request("POST", "/users/track", json.dumps(U1), KEY)
            answer = connection.getresponse()
            names = [name for name, _ in answer.getheaders() if name.lower().startswith("x-ratelimit")]
            answers.append((answer.status, json.loads(answer.read())["message"], *map(answer.getheader, names)))
            assert names == ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
        connection.close()
    assert answers == [
        (201, "success", "2", "1", "1800000003"),
        (201, "success", "2", "0", "1800000003"),
        (429, "Too Many Requests", "2", "0", "1800000003"),
        (201, "success", "2", "1", "1800000006"),
        (201, "success", "2", "1", "1800000009"),
    ]


def test_others_use_up_a_limit_evenly_and_the_headers_show_it():
    now = NOW
    with Sandbox(limits={"users_track": [(10, 3)]}, others={"users_track": 2.0}, clock=lambda: now) as braze:
        answers = []
        for moment in (1.5, 1.5, 3.0, 3.9, 3.9, 3.9, 4.4, 4.4, 4.5):
            now = NOW + moment
            answer = post(braze)
            answers.append((answer.status_code, answer.headers["x-ratelimit-remaining"]))
    assert answers == [
        *((201, "9"), (201, "8"), (201, "4"), (201, "2"), (201, "1"), (201, "0")),
        *((429, "0"), (429, "0"), (201, "9")),
    ]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["users_track=300/3", "users=60/60"], {"users_track": 100.0, "users": 1.0}),
        (["users_trak=300/3"], "unknown rate limit 'users_trak'"),
        (["users_track=300"], "'users_track=300' must have the form NAME=REQUESTS/SECONDS"),
        (["users_track=none"], "'users_track' must be given once"),
        (["users_track=1/3", "users_track=1/60"], "'users_track' must be given once"),
    ],
)
def test_what_others_use_is_given_as_requests_in_seconds(texts: list[str], expected: object):
    if isinstance(expected, dict):
        assert parse_others(texts) == expected
        return
    with pytest.raises(ValueError, match=str(expected)):
        parse_others(texts)


def test_request_over_the_limit_changes_nothing():
    with Sandbox(limits={"users_track": [(0, 3)]}) as braze:
        assert post(braze).status_code == 429
        assert braze.profile(external_id="u1") is None


def test_date_header_follows_the_clock_of_the_limits():
    with Sandbox(clock=lambda: NOW) as braze:
        assert post(braze).headers["date"] == "Fri, 15 Jan 2027 08:00:01 GMT"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/users/track", ("3000", "2999", "1800000003")),
        ("/users/alias/new", ("20000", "19999", "1800000060")),
        ("/users/external_ids/rename", ("1000", "999", "1800000060")),
        ("/users/external_ids/remove", ("1000", "999", "1800000060")),
        ("/v2/subscription/status/set", ("5000", "4999", "1800000060")),
        ("/users/export/ids", ("250", "249", "1800000060")),
    ],
)
def test_default_limits_are_those_of_braze_and_bad_requests_count(path, expected):
    with Sandbox(clock=lambda: NOW) as braze:
        answer = post(braze, path, {})
        assert (answer.status_code, limits(answer)) == (400, expected)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/catalogs", ("50", "49", "1800000060")),
        ("/catalogs/c/fields", ("50", "49", "1800000060")),
        ("/catalogs/c/items", ("16000", "15999", "1800000060")),
        ("/catalogs/c/items/i", ("50", "49", "1800000060")),
    ],
)
def test_catalogs_have_limits_of_their_own(path, expected):
    with Sandbox(clock=lambda: NOW) as braze:
        assert limits(post(braze, path, {})) == expected


def test_single_items_and_lists_share_a_limit_and_many_items_have_another():
    with Sandbox(limits={"catalog_item": [(2, 60)]}, clock=lambda: NOW) as braze:

        def status(method: str, path: str) -> int:
            return requests.request(method, braze.url + path, json={}, headers=KEY).status_code

        assert [status("GET", "/catalogs/c/items"), status("DELETE", "/catalogs/c/items/i")] == [404, 404]
        assert [status("PUT", "/catalogs/c/items/i"), status("POST", "/catalogs/c/items")] == [429, 404]


def test_general_limit_is_hourly():
    with Sandbox(clock=lambda: NOW) as braze:
        paths = ("/subscription/status/get", "/subscription/user/status")
        found = [limits(requests.get(braze.url + path, headers=KEY)) for path in paths]
        assert found == [("250000", left, "1800003600") for left in ("249999", "249998")]


@pytest.mark.parametrize(
    ("family", "paths"),
    [
        (
            "users",
            ["/users/alias/new", "/users/alias/update", "/users/identify", "/users/merge", "/users/delete"],
        ),
        ("subscription_status_set", ["/subscription/status/set", "/v2/subscription/status/set"]),
    ],
)
def test_family_shares_one_limit(family, paths):
    with Sandbox(limits={family: [(len(paths), 60)]}, clock=lambda: NOW) as braze:
        assert [post(braze, path, {}).status_code for path in paths] == [400] * len(paths)
        assert {post(braze, path, {}).status_code for path in paths} == {429}
        assert post(braze).status_code == 201


def test_light_exports_have_a_limit_of_their_own_until_exports_are_limited_together():
    light = {"external_ids": ["u1"], "fields_to_export": ["email"]}
    heavy = {"external_ids": ["u1"], "fields_to_export": ["email", "campaigns_received"]}
    with Sandbox(clock=lambda: NOW) as braze:
        found = [limits(post(braze, "/users/export/ids", body)) for body in (light, heavy)]
        assert found == [("40", "39", "1800000002"), ("250", "249", "1800000060")]
    with Sandbox(limits={"users_export_ids": [(5, 60)]}, clock=lambda: NOW) as braze:
        found = [limits(post(braze, "/users/export/ids", body)) for body in (light, heavy)]
        assert found == [("5", "4", "1800000060"), ("5", "3", "1800000060")]


def test_refused_key_does_not_count():
    with Sandbox(limits={"users_track": [(1, 3)]}, clock=lambda: NOW) as braze:
        answer = post(braze, headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, limits(answer)) == (401, ("1", "1", "1800000003"))
        assert post(braze).status_code == 201


def test_no_windows_are_no_limit_and_no_headers():
    with Sandbox(limits={"users_track": []}) as braze:
        assert limits(post(braze)) == (None, None, None)


def test_unknown_family_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"unknown rate limit 'track'; expected one of catalog_fields, .*users_track"):
        Sandbox(limits={"track": [(1, 1)]})


# The log


def test_log_has_each_request_with_its_answer_and_no_key():
    with Sandbox(clock=lambda: NOW) as braze:
        body = '{"attributes": [{"external_id": "ü", "n": 1.50}], "events": []}'
        requests.post(f"{braze.url}/users/track", data=body.encode(), headers=KEY)
        post(braze, headers={"Authorization": "Bearer wrong-key"})
        requests.get(f"{braze.url}/nowhere?a=1")
        log = braze.requests()
        text = "".join(map(repr, log))
    assert log == [
        LoggedRequest(
            number=1,
            at=NOW,
            method="POST",
            path="/users/track",
            query="",
            key="sha256:b7ad5674",
            body=body,
            status=201,
            answer='{"message":"success","attributes_processed":1,"events_processed":0}',
            records={"attributes": 1, "events": 0},
            fault=None,
        ),
        LoggedRequest(
            number=2,
            at=NOW,
            method="POST",
            path="/users/track",
            query="",
            key="sha256:5e179de4",
            body=json.dumps(U1),
            status=401,
            answer='{"message":"Invalid API key: sha256:5e179de4"}',
            records={"attributes": 1},
            fault=None,
        ),
        LoggedRequest(
            number=3,
            at=NOW,
            method="GET",
            path="/nowhere",
            query="a=1",
            key=None,
            body="",
            status=404,
            answer='{"message":"Not Found"}',
            records={},
            fault=None,
        ),
    ]
    assert "wrong-key" not in text


@pytest.mark.parametrize(("log_bodies", "kept"), [(0, []), (2, [3, 4]), (10, [1, 2, 3, 4])])
def test_log_keeps_the_latest_bodies_only(log_bodies, kept):
    with Sandbox(log_bodies=log_bodies) as braze:
        for n in (1, 2, 3, 4):
            post(braze, body={"attributes": [{"external_id": f"u{n}"}]})
        assert [one.number for one in braze.requests() if one.body] == kept
        assert len(braze.requests()) == 4
        assert [one.number for one in braze.requests(after=2)] == [3, 4]


# Control paths


def test_counts_requests_and_reset_over_http():
    with Sandbox(clock=lambda: NOW, limits={"users_track": [(9, 60)]}) as braze:
        post(braze)
        post(braze, body={})
        counts = requests.get(f"{braze.url}/_sandbox/counts").json()
        assert counts == braze.counts()
        assert (counts["users"], counts["requests"], counts["empty_requests"]) == (1, 1, 1)
        log = requests.get(f"{braze.url}/_sandbox/requests?after=1").json()["requests"]
        assert [(one["number"], one["status"], one["body"]) for one in log] == [(2, 400, "{}")]

        empty = dict.fromkeys(counts, 0)
        assert requests.post(f"{braze.url}/_sandbox/reset").json() == empty
        assert braze.counts() == empty
        answer = post(braze)
        assert (limits(answer), braze.requests()[0].number) == (("9", "8", "1800000060"), 1)


def test_reset_forgets_users_types_windows_and_faults():
    with Sandbox() as braze:
        post(braze)
        braze.reset()
        assert (list(braze.profiles()), braze.requests(), braze.silent_drops()) == ([], [], [])
        post(braze, body={"attributes": [{"external_id": "u1", "plan": 7}]})
        assert braze.profile(external_id="u1")["custom_attributes"] == {"plan": 7}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example"}, id="other name"),
        pytest.param({"Origin": "https://evil.example"}, id="page in a browser"),
    ],
)
def test_control_paths_answer_no_page_in_a_browser(headers):
    with Sandbox() as braze:
        post(braze)
        assert requests.post(f"{braze.url}/_sandbox/reset", headers=headers).status_code == 403
        assert braze.counts()["users"] == 1


# Life


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody else is given until the test ends: bound, so that only a server which asks for it listens."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_server_listens_on_loopback_only_and_closes_its_port(port):
    with Sandbox(port=port) as braze:
        assert braze.url == f"http://127.0.0.1:{port}"
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.settimeout(60)
            braze.__exit__(None, None, None)
            assert idle.recv(1) == b""
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.1", port))


def test_chosen_port_is_used_and_a_taken_one_is_an_error(port):
    with Sandbox(port=port), pytest.raises(OSError, match="Address already in use"), Sandbox(port=port):
        pass
    with Sandbox(port=port) as again:
        assert again.url == f"http://127.0.0.1:{port}"


def test_temporary_file_is_private_and_goes_away(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox() as braze:
        post(braze)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert list(tmp_path.iterdir()) == []


def test_file_outlives_its_sandbox(tmp_path):
    path = tmp_path / "deeper" / "braze.sqlite"
    with Sandbox(path) as braze:
        post(braze)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Sandbox(path) as braze:
        post(braze, body={"attributes": [{"external_id": "u1", "more": 1}]})
        assert braze.profile(external_id="u1")["custom_attributes"] == {"plan": "pro", "more": 1}
        assert [one.number for one in braze.requests()] == [1, 2]


@pytest.mark.parametrize("content", [b"not a database at all, but a longer text" * 50, "sqlite"])
def test_other_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "mine.db"
    if content == "sqlite":
        import sqlite3

        other = sqlite3.connect(path)
        other.execute("CREATE TABLE mine (x)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes(), path.stat().st_mode
    with pytest.raises(ValueError, match=r"mine\.db is not a sandbox file$"), Sandbox(path):
        pass
    assert (path.read_bytes(), path.stat().st_mode) == before


def test_file_of_an_older_version_gets_what_it_lacks_and_keeps_what_it_has(tmp_path):
    import sqlite3

    path = tmp_path / "braze.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript((Path(__file__).parents[1] / "projects/sandbox-format-1.sql").read_text())
    with Sandbox(path) as braze:
        catalog = {"name": "c", "description": "", "fields": [{"name": "id", "type": "string"}]}
        assert post(braze, "/catalogs", {"catalogs": [catalog]}).status_code == 201
        assert post(braze, body={"attributes": [{"external_id": "u1", "more": 1}]}).status_code == 201
    with Sandbox(path) as braze:
        assert braze.profile(external_id="u1")["custom_attributes"] == {"plan": "pro", "more": 1}
        assert [one["name"] for one in braze.events()] == ["seen"]
        assert [one.number for one in braze.requests()] == [1, 2, 3]
        assert braze.catalog("c") == []


def test_file_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = newer_file(tmp_path / "braze.sqlite")
    before = path.read_bytes()
    with (
        pytest.raises(ValueError, match=r"braze\.sqlite was written by a newer version of the sandbox$"),
        Sandbox(path),
    ):
        pass
    assert path.read_bytes() == before


def test_sandbox_that_does_not_run_says_so():
    with pytest.raises(RuntimeError, match="the sandbox is not running"):
        _ = Sandbox().url


def test_two_sandboxes_on_one_file_share_all_but_their_faults(tmp_path):
    path = tmp_path / "braze.sqlite"
    with Sandbox(path, limits={"users_track": [(400, 1e9)]}) as one, Sandbox(path) as other:

        def add(n: int) -> int:
            body = {"attributes": [{"external_id": f"u{n % 7}", "hits": {"inc": 1}, f"a{n}": n}]}
            return post((one, other)[n % 2], body=body).status_code

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(add, range(140))) == {201}
        assert one.counts() == other.counts()
        assert {f"u{n}": 20 for n in range(7)} == {
            profile["external_id"]: profile["custom_attributes"]["hits"] for profile in other.profiles()
        }
        assert [request.number for request in one.requests()] == list(range(1, 141))


def test_many_sandboxes_may_make_one_file_at_the_same_time(tmp_path):
    def start(path: Path) -> int:
        with Sandbox(path) as braze:
            return post(braze).status_code

    with ThreadPoolExecutor(4) as pool:
        paths = [tmp_path / f"{n // 4}.sqlite" for n in range(40)]
        assert set(pool.map(start, paths)) == {201}


def test_file_that_another_process_reads_meanwhile_loses_nothing(tmp_path):
    """Its last connection would take the log with it, did the sandbox not hold its locks."""
    path, seen = tmp_path / "braze.sqlite", []
    count = f"import sqlite3; print(sqlite3.connect({str(path)!r}).execute('SELECT count(*) FROM users').fetchone()[0])"
    with Sandbox(path) as braze:
        for number in range(3):
            post(braze, body={"attributes": [{"external_id": f"u{number}"}]})
            seen.append(
                subprocess.run([sys.executable, "-c", count], check=True, capture_output=True, text=True).stdout
            )
    with Sandbox(path) as braze:
        assert ([*map(int, seen)], len(list(braze.profiles()))) == ([1, 2, 3], 3)


def test_two_processes_on_one_fresh_file_lose_nothing(tmp_path):
    path = tmp_path / "braze.sqlite"
    script = (
        "import sys, pathlib\n"
        "from reverse_etl.sandbox import Sandbox\n"
        "with Sandbox(pathlib.Path(sys.argv[1])) as braze:\n"
        "    print(braze.url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        urls = [process.stdout.readline().strip() for process in (first, second) if process.stdout]

        def add(n: int) -> int:
            body = {"attributes": [{"external_id": "u1", "hits": {"inc": 1}}]}
            return requests.post(f"{urls[n % 2]}/users/track", json=body, headers=KEY).status_code

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(add, range(60))) == {201}
        for process in (first, second):
            process.communicate()
    with Sandbox(path) as braze:
        assert braze.profile(external_id="u1")["custom_attributes"] == {"hits": 60}
        assert braze.counts()["users"] == 1


def test_client_that_leaves_in_the_middle_of_its_body_sent_nothing():
    with Sandbox() as braze:
        host, port = braze.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /users/track HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert post(braze).status_code == 201
        assert len(braze.requests()) == 1


def test_import_needs_no_web_server():
    script = (
        "import sys, reverse_etl.sandbox; print([m for m in ('uvicorn', 'starlette', 'asyncio') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_until_a_signal_and_gives_the_handlers_back(tmp_path, port, number):
    before = signal.getsignal(number)
    urls = []

    def ready(url: str) -> None:
        urls.append(url)
        assert requests.post(f"{url}/users/track", json=U1, headers=KEY).status_code == 201
        os.kill(os.getpid(), number)

    serve(Sandbox(tmp_path / "braze.sqlite", port), ready)
    assert signal.getsignal(number) is before
    with pytest.raises(requests.ConnectionError):
        requests.get(urls[0])
    with Sandbox(tmp_path / "braze.sqlite") as braze:
        assert braze.counts()["users"] == 1


def test_sandbox_leaves_no_thread_behind():
    before = set(threading.enumerate())
    with Sandbox():
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["braze-sandbox"]
    assert set(threading.enumerate()) <= before


def test_path_may_hold_any_character(tmp_path: Path):
    with Sandbox(tmp_path / "a b?c#d%20.sqlite") as braze:
        assert post(braze).status_code == 201


# From the command line


def newer_file(path: Path) -> Path:
    import sqlite3

    with Sandbox(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    return path


def project(folder: Path) -> None:
    spec = """
    version: 1
    targets:
      test: {warehouse: {type: duckdb, path: w.duckdb}, destination: {type: braze, endpoint: sandbox}}
    syncs: [{name: users, model: users, mode: users_track, track_record_type: attributes}]
    """
    (folder / "syncs.yml").write_text(textwrap.dedent(spec))
    (folder / "models").mkdir()
    (folder / "models/users.sql").write_text("SELECT 'u1' AS external_id, 'pro' AS plan")
    duckdb.connect(folder / "w.duckdb").close()


def test_file_that_cannot_be_used_is_an_error_with_a_hint(retl, tmp_path):
    project(tmp_path)
    file = newer_file(tmp_path / "braze.sqlite")
    message = f"{file} was written by a newer version of the sandbox\n  hint: pass another file with --file\n"
    for arguments in (["--port", "0"], ["--last", "1"]):
        outcome = retl("sandbox", "--file", str(file), *arguments)
        assert (outcome.code, outcome.out, outcome.err) == (2, "", message)


def test_sync_does_not_start_on_a_file_that_cannot_be_used(retl, tmp_path):
    project(tmp_path)
    newer_file(tmp_path / ".retl/test/sandbox.sqlite")
    outcome = retl("sync", "users")
    assert (outcome.code, outcome.err.splitlines()[-2:]) == (
        2,
        [
            ".retl/test/sandbox.sqlite was written by a newer version of the sandbox",
            "  hint: move the file away; the sandbox then creates a new, empty one",
        ],
    )


def test_taken_port_is_an_error_with_a_hint(retl, tmp_path):
    project(tmp_path)
    with Sandbox() as braze:
        port = braze.url.rsplit(":", 1)[1]
        outcome = retl("sandbox", "--port", port)
    assert (outcome.code, outcome.out, outcome.err) == (
        2,
        "",
        f"port {port}: Address already in use\n  hint: use --port 0 to pick a free port\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users_track", "'users_track' must have the form NAME=REQUESTS/SECONDS or NAME=none"),
        ("users_track=many", "'users_track=many' must have the form NAME=REQUESTS/SECONDS or NAME=none"),
        ("users_track=5/0", "rate limit 'users_track': requests must not be negative, and seconds must be positive"),
    ],
)
def test_bad_limit_is_an_error_with_a_hint(retl, tmp_path, text, message):
    project(tmp_path)
    outcome = retl("sandbox", "--limit", text)
    hint = 'for the names, see "Endpoints" in docs/sandbox.md'
    assert (outcome.code, outcome.err) == (2, f"--limit: {message}\n  hint: {hint}\n")


def test_limits_are_read_from_text():
    texts = ["users_track=5/1", "users_track=100/60.5", "users=none"]
    assert parse_limits(texts) == {"users_track": [(5, 1.0), (100, 60.5)], "users": []}


def test_legacy_contract_is_none_by_active_users(retl):
    outcome = retl("sandbox", "--legacy-contract", "--contract", "mau")
    message = "--legacy-contract cannot be combined with --contract mau: contracts by monthly active users are newer"
    assert (outcome.code, outcome.err) == (2, f"{message}\n  hint: remove one of them\n")


@pytest.mark.long
def test_command_serves_by_the_contract_that_it_is_told(tmp_path):
    project(tmp_path)
    command = [
        sys.executable,
        "-m",
        "reverse_etl",
        "sandbox",
        "--port",
        "0",
        "--legacy-contract",
        "--limit",
        "users=7/60",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[0]

            def answer(path: str, body: Any) -> requests.Response:
                return requests.post(url + path, json=body, headers=KEY)

            users = [{"external_id": f"u{n}"} for n in range(75)]
            events = [{"external_id": "u1", "name": "seen", "time": "2026-01-01"}] * 75
            assert answer("/users/track", {"attributes": users, "events": events}).status_code == 201
            exported = answer("/users/export/ids", {"external_ids": ["u1"]})
            assert (exported.json()["users"][0]["external_id"], limits(exported)[0]) == ("u1", "2500")
            assert limits(answer("/users/identify", {}))[0] == "7"
        finally:
            server.terminate()
