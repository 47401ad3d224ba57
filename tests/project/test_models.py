"""Models: Jinja, the graph of ref(), other dialects, and errors that lead to the model's line."""

from datetime import UTC, datetime

import pytest

from reverse_etl.engines.duckdb.model import describe
from reverse_etl.errors import ProjectError
from reverse_etl.plan.workbench import connect
from reverse_etl.project.models import Compiled, Model, RunValues, compile_model
from reverse_etl.project.spec import Source
from tests.shop import Retl, Shop

NOW = datetime(2026, 11, 23, 8, 15, tzinfo=UTC)


def compiled(name: str, /, **texts: str) -> Compiled:
    """The model `name` among models of these texts; a seed `orders` and a source `raw` are there too."""
    models = {key: Model(key, f"models/{key}.sql", text) for key, text in texts.items()}
    values = RunValues(
        vars={"country": "KR"},
        environ={"STAGE": "prod"},
        target_name="dev",
        sources={"raw": Source(database="lake", schema="landing")},
        seeds={"orders"},
        run_started_at=NOW,
        scheduled_time=NOW,
    )
    return compile_model(name, models, values)


def problem(name: str, /, **texts: str) -> str:
    """What is said of the mistake in a model, by Jinja or by DuckDB."""
    with pytest.raises(ProjectError) as raised, connect() as connection:
        describe(connection, compiled(name, **texts))
    return str(raised.value)


def test_functions_that_dbt_users_know():
    text = (
        "select '{{ var('country') }}', '{{ var('none', 'x') }}', '{{ env_var('STAGE') }}', '{{ target.name }}',\n"
        "    '{{ run_started_at.strftime('%Y-%m-%d') }}', '{{ scheduled_time.isoformat() }}'\n"
        "from {{ source('raw', 'customers') }}, {{ source('shop', 'orders') }}, {{ ref('orders') }}"
    )
    assert compiled("a", a=text).sql == (
        "select 'KR', 'x', 'prod', 'dev',\n"
        "    '2026-11-23', '2026-11-23T08:15:00+00:00'\n"
        'from "lake"."landing"."customers", "shop"."orders", "main"."orders"\n'
    )


def test_models_that_are_referred_to_become_part_of_the_sql_each_once_and_in_order():
    model = compiled(
        "a",
        a="select * from {{ ref('b') }} join {{ ref('c') }} using (id) -- the end",
        b="select id from {{ ref('c') }};",
        c="select 1 as id",
    )
    assert model.refs == ("c", "b")
    assert model.sql == (
        'WITH "__ref__c" AS (\nselect 1 as id\n), "__ref__b" AS (\nselect id from "__ref__c"\n)\n'
        'SELECT * FROM (\nselect * from "__ref__b" join "__ref__c" using (id) -- the end\n) AS __model\n'
    )


