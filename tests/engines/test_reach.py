"""What SQL of a project reads: files of the project, beside the warehouse, of dbt, and those listed. Nothing else.

All of it may come with a pull request: models, tests, seeds, and symbolic links.
"""

import json
import os
from pathlib import Path

import pytest
import yaml

from reverse_etl.errors import ProjectError
from reverse_etl.plan.workbench import allow, connect, fence
from tests.shop import Retl, Shop, database, edit

SECRET = "r3tl-5ecret-0f-the-env1ronment"


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """With secrets in and beside its folder, and links to them."""
    (shop.folder / "data").mkdir()
    (shop.folder / "data/users.csv").write_text("external_id,tier\nu1,gold\n")
    (shop.folder / ".env").write_text(f"SOME_KEY={SECRET}\n")
    (shop.folder / ".git").mkdir()
    (shop.folder / ".git/config").write_text(SECRET)
    (shop.folder.parent / "beside.csv").write_text(f"external_id\n{SECRET}\n")
    for link, target in {
        "environ.txt": "/proc/self/environ",
        "data/beside.csv": "../../beside.csv",
        "data/dotenv.txt": "../.env",
        "data/up": "../..",
    }.items():
        (shop.folder / link).symlink_to(target)
    return shop


def wrong(shop: Shop, sql: str) -> str:
    """Why a sync of this model is not planned; paths without the folder of the test."""
    shop.sync("it", sql)
    found = error_of(shop)
    return found.replace(str(shop.folder.parent.resolve()), "")


def error_of(shop: Shop) -> str:
    """Why its only sync is not planned."""
    result = shop.run()
    (problem,) = result.errors
    assert (result.exit_code, shop.sent(), SECRET in str(result)) == (2, [], False)
    return str(problem)


def listed(shop: Shop, *places: str) -> None:
    """Rewrite syncs.yml with `files:`."""
    path = shop.folder / "syncs.yml"
    spec = yaml.safe_load(path.read_text())
    spec["targets"]["test"]["warehouse"]["files"] = list(places)
    path.write_text(yaml.safe_dump(spec, sort_keys=False))


def reading(function: str, path: object) -> str:
    return f"SELECT 'u1' AS external_id, x.*\nFROM\n{function}('{path}') x"


TO_ALLOW = "\n  hint: if they may, add it to the target's warehouse in syncs.yml: `files: [{}]`"
PRIVATE = ": it may contain secrets\n  hint: keep the data in a file or folder of another name"
EXTENSION = "\n  hint: build a table of it in the warehouse, which retl then reads"


