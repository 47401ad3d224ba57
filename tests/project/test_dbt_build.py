"""dbt itself beside retl, on one warehouse: dbt build, retl sync, retl exposures. `make test-dbt` runs it.

RETL_DBT names the command dbt, in an environment of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from tests.dbt_manifest import trimmed
from tests.shop import Outcome, Retl

pytestmark = pytest.mark.dbt
PROJECTS = Path(__file__).parents[1] / "projects" / "dbt"
Dbt = Callable[..., str]
# Looks at a file of exposures with the JSON Schema that dbt brings, as dbt does itself for some adapters only.
CHECK = """
import json, pathlib, sys, jsonschema, yaml, dbt.jsonschemas
schema = next(pathlib.Path(dbt.jsonschemas.JSONSCHEMAS_PATH).rglob("resources/latest.json"))
found = jsonschema.Draft7Validator(json.loads(schema.read_text())).iter_errors(yaml.safe_load(open(sys.argv[1])))
print(*(error.message for error in found), sep="\\n", end="")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dbt project, a retl project beside it, and the warehouse with what the shop's application wrote."""
    for name in ("shop", "retl"):
        shutil.copytree(PROJECTS / name, tmp_path / name, ignore=shutil.ignore_patterns("target", "logs"))
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        connection.execute((PROJECTS / "load.sql").read_text())
    return tmp_path


@pytest.fixture
def command() -> Path:
    return Path(os.environ["RETL_DBT"]).absolute()


