"""Models read what is collected: `source('postback', 'unsubscribes')`."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import DataError
from reverse_etl.plan.workbench import connect
from tests.collect.files import COLLECT, keep
from tests.shop import Retl, Shop

LATEST = """
    SELECT external_id, email FROM {{ source('postback', 'unsubscribes') }}
    QUALIFY row_number() OVER (PARTITION BY external_id ORDER BY received_at DESC) = 1
"""
ANN, BEN = {"external_id": "ann", "email": "ann@x.example"}, {"external_id": "ben", "email": "ben@x.example"}


@pytest.fixture
def reading(shop: Shop) -> Shop:
    """A sync that sends what is collected. No key of the collector is in the environment."""
    shop.more = {"collect": COLLECT}
    return shop.sync("it", LATEST)


def inbox(shop: Shop) -> Path:
    return shop.folder / "collected"


def sent(shop: Shop) -> dict[str, Any]:
    """What Braze was sent, by user."""
    return {one["external_id"]: one.get("email") for body in shop.sent() for one in json.loads(body)["attributes"]}


def error_of(shop: Shop) -> str:
    return "\n".join(map(str, shop.run().errors))


def test_run_sends_what_was_collected_and_the_next_one_what_is_new(reading: Shop):
    keep(inbox(reading), ANN)
    assert (reading.run().status, sent(reading)) == ("success", {"ann": "ann@x.example"})
    keep(inbox(reading), BEN, segments=("20261129T211600", "20261129T211600"))
    assert reading.run().status == "success"
    assert sent(reading) == {"ann": "ann@x.example", "ben": "ben@x.example"}
    assert len(reading.sent()) == 2


def test_before_anything_was_collected_there_are_no_rows(reading: Shop):
    assert (reading.run().status, reading.sent()) == ("success", [])


def test_other_models_refer_to_the_one_that_reads_it(reading: Shop):
    keep(inbox(reading), ANN, BEN)
    reading.model("latest", LATEST)
    reading.model(
        "named", "SELECT * FROM {{ ref('latest') }} JOIN {{ source('postback', 'unsubscribes') }} USING (email)"
    )
    reading.sync("it", "SELECT external_id, email FROM {{ ref('named') }} WHERE external_id = 'ben'")
    assert (reading.run().status, sent(reading)) == ("success", {"ben": "ben@x.example"})


@pytest.mark.parametrize("dialect", ["hive", "spark", "trino"])
def test_model_in_another_dialect_reads_it(reading: Shop, dialect: str):
    keep(inbox(reading), {**ANN, "changed_at": 1_764_450_900})
    sql = (
        "SELECT external_id, concat(external_id, '-', changed_at) AS told FROM {{ source('postback', 'unsubscribes') }}"
    )
    reading.sync("it", f"{{{{ config(dialect='{dialect}') }}}} {sql}")
    assert reading.run().status == "success"
    assert json.loads(reading.sent()[0])["attributes"] == [{"external_id": "ann", "told": "ann-1764450900"}]


def test_merged_file_is_read_instead_of_those_that_it_covers(reading: Shop):
    for minute in ("00", "01"):
        keep(inbox(reading), ANN, segments=(f"20261129T21{minute}00", f"20261129T21{minute}00"))
    keep(inbox(reading), ANN, ANN, segments=("20261129T210000", "20261129T215900"))
    reading.sync("it", "SELECT external_id, count(*) AS n FROM {{ source('postback', 'unsubscribes') }} GROUP BY ALL")
    assert reading.run().status == "success"
    assert json.loads(reading.sent()[0])["attributes"] == [{"external_id": "ann", "n": 2}]


def test_file_that_is_older_than_records_are_kept_is_not_read(reading: Shop):
    tables = {"unsubscribes": {"columns": ["external_id", "email"], "keep": "2 days"}}
    reading.more = {"collect": {"sources": {"postback": {**COLLECT["sources"]["postback"], "tables": tables}}}}
    reading.write()
    for record, age in ((ANN, timedelta(days=1)), (BEN, timedelta(days=3))):
        segment = (datetime.now(UTC) - age).strftime("%Y%m%dT%H%M%S")
        keep(inbox(reading), record, segments=(segment, segment))
    assert (reading.run().status, list(sent(reading))) == ("success", ["ann"])


def test_record_has_the_types_of_its_json_and_columns_are_texts(reading: Shop):
    keep(inbox(reading), {"external_id": 7, "email": None, "items": [1, {"a": True}]})
    reading.sync(
        "it",
        """SELECT external_id, email IS NULL AS none, record.items AS items, typeof(external_id) AS kind, record_id,
        time, received_at FROM {{ source('postback', 'unsubscribes') }}""",
    )
    assert reading.run().status == "success"
    assert json.loads(reading.sent()[0])["attributes"] == [
        {
            "external_id": "7",
            "none": True,
            "items": [1, {"a": True}],
            "kind": "VARCHAR",
            "record_id": "r1",
            "time": 1_795_986_900,
            "received_at": "2026-11-29T21:15:00.000Z",
        }
    ]


# --- files ------------------------------------------------------------------------------------------------------------


def test_folder_may_be_outside_of_the_project(reading: Shop, tmp_path: Path):
    reading.more = {"collect": {**COLLECT, "path": "../inbox"}}
    reading.write()
    assert (reading.run().status, reading.sent()) == ("success", [])
    keep(tmp_path / "inbox", ANN)
    keep(tmp_path / "inbox", ANN, table="other")
    assert (reading.run().status, list(sent(reading))) == ("success", ["ann"])
    there = tmp_path / "inbox/postback/other"
    reading.sync("it", f"SELECT record AS external_id FROM '{there}/*.parquet'")
    assert "models cannot read" in error_of(reading)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("s3://bucket/inbox", "must be a folder, not a URL"),
        (".", "contains this project"),
        ("..", "contains this project"),
        (".retl/collected", "is private, and models never read it"),
        ("in*", "contains *, ? or [, which DuckDB takes for a pattern"),
        ("in[box]", "contains *, ? or [, which DuckDB takes for a pattern"),
        ("/proc/self", "is private, and models never read it"),
    ],
)
def test_folder_that_cannot_be_used_is_refused(reading: Shop, path: str, why: str):
    reading.more = {"collect": {**COLLECT, "path": path}}
    reading.write()
    told = f'"path" in "collect" {why}\n  hint: use a folder of its own: collected'
    assert error_of(reading).partition(": ")[2] == told


def test_link_to_files_elsewhere_is_not_followed(reading: Shop, tmp_path: Path):
    keep(tmp_path / "secret", ANN)
    (inbox(reading) / "postback").mkdir(parents=True)
    (inbox(reading) / "postback/unsubscribes").symlink_to(tmp_path / "secret/postback/unsubscribes")
    assert "models cannot read" in error_of(reading)


def test_file_that_is_none_of_the_collector_is_not_read(reading: Shop):
    keep(inbox(reading), ANN)
    (inbox(reading) / "postback/unsubscribes/.tmp-x.parquet").write_text("half")
    (inbox(reading) / "postback/unsubscribes/notes.txt").write_text("mine")
    assert (reading.run().status, list(sent(reading))) == ("success", ["ann"])


@pytest.mark.parametrize("path", ["it's", "day=1/time=2"])
def test_folder_may_have_an_odd_name(reading: Shop, path: str):
    reading.more = {"collect": {**COLLECT, "path": path}}
    reading.write()
    keep(reading.folder / path, ANN)
    assert (reading.run().status, list(sent(reading))) == ("success", ["ann"])


def test_file_that_vanishes_before_it_is_read_is_an_error_and_the_next_run_reads_what_is_there(reading: Shop):
    file = keep(inbox(reading), ANN)
    project = reading.project()
    compiled = project.compiled("it")
    file.unlink()
    keep(inbox(reading), BEN, segments=("20261129T210000", "20261129T215900"))
    with connect() as connection:
        engine = engine_of(project, connection)
        engine.open()
        with pytest.raises(DataError) as raised:
            engine.first_rows(compiled, 10)
    assert str(raised.value) == (
        f"models/it.sql: a collected file was removed before it was read: {file.name}\n"
        "  hint: run it again: it reads the files that are there then"
    )
    assert (reading.run().status, list(sent(reading))) == ("success", ["ben"])


# --- errors -----------------------------------------------------------------------------------------------------------


def test_table_that_is_not_declared_is_an_error_with_the_nearest_one(reading: Shop):
    reading.sync("it", "SELECT 1 AS external_id\nFROM {{ source('postback', 'unsubscribe') }}")
    assert error_of(reading) == (
        'models/it.sql:2: source(): "postback" of "collect" has no table "unsubscribe"\n'
        '  hint: did you mean "unsubscribes"?'
    )
    reading.sync("it", "SELECT record_id AS external_id FROM {{ source('postback', 'clicks') }}")
    assert error_of(reading) == (
        'models/it.sql:1: source(): "postback" of "collect" has no table "clicks"\n'
        '  hint: add it to the tables of "postback", and restart `retl collect`'
    )
    tables = {"clicks": {"columns": []}}
    reading.more = {"collect": {"sources": {"postback": {**COLLECT["sources"]["postback"], "tables": tables}}}}
    reading.write()
    assert (reading.run().status, reading.sent()) == ("success", [])


def test_models_do_not_read_its_keys(reading: Shop):
    reading.sync("it", "SELECT '{{ env_var('POSTBACK_KEY') }}' AS external_id")
    assert "POSTBACK_KEY" in error_of(reading)


def test_keys_of_the_collector_are_masked_wherever_they_would_be_shown(reading: Shop, retl: Retl):
    (reading.folder / ".env").write_text("POSTBACK_KEY=wk-5f0c2a7b9d3e7a11\n")
    reading.sync("it", "SELECT 'wk-5f0c2a7b9d3e7a11' AS external_id, error('wk-5f0c2a7b9d3e7a11') AS n")
    told = retl("sync", "it", folder=reading.folder)
    assert (told.code, "models/it.sql: Invalid Input Error: ***" in told.err) == (2, True)
    assert "wk-5f0c2a7b9d3e7a11" not in told.out + told.err + (reading.folder / "target/compiled/it.sql").read_text()


def test_column_that_is_not_declared_is_an_error_at_the_line_of_the_model(reading: Shop):
    reading.sync("it", "SELECT external_id,\n  phone FROM {{ source('postback', 'unsubscribes') }}")
    assert error_of(reading).startswith('models/it.sql:2: Binder Error: Referenced column "phone" not found')


# --- around a run -----------------------------------------------------------------------------------------------------


def test_data_tests_read_it(reading: Shop):
    keep(inbox(reading), {"external_id": "ann"})
    reading.sync("it", LATEST, data_tests=[{"not_null": "email"}])
    result = reading.run()
    assert (result.status, reading.sent()) == ("blocked", [])


def test_saved_plan_outlives_new_records_and_not_new_columns(reading: Shop, retl: Retl):
    keep(inbox(reading), ANN)
    assert retl("plan", "it", "--out", "it.plan", folder=reading.folder).code == 0
    keep(inbox(reading), BEN, segments=("20261129T211600", "20261129T211600"))
    reading.more = {"collect": {"sources": {"postback": {**COLLECT["sources"]["postback"]}}}}
    applied = retl("apply", "it.plan", folder=reading.folder)
    assert (applied.code, list(sent(reading))) == (0, ["ann"])
    assert retl("plan", "it", "--out", "it.plan", folder=reading.folder).code == 0
    tables = {"unsubscribes": {"columns": {"external_id": "email", "email": "external_id"}}}
    reading.more = {"collect": {"sources": {"postback": {**COLLECT["sources"]["postback"], "tables": tables}}}}
    reading.write()
    stale = retl("apply", "it.plan", folder=reading.folder)
    assert (stale.code, "a ref() or source() of its models resolves to another relation" in stale.err) == (1, True)


def test_commands_that_show_a_model_show_what_it_reads(reading: Shop, retl: Retl):
    file = keep(inbox(reading), ANN)
    compiled = retl("compile", "it", folder=reading.folder)
    assert (compiled.code, f"read_parquet([\n    '{file}'\n  ], hive_partitioning = false)" in compiled.out) == (
        0,
        True,
    )
    assert "ann@x.example" in retl("show", "it", folder=reading.folder).out
    assert retl("ls", folder=reading.folder).code == 0


# --- unit tests -------------------------------------------------------------------------------------------------------


def unit_test(shop: Shop, retl: Retl, rows: list[dict[str, Any]], records: list[dict[str, Any]], **keys: Any):
    given = [{"input": "source('postback', 'unsubscribes')", "rows": rows}]
    shop.more = {
        "collect": COLLECT,
        "unit_tests": [{"name": "latest", "sync": "it", "given": given, "expect": {"records": records}, **keys}],
    }
    shop.write()
    return retl("test", "it", folder=shop.folder)


def test_unit_test_gives_rows_of_the_columns_that_it_needs(reading: Shop, retl: Retl):
    keep(inbox(reading), BEN)
    rows = [
        {**ANN, "received_at": "2026-11-29T21:00:00Z"},
        {"external_id": "ann", "received_at": "2026-11-29T22:00:00Z"},
    ]
    tested = unit_test(reading, retl, rows, [{"external_id": "ann"}])
    assert tested.code == 0, tested.out + tested.err


def test_unit_test_without_rows_knows_the_columns(reading: Shop, retl: Retl):
    tested = unit_test(reading, retl, [], [])
    assert tested.code == 0, tested.out + tested.err


def test_unit_test_with_a_column_that_the_table_has_not_names_the_nearest(reading: Shop, retl: Retl):
    tested = unit_test(reading, retl, [{"external_ids": "ann"}], [])
    assert (tested.code, "source('postback', 'unsubscribes') has no column \"external_ids\"" in tested.err) == (2, True)
    assert 'did you mean "external_id"?' in tested.err


def test_unit_test_reads_no_file_of_the_collector(reading: Shop, retl: Retl):
    keep(inbox(reading), BEN)
    tested = unit_test(reading, retl, [], [], given=[])
    assert (tested.code, "no rows are given for source('postback', 'unsubscribes')" in tested.err) == (2, True)