def test_model_may_have_the_name_of_the_table_it_reads(shop: Shop):
    shop.warehouse("CREATE TABLE customers AS SELECT 'u1' AS external_id, 'gold' AS tier")
    shop.model("customers", "select external_id, tier from customers")
    shop.sync("it", "select * from {{ ref('customers') }}")
    shop.run()
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","tier":"gold"}]}']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "select 1 as a,\n  {{ vra('x') }}",
            "models/a.sql:2: Jinja: 'vra' is undefined\n  hint: did you mean \"var\"?",
            id="unknown function",
        ),
        pytest.param(
            "-- one\n-- two\nselect {{ var('nope') }}",
            'models/a.sql:3: variable "nope" has no value\n'
            """  hint: set it under "vars:" in syncs.yml, or pass --vars '{"nope": ...}'""",
            id="unknown variable",
        ),
        pytest.param(
            "select {{ var('contry') }}",
            'models/a.sql:1: variable "contry" has no value\n'
            """  hint: did you mean "country"? Otherwise, set it under "vars:" in syncs.yml, or pass --vars '{"contry": ...}'""",
            id="misspelled variable",
        ),
        pytest.param(
            "select '{{ env_var('NOPE') }}'",
            'models/a.sql:1: environment variable "NOPE" is not set\n'
            "  hint: set NOPE in the environment or in .env, or add a default: env_var('NOPE', '...')",
            id="unknown environment variable",
        ),
        pytest.param(
            "\nselect * from {{ ref('ordes') }}",
            'models/a.sql:2: ref(): unknown model or seed "ordes"\n  hint: did you mean "orders"?',
            id="unknown ref",
        ),
        pytest.param(
            "{{ config(materialised='table') }}\nselect 1",
            'models/a.sql:1: config(): unknown key "materialised"\n  hint: did you mean "materialized"?',
            id="unknown config",
        ),
        pytest.param(
            "{{ config(audience_kind='crm') }}\nselect 1",
            'models/a.sql:1: config(): unknown key "audience_kind"\n'
            "  hint: remove it, or put a key of your own under meta={...}",
            id="config of your own",
        ),
        pytest.param(
            "{{ config(dialect='hve') }}\nselect 1",
            'models/a.sql:1: config(): unknown dialect "hve"\n  hint: did you mean "hive"?',
            id="unknown dialect",
        ),
        pytest.param(
            "select 1\n{% if %}",
            "models/a.sql:2: Jinja: Expected an expression, got 'end of statement block'",
            id="bad Jinja",
        ),
        pytest.param(
            "select 1\n\n{{ 1 / 0 }}",
            "models/a.sql:3: Jinja: an expression fails: division by zero",
            id="failing Jinja",
        ),
        pytest.param(
            "{{ ().__class__.__bases__ }}",
            "models/a.sql:1: Jinja: access to attribute '__class__' of 'tuple' object is unsafe.",
            id="unsafe Jinja",
        ),
        pytest.param(
            "-- nothing\n{# at all #}",
            "models/a.sql: a model must be a single SELECT; this one contains nothing",
            id="empty",
        ),
        pytest.param(
            "{% for i in range(3) %}\n\n{% endfor %}\nselect emial\nfrom (select 1 as email)",
            'models/a.sql:4: Binder Error: Referenced column "emial" not found in FROM clause! '
            'Candidate bindings: "email"\n  hint: see the compiled SQL in target/compiled/a.sql, line 8',
            id="unknown column, behind a loop",
        ),
        pytest.param(
            "select 1 as a\nfrm b",
            'models/a.sql:2: Parser Error: syntax error at or near "frm"\n'
            "  hint: see the compiled SQL in target/compiled/a.sql, line 2",
            id="syntax error",
        ),
        pytest.param(
            "select * from\n  shop.customers",
            'models/a.sql:2: Catalog Error: Table with name "shop.customers" does not exist because schema "shop" '
            "does not exist.\n  hint: see the compiled SQL in target/compiled/a.sql, line 2",
            id="unknown table",
        ),
        pytest.param(
            "create table x as select 1",
            "models/a.sql: a model must be a single SELECT; this one contains CREATE",
            id="no SELECT",
        ),
        pytest.param(
            "select 1; select 2",
            "models/a.sql: a model must be a single SELECT; this one contains SELECT, SELECT",
            id="two statements",
        ),
        pytest.param(
            "{{ config(dialect='hive') }}select\n from where",
            'models/a.sql:2: invalid hive SQL: Expected table name but got near "where"',
            id="bad SQL of a dialect",
        ),
        pytest.param(
            "{{ config(dialect='hive') }}\nselect a,\n  stack(1, a), frob(a)\nfrom t",
            "models/a.sql:3:3: hive: stack() cannot be translated: it returns several columns or rows\n"
            "  hint: use LATERAL VIEW explode(), posexplode() or json_tuple()\n"
            "models/a.sql:3:16: hive: function frob() is not known here\n"
            "  hint: write this model in DuckDB SQL and remove config(dialect=...)",
            id="what a dialect cannot have, all of it",
        ),
        pytest.param(
            "{{ config(dialect='snowflake') }}select to_char(a, 'YYYY') as b",
            "models/a.sql:1:41: snowflake: function to_char() is not known here\n"
            "  hint: write this model in DuckDB SQL and remove config(dialect=...)",
            id="function of a small dialect",
        ),
        pytest.param(
            "{{ config(dialect='mysql') }}select 1 as a",
            'models/a.sql:1: config(): dialect "mysql" is not translated: it compares texts without regard to case\n'
            "  hint: write this model in DuckDB SQL",
            id="dialect that is not translated",
        ),
        pytest.param(
            "select 1 as a, -- ${session_id}\n  '${session_date}' as b",
            "models/a.sql:2:4: ${session_date} is a variable of digdag, which retl does not fill in\n"
            "  hint: write {{ scheduled_time.strftime('%Y-%m-%d') }}, in UTC; for another zone, in_zone(scheduled_time, 'Asia/Seoul')",
            id="variable of digdag",
        ),
        pytest.param(
            "{{ config(dialect='trino') }}select ${td.database}.f(1) as b",
            "models/a.sql:1:37: ${td.database} is a variable of digdag, which retl does not fill in\n"
            "  hint: write {{ var('database') }}, and set it under \"vars:\" in syncs.yml",
            id="variable of digdag that is no SQL",
        ),
    ],
)
def test_mistake_in_a_model_names_its_line_and_the_way_out(text: str, expected: str):
    assert problem("a", a=text) == expected


