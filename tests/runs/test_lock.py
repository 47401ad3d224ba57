"""braze.lock.yml: what the models send, as it was reviewed; `retl lock` writes it, `--check` and `retl plan` compare."""

import json
from pathlib import Path

import pytest
import yaml

from reverse_etl.sandbox import Fault, Sandbox
from tests.shop import EVENTS, KEY, Retl, Shop

PEOPLE = "SELECT 'u1' AS external_id, 'a@example.com' AS email, 'gold' AS tier, 3 AS orders, '{}'::JSON AS extra"
SEEN = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, 'home' AS page"
BOUGHT = "SELECT 'u1' AS external_id, 'mug' AS product_id, 'EUR' AS currency, 1.5 AS price, DATE '2026-11-23' AS time, 7 AS id"
OF_PURCHASES = {"mode": "users_track", "track_record_type": "purchases", "primary_key": "id"}
LOCKED = """\
# Names and types that the models send to Braze. Written by `retl lock`, compared by `retl lock --check`.
version: 1
attributes:
  extra: any
  orders: number
  tier: string
events:
  seen:
    page: string
purchases:
  id: number
"""


@pytest.fixture
def shop(shop: Shop) -> Shop:
    return shop.sync("people", PEOPLE).sync("views", SEEN, **EVENTS).sync("bought", BOUGHT, **OF_PURCHASES)


def lock_file(shop: Shop) -> Path:
    return shop.folder / "braze.lock.yml"


def notices(err: str) -> list[str]:
    return [line for line in err.splitlines() if "braze.lock.yml" in line]


@pytest.mark.long
def test_lock_is_written_from_the_models_without_network_and_then_checked(shop: Shop, retl: Retl):
    """Standard fields have the type that Braze gives them; so they are not in it, and neither are identifiers."""
    missing = retl("lock", "--check", folder=shop.folder)
    assert (missing.code, missing.err) == (2, f"braze.lock.yml not found in {shop.folder}\n  hint: run `retl lock`\n")
    written = retl("lock", folder=shop.folder)
    assert (written.code, written.err) == (0, "wrote braze.lock.yml: 6 names\n")
    assert written.out.splitlines() == [
        'attribute "tier": new, string (sync people)',
        'attribute "orders": new, number (sync people)',
        'attribute "extra": new, any (sync people)',
        'event "seen": new (sync views)',
        'property "page" of event "seen": new, string (sync views)',
        'property "id" of purchases: new, number (sync bought)',
    ]
    assert lock_file(shop).read_text() == LOCKED
    assert shop.braze.counts()["requests"] == 0
    checked = retl("lock", "--check", folder=shop.folder)
    assert (checked.code, checked.out, checked.err) == (0, "", "braze.lock.yml: 6 names, no difference\n")
    assert notices(retl("plan", folder=shop.folder).err) == []


@pytest.mark.long
def test_what_differs_is_listed_by_check_and_by_plan_and_stops_no_sync(shop: Shop, retl: Retl):
    retl("lock", folder=shop.folder)
    shop.sync("people", PEOPLE.replace("3 AS orders", "'3' AS orders").replace("AS tier", "AS plan"))
    shop.sync("views", SEEN.replace("'seen'", "'left'").replace("AS page", "AS site"), **EVENTS)
    checked = retl("lock", "--check", folder=shop.folder)
    assert (checked.code, lock_file(shop).read_text()) == (1, LOCKED)
    of_people = ['attribute "plan": new, string (sync people)']
    of_people += ['attribute "orders": number in braze.lock.yml, and string now (sync people)']
    of_views = ['event "left": new (sync views)', 'property "site" of event "left": new, string (sync views)']
    assert checked.out.splitlines() == [
        *of_people,
        *of_views,
        'attribute "tier": in braze.lock.yml, but no sync sends it',
    ]
    plan = retl("plan", folder=shop.folder)
    reviewed = "run `retl lock` once it is reviewed"
    assert (plan.code, notices(plan.err)) == (
        0,
        [
            f"people: not as in braze.lock.yml: {'; '.join(of_people)}; {reviewed}",
            f"views: not as in braze.lock.yml: {'; '.join(of_views)}; {reviewed}",
        ],
    )
    ran = retl("sync", "--all", folder=shop.folder)
    assert (ran.code, notices(ran.err)) == (0, [])
    retl("lock", folder=shop.folder)
    assert retl("lock", "--check", folder=shop.folder).code == 0


def test_event_without_rows_stays_until_no_sync_sends_events(shop: Shop, retl: Retl):
    """Its name is in rows, and which rows there are today is not a difference of the project."""
    retl("lock", folder=shop.folder)
    shop.sync("views", f"{SEEN} WHERE false", **EVENTS)
    assert retl("lock", "--check", folder=shop.folder).code == 0
    retl("lock", folder=shop.folder)
    assert lock_file(shop).read_text() == LOCKED
    shop.syncs = [sync for sync in shop.syncs if sync["name"] != "views"]
    shop.write()
    assert retl("lock", "--check", folder=shop.folder).out.splitlines() == [
        'event "seen": in braze.lock.yml, but no sync sends it',
        'property "page" of event "seen": in braze.lock.yml, but no sync sends it',
    ]


