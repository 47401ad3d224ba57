"""Warehouses that DuckDB attaches with an extension: lakes, SQLite, and files in a bucket."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from reverse_etl.engines.duckdb.engine import DuckDBEngine
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.plan.workbench import connect
from reverse_etl.project.project import load_project
from tests.bucket import SECRET, Bucket
from tests.shop import EVENTS, Retl, Shop

USERS = "SELECT external_id, tier, n FROM users"
ROWS = "SELECT 'u' || i AS external_id, 'basic' AS tier, i AS n FROM range(3) r(i)"

Writes = Callable[[str], None]


def lake(shop: Shop, address: str) -> Writes:
    """A lake with its files beside its catalog, and what writes to it."""
    begins, _, file = address.rpartition(":")
    absolute = f"{begins}:{shop.folder / file}"

    def write(sql: str) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"LOAD ducklake; ATTACH '{absolute}' AS it (DATA_PATH '{shop.folder}/files'); USE it")
            connection.execute(sql)

    return write


def sqlite(shop: Shop, address: str) -> Writes:
    file = shop.folder / address.removeprefix("sqlite:")

    def write(sql: str) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"LOAD sqlite_scanner; ATTACH '{file}' AS it (TYPE sqlite); USE it")
            connection.execute(sql)

    sqlite3.connect(file).close()
    return write


KINDS = {
    "lake": ("ducklake:shop.ducklake", lake),
    "lake with a catalog in SQLite": ("ducklake:sqlite:shop.sqlite", lake),
    "SQLite": ("sqlite:shop.sqlite", sqlite),
}


@pytest.fixture(params=KINDS)
def write(request: pytest.FixtureRequest, shop: Shop) -> Writes:
    """What writes to the warehouse of the shop, which has a table `users`."""
    address, made = KINDS[request.param]
    (shop.folder / "warehouse.duckdb").unlink()
    shop.engine = {"type": "duckdb", "path": address}
    written = made(shop, address)
    written(f"CREATE TABLE users AS {ROWS}")
    shop.sync("it", USERS)
    return written


def sent(shop: Shop) -> list[dict[str, object]]:
    return [user for body in shop.sent() for user in json.loads(body)["attributes"]]


def test_rows_are_sent_then_nothing_then_what_has_changed(write: Writes, shop: Shop, retl: Retl):
    assert shop.run().delivery.accepted == 3
    assert shop.run().plan.to_send == 0
    write("UPDATE users SET tier = 'gold' WHERE external_id = 'u1'")
    before = len(sent(shop))
    assert shop.run().delivery.accepted == 1
    assert sent(shop)[before:] == [{"external_id": "u1", "tier": "gold"}]
    checked = retl("debug", folder=shop.folder)
    address = shop.engine["path"].rpartition(":")
    assert f"ok    warehouse: {address[0]}:{shop.folder / address[2]}\n" in checked.out


def test_tables_have_the_name_of_the_file_and_views_are_read(write: Writes, shop: Shop):
    write("CREATE VIEW golden AS SELECT * FROM users WHERE n = 2")
    shop.sync("it", "SELECT external_id, n FROM shop.main.golden")
    assert shop.run().delivery.accepted == 1
    assert sent(shop) == [{"external_id": "u2", "n": 2}]


def test_data_tests_and_incremental_models_run_in_it(write: Writes, shop: Shop):
    write("CREATE TABLE visits AS SELECT 'u' || i AS external_id, TIMESTAMP '2026-11-23' AS seen_at FROM range(3) r(i)")
    shop.sync(
        "it",
        "SELECT external_id, 'seen' AS name, CAST(seen_at AS TIMESTAMP) AS time FROM visits {% if is_incremental() %} WHERE time > {{ cursor() }} {% endif %}",
        **EVENTS,
        incremental={"cursor": "time"},
        data_tests=[{"accepted_values": {"column": "external_id", "values": ["u0", "u1", "u2", "u9"]}}],
    )
    first = shop.run()
    assert first.delivery, first.errors
    assert first.delivery.accepted == 3
    write("INSERT INTO visits VALUES ('u9', TIMESTAMP '2026-11-30')")
    assert shop.run().delivery.accepted == 1
    write("INSERT INTO visits VALUES ('what', TIMESTAMP '2026-12-01')")
    third = shop.run()
    assert (third.status, third.plan.rows, len(shop.sent())) == ("blocked", 2, 2)


WHY = "() here: it is none of those that they may call"
WAY_OUT = "\n  hint: put the call into a view of the warehouse, or build a table of what it returns; see Lakes in docs/engines.md"


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("FROM ducklake_cleanup_old_files('shop', cleanup_all => true)", "ducklake_cleanup_old_files"),
        ("FROM ducklake_delete_orphaned_files('shop')", "ducklake_delete_orphaned_files"),
        ("FROM ducklake_add_data_files('shop', 'users', '/etc/passwd')", "ducklake_add_data_files"),
        ("FROM DuckLake_Set_Option('shop', 'a', 'b')", "ducklake_set_option"),
        ("SELECT * FROM users, shop.snapshots()", "snapshots"),
        ("FROM sqlite_scan('/tmp/other.sqlite', 'users')", "sqlite_scan"),
        ("FROM sqlite_query('shop', 'SELECT 1')", "sqlite_query"),
        ("FROM sqlite_attach('/tmp/other.sqlite')", "sqlite_attach"),
    ],
)
def test_functions_of_extensions_are_refused_where_an_extension_is_loaded(
    write: Writes, shop: Shop, sql: str, name: str
):
    shop.sync("it", f"--\n{sql}")
    result = shop.run()
    assert result.exit_code == 2
    assert [str(one) for one in result.errors] == [f"models/it.sql:2: models cannot call {name}{WHY}{WAY_OUT}"]


def test_condition_of_a_data_test_calls_nothing_else_either(write: Writes, shop: Shop):
    shop.sync(
        "it", USERS, data_tests=[{"not_null": {"column": "tier", "where": "EXISTS (FROM sqlite_scan('a', 'b'))"}}]
    )
    result = shop.run()
    (problem,) = result.errors
    assert (result.exit_code, shop.sent()) == (2, [])
    assert f"data tests cannot call sqlite_scan{WHY}{WAY_OUT}" in str(problem)


def test_nothing_can_be_written(write: Writes, shop: Shop):
    with connect(shop.folder / ".retl") as workbench:
        engine = opened(shop, workbench)
        for sql in ("CREATE TABLE a AS SELECT 1", "DELETE FROM users", "DROP TABLE users"):
            with pytest.raises(duckdb.Error, match=r"read-only|Cannot"):
                workbench.execute(sql)
        engine.close()
    write("INSERT INTO users VALUES ('u9', 'basic', 9)")  # nobody has it open any more


def opened(shop: Shop, workbench: duckdb.DuckDBPyConnection) -> DuckDBEngine:
    engine = engine_of(load_project(shop.folder, environ=shop.environ), workbench)
    assert isinstance(engine, DuckDBEngine)
    engine.open()
    return engine


@pytest.fixture
def lake_of(shop: Shop) -> Writes:
    """What writes to the lake `shop.ducklake`, the warehouse of the shop."""
    (shop.folder / "warehouse.duckdb").unlink()
    shop.engine = {"type": "duckdb", "path": "ducklake:shop.ducklake"}
    written = lake(shop, "ducklake:shop.ducklake")
    written(f"CREATE TABLE users AS {ROWS}")
    shop.sync("it", USERS)
    return written


WRITER = """
import duckdb, sys
connection = duckdb.connect()
connection.execute("LOAD ducklake; ATTACH 'ducklake:shop.ducklake' AS it; USE it; CREATE TABLE a AS SELECT 1")
print("open", flush=True)
sys.stdin.read()
"""


def test_lake_that_another_process_has_open_for_writing_is_busy(lake_of: Writes, shop: Shop, retl: Retl):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=shop.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "open\n"
        refused = retl("sync", "it", "--wait", "0", folder=shop.folder)
        writer.communicate()
    what = rf"{shop.folder}/shop.ducklake is locked by \S+ \(PID {writer.pid}\), which has it open for writing\n"
    assert refused.code == 1
    assert re.match(what, refused.err)
    assert shop.run().delivery.accepted == 3


def test_run_sees_one_state_of_a_lake_that_others_write_to(shop: Shop):
    shop.engine = {"type": "duckdb", "path": "ducklake:sqlite:shop.sqlite"}
    write = lake(shop, "ducklake:sqlite:shop.sqlite")
    write(f"CREATE TABLE users AS {ROWS}")
    shop.sync("it", USERS)
    model = load_project(shop.folder, environ=shop.environ).compile("it")
    with connect(shop.folder / ".retl") as workbench:
        engine = opened(shop, workbench)
        assert len(engine.first_rows(model, 10)[1]) == 3
        write("INSERT INTO users VALUES ('u9', 'basic', 9)")
        assert len(engine.first_rows(model, 10)[1]) == 3
        engine.close()
    with connect(shop.folder / ".retl") as workbench:
        engine = opened(shop, workbench)
        assert len(engine.first_rows(model, 10)[1]) == 4
        engine.close()


def test_files_of_a_lake_elsewhere_are_read_where_they_are_listed(shop: Shop, tmp_path: Path):
    data = tmp_path / "data"
    with duckdb.connect() as connection:
        connection.execute(f"LOAD ducklake; ATTACH 'ducklake:{shop.folder}/shop.ducklake' AS it (DATA_PATH '{data}')")
        connection.execute(f"CREATE TABLE it.users AS {ROWS}")
        connection.execute("CALL ducklake_flush_inlined_data('it')")
    shop.engine = {"type": "duckdb", "path": "ducklake:shop.ducklake"}
    shop.sync("it", USERS)
    (problem,) = shop.run().errors
    assert str(problem).startswith(f"models/it.sql: models cannot read {data}/main/users/")
    assert "if they may, add it to the target's warehouse in syncs.yml: `files: [" in str(problem)
    shop.engine = {**shop.engine, "files": [str(data)]}
    shop.write()
    assert shop.run().delivery.accepted == 3


@pytest.mark.parametrize("address", ["ducklake:not-there.ducklake", "sqlite:not-there.sqlite", "ducklake:models"])
def test_what_is_not_there_is_said_and_not_made(shop: Shop, retl: Retl, address: str):
    shop.engine = {"type": "duckdb", "path": address}
    shop.sync("it", USERS)
    before = sorted(path.name for path in shop.folder.iterdir())
    refused = retl("plan", "it", folder=shop.folder)
    assert (refused.code, refused.err.startswith("syncs.yml:7:13: cannot attach ")) == (2, True), refused
    assert sorted(path.name for path in shop.folder.iterdir() if path.name not in ("target", ".retl")) == before


def test_file_in_a_bucket_and_a_lake_with_files_in_one_are_read(shop: Shop, home: Path):
    made = shop.folder.parent / "made.duckdb"
    with duckdb.connect(made) as connection:
        connection.execute(f"CREATE TABLE users AS {ROWS}")
    with Bucket() as bucket:
        bucket.objects().put_file("marts/shop.duckdb", made)
        with duckdb.connect() as connection:
            host = bucket.endpoint.removeprefix("http://")
            connection.execute(
                f"""LOAD httpfs; CREATE OR REPLACE PERSISTENT SECRET bucket (TYPE s3, KEY_ID 'id', SECRET '{SECRET}',
                ENDPOINT '{host}', USE_SSL false, URL_STYLE 'path', REGION 'us-east-1')"""
            )
            address = f"ducklake:{shop.folder}/lake.ducklake"
            connection.execute(f"LOAD ducklake; ATTACH '{address}' AS it (DATA_PATH '{bucket.url}/lake')")
            connection.execute(f"CREATE TABLE it.users AS {ROWS}; CALL ducklake_flush_inlined_data('it')")
        shop.engine = {"type": "duckdb", "path": f"{bucket.url}/test/it/marts/shop.duckdb"}
        shop.sync("it", USERS)
        assert shop.run().delivery.accepted == 3
        shop.engine = {"type": "duckdb", "path": address, "files": [f"{bucket.url}/lake"]}
        shop.write()
        assert shop.run().plan.to_send == 0
    shutil.rmtree(home / ".duckdb/stored_secrets")
