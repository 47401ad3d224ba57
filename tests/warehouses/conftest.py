"""Servers for all tests of this folder, each started once, and shops on them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

from tests.shop import Shop
from tests.warehouses.servers import POSTGRES, PostgresServer, apache_spark, binaries, free_port, postgres, sail


def _started(name: str) -> Iterator[PostgresServer]:
    if binaries(name) is None:
        pytest.skip(f"{POSTGRES[name]} is not installed")
    with postgres(name, free_port()) as started:
        yield started


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PostgresServer]:
    yield from _started("postgres-15")


@pytest.fixture(scope="session")
def postgres16() -> Iterator[PostgresServer]:
    yield from _started("postgres-16")


@pytest.fixture(scope="session")
def postgres18() -> Iterator[PostgresServer]:
    yield from _started("postgres-18")


@pytest.fixture(scope="session", params=POSTGRES)
def server(request: pytest.FixtureRequest) -> PostgresServer:
    found: PostgresServer = request.getfixturevalue(request.param.replace("-", ""))
    return found


@pytest.fixture
def pg(server: PostgresServer, shop: Shop) -> Shop:
    """A shop whose models run in Postgres."""
    shop.engine = {"type": "postgres", "uri": "{{ env_var('WAREHOUSE_URI') }}"}
    shop.environ["WAREHOUSE_URI"] = server.uri("reader")
    shop.write()
    return shop


SPARK = os.environ.get("RETL_SPARK_HOME")  # of `make test-spark`: Apache Spark takes the place of Sail


@dataclass
class Sail:
    """A server of Spark Connect: in this process, or Apache Spark."""

    address: str


@pytest.fixture(scope="session", name="sail")
def spark() -> Iterator[Sail]:
    with apache_spark(Path(SPARK), free_port()) if SPARK else sail() as address:
        yield Sail(address)


@dataclass
class Warehouse:
    """A warehouse that tables are put into, beside a shop whose models read them."""

    kind: str
    shop: Shop
    server: Any = None

    def put(self, name: str, rows: pyarrow.Table) -> str:
        """Make or replace a table; returns what models call it."""
        if self.kind == "duckdb":
            with duckdb.connect(self.shop.folder / "warehouse.duckdb") as connection:
                connection.register("given", rows)
                connection.execute(f"CREATE OR REPLACE TABLE {name} AS FROM given")
            return name
        if self.kind == "sail":
            path = self.shop.folder / "lake" / f"{name}.parquet"
            path.parent.mkdir(exist_ok=True)
            pyarrow.parquet.write_table(rows, path)
            return f"parquet.`{path}`"
        self.server.put(name, rows)
        return name


KINDS = ["duckdb", *POSTGRES, "sail"]


@pytest.fixture(params=KINDS)
def warehouse(request: pytest.FixtureRequest, shop: Shop) -> Warehouse:
    if request.param == "duckdb":
        return Warehouse("duckdb", shop)
    if request.param == "sail":
        shop.engine = {"type": "spark", "remote": request.getfixturevalue("sail").address, "diff": "local"}
        shop.write()
        return Warehouse("sail", shop)
    server = request.getfixturevalue(request.param.replace("-", ""))
    shop.engine = {"type": "postgres", "uri": "{{ env_var('WAREHOUSE_URI') }}"}
    shop.environ["WAREHOUSE_URI"] = server.uri("reader")
    shop.write()
    return Warehouse(request.param, shop, server)
