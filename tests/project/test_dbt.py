"""A dbt project beside this one: what ref() and source() lead to, and the exposures that lead back.

tests/projects/dbt/ holds a dbt project, a retl project beside it, and the parts that retl reads of the manifest.json that
dbt wrote for it. test_dbt_build.py runs dbt itself.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.dbt_manifest import DbtManifest, read_manifest
from reverse_etl.project.jinja import TemplateProblem
from reverse_etl.project.models import Compiled, Given, Model, RunValues, compile_model
from reverse_etl.project.spec import Source
from reverse_etl.project.spec_collect import Collect
from tests.shop import Retl

PROJECTS = Path(__file__).parents[1] / "projects" / "dbt"
MANIFEST = json.loads((PROJECTS / "manifest.json").read_text())
NOW = datetime(2026, 11, 23, 8, 15, tzinfo=UTC)
WHERE = Location("syncs.yml", 4, 1)
# What dbt makes of tests/projects/dbt/shop, as far as the syncs beside it read it.
BUILT = """
    create schema main_marts;
    create view main.stg_customers as select id as customer_id, lower(email) as email, tier, country_code from raw.customers;
    create table main_marts.dim_customers as
        select customer_id, email, tier, if(country_code = 'DE', 'DE', 'KR') as country from main.stg_customers;
    create table main_marts.orders as select id as order_id, customer_id, amount, ordered_at from raw.orders;
    create table main_marts.customer_value_v1 as select customer_id, -1 as value from raw.orders group by all;
    create table main_marts.customer_value_v2 as select customer_id, sum(amount) as value from raw.orders group by all;