_T = "\nfrom (select 1 as a, [1, 2] as l, '{}'::json as j) t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "* exclude (zz)", 'models/a.sql:3: Binder Error: Column "zz" in EXCLUDE', id="not there to exclude"
        ),
        pytest.param("* replace (1 as zz)", 'models/a.sql:3: Binder Error: Column "zz" in REPLACE', id="or to replace"),
        pytest.param("nope.*", 'models/a.sql:3: Binder Error: Referenced table "nope" not found', id="table of a star"),
        pytest.param("t.a.b", "models/a.sql:3: Binder Error: Cannot extract field 'b'", id="field"),
        pytest.param("sum(a) over nope", 'models/a.sql:3: Parser Error: window "nope" does not exist', id="window"),
        pytest.param("1 union select 1, 2", "models/a.sql:3: Binder Error: Set operations can only", id="union"),
        pytest.param("nope.*, 'nope'", "models/a.sql: Binder Error: Referenced table", id="text that is there twice"),
        pytest.param("1, strptime('zz', '%Q')", "models/a.sql: Invalid Input Error:", id="what may quote a value"),
    ],
)
def test_error_of_duckdb_without_a_line_names_the_only_one_that_it_can_be_about(text: str, expected: str):
    found = problem("a", a=f"select\n  -- what is not there\n  {text}{_T}")
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("list_filter(l, y -> y > 1)", "write `lambda y: ...` in place of `y -> ...`", id="one name"),
        pytest.param(
            "list_reduce(l, (x, y)\n -> x + y)", "write `lambda x, y: ...` in place of `(x, y) -> ...`", id="two names"
        ),
        pytest.param("l.filter(y -> y > 1)", "write `lambda y: ...` in place of `y -> ...`", id="as a method"),
    ],
)
def test_arrow_of_a_lambda_is_found_among_those_that_read_json(text: str, hint: str):
    found = problem("a", a=f"select j -> '$.a' as x,\n  coalesce(j -> '$.b', j) as y,\n  {text} as z{_T}")
    assert found == f"models/a.sql:3: Binder Error: Deprecated lambda arrow (->) detected\n  hint: {hint}"


def test_mistake_in_a_model_that_is_referred_to_names_that_model():
    found = problem("a", a="select *\nfrom {{ ref('b') }}", b="-- first\nselect 1 as x,\n  y")
    assert found.startswith('models/b.sql:3: Binder Error: Referenced column "y"')


