"""The engine of a project's warehouse, by its type in syncs.yml. No other one is loaded."""

from typing import TYPE_CHECKING

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.as_json import as_text
from reverse_etl.engines.duckdb.engine import DuckDBEngine
from reverse_etl.engines.duckdb.model import Form
from reverse_etl.engines.engine import Engine
from reverse_etl.plan.workbench import connect
from reverse_etl.project.models import Compiled
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.readable import readable_by_models
from reverse_etl.project.spec_targets import Postgres, Spark

if TYPE_CHECKING:
    from reverse_etl.engines.spark.reader import SparkReader
    from reverse_etl.engines.spark.tables import SparkTables


def engine_of(project: LoadedProject, workbench: DuckDBPyConnection) -> Engine:
    """The engine of the target's warehouse, not open yet. Raises ProjectError for settings that are wrong."""
    warehouse = project.spec.target.warehouse
    if isinstance(warehouse, Postgres):
        from reverse_etl.engines.postgres.reader import PostgresReader
        from reverse_etl.engines.pulled import PulledEngine

        where = project.spec.in_target("warehouse", "uri")
        timeout_s = warehouse.statement_timeout_s
        return PulledEngine(workbench, PostgresReader(project.warehouse_secret("uri"), timeout_s, where))
    if isinstance(warehouse, Spark):
        from reverse_etl.engines.pulled import PulledEngine
        from reverse_etl.engines.spark.pushed import PushedEngine

        reader = _reader(project, warehouse)
        if not warehouse.compares:
            return PulledEngine(workbench, reader)
        where = project.spec.in_target("warehouse", "diff")
        tables = row_tables(project, warehouse.state_schema or "")
        return PushedEngine(workbench, reader, tables=tables, where=where)
    where = project.spec.in_target("warehouse", "path")
    return DuckDBEngine(workbench, readable_by_models(project), project.attached or project.warehouse, where)


def row_tables(project: LoadedProject, schema: str) -> "SparkTables":
    """What reads and writes tables of acknowledged rows in the target's warehouse, which is Spark."""
    from reverse_etl.engines.spark.tables import SparkTables

    warehouse = project.spec.target.warehouse
    assert isinstance(warehouse, Spark)
    where = project.spec.in_target("warehouse", "state_schema" if warehouse.compares else "type")
    return SparkTables(_reader(project, warehouse), schema, where)


def _reader(project: LoadedProject, warehouse: Spark) -> "SparkReader":
    from reverse_etl.engines.spark.reader import SparkReader

    where = project.spec.in_target("warehouse", "remote")
    return SparkReader(warehouse.remote, project.warehouse_secret("token"), where)


def first_rows(
    project: LoadedProject, model: Compiled, limit: int, form: Form = as_text
) -> tuple[list[str], list[tuple[object, ...]]]:
    """The first rows of a model as strings: the names of the columns, and a tuple per row."""
    with connect() as workbench:
        engine = engine_of(project, workbench)
        engine.open()
        with engine.interruptible():
            found = engine.first_rows(model, limit, form)
        engine.close()
        return found