"""


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    change(manifest)
    return manifest


def manifest_of(data: dict[str, Any], catalog: str = "warehouse") -> DbtManifest:
    return read_manifest(json.dumps(data).encode(), "manifest.json", catalog, WHERE)


def compiled(text: str, data: dict[str, Any] = MANIFEST, catalog: str = "warehouse", **more: Any) -> Compiled:
    """A model of this text, in a project that has a model `customers`, a seed `regions` and a source `lake` of its own."""
    models = {
        "a": Model("a", "models/a.sql", text),
        "customers": Model("customers", "models/customers.sql", "select 1 as id"),
    }
    values = RunValues(
        vars={},
        environ={},
        target_name="dev",
        sources={"lake": Source(database="lake", schema="landing")},
        seeds={"regions"},
        run_started_at=NOW,
        scheduled_time=NOW,
        dbt=lambda: manifest_of(data, catalog),
        **more,
    )
    return compile_model("a", models, values)


def of_package(name: str, package: str, manifest: dict[str, Any]) -> None:
    """Put a model of this name into a package of the dbt project."""
    node = {**manifest["nodes"]["model.shop.dim_customers"], "name": name, "package_name": package}
    node |= {"unique_id": f"model.{package}.{name}", "relation_name": f'"warehouse"."{package}"."{name}"'}
    manifest["nodes"][node["unique_id"]] = node


# --- what is resolved, and how ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sql", "unique_id"),
    [
        ("ref('dim_customers')", '"warehouse"."main_marts"."dim_customers"', "model.shop.dim_customers"),
        ("ref('stg_customers')", '"warehouse"."main"."stg_customers"', "model.shop.stg_customers"),
        ("ref('fct_orders')", '"warehouse"."main_marts"."orders"', "model.shop.fct_orders"),
        ("ref('shop', 'fct_orders')", '"warehouse"."main_marts"."orders"', "model.shop.fct_orders"),
        ("ref('countries')", '"warehouse"."main"."countries"', "seed.shop.countries"),
        ("ref('tiers')", '"warehouse"."main_snapshots"."tiers"', "snapshot.shop.tiers"),
        ("ref('customer_value')", '"warehouse"."main_marts"."customer_value_v2"', "model.shop.customer_value.v2"),
        ("ref('customer_value', v=1)", '"warehouse"."main_marts"."customer_value_v1"', "model.shop.customer_value.v1"),
        (
            "ref('shop', 'customer_value', version='1')",
            '"warehouse"."main_marts"."customer_value_v1"',
            "model.shop.customer_value.v1",
        ),
        ("source('app', 'visits')", '"warehouse"."raw"."page_visits"', "source.shop.app.visits"),
        ("source('lake', 'clicks')", '"lake"."landing"."clicks"', ""),
        ("ref('regions')", '"main"."regions"', ""),
    ],
)
def test_ref_and_source_lead_to_what_dbt_made_and_to_what_is_here(asked: str, sql: str, unique_id: str):
    model = compiled(f"select * from {{{{ {asked} }}}}")
    assert model.sql == f"select * from {sql}\n"
    assert [(read.sql, read.unique_id) for read in model.reads] == [(sql, unique_id)]


def test_model_of_this_project_comes_before_a_name_that_dbt_does_not_have():
    assert compiled("select * from {{ ref('customers') }}").refs == ("customers",)


def test_name_of_a_warehouse_in_other_letters_is_the_same_warehouse():
    assert compiled("select * from {{ ref('countries') }}", catalog="WareHouse").reads[0].unique_id == (
        "seed.shop.countries"
    )


def add_customers(manifest: dict[str, Any]) -> None:
    of_package("customers", "shop", manifest)


def add_regions_to_two_packages(manifest: dict[str, Any]) -> None:
    of_package("places", "geo", manifest)
    of_package("places", "maps", manifest)


def add_source_lake(manifest: dict[str, Any]) -> None:
    manifest["sources"]["source.shop.lake.clicks"] = {
        **manifest["sources"]["source.shop.app.orders"],
        "source_name": "lake",
    }


def move_to_lake(manifest: dict[str, Any]) -> None:
    manifest["nodes"]["model.shop.dim_customers"] |= {
        "database": "lake",
        "relation_name": '"lake"."main"."dim_customers"',
    }


def move_source_to_lake(manifest: dict[str, Any]) -> None:
    manifest["sources"]["source.shop.app.orders"] |= {"database": "lake", "relation_name": '"lake"."raw"."orders"'}


def disable_latest_version(manifest: dict[str, Any]) -> None:
    node = manifest["nodes"].pop("model.shop.customer_value.v2")
    manifest["disabled"][node["unique_id"]] = [node]


def nothing(manifest: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("asked", "change", "expected"),
    [
        pytest.param(
            "ref('dim_custmers')",
            nothing,
            'ref(): neither this project nor dbt\'s has a model, seed or snapshot "dim_custmers"\n'
            '  hint: did you mean "dim_customers"?',
            id="unknown, nearest is dbt's",
        ),
        pytest.param(
            "ref('region')",
            nothing,
            'ref(): neither this project nor dbt\'s has a model, seed or snapshot "region"\n'
            '  hint: did you mean "regions"?',
            id="unknown, nearest is here",
        ),
        pytest.param(
            "ref('customers')",
            add_customers,
            'ref(): "customers" is ambiguous: models/customers.sql in this project, model.shop.customers in dbt\n'
            "  hint: use ref('shop', 'customers') for the one in dbt, or rename models/customers.sql",
            id="here and in dbt",
        ),
        pytest.param(
            "ref('regions')",
            lambda manifest: of_package("regions", "geo", manifest),
            'ref(): "regions" is ambiguous: seeds/regions.csv in this project, model.geo.regions in dbt\n'
            "  hint: use ref('geo', 'regions') for the one in dbt, or rename seeds/regions.csv",
            id="a seed here and in dbt",
        ),
        pytest.param(
            "ref('places')",
            add_regions_to_two_packages,
            'ref(): dbt has more than one "places" (in packages geo, maps)\n'
            "  hint: use ref('geo', 'places') or ref('maps', 'places')",
            id="in two packages",
        ),
        pytest.param(
            "ref('shp', 'dim_customers')",
            nothing,
            'ref(): dbt has no package "shp"\n  hint: did you mean "shop"?',
            id="unknown package",
        ),
        pytest.param(
            "ref('shop', 'fct_order')",
            nothing,
            'ref(): dbt\'s package "shop" has no model, seed or snapshot "fct_order"\n'
            '  hint: did you mean "fct_orders"?',
            id="unknown in the package",
        ),
        pytest.param(
            "ref('shop', 'customers')",
            nothing,
            'ref(): dbt\'s package "shop" has no model, seed or snapshot "customers"\n'
            '  hint: did you mean "stg_customers"?',
            id="models here are of no package",
        ),
        pytest.param(
            "ref('stg_orders')",
            nothing,
            "ref(): dbt's model.shop.stg_orders is ephemeral: there is no relation to read\n"
            "  hint: materialize it as a view or a table in dbt, or write its SQL as a model here",
            id="ephemeral",
        ),
        pytest.param(
            "ref('old_customers')",
            nothing,
            "ref(): dbt's model.shop.old_customers is disabled\n"
            "  hint: remove `enabled: false` in dbt, then run `dbt build`",
            id="disabled",
        ),
        pytest.param(
            "ref('top_customers')",
            nothing,
            "ref(): dbt's analysis.shop.top_customers is an analysis: dbt never builds it\n"
            "  hint: move it from analyses/ to models/ in dbt",
            id="analysis",
        ),
        pytest.param(
            "ref('audit_orders')",
            nothing,
            'ref(): dbt\'s model.shop.audit_orders is private to the group "finance"\n'
            "  hint: set `access: protected` for it in dbt",
            id="private",
        ),
        pytest.param(
            "ref('customer_value', v=3)",
            nothing,
            "ref(): dbt's shop.customer_value has no version 3\n  hint: one of: v=1, v=2",
            id="unknown version",
        ),
        pytest.param(
            "ref('dim_customers', v=1)",
            nothing,
            "ref(): dbt's shop.dim_customers has no version 1\n  hint: the model has no versions: remove v=",
            id="no versions",
        ),
        pytest.param(
            "ref('customer_value')",
            disable_latest_version,
            "ref(): the latest version of dbt's shop.customer_value is not enabled\n  hint: one of: v=1",
            id="latest version disabled",
        ),
        pytest.param(
            "ref('dim_customers')",
            move_to_lake,
            'ref(): dbt\'s model.shop.dim_customers is in database "lake", but the warehouse of this target is "warehouse"\n'
            '  hint: retl reads a single file: build a dbt model on it in "warehouse", and ref() that model',
            id="model in another database",
        ),
        pytest.param(
            "source('app', 'orders')",
            move_source_to_lake,
            'source(): dbt\'s source.shop.app.orders is in database "lake", but the warehouse of this target is "warehouse"\n'
            '  hint: retl reads a single file: build a dbt model on it in "warehouse", and ref() that model',
            id="source in another database",
        ),
        pytest.param(
            "source('files', 'clicks')",
            nothing,
            "source(): dbt's source.shop.files.clicks is not a table in the warehouse: dbt reads it from 'landing/clicks.csv'\n"
            "  hint: build a dbt model on it, and ref() that model",
            id="source in a file",
        ),
        pytest.param(
            "source('ap', 'orders')",
            nothing,
            'source(): neither dbt nor "sources:" in syncs.yml has a source "ap"\n  hint: did you mean "app"?',
            id="unknown source",
        ),
        pytest.param(
            "source('app', 'order')",
            nothing,
            'source(): dbt\'s source "app" has no table "order"\n  hint: did you mean "orders"?',
            id="unknown table",
        ),
        pytest.param(
            "source('lake', 'clicks')",
            add_source_lake,
            'source(): "lake" is defined both under "sources:" in syncs.yml and in dbt\n'
            "  hint: remove one of them, or rename it",
            id="source here and in dbt",
        ),
        pytest.param(
            "ref()",
            nothing,
            "ref() accepts a name, or a dbt package and a name, not 0 arguments",
            id="no name",
        ),
    ],
)
def test_what_no_relation_stands_for_is_a_mistake(asked: str, change: Callable[[dict[str, Any]], Any], expected: str):
    with pytest.raises(ProjectError) as raised:
        compiled(f"select *\nfrom {{{{ {asked} }}}}", changed(change))
    assert str(raised.value) == f"models/a.sql:2: {expected}"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("source('app', 'orders')", '"app" is defined both under "collect" in syncs.yml and in dbt\n  hint: remove one of them, or rename it'),
        ("source('postbak', 'orders')", 'neither dbt nor "sources:" in syncs.yml has a source "postbak"\n  hint: did you mean "postback"?'),
    ],
)  # fmt: skip
def test_source_of_collect_is_another_one_than_those_of_dbt(asked: str, expected: str):
    keys = {"keys": ["{{ env_var('K') }}"], "tables": {"orders": {}}}
    collect = Collect.model_validate({"sources": {"app": keys, "postback": keys}})
    with pytest.raises(ProjectError) as raised:
        compiled(f"select * from {{{{ {asked} }}}}", collect=collect, collected=lambda *_: Given("", WHERE))
    assert str(raised.value) == f"models/a.sql:1: source(): {expected}"


def test_other_warehouse_than_the_one_that_dbt_builds_is_a_mistake():
    with pytest.raises(ProjectError) as raised:
        compiled("select * from {{ ref('dim_customers') }}", catalog="shop")
    assert str(raised.value) == (
        'models/a.sql:1: ref(): dbt\'s model.shop.dim_customers is in database "warehouse", '
        'but the warehouse of this target is "shop"\n'
        "  hint: set the warehouse's `path` in this target to the file that dbt builds: warehouse.duckdb"
    )


NAMES = st.sampled_from(["a", "b", "c"])
PACKAGES = st.sampled_from(["shop", "geo", "maps"])


@given(st.sets(st.tuples(PACKAGES, NAMES), min_size=1), NAMES, st.none() | PACKAGES)
def test_a_name_leads_to_its_only_or_nearest_namesake_or_to_a_mistake(
    there: set[tuple[str, str]], name: str, package: str | None
):
    data = changed(lambda manifest: manifest["nodes"].clear())
    for of, called in there:
        node = {**MANIFEST["nodes"]["model.shop.dim_customers"], "name": called, "package_name": of}
        data["nodes"][f"model.{of}.{called}"] = node | {"relation_name": f"{of}.{called}", "unique_id": "x"}
    packages = {of for of, called in there if called == name and package in (None, of)}
    right = {"shop"} if "shop" in packages else packages
    try:
        found = manifest_of(data).ref(name, package).sql
    except TemplateProblem:
        assert len(right) != 1
    else:
        assert {found} == {f"{of}.{name}" for of in right}


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            b'{"metadata": {"dbt_sch',
            "../shop/target/manifest.json is not a dbt manifest: the file: Invalid JSON: EOF while parsing a string at line 1 column 22\n"
            "  hint: create it with `dbt parse` or `dbt build`",
            id="truncated",
        ),
        pytest.param(
            b"[]",
            "../shop/target/manifest.json is not a dbt manifest: the file: Input should be an object\n"
            "  hint: create it with `dbt parse` or `dbt build`",
            id="something else",
        ),
        pytest.param(
            json.dumps(changed(lambda m: m["nodes"]["seed.shop.countries"].pop("name"))).encode(),
            "../shop/target/manifest.json is not a dbt manifest: nodes.seed.shop.countries.name: Field required\n"
            "  hint: create it with `dbt parse` or `dbt build`",
            id="of another shape",
        ),
        pytest.param(
            b'{"metadata": {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v4.json", "dbt_version": "1.0.9"}}',
            "../shop/target/manifest.json was written by dbt 1.0.9, which is too old\n"
            "  hint: retl supports dbt 1.8 and newer: upgrade dbt, then run `dbt parse`",
            id="old",
        ),
        pytest.param(
            json.dumps(changed(lambda m: m["metadata"].update(adapter_type="snowflake"))).encode(),
            "../shop/target/manifest.json belongs to a dbt project on snowflake, but the warehouse is DuckDB\n"
            "  hint: only projects built with dbt-duckdb can be read",
            id="of another adapter",
        ),
        pytest.param(
            None,
            "cannot read ../shop/target/manifest.json: No such file or directory\n"
            "  hint: create it with `dbt parse` or `dbt build`; its location is set by dbt.project_dir and dbt.target_path",
            id="missing",
        ),
    ],
)
def test_manifest_that_cannot_be_used_leads_to_the_key(data: bytes | None, expected: str, beside: Path, retl: Retl):
    file = beside.parent / "shop" / "target" / "manifest.json"
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    outcome = retl("plan", "customers", folder=beside)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"syncs.yml:4:1: {expected}\n")
    assert retl("show", "newsletter", folder=beside).code == 0  # it needs nothing of dbt
    assert retl("ls", folder=beside).code == 0


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A retl project beside a dbt project that has been built, on one warehouse."""
    (tmp_path / "shop" / "target").mkdir(parents=True)
    shutil.copy(PROJECTS / "manifest.json", tmp_path / "shop" / "target")
    shutil.copytree(PROJECTS / "retl", tmp_path / "retl")
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        connection.execute((PROJECTS / "load.sql").read_text() + BUILT)
    return tmp_path / "retl"