def test_circle_of_refs_is_named():
    found = problem(
        "a", a="select * from {{ ref('b') }}", b="select * from {{ ref('c') }}", c="select * from {{ ref('b') }}"
    )
    assert found == (
        "models/c.sql: ref() cycle: b -> c -> b\n  hint: a model cannot depend on itself: remove one ref()"
    )


def test_value_in_a_failed_cast_is_not_shown(shop: Shop):
    shop.warehouse("CREATE TABLE t AS SELECT 'u1' AS external_id, 'o''hara@example.com' AS age")
    result = shop.sync("it", "select external_id,\n    age::int as age\nfrom t").run()
    assert [str(problem) for problem in result.errors] == [
        "models/it.sql:2: Conversion Error: Could not convert string *** to INT32 when casting from source column age\n"
        "  hint: see the compiled SQL in target/compiled/it.sql, line 2"
    ]
    assert (result.status, result.exit_code) == ("failed", 2)


def test_model_in_another_dialect_is_translated(shop: Shop):
    shop.sync(
        "it",
        """{{ config(dialect='hive') }}
        select 'u1' as external_id, true as `_merge_objects`, named_struct('city', "Seoul") as home""",
    )
    shop.run()
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","_merge_objects":true,"home":{"city":"Seoul"}}]}']


def test_compiled_sql_is_written_to_target(shop: Shop):
    shop.sync("it", "select 'u1' as external_id, '{{ target.name }}' as stage")
    shop.run()
    assert (shop.folder / "target/compiled/it.sql").read_text() == "select 'u1' as external_id, 'test' as stage\n"


def test_warehouse_cannot_be_written_by_a_model_or_a_run(shop: Shop):
    before = (shop.folder / "warehouse.duckdb").read_bytes()
    shop.sync("it", "select 'u1' as external_id").run()
    assert (shop.folder / "warehouse.duckdb").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("select 1 as id;", "select 1 as id"),
        ("select 1 as id; -- the end", "select 1 as id -- the end"),
        ("select 1 as id;\n/* the; end */ ;; ", "select 1 as id\n/* the; end */"),
        ("select ';' as id -- no; end", "select ';' as id -- no; end"),
        ("select 'a; -- b' as id", "select 'a; -- b' as id"),
        ("select e'a\\'; -- b' as id", "select e'a\\'; -- b' as id"),
        ("select $$a; -- b$$ as id;", "select $$a; -- b$$ as id"),
        ('select 1 as "a; -- b"; ', 'select 1 as "a; -- b"'),
    ],
)
def test_semicolon_and_comments_may_end_a_model(text: str, sql: str):
    assert compiled("a", a=text).sql == f"{sql}\n"
    with connect() as connection:
        assert len(describe(connection, compiled("a", a=text))) == 1
    assert "contains SELECT, SELECT" in problem("a", a=f"{sql}\n; select 2")


@pytest.mark.parametrize("opening", ["(", "[", "CASE WHEN ", "NOT "])
@pytest.mark.parametrize("dialect", ["hive", "trino", "snowflake"])
def test_sql_of_another_dialect_that_is_nested_too_deep_is_an_error(dialect: str, opening: str):
    text = f"{{{{ config(dialect='{dialect}') }}}}SELECT {opening * 3000}1"
    assert problem("it", it=text) == (
        f"models/it.sql: {dialect} SQL that is nested too deep\n  hint: split the model: ref() of the inner part"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ " + "[" * 3000, "maximum recursion depth exceeded"),
        ("{% set " + "1" * 6000, "Exceeds the limit (4300 digits)"),
    ],
)
def test_jinja_that_cannot_be_read_is_an_error_of_its_model_alone(shop: Shop, retl: Retl, text: str, says: str):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS a").sync("odd", f"SELECT '{text}' AS external_id")
    assert retl("ls", folder=shop.folder).code == 0
    assert retl("compile", "it", folder=shop.folder).code == 0
    failed = retl("compile", "odd", folder=shop.folder)
    assert failed.code == 2
    assert failed.err.startswith(f"models/odd.sql: Jinja: an expression fails: {says}")