@pytest.fixture
def dbt(folder: Path, command: Path) -> Dbt:
    """The command dbt, where a warning of any kind is an error; what it prints."""

    def run(*arguments: str) -> str:
        environ = {**os.environ, "DO_NOT_TRACK": "1"}
        line = [str(command), "--quiet", "--no-use-colors", "--warn-error", *arguments]
        done = subprocess.run(line, cwd=folder / "shop", env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done.stdout

    return run


def synced(retl: Retl, folder: Path, *names: str) -> tuple[str, list[str]]:
    """What `retl sync` says, and the bodies that it sent."""
    project = folder / "retl"
    before = bodies(retl, project)
    outcome: Outcome = retl("sync", *names, folder=project)
    assert outcome.code == 0, outcome.err
    return re.sub(r" \((\d+ min )?[\d.]+ s\)", "", outcome.out), bodies(retl, project)[len(before) :]


def bodies(retl: Retl, project: Path) -> list[str]:
    return retl("sandbox", "--last", "1000", folder=project).out.splitlines()[1::2]


def test_what_dbt_builds_is_sent_and_what_it_builds_anew_is_sent_alone(dbt: Dbt, retl: Retl, folder: Path):
    dbt("build")
    said, sent = synced(retl, folder, "customers", "orders")
    assert said == (
        "customers: success, 3 of 3 rows accepted in 1 request, 12 attributes written\n"
        "orders: success, 4 of 4 rows accepted in 1 request\n"
    )
    assert sent == [
        '{"attributes":['
        '{"external_id":"c1","email":"ada@example.com","tier":"gold","country":"DE","lifetime_value":24.90},'
        '{"external_id":"c2","email":"bo@example.com","tier":"silver","country":"KR","lifetime_value":7.50},'
        '{"external_id":"c3","email":"cy@example.com","tier":"silver","country":"DE","lifetime_value":1.25}]}',
        '{"purchases":['
        '{"external_id":"c1","product_id":"basket","currency":"EUR","price":19.90,"time":"2026-11-01T10:00:00.000Z"},'
        '{"external_id":"c1","product_id":"basket","currency":"EUR","price":5.00,"time":"2026-11-02T11:00:00.000Z"},'
        '{"external_id":"c2","product_id":"basket","currency":"EUR","price":7.50,"time":"2026-11-03T12:00:00.000Z"},'
        '{"external_id":"c3","product_id":"basket","currency":"EUR","price":1.25,"time":"2026-11-04T13:00:00.000Z"}]}',
    ]
    with duckdb.connect(folder / "warehouse.duckdb") as connection:
        connection.execute("update raw.customers set tier = 'gold' where id = 'c2'")
    assert synced(retl, folder, "customers")[1] == []  # nothing has built it yet
    dbt("build")
    said, sent = synced(retl, folder, "customers", "orders")
    assert said == (
        "customers: success, 1 of 1 row accepted in 1 request, 1 attribute written\n"
        "orders: success, nothing to send, 0 requests\n"
    )
    assert sent == ['{"attributes":[{"external_id":"c2","tier":"gold"}]}']


def test_exposures_are_part_of_the_dbt_project(dbt: Dbt, retl: Retl, folder: Path, command: Path):
    dbt("parse")
    outcome = retl("exposures", "--out", "../shop/models/retl.yml", folder=folder / "retl")
    assert (outcome.code, outcome.err) == (0, "wrote ../shop/models/retl.yml: 3 exposures\n")
    assert dbt("parse", "--show-all-deprecations") == ""
    assert dbt("ls", "--select", "+exposure:retl_customers").split() == [
        "exposure:shop.retl_customers",
        "shop.marts.customer_value.v2",
        "shop.marts.dim_customers",
        "shop.marts.fct_orders",
        "shop.staging.stg_customers",
        "shop.staging.stg_orders",
        "shop.countries",
        "source:shop.app.customers",
        "source:shop.app.orders",
    ]
    keys = ["--output", "json", "--output-keys", "name label description owner maturity tags meta depends_on"]
    assert json.loads(dbt("ls", "--select", "exposure:retl_customers", *keys)) == {
        "name": "retl_customers",
        "label": "Braze: customers",
        "description": "who a customer is, and what they are worth",
        "owner": {"name": "CRM team", "email": "crm@example.com"},
        "maturity": "low",
        "tags": ["hourly"],
        "meta": {
            "retl": {
                "sync": "customers",
                "model": "customers",
                "mode": "users_track",
                "track_record_type": "attributes",
                "target": "dev",
            }
        },
        "depends_on": {"macros": [], "nodes": ["model.shop.customer_value.v2", "model.shop.dim_customers"]},
    }
    line = [str(command.parent / "python"), "-c", CHECK, str(folder / "shop" / "models" / "retl.yml")]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == ""
    assert retl("compile", "customers", folder=folder / "retl").code == 0  # a manifest with exposures in it is read too


def test_manifest_of_the_quick_tests_is_what_dbt_writes(dbt: Dbt, folder: Path):
    """python -m tests.dbt_manifest writes it anew."""
    dbt("parse")
    written = trimmed(json.loads((folder / "shop" / "target" / "manifest.json").read_text()))
    kept = json.loads((PROJECTS / "manifest.json").read_text())
    assert {**written, "metadata": {**written["metadata"], "dbt_version": kept["metadata"]["dbt_version"]}} == kept


@pytest.fixture
def building(folder: Path, command: Path) -> Iterator[subprocess.Popen[str]]:
    """dbt in the middle of a build: it holds the warehouse until it is told to go on."""
    script = (
        "import sys; from dbt.cli.main import dbtRunner\n"
        "done = dbtRunner().invoke(['--quiet', 'build'])\n"  # dbt-duckdb keeps its connection open
        "print(done.success, flush=True); sys.stdin.readline()"
    )
    line = [str(command.parent / "python"), "-c", script]
    with subprocess.Popen(
        line, cwd=folder / "shop", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        yield process


def test_sync_waits_until_dbt_lets_go_of_the_warehouse(building: subprocess.Popen[str], retl: Retl, folder: Path):
    outcome = retl("sync", "orders", folder=folder / "retl")
    assert outcome.code == 1
    assert re.search(rf"warehouse.duckdb is locked by python\S* \(PID {building.pid}\)", outcome.err)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "reverse_etl", "sync", "orders", "--wait", "60"],
        cwd=folder / "retl",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr
    assert "which has it open for writing" in waiting.stderr.readline()
    building.communicate("\n")
    out, _ = waiting.communicate()
    assert out.startswith("orders: success, 4 of 4 rows accepted in 1 request")
