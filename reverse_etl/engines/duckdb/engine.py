"""A DuckDB file as the warehouse, attached to the workbench's own connection: here one DuckDB plays both roles."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.as_json import as_text
from reverse_etl.engines.duckdb.changes import write_changes, write_first
from reverse_etl.engines.duckdb.checks import run_data_tests
from reverse_etl.engines.duckdb.common import count_common
from reverse_etl.engines.duckdb.connection import attach_warehouse, detach_warehouse, keep_inside
from reverse_etl.engines.duckdb.model import Form, columns, describe, distinct_columns, first_rows, rows_expected
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Common, Comparison, First, Side, Suspicion
from reverse_etl.errors import Location
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.elsewhere import Adopted, Pointer
from reverse_etl.project.models import Compiled
from reverse_etl.project.readable import Readable
from reverse_etl.records.layout import Layout
from reverse_etl.sql.types import SqlType
from reverse_etl.system.signals import interruptible


class DuckDBEngine:
    """See `Engine`. Models read what is `readable`, and nothing else, once the engine has been opened.

    `path` is the file, and `where` its location in syncs.yml; without one, models read no tables.
    """

    def __init__(
        self,
        workbench: DuckDBPyConnection,
        readable: Readable,
        path: Path | None = None,
        where: Location | None = None,
    ) -> None:
        self._workbench, self._readable, self._path, self._where = workbench, readable, path, where

    def open(self) -> None:
        if self._path is not None:
            attach_warehouse(self._workbench, self._path, self._where)
        keep_inside(self._workbench, self._readable)

    def close(self) -> None:
        if self._path is not None:
            detach_warehouse(self._workbench, self._path)

    def describe(self, model: Compiled) -> list[tuple[str, SqlType]]:
        return describe(self._workbench, model)

    def columns(self, model: Compiled) -> list[tuple[str, SqlType]]:
        return columns(self._workbench, model)

    def count_common(self, one: Side, other: Side, compared: Sequence[str]) -> Common | None:
        return count_common(self._workbench, one, other, compared)

    def first_rows(
        self, model: Compiled, limit: int, form: Form = as_text
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        return first_rows(self._workbench, model, limit, form)

    def run_data_tests(self, layout: Layout, model: Compiled) -> tuple[DataTestResult, ...]:
        return run_data_tests(ModelQuery(self._workbench, layout, model))

    def rows_expected(self, model: Compiled) -> int | None:
        return rows_expected(self._workbench, model)

    def distinct_columns(self, model: Compiled, names: Collection[str]) -> Sequence[str]:
        return distinct_columns(self._workbench, model, names)

    def write_changes(self, layout: Layout, model: Compiled, comparison: Comparison) -> int:
        return write_changes(ModelQuery(self._workbench, layout, model), comparison, may_run_again=True)

    def write_first(self, layout: Layout, model: Compiled, comparison: Comparison, first: First) -> int | None:
        return write_first(ModelQuery(self._workbench, layout, model), comparison, first)

    def write_baseline(
        self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer, suspicion: Suspicion
    ) -> Adopted | None:
        """The state has the acknowledged rows."""
        return None

    def interruptible(self) -> AbstractContextManager[None]:
        return interruptible(self._workbench)
