"""What stands behind the sandbox's page: who may ask, the read paths, snapshots, faults replaced."""

import contextlib
import http.client
import itertools
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.sandbox.page.watch import PAGE, Watch
from reverse_etl.sandbox.read import Reader
from reverse_etl.sandbox.schema import FORMAT, connect
from tests.sandbox.test_sandbox_faults import wait_for_requests

NOW = 1_800_000_000.0
KEY = {"Authorization": "Bearer sandbox"}
READ = (
    *("/", "/_sandbox/pulse", "/_sandbox/users", "/_sandbox/log", "/_sandbox/drops", "/_sandbox/catalogs"),
    "/_sandbox/page.js",
)


def post(braze: Sandbox, path: str, body: Any) -> requests.Response:
    return requests.post(braze.url + path, json=body, headers=KEY)


def track(braze: Sandbox, **arrays: Any) -> requests.Response:
    return post(braze, "/users/track", arrays)


def read(braze: Sandbox, what: str, **query: Any) -> Any:
    answer = requests.get(f"{braze.url}/_sandbox/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def all_pages(braze: Sandbox, what: str, name: str, cursor: str, **query: Any) -> list[Any]:
    rows, at = [], {}
    while True:
        page = read(braze, what, **query, **at)
        rows += page[name]
        if page["next"] is None:
            return rows
        at = {cursor: page["next"]}


# Who may ask


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example"}, id="another name led here"),
        pytest.param({"Origin": "https://evil.example"}, id="page of another origin"),
        pytest.param({"Origin": "http://127.0.0.1:3000"}, id="page on another port"),
        pytest.param({"Origin": "null"}, id="page in a sandboxed frame"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="script tag of another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="script tag on another port"),
    ],
)
def test_page_of_another_origin_can_neither_read_nor_steer(headers):
    with Sandbox() as braze:
        track(braze, attributes=[{"external_id": "u1", "plan": "pro"}])
        for path in READ[1:]:
            assert requests.get(braze.url + path, headers=headers).status_code == 403
        for method, path in (("POST", "reset"), ("POST", "snapshot"), ("POST", "restore"), ("PUT", "faults")):
            assert requests.request(method, f"{braze.url}/_sandbox/{path}", headers=headers).status_code == 403
        assert braze.counts()["users"] == 1


def test_page_of_this_origin_may_ask():
    with Sandbox() as braze:
        own = {"Origin": braze.url, "Sec-Fetch-Site": "same-origin"}
        assert {requests.get(braze.url + path, headers=own).status_code for path in READ} == {200}
        assert requests.post(f"{braze.url}/_sandbox/reset", headers=own).status_code == 200


def test_page_runs_no_script_but_its_own_and_nobody_frames_it():
    with Sandbox() as braze:
        for path in READ:
            headers = requests.get(braze.url + path).headers
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            assert policy | {"default-src": "'none'", "script-src": "'self'", "frame-ancestors": "'none'"} == policy
            assert headers["x-content-type-options"] == "nosniff"
            assert "access-control-allow-origin" not in headers


def test_looking_is_no_request_of_a_client():
    with Sandbox() as braze:
        for path in READ:
            requests.get(braze.url + path)
        assert braze.counts()["requests"] == 0


def test_page_counts_empty_requests_as_it_lists_them():
    with Sandbox() as braze:
        requests.post(f"{braze.url}/users/track", json={}, headers={"Authorization": "Bearer sandbox"})
        assert (braze.counts()["requests"], read(braze, "pulse")["requests"]) == (0, 1)
        assert [one["number"] for one in read(braze, "log")["requests"]] == [1]


def test_probes_are_no_errors_and_errors_are_counted_as_they_are_listed():
    """A probe is an empty object whose response says that key and endpoint are right, as `retl debug` sends them."""
    with Sandbox(keys={"sandbox": ["*"], "few": ["users.delete"]}) as braze:
        post(braze, "/users/track", {})
        requests.put(f"{braze.url}/catalogs/none/items", json={}, headers=KEY)
        track(braze, attributes=[{"external_id": "u1"}, {"plan": "nobody's"}])
        for key, path in (("wrong", "/users/track"), ("few", "/users/track"), ("sandbox", "/nothing")):
            requests.post(braze.url + path, json={}, headers={"Authorization": f"Bearer {key}"})
        braze.add_fault(Fault("status"))
        post(braze, "/users/track", {})
        listed = {one["number"]: one for one in read(braze, "log")["requests"]}
        assert [number for number, one in listed.items() if one["is_probe"]] == [2, 1]
        assert [one["number"] for one in read(braze, "log", only="errors")["requests"]] == [7, 6, 5, 4, 3]
        assert read(braze, "pulse")["errors"] == 5


