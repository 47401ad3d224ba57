"""What clients that others wrote make of the sandbox: the documented answers, to the word."""

import os
import re
import select
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from clients.environments import CLIENTS, MissingError, run
from reverse_etl.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
NOW = 1_670_500_000.0  # 2022-12-08T11:46:40Z: two days after the latest event of Braze's examples
KEY = {"Authorization": "Bearer sandbox"}
SUCCESS = {"message": "success"}
NO_IDENTIFIER = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."
RESTAURANTS = {
    "name": "restaurants",
    "description": "My Restaurants",
    "fields": [{"name": "id", "type": "string"}, {"name": "City", "type": "string"}],
}


@pytest.fixture
def braze():
    """A sandbox with 120 restaurants in a catalog."""
    with Sandbox(clock=lambda: NOW) as sandbox:
        requests.post(f"{sandbox.url}/catalogs", json={"catalogs": [RESTAURANTS]}, headers=KEY)
        for first in (0, 40, 80):
            items = [{"id": f"restaurant{n}", "City": "Seoul"} for n in range(first, first + 40)]
            requests.post(f"{sandbox.url}/catalogs/restaurants/items", json={"items": items}, headers=KEY)
        yield sandbox


def answers_of(name: str, braze: Sandbox) -> dict[str, Any]:
    try:
        return run(CLIENTS[name], braze.url, "sandbox")
    except MissingError as missing:
        pytest.fail(str(missing), pytrace=False)


def processed(**counts: int) -> dict[str, Any]:
    return {**SUCCESS, **{f"{array}_processed": count for array, count in counts.items()}}


def refused(array: str, index: int, text: str) -> dict[str, Any]:
    return {"type": text, "input_array": array, "index": index}


def group(id: str, status: str) -> dict[str, str]:
    return {"id": id, "name": id, "channel": "email", "status": status}


def test_braze_api_of_npm_gets_the_documented_answers(braze):
    answers = answers_of("braze-api", braze)
    assert answers == {
        "users.track": processed(attributes=1, events=2, purchases=1),
        "users.track, by phone": processed(attributes=1),
        "users.track, subscription groups": processed(attributes=1),
        "users.track, alias-only": processed(attributes=1),
        "users.track, bulk": processed(attributes=1),
        "users.track, one bad event": {**processed(events=1), "errors": [refused("events", 1, "'time' is required")]},
        "users.track, nothing valid": {
            "error": NOTHING_VALID,
            "status": 400,
            "errors": [refused("attributes", 0, NO_IDENTIFIER)],
        },
        "users.alias.new": {"aliases_processed": 1, **SUCCESS},
        "users.alias.update": SUCCESS,
        "users.identify": {"aliases_processed": 1, **SUCCESS},
        "users.merge": SUCCESS,
        "users.external_ids.rename": {
            **SUCCESS,
            "external_ids": ["new_external_id"],
            "rename_errors": [[1, "'current_external_id' is not the primary id of a user"]],
        },
        "users.external_ids.remove": {**SUCCESS, "removed_ids": ["external_identifier"], "removal_errors": []},
        "subscription.status.set": SUCCESS,
        "v2.subscription.status.set": SUCCESS,
        "subscription.status.get": {
            "status": {"user_identifier": "Unsubscribed", "new_external_id": "Subscribed"},
            **SUCCESS,
        },
        "subscription.user.status": {
            "users": [
                {
                    "email": "example@email.com",
                    "phone": None,
                    "external_id": "user_identifier",
                    "subscription_groups": [
                        group("11111111-1111-4111-8111-111111111111", "Unsubscribed"),
                        group("22222222-2222-4222-8222-222222222222", "Subscribed"),
                        group("subscription_group_identifier", "Unsubscribed"),
                    ],
                }
            ],
            "total_count": 1,
            **SUCCESS,
        },
        "users.export.ids": {
            **SUCCESS,
            "users": [
                {
                    "external_id": "user_identifier",
                    "user_aliases": [{"alias_name": "example_new_alias", "alias_label": "old_label"}],
                    "email": "example@email.com",
                    "email_subscribe": "subscribed",
                    "custom_attributes": {"color": "red"},
                    "custom_events": [
                        {
                            "name": "rented_movie",
                            "first": "2022-12-06T18:20:45.000Z",
                            "last": "2022-12-06T18:20:45.000Z",
                            "count": 1,
                        }
                    ],
                }
            ],
            "invalid_user_ids": ["unknown"],
        },
        "users.export.ids, by e-mail": {
            **SUCCESS,
            "users": [
                {
                    "custom_attributes": {
                        "string_attribute": "fruit",
                        "boolean_attribute_1": True,
                        "integer_attribute": 26,
                        "array_attribute": ["banana", "apple"],
                    },
                    "custom_events": [
                        {
                            "name": "rented_movie",
                            "first": "2022-12-06T18:20:45.000Z",
                            "last": "2022-12-06T18:20:45.000Z",
                            "count": 1,
                        }
                    ],
                    "total_revenue": 72.72,
                }
            ],
        },
        "users.delete": {"deleted": 2, **SUCCESS},
        "catalogs.synchronous.list": {
            "catalogs": [{**RESTAURANTS, "num_items": 120, "updated_at": "2022-12-08T11:46:40.000+00:00"}],
            **SUCCESS,
        },
        "catalogs.synchronous.item": {"items": [{"id": "restaurant7", "City": "Seoul"}], **SUCCESS},
        "catalogs.synchronous.item, unknown": {
            "error": "Invalid Request",
            "status": 404,
            "errors": [
                {
                    "id": "item-not-found",
                    "message": "Could not find item",
                    "parameters": ["item_id"],
                    "parameter_values": ["restaurant34x"],
                }
            ],
        },
        "catalogs.synchronous.items": [f"restaurant{n}" for n in range(120)],
        "wrong key": {"error": "Invalid API key: wrong-key", "status": 401, "errors": None},
        "messages.send": {"error": "Not Found", "status": 404, "errors": None},
    }