def track(braze: Sandbox, **arrays: object) -> None:
    import requests

    answer = requests.post(f"{braze.url}/users/track", json=arrays, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 201


@pytest.mark.long
def test_from_braze_reads_all_pages_and_says_what_braze_would_not_keep(shop: Shop, retl: Retl):
    track(
        shop.braze,
        attributes=[{"external_id": "u1", "orders": "many", "Tier": "x", **{f"a{n:03}": 1 for n in range(120)}}],
    )
    track(shop.braze, events=[{"external_id": "u1", "name": "App Open", "time": "2026-01-01T00:00:00Z"}])
    retl("lock", folder=shop.folder)
    found = retl("lock", "--from-braze", "--check", folder=shop.folder)
    assert (found.code, lock_file(shop).read_text()) == (1, LOCKED)
    why = "values of another type are converted or dropped without an error"
    clash = f'attribute "orders": string in Braze, and number here (sync people): {why}'
    difference, *clashes = found.out.splitlines()
    assert difference.startswith(
        'braze: what the workspace has is not what braze.lock.yml says: + attribute "Tier" (string), '
    )
    assert difference.endswith(', + event "App Open"')
    assert clashes == [clash]  # "tier" beside "Tier" has been reviewed: it is in the file
    (requests := shop.braze.requests())
    assert [(one.path, one.query) for one in requests[2:]] == [
        ("/custom_attributes", ""),
        ("/custom_attributes", "cursor=c2tpcDo1MA%3D%3D"),
        ("/custom_attributes", "cursor=c2tpcDoxMDA%3D"),
        ("/events/list", "page=0"),
        ("/events/list", "page=1"),
    ]
    assert retl("lock", "--from-braze", folder=shop.folder).code == 0
    written = yaml.safe_load(lock_file(shop).read_text())
    assert (len(written["braze"]["attributes"]), written["braze"]["events"]) == (122, ["App Open"])
    assert retl("plan", "people", folder=shop.folder).err.count(clash) == 1
    checked = retl("lock", "--check", folder=shop.folder)  # without network: as the file has it
    assert (checked.code, checked.out.splitlines()) == (1, [clash])
    lock_file(shop).write_text(lock_file(shop).read_text().replace("  tier: string\n", "", 1))
    assert retl("lock", "--check", folder=shop.folder).out.splitlines() == [
        'attribute "tier": new, string (sync people)',
        clash,
        'attribute "tier": almost the name of "Tier" in Braze (sync people)',
    ]


def served(shop: Shop, path: str, body: object, **headers: str) -> None:
    """What Braze answers at a path from now on."""
    shop.braze.add_fault(Fault("status", status=200, path=path, body=json.dumps(body), headers=headers, times=None))


def test_blocked_attribute_is_said_and_events_may_be_forbidden(shop: Shop, retl: Retl):
    attributes = [
        {"name": "tier", "data_type": "String", "status": "Blocklisted"},
        {"name": "odd\n", "data_type": None},
    ]
    served(shop, "/custom_attributes", {"attributes": [*attributes, {"name": "day", "data_type": "Time"}, 7]})
    shop.braze.add_fault(Fault("status", status=403, path="/events/list", times=None))
    found = retl("lock", "--from-braze", folder=shop.folder)
    said = 'attribute "tier": blocked in Braze, which accepts its values and does not keep them (sync people)'
    assert (found.code, found.out.splitlines()[-1]) == (0, said)
    assert found.err == (
        "without the events of the workspace: the API key may not list them (permission events.list)\n"
        "wrote braze.lock.yml: 6 names\n"
    )
    assert (
        lock_file(shop).read_text()
        == LOCKED + "braze:\n  attributes:\n    day: time\n    tier: string\n  blocked:\n  - tier\n"
    )
    assert retl("lock", "--check", folder=shop.folder).out == f"{said}\n"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            Fault("status", status=403),
            "/custom_attributes: Braze returned 403\n  hint: create a new API key with the permission custom_attributes.get",
        ),
        (
            Fault("status", status=429),
            "/custom_attributes: Braze returned 429\n  hint: try again after the full hour: Braze allows 1,000",
        ),
        (
            Fault("status", status=200, body="[]"),
            "/custom_attributes: the response is not a list of names\n  hint: check endpoint",
        ),
        (
            Fault("status", status=200, body='{"attributes": {}}'),
            "/custom_attributes: the response is not a list of names\n  hint",
        ),
        (
            Fault(
                "status",
                status=200,
                body='{"attributes": []}',
                headers={"link": '<https://evil.example/x?cursor=x>; rel="next"'},
                times=None,
            ),
            "/custom_attributes: the pages do not end\n  hint: check endpoint",
        ),
        (Fault("drop_after"), "/custom_attributes: "),
        (
            Fault("status", status=500, path="/events/list", times=None),
            "/events/list: Braze returned 500\n  hint: try again later",
        ),
        (
            Fault("status", status=200, path="/events/list", body='{"events": 1}'),
            "/events/list: the response is not a list of names\n  hint: check endpoint",
        ),
    ],
    ids=["forbidden", "too many", "no object", "no list", "endless", "dropped", "events fail", "no list of events"],
)
def test_braze_that_does_not_list_its_names_changes_no_file(shop: Shop, retl: Retl, fault: Fault, says: str):
    """Whatever address a page of it leads to, the API key goes to the endpoint alone."""
    retl("lock", folder=shop.folder)
    shop.braze.add_fault(fault)
    failed = retl("lock", "--from-braze", folder=shop.folder)
    assert (failed.code, failed.out, lock_file(shop).read_text()) == (2, "", LOCKED)
    assert failed.err.startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a", "braze.lock.yml: must be a mapping\n"),
        ("", "braze.lock.yml: must be a mapping\n"),
        ("version: 1\nattributes: {a: {{", "braze.lock.yml:2:19: invalid YAML: "),
        ("version: 1\nattributes:\n  tier: strnig\n", "braze.lock.yml:3:9: "),
        (
            "version: 1\nattribute: {}\n",
            'braze.lock.yml:2:1: unknown key "attribute"\n  hint: did you mean "attributes"?\n',
        ),
        ("version: 2\n", "braze.lock.yml:1:10: "),
        (
            "version: 1\nattributes:\n  no: string\n",
            'braze.lock.yml:3:3: key "no" must be a string\n  hint: put it in quotes: "no"\n',
        ),
        (
            "version: 1\nattributes:\n  a: string\n  a: number\n",
            'braze.lock.yml:4:3: duplicate key "a", first defined on line 3\n',
        ),
        ('version: 1\nattributes:\n  "a\\e[31m": string\n', "braze.lock.yml:3:3: control characters in a string\n"),
        ("version: 1\nattributes: !!python/object/apply:os.system [ls]\n", "braze.lock.yml:2:13: invalid YAML: "),
        ("a: &a [x, x]\nb: &b [*a, *a]\nversion: 1\nevents: [*b]\n", "braze.lock.yml:1:1: unknown key"),
    ],
)
@pytest.mark.sampled(6)
def test_lock_that_is_not_valid_is_said_with_its_line_and_stops_no_sync(shop: Shop, retl: Retl, text: str, says: str):
    lock_file(shop).write_text(text)
    for command in (["lock", "--check"], ["lock"], ["plan", "people"]):
        failed = retl(*command, folder=shop.folder)
        assert (failed.code, failed.err[: len(says)], lock_file(shop).read_text()) == (2, says, text)
        assert "\x1b" not in failed.err
    assert retl("sync", "people", folder=shop.folder).code == 0