def test_catalogs_are_shown_with_their_items_and_who_wrote_them():
    fields = {"id": "string", "title": "string", "price": "number", "more": "object"}
    with Sandbox(limits={"catalog_items": []}) as braze:
        made = {"name": "products", "description": "of the shop", "fields": [{"name": n, "type": t} for n, t in fields.items()]}  # fmt: skip
        post(braze, "/catalogs", {"catalogs": [made]})
        for start in (0, 50):
            items = [{"id": f"p-{n:02}", "title": f"Mug {n}", "price": 0.1} for n in range(start, start + 50)]
            requests.put(f"{braze.url}/catalogs/products/items", json={"items": items}, headers=KEY)
        (catalog,) = read(braze, "catalogs")["catalogs"]
        assert catalog.items() >= {**made, "items": 100}.items()
        assert read(braze, "pulse")["catalogs"] == 1
        listed = all_pages(braze, "catalog?name=products", "rows", "after")
        assert [(one["id"], one["request"]) for one in listed] == [
            (f"p-{n:02}", 2 if n < 50 else 3) for n in range(100)
        ]
        assert [one["id"] for one in read(braze, "catalog", name="products", q="p-7")["rows"]] == [f"p-7{n}" for n in range(10)]  # fmt: skip
        assert read(braze, "item", catalog="products", id="p-07") == {
            "request": 2,
            "fields": [
                {"name": "id", "type": "string", "json": '"p-07"'},
                {"name": "title", "type": "string", "json": '"Mug 7"'},
                {"name": "price", "type": "number", "json": "0.1"},
            ],
            "lacks": ["more"],
        }
        for missing in ("catalog?name=x", "item?catalog=products&id=x", "item?catalog=x&id=p-07"):
            assert requests.get(f"{braze.url}/_sandbox/{missing}").status_code == 404


# Users


def test_user_is_found_by_the_beginning_of_any_identifier():
    with Sandbox() as braze:
        track(braze, attributes=[{"external_id": "Ab-1", "email": "Mina@Example.com", "phone": "+8210555"}])
        post(
            braze,
            "/users/alias/new",
            {"user_aliases": [{"alias_name": "web-7", "alias_label": "x", "external_id": "Ab-1"}]},
        )
        rename = {"current_external_id": "Ab-1", "new_external_id": "new-1"}
        post(braze, "/users/external_ids/rename", {"external_id_renames": [rename]})
        braze_id = braze.profile(external_id="new-1")["braze_id"]
        typed = ["new", "minA@", "+8210", braze_id[:6], "web", "Ab", "ab", "nobody"]
        found = [[(one["found_by"], one["found"]) for one in read(braze, "users", q=text)["users"]] for text in typed]
        assert found == [
            [("external_id", "new-1")],
            [("email", "mina@example.com")],
            [("phone", "+8210555")],
            [("braze_id", braze_id)],
            [("alias", "web-7")],
            [("deprecated_id", "Ab-1")],
            [],
            [],
        ]


def test_pages_of_users_hold_each_user_once():
    with Sandbox(limits={"users_track": []}) as braze:
        for start in range(0, 150, 75):
            users = [{"external_id": f"u{n}", "email": f"u{n % 60}@x.io"} for n in range(start, start + 75)]
            track(braze, attributes=users)
        listed = [one["external_id"] for one in all_pages(braze, "users", "users", "after")]
        assert listed == [f"u{n}" for n in reversed(range(150))]
        found = [one["external_id"] for one in all_pages(braze, "users", "users", "after", q="u1")]
        assert found == sorted(f"u{n}" for n in range(150) if str(n).startswith("1")) + [
            f"u{n}"
            for n in sorted(range(150), key=lambda n: (f"u{n % 60}@x.io", n))
            if str(n % 60).startswith("1") and not str(n).startswith("1")
        ]