def test_braze_client_sdk_prints_what_its_readme_prints(braze):
    assert answers_of("braze-client-sdk", braze) == {
        "users.track": {"attributes_processed": 1, "message": "success"},  # its README
        "users.delete": {"deleted": 1, "message": "success"},  # its README
        "users.export.ids": {**SUCCESS, "users": [{"external_id": "hello-world", "first_name": "Hello world"}]},
        "users.alias.new": {"aliases_processed": 1, **SUCCESS},
        "users.alias.update": SUCCESS,
        "users.identify": {"aliases_processed": 1, **SUCCESS},
        "users.merge": SUCCESS,
    }
    assert [user.get("external_id") for user in braze.profiles()] == ["external_identifier"]


def test_braze_client_finds_success_and_errors_where_it_looks(braze):
    sent = {"events_processed": 0, "purchases_processed": 0, "status_code": 201}
    assert answers_of("braze-client", braze) == {
        "user_track": {**SUCCESS, "attributes_processed": 1, "errors": [], "success": True, **sent},
        "user_export": {
            **SUCCESS,
            "users": [{"first_name": "First name", "custom_attributes": {"status": "Active"}}],
            "errors": [],
            "success": True,
            "status_code": 201,
        },
        "user_export, by e-mail": {
            **SUCCESS,
            "users": [{"external_id": "1"}],
            "errors": [],
            "success": True,
            "status_code": 201,
        },
        "user_track, one bad": {
            **SUCCESS,
            "attributes_processed": 1,
            "errors": [refused("attributes", 1, NO_IDENTIFIER)],
            "success": False,
            **sent,
        },
        "user_track, all bad": {
            "raised": "BrazeClientError",
            "arguments": [NOTHING_VALID, [refused("attributes", 0, NO_IDENTIFIER)]],
        },
        "user_delete": {**SUCCESS, "deleted": 1, "errors": [], "success": True, "status_code": 201},
        "wrong key": {"raised": "BrazeClientError", "arguments": ["Invalid API key: wrong-key", []]},
    }
    assert list(braze.profiles()) == []


