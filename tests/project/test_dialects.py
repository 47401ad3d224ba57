"""Models in other dialects: every row of the tables, its result in DuckDB, and what is refused."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from duckdb import DuckDBPyConnection, InvalidInputException

from docs import dialect_cases as cases
from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.dialects.names import DIALECTS
from reverse_etl.project.dialects.row import Verdict
from reverse_etl.project.dialects.translate import TABLES, Translation, translate
from reverse_etl.sql.database import connect

AT = datetime(2026, 11, 23, 23, 15, tzinfo=UTC)
PROOFS = {
    "hive": (cases.HIVE, cases.HIVE_MODELS),
    "trino": (cases.TRINO, cases.TRINO_MODELS),
}


def translated(sql: str, dialect: str) -> Translation:
    return translate(sql, dialect, lambda line, column: Location("models/a.sql", line, column), AT)


def refusal(sql: str, dialect: str) -> str:
    with pytest.raises(ProjectError) as raised:
        translated(sql, dialect)
    return str(raised.value)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[DuckDBPyConnection]:
    """A connection with the tables `t` and `u`."""
    one = ", ".join(f"CAST({value!r} AS {kind}) AS {name}" for name, (kind, value) in cases.COLUMNS.items())
    with connect() as connection:
        connection.execute(f"SET TimeZone = 'UTC'; CREATE TABLE t AS SELECT {one}")
        connection.execute(f"CREATE TABLE u {cases.ROW}; INSERT INTO u VALUES {', '.join(cases.ROWS)}")
        yield connection


@pytest.mark.parametrize("dialect", PROOFS)
def test_every_expression_has_the_result_of_its_engine(warehouse: DuckDBPyConnection, dialect: str):
    """They are translated together, as columns of one model."""
    expressions, _ = PROOFS[dialect]
    listed = ",\n".join(f"{case.sql} AS c{number}" for number, case in enumerate(expressions))
    made = translated(f"SELECT {listed} FROM t", dialect).sql
    columns = ", ".join(f"to_json(c{number})" for number in range(len(expressions)))
    found = warehouse.execute(f"SELECT {columns} FROM ({made})").fetchone()
    assert found
    assert {case.sql: value and json.loads(value) for case, value in zip(expressions, found, strict=True)} == {
        case.sql: case.result and json.loads(case.result) for case in expressions
    }


@pytest.mark.parametrize("dialect", PROOFS)
def test_every_model_has_the_rows_of_its_engine(warehouse: DuckDBPyConnection, dialect: str):
    _, models = PROOFS[dialect]
    found = {}
    for case in models:
        rows = warehouse.execute(translated(case.sql, dialect).sql).fetchall()
        found[case.sql] = json.loads(json.dumps(rows, default=float))
    assert found == {case.sql: json.loads(case.result or "null") for case in models}


@pytest.mark.parametrize("dialect", PROOFS)
def test_every_function_of_the_table_has_a_proof(dialect: str):
    written = " ".join(case.sql for part in PROOFS[dialect] for case in part).lower()
    names = {name for name, row in TABLES[dialect].functions.items() if row.verdict is not Verdict.REFUSED}
    assert {name for name in names if not re.search(rf"\b{name}\b", written)} == set()


@pytest.mark.parametrize("dialect", PROOFS)
def test_every_refused_function_is_named_with_its_line_and_column(dialect: str):
    for name, row in TABLES[dialect].functions.items():
        if row.verdict is Verdict.REFUSED:
            instead = row.instead or "write this model in DuckDB SQL and remove config(dialect=...)"
            assert refusal(f"select 1 as a,\n  {name}(x) as b from t", dialect) == (
                f"models/a.sql:2:3: {dialect}: {name}() cannot be translated: {row.why}\n  hint: {instead}"
            )


@pytest.mark.parametrize(
    ("dialect", "sql", "hint", "followed"),
    [
        ("trino", "1.0 / 3", "use CAST(x AS double) / y", "CAST(1.0 AS double) / 4"),
        ("hive", "CAST('true' AS boolean)", "write the comparison: x = 'true'", "'true' = 'true'"),
        ("trino", "md5(to_utf8(w))", "to_hex(md5(to_utf8(x)))", "to_hex(md5(to_utf8(w)))"),
        (
            "trino",
            "dt + interval '1' day",
            "say which: CAST(x AS date) + INTERVAL '1' DAY",
            "CAST(dt AS date) + INTERVAL '1' DAY",
        ),
        ("trino", "avg(CAST(e AS decimal(10, 2)))", "use avg(CAST(x AS double))", "avg(CAST(e AS double))"),
        (
            "trino",
            "CAST(CAST(d AS double) AS varchar)",
            "use CAST(CAST(x AS decimal(18, 2)) AS varchar)",
            "CAST(CAST(d AS decimal(18, 2)) AS varchar)",
        ),
        (
            "hive",
            "regexp_extract(w, '(?=a)(b)', 1)",
            "write it without lookaround, backreferences and possessive quantifiers",
            "regexp_extract(w, 'a(b)', 1)",
        ),
        ("hive", "trunc(dt, 'DD')", "use to_date() for the day", "to_date(dt)"),
        (
            "hive",
            "date_format(ts, 'YYYY')",
            "yyyy is the year; YYYY is the year of the week, which differs at the turn of the year",
            "date_format(ts, 'yyyy')",
        ),
        (
            "hive",
            "td_time_format(secs, 'z', 'Mars')",
            "use a name such as Asia/Tokyo",
            "td_time_format(secs, 'HH', 'Asia/Tokyo')",
        ),
        (
            "trino",
            "reduce(array[1], 0, (s, x) -> s, s -> s + 1)",
            "write this model in DuckDB SQL and remove config(dialect=...)",
            "1",
        ),
    ],
)
def test_hint_of_a_refusal_is_followed(warehouse: DuckDBPyConnection, dialect: str, sql: str, hint: str, followed: str):
    assert refusal(f"SELECT {sql} AS x FROM t", dialect).endswith(f"\n  hint: {hint}")
    assert warehouse.execute(translated(f"SELECT {followed} AS x FROM t", dialect).sql).fetchone()


def test_decimals_end_a_run_of_trino_where_only_duckdb_knows_them(warehouse: DuckDBPyConnection):
    with pytest.raises(InvalidInputException) as raised:
        warehouse.execute(translated("SELECT\n  e / two AS x FROM t", "trino").sql).fetchall()
    assert str(raised.value).splitlines()[0] == (
        "Invalid Input Error: line 2:3: trino: division of decimals is rounded to their scale: use CAST(x AS double) / y"
    )


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("INSERT OVERWRITE TABLE x SELECT 1", "a model must be a single SELECT; this one contains INSERT"),
        ("SET a = 1", "a model must be a single SELECT; this one contains SET"),
        ("SELECT 1; SELECT 2", "the model contains 2 statements"),
    ],
)
def test_only_one_select_is_translated(sql: str, said: str):
    assert refusal(sql, "hive").startswith(f"models/a.sql: {said}\n  hint: ")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_no_table_knows_is_refused_by_name(dialect: str):
    assert refusal("select a,\n  frobnicate(a) as b from t", dialect) == (
        f"models/a.sql:2:3: {dialect}: function frobnicate() is not known here\n"
        "  hint: write this model in DuckDB SQL and remove config(dialect=...)"
    )
