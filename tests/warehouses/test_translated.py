"""What unit tests translate from Postgres has the same result in Postgres and in DuckDB."""

from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import pytest

from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.dialects.translate import translate
from tests.warehouses.servers import PostgresServer

ROWS = (
    "(1, 'abc', CAST(1.25 AS numeric(10, 2)), CAST(2.5 AS float8), date '2024-02-29', timestamp '2024-02-29 10:20:30.123456', true, 'x')",
    "(-7, '  Né한 ', -2.50, -0.5, date '0001-01-01', timestamp '1999-12-31 23:59:59', false, '')",
    "(0, '', 0.00, 1e20, date '2024-12-31', timestamp '2024-01-01 00:00:00.5', NULL, 'a,b,,c')",
    "(2147483647, ' 12 ', 99999999.99, 3, NULL, NULL, true, '12')",
    "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
)
TABLE = f"(VALUES {', '.join(ROWS)}) AS v(i, s, n, f, d, t, b, w)"
SAME = (
    *("trim(s)", "ltrim(s)", "rtrim(s)", "btrim(s)", "reverse(s)", "md5(s)", "left(s, 2)", "left(s, -1)", "right(s, 2)"),
    *("right(s, -1)", "repeat(s, 2)", "repeat(s, 0)", "split_part(w, ',', 3)", "split_part(w, ',', -1)"),
    *("split_part(w, ',', 9)", "lpad(s, 5, 'xy')", "lpad(s, 2, 'x')", "rpad(s, 5, 'xy')", "translate(s, 'abc', 'xy')"),
    *("strpos(s, 'b')", "starts_with(s, 'a')", "starts_with(s, '')", "char_length(s)", "greatest(i, 5)"),
    *("greatest(s, w)", "least(i, 5)", "floor(n)", "ceil(n)", "floor(f)", "ceiling(f)", "make_date(2024, 1, 2)"),
    *("date_trunc('month', t)", "date_trunc('week', t)", "date_trunc('day', t)", "CAST(i AS text)", "CAST(n AS text)"),
    *("CAST(b AS text)", "CAST(d AS text)", "CAST(t AS text)", "CAST(s AS varchar)", "CAST(n AS int)", "n::bigint"),
    *("n::float8", "i::float8", "f::float8", "i::numeric(12, 2)", "n::numeric(12, 1)", "i::boolean", "t::date", "d::timestamp"),
    *("i / 2", "i::int / 2", "i::int / -2", "f::float8 / 2", "(i::int)::float8 / 100", "d + 1", "t - interval '1 day'"),
    *("t + interval '36 hours'", "d + interval '1 month'", "s ILIKE '%B%'", "ceil(n)::int", "coalesce(s, w) || '-'"),
)  # fmt: skip


@pytest.fixture(scope="module")
def workbench() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = 'UTC'; CREATE TABLE v AS SELECT * FROM {TABLE}")
        yield connection


def translated(sql: str) -> str:
    return translate(sql, "postgres", lambda line, column: Location("it.sql", line, column), datetime.now(UTC)).sql


@pytest.mark.parametrize("expression", SAME)
def test_expression_has_the_value_of_postgres(
    expression: str, server: PostgresServer, workbench: duckdb.DuckDBPyConnection
):
    ours = workbench.execute(translated(f"SELECT {expression} AS x FROM v")).fetchall()
    theirs = server.sql(f"SELECT {expression} AS x FROM {TABLE}")
    assert [comparable(value) for (value,) in ours] == [comparable(value) for (value,) in theirs]


def comparable(value: object) -> object:
    """The driver returns numeric as a text."""
    return value if isinstance(value, int | float | datetime) or value is None else str(value)


@pytest.mark.parametrize("aggregate", ["bool_and(b)", "bool_or(b)", "count(*) / 2", "max(s)"])
def test_aggregate_has_the_value_of_postgres(
    aggregate: str, server: PostgresServer, workbench: duckdb.DuckDBPyConnection
):
    ours = workbench.execute(translated(f"SELECT {aggregate} AS x FROM v")).fetchall()
    assert ours == server.sql(f"SELECT {aggregate} AS x FROM {TABLE}")


@pytest.mark.parametrize(
    "expression",
    ["round(n)", "f::text", "w::int", "date_trunc('month', d)", "n / 2", "f / 2", "2 / i", "s ~ 'a'", "age(t, t)", "trim(both 'a' from s)",
     "extract(year from t)", "s::varchar(2)", "i::int / 0", "t + interval '1 day 2 hours'"],
)  # fmt: skip
def test_what_may_differ_is_refused(expression: str, workbench: duckdb.DuckDBPyConnection):
    with pytest.raises((ProjectError, duckdb.InvalidInputException), match="postgres: "):
        workbench.execute(translated(f"SELECT {expression} AS x FROM v")).fetchall()