def test_each_value_names_the_request_that_wrote_it_and_keeps_its_digits():
    with Sandbox() as braze:
        body = '{"attributes":[{"external_id":"u/1?","score":12345678901234567890.10,"plan":"a","email":"a@x.io"}]}'
        requests.post(f"{braze.url}/users/track", data=body, headers=KEY)
        track(braze, attributes=[{"external_id": "u/1?", "plan": "b"}])
        track(
            braze,
            events=[{"external_id": "u/1?", "name": "seen", "time": "2026-11-23T00:00:00Z", "properties": {"n": 1}}],
        )
        user = read(braze, "user", external_id="u/1?")
        assert user["fields"] == [{"name": "email", "json": '"a@x.io"', "request": 1}]
        assert user["custom_attributes"] == [
            {"name": "score", "json": "12345678901234567890.10", "request": 1},
            {"name": "plan", "json": '"b"', "request": 2},
        ]
        (event,) = user["events"]["rows"]
        assert (event["name"], event["properties"], event["request"]) == ("seen", '{"n":1}', 3)
        assert read(braze, "user", braze_id=user["braze_id"]) == user
        assert requests.get(f"{braze.url}/_sandbox/user?external_id=other").status_code == 404


def test_events_of_a_user_come_in_pages_the_latest_first():
    with Sandbox() as braze:
        events = [{"external_id": "u1", "name": f"e{n}", "time": "2026-11-23T00:00:00Z"} for n in range(70)]
        track(braze, events=events)
        user = read(braze, "user", external_id="u1")
        names = [one["name"] for one in all_pages(braze, "events", "rows", "before", user=user["id"])]
        assert names == [f"e{n}" for n in reversed(range(70))]


# Requests


def test_log_filters_by_path_status_and_trouble():
    with Sandbox() as braze:
        good = {"external_id": "u1", "plan": "pro"}
        track(braze, attributes=[good])
        track(braze, attributes=[good, {"plan": "nobody's"}])
        requests.post(f"{braze.url}/users/track", json={}, headers={"Authorization": "Bearer wrong"})
        post(braze, "/users/delete", {"external_ids": ["u9"]})
        braze.add_fault(Fault("drop_before"))
        with pytest.raises(requests.ConnectionError):
            track(braze, attributes=[good])

        def numbers(**query: str) -> list[int]:
            return [one["number"] for one in read(braze, "log", **query)["requests"]]

        assert numbers() == [5, 4, 3, 2, 1]
        assert numbers(path="/users/del") == [4]
        assert (numbers(status="201"), numbers(status="2xx"), numbers(status="4xx")) == ([4, 2, 1], [4, 2, 1], [3])
        assert (numbers(status="none"), numbers(only="errors")) == ([5], [5, 3, 2])
        assert numbers(only="errors", path="/users/track", status="201") == [2]
        assert read(braze, "log", before="3")["requests"][0]["said"] == [
            "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
        ]
        assert requests.get(f"{braze.url}/_sandbox/log?before=x").status_code == 400


def test_request_is_shown_whole_with_what_was_refused_and_dropped():
    with Sandbox() as braze:
        track(braze, attributes=[{"external_id": "u1", "gender": "robot"}, {"plan": 1}])
        shown = read(braze, "log/1")
        assert (shown["rejected"], shown["dropped"], shown["records"]) == (1, 1, {"attributes": 2})
        assert shown["drops"] == [
            {"input_array": "attributes", "index": 0, "field": "gender", "reason": "not one of M, F, O, N, P"}
        ]
        raw = requests.get(f"{braze.url}/_sandbox/log/1/body")
        assert (raw.text, raw.headers["content-type"]) == (shown["body"], "text/plain; charset=utf-8")
        assert read(braze, "drops")["drops"] == [{"id": 1, "request": 1, **shown["drops"][0]}]
        assert requests.get(f"{braze.url}/_sandbox/log/2").status_code == 404


def test_duration_holds_the_wait_that_a_fault_adds():
    one = {"attributes": [{"external_id": "u1", "plan": 1}]}
    with (
        Sandbox() as braze,
        contextlib.closing(http.client.HTTPConnection(braze.url.removeprefix("http://"))) as client,
    ):
        braze.add_fault(Fault("delay", seconds=3600))
        client.request("POST", "/users/track", json.dumps(one), KEY)  # nobody waits for the answer
        wait_for_requests(braze, 1)
        track(braze, **one)
        assert 0 < read(braze, "log/2")["duration_s"] < 3600 <= read(braze, "log/1")["duration_s"]