def rewrite(beside: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest, as dbt would when the project changes."""
    (beside.parent / "shop" / "target" / "manifest.json").write_text(json.dumps(changed(change)))


def edit(beside: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change syncs.yml."""
    spec = yaml.safe_load((beside / "syncs.yml").read_text())
    change(spec)
    (beside / "syncs.yml").write_text(yaml.safe_dump(spec, sort_keys=False))


RECORDED = ("manifest.json", "manifest_2.json")  # of dbt build with dbt-core 1.11, and of dbt parse with 2.0.0-alpha.4


@pytest.mark.parametrize("recorded", RECORDED)
def test_sync_sends_what_dbt_made(beside: Path, retl: Retl, recorded: str):
    shutil.copy(PROJECTS / recorded, beside.parent / "shop" / "target" / "manifest.json")
    assert retl("sync", "customers", "visits", folder=beside).code == 0
    bodies = retl("sandbox", "--last", "2", folder=beside).out.splitlines()[1::2]
    assert bodies[0] == (
        '{"attributes":['
        '{"external_id":"c1","email":"ada@example.com","tier":"gold","country":"DE","lifetime_value":24.90},'
        '{"external_id":"c2","email":"bo@example.com","tier":"silver","country":"KR","lifetime_value":7.50},'
        '{"external_id":"c3","email":"cy@example.com","tier":"silver","country":"DE","lifetime_value":1.25}]}'
    )
    assert '"name":"visited","time":"2026-11-05T08:00:00.000Z"' in bodies[1]


def test_plan_names_what_it_reads_of_dbt(beside: Path, retl: Retl):
    plans = json.loads(retl("plan", "customers", "newsletter", "--output", "json", folder=beside).out)
    assert [plan["depends_on"] for plan in plans] == [["model.shop.customer_value.v2", "model.shop.dim_customers"], []]


def test_page_has_the_texts_that_dbt_has_of_a_column(beside: Path, retl: Retl):
    tier = {"name": "tier", "description": "level in the loyalty program", "config": {"meta": {"owner": "Loyalty"}}}
    of_dim = {"tier": tier, "country": {"name": "country", "description": "where they live"}, "odd": 3}

    def describe(manifest: dict[str, Any]) -> None:
        manifest["nodes"]["model.shop.dim_customers"].update(columns=of_dim, description="all customers")
        other = {"country": {"name": "country", "description": "where they came from"}}
        manifest["nodes"]["model.shop.customer_value.v2"].update(columns=other)

    rewrite(beside, describe)
    outcome = retl("docs", "generate", folder=beside)
    assert (outcome.code, outcome.err) == (0, "wrote target/docs/index.html; open it in a browser\n")
    text = (beside / "target/docs/index.html").read_text()
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert {"level in the loyalty program", "Loyalty", "all customers"} <= set(data["texts"])
    assert not {"where they live", "where they came from"} & set(data["texts"])  # they read both
    assert ["dbt.dim_customers", [], "", data["texts"].index("all customers"), 0] in data["nodes"]


@pytest.mark.long
def test_saved_plan_is_stale_once_a_ref_leads_elsewhere(beside: Path, retl: Retl):
    assert retl("plan", "orders", "--out", "p", folder=beside).code == 0
    moved = '"warehouse"."raw"."orders"'
    rewrite(beside, lambda manifest: manifest["nodes"]["model.shop.fct_orders"].update(relation_name=moved))
    outcome = retl("apply", "p", folder=beside)
    assert (outcome.code, "a ref() or source() of its models resolves to another relation" in outcome.err) == (1, True)
    rewrite(beside, nothing)
    assert retl("apply", "p", folder=beside).code == 0


def test_saved_plan_is_stale_once_a_ref_of_incremental_runs_leads_elsewhere(beside: Path, retl: Retl):
    text = "select order_id, customer_id as external_id, 'x' as product_id, 'EUR' as currency, amount as price,\n"
    text += "ordered_at as time from {{ ref('fct_orders') }}\n"
    text += "{% if is_incremental() %} semi join {{ ref('stg_customers') }} using (customer_id) {% endif %}"
    (beside / "models" / "purchases.sql").write_text(text)
    edit(beside, lambda spec: spec["syncs"][1].update(incremental={"cursor": "time"}))
    assert retl("plan", "orders", "--out", "p", folder=beside).code == 0
    moved = '"warehouse"."main_marts"."dim_customers"'
    rewrite(beside, lambda manifest: manifest["nodes"]["model.shop.stg_customers"].update(relation_name=moved))
    assert retl("apply", "p", folder=beside).code == 1
    exposed = yaml.safe_load(retl("exposures", "orders", folder=beside).out)["exposures"]
    assert exposed[0]["depends_on"] == ["ref('fct_orders')", "ref('stg_customers')"]


def test_relation_that_dbt_has_not_built_says_how_to(beside: Path, retl: Retl):
    with duckdb.connect(beside.parent / "warehouse.duckdb") as connection:
        connection.execute(
            "drop table main_marts.dim_customers; drop table raw.page_visits; drop schema main_marts cascade"
        )
    assert retl("plan", "customers", folder=beside).err == (
        'models/customers.sql:2: Catalog Error: Table with name "main_marts.dim_customers" does not exist because schema '
        '"main_marts" does not exist.\n'
        "  hint: dbt knows it as model.shop.dim_customers, but it is not in this warehouse: "
        "run `dbt build --select dim_customers`\n"
    )
    assert retl("plan", "visits", folder=beside).err.splitlines()[-1] == (
        "  hint: dbt knows it as source.shop.app.visits, but it is not in this warehouse: load it"
    )


def test_seed_never_takes_the_place_of_what_dbt_made(beside: Path, retl: Retl):
    (beside / "seeds").mkdir()
    (beside / "seeds" / "regions.csv").write_text("code\nDE\n")
    assert retl("seed", folder=beside).out == "regions: 1 row\n"
    (beside / "seeds" / "countries.csv").write_text("code\nDE\n")
    outcome = retl("seed", folder=beside)
    assert (outcome.code, outcome.out, outcome.err) == (
        2,
        "",
        'seeds/countries.csv: this seed would replace "warehouse"."main"."countries", which dbt builds from seed.shop.countries\n'
        "  hint: rename the seed; without it, ref('countries') resolves to the relation in dbt\n",
    )


def test_warehouse_is_called_what_dbt_calls_it(beside: Path, retl: Retl):
    """DuckDB and dbt name a database by what stands before the first dot of its file."""
    (beside.parent / "warehouse.duckdb").rename(beside.parent / "warehouse.prod.duckdb")
    edit(beside, lambda spec: spec["targets"]["dev"]["warehouse"].update(path="../warehouse.prod.duckdb"))
    assert retl("sync", "orders", folder=beside).code == 0


def test_folder_that_dbt_writes_to_may_come_from_the_environment(
    beside: Path, retl: Retl, monkeypatch: pytest.MonkeyPatch
):
    (beside.parent / "shop" / "target").rename(beside.parent / "shop" / "target-prod")
    monkeypatch.setenv("DBT_TARGET_PATH", "target-prod")
    edit(beside, lambda spec: spec["dbt"].update(target_path="{{ env_var('DBT_TARGET_PATH', 'target') }}"))
    assert retl("compile", "orders", folder=beside).code == 0


@pytest.mark.parametrize(
    ("dbt", "expected"),
    [
        pytest.param(
            {"project_dr": "../shop"},
            'syncs.yml:20:3: "project_dir" is missing in "dbt"\n'
            'syncs.yml:20:3: unknown key "project_dr" in "dbt"\n  hint: did you mean "project_dir"?\n',
            id="misspelt",
        ),
        pytest.param(
            {"project_dir": "../shop", "owner": {"mail": "x@example.com"}},
            'syncs.yml:22:5: unknown key "mail" in "dbt"\n  hint: did you mean "email"?\n',
            id="misspelt inside owner",
        ),
        pytest.param(
            {"project_dir": "../shop", "owner": {}},
            'syncs.yml:21:10: "owner" in "dbt" needs a name or an email\n',
            id="nobody",
        ),
        pytest.param("../shop", 'syncs.yml:19:6: "dbt" must be a mapping\n', id="only a path"),
    ],
)
def test_mistakes_in_the_key_are_found_where_they_stand(dbt: object, expected: str, beside: Path, retl: Retl):
    def put(spec: dict[str, Any]) -> None:
        spec.pop("dbt")
        spec["syncs"] = spec["syncs"][:1]
        spec["dbt"] = dbt

    edit(beside, put)
    outcome = retl("ls", folder=beside)
    assert (outcome.code, outcome.err) == (2, expected)


def test_editors_know_the_key(retl: Retl):
    schema = json.loads(retl("schema").out)
    assert schema["properties"]["dbt"]["properties"].keys() == {"project_dir", "target_path", "owner"}
    assert schema["$defs"]["DbtOwner"]["properties"].keys() == {"name", "email"}


def test_package_or_version_without_dbt_says_what_is_missing(beside: Path, retl: Retl):
    edit(beside, lambda spec: spec.pop("dbt"))
    assert retl("compile", "purchases", folder=beside).err == (
        "models/purchases.sql:2: ref(): packages and versions require a dbt project, but syncs.yml does not define one\n"
        "  hint: add dbt: {project_dir: ...}\n"
    )


UNIT_TEST = {
    "name": "worth",
    "sync": "customers",
    "given": [
        {
            "input": "ref('dim_customers')",
            "rows": [{"customer_id": "c1", "email": None, "tier": "gold", "country": "DE"}],
        },
        {"input": "ref('customer_value')", "rows": [{"customer_id": "c1", "value": 3}]},
    ],
    "expect": {"records": [{"external_id": "c1", "tier": "gold", "country": "DE", "lifetime_value": 3}]},
}


def test_given_rows_stand_in_for_what_dbt_makes_and_no_manifest_is_needed(beside: Path, retl: Retl):
    (beside.parent / "shop" / "target" / "manifest.json").unlink()
    edit(beside, lambda spec: spec.update(unit_tests=[UNIT_TEST]))
    outcome = retl("test", "worth", folder=beside)
    assert (outcome.code, outcome.out.split("(")[0]) == (0, "pass   worth "), outcome.err
    given = [UNIT_TEST["given"][0]]
    edit(beside, lambda spec: spec.update(unit_tests=[{**UNIT_TEST, "given": given}]))
    outcome = retl("test", "worth", folder=beside)
    assert (outcome.code, outcome.err) == (
        2,
        "models/valued.sql:1: unit test \"worth\" (syncs.yml:40:3): no rows are given for ref('customer_value')\n"
        "  hint: unit tests read no tables: add `- input: ref('customer_value')` with its rows to \"given\"\n",
    )


def test_debug_looks_at_the_manifest(beside: Path, retl: Retl):
    said = retl("debug", folder=beside).out.splitlines()
    assert "ok    dbt: ../shop/target/manifest.json: project shop, dbt 1.11.16, 8 relations" in said
    (beside.parent / "shop" / "target" / "manifest.json").unlink()
    outcome = retl("debug", folder=beside)
    assert outcome.code == 1
    assert "FAIL  dbt: syncs.yml:4:1: cannot read ../shop/target/manifest.json" in outcome.out


# --- exposures -------------------------------------------------------------------------------------------------------

CUSTOMERS = """\
# Written by `retl exposures`: what is sent to Braze from this dbt project.
version: 2
exposures:
- name: retl_customers
  label: 'Braze: customers'
  type: application
  maturity: low
  description: who a customer is, and what they are worth
  owner:
    name: CRM team
    email: crm@example.com
  depends_on:
  - ref('customer_value')
  - ref('dim_customers')
  config:
    tags:
    - hourly
    meta:
      retl:
        sync: customers
        model: customers
        mode: users_track
        track_record_type: attributes
        target: dev
"""


def exposed(beside: Path, retl: Retl, *arguments: str) -> list[dict[str, Any]]:
    outcome = retl("exposures", *arguments, folder=beside)
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = yaml.safe_load(outcome.out)["exposures"]
    return found


def test_exposures_are_what_dbt_reads(beside: Path, retl: Retl):
    outcome = retl("exposures", "customers", folder=beside)
    assert (outcome.code, outcome.out, outcome.err) == (0, CUSTOMERS, "")


def test_every_sync_that_reads_of_dbt_has_an_exposure_and_no_other(beside: Path, retl: Retl):
    assert {each["name"]: each["depends_on"] for each in exposed(beside, retl)} == {
        "retl_customers": ["ref('customer_value')", "ref('dim_customers')"],
        "retl_orders": ["ref('fct_orders')"],
        "retl_visits": ["source('app', 'visits')"],
    }
    outcome = retl("exposures", "newsletter", folder=beside)
    assert (outcome.code, yaml.safe_load(outcome.out), outcome.err) == (
        0,
        {"version": 2, "exposures": []},
        "no sync reads from the dbt project\n",
    )


def test_exposures_go_to_a_file(beside: Path, retl: Retl):
    outcome = retl("exposures", "--select", "tag:hourly", "--out", "../shop/retl.yml", folder=beside)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "wrote ../shop/retl.yml: 1 exposure\n")
    assert (beside.parent / "shop" / "retl.yml").read_text() == CUSTOMERS
    outcome = retl("exposures", "--out", "nowhere/retl.yml", folder=beside)
    assert (outcome.code, outcome.err) == (
        2,
        "cannot write nowhere/retl.yml: No such file or directory\n  hint: pass --out a file that can be written\n",
    )


