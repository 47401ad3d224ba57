"""Spark as the warehouse, on Sail, which speaks Spark Connect: its types, its errors, its sessions."""

import json
import signal
import sys
from typing import Any

import pytest

from reverse_etl.engines.spark.errors import too_large
from tests.shop import Retl, Shop, start
from tests.warehouses.conftest import SPARK, Sail
from tests.warehouses.servers import LARGEST_RESULT, free_port

TYPES: dict[str, tuple[str, Any]] = {
    "boolean": ("true", True),
    "tinyint": ("CAST(-128 AS TINYINT)", -128),
    "smallint": ("CAST(-32768 AS SMALLINT)", -32768),
    "int": ("2147483647", 2147483647),
    "bigint": ("9223372036854775807", 9223372036854775807),
    "float": ("CAST(1.5 AS FLOAT)", 1.5),
    "double": ("CAST(0.1 AS DOUBLE)", 0.1),
    "decimal(10,2)": ("CAST(12.30 AS DECIMAL(10, 2))", 12.3),
    "string": ("'né \"x\" 한'", 'né "x" 한'),
    "date": ("DATE'2024-02-29'", "2024-02-29"),
    "timestamp": ("TIMESTAMP'2024-02-29 10:20:30.123456'", "2024-02-29T10:20:30.123Z"),
    "timestamp_ntz": ("TIMESTAMP_NTZ'2024-02-29 10:20:30'", "2024-02-29T10:20:30.000Z"),
    "array": ("array(1, 2)", [1, 2]),
    "array of arrays": ("array(array('a'), array())", [["a"], []]),
    "struct": ("named_struct('a', 1, 'b', named_struct('c', 'x'))", {"a": 1, "b": {"c": "x"}}),
    "map": ("map('k', 1, 'l', 2)", {"k": 1, "l": 2}),
    "array of structs": ("array(named_struct('a', 1))", [{"a": 1}]),
}


@pytest.fixture
def spark(sail: Sail, shop: Shop) -> Shop:
    """A shop whose models run in Spark."""
    shop.engine = {"type": "spark", "remote": sail.address}
    shop.write()
    return shop


def test_each_type_arrives_as_it_is(spark: Shop):
    columns = ", ".join(f"{sql} AS c{n}" for n, (sql, _) in enumerate(TYPES.values()))
    spark.sync("it", f"SELECT 'u1' AS external_id, {columns}, NULL AS nothing")
    assert [str(one) for one in spark.run().errors] == []
    ((user,),) = (json.loads(body).values() for body in spark.sent())
    for n, (name, (_, expected)) in enumerate(TYPES.items()):
        assert (name, user[0][f"c{n}"]) == (name, expected)
    assert "nothing" not in user[0]
    assert spark.run().plan.to_send == 0


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("INTERVAL '1' DAY", 'column "n" is interval day, which does not arrive as it is\n  hint: return CAST(`n` AS STRING) AS `n`'),
        ("array(INTERVAL '1' DAY)", f'column "n" is array<interval day{"" if SPARK else " to second"}>, which does not arrive as it is\n  hint: return to_json(`n`) AS `n`'),
    ],
)  # fmt: skip
def test_type_that_would_not_arrive_is_refused(sql: str, expected: str, spark: Shop):
    spark.sync("it", f"SELECT 'u1' AS external_id, {sql} AS n")
    assert [str(one) for one in spark.run().errors] == [f"models/it.sql: {expected}"]


@pytest.mark.parametrize(
    ("sql", "place", "expected"),
    [
        ("SELECT 'u1' AS external_id, -- nothing\n  nothing, 'nothing' FROM range(3)", ":2", "nothing"),
        ("SELECT 'u1' AS external_id\nFROM range(3) a\nWHERE a.`No thing` = 1", ":3", "No thing"),
        ("SELECT 'u1' AS external_id\nFROM range(3) a,\n  nowhere", ":3", "nowhere"),
        ("SELECT 'u1' AS external_id,\n  nofun(1)", ":2", "nofun"),
        ("SELECT 'u1' AS external_id,\n  nothing\n  AS nothing FROM range(3)", ":2" if SPARK else "", "nothing"),
        ("SELECT 'u1' AS external_id,\n  1 FRM x", ":2", "PARSE_SYNTAX_ERROR" if SPARK else "found x at"),
        ("SELECT 'u1' AS external_id, CAST(id || '-ann@example.com' AS INT) AS n FROM range(3)", "", ""),
    ],
)  # Sail does not say where a name is that it does not find: several lines may have it
def test_error_names_the_model_and_no_value(sql: str, place: str, expected: str, spark: Shop):
    spark.sync("it", sql)
    result = spark.run()
    assert (result.exit_code, spark.sent()) == (2, [])
    said = str(result.errors[0])
    assert said.startswith(f"models/it.sql{place}: "), said
    assert expected in said
    assert "ann@" not in said
    assert not {"SQLSTATE", "ObjectName"} & set(said.split("(")), said