def test_every_list_of_the_page_comes_from_an_index(tmp_path: Path):
    """At 100,000 users a scan would show."""
    path = tmp_path / "braze.sqlite"
    with Sandbox(path):
        pass
    seen: list[str] = []
    with contextlib.closing(Reader(path)) as reader:
        reader._db.set_trace_callback(seen.append)
        watch = Watch(reader)
        watch.users("u", "")
        watch.users("", "")
        watch.acts("events", 1, None)
        watch.drops(None)
        watch.catalog("products", "p", "p-1")
        watch.item("products", "p-1")
        for path_, status, only in itertools.product(["", "/users"], ["", "201", "4xx"], [False, True]):
            watch.log(None, path_, status, only_trouble=only)
        reader.counts()
        reader._db.set_trace_callback(None)
        plans = {
            step[3]
            for query in seen
            if query.startswith("SELECT")
            for step in reader._db.execute(f"EXPLAIN QUERY PLAN {query}")
        }
    scans = {plan for plan in plans if plan.startswith("SCAN") and plan not in ("SCAN counters",)}
    assert scans <= {"SCAN requests USING INDEX requests_in_trouble"}


def test_users_are_found_by_as_much_work_in_few_as_in_many(tmp_path: Path):
    """In steps of SQLite: five times as many users are no reason for a tenth more."""
    few, many = steps_to_find(tmp_path / "few", 1000), steps_to_find(tmp_path / "many", 5000)
    assert {text: steps for text, steps in many.items() if not 0 < steps <= 1.1 * few[text]} == {}


def steps_to_find(path: Path, users: int) -> Counter[str]:
    """Steps that SQLite takes for a page of all users, and of those that a text finds: 50 each, and one."""
    steps: list[str] = []
    with contextlib.closing(connect(path)) as db:
        fill(db, users)
    with contextlib.closing(Reader(path)) as reader:
        for text, hits in (("", PAGE), ("u", PAGE), ("user123@", 1), ("+821", PAGE), ("web-1", PAGE)):
            reader._db.set_progress_handler(lambda text=text: steps.append(text), 1)
            assert len(Watch(reader).users(text, "")["users"]) == hits
    return Counter(steps)


def fill(db: sqlite3.Connection, users: int) -> None:
    attributes = json.dumps([{"first_name": ["Mina", 1]}, {f"a{n}": [n, 1] for n in range(20)}])
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        ((n, f"{n:024x}", f"u{n}", f"user{n}@x.io", f"+8210{n:07}", attributes, n) for n in range(1, users + 1)),
    )
    db.executemany("INSERT INTO aliases VALUES ('web', ?, ?)", ((f"web-{n}", n) for n in range(1, users + 1)))
    db.execute("UPDATE counters SET users = ?1, users_live = ?1", [users])
    db.execute("COMMIT")


# Sums


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["event", "purchase", "attribute", "merge", "delete"]), st.integers(0, 3)),
        max_size=12,
    )
)
def test_sums_are_what_counting_gives(steps):
    time = "2026-11-23T00:00:00Z"
    with Sandbox(limits={"users_track": [], "users": []}) as braze:
        for what, n in steps:
            one = {"external_id": f"u{n}"}
            match what:
                case "event":
                    track(braze, events=[{**one, "name": "seen", "time": time}])
                case "purchase":
                    price = {"product_id": "p", "currency": "EUR", "price": 1, "time": time, "quantity": n + 1}
                    track(braze, purchases=[{**one, **price}])
                case "attribute":
                    track(braze, attributes=[{**one, "gender": "robot"}])
                case "merge":
                    update = {"identifier_to_merge": one, "identifier_to_keep": {"external_id": "u0"}}
                    post(braze, "/users/merge", {"merge_updates": [update]})
                case "delete":
                    post(braze, "/users/delete", {"external_ids": [f"u{n}"]})
        counts = braze.counts()
        quantities = sum(one["quantity"] for one in braze.purchases())
        counted = (len(list(braze.profiles())), len(braze.events()), quantities, len(braze.silent_drops()))
        assert tuple(counts[name] for name in ("users", "events", "purchases", "silent_drops")) == counted