def test_exposure_asks_for_the_version_and_the_package_that_the_model_asks_for(beside: Path, retl: Retl):
    rewrite(beside, lambda manifest: of_package("places", "geo", manifest))
    text = "select * from {{ ref('customer_value', v=1) }} join {{ ref('places') }} join {{ ref('shop', 'tiers') }}"
    (beside / "models" / "customers.sql").write_text(text)
    assert exposed(beside, retl, "customers")[0]["depends_on"] == [
        "ref('customer_value', v=1)",
        "ref('geo', 'places')",
        "ref('tiers')",
    ]


def test_names_are_what_dbt_takes_and_stay_apart(beside: Path, retl: Retl):
    def rename(spec: dict[str, Any]) -> None:
        spec["syncs"][0]["name"], spec["syncs"][1]["name"], spec["syncs"][2]["name"] = "a_b", "a-b", "visits-eu"

    edit(beside, rename)
    assert [each["name"] for each in exposed(beside, retl)] == ["retl_a_b", "retl_a_b_2", "retl_visits_eu"]
    assert [each["name"] for each in exposed(beside, retl, "a-b")] == ["retl_a_b_2"]


def test_owner_is_retl_where_nobody_is_named(beside: Path, retl: Retl):
    edit(beside, lambda spec: spec["dbt"].pop("owner"))
    outcome = retl("exposures", "orders", folder=beside)
    assert yaml.safe_load(outcome.out)["exposures"][0]["owner"] == {"name": "retl"}
    assert outcome.err == 'dbt.owner is not set: exposures are owned by "retl"\n'