@pytest.mark.parametrize(
    ("function", "path", "expected"),
    [
        ("read_text", "/proc/self/environ", "models cannot read /proc/self/environ, a link to /proc/PID/environ: nothing in /proc is readable"),
        ("read_text", "/sys/kernel/version", "models cannot read /sys/kernel/version: nothing in /sys is readable"),
        ("read_blob", "/dev/zero", "models cannot read /dev/zero: nothing in /dev is readable"),
        ("read_csv", "/etc/passwd", "models cannot read /etc/passwd" + TO_ALLOW.format("/etc/passwd")),
        ("glob", "/etc/pass*", "models cannot read /etc/pass*" + TO_ALLOW.format("/etc")),
        ("read_csv", "{folder}/../beside.csv", "models cannot read /shop/../beside.csv" + TO_ALLOW.format("/beside.csv")),
        ("read_csv", "{folder}/data/beside.csv", "models cannot read /shop/data/beside.csv, a link to /beside.csv" + TO_ALLOW.format("/beside.csv")),
        ("read_text", "{folder}/environ.txt", "models cannot read /shop/environ.txt, a link to /proc/PID/environ: nothing in /proc is readable"),
        ("read_text", "{folder}/data/up/beside.csv", "models cannot read /shop/data/up/beside.csv, a link to /beside.csv" + TO_ALLOW.format("/beside.csv")),
        ("read_text", "{folder}/.env", "models cannot read /shop/.env" + PRIVATE),
        ("read_text", "{folder}/data/dotenv.txt", "models cannot read /shop/data/dotenv.txt, a link to /shop/.env" + PRIVATE),
        ("read_text", "{folder}/.git/config", "models cannot read /shop/.git/config" + PRIVATE),
        ("glob", "{folder}/*", "models cannot read /shop/*: /shop has private files\n  hint: move the files to a folder in it, such as data/*.csv"),
        ("glob", "{folder}/data/*/*", "models cannot read /shop/data/*/*" + TO_ALLOW.format("/shop/data")),
        ("read_csv", "{folder}/nothing.csv", "/shop/nothing.csv does not exist"),
        ("read_text", "file:///etc/passwd", "models cannot read file:///etc/passwd" + TO_ALLOW.format("/etc/passwd")),
        ("read_parquet", "https://example.com/a.parquet", "models cannot read https://example.com/a.parquet" + TO_ALLOW.format('"https://example.com/a.parquet"')),
        ("read_parquet", "s3://bucket/a.parquet", "models cannot read s3://bucket/a.parquet" + TO_ALLOW.format('"s3://bucket/a.parquet"')),
    ],
)  # fmt: skip
@pytest.mark.sampled(4)
def test_model_reads_no_file_that_is_not_its_own(function: str, path: str, expected: str, shop: Shop):
    found = wrong(shop, reading(function, path.format(folder=shop.folder)))
    assert found.replace(f"/{os.getpid()}/", "/PID/") == f"models/it.sql:3: {expected}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT getenv('HOME') AS external_id", "models/it.sql:1: Catalog Error: Scalar Function with name getenv does not exist!"),
        ("COPY (SELECT 1) TO 'x.csv'", "models/it.sql: a model must be a single SELECT; this one contains COPY"),
        ("ATTACH 'x.duckdb'", "models/it.sql: a model must be a single SELECT; this one contains ATTACH"),
        ("EXPORT DATABASE 'x'", "models/it.sql: a model must be a single SELECT; this one contains EXPORT"),
        ("INSTALL httpfs", "models/it.sql: a model must be a single SELECT; this one contains LOAD"),
        ("LOAD httpfs", "models/it.sql: a model must be a single SELECT; this one contains LOAD"),
        ("SET allowed_directories = ['/']", "models/it.sql: a model must be a single SELECT; this one contains SET"),
        ("SET VARIABLE x = 1; SELECT 1", "models/it.sql: a model must be a single SELECT; this one contains SET, SELECT"),
        ("WITH d AS (COPY (SELECT 1) TO 'x.csv') FROM d", "models/it.sql: a model must be a single SELECT; this one contains a COPY statement"),
        ("WITH d AS (DELETE FROM retl_state.main.runs RETURNING *) FROM d", "models/it.sql: a model must be a single SELECT; this one contains a data-modifying statement"),
        ("SELECT ST_Point(1, 2) AS external_id", "models/it.sql:1: models cannot load DuckDB's extension spatial" + EXTENSION),
        ("SELECT '1.2.3.4'::INET AS external_id", "models/it.sql: models cannot load DuckDB's extension inet" + EXTENSION),
    ],
)  # fmt: skip
@pytest.mark.sampled(4)
def test_model_reads_no_variable_writes_no_file_and_loads_nothing(sql: str, expected: str, shop: Shop):
    assert wrong(shop, sql).startswith(expected)
    assert not list(shop.folder.glob("x*"))


def test_what_models_may_read_cannot_be_changed(tmp_path: Path):
    with connect(tmp_path) as connection:
        fence(connection)
        for setting in ("allowed_directories = ['/']", "enable_external_access = true", "home_directory = '/etc'"):
            with pytest.raises(Exception, match="the configuration has been locked"):
                connection.execute(f"SET {setting}")
        with pytest.raises(Exception, match="Cannot access file"):
            connection.execute("ATTACH '/var/tmp/x.duckdb'")
        connection.execute("SET force_compression = 'uncompressed'; RESET force_compression")


