"""`retl verify`: acknowledged rows, read back over the real HTTP of the sandbox and compared with what was sent."""

import json
from datetime import timedelta
from typing import Any

import pytest
import requests

from reverse_etl.delivery.session import open_session
from reverse_etl.errors import RetlError
from reverse_etl.runs.outcome import Untaken
from reverse_etl.runs.verify import HowToVerify, Verified, share_of, verify
from reverse_etl.sandbox import Sandbox
from tests.bucket import Bucket
from tests.shop import KEY, FakeClock, Held, Retl, Shop, running

ROWS = "SELECT 'u' || i AS external_id, i AS n, 'x' || i AS name FROM range(300) r(i)"


def tell(shop: Shop, path: str, body: dict[str, Any]) -> None:
    """What others do in Braze."""
    answer = requests.post(shop.braze.url + path, json=body, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.json()["message"] == "success", answer.text


def verified(shop: Shop, sample: int = 500, seed: int = 7, **options: Any) -> Verified:
    project = shop.project()
    with open_session(project) as session:
        how = HowToVerify(sample, seed, clock=shop.clock, **options)
        return verify(project, project.sync(shop.syncs[0]["name"]), session, how)


@pytest.mark.long
def test_rows_are_there_as_they_were_sent(shop: Shop):
    shop.sync(
        "it",
        """SELECT 'u1' AS external_id, 'Ann@Example.COM' AS email, '4155552671' AS phone, 'kr' AS country, NULL AS nothing,
        DATE '1990-02-03' AS dob, {'longitude': 126.5, 'latitude': 37} AS current_location, TIMESTAMP '2026-11-23 08:15:00' AS t,
        1.50::DECIMAL(9, 2) AS price, [3, 1, 3] AS list, [{'a': 1, 'at': TIMESTAMP '2026-11-23'}] AS objects,
        '{"b": {"c": [1]}}' AS doc, true AS flag, 'subscribed' AS email_subscribe, 'a.example/i.png' AS image_url""",
        pre_formatted_fields=["doc"],
        skip_on_invalid_records=True,
    )
    assert shop.run().status == "success"
    found = verified(shop)
    assert (found.differences, found.as_sent, found.rows, found.not_compared) == ([], 1, 1, ["image_url"])


@pytest.mark.parametrize(
    ("model", "options", "before"),
    [
        pytest.param(
            "SELECT 'u1' AS external_id, 'a1' AS alias_name, 'cookie' AS alias_label",
            {"mode": "users_alias_new"},
            [{"external_id": "u1"}],
            id="aliases",
        ),
        pytest.param(
            "SELECT 'u1' AS external_id, 'a1' AS alias_name, 'cookie' AS alias_label",
            {"mode": "users_identify"},
            [{"user_alias": {"alias_name": "a1", "alias_label": "cookie"}, "_update_existing_only": False}],
            id="identified users",
        ),
        pytest.param(
            "SELECT 'u1' AS external_id, '6f1c2a3e-0b5d-4c7e-9a41-2d8e5f60b7a1' AS subscription_group_id, "
            "'subscribed' AS subscription_state",
            {"mode": "subscription_status_set"},
            [{"external_id": "u1"}],
            id="states of groups",
        ),
    ],
)
def test_other_modes_are_compared_too(shop: Shop, model: str, options: dict[str, Any], before: list[Any]):
    tell(shop, "/users/track", {"attributes": before})
    assert shop.sync("it", model, **options).run().status == "success"
    assert (verified(shop).differences, verified(shop).sampled) == ([], 1)
    shop.braze.reset()
    assert verified(shop).differing == 1


@pytest.mark.long
def test_what_differs_is_sent_again_after_a_repair_and_nothing_else(shop: Shop):
    shop.sync("it", ROWS).run()
    tell(shop, "/users/track", {"attributes": [{"external_id": "u1", "n": 99}, {"external_id": "u2", "name": None}]})
    tell(shop, "/users/delete", {"external_ids": ["u3"]})
    found = verified(shop, repair=True)
    assert sorted(found.differences, key=lambda one: one.what) == [
        Untaken(None, "is not in Braze", 1),
        Untaken("n", "sent a number, and Braze has another", 1),
        Untaken("name", "sent a string, and Braze has none", 1),
    ]
    assert (found.as_sent, found.missing, found.repaired) == (297, 1, 2)
    number = len(shop.braze.requests())
    assert shop.run().status == "success"
    (again,) = shop.braze.requests(after=number)
    attributes = sorted(json.loads(again.body)["attributes"], key=lambda one: one["external_id"])
    assert attributes == [{"external_id": "u1", "n": 1}, {"external_id": "u2", "name": "x2"}]
    assert verified(shop).differing == 1


def test_rows_of_a_minute_ago_get_the_time_that_braze_takes(tmp_path):
    clock = [0.0]
    with Sandbox(read_lag_s=30, clock=lambda: clock[0]) as braze:
        shop = Shop(tmp_path / "shop", braze)

        class Clock(type(shop.clock)):  # type: ignore[misc]
            def wait(self, wait_s: float, stop: Any) -> None:
                super().wait(wait_s, stop)
                clock[0] += wait_s

        shop.clock = Clock()
        shop.sync("it", ROWS).run()
        assert (verified(shop, 10).differing, 60.0 in shop.clock.waits) == (0, True)


@pytest.mark.long
def test_sample_is_the_same_for_a_seed_and_another_for_another(shop: Shop):
    shop.sync("it", ROWS).run()
    asked = []
    for seed in (1, 1, 2):
        number = len(shop.braze.requests())
        assert verified(shop, sample=50, seed=seed).sampled == 50
        (request,) = shop.braze.requests(after=number)
        asked.append(sorted(json.loads(request.body)["external_ids"]))
    assert (asked[0] == asked[1], asked[0] == asked[2]) == (True, False)


@pytest.mark.long
def test_shared_state_is_read_without_its_lock_and_repaired_for_all_machines(tmp_path, braze: Sandbox):
    with Bucket() as bucket:
        one, two = (
            Shop(tmp_path / name, braze, state={"path": bucket.url}, environ={"BRAZE_API_KEY": KEY, **bucket.environ})
            for name in ("one", "two")
        )
        for shop in (one, two):
            shop.sync("it", ROWS)
        assert one.run().status == "success"
        tell(one, "/users/track", {"attributes": [{"external_id": "u1", "n": 99}]})
        written = bucket.writes
        assert (verified(two).differing, bucket.writes - written) == (1, 0)
        assert verified(two, repair=True).repaired == 1
        number = len(braze.requests())
        assert one.run().status == "success"
        assert [json.loads(one.body) for one in braze.requests(after=number)] == [
            {"attributes": [{"external_id": "u1", "n": 1}]}
        ]


@pytest.mark.parametrize(
    ("differing", "sampled", "rows", "expected"),
    [(0, 299, 10**6, (0, 1.0)), (3, 500, 10**6, (0.2, 1.7)), (1, 3, 3, (33.3, 33.3)), (500, 500, 10**6, (99.2, 100))],
)
def test_shares_are_those_of_the_books(differing, sampled, rows, expected):
    assert tuple(round(share * 100, 1) for share in share_of(differing, sampled, rows)) == expected


def test_299_users_find_a_fault_of_one_percent_with_95_percent():
    finds = [Verified("it", "test", 1, 10**6, n, n, 0, 0, [], [], []).finds_one_percent for n in (298, 299)]
    assert finds[0] < 0.95 < finds[1]


@pytest.mark.long
def test_a_sync_may_run_while_users_are_read(shop: Shop):
    shop.sync("it", ROWS).run()
    held = Held(shop.braze, path="/users/export/ids")
    with running(shop, held, ["verify", "it"]) as process:
        assert shop.run(full_refresh=True).status == "success"
        held.goes_out.set()
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        pytest.param(
            "SELECT 'u1' AS external_id",
            {"mode": "users_delete", "allow_destructive": True},
            "P142 it: retl verify cannot compare records of mode users_delete: the state does not tell whom it has deleted",
            id="deletes",
        ),
        pytest.param(
            "SELECT 'u1' AS external_id, 'e' AS name, TIMESTAMP '2026-11-23' AS time",
            {"mode": "users_track", "track_record_type": "events"},
            "P142 it: retl verify cannot compare records of mode users_track / events: Braze does not export them",
            id="events",
        ),
        pytest.param(
            "SELECT 'u1' AS external_id",
            {},
            "D006 it: Braze has acknowledged no rows yet that could be compared",
            id="no state",
        ),
    ],
)
def test_what_cannot_be_compared_is_an_error(shop: Shop, model: str, options: dict[str, Any], said: str):
    shop.sync("it", model, **options)
    with pytest.raises(RetlError) as error:
        verified(shop)
    assert f"{error.value.problems[0].code} {error.value.problems[0].message}" == said