def test_host_that_does_not_answer_is_named(spark: Shop, retl: Retl):
    spark.sync("it", "SELECT 'u1' AS external_id")
    spark.engine["remote"] = f"sc://127.0.0.1:{free_port()}"
    spark.write()
    done = retl("plan", "it", folder=spark.folder)
    assert (done.code, done.err) == (
        1,
        f"syncs.yml:7:15: cannot connect to Spark at {spark.engine['remote'][5:]}: Connection refused\n"
        "  hint: check host and port of remote; or try again when it answers\n",
    )


def test_missing_package_is_named_with_the_command(spark: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("pyspark.sql.connect")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark.sql.connect.session", None)
    spark.sync("it", "SELECT 'u1' AS external_id")
    done = retl("plan", "it", folder=spark.folder)
    assert (done.code, done.err) == (
        2,
        "syncs.yml:7:15: a warehouse in Spark needs a package that is not installed\n"
        '  hint: install it: `pip install "reverse-etl[spark]"`\n',
    )


def test_signal_ends_the_run(spark: Shop):
    slow = "SELECT CAST(a.id AS STRING) AS external_id FROM range(100000) a, range(100000) b, range(1000) c WHERE a.id + b.id = -1"
    spark.sync("it", slow)
    with start(spark, "sync", "it") as process:
        process.wait_until(lambda: (spark.folder / "target/compiled/it.sql").exists())
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130, process.err
    assert (spark.sent(), "Traceback" in process.err) == ([], False)


def test_unit_tests_run_a_translated_model(spark: Shop, retl: Retl):
    spark.sync("it", "SELECT external_id, upper(name) AS `name` FROM {{ source('app', 'people') }}")
    given = [{"input": "source('app', 'people')", "rows": [{"external_id": "u1", "name": "ann"}]}]
    expect = {"records": [{"external_id": "u1", "name": "ANN"}]}
    spark.more = {"unit_tests": [{"name": "one", "sync": "it", "given": given, "expect": expect}]}
    spark.write()
    done = retl("test", folder=spark.folder)
    assert (done.code, done.out) == (0, "pass   one (it)\n"), done.err


TOO_LARGE = "its rows are more than Spark's driver passes on: its spark.driver.maxResultSize is"


@pytest.mark.skipif(not SPARK, reason="Sail has no such limit")
def test_rows_that_are_more_than_the_driver_passes_on_are_named(spark: Shop, retl: Retl):
    """All of them, some 200 MB, go through its memory."""
    text = ", ".join(f"sha2(concat('{n}', id), 512)" for n in range(8))
    spark.sync("it", f"SELECT CAST(id AS STRING) AS external_id, concat({text}) AS text FROM range(200000)")
    done = retl("sync", "it", folder=spark.folder)
    hint = "  hint: start the Spark server with a larger one, or with 0, and run it again: nothing is lost\n"
    assert (done.code, spark.sent()) == (2, [])
    assert done.err == f"models/it.sql: {TOO_LARGE} {float(LARGEST_RESULT[:-1])} MiB\n{hint}"


def test_limit_of_the_driver_is_read_from_what_spark_says():
    """As Apache Spark 4.3 says it."""
    said = "Job aborted due to stage failure: Total size of serialized results of 6 tasks (1062.9 MiB) is bigger than "
    error = too_large(f"{said}spark.driver.maxResultSize (1024.0 MiB)", "models/it.sql: its rows")
    assert error
    assert (error.problems[0].code, error.problems[0].message) == ("P149", f"models/it.sql: {TOO_LARGE} 1024.0 MiB")
    assert too_large("Job aborted due to stage failure: out of memory", "models/it.sql: its rows") is None


def test_parameters_in_remote_are_refused(spark: Shop, retl: Retl):
    spark.sync("it", "SELECT 1 AS external_id")
    spark.engine["remote"] = "sc://host:15002/;token=abc"
    spark.write()
    done = retl("plan", "it", folder=spark.folder)
    assert (done.code, done.err) == (
        2,
        'syncs.yml:7:15: "remote" in target "test" must not have parameters: a token has a key of its own\n',
    )
