"""Macros, imports and includes: available as in dbt, nothing outside the project, and errors at the macro's line."""

import re
import textwrap
from pathlib import Path

import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.project.graph import Graph
from tests.shop import Retl, Shop, edit

MONEY = """\
{% macro cents_to_dollars(column, digits=2) -%}
    ({{ column }} / 100)::decimal(16, {{ digits }})
{%- endmacro %}

{% macro paid() %}{{ return(['paid', 'settled']) }}{% endmacro %}

{% macro is_paid(column) -%}
    {{ column }} in ({% for one in paid() %}'{{ one }}'{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}
"""


def write(shop: Shop, **texts: str) -> None:
    """Files of the project; a name without a folder is one of macros/."""
    for name, text in texts.items():
        path = shop.folder / ("macros/" + name + ".sql")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


def sql(shop: Shop, text: str, name: str = "it") -> str:
    """The compiled SQL of a model."""
    shop.sync(name, text)
    return shop.project().compiled(name).sql


def problem(shop: Shop, text: str) -> str:
    with pytest.raises(ProjectError) as raised:
        sql(shop, text)
    return str(raised.value)


def test_macros_are_there_in_every_model_and_in_every_macro(shop: Shop):
    write(shop, money=MONEY)
    write(shop, **{"deep/down": "{% macro total(column) %}sum({{ cents_to_dollars(column, digits=0) }}){% endmacro %}"})
    text = "select {{ cents_to_dollars('price') }} as price, {{ total('tax') }} as tax where {{ is_paid('status') }}"
    assert sql(shop, text) == (
        "select (price / 100)::decimal(16, 2) as price, sum((tax / 100)::decimal(16, 0)) as tax "
        "where status in ('paid', 'settled')\n"
    )


def test_macros_use_the_functions_of_the_model_that_calls_them(shop: Shop):
    write(shop, table="{% macro rows_of(name) %}{{ ref('stg_' ~ name) }}, {{ var('country') }}{% endmacro %}")
    shop.more["vars"] = {"country": "KR"}
    shop.model("stg_orders", "select 1 as n")
    assert sql(shop, "select * from {{ rows_of('orders') }}").endswith(
        'select * from "__ref__stg_orders", KR\n) AS __model\n'
    )


def test_macro_for_a_warehouse_goes_before_the_default_one(shop: Shop):
    write(
        shop,
        cents="""\
            {% macro cents(column) %}{{ return(adapter.dispatch('cents')(column)) }}{% endmacro %}
            {% macro default__cents(column) %}({{ column }} / 100)::numeric{% endmacro %}
            {% macro bigquery__cents(column) %}round({{ column }}){% endmacro %}
            {% macro days(n) %}{{ adapter.dispatch('days', 'shop')(n) }}{% endmacro %}
            {% macro default__days(n) %}n * 24{% endmacro %}
            {% macro duckdb__days(n) %}to_days({{ n }}){% endmacro %}
            """,
    )
    assert sql(shop, "select {{ cents('a') }}, {{ days(3) }}") == "select (a / 100)::numeric, to_days(3)\n"


def test_caller_and_do_work_as_in_dbt(shop: Shop):
    write(shop, list="{% macro each(names) %}{% for n in names %}{{ caller(n) }}{% endfor %}{% endmacro %}")
    text = "{% set l = [] %}{% do l.append('a') %}{% do l.append('b') %}{% call(n) each(l) %}[{{ n }}]{% endcall %}"
    assert sql(shop, text) == "[a][b]\n"


def test_model_imports_and_includes_files_of_the_project(shop: Shop):
    write(shop, money=MONEY)
    (shop.folder / "models" / "columns.txt").write_text("id, {{ cents_to_dollars('price') }} as price")
    text = (
        "{% import 'macros/money.sql' as m %}{% from 'macros/money.sql' import is_paid as settled %}"
        "select {% include 'models/columns.txt' %} where {{ settled('s') }} and {{ m.cents_to_dollars('x') }}"
    )
    assert sql(shop, text) == (
        "select id, (price / 100)::decimal(16, 2) as price where s in ('paid', 'settled') and "
        "(x / 100)::decimal(16, 2)\n"
    )