def test_command_says_what_differs_and_how_sure_that_is(shop: Shop, retl: Retl):
    shop.clock = FakeClock(ahead=-timedelta(minutes=2))  # Braze shows by now what it has taken
    shop.sync("it", ROWS).run()
    tell(shop, "/users/track", {"attributes": [{"external_id": f"u{i}", "n": 999} for i in range(70)]})
    said = retl("verify", "it", "--sample", "100", "--seed", "3", folder=shop.folder)
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0].startswith("it: compared 100 of 300 rows with Braze (--seed 3): ")
    assert "this sample finds a fault of 1 % of the rows with 63.4 %" in lines[1]
    assert [line.split()[0] for line in lines[3:5]] == ["column", "n"]
    found = json.loads(retl("verify", "it", "--seed", "3", "--output", "json", folder=shop.folder).out)
    assert (found["sampled"], found["as_sent"], found["share_below"]) == (300, 230, round(70 / 300, 6))
    shown = retl("verify", "it", "--show-values", folder=shop.folder).out
    assert "became 999" in shown


def test_key_that_may_not_read_is_an_error_that_names_the_permission(tmp_path, retl: Retl):
    with Sandbox(keys={KEY: {"users.track"}}) as braze:
        shop = Shop(tmp_path / "shop", braze).sync("it", ROWS)
        shop.run()
        said = retl("verify", "it", folder=shop.folder)
        assert (said.code, "users.export.ids" in said.err) == (1, True)
        warned = [line for line in retl("debug", folder=shop.folder).out.splitlines() if "users.export.ids" in line]
        assert warned == [
            "warn  /users/export/ids, permission users.export.ids: --canary, --read-first and `retl verify` need it: "
            "create a new API key with the permission users.export.ids: permissions of an existing key cannot be changed"
        ]
