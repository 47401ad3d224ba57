"""What `retl seed` loads, and what it leaves alone: tables that others made, warehouses that are none, broken files."""

import sqlite3
from pathlib import Path

import pytest

from tests.shop import Retl, Shop, database

CSV = "code,name\nDE,Germany\nKR,Korea\n"


@pytest.fixture
def seeded(shop: Shop) -> Shop:
    (shop.folder / "seeds").mkdir()
    (shop.folder / "seeds/countries.csv").write_text(CSV)
    return shop


def rows(shop: Shop, table: str = "countries") -> list[tuple[object, ...]]:
    with database(shop.folder / "warehouse.duckdb", "READ_ONLY") as connection:
        return connection.execute(f"FROM {table} ORDER BY ALL").fetchall()


def seed(shop: Shop, retl: Retl, *arguments: str) -> tuple[int, str]:
    outcome = retl("seed", *arguments, folder=shop.folder)
    return outcome.code, outcome.out + outcome.err


OURS = (0, "countries: 2 rows\n")


def test_table_is_replaced_only_if_a_seed_made_it(seeded: Shop, retl: Retl):
    assert (seed(seeded, retl), seed(seeded, retl)) == (OURS, OURS)
    seeded.warehouse("INSERT INTO countries VALUES ('FR', 'France')")
    assert (seed(seeded, retl), len(rows(seeded))) == (OURS, 2)
    seeded.warehouse("CREATE OR REPLACE TABLE Countries AS SELECT 'KR' AS code, 'Korea' AS name")
    refused = (
        2,
        'seeds/countries.csv: table "countries" in warehouse.duckdb was not created by `retl seed`, which does not '
        'replace it\n  hint: rename the seed; or the table: ALTER TABLE "countries" RENAME TO another_name\n',
    )
    assert (seed(seeded, retl), rows(seeded)) == (refused, [("KR", "Korea")])
    seeded.warehouse("DROP TABLE countries; CREATE VIEW countries AS SELECT 1 AS one")
    refused = (2, refused[1].replace("table", "view").replace("TABLE", "VIEW"))
    assert (seed(seeded, retl), rows(seeded)) == (refused, [(1,)])


def test_table_of_an_older_retl_is_taken_for_one_of_a_seed_if_it_equals_the_seed(seeded: Shop, retl: Retl):
    seeded.warehouse("CREATE TABLE countries AS FROM (VALUES ('KR', 'Korea'), ('DE', 'Germany')) t(code, name)")
    assert seed(seeded, retl) == OURS
    (seeded.folder / "seeds/countries.csv").write_text(CSV + "FR,France\n")
    assert (seed(seeded, retl), len(rows(seeded))) == ((0, "countries: 3 rows\n"), 3)


def test_target_that_is_not_the_default_is_asked_for(seeded: Shop, retl: Retl):
    text = (seeded.folder / "syncs.yml").read_text()
    other = text.partition("targets:\n")[2].partition("syncs:")[0].replace("test:", "other:")
    (seeded.folder / "syncs.yml").write_text(text.replace("targets:\n", f"targets:\n{other}"))
    assert seed(seeded, retl, "--target", "test") == OURS
    asked = '1 seed will be loaded into warehouse.duckdb, the warehouse of target "other"'
    assert seed(seeded, retl, "--target", "other") == (2, f"{asked}\n  hint: to confirm, pass --yes\n")
    assert seed(seeded, retl, "--target", "other", "--yes") == OURS


ROW = 'complete the row; a field that contains the delimiter needs quotes: "a, b"'
QUOTES = 'write a quote inside a quoted field twice: "a ""b"" c"'
ROWS = "add rows, or delete the file"
BROKEN = {
    "a field too many": (b"a,b\n1,2\n\n3,4,5\n6\n", ":4: the row has 3 fields, and the header has 2", ROW),
    "a field too few": (b"a,b\n1,2\n3\n", ":3: the row has 1 field, and the header has 2", ROW),
    "late": (b"a,b\n" + b"1,2\n" * 30000 + b"1\n", ":30002: the row has 1 field, and the header has 2", ROW),
    "after a field of two lines": (b'a;b\n1;"x\ny"\n3\n', ":4: the row has 1 field, and the header has 2", ROW),
    "nothing": (b"", ":1: the seed is empty", ROWS),
    "only a header": (b"a,b\n", ":1: the seed has a header, but no rows", ROWS),
    "a blank header": (b"\n1,2\n", ":1: the header is blank", "write the names of the columns in the first line"),
    "a column without a name": (
        b"a, ,c\n1,2,3\n",
        ":1: column 2 of the header has no name",
        "name it, or remove the column",
    ),
    "a name twice": (b"a,b,A\n1,2,3\n", ':1: the header has 2 columns named "a"', "rename one of them"),
    "Latin-1": ("a,b\n1,Seoul\n2,José\n".encode("latin1"), ":3: the seed is not UTF-8", "save it as UTF-8"),
    "UTF-16": ("a,b\n1,2\n".encode("utf16"), ":1: the seed is not UTF-8", "save it as UTF-8"),
    "an open quote": (b'a,b\n1,2\n"x,2\n3,4\n', ":3: a quoted field is not closed", QUOTES),
    "a quote in the middle": (b'a,b\n1,"x"y\n', ":2: text after a closing quote", QUOTES),
}


