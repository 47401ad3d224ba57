"""People whose acknowledged rows are in Spark: erased, looked for, explained, as if the rows were in the state."""

import datetime
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from reverse_etl.engines.spark.tables import SparkTables
from reverse_etl.errors import BusyError, RetlError
from reverse_etl.runs.forgetting import Forgetting, asked_for
from reverse_etl.runs.why import why
from reverse_etl.sandbox import Sandbox
from tests.shop import Retl, Shop, examples
from tests.warehouses.conftest import FORMAT, SPARK, Sail, Warehouse, comparing, fewer
from tests.warehouses.test_comparing import KEEPS, Both, acknowledged, pointer, tables

PEOPLE = {
    "external_id": ["u1", "u2", "u3", "u4"],
    "email": ["ann@x.example", "bob@x.example", "Bob@X.example", None],
    "n": [1, 2, 3, 4],
}


def people(**columns: list[Any]) -> pyarrow.Table:
    return pyarrow.table({**PEOPLE, **columns})


@pytest.fixture
def both(shop: Shop, lasting: Sail, schema: str, tmp_path: Path) -> Iterator[Both]:
    with Sandbox() as other:
        comparing(shop, lasting, schema)
        yield Both(Warehouse("duckdb", Shop(tmp_path / "here", other)), Warehouse("sail-engine", shop), lasting)