@pytest.mark.parametrize(
    "file", ["../secret.sql", "/etc/passwd", ".env", ".retl/test/it/state.duckdb", "models/.env.prod"]
)
def test_nothing_outside_the_project_and_nothing_private_is_read(shop: Shop, file: str):
    (shop.folder.parent / "secret.sql").write_text("select 1")
    (shop.folder / ".env").write_text("A=1")
    assert problem(shop, f"select 1,\n{{% include '{file}' %}}") == (
        f'models/it.sql:2: Jinja: "{file}" is not a file that templates can read\n'
        "  hint: copy it into the project: templates import and include files by their path in it, and none with secrets"
    )


def test_link_out_of_the_project_is_not_read(shop: Shop):
    (shop.folder.parent / "secret.sql").write_text("select 1")
    write(shop, a="")
    (shop.folder / "macros" / "b.sql").symlink_to(shop.folder.parent / "secret.sql")
    assert problem(shop, "select 1").startswith("macros/b.sql: this is a symbolic link to ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "select 1,\n  {{ missing_ref() }}",
            'macros/faulty.sql:3: ref(): unknown model or seed "nope" (called at models/it.sql:2)\n  hint: one of: it',
            id="function in a macro",
        ),
        pytest.param(
            "select 1,\n\n  {{ outer() }}",
            'macros/faulty.sql:3: ref(): unknown model or seed "nope" (called at models/it.sql:3)\n  hint: one of: it',
            id="macro of a macro",
        ),
        pytest.param(
            "\n{{ undefined() }}",
            "macros/faulty.sql:10: Jinja: 'colum' is undefined (called at models/it.sql:2)",
            id="undefined name",
        ),
        pytest.param(
            "{{ missing_rev() }}",
            "models/it.sql:1: Jinja: 'missing_rev' is undefined\n  hint: did you mean \"missing_ref\"?",
            id="unknown macro",
        ),
        pytest.param(
            "{{ outer(1, 2) }}",
            "models/it.sql:1: Jinja: an expression fails: macro 'outer' takes not more than 0 argument(s)",
            id="wrong arguments",
        ),
        pytest.param(
            "{{ return(1) }}",
            "models/it.sql:1: Jinja: return() outside of a macro\n  hint: write {{ value }}",
            id="return outside of a macro",
        ),
        pytest.param(
            "{{ adapter.dispatch('cent')() }}",
            'models/it.sql:1: adapter.dispatch(): there is no macro "duckdb__cent", and no "default__cent"\n'
            "  hint: add one of them in macros/",
            id="nothing to dispatch to",
        ),
        pytest.param(
            "{{ adapter.get_columns_in_relation(ref('it')) }}",
            'models/it.sql:1: Jinja: adapter has no "get_columns_in_relation"\n'
            "  hint: write it as SQL; or build a model with it in dbt, and ref() that model",
            id="adapter",
        ),
        pytest.param(
            "{% include 'macros/faulti.sql' %}",
            'models/it.sql:1: Jinja: "macros/faulti.sql" does not exist\n  hint: did you mean "macros/faulty.sql"?',
            id="no such file",
        ),
        pytest.param(
            "select 1\n{% include var('file') %}",
            "models/it.sql:2: Jinja: {% include %} needs a file's name in quotes",
            id="file that only Jinja knows",
        ),
        pytest.param(
            "{% snapshot a %}select 1{% endsnapshot %}",
            "models/it.sql:1: Jinja: {% snapshot %} is dbt's: a model of retl is a SELECT",
            id="snapshot",
        ),
    ],
)
def test_error_leads_to_the_line_of_the_macro(shop: Shop, text: str, expected: str):
    write(
        shop,
        faulty="""\
            {% macro missing_ref() %}
              select 1 from
              {{ ref('nope') }}
            {% endmacro %}

            {% macro outer() %}{{ missing_ref() }}{% endmacro %}

            {% macro undefined(column) %}
              1
              {{ colum }}
            {% endmacro %}
            """,
    )
    assert problem(shop, text) == expected


def test_macro_that_is_no_jinja_is_reported_where_it_is_used(shop: Shop):
    write(shop, faulty="{% macro a() %}\n{% if %}\n{% endmacro %}")
    assert problem(shop, "select {{ a() }}") == (
        "macros/faulty.sql:2: Jinja: Expected an expression, got 'end of statement block'"
    )