def test_text_that_looks_like_jinja_is_shown_as_it_is(beside: Path, retl: Retl):
    edit(beside, lambda spec: spec["syncs"][0].update(description="{% raw %}{{ who }}{% endraw %}"))
    assert exposed(beside, retl, "customers")[0]["description"] == "{% raw %}{{ who }}{% endraw %}"


def test_exposures_without_a_dbt_project_say_what_is_missing(beside: Path, retl: Retl):
    edit(beside, lambda spec: spec.pop("dbt"))
    outcome = retl("exposures", folder=beside)
    assert (outcome.code, outcome.err) == (
        2,
        "syncs.yml: syncs.yml does not define a dbt project\n  hint: add dbt: {project_dir: ../shop}\n",
    )


def test_null_where_dbt_says_optional_is_what_is_left_out():
    def with_nulls(manifest: dict[str, Any]) -> None:
        manifest["disabled"] = manifest["metadata"]["project_name"] = manifest["metadata"]["dbt_version"] = None
        for node in manifest["nodes"].values():
            node["config"] = node["access"] = node["group"] = node["version"] = node["latest_version"] = None

    read = manifest_of(changed(with_nulls))
    assert (read.project_name, read.dbt_version, read.disabled) == ("", "?", ())
    assert read.names == manifest_of(MANIFEST).names