@pytest.fixture
def spark(shop: Shop, lasting: Sail, schema: str, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    comparing(shop, lasting, schema)
    found = Warehouse("sail-engine", shop)
    shop.sync("it", f"SELECT * FROM {found.put('people', people())}", keep_removed="1 day", **KEEPS)
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    return found


def naming(shop: Shop, *texts: str) -> set[str]:
    """Which of the texts the files of the schema have, Parquet read, as it is compressed. Sail leaves the files of
    tables that are dropped: there, those of the others."""
    found, folder = set[str](), shop.folder.parent / "schema"
    live = {table.name for table in pointer(shop).tables}
    for path in (
        path for path in folder.rglob("*") if path.is_file() and (SPARK or live & {*path.relative_to(folder).parts})
    ):
        whole = path.read_bytes().decode(errors="replace")
        if path.suffix == ".parquet":
            whole += str(pyarrow.parquet.read_table(path).to_pylist())
        found |= {text for text in texts if text in whole}
    return found


@pytest.mark.long
def test_person_who_is_forgotten_is_in_no_file_of_the_schema(spark: Warehouse, lasting: Sail, schema: str, retl: Retl):
    """Not in rows that were replaced, nor among keys that are gone; and all others are as before."""
    shop = spark.shop
    for rows in (people(), people(n=[1, 20, 3, 4]), people(n=[1, 20, 30, 4]).slice(0, 3)):
        spark.put("people", rows)
        shop.run()
    shop.clock.ahead += datetime.timedelta(days=2)
    shop.run()
    assert (pointer(shop).numbers.rows, len(pointer(shop).deltas)) == (3, 3)
    assert naming(shop, "u2", "bob@x.example", "u4") == {"u2", "bob@x.example", "u4"}
    before = [row for row in acknowledged(shop, lasting) if row[0] != "u2"]
    gone = retl("forget", "u4", "--yes", folder=shop.folder)  # whose row is gone since it left the model
    done = retl("forget", "u2", "--yes", folder=shop.folder)
    assert (gone.code, done.code) == (0, 0), (gone.err, done.err)
    assert naming(shop, "u2", "bob@x.example", "u4") == set()
    left = {"parquet": "which Spark has left when the table was dropped"}
    said = left.get(FORMAT, f"({FORMAT}), while its catalog or snapshots keep it")
    assert (said in done.err) != bool(SPARK)
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
    assert acknowledged(shop, lasting) == before
    assert (pointer(shop).numbers.rows, pointer(shop).deltas) == (2, ())
    result = shop.run()
    assert (result.status, result.plan.to_send) == ("success", 0)
    receipt = re.findall(r"receipt: (\S+)", done.out)[0]
    done = retl("forget", "--check", receipt, folder=shop.folder)
    assert done.out == "true: of external_id: no state of target test has it, and no sync sends it\n"


@pytest.mark.long
def test_nothing_is_written_for_somebody_of_whom_no_table_has_a_row(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl
):
    shop = spark.shop
    shop.run()
    before = tables(lasting, schema)
    assert retl("forget", "nobody", "--yes", folder=shop.folder).code == 0
    assert tables(lasting, schema) == before


@pytest.mark.long
def test_erasure_is_not_done_while_old_tables_stay(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    """Spark goes away before they are dropped: the next command drops them first."""
    shop = spark.shop
    shop.run()
    with monkeypatch.context() as patch:

        def lost(self: SparkTables, names: Any) -> None:
            raise BusyError("the connection to Spark was lost", hint="run it again", code="B004")

        patch.setattr(SparkTables, "drop", lost)
        done = retl("forget", "u2", "--yes", folder=shop.folder)
        assert done.code == 1
        what = "it: the connection to Spark was lost: tables that were replaced may still name who was erased"
        assert what in done.err
    assert len(tables(lasting, schema)) == 2
    assert retl("forget", "u2", "--yes", folder=shop.folder).code == 0
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
    assert naming(shop, "u2") == set()


@pytest.mark.long
@pytest.mark.parametrize("ends", ["before", "after"])
def test_killed_erasure_is_done_by_the_next_command(
    spark: Warehouse, lasting: Sail, retl: Retl, ends: str, monkeypatch: pytest.MonkeyPatch
):
    """Whatever was written when it was killed."""
    shop, whole = spark.shop, SparkTables.write_current
    shop.run()
    with monkeypatch.context() as patch:

        def killed(self: SparkTables, *arguments: Any) -> int:
            if ends == "after":
                whole(self, *arguments)
            raise KeyboardInterrupt

        patch.setattr(SparkTables, "write_current", killed)
        assert retl("forget", "u2", "--yes", folder=shop.folder).code != 0
    assert acknowledged(shop, lasting)[1][0] == "u2"
    assert (shop.run().plan.to_send, naming(shop, "u2")) == (0, set())


@pytest.mark.long
def test_tables_of_a_state_that_was_reset_are_dropped_with_its_backup(
    spark: Warehouse, lasting: Sail, schema: str, retl: Retl
):
    shop = spark.shop
    shop.run()
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    shop.run()
    assert len(tables(lasting, schema)) == 2
    assert retl("forget", "u2", "--yes", folder=shop.folder).code == 0
    assert tables(lasting, schema) == {table.name for table in pointer(shop).tables}
    assert naming(shop, "u2") == set()


def drawn(draw: random.Random) -> pyarrow.Table:
    """People who share addresses, under several kinds of identifiers."""
    rows = []
    for n in range(30):
        user = {"external_id": f"u{n}"} if draw.random() < 0.6 else {}
        if not user and draw.random() < 0.5:
            user = {"user_alias": {"alias_name": f"a{n % 9}", "alias_label": draw.choice(["shop", "é"])}}
        email = draw.choice([f"P{n % 7}@x.example ", f"p{n % 7}@x.example", f"É{n % 3}@x.example", None])
        phone = draw.choice([f"+82 10-{n % 5}0000000", f"8210{n % 5}0000000", None])
        rows.append({"id": n, **user, "email": email, "phone": phone, "n": draw.randint(0, 2)})
    fields = {
        **{"id": pyarrow.int32(), "external_id": pyarrow.string()},
        "user_alias": pyarrow.struct([("alias_name", pyarrow.string()), ("alias_label", pyarrow.string())]),
        **{"email": pyarrow.string(), "phone": pyarrow.string(), "n": pyarrow.int64()},
    }
    return pyarrow.Table.from_pylist(rows, pyarrow.schema(list(fields.items())))


KEYS = ["u3", "p1@X.example", "é2@x.example", "É2@x.example", "+821010000000", '["a1","shop"]', "a4", "7", "nobody"]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(examples(1, 10)))
def test_people_are_found_and_explained_as_by_duckdb(both: Both, seed: int):
    draw = random.Random(seed)
    how = {"primary_key": "id", "exclude_columns": ["id"], "skip_on_invalid_records": True, **KEEPS}
    for _ in range(fewer(3, 2)):
        both.sync(drawn(draw), **how)
        both.run()
    for key in KEYS[:: fewer(1, 3)]:
        said = list[Any]()
        for shop in both.shops:
            project = shop.project()
            try:
                said.append(asked_for(Forgetting(project, lambda _: None), key).erased)
                found = why(project, key, None, [project.sync("it")], None, True)
                said[-1] = (
                    said[-1],
                    [(one.key, one.column, one.value, one.unsure, len(one.writes)) for one in found.cells],
                )
            except RetlError as error:
                said.append(error.problems[0].message)
        assert said[len(said) // 2 :] == said[: len(said) // 2], key


@pytest.mark.long
def test_rows_in_spark_move_to_the_new_ids(spark: Warehouse, lasting: Sail, schema: str):
    """The rows of both syncs are there; nothing is sent for the new ids, and no table has the old one."""
    shop = spark.shop
    shop.run("it")
    renames = pyarrow.table({"current_external_id": ["u2"], "new_external_id": ["c2"]})
    shop.sync("renames", f"SELECT * FROM {spark.put('renames', renames)}", mode="users_external_ids_rename")
    shop.run("renames")
    new = people(external_id=["u1", "c2", "u3", "u4"])
    spark.put("people", new)
    result = shop.run("it")
    assert (result.errors, result.plan.to_send) == ([], 0)
    assert sorted(row[0] for row in acknowledged(shop, lasting)) == ["c2", "u1", "u3", "u4"]
    assert (pointer(shop).numbers.rows, shop.run("it").plan.to_send) == (4, 0)
