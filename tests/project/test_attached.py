"""What `path` of a DuckDB warehouse names, if it is no file."""

from pathlib import Path

import pytest

from reverse_etl.project.attached import Attached, attached_at
from tests.shop import Retl, Shop

HOME = Path("/shop")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("warehouse.duckdb", None),
        ("/data/a=b.duckdb", None),
        ("C:/data/warehouse.duckdb", None),
        ("postgres:dbname=shop", None),
        ("quack:shop", None),
        ("ducklake:catalog.ducklake", ("ducklake:/shop/catalog.ducklake", ["ducklake"], "catalog", "/shop/catalog.ducklake")),
        ("ducklake:../lake/main.db", ("ducklake:/lake/main.db", ["ducklake"], "main", "/lake/main.db")),
        ("ducklake:/lake/main.db", ("ducklake:/lake/main.db", ["ducklake"], "main", "/lake/main.db")),
        ("ducklake:duckdb:a.db", ("ducklake:duckdb:/shop/a.db", ["ducklake"], "a", "/shop/a.db")),
        ("ducklake:sqlite:a.db", ("ducklake:sqlite:/shop/a.db", ["ducklake", "sqlite_scanner"], "a", "/shop/a.db")),
        ("ducklake:my_secret", ("ducklake:my_secret", ["ducklake"], "my_secret", None)),
        ("ducklake:", ("ducklake:", ["ducklake"], "ducklake", None)),
        ("ducklake:postgres:dbname=lake host=db.example", ("ducklake:postgres:dbname=lake host=db.example", ["ducklake", "postgres_scanner"], "ducklake", None)),
        ("ducklake:mysql:db=lake", ("ducklake:mysql:db=lake", ["ducklake", "mysql_scanner"], "ducklake", None)),
        ("ducklake:https://a.example/x.ducklake", ("ducklake:https://a.example/x.ducklake", ["ducklake"], "x", None)),
        ("md:shop", ("md:shop", ["motherduck"], "shop", None)),
        ("md:", ("md:", ["motherduck"], "md", None)),
        ("sqlite:shop.sqlite", ("sqlite:/shop/shop.sqlite", ["sqlite_scanner"], "shop", "/shop/shop.sqlite")),
        ("mysql:host=db.example database=shop", ("mysql:host=db.example database=shop", ["mysql_scanner"], "mysql", None)),
        ("s3://bucket/marts/shop.duckdb?region=eu", ("s3://bucket/marts/shop.duckdb?region=eu", ["httpfs"], "shop", None)),
        ("https://a.example/shop.duckdb", ("https://a.example/shop.duckdb", ["httpfs"], "shop", None)),
        ("az://container/2026-shop.duckdb", ("az://container/2026-shop.duckdb", ["azure"], "az", None)),
    ],
)  # fmt: skip
def test_path_that_duckdb_attaches(path: str, expected: tuple[str, list[str], str, str | None] | None):
    found = attached_at(path, HOME)
    if expected is None:
        assert found is None
    else:
        address, extensions, name, file = expected
        assert found == Attached(address, tuple(extensions), name, Path(file) if file else None)


@pytest.mark.parametrize(
    "path",
    [
        "mysql:host=a password=hunter2",
        "ducklake:postgres:host=a PASSWORD = hunter2",
        "md:shop?motherduck_token=hunter2",
        "ducklake:postgres:postgresql://ann:hunter2@a/b",
        "https://a.example/shop.duckdb?X-Amz-Signature=hunter2",
        "https://a.example/shop.duckdb?sp=r&sig=hunter2",
    ],
)
def test_credentials_in_a_path_are_refused_and_not_repeated(shop: Shop, retl: Retl, path: str):
    shop.engine = {"type": "duckdb", "path": path}
    shop.sync("it", "SELECT 1 AS external_id")
    done = retl("compile", "it", folder=shop.folder)
    assert (done.code, done.out, "hunter2" in done.err) == (2, "", False)
    assert (
        '"path" in target "test" must not contain credentials: DuckDB takes them from its own secrets, or the environment'
        in done.err
    )
