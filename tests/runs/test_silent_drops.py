"""What the sandbox accepts and does not store as sent, as Braze would without a word: a run says so when it ends."""

import json
from typing import Any

import pytest
import requests

from reverse_etl.braze.workspace import Workspace
from reverse_etl.delivery.silent_drops import SilentDrop, silent_drops
from reverse_etl.sandbox import Sandbox
from tests.shop import Retl, Shop

RETYPED = "type string, but the attribute's type is number"
ABOUT_N = {"column": "n", "reason": RETYPED, "count": 2}


def artifact(shop: Shop) -> list[dict[str, Any]]:
    results = json.loads((shop.folder / "target" / "run_results.json").read_text())["results"]
    return [result["silent_drops"] for result in results]


@pytest.mark.long
def test_run_ends_with_what_the_sandbox_dropped_in_it_by_column_and_reason(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n, i AS s FROM range(2) r(i)")
    assert retl("sync", "it", folder=shop.folder).code == 0
    assert artifact(shop) == [[]]
    shop.sync("it", "SELECT 'u' || i AS external_id, 'n' || i AS n, CAST(i + 1 AS VARCHAR) AS s FROM range(2) r(i)")
    outcome = retl("sync", "it", "--accept-schema-change", folder=shop.folder)
    assert outcome.code == 0
    assert outcome.err.splitlines()[-3:] == [
        "  accepted, not stored as sent  column  reason",
        "  2                             n       type string, but the attribute's type is number",
        "  2                             s       string stored as number, the attribute's type",
    ]
    drops = [ABOUT_N, {"column": "s", "reason": "string stored as number, the attribute's type", "count": 2}]
    assert artifact(shop) == [drops]
    again = retl("sync", "it", "--full-refresh", "--yes", "--output", "json", folder=shop.folder)
    assert json.loads(again.out)[0]["silent_drops"] == drops
    nothing = retl("sync", "it", folder=shop.folder)
    assert "accepted, not stored" not in nothing.err
    assert artifact(shop) == [[]]


def test_keys_of_json_are_data_and_not_named(braze: Sandbox):
    event = {"external_id": "u1", "name": "seen", "time": "2026-11-23T08:15:00Z"}
    events = [{**event, "properties": {"$ann@example.com": 1, "$of_ann": 2, "page": "x" * 256}}]
    unknown = [{"braze_id": "b1", "n": 1}]
    for body in ({"events": events}, {"events": events}, {"attributes": unknown}):
        requests.post(f"{braze.url}/users/track", json=body, headers={"Authorization": "Bearer sandbox"})
    assert silent_drops(Workspace(braze.url, ""), 1, ["/users/track"], ["page", "n"]) == [
        SilentDrop("properties", "property name is empty, too long, or starts with a dollar sign", 2),
        SilentDrop(None, "user does not exist, and is not created", 1),
        SilentDrop("page", "property has a string longer than 255 characters, an invalid $time, or 100 levels", 1),
    ]
    of_another = silent_drops(Workspace(braze.url, ""), 1, ["/users/delete", "/v2/subscription/status/set"], ["page"])
    assert of_another == []


def test_server_that_is_no_sandbox_says_nothing(braze: Sandbox):
    assert silent_drops(Workspace(f"{braze.url}/elsewhere", ""), 0, ["/users/track"], ["n"]) == []


def test_whole_rows_are_listed_as_such(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'b1' AS braze_id, 1 AS n")
    assert retl("sync", "it", folder=shop.folder).err.splitlines()[-2:] == [
        "  accepted, not stored as sent  column       reason",
        "  1                             (whole row)  user does not exist, and is not created",
    ]