def test_edx_braze_client_makes_identifies_and_finds_users(braze):
    answers = answers_of("edx-braze-client", braze)
    recipients = answers.pop("create_recipients")
    assert {email: one["external_user_id"] for email, one in recipients.items()} == {
        "hamzah@example.com": "123",
        "alex@example.com": "231",
    }
    assert answers == {
        "create_braze_alias": None,
        "track_user": None,
        "get_braze_external_id": "123",
        "get_braze_external_id, unknown": None,
        "get_braze_external_id_batch": {"hamzah@example.com": "123", "alex@example.com": "231"},
        "identify_users": {"aliases_processed": 1, **SUCCESS},
        "track_user, all bad": {
            "raised": "BrazeBadRequestError",
            "text": f'{{"message":"{NOTHING_VALID}",'
            f'"errors":[{{"type":"{NO_IDENTIFIER}","input_array":"attributes","index":0}}]}}',
        },
        "unsubscribe_user_email": {"raised": "BrazeNotFoundError", "text": '{"message":"Not Found"}'},
        "wrong key": {"raised": "BrazeUnauthorizedError", "text": '{"message":"Invalid API key: wrong-key"}'},
    }
    found = {user["email"]: user["external_id"] for user in braze.profiles()}
    assert found == {"hamzah@example.com": "123", "alex@example.com": "231"}
    assert [event["name"] for event in braze.events(external_id="123")] == ["enrolled"]


@pytest.fixture
def full():
    """A sandbox with nothing left of any rate limit."""
    families = ("users_track", "users", "users_export_ids", "subscription_status_set", "general", "catalogs")
    with Sandbox(limits={family: [(0, 60)] for family in families}, clock=lambda: NOW) as sandbox:
        yield sandbox
        assert sandbox.counts()["users"] == 0


def test_rate_limit_is_an_error_of_braze_api(full):
    answers = answers_of("braze-api", full)
    names = ("users.track", "users.delete", "subscription.status.get", "catalogs.synchronous.list")
    refusal = {"error": "Too Many Requests", "status": 429, "errors": None}
    assert {name: answers[name] for name in names} == dict.fromkeys(names, refusal)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("edx-braze-client", "braze.exceptions.BrazeRateLimitError"),
        ("braze-client", "braze.client.BrazeRateLimitError"),
        ("braze-client-sdk", "429 Client Error: Too Many Requests for url"),
    ],
)
def test_rate_limit_is_an_error_of_python_clients(full, name, error):
    with pytest.raises(RuntimeError, match=error):
        answers_of(name, full)


def test_example_for_node_in_the_docs_starts_a_sandbox_that_ends_with_it(tmp_path: Path):
    (example,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "sandbox.md").read_text(), re.DOTALL)
    use = """
        const headers = { Authorization: `Bearer ${braze.keys[0]}`, "Content-Type": "application/json" };
        const body = JSON.stringify({ attributes: [{ external_id: "n1", plan: "pro" }] });
        const answer = await fetch(`${process.env.BRAZE_REST_ENDPOINT}/users/track`, { method: "POST", headers, body });
        console.log(answer.status, await answer.text());
        console.log(braze.pid);
        process.exit(0);
    """
    (tmp_path / "tests.mjs").write_text(example + use)
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["node", "tests.mjs"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
    answer, _, pid = done.stdout.strip().rpartition("\n")
    assert (done.returncode, answer, done.stderr) == (0, '201 {"message":"success","attributes_processed":1}', "")
    with suppress(ProcessLookupError):  # it has ended already
        sandbox = os.pidfd_open(int(pid))
        with closing(os.fdopen(sandbox, "rb")):
            assert select.select([sandbox], [], [], 60)[0], "the sandbox outlived what started it"
