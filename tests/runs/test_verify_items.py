"""`retl verify` of items: what the catalog has of those that were sent, read one by one or page by page."""

from typing import Any

import pytest
import requests

from reverse_etl.delivery.session import open_session
from reverse_etl.errors import StateError
from reverse_etl.runs.verify import HowToVerify, Verified, verify
from reverse_etl.sandbox import Fault
from tests.shop import KEY, Shop

SQL = """SELECT 'd' || i AS id, 'drink ' || i AS title, CAST(i * 1.5 AS DECIMAL(9, 2)) AS price, i = 3 AS good,
    TIMESTAMP '2026-11-23 08:15:00' AS made_at, ['b', 'a'] AS tags, {'ml': i, 'glass': 'tall'} AS size,
    if(i = 1, NULL, 'x') AS maybe FROM range(120) r(i)"""
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def drinks(shop: Shop) -> Shop:
    shop.sync("it", SQL, mode="catalog_items", catalog="drinks", primary_key="id")
    assert shop.run(create_catalog=True).status == "success"
    return shop


def verified(shop: Shop, sample: int = 500, **more: Any) -> Verified:
    project = shop.project()
    with open_session(project) as session:
        return verify(project, project.sync("it"), session, HowToVerify(sample, 1, clock=shop.clock, **more))


def change(shop: Shop, method: str, item: dict[str, Any]) -> None:
    """Another tool changes an item."""
    body, url = {"items": [item]}, f"{shop.braze.url}/catalogs/drinks/items"
    assert requests.request(method, url, json=body, headers=HEADERS).status_code == 202


def asked(shop: Shop) -> list[str]:
    return [request.path for request in shop.braze.requests() if request.method == "GET"][2:]


def test_all_are_there_as_sent_whatever_types_they_have(drinks: Shop):
    found = verified(drinks)
    assert (found.rows, found.sampled, found.as_sent, found.not_compared) == (120, 120, 120, [])
    assert len(asked(drinks)) == 3  # pages, as the third has no next one


def test_few_of_many_are_read_one_by_one(drinks: Shop):
    found = verified(drinks, sample=2)
    assert (found.sampled, found.as_sent, len(asked(drinks))) == (2, 2, 2)


def test_what_differs_is_told_by_column_and_sent_again_by_the_next_run(drinks: Shop):
    change(drinks, "PATCH", {"id": "d7", "price": 9, "tags": ["a", "b"]})
    change(drinks, "DELETE", {"id": "d8"})
    change(drinks, "PUT", {"id": "d9", "title": "drink 9"})
    found = verified(drinks, repair=True)
    assert (found.as_sent, found.missing, found.repaired, found.about) == (117, 1, 3, "item")
    assert {(one.column, one.what): one.rows for one in found.differences} == {
        ("price", "sent a number, and Braze has another"): 1,
        ("tags", "sent an array, and Braze has another"): 1,
        (None, "is not in Braze"): 1,
        ("price", "sent a number, and Braze has none"): 1,
        ("good", "sent true or false, and Braze has none"): 1,
        ("made_at", "sent a string, and Braze has none"): 1,
        ("tags", "sent an array, and Braze has none"): 1,
        ("size", "sent an object, and Braze has none"): 1,
        ("maybe", "sent a string, and Braze has none"): 1,
    }
    assert sorted(found.first)[0] == "good of d9: sent true or false, and Braze has none"
    result = drinks.run(threads=1)
    assert (result.status, result.plan.requests) == (
        "success",
        {"PUT /catalogs/drinks/items": 1, "PATCH /catalogs/drinks/items": 1},
    )
    assert verified(drinks).as_sent == 120


def test_how_long_reading_takes_is_said_first(drinks: Shop):
    said: list[str] = []
    verified(drinks, say=said.append)
    drinks.destination = {"rate_limits": {"catalog_item": {"requests": 1, "per_seconds": 60}}}
    drinks.write()
    verified(drinks, say=said.append)
    assert said == ["reading 120 items takes 3 min 0 s, as Braze limits it"]


def test_catalog_that_cannot_be_read_is_an_error(drinks: Shop):
    drinks.braze.add_fault(Fault("status", path="/catalogs/drinks", times=None, status=403))
    with pytest.raises(StateError) as raised:
        verified(drinks)
    assert str(raised.value) == (
        "/catalogs/drinks/items: Braze returned 403\n"
        "  hint: create a new API key with the permission catalogs.get_items: permissions of an existing key cannot be "
        "changed; then run it again: nothing was changed"
    )
    drinks.braze.clear_faults()
    requests.delete(f"{drinks.braze.url}/catalogs/drinks", headers=HEADERS)
    with pytest.raises(StateError, match="Braze returned 404"):
        verified(drinks, sample=1)