def test_sums_of_an_older_file_are_counted_once(tmp_path: Path):
    path = tmp_path / "braze.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript((Path(__file__).parents[1] / "projects/sandbox-format-1.sql").read_text())
    with Sandbox(path) as braze:
        assert braze.counts()["users"] == len(list(braze.profiles())) > 0
        assert braze.counts()["events"] == len(braze.events()) > 0
        assert read(braze, "log")["requests"][-1]["duration_s"] is None
        assert read(braze, "pulse")["errors"] == len(read(braze, "log", only="errors")["requests"])


def test_probes_of_an_older_file_are_found_by_their_bodies(tmp_path: Path):
    path = tmp_path / "braze.sqlite"
    with Sandbox(path) as braze:
        post(braze, "/users/track", {})
        track(braze, attributes=[{"plan": "nobody's"}])
    with contextlib.closing(connect(path)) as old:  # as the format before had it
        old.execute("DROP INDEX requests_in_trouble")
        old.execute("ALTER TABLE requests DROP COLUMN is_probe")
        old.execute("ALTER TABLE counters DROP COLUMN errors_live")
        old.execute("CREATE INDEX requests_in_trouble ON requests (number)")
        old.execute(f"PRAGMA user_version = {FORMAT - 1}")
    with Sandbox(path) as braze:
        assert [one["number"] for one in read(braze, "log", only="errors")["requests"]] == [2]
        assert read(braze, "pulse")["errors"] == 1


# Snapshots and faults


def test_restore_brings_back_users_requests_windows_and_faults():
    with Sandbox(limits={"users_track": [(3, 3600)]}, clock=lambda: NOW, seed=3) as braze:
        track(braze, attributes=[{"external_id": "u1", "plan": "a"}])
        braze.add_fault(Fault("status", skip=1, times=1))
        control = f"{braze.url}/_sandbox"
        made = requests.post(f"{control}/snapshot", json={"name": "signed up"})
        assert (made.status_code, made.json()) == (201, {"name": "signed up"})
        for _ in range(2):
            statuses = [
                track(braze, attributes=[{"external_id": "u1", "plan": "b"}, {"external_id": "u2", "x": 1}]).status_code
                for _ in range(4)
            ]
            assert statuses == [201, 500, 201, 429]
            assert braze.counts()["users"] == 2
            back = requests.post(f"{control}/restore", json={"name": "signed up"})
            assert (back.status_code, back.json()) == (200, braze.counts())
            assert [one["custom_attributes"] for one in braze.profiles()] == [{"plan": "a"}]
            assert [one.number for one in braze.requests()] == [1]


def test_snapshots_are_listed_named_and_taken_anew():
    with Sandbox() as braze:
        assert (braze.snapshot(), braze.snapshot("mine")) == ("snapshot-1", "mine")
        track(braze, attributes=[{"external_id": "u1", "plan": 1}])
        assert braze.snapshot("mine") == "mine"
        braze.reset()
        braze.restore("mine")
        assert braze.counts()["users"] == 1
        assert read(braze, "snapshot") == {"snapshots": ["snapshot-1", "mine"]}
        answer = requests.post(f"{braze.url}/_sandbox/restore", json={"name": "other"})
        assert (answer.status_code, answer.json()) == (
            400,
            {"message": "unknown snapshot 'other'; existing snapshots: snapshot-1, mine"},
        )


def test_put_replaces_faults_and_starts_chance_again():
    with Sandbox() as braze:

        def statuses() -> list[int]:
            put = {"faults": ["status:status=503,probability=0.5"], "seed": 7}
            assert requests.put(f"{braze.url}/_sandbox/faults", json=put).status_code == 200
            return [track(braze, attributes=[{"external_id": "u1", "n": n}]).status_code for n in range(12)]

        first = statuses()
        assert first == statuses()
        assert set(first) == {201, 503}
        (fault,) = read(braze, "pulse")["faults"]
        assert (fault["kind"], fault["hits"]) == ("status", first.count(503))
        wrong = requests.put(f"{braze.url}/_sandbox/faults", json={"fault": []})
        assert (wrong.status_code, wrong.json()) == (400, {"message": 'expected {"faults": [...], "seed": integer}'})


def test_a_list_holds_no_more_than_a_page():
    with Sandbox() as braze:
        track(braze, attributes=[{"external_id": f"u{n}", "x": 1} for n in range(60)])
        assert len(read(braze, "users")["users"]) == len(read(braze, "users", q="u")["users"]) == PAGE