def test_broken_seeds_are_named_with_their_lines_and_nothing_is_loaded(seeded: Shop, retl: Retl):
    names = {name: f"bad_{number:02}" for number, name in enumerate(BROKEN)}
    for name, (content, *_) in BROKEN.items():
        (seeded.folder / f"seeds/{names[name]}.csv").write_bytes(content)
    expected = (f"seeds/{names[name]}.csv{what}\n  hint: {hint}\n" for name, (_, what, hint) in BROKEN.items())
    assert seed(seeded, retl) == (2, "".join(expected))
    with database(seeded.folder / "warehouse.duckdb", "READ_ONLY") as connection:
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == []


def test_seed_may_have_any_delimiter_line_end_and_quotes(seeded: Shop, retl: Retl):
    files = {
        "semicolons": b"a;b\n1;x, y\n",
        "tabs": b"a\tb\n1\tx\n",
        "bom": "\ufeffa,b\n1,Jos\u00e9\n".encode(),
        "crlf": b'a,b\r\n1,"x\r\ny"\r\n',
        "one_column": b"a\n1\n2\n",
        "empty_field": b"a,b\n1,\n,2\n",
        "quotes": b'a,b\n1,"say ""hi"", please"\n',
        "types_of_all_rows": b"a\n" + b"1\n" * 30000 + b"x\n",
    }
    for name, content in files.items():
        (seeded.folder / f"seeds/{name}.csv").write_bytes(content)
    assert seed(seeded, retl)[0] == 0
    assert {name: rows(seeded, name)[:2] for name in files} == {
        "semicolons": [(1, "x, y")],
        "tabs": [(1, "x")],
        "bom": [(1, "José")],
        "crlf": [(1, "x\r\ny")],
        "one_column": [(1,), (2,)],
        "empty_field": [(1, None), (None, 2)],
        "quotes": [(1, 'say "hi", please')],
        "types_of_all_rows": [("1",), ("1",)],
    }


ANOTHER = "\n  hint: set the path of a DuckDB file; `retl seed` creates one from seeds/*.csv\n"


def sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(sqlite, "is a SQLite database, not a DuckDB file", id="SQLite"),
        pytest.param(lambda path: path.write_text("a,b\n1,2\n" * 99), "is not a DuckDB file", id="text"),
        pytest.param(
            lambda path: path.write_bytes(b"PAR1" + bytes(99)), "is a Parquet file, not a DuckDB file", id="P"
        ),
        pytest.param(lambda path: path.mkdir(), "is a folder, not a DuckDB file", id="folder"),
    ],
)
def test_warehouse_that_is_something_else_is_named_and_nothing_is_downloaded(seeded: Shop, retl: Retl, make, what: str):
    path = seeded.folder / "warehouse.duckdb"
    path.unlink()
    make(path)
    before = path.read_bytes() if path.is_file() else None
    seeded.sync("it", "SELECT 'u1' AS external_id, 1 AS n")
    assert seed(seeded, retl) == (2, f"warehouse.duckdb {what}{ANOTHER}")
    for command in (["sync", "it"], ["plan"], ["show", "it"]):
        outcome = retl(*command, folder=seeded.folder)
        assert (outcome.code, outcome.err.rpartition("yml:")[2].partition(": ")[2]) == (
            2,
            f"warehouse.duckdb {what}{ANOTHER}",
        )
    assert "FAIL  warehouse: " in retl("debug", folder=seeded.folder).out
    assert before == (path.read_bytes() if path.is_file() else None)


def test_nothing_is_made_where_there_is_nothing_to_load(shop: Shop, retl: Retl):
    shop.engine = {"type": "duckdb", "path": "other.duckdb"}
    shop.write()
    said = retl("seed", folder=shop.folder)
    assert (said.code, said.out, said.err) == (0, "", "nothing to load: there is no seeds/*.csv\n")
    assert not (shop.folder / "other.duckdb").exists()