def test_error_of_the_warehouse_leads_to_the_line_of_the_macro_or_of_the_model(shop: Shop, retl: Retl):
    write(shop, faulty="{% macro a(column) %}\n  upper(\n    {{ column }}\n  )\n{% endmacro %}")
    for text, place in {
        "select 'u' as external_id,\n{{ a('nope') }} as b": "macros/faulty.sql:3",
        "select 'u' as external_id,\n{{ a(\"'x'\") }} as b,\n nope as c": "models/it.sql:3",
        "select 'u' as external_id,\n{{ a(\"'x'\") }} as b, nope as c": "models/it.sql:2",
        "select 'u' as external_id,\n\n{{ a('nope') | trim }} as b": "models/it.sql:3",
    }.items():
        shop.sync("it", text)
        assert retl("show", "it", folder=shop.folder).err.startswith(f"{place}: "), text


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(
            {"a": "{% macro x() %}{% endmacro %}", "b": "\n{%- macro x() %}{% endmacro %}"},
            'macros/b.sql:2: duplicate macro "x", first defined at macros/a.sql:1\n'
            "  hint: rename one of them, or remove it",
            id="twice",
        ),
        pytest.param(
            {"a": "{# {% macro ref() %} #}\n{% macro ref(name) %}{% endmacro %}"},
            'macros/a.sql:2: macro "ref" has the name of a function of retl\n  hint: rename it',
            id="name of a function",
        ),
    ],
)
def test_name_of_a_macro_is_there_once(shop: Shop, texts: dict[str, str], expected: str):
    write(shop, **texts)
    assert problem(shop, "select 1") == expected


def test_what_dbt_has_in_macros_besides_macros_is_skipped(shop: Shop):
    write(
        shop,
        generic="""\
            {% test is_even(model, column_name) %}
              select * from {{ model }} where {{ column_name }} % 2 = 1
            {% endtest %}
            {% materialization mine, default %}{% do run_query('x') %}{% endmaterialization %}
            {% macro a() %}1{% endmacro %}
            """,
    )
    assert sql(shop, "select {{ a() }}") == "select 1\n"


def fingerprint(shop: Shop) -> str:
    project = shop.project()
    return project.fingerprint(project.sync("it"))


def test_fingerprint_changes_with_the_macros_and_files_that_a_model_uses_and_no_others(shop: Shop):
    """So do state: selectors, the digests of saved plans, and what failed before."""
    write(shop, money=MONEY, other="{% macro unused() %}1{% endmacro %}", shared="{% macro x() %}2{% endmacro %}")
    write(shop, through="{% macro y() %}{{ x() }}{% endmacro %}")
    (shop.folder / "models" / "part.txt").write_text("1")
    plain = "select 'u' as external_id, 1 as n"
    shop.sync("it", plain)
    bare = fingerprint(shop)
    edit(shop.folder / "macros" / "money.sql", "100", "1000")
    assert fingerprint(shop) == bare
    shop.sync("it", f"{plain}, {{{{ y() }}}} as y, {{% include 'models/part.txt' %}} as p")
    seen = [bare, fingerprint(shop)]
    for file, old, new in (
        ("macros/through.sql", "x()", "x()~x()"),
        ("macros/shared.sql", "2", "3"),
        ("models/part.txt", "1", "2"),
    ):
        edit(shop.folder / file, old, new)
        seen.append(fingerprint(shop))
    assert len(set(seen)) == 5
    edit(shop.folder / "macros" / "other.sql", "1", "2")
    assert fingerprint(shop) == seen[-1]


def test_saved_plan_is_stale_once_a_macro_has_changed(shop: Shop, retl: Retl):
    write(shop, n="{% macro n() %}1{% endmacro %}")
    shop.sync("it", "select 'u' as external_id, {{ n() }} as n")
    assert retl("plan", "it", "--out", "p", folder=shop.folder).code == 0
    edit(shop.folder / "macros" / "n.sql", "1", "2")
    applied = retl("apply", "p", folder=shop.folder)
    assert (applied.code, shop.sent()) == (1, [])
    assert applied.err.startswith("it: plan refused: the sync, its models or their vars have changed")


