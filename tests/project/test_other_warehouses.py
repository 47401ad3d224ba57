"""What compiled models are where they run in Postgres or Spark. No server is needed to compile them."""

from typing import Any

import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.plan.workbench import connect
from reverse_etl.state.watermark import Watermark, cursor_sql
from tests.shop import Retl, Shop

ENGINES: dict[str, dict[str, Any]] = {
    "postgres": {"type": "postgres", "uri": "{{ env_var('WAREHOUSE_URI') }}"},
    "spark": {"type": "spark", "remote": "sc://127.0.0.1:1"},
}


@pytest.fixture(params=ENGINES)
def elsewhere(request: pytest.FixtureRequest, shop: Shop) -> Shop:
    """A shop whose models run in another warehouse."""
    shop.engine = ENGINES[request.param]
    shop.environ["WAREHOUSE_URI"] = "postgresql://127.0.0.1:1/none"
    return shop


def wrong(shop: Shop) -> str:
    with pytest.raises(ProjectError) as error:
        shop.project().compiled("it")
    return str(error.value)


def called(shop: Shop) -> str:
    return {"postgres": "Postgres", "spark": "Spark"}[shop.engine["type"]]


def test_names_are_quoted_as_the_warehouse_does_it(elsewhere: Shop):
    elsewhere.more = {"sources": {"app": {"schema": "raw data"}}}
    elsewhere.model("base", "SELECT * FROM {{ source('app', 'Users') }}")
    elsewhere.sync("it", "SELECT * FROM {{ ref('base') }} -- all")
    mark = {"postgres": '"', "spark": "`"}[elsewhere.engine["type"]]
    assert elsewhere.project().compiled("it").sql == (
        f"WITH {mark}__ref__base{mark} AS (\nSELECT * FROM {mark}raw data{mark}.{mark}Users{mark}\n)\n"
        f"SELECT * FROM (\nSELECT * FROM {mark}__ref__base{mark} -- all\n) AS __model\n"
    )


def test_dialect_is_that_of_the_warehouse(elsewhere: Shop):
    elsewhere.sync("it", "{{ config(dialect='hive') }}SELECT 1 AS external_id")
    assert wrong(elsewhere) == (
        f"models/it.sql:1: config(): models of this target run in {called(elsewhere)}, and are not translated\n"
        f"  hint: remove it, and write {called(elsewhere)}'s own SQL"
    )


def test_seed_is_for_dbt(elsewhere: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WAREHOUSE_URI", elsewhere.environ["WAREHOUSE_URI"])
    (elsewhere.folder / "seeds").mkdir()
    (elsewhere.folder / "seeds/tiers.csv").write_text("external_id\nu1\n")
    elsewhere.sync("it", "SELECT * FROM {{ ref('tiers') }}")
    assert wrong(elsewhere) == (
        f'models/it.sql:1: ref(): "tiers" is a seed, and retl does not load seeds into {called(elsewhere)}\n'
        "  hint: load it with `dbt seed`, and add dbt: {project_dir: ...}; or use source() for its table"
    )
    done = retl("seed", folder=elsewhere.folder)
    assert (done.code, done.err.splitlines()[1]) == (
        2,
        "  hint: load them with `dbt seed`, and add dbt: {project_dir: ...}",
    )


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("HUGEINT", "4"),
        ("DATE", "CAST('2024-01-04' AS DATE)"),
        ("TIMESTAMP", "CAST('2024-01-04 23:59:59.999999' AS TIMESTAMP_NTZ)"),
        ("TIMESTAMP WITH TIME ZONE", "CAST('2024-01-04 23:59:59.999999+00' AS TIMESTAMP)"),
    ],
)
def test_cursor_has_the_types_of_spark(of: str, expected: str):
    start = "5" if of == "HUGEINT" else "2024-01-05"
    with connect() as connection:
        assert cursor_sql(connection, Watermark("at", of), start, "spark") == expected
        assert cursor_sql(connection, Watermark("at", of), start, "postgres") == expected.replace(
            "AS TIMESTAMP)", "AS TIMESTAMPTZ)"
        ).replace("TIMESTAMP_NTZ", "TIMESTAMP")


def test_another_type_of_warehouse_is_refused_with_the_known_ones(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 1 AS external_id")
    shop.engine = {"type": "postgresql"}
    shop.write()
    done = retl("ls", folder=shop.folder)
    assert (done.code, done.err) == (
        2,
        'syncs.yml:6:13: "postgresql" is not a valid value for "type" in target "test"\n  hint: did you mean "postgres"?\n',
    )
    shop.engine = {"path": "warehouse.duckdb"}
    shop.write()
    assert retl("ls", folder=shop.folder).err == (
        'syncs.yml:6:7: "type" is missing in target "test"\n  hint: one of: duckdb, postgres, spark\n'
    )
    shop.engine = {"type": "postgres", "path": "warehouse.duckdb"}
    shop.write()
    assert retl("ls", folder=shop.folder).err == (
        'syncs.yml:7:7: unknown key "path" in target "test"\n  hint: one of: type, uri, statement_timeout_s\n'
    )


def test_what_is_collected_is_read_by_duckdb_only(elsewhere: Shop):
    source = {"keys": ["{{ env_var('COLLECT_KEY') }}"], "tables": {"clicks": {"columns": ["id"]}}}
    elsewhere.more = {"collect": {"sources": {"postback": source}}}
    elsewhere.environ["COLLECT_KEY"] = "k"
    elsewhere.sync("it", "SELECT id AS external_id FROM {{ source('postback', 'clicks') }}")
    assert wrong(elsewhere) == (
        f'models/it.sql:1: source(): "postback" is in files of `retl collect`, which {called(elsewhere)} does not read\n'
        "  hint: use it in models of a target with warehouse: {type: duckdb}"
    )


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"diff": "engine"},
            'syncs.yml:6:7: "warehouse" in target "test" needs state_schema with diff: engine: the schema for the tables of'
            " acknowledged rows",
        ),
        (
            {"state_schema": "retl"},
            'syncs.yml:6:7: "warehouse" in target "test" has a state_schema, which is for diff: engine alone',
        ),
        (
            {"diff": "engine", "state_schema": "a b"},
            'syncs.yml:9:21: "state_schema" in target "test" must be the name of a schema, such as retl or main.retl',
        ),
    ],
    ids=["no schema", "no diff", "no name"],
)
def test_rows_are_compared_in_spark_with_a_schema_for_them(shop: Shop, keys: dict[str, str], said: str):
    shop.engine = {"type": "spark", "remote": "sc://127.0.0.1:1", **keys}
    shop.write()
    with pytest.raises(ProjectError) as raised:
        shop.project()
    assert [str(problem) for problem in raised.value.problems] == [said]
