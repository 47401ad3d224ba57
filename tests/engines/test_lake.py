"""A warehouse without a DuckDB file: models read Parquet, CSV and JSON of the project."""

import json
from pathlib import Path

import duckdb
import pytest

from tests.shop import Retl, Shop

USERS = "SELECT external_id, tier FROM 'lake/users.parquet'"


@pytest.fixture(params=[{"type": "duckdb"}, {"type": "duckdb", "path": ":memory:"}], ids=["no path", "memory"])
def lake(request: pytest.FixtureRequest, shop: Shop) -> Shop:
    shop.engine = request.param
    (shop.folder / "lake").mkdir()
    (shop.folder / "warehouse.duckdb").unlink()
    write(shop.folder / "lake/users.parquet", "SELECT 'u1' AS external_id, 'gold' AS tier")
    return shop.sync("it", USERS)


def write(path: Path, sql: str) -> None:
    duckdb.sql(f"COPY ({sql}) TO '{path}'")


def test_models_read_parquet_csv_and_json_of_the_project(lake: Shop):
    write(lake.folder / "lake/more.csv", "SELECT 'u2' AS external_id, 'basic' AS tier")
    write(lake.folder / "lake/most.json", "SELECT 'u3' AS external_id, 'gold' AS tier")
    lake.sync("it", f"{USERS} UNION ALL FROM 'lake/more.csv' UNION ALL FROM 'lake/*.json' ORDER BY ALL")
    assert lake.run().delivery.accepted == 3
    (body,) = lake.sent()
    assert [user["tier"] for user in json.loads(body)["attributes"]] == ["gold", "basic", "gold"]
    assert lake.run().plan.to_send == 0
    assert sorted(path.name for path in lake.folder.glob("*.duckdb")) == []


def test_relative_paths_start_at_the_project_wherever_retl_runs(lake: Shop, retl: Retl, tmp_path: Path):
    write(lake.folder / "top.csv", "SELECT 'u2' AS external_id")
    lake.sync("it", f"{USERS} UNION ALL BY NAME FROM 'top.csv'")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = retl("sync", "it", "--project-dir", str(lake.folder), folder=elsewhere)
    assert (done.code, done.err) == (0, done.err)
    assert len(json.loads(lake.sent()[0])["attributes"]) == 2


def test_file_of_the_same_name_where_retl_runs_is_never_read(lake: Shop, retl: Retl, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "lake").mkdir(parents=True)
    write(elsewhere / "lake/users.parquet", "SELECT 'u9' AS external_id, 'stolen' AS tier")
    done = retl("show", "it", "--project-dir", str(lake.folder), folder=elsewhere)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"models/it.sql:1: lake/users.parquet is in {elsewhere}, where retl runs, and relative paths start at the project\n"
        "  hint: run retl in the project's folder\n"
    )


def test_file_beside_retl_is_out_of_reach_of_models(lake: Shop, retl: Retl, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere / "own.csv", "SELECT 'u9' AS external_id")
    lake.sync("it", "FROM 'own.csv'")
    done = retl("show", "it", "--project-dir", str(lake.folder), folder=elsewhere)
    assert (done.code, f"own.csv is in {elsewhere}, where retl runs, and relative" in done.err) == (2, True)


def test_seeds_are_refused_with_a_way_to_read_them(lake: Shop, retl: Retl):
    (lake.folder / "seeds").mkdir()
    write(lake.folder / "seeds/tiers.csv", "SELECT 'u1' AS external_id, 'gold' AS tier")
    refused = retl("seed", folder=lake.folder)
    assert (refused.code, refused.out, refused.err) == (
        2,
        "",
        'syncs.yml:6:7: the warehouse of target "test" has no file that seeds could be loaded into\n'
        "  hint: add path: warehouse.duckdb; or read the file in a model: SELECT * FROM 'seeds/countries.csv'\n",
    )
    lake.sync("it", "FROM 'seeds/tiers.csv'")
    assert lake.run().delivery.accepted == 1


def test_debug_says_what_the_warehouse_is(lake: Shop, retl: Retl):
    assert "warehouse: files, in DuckDB\n" in retl("debug", folder=lake.folder).out


def test_listed_files_are_read_by_their_whole_path(lake: Shop, tmp_path: Path):
    folder = tmp_path / "exports"
    folder.mkdir()
    write(folder / "more.parquet", "SELECT 'u7' AS external_id, 'new' AS tier")
    lake.engine = {**lake.engine, "files": [str(folder)]}
    lake.sync("it", f"FROM '{folder}/*.parquet'")
    assert lake.run().delivery.accepted == 1
