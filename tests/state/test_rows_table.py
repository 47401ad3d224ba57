"""How the table of acknowledged rows is created."""

from pathlib import Path

import duckdb
import pytest

from reverse_etl.engines.duckdb.model import distinct_columns
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.project.models import Compiled
from reverse_etl.sql.types import SqlType
from reverse_etl.state.contents import OWN_COLUMNS, types_of
from reverse_etl.state.rows_table import FILE_FORMAT, create_rows, distinct_in_outbox

VALUES = """SELECT 'u' || i AS "new.external_id", ['gold', 'silver'][1 + i % 2] AS "new.tier",
    CAST('{"n": ' || i || '}' AS JSON) AS "new.document", i AS "new.number", [CAST(i AS VARCHAR)] AS "new.list",
    CAST(NULL AS VARCHAR) AS "new.never" """


@pytest.mark.parametrize(
    ("file_format", "rows", "expected"),
    [
        pytest.param(FILE_FORMAT, 200_000, {"external_id", "document"}, id="many rows: where most values differ"),
        pytest.param(FILE_FORMAT, 1_000, set(), id="few rows: nowhere"),
        pytest.param("STORAGE_VERSION 'v2.0.0'", 200_000, set(), id="a state of an older retl, whose file cannot"),
    ],
)
def test_columns_of_strings_that_differ_are_compressed_by_fsst(
    file_format: str, rows: int, expected: set[str], tmp_path: Path
):
    with duckdb.connect() as connection:
        connection.execute(
            f"ATTACH ':memory:' AS retl_run; ATTACH '{tmp_path}/state.duckdb' AS retl_state ({file_format})"
        )
        connection.execute(f"CREATE TABLE {OUTBOX} AS {VALUES} FROM range({rows}) AS r(i)")
        columns = {name.removeprefix("new."): of for name, of in types_of(connection, OUTBOX).items()}
        create_rows(connection, "retl_state.main.state", columns, distinct_in_outbox(connection, columns))
        assert list(types_of(connection, "retl_state.main.state")) == [*columns, *OWN_COLUMNS]
        (sql,) = connection.execute("SELECT sql FROM duckdb_tables() WHERE database_name = 'retl_state'").fetchall()[0]
    told = {line.split()[0].strip(chr(34)) for line in sql.partition("(")[2].split(", ") if "FSST" in line.upper()}
    assert told == expected


def test_table_has_the_types_of_the_outbox():
    struct = SqlType("struct", "STRUCT(a INTEGER)", (("a", SqlType("integer", "INTEGER")),))
    with duckdb.connect() as connection:
        connection.execute("ATTACH ':memory:' AS retl_run; ATTACH ':memory:' AS retl_state")
        connection.execute(f'CREATE TABLE {OUTBOX} ("new.x" STRUCT(a INTEGER))')
        create_rows(connection, "retl_state.main.state", {"x": struct}, ())
        assert types_of(connection, "retl_state.main.state")["x"].text == struct.text


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        pytest.param("SELECT * FROM people WHERE i >= 0", ["external_id"], id="read row by row"),
        pytest.param("SELECT * FROM people UNION ALL SELECT * FROM people", ["external_id"], id="read from two tables"),
        pytest.param("SELECT * FROM people LIMIT 1000", [], id="of few rows"),
        pytest.param("SELECT * FROM people ORDER BY i", [], id="sorted before the first row is there"),
        pytest.param("SELECT external_id, min(tier) AS tier FROM people GROUP BY ALL", [], id="grouped"),
        pytest.param("WITH p AS MATERIALIZED (FROM people) FROM p", [], id="computed in advance"),
    ],
)
def test_first_rows_tell_of_a_baseline_unless_all_of_its_model_would_run(sql: str, expected: list[str]):
    with duckdb.connect() as connection:
        connection.execute(
            """CREATE TABLE people AS
            SELECT i, 'u' || i AS external_id, ['gold', 'silver'][1 + i % 2] AS tier FROM range(150_000) AS r(i)"""
        )
        model = Compiled("it", "models/it.sql", sql, (), (), "target/compiled/it.sql", ())
        assert distinct_columns(connection, model, ["external_id", "tier"]) == expected