def test_graph_has_what_macros_refer_to(shop: Shop):
    write(
        shop,
        all="""\
            {% macro customers() %}{{ ref('customers') }}{% endmacro %}
            {% macro orders() %}{{ ref('orders') }}{% endmacro %}
            {% macro any_of(kind) %}{{ ref(kind ~ 's') }}{% endmacro %}
            """,
    )
    for name in ("customers", "orders"):
        shop.model(name, "select 1 as n")
    shop.sync("it", "select * from {{ customers() }}").sync("other", "select * from {{ any_of('order') }}")
    graph: Graph = shop.project().graph
    assert (graph.refs["it"], graph.refs["other"]) == ({"customers"}, {"orders"})


_OF_DBT = """\
note: models/{}
  hint: nothing to do: retl builds no tables, and sends what the model returns
"""


def of_dbt(said: str) -> str:
    """The notes on keys of dbt, and their hints."""
    lines = said.splitlines(keepends=True)
    at = [number for number, line in enumerate(lines) if line.startswith("note: models/") and "config()" in line]
    return "".join("".join(lines[number : number + 2]) for number in at)


def test_keys_of_dbt_in_config_are_taken_with_one_note_of_the_models_that_are_compiled(shop: Shop, retl: Retl):
    shop.sync("plain", "select 'u' as external_id")
    shop.sync("it", "-- config\n{{ config(materialized='table', tags=[], dialect='hive') }}\nselect 'u' as external_id")
    keys = "{'materialized': 'view', 'alias': 'x', 'meta': {}, 'indexes': [], 'pre_hook': 'x'}"
    shop.model("base", f"{{{{ config({keys}) }}}}select 'u' as external_id")
    shop.sync("other", "select * from {{ ref('base') }}")
    of_it = "it.sql:2: config(): materialized, tags: read by dbt only"
    of_base = "base.sql:1: config(): alias, indexes, materialized, and 2 more: read by dbt only"
    said = {
        words: of_dbt(retl(*words.split(), folder=shop.folder).err)
        for words in ("ls", "status", "history", "compile plain", "plan plain", "sync plain", "test")
    }
    assert said == dict.fromkeys(said, "")
    both = _OF_DBT.format(f"{of_base}; so are keys of 1 more model")
    for words, expected in {
        "compile it": _OF_DBT.format(of_it),
        "plan it plain": _OF_DBT.format(of_it),
        "plan other": _OF_DBT.format(of_base),
        "sync other": _OF_DBT.format(of_base),
        "retry other": _OF_DBT.format(of_base),
        "compile": both,
        "plan": _OF_DBT.format(f"{of_it}; so are keys of 1 more model"),
    }.items():
        assert of_dbt(retl(*words.split(), folder=shop.folder).err) == expected, words
    assert retl("compile", "it", folder=shop.folder).out == "SELECT\n  'u' AS external_id\n\n"


def test_library_is_read_once(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """However many models use it."""
    write(shop, money=MONEY)
    for number in range(5):
        shop.sync(f"s{number}", "select 'u' as external_id, {{ cents_to_dollars('1') }} as n")
    read = list[str]()
    before = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: (read.append(path.name), before(path, **how))[1])
    project = shop.project()
    assert [project.compiled(name).sql.count("/ 100") for name in project.sync_names] == [1] * 5
    assert read.count("money.sql") == 1


def test_example_of_the_page_is_a_project(shop: Shop, retl: Retl):
    page = (Path(__file__).parents[2] / "docs" / "dbt.md").read_text().split("## Models copied from dbt")[1]
    for file, text in re.findall(r"```sql\n-- (\S+)\n(.*?)```", page.split("\n## ")[0], re.DOTALL):
        (shop.folder / file).parent.mkdir(exist_ok=True)
        (shop.folder / file).write_text(text)
    shop.syncs = [
        {"name": "it", "model": "customers", "mode": "users_track", "track_record_type": "attributes"},
    ]
    shop.write()
    assert retl("sync", "it", folder=shop.folder).code == 0
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","email":"ada@example.com","paid":12.50,"open":3.00}]}']


@pytest.mark.parametrize(
    "expression", ["a.func", "a.args", "config.func", "a.__closure__", "a.__globals__", "adapter.dispatch.__closure__"]
)
def test_what_a_macro_is_made_of_is_out_of_reach(shop: Shop, expression: str):
    write(shop, a="{% macro a() %}1{% endmacro %}")
    assert re.search(r"has no \"|is unsafe|there is no \"", problem(shop, f"select {{{{ {expression} }}}}"))
