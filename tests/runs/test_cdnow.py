"""Real input, and time that passes: purchases of real customers, synced as of each month's end."""

import shutil
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.delivery.session import open_session
from reverse_etl.project.project import load_project
from reverse_etl.runs.outcome import Options, RunResult
from reverse_etl.runs.run import jobs_of
from reverse_etl.runs.sequence import run_jobs
from reverse_etl.sandbox import Sandbox
from tests.shop import DATA, KEY, Silent, database, some

FILE = DATA / "cdnow" / "CDNOW_sample.txt"
MONTHS = [date(1997, month, 30 if month in (6, 9, 11) else 31) for month in range(6, 13)] + [
    date(1998, month, {2: 28, 4: 30, 6: 30}.get(month, 31)) for month in range(1, 7)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The project, its warehouse filled from the text file: columns of fixed width, one order a line."""
    folder = tmp_path / "cdnow"
    shutil.copytree(Path(__file__).parents[1] / "projects" / "cdnow", folder)
    with database(folder / "warehouse.duckdb") as connection:
        connection.execute(
            f"""CREATE TABLE cdnow AS
            SELECT parts[2] AS customer, strptime(parts[3], '%Y%m%d')::DATE AS ordered_on,
                parts[4]::INTEGER AS cds, parts[5]::DECIMAL(10, 2) AS dollars
            FROM (SELECT regexp_split_to_array(trim(line), '\\s+') AS parts
                FROM read_csv('{FILE}', columns = {{'line': 'VARCHAR'}}, delim = '|', header = false))"""
        )
        assert connection.execute("SELECT count(*), count(DISTINCT customer) FROM cdnow").fetchone() == (6919, 2357)
    return folder


def synced(folder: Path, url: str, as_of: date) -> list[RunResult]:
    environ = {"BRAZE_REST_ENDPOINT": url, "BRAZE_API_KEY": KEY}
    project = load_project(folder, cli_vars={"as_of": as_of.isoformat()}, environ=environ)
    with open_session(project) as session:
        return list(run_jobs(jobs_of(project, project.spec.syncs, Options(threads=4), Silent()), session))


def customers(folder: Path, as_of: date) -> dict[str, dict[str, Any]]:
    """What each customer's profile is to hold on that day, by a query of its own."""
    with database(folder / "warehouse.duckdb", "READ_ONLY") as connection:
        rows = connection.execute(
            """SELECT customer, count(*), sum(cds), sum(dollars), min(ordered_on), max(ordered_on)
            FROM cdnow WHERE ordered_on <= ? GROUP BY customer""",
            [as_of],
        ).fetchall()
    names = ("orders", "cds", "dollars", "first_order", "last_order")
    return {
        customer: {n: v.isoformat() if isinstance(v, date) else v for n, v in zip(names, values, strict=True)}
        for customer, *values in rows
    }


def changed_cells(ledger: Path) -> tuple[int, int]:
    """How many cells the lines of a ledger say have changed, and the bytes of the files with these."""
    cells = size = 0
    for file in ledger.glob("*.parquet"):
        if not file.name.endswith(".requests.parquet"):
            found = duckdb.execute("SELECT count(*) FROM read_parquet(?) WHERE kind = 'changed'", [str(file)])
            (changed,) = found.fetchall()[0]
            cells += changed
            size += file.stat().st_size if changed else 0
    return cells, size


@pytest.mark.long
def test_thirteen_months_of_real_purchases_arrive_once_and_cost_what_changed(folder: Path):
    with Sandbox() as braze:
        expected_writes, before = 0, dict[str, dict[str, Any]]()
        for month in some(MONTHS, every=3):  # the last one among them
            results = synced(folder, braze.url, month)
            assert [result.status for result in results] == ["success", "success"]
            now = customers(folder, month)
            expected_writes += sum(
                now[customer][name] != before.get(customer, {}).get(name) for customer in now for name in now[customer]
            )
            before = now
        assert [result.delivery.requests for result in synced(folder, braze.url, MONTHS[-1]) if result.delivery] == [
            0,
            0,
        ]

        cells, size = changed_cells(folder / ".retl" / "test" / "customers" / "ledger")
        assert cells > 1_000
        assert size / cells <= 12

        profiles = {profile["external_id"]: profile["custom_attributes"] for profile in braze.profiles()}
        assert profiles == customers(folder, MONTHS[-1])
        assert braze.counts()["attributes_written"] == expected_writes

        with database(folder / "warehouse.duckdb", "READ_ONLY") as connection:
            orders = connection.execute("SELECT customer, dollars, strftime(ordered_on, '%Y-%m-%d'), cds FROM cdnow")
            wanted = Counter(orders.fetchall())
        arrived = Counter(
            (p["external_id"], Decimal(str(p["price"])), p["time"][:10], p["properties"]["cds"])
            for p in braze.purchases()
        )
        assert arrived == wanted
        assert arrived.total() == 6919
