"""Where an extension has brought functions, models call those that DuckDB had before, wherever in a query they call."""

from datetime import UTC, datetime

import pytest

from reverse_etl.engines.duckdb.attached import own_functions, refuse_other_calls
from reverse_etl.errors import ProjectError
from reverse_etl.plan.workbench import connect
from reverse_etl.project.models import Compiled, Model, RunValues, compile_model

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def model(sql: str) -> Compiled:
    values = RunValues({}, {}, "test", {}, (), NOW, NOW)
    return compile_model("it", {"it": Model("it", "models/it.sql", sql)}, values)


def refused(sql: str) -> str:
    with connect() as connection:
        own = own_functions(connection)
        connection.execute("CREATE TABLE users (external_id VARCHAR, n INTEGER, tags VARCHAR[])")
        connection.execute("CREATE SEQUENCE called; CREATE MACRO evil(x := 0) AS nextval('called')")
        connection.execute("CREATE MACRO evils(x := 0) AS TABLE SELECT nextval('called') AS n")
        with pytest.raises(ProjectError) as caught:
            refuse_other_calls(connection, model(sql), own)
        ((next_value,),) = connection.execute("SELECT nextval('called')").fetchall()
        assert next_value == 1  # nothing of it was run
        return str(caught.value)


WHY = "() here: it is none of those that they may call"
WAY_OUT = "\n  hint: put the call into a view of the warehouse, or build a table of what it returns; see Lakes in docs/engines.md"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT evil()",
        "SELECT EVIL()",
        'SELECT "evil"()',
        "SELECT main.evil()",
        "SELECT memory.main.evil(1)",
        "SELECT upper(evil()::VARCHAR)",
        "SELECT external_id.evil() FROM users",
        "FROM evils()",
        "FROM evils(x := 1) AS e(a)",
        "SELECT * FROM users, evils()",
        "SELECT * FROM users, LATERAL (FROM evils())",
        "SELECT * FROM users JOIN users AS o ON evil() = 1",
        "SELECT * FROM users WHERE n IN (SELECT evil())",
        "SELECT * FROM users WHERE EXISTS (FROM evils())",
        "SELECT * FROM users ORDER BY evil()",
        "SELECT * FROM users LIMIT (SELECT evil())",
        "SELECT * FROM users OFFSET (SELECT evil())",
        "SELECT n FROM users GROUP BY n HAVING evil() = 1",
        "SELECT n FROM users GROUP BY evil()",
        "SELECT n FROM users QUALIFY evil() = 1",
        "SELECT DISTINCT ON (evil()) n FROM users",
        "SELECT sum(n) FILTER (evil() = 1) FROM users",
        "SELECT sum(n ORDER BY evil()) FROM users",
        "SELECT sum(n) OVER (PARTITION BY evil()) FROM users",
        "SELECT sum(n) OVER w FROM users WINDOW w AS (ORDER BY evil())",
        "SELECT list_transform(tags, lambda x: evil()) FROM users",
        "SELECT [evil() for x in tags] FROM users",
        "SELECT CASE WHEN evil() = 1 THEN 1 END",
        "SELECT n FROM users WHERE n BETWEEN evil() AND 2",
        "SELECT {'a': evil()}",
        "SELECT [evil()]",
        "SELECT MAP {'a': evil()}",
        "SELECT tags[evil()] FROM users",
        "SELECT * REPLACE (evil() AS n) FROM users",
        "SELECT COLUMNS(lambda c: evil() = 1) FROM users",
        "VALUES (evil())",
        "WITH a AS (SELECT evil()) FROM a",
        "WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT evil() FROM a) FROM a",
        "SELECT 1 UNION ALL SELECT evil()",
        "FROM read_csv(evil())",
        "FROM range(evil())",
        "FROM users TABLESAMPLE 10% WHERE evil() = 1",
        "FROM users PIVOT (sum(evil()) FOR n IN (1, 2))",
        "FROM users AT (VERSION => evil())",
        "SELECT n FROM users LIMIT evil()",
        "SELECT try(evil())",
        "SELECT evil() COLLATE NOCASE",
    ],
)
def test_call_of_another_function_is_found_wherever_it_is(sql: str):
    name = "evils" if "evils(" in sql.lower() else "evil"
    assert refused(sql) == f"models/it.sql:1: models cannot call {name}{WHY}{WAY_OUT}"


@pytest.mark.parametrize(
    "sql",
    [
        "FROM query('SELECT evil()')",
        "FROM query_table('users')",
        "FROM json_execute_serialized_sql('{}')",
        "FROM create_external_resource('evil', MAP {'a': 'b'})",
        "FROM destroy_external_resource('evil', 1)",
        "FROM arrow_scan(1::BIGINT, 2::BIGINT, 3::BIGINT)",
    ],
)
def test_function_that_runs_what_a_string_or_a_pointer_names_is_refused(sql: str):
    name = sql.removeprefix("FROM ").partition("(")[0]
    assert refused(f"--\n{sql}") == f"models/it.sql:2: models cannot call {name}{WHY}{WAY_OUT}"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1; SELECT evil()", "models/it.sql: a model must be a single SELECT; this one contains SELECT, SELECT"),
        ("CALL evils()", "models/it.sql: a model must be a single SELECT; this one contains CALL"),
        ("DROP TABLE users", "models/it.sql: a model must be a single SELECT; this one contains DROP"),
    ],
)  # fmt: skip
def test_what_is_no_single_select_is_refused_as_anywhere(sql: str, expected: str):
    assert refused(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT upper(external_id), sum(n) OVER () FROM users",
        "SELECT count(*), 'evil()' || 'x', n + 1 FROM users, range(3) -- evil()",
        'SELECT "function_name":"evil" FROM users',
        """SELECT '"function_name":"evil"' AS "evil" FROM users""",
        "FROM read_parquet('a.parquet'), read_csv('b.csv'), read_json('c.json'), 'd.csv', generate_series(1, 2), unnest([1])",
        "SELECT json_extract(a, '$.b'), strftime(now(), '%Y'), list_aggregate(x, 'sum'), md5('a'), 'a' LIKE 'b' FROM users",
    ],
)
def test_query_that_calls_what_duckdb_has_is_taken(sql: str):
    with connect() as connection:
        refuse_other_calls(connection, model(sql), own_functions(connection))