def test_lock_is_read_and_written_through_no_link(shop: Shop, retl: Retl):
    outside = shop.folder.parent / "outside.yml"
    outside.write_text(LOCKED)
    lock_file(shop).symlink_to(outside)
    assert "this is a symbolic link to" in retl("lock", "--check", folder=shop.folder).err
    assert retl("lock", folder=shop.folder).code == 2
    assert outside.read_text() == LOCKED


def test_models_that_cannot_be_locked_are_said_and_nothing_is_written(shop: Shop, retl: Retl):
    shop.sync("broken", "SELECT 'u1' AS external_id, oops")
    shop.sync("clash", "SELECT 'u1' AS external_id, 5 AS tier")
    shop.sync("many", "SELECT 'u1' AS external_id, 'e' || i AS name, now() AS time FROM range(2000) AS t(i)", **EVENTS)
    shop.sync("blank", "SELECT 'u1' AS external_id, chr(10) AS name, now() AS time", **EVENTS)
    shop.sync("odd", 'SELECT 1 AS external_id, 2 AS "a\nb"')
    failed = retl("lock", folder=shop.folder)
    assert failed.code == 2
    assert [line.split(": ")[0] for line in failed.err.splitlines() if not line.startswith("  hint")] == [
        "models/broken.sql:1",
        "models/clash.sql",
        "models/many.sql",
        "models/blank.sql",
        "models/odd.sql",
    ]
    assert not lock_file(shop).exists()


@pytest.mark.long
def test_names_that_are_almost_the_same_are_no_warning_once_they_are_in_the_lock(shop: Shop, retl: Retl):
    shop.sync("people", f"{PEOPLE}, 'Ada' AS firstName")
    assert "almost the same name" in retl("plan", "people", folder=shop.folder).err
    retl("lock", folder=shop.folder)
    assert "almost the same name" not in retl("sync", "people", folder=shop.folder).err
    lock_file(shop).write_text("broken")
    assert "almost the same name" in retl("sync", "people", "--full-refresh", "--yes", folder=shop.folder).err
