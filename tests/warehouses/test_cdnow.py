"""Real purchases, month by month: Postgres, and what is compared in Spark, lead to the requests of DuckDB."""

import json
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow
import pytest

from reverse_etl.delivery.session import open_session
from reverse_etl.project.project import load_project
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Sandbox
from tests.runs.test_cdnow import MONTHS, folder  # noqa: F401  # a fixture: the project with its DuckDB file
from tests.shop import KEY, Silent, database, edit, some
from tests.warehouses.conftest import Sail
from tests.warehouses.servers import PostgresServer

SUM = "sum(dollars) as dollars"


def records(project: Path, months: Sequence[date], **environ: str) -> list[list[str]]:
    """What is sent as of the end of each month, in the order of its text."""
    found, before = list[list[str]](), 0
    with Sandbox() as braze:
        for month in months:
            variables = {"as_of": month.isoformat()}
            given = {"BRAZE_REST_ENDPOINT": braze.url, "BRAZE_API_KEY": KEY, **environ}
            loaded = load_project(project, cli_vars=variables, environ=given)
            with open_session(loaded) as session:
                results = run_jobs(jobs_of(loaded, loaded.spec.syncs, Options(threads=1), Silent()), session)
                assert [result.errors for result in results] == [[], []]
            bodies = [request.body for request in braze.requests()]
            parts = [{name: one} for body in bodies[before:] for name, ones in json.loads(body).items() for one in ones]
            found.append(sorted(json.dumps(part, sort_keys=True) for part in parts))
            before = len(bodies)
    return found


@pytest.mark.long
def test_months_of_purchases_lead_to_the_requests_of_duckdb(server: PostgresServer, folder: Path):  # noqa: F811
    edit(folder / "models/customers.sql", SUM, "cast(sum(dollars) as numeric(38, 2)) as dollars")
    other = folder.parent / "postgres"
    shutil.copytree(folder, other)
    with database(folder / "warehouse.duckdb", "READ_ONLY") as connection:
        rows: pyarrow.Table = connection.sql("FROM cdnow").to_arrow_table()
    whole = rows.set_column(3, "dollars", rows["dollars"].cast(pyarrow.float64()))  # what the driver can load
    server.put("cdnow_floats", whole)
    server.sql(
        "DROP TABLE IF EXISTS cdnow",
        "CREATE TABLE cdnow AS SELECT customer, ordered_on, cds, dollars::numeric(10, 2) AS dollars FROM cdnow_floats",
        "GRANT SELECT ON cdnow TO reader",
    )
    edit(
        other / "syncs.yml", "{type: duckdb, path: warehouse.duckdb}", "{type: postgres, uri: \"{{ env_var('URI') }}\"}"
    )
    months = MONTHS if server.name == "postgres-18" else some(MONTHS, every=4)  # the last one among them
    expected = records(folder, months)
    assert records(other, months, URI=server.uri("reader")) == expected
    assert sum('"purchases"' in record for month in expected for record in month) == 6919


@pytest.mark.long
def test_months_of_purchases_that_are_compared_in_spark_lead_to_the_requests_of_duckdb(
    lasting: Sail,
    schema: str,
    folder: Path,  # noqa: F811
):
    edit(folder / "models/customers.sql", SUM, "cast(sum(dollars) as decimal(38, 2)) as dollars")
    other, file = folder.parent / "spark", folder.parent / "cdnow.parquet"
    shutil.copytree(folder, other)
    with database(folder / "warehouse.duckdb", "READ_ONLY") as connection:
        connection.execute(f"COPY cdnow TO '{file}' (FORMAT parquet)")
    engine = f"{{type: spark, remote: '{lasting.address}', diff: engine, state_schema: {schema}}}"
    edit(other / "syncs.yml", "{type: duckdb, path: warehouse.duckdb}", engine)
    edit(other / "models/orders.sql", "from cdnow", f"from parquet.`{file}`")
    months = some(MONTHS, every=4)
    assert records(other, months) == records(folder, months)
