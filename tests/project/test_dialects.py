"""Models in other dialects: every row of the tables, its result in DuckDB, and what is refused."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from duckdb import DuckDBPyConnection, InvalidInputException
from hypothesis import given, settings
from hypothesis import strategies as st

from docs import dialect_cases as cases
from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.dialects.intervals import window
from reverse_etl.project.dialects.names import DIALECTS
from reverse_etl.project.dialects.row import Verdict
from reverse_etl.project.dialects.translate import TABLES, Rewrite, Translation, translate
from reverse_etl.project.dialects.zones import zone
from reverse_etl.sql.database import connect
from tests.shop import Shop

AT = datetime(2026, 11, 23, 23, 15, tzinfo=UTC)
PROOFS = {
    "hive": (cases.HIVE, cases.HIVE_MODELS),
    "trino": (cases.TRINO, cases.TRINO_MODELS),
    "spark": (cases.SPARK, cases.SPARK_MODELS),
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


@pytest.mark.long
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
        "Invalid Input Error: models/a.sql:2:3: trino: division of decimals is rounded to their scale: use CAST(x AS double) / y"
    )


def test_dates_that_would_become_timestamps_end_a_run_of_trino(warehouse: DuckDBPyConnection):
    for sql in ("date_add('day', 1, dt)", "date_trunc('month', dt)"):
        with pytest.raises(InvalidInputException) as raised:
            warehouse.execute(translated(f"SELECT {sql} AS x FROM t", "trino").sql).fetchall()
        assert str(raised.value).splitlines()[0] == (
            "Invalid Input Error: models/a.sql:1:8: trino: the type of this is not known here: "
            "write CAST(x AS date) or CAST(x AS timestamp)"
        )
        used = f"SELECT {sql} > date '2026-01-01' AS x, date_format({sql}, '%Y') AS y, CAST({sql} AS date) AS z FROM t"
        assert warehouse.execute(translated(used, "trino").sql).fetchone() is not None


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "-- a\nINSERT OVERWRITE TABLE x SELECT 1",
            ":2:1: a model must be a single SELECT; this one begins with INSERT OVERWRITE",
        ),
        ("SET a = 1; SELECT 1", ":1:1: a model must be a single SELECT; this one begins with SET"),
        ("/* b */ delete FROM t", ":1:9: a model must be a single SELECT; this one begins with DELETE"),
        ("DROP TABLE IF EXISTS x", ":1:1: a model must be a single SELECT; this one begins with DROP TABLE"),
        ("SELECT 1; SELECT 2", ": the model contains 2 statements"),
    ],
)
def test_only_one_select_is_translated(sql: str, said: str):
    assert refusal(sql, "hive").startswith(f"models/a.sql{said}\n  hint: ")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_no_table_knows_is_refused_by_name(dialect: str):
    assert refusal("select a,\n  frobnicate(a) as b from t", dialect) == (
        f"models/a.sql:2:3: {dialect}: function frobnicate() is not known here\n"
        "  hint: write this model in DuckDB SQL and remove config(dialect=...)"
    )


INTEGERS = st.integers(-(2**63) + 1, 2**63 - 1)
SMALL = st.integers(-9, 9)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31))  # a time without a zone
# Letters of Java with what Python writes for them: another reading than the table of patterns.
LETTERS = {
    **{"yyyy": "{0:%Y}", "yy": "{0:%y}", "MM": "{0:%m}", "M": "{0.month}", "MMM": "{0:%b}", "MMMM": "{0:%B}"},
    **{
        "dd": "{0:%d}",
        "d": "{0.day}",
        "HH": "{0:%H}",
        "H": "{0.hour}",
        "mm": "{0:%M}",
        "m": "{0.minute}",
        "ss": "{0:%S}",
    },
    **{"s": "{0.second}", "a": "{0:%p}", "hh": "{0:%I}", "EEE": "{0:%a}", "EEEE": "{0:%A}", "DDD": "{0:%j}"},
    **{"-": "-", "'T'": "T", "''": "'", "'%d'": "%d", "/": "/", " ": " "},
}


def one(connection: DuckDBPyConnection, sql: str, dialect: str) -> object:
    found = connection.execute(translated(f"SELECT {sql} AS x", dialect).sql).fetchone()
    assert found
    return found[0]


@given(INTEGERS, INTEGERS.filter(bool))
def test_integers_of_trino_are_divided_towards_zero(warehouse: DuckDBPyConnection, a: int, b: int):
    towards_zero = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    assert one(warehouse, f"CAST({a} AS bigint) / CAST({b} AS bigint)", "trino") == towards_zero
    of_columns = translated(
        f"SELECT a / b AS x FROM (SELECT CAST({a} AS bigint) AS a, CAST({b} AS bigint) AS b) s", "trino"
    )
    assert warehouse.execute(of_columns.sql).fetchone() == (towards_zero,)


@pytest.mark.long
@settings(max_examples=60)
@given(st.text("abcé", max_size=6), SMALL, SMALL)
def test_parts_of_texts_begin_and_end_where_hive_and_trino_have_them(
    warehouse: DuckDBPyConnection, said: str, start: int, length: int
):
    """As UDFSubstr of Hive: a negative start counts from the end, and must be inside. From 0 is from 1, or none in Trino."""
    begin = start - 1 if start > 0 else len(said) + start if start < 0 else 0
    inside = 0 <= begin < len(said) and length > 0
    wanted = said[begin : begin + length] if inside else ""
    assert one(warehouse, f"substr('{said}', {start}, {length})", "hive") == wanted
    of_columns = f"SELECT substr(s, p, n) AS x FROM (SELECT '{said}' AS s, {start} AS p, {length} AS n) q"
    assert warehouse.execute(translated(of_columns, "hive").sql).fetchone() == (wanted,)
    of_trino = wanted if start else ""
    assert one(warehouse, f"substr('{said}', {start}, {length})", "trino") == of_trino
    assert warehouse.execute(translated(of_columns, "trino").sql).fetchone() == (of_trino,)


@given(TIMES, st.lists(st.sampled_from(sorted(LETTERS)), min_size=1, max_size=5))
def test_patterns_of_java_write_what_python_writes(warehouse: DuckDBPyConnection, at: datetime, parts: list[str]):
    pattern = "|".join(parts)
    wanted = "|".join(LETTERS[part].format(at) for part in parts)
    quoted = pattern.replace("'", "\\'")
    assert one(warehouse, f"date_format(CAST('{at:%Y-%m-%d %H:%M:%S}' AS timestamp), '{quoted}')", "hive") == wanted


@pytest.mark.parametrize(
    ("spec", "start", "end"),
    [
        ("-1d", "2016-06-25", "2016-06-26"),
        ("1d", "2016-06-26", "2016-06-27"),
        ("-7d", "2016-06-19", "2016-06-26"),
        ("-7d/now", "2016-06-19", "2016-06-26 01:23:45"),
        ("-1w", "2016-06-13", "2016-06-20"),
        ("1M", "2016-06-01", "2016-07-01"),
        ("-1h", "2016-06-26", "2016-06-26 01:00:00"),
        ("-1h/now", "2016-06-26", "2016-06-26 01:23:45"),
        ("-1M/-1M", "2016-04-01", "2016-05-01"),
        ("-1M/1M", "2016-06-01", "2016-07-01"),
        ("-1d/-1d", "2016-06-24", "2016-06-25"),
        ("-6M/1M", "2016-01-01", "2016-07-01"),
        ("0d/now", "2016-06-26", "2016-06-26 01:23:45"),
        ("0M/-7d", "2016-06-01", "2016-06-19"),
        ("-1M/0d", "2016-05-01", "2016-06-26"),
        ("-1q/-1y/0y", "2014-10-01", "2015-01-01"),
        ("-3d/2017-04-07", "2017-04-04", "2017-04-07"),
        ("-1M/2018-09-02", "2018-08-01", "2018-09-01"),
        ("-1M/2018-09-02 12:34:56)", "2018-08-01", "2018-09-02 12:34:56"),
        ("2018-08-01/2018-09-02", "2018-08-01", "2018-09-02"),
    ],
)
def test_windows_of_intervals_are_those_of_airframe(spec: str, start: str, end: str):
    now = datetime(2016, 6, 26, 1, 23, 45)  # by the clock of any zone
    assert window(spec, now) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


@pytest.mark.parametrize("spec", ["", "today", "-1x", "-1d/later", "-1", "lastMonth/now"])
def test_other_intervals_are_refused(spec: str):
    assert f"the interval '{spec}' is not read" in refusal(f"SELECT td_interval(secs, '{spec}') AS x FROM t", "hive")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("JST", "Asia/Tokyo"),
        ("PST", "America/Los_Angeles"),
        ("EST", "Etc/GMT+5"),
        ("PDT", "Etc/GMT+7"),
        ("+09:00", "Etc/GMT-9"),
        ("asia/tokyo", "Asia/Tokyo"),
        ("UTC", "UTC"),
        ("Z", "UTC"),
        ("BST", "Asia/Dhaka"),
    ],
)
def test_zones_are_those_of_java(name: str, meant: str):
    found = zone(name)
    assert found
    assert found.name == meant


@pytest.mark.parametrize("name", ["+05:30", "Mars", "", "+99:00"])
def test_other_zones_are_refused(name: str):
    assert f'time zone "{name}" is not known here' in refusal(f"SELECT td_time_parse(w, '{name}') AS x FROM t", "trino")


def test_columns_without_a_name_have_that_of_the_engine(warehouse: DuckDBPyConnection):
    for dialect, name in (("hive", "_c1"), ("trino", "_col1")):
        made = warehouse.execute(translated("SELECT i, i + 1 FROM t", dialect).sql)
        assert [column[0] for column in made.description] == ["i", name]
    assert "this column has no name" in refusal("SELECT i, i + 1 FROM t", "spark")


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("trino", "SELECT x FROM (SELECT ts AT TIME ZONE 'Asia/Tokyo' AS x FROM t) AS s"),
        ("trino", "SELECT * FROM t TABLESAMPLE BERNOULLI (10)"),
        ("trino", "SELECT regexp_extract(w, '(a)?b', 1) AS x FROM t"),
        ("trino", "SELECT format('%s', d) AS x, format('%x', i) AS y FROM t"),
        ("trino", "SELECT json_extract_scalar(doc, '$.l[*]') AS x FROM t"),
        ("trino", "SELECT date_format(ts, '%D') AS x FROM t"),
        ("trino", "SELECT sequence(i, two) AS x FROM t"),
        ("trino", "SELECT dt - ts + date '2026-01-01' AS x FROM t"),
        ("hive", "SELECT `(i)?+.+` FROM t"),
        ("hive", "SELECT TRANSFORM (i) USING 'cat' AS x FROM t"),
        ("hive", "SELECT cast(ts AS int) AS a, cast(cast('2026-01-01' AS date) AS int) AS b FROM t"),
        ("hive", "SELECT split(w, '') AS x FROM t"),
        ("hive", "SELECT concat(w, array(1)) AS x FROM t"),
        ("snowflake", "SELECT i / 2 AS x FROM t"),
        ("postgres", "SELECT CAST(CAST(d AS float8) AS text) AS x FROM t"),
        ("bigquery", "SELECT [1, 2][OFFSET(0)] AS x FROM t"),
    ],
)
def test_what_has_no_exact_counterpart_is_refused(dialect: str, sql: str):
    assert refusal(sql, dialect).startswith("models/a.sql:1:")


@pytest.mark.parametrize("dialect", ["bigquery", "postgres", "redshift", "snowflake"])
def test_core_of_other_dialects_is_translated(warehouse: DuckDBPyConnection, dialect: str):
    sql = (
        "WITH a AS (SELECT id, n, row_number() OVER (PARTITION BY id ORDER BY n DESC) AS r FROM u)"
        " SELECT upper(id) AS id, coalesce(sum(n), 0) AS n, count(*) AS k FROM a LEFT JOIN t ON n = i"
        " WHERE r = 1 AND id LIKE '%c%' AND n BETWEEN 1 AND 5 GROUP BY id HAVING count(*) > 0 ORDER BY id LIMIT 5"
    )
    assert warehouse.execute(translated(sql, dialect).sql).fetchall() == [("C", 1, 1)]


def test_explained_rewrites_name_their_row_and_place():
    made = translated("SELECT i,\n  substr(w, 0, 4) AS x FROM t", "hive")
    assert made.rewrites == (Rewrite(Location("models/a.sql", 2, 3), "substr", "substr(w, 0, 4)", "SUBSTR(w, 1, 4)"),)


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        (
            "SELECT 'u1' AS external_id,\n  CAST(w AS bigint) AS x FROM t",
            "models/it.sql:3:8: trino: a text is not an integer\n  hint: see the compiled SQL in target/compiled/it.sql; it is a "
            "translation, which `retl compile --explain it` shows",
        ),
        (
            "SELECT 'u1' AS external_id,\n  upper(w) AS x,\n  nowhere + 1 AS y FROM t",
            'models/it.sql:4: Binder Error: Referenced column "nowhere" not found in FROM clause!',
        ),
        (
            "SELECT 'u1' AS external_id,\n  CAST(w AS date) AS x, upper(w) AS y FROM t",
            "models/it.sql:3: Conversion Error: invalid date field format: ***, expected format is (YYYY-MM-DD) when casting "
            "from source column w\n  hint: see the compiled SQL in target/compiled/it.sql, line 3; it is a translation",
        ),
        (
            "SELECT 'u1' AS external_id,\n  date('x') AS x, CAST(w AS varchar) AS y,\n  w AS z FROM t",
            "models/it.sql: Conversion Error: invalid date field format: ***, expected format is (YYYY-MM-DD)\n  hint: see the "
            "compiled SQL in target/compiled/it.sql, line 3; it is a translation",
        ),
    ],
)
def test_error_of_a_translated_model_names_the_line_that_was_written(shop: Shop, sql: str, error: str):
    shop.warehouse("CREATE TABLE t AS SELECT 'abc' AS w")
    shop.sync("it", f"{{{{ config(dialect='trino') }}}}\n{sql}")
    (found,) = shop.run().errors
    assert str(found).startswith(error)
    assert "`retl compile --explain it`" in (found.hint or "")


def test_error_of_a_model_that_refers_to_a_translated_one_names_that_one(shop: Shop):
    shop.model(
        "inner", "{{ config(dialect='hive') }}\nSELECT 'u1' AS external_id,\n  CAST('yes' AS int) / e AS x FROM t"
    )
    shop.warehouse("CREATE TABLE t AS SELECT 1.5 AS e")
    shop.sync("it", "SELECT * FROM {{ ref('inner') }}")
    (found,) = shop.run().errors
    said = "hive: a decimal divided by an integer or decimal is rounded to a scale: use CAST(x AS double) / y"
    assert str(found).startswith(f"models/inner.sql:3:8: {said}\n")
