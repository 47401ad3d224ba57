"""Users as Braze has them now, read over the real HTTP of the sandbox."""

import json
from typing import Any

import requests

from reverse_etl.braze.subscriptions import Read
from reverse_etl.delivery.reading import HowToRead, read_users
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import open_session
from tests.shop import KEY, Shop

ALIAS = {"alias_name": "a1", "alias_label": "cookie"}


def test_each_is_beside_the_users_that_braze_has_for_them(shop: Shop):
    attributes = [
        {"external_id": "u1", "plan": "gold"},
        {"user_alias": ALIAS, "_update_existing_only": False, "plan": "trial"},
        *({"external_id": user, "email": "ann@example.com", "plan": user} for user in ("u2", "u3")),
    ]
    body: dict[str, Any] = {"attributes": attributes}
    said = requests.post(f"{shop.braze.url}/users/track", json=body, headers={"Authorization": f"Bearer {KEY}"})
    assert said.json()["message"] == "success"
    people = [json.dumps(one) for one in ({"email": "Ann@example.com"}, {"external_id": "u1"}, ALIAS)]
    nobody = json.dumps({"external_id": "nobody"})
    with open_session(shop.project()) as session:
        how = HowToRead(4, shop.clock, RetryPolicy())
        found = read_users(session, Read.STATES, [*people, nobody], ("custom_attributes",), how)
    plans = {person: [user["custom_attributes"]["plan"] for user in users] for person, users in found.items()}
    assert plans == dict(zip([*people, nobody], [["u2", "u3"], ["gold"], ["trial"], []], strict=True))
