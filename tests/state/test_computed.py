"""The outbox of a first run, which computes columns from others, reads as one that stores all of them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from duckdb import DuckDBPyConnection

from reverse_etl.engines.warehouse import engine_of
from reverse_etl.plan.tables import OUTBOX
from reverse_etl.records.json_text import functions_used
from reverse_etl.records.layout import Layout, lay_out
from reverse_etl.runs.job import Job
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.records import write_changes, write_records, write_run
from reverse_etl.runs.run import jobs_of
from reverse_etl.state.opening import state_of
from reverse_etl.state.state import State
from tests.shop import Shop
from tests.state.test_baseline import MODELS

CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    **{name: case for name, case in MODELS.items() if name != "with consent"},
    "that sends NULLs": (
        f"""SELECT 'u' || i AS external_id, CASE WHEN i % 3 = 0 THEN i END AS n,
            CASE WHEN i = 9 THEN {"repeat('x', 256)"} WHEN i % 2 = 0 THEN 'ok' END AS note FROM range(20) r(i)""",
        {"nulls": "send"},
    ),
    "with a cursor": (
        """SELECT 'u' || i AS external_id, TIMESTAMP '2026-11-23' + to_minutes(CAST(i AS INTEGER)) AS updated_at
            FROM range(20) r(i)""",
        {"incremental": {"cursor": "updated_at"}},
    ),
    "with one identifier of several": (
        """SELECT i AS id, CASE WHEN i % 2 = 0 THEN 'u' || i END AS external_id, 'a' || i || '@X.example' AS email
            FROM range(20) r(i)""",
        {"primary_key": "id", "exclude_columns": ["id"]},
    ),
    "with operators": (
        """SELECT 'u' || i AS external_id, CAST('{"inc": ' || i || '}' AS JSON) AS visits FROM range(20) r(i)""",
        {},
    ),
    "of whom to delete": (
        "SELECT 'u' || i AS external_id FROM range(20) r(i)",
        {"mode": "users_delete", "allow_destructive": True},
    ),
    "of whom to merge": (
        """SELECT 'u' || i AS external_id, 'k' || i AS keep_external_id FROM range(20) r(i)""",
        {"mode": "users_merge", "allow_destructive": True},
    ),
    "of types": (
        """SELECT 'u' || i AS external_id, CAST('a' AS ENUM ('a', 'b')) AS choice, NULL AS nothing,
            uuid AS id, CAST(i AS UTINYINT) AS small, MAP {'k': i} AS entries, [1, 2]::INTEGER[2] AS pair,
            TIMESTAMPTZ '2026-11-23' AS at, TIME '08:15' AS clock
            FROM range(20) r(i), (SELECT CAST('0b1e1ab3-5a6b-4c39-9a34-6f8f0d9f4c55' AS UUID) AS uuid)""",
        {},
    ),
}


def outbox(shop: Shop, write: Callable[[Job, State, Any, Layout, Any], object]) -> dict[str, Any]:
    project = shop.project()
    (job,) = jobs_of(project, [project.sync("it")], Options(clock=shop.clock), shop.listener)
    with state_of(project, job.sync) as state:
        engine, model = engine_of(project, state.connection), project.compile(job.sync.model)
        engine.open()
        layout = lay_out(job.sync, model.file, engine.describe(model))
        state.run.begin("run", shop.clock.utc(), shop.clock.utc(), job.sync.mode.label)
        try:
            write(job, state, engine, layout, model)
            return {
                "types": types(state.connection),
                "rows": rows(state.connection),
                "stored": stored(state.connection),
            }
        finally:
            state.run.drop()


def at_once(job: Job, state: State, engine: Any, layout: Layout, model: Any) -> None:
    write_run(job, state, engine, layout, model, None, None)
    assert state.run.streamed


def changes_first(job: Job, state: State, engine: Any, layout: Layout, model: Any) -> None:
    write_changes(state, engine, layout, model, job.options)
    engine.close()
    write_records(state, layout, None, job.options)
    assert not state.run.streamed


def types(connection: DuckDBPyConnection) -> list[tuple[str, str]]:
    """Of the values of the model, in the order of the columns of the state."""
    found = connection.sql(f"FROM {OUTBOX}")
    return [(name, str(of)) for name, of in zip(found.columns, found.types, strict=True) if name.startswith("new.")]


def rows(connection: DuckDBPyConnection) -> list[dict[str, str | None]]:
    names = [name for name in connection.sql(f"FROM {OUTBOX}").columns if name != "waits_until"]
    shown = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in names)
    found = connection.execute(f"SELECT {shown} FROM {OUTBOX} ORDER BY ALL").fetchall()
    return sorted((dict(zip(names, row, strict=True)) for row in found), key=lambda row: sorted(map(str, row.items())))


def stored(connection: DuckDBPyConnection) -> str:
    (sql,) = connection.execute(
        "SELECT sql FROM duckdb_tables() WHERE (database_name, table_name) = ('retl_run', 'outbox')"
    ).fetchall()[0]
    return str(sql)


@pytest.mark.parametrize("case", CASES)
def test_computed_columns_have_the_values_that_would_be_stored(shop: Shop, case: str):
    sql, options = CASES[case]
    shop.sync("it", sql, **options)
    computed, whole = outbox(shop, at_once), outbox(shop, changes_first)
    assert computed["types"] == whole["types"]
    assert computed["rows"] == whole["rows"]
    assert "GENERATED" in computed["stored"]
    assert functions_used(computed["stored"]) == ""  # another process, which recovers the run, has none of them
    assert "GENERATED" not in whole["stored"]
