"""Servers for all tests of this folder, each started once, and a shop on them."""

from collections.abc import Iterator

import pytest

from tests.shop import Shop
from tests.warehouses.servers import POSTGRES, PostgresServer, binaries, free_port, postgres


@pytest.fixture(scope="session", params=POSTGRES)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    if binaries(request.param) is None:
        pytest.skip(f"{POSTGRES[request.param]} is not installed")
    with postgres(request.param, free_port()) as started:
        yield started


@pytest.fixture
def pg(server: PostgresServer, shop: Shop) -> Shop:
    """A shop whose models run in Postgres."""
    return on_postgres(server, shop)


def on_postgres(server: PostgresServer, shop: Shop) -> Shop:
    shop.engine = {"type": "postgres", "uri": "{{ env_var('WAREHOUSE_URI') }}"}
    shop.environ["WAREHOUSE_URI"] = server.uri("reader")
    shop.write()
    return shop