@pytest.mark.parametrize(
    "text", ['{"a":' * 100_000, "[" * 100_000, "1" * 6000, '{"metadata": null}', "null", "", "\ud800"]
)
def test_manifest_that_is_none_is_an_error_whatever_it_is(text: str):
    with pytest.raises(ProjectError, match=r"manifest.json is not a dbt manifest"):
        read_manifest(text.encode(errors="surrogatepass"), "manifest.json", "warehouse", WHERE)


def test_check_of_exposures_compares_and_writes_nothing(beside: Path, retl: Retl):
    file = beside.parent / "shop" / "retl.yml"
    check = ("exposures", "orders", "--out", "../shop/retl.yml", "--check")
    missing = retl(*check, folder=beside)
    assert (missing.code, file.exists()) == (1, False)
    assert missing.err == "../shop/retl.yml is out of date: run this again without --check\n"
    assert retl(*check[:-1], folder=beside).code == 0
    good = retl(*check, folder=beside)
    assert (good.code, good.out, good.err) == (0, "", "../shop/retl.yml is up to date\n")
    text = file.read_text()
    file.write_text(text.replace("type: application", "type: dashboard"))
    stale = retl(*check, folder=beside)
    assert stale.code == 1
    assert [line for line in stale.out.splitlines()[2:] if line[0] in "+-"] == [
        "-  type: dashboard",
        "+  type: application",
    ]
    assert retl("exposures", "--check", folder=beside).err == (
        "--check compares a file: --out is missing\n  hint: pass --out FILE, too\n"
    )


