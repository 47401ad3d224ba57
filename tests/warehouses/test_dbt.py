"""dbt-postgres builds, and retl sends what changed in it: make test-dbt."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.shop import Shop
from tests.warehouses.servers import PostgresServer

DBT = os.environ.get("RETL_DBT", "")
PROJECT = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\nseed-paths: [seeds]\n",
    "models/customers.sql": """select id as external_id, name, points, t.tier
from {{ source('app', 'people') }} join {{ ref('tiers') }} as t using (tier_id)""",
    "models/schema.yml": "version: 2\nsources: [{name: app, schema: app, tables: [{name: people}]}]\n",
    "seeds/tiers.csv": "tier_id,tier\n1,gold\n2,basic\n",
}
PROFILE = """shop:
  target: dev
  outputs:
    dev: {{type: postgres, host: 127.0.0.1, port: {port}, user: owner, password: "{{{{ env_var('DBT_PASSWORD') }}}}", dbname: postgres, schema: marts, threads: 1}}
"""


@pytest.fixture
def dbt(server: PostgresServer, pg: Shop) -> Path:
    """A dbt project beside the shop."""
    folder = pg.folder.parent / "dbt"
    for name, text in {**PROJECT, "profiles.yml": PROFILE.format(port=server.port)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    server.sql(
        "DROP SCHEMA IF EXISTS app CASCADE", "DROP SCHEMA IF EXISTS marts CASCADE", "CREATE SCHEMA app", "CREATE SCHEMA marts",
        "CREATE TABLE app.people AS SELECT 'c' || i AS id, 'n' || i AS name, i AS points, i % 2 + 1 AS tier_id FROM generate_series(1, 4) i",
        "GRANT USAGE ON SCHEMA app, marts TO reader", "GRANT SELECT ON app.people TO reader",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA marts GRANT SELECT ON TABLES TO reader",
    )  # fmt: skip
    return folder


def build(folder: Path, password: str) -> None:
    environ = {
        **os.environ,
        "DBT_PASSWORD": password,
        "DBT_PROFILES_DIR": str(folder),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    done = subprocess.run(
        [DBT, "build", "--project-dir", folder], cwd=folder, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-600:]


@pytest.mark.dbt
@pytest.mark.skipif(not DBT, reason="make test-dbt installs dbt")
def test_what_dbt_postgres_has_built_is_synced(dbt: Path, server: PostgresServer, pg: Shop):
    build(dbt, server.password)
    pg.more = {"dbt": {"project_dir": "../dbt"}}
    pg.sync(
        "it",
        "SELECT c.*, p.points > 2 AS is_regular FROM {{ ref('customers') }} c JOIN {{ source('app', 'people') }} p ON p.id = c.external_id",
    )
    pg.sync("levels", "SELECT tier AS external_id, tier_id FROM {{ ref('tiers') }}")
    first, tiers = pg.run("it"), pg.run("levels")
    assert [*first.errors, *tiers.errors] == []
    assert (first.plan.to_send, tiers.plan.to_send) == (4, 2)
    assert "app" in (pg.folder / "target/compiled/it.sql").read_text()
    server.sql("UPDATE app.people SET points = 9 WHERE id = 'c1'")
    build(dbt, server.password)
    assert pg.run("it").plan.to_send == 1
    ((user,),) = json.loads(pg.sent()[-1]).values()
    assert user == {"external_id": "c1", "points": 9, "is_regular": True}


def test_manifest_of_another_adapter_is_refused(pg: Shop):
    (pg.folder / "target").mkdir(exist_ok=True)
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "adapter_type": "duckdb"}
    pg.more = {"dbt": {"project_dir": "."}}
    (pg.folder / "target/manifest.json").write_text(json.dumps({"metadata": metadata, "nodes": {}, "sources": {}}))
    pg.sync("it", "SELECT * FROM {{ ref('customers') }}")
    (problem,) = pg.run().errors
    assert str(problem) == (
        "syncs.yml:17:1: target/manifest.json belongs to a dbt project on duckdb, but the warehouse is Postgres\n"
        "  hint: only projects built with dbt-postgres can be read"
    )