def test_listed_url_allows_what_is_below_it_and_nothing_beside_it(tmp_path: Path):
    """As far as it goes without the extension that reads URLs: DuckDB asks for it once the URL is allowed."""
    with connect(tmp_path) as connection:
        allow(connection, folders=["https://example.com/data"])
        fence(connection)
        for path, expected in {
            "data/x.csv": "nstall the required extension .httpfs|requires the extension httpfs",
            "database/x.csv": "Cannot access file",
            "data/../x.csv": "Cannot access file",
        }.items():
            with pytest.raises(Exception, match=expected):
                connection.execute(f"FROM read_csv('https://example.com/{path}')")


@pytest.mark.parametrize("path", ["data/users.csv", "data/*.csv", "top.csv"])
def test_model_reads_files_of_the_project(path: str, shop: Shop):
    for link in ("data/beside.csv", "data/up"):
        (shop.folder / link).unlink()
    (shop.folder / "data/dotenv.txt").unlink()
    (shop.folder / "top.csv").write_text("external_id,tier\nu1,gold\n")
    shop.sync("it", f"FROM read_csv('{shop.folder}/{path}')")
    assert shop.run().status == "success"
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","tier":"gold"}]}']


def test_model_reads_a_view_of_a_file_beside_the_warehouse(shop: Shop):
    """As dbt-duckdb's external models are."""
    lake = shop.folder.parent / "lake"
    lake.mkdir()
    with database(lake / "warehouse.duckdb") as connection:
        connection.execute(f"COPY (SELECT 'u1' AS external_id) TO '{lake}/users.parquet'")
        connection.execute(f"CREATE VIEW users AS FROM read_parquet('{lake}/*.parquet')")
    shop.sync("it", "FROM users")
    edit(shop.folder / "syncs.yml", "path: warehouse.duckdb", f"path: {lake}/warehouse.duckdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shop, "write", lambda _: None)
        assert shop.run().status == "success"
    assert shop.sent() == ['{"attributes":[{"external_id":"u1"}]}']


def test_model_reads_files_of_the_dbt_project(shop: Shop):
    dbt = shop.folder.parent / "dbt"
    dbt.mkdir()
    (dbt / "dbt_project.yml").write_text("name: shop\n")
    (dbt / "users.csv").write_text("external_id\nu1\n")
    shop.sync("it", f"FROM read_csv('{dbt}/users.csv')")
    edit(shop.folder / "syncs.yml", "version: 1", "version: 1\ndbt: {project_dir: ../dbt}")
    assert shop.run().status == "success"


@pytest.mark.parametrize("folder", ["/", "/etc", "/proc/self"])
def test_folder_without_a_dbt_project_is_not_read_as_one(folder: str, shop: Shop):
    shop.sync("it", "SELECT content AS external_id FROM read_text('/etc/hostname')")
    edit(shop.folder / "syncs.yml", "version: 1", f"version: 1\ndbt: {{project_dir: {folder}}}")
    assert "models cannot read /etc/hostname\n" in error_of(shop)


@pytest.mark.parametrize("place", ["../lake", "../lake/users.csv"])
def test_model_reads_files_that_are_listed(place: str, shop: Shop):
    lake = shop.folder.parent / "lake"
    lake.mkdir()
    (lake / "users.csv").write_text("external_id\nu1\n")
    (shop.folder / "data/lake").symlink_to(lake)
    shop.sync("it", f"FROM read_csv('{shop.folder}/data/lake/users.csv')")
    listed(shop, place)
    assert shop.run().status == "success"
    assert shop.sent() == ['{"attributes":[{"external_id":"u1"}]}']


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/proc/self", 'files: "/proc/self" is in /proc, which models never read\n  hint: list the folders or files that the models need'),
        ("environ.txt", 'files: "environ.txt" is in /proc, which models never read\n  hint: list the folders or files that the models need'),
        ("/", 'files: "/" contains /proc, which models never read\n  hint: list the folders or files that the models need'),
        (".env", 'files: ".env" is private, and models never read it\n  hint: keep the data in another file or folder'),
        ("data/dotenv.txt", 'files: "data/dotenv.txt" is private, and models never read it\n  hint: keep the data in another file or folder'),
        ("..", 'files: ".." contains this project with its private files, such as .env\n  hint: remove it: models read the project\'s files anyway; or list folders in it'),
    ],
)  # fmt: skip
def test_what_no_model_may_read_cannot_be_listed(place: str, expected: str, shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id")
    listed(shop, "data", place)
    assert error_of(shop) == f"syncs.yml:10:9: {expected}"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("lake/*.csv", "must name files and folders, not patterns: a folder is listed with all that is in it"),
        ("ftp://host/x", "must contain paths, or URLs of s3, gs, gcs, r2, https, az, azure, abfss with a host or bucket"),
        ("https://me:secret@host/x", "must not contain credentials: DuckDB takes those of URLs from its own secrets"),
    ],
)  # fmt: skip
def test_place_that_cannot_be_meant_is_refused_with_the_file(place: str, expected: str, shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id")
    listed(shop, place)
    with pytest.raises(ProjectError) as error:
        shop.project()
    assert str(error.value) == f'syncs.yml:9:7: "files" in target "test" {expected}'


def test_data_test_reads_no_file_that_is_not_the_projects(shop: Shop):
    where = "external_id = (SELECT content FROM read_text('/etc/hostname'))"
    shop.sync("it", "SELECT 'u1' AS external_id", data_tests=[{"not_null": {"column": "external_id", "where": where}}])
    assert 'sync "it": where: models cannot read /etc/hostname\n  hint: if they may, add' in error_of(shop)


def test_unit_test_reads_no_file_that_is_not_the_projects(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT * FROM {{ source('app', 'users') }}")
    rows = "select content as external_id from read_text('/etc/hostname')"
    given = [{"input": "source('app', 'users')", "format": "sql", "rows": rows}]
    test = {"name": "one", "sync": "it", "given": given, "expect": {"records": []}}
    path = shop.folder / "syncs.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "unit_tests": [test]}))
    done = retl("test", folder=shop.folder)
    assert (done.code, "models cannot read /etc/hostname" in done.err) == (2, True)


@pytest.mark.parametrize(
    "command", ["show it", "plan it", "sync it", "test --data", "debug", "state baseline it --yes"]
)
def test_no_command_reads_what_models_may_not(command: str, shop: Shop, retl: Retl):
    where = {"not_null": "external_id"}
    shop.sync("it", f"SELECT content AS external_id FROM read_text('{shop.folder}/.env')", data_tests=[where])
    done = retl(*command.split(), folder=shop.folder)
    assert done.code != 0
    assert f"models cannot read {shop.folder}/.env: it may contain secrets\n" in done.out + done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    ("link", "target"),
    [("models/x.sql", "../.env"), ("models/x.sql", "/etc/passwd"), ("seeds/x.csv", "/proc/self/environ"),
     ("seeds/x.csv", "../../beside.csv"), ("syncs.yml", ".env")],
)  # fmt: skip
def test_file_of_the_project_that_is_a_link_out_of_it_is_not_read(link: str, target: str, shop: Shop, retl: Retl):
    path = shop.folder / link
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    done = retl("seed", folder=shop.folder)
    assert done.code == 2
    assert done.err.startswith(f"{link}: this is a symbolic link to ")
    assert done.err.endswith(", which is not a file of the project\n  hint: replace the link with a copy of the file\n")
    assert SECRET not in json.dumps(done.err)


def test_link_within_the_project_is_read(shop: Shop, retl: Retl):
    """As Kubernetes mounts files: users.sql -> ..data/users.sql -> ..2026_11/users.sql."""
    shop.sync("it", "SELECT 'u1' AS external_id")
    (shop.folder / "models/..2026_11").mkdir()
    (shop.folder / "models/it.sql").rename(shop.folder / "models/..2026_11/it.txt")
    (shop.folder / "models/it.sql").symlink_to("..2026_11/it.txt")
    assert shop.run().status == "success"