def test_manifest_of_dbt_2_leads_to_the_relations_of_dbt_1():
    """But for a source that dbt-duckdb reads from a file: the engine of dbt 2 calls it a table, as it has no such key."""
    one, two = (json.loads((PROJECTS / name).read_text()) for name in RECORDED)
    assert two["metadata"]["dbt_version"] == "2.0.0-alpha.4"
    assert (one["nodes"].keys(), one["sources"].keys()) == (two["nodes"].keys(), two["sources"].keys())
    said = [[answer_of(manifest_of(data), *asked) for asked in asked_of(one)] for data in (one, two)]
    ((old, new),) = [(old, new) for old, new in zip(*said, strict=True) if old != new]
    assert "not a table in the warehouse: dbt reads it from 'landing/clicks.csv'" in old
    assert new == '"warehouse"."files"."clicks"'


def asked_of(manifest: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for node in manifest["nodes"].values():
        yield "ref", node["name"]
    for table in manifest["sources"].values():
        yield "source", table["source_name"], table["name"]


def answer_of(manifest: DbtManifest, call: str, *names: str) -> str:
    """The SQL for a model or a table of dbt, or why there is none."""
    try:
        return str(getattr(manifest, call)(*names).sql)
    except TemplateProblem as problem:
        return f"{problem.what}: {problem.hint}"


FUSION = {  # without what is null, and with access under config
    "metadata": {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v20.json",
        "dbt_version": "2.0.0-preview.76",
        "project_name": "shop",
        "adapter_type": "duckdb",
        "env": {},
    },
    "nodes": {
        "model.shop.dim": {
            "unique_id": "model.shop.dim",
            "name": "dim",
            "resource_type": "model",
            "package_name": "shop",
            "database": "warehouse",
            "schema": "main",
            "relation_name": '"warehouse"."main"."dim"',
            "config": {"materialized": "table", "access": "protected", "static_analysis": "on"},
            "depends_on": {"macros": [], "nodes": []},
        },
        "model.shop.own": {
            "unique_id": "model.shop.own",
            "name": "own",
            "resource_type": "model",
            "package_name": "shop",
            "database": "warehouse",
            "relation_name": '"warehouse"."main"."own"',
            "config": {"materialized": "table", "access": "private", "group": "finance"},
        },
    },
    "sources": {},
    "macros": {},
    "functions": {},
}
PLATFORM = {  # what a published manifest of a project on Redshift has, of release 2024.9.246
    **FUSION,
    "metadata": {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json",
        "dbt_version": "2024.9.246",
        "generated_at": "2024-09-25T11:33:33.892911Z",
        "env": {
            "DBT_CLOUD_ACCOUNT_ID": "70403",
            "DBT_CLOUD_ENVIRONMENT_ID": "70404",
            "DBT_CLOUD_JOB_ID": "70405",
            "DBT_CLOUD_PROJECT_ID": "70406",
            "DBT_CLOUD_RUN_ID": "70407",
            "DBT_CLOUD_RUN_REASON": "scheduled",
            "DBT_CLOUD_RUN_REASON_CATEGORY": "scheduled",
            "DBT_CLOUD_RUN_TRIGGER_CATEGORY": "RUN_REASON_CATEGORY_SCHEDULED",
        },
        "project_name": "shop",
        "send_anonymous_usage_stats": True,
        "adapter_type": "duckdb",
    },
    "nodes": {
        name: {
            **{"fqn": ["shop", node["name"]], "alias": node["name"], "tags": ["crm"], "version": None, "group": None},
            **{"latest_version": None, "primary_key": ["id"], "time_spine": None, "build_path": None},
            **{"depends_on": {"macros": [], "nodes": []}, "description": "A customer", "meta": {"owner": "crm"}},
            "columns": {
                "id": {"name": "id", "description": "Who it is", "quote": None, "granularity": None, "tags": []}
            },
            **node,
            "group": node["config"].get("group"),
            "access": node["config"]["access"],
            "config": {**node["config"], "event_time": None, "batch_size": None, "lookback": 0, "grants": {}},
        }
        for name, node in FUSION["nodes"].items()  # type: ignore[attr-defined]
    },
    **{"exposures": {}, "metrics": {}, "groups": {}, "selectors": {}, "disabled": {}, "docs": {}},
    **{"group_map": {}, "saved_queries": {}, "semantic_models": {}, "unit_tests": {}},
}


@pytest.mark.parametrize("written", [FUSION, PLATFORM], ids=["Fusion", "platform"])
def test_manifests_of_fusion_and_of_the_platform_are_read(written: dict[str, Any]):
    """In the shape that published ones have. One that dbt 2 wrote is in tests/projects/dbt."""
    manifest = read_manifest(json.dumps(written).encode(), "target/manifest.json", "warehouse", Location("syncs.yml"))
    assert manifest.ref("dim").sql == '"warehouse"."main"."dim"'
    with pytest.raises(TemplateProblem) as raised:
        manifest.ref("own")
    assert (raised.value.what, raised.value.hint) == (
        'ref(): dbt\'s model.shop.own is private to the group "finance"',
        "set `access: protected` for it in dbt",
    )
