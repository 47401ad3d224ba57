"""A DuckDB file, or what DuckDB attaches, as the warehouse, on the workbench's own connection: one DuckDB for both."""

from collections.abc import Collection, Sequence, Set
from contextlib import AbstractContextManager
from pathlib import Path

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.as_json import as_text
from reverse_etl.engines.duckdb.attached import attach, refuse_other_calls, refuse_other_calls_of_tests
from reverse_etl.engines.duckdb.changes import write_changes, write_first
from reverse_etl.engines.duckdb.checks import run_data_tests
from reverse_etl.engines.duckdb.common import count_common
from reverse_etl.engines.duckdb.connection import attach_warehouse, detach_warehouse, keep_inside
from reverse_etl.engines.duckdb.model import Form, columns, describe, distinct_columns, first_rows, rows_expected
from reverse_etl.engines.duckdb.query import ModelQuery
from reverse_etl.engines.engine import Common, Comparison, First, Side, Suspicion
from reverse_etl.errors import Location, ProjectError
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.elsewhere import Adopted, Pointer
from reverse_etl.project.attached import Attached
from reverse_etl.project.models import Compiled
from reverse_etl.project.readable import Readable
from reverse_etl.records.layout import Layout
from reverse_etl.sql.types import SqlType
from reverse_etl.system.signals import interruptible


class DuckDBEngine:
    """See `Engine`. Models read what is `readable`, and nothing else, once the engine has been opened.

    The warehouse is a file, or what DuckDB attaches, and `where` is its location in syncs.yml; without one, models read
    no tables.
    """

    def __init__(
        self,
        workbench: DuckDBPyConnection,
        readable: Readable,
        warehouse: Path | Attached | None = None,
        where: Location | None = None,
    ) -> None:
        self._workbench, self._readable, self._warehouse, self._where = workbench, readable, warehouse, where
        self._own: Set[str] | None = None  # functions that models may call; None: all that there are

    def open(self) -> None:
        if isinstance(self._warehouse, Attached):
            self._own = attach(self._workbench, self._warehouse, self._where)
        elif self._warehouse is not None:
            attach_warehouse(self._workbench, self._warehouse, self._where)
        keep_inside(self._workbench, self._readable)

    def close(self) -> None:
        if self._warehouse is not None:
            detach_warehouse(self._workbench, self._warehouse)

    def describe(self, model: Compiled) -> list[tuple[str, SqlType]]:
        return describe(self._workbench, self._vetted(model))

    def columns(self, model: Compiled) -> list[tuple[str, SqlType]]:
        return columns(self._workbench, self._vetted(model))

    def count_common(self, one: Side, other: Side, compared: Sequence[str]) -> Common | None:
        try:
            self._vetted(one.model)
            self._vetted(other.model)
        except ProjectError:
            return None
        return count_common(self._workbench, one, other, compared)

    def first_rows(
        self, model: Compiled, limit: int, form: Form = as_text
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        return first_rows(self._workbench, self._vetted(model), limit, form)

    def run_data_tests(self, layout: Layout, model: Compiled) -> tuple[DataTestResult, ...]:
        if self._own is not None:
            refuse_other_calls_of_tests(self._workbench, layout.sync, self._own)
        return run_data_tests(self._query(layout, model))

    def rows_expected(self, model: Compiled) -> int | None:
        return rows_expected(self._workbench, self._vetted(model))

    def distinct_columns(self, model: Compiled, names: Collection[str]) -> Sequence[str]:
        return distinct_columns(self._workbench, self._vetted(model), names)

    def write_changes(self, layout: Layout, model: Compiled, comparison: Comparison) -> int:
        is_of_one_moment = not isinstance(self._warehouse, Attached) or self._warehouse.is_lake
        return write_changes(self._query(layout, model), comparison, may_run_again=is_of_one_moment)

    def write_first(self, layout: Layout, model: Compiled, comparison: Comparison, first: First) -> int | None:
        return write_first(self._query(layout, model), comparison, first)

    def write_baseline(
        self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer, suspicion: Suspicion
    ) -> Adopted | None:
        """The state has the acknowledged rows."""
        return None

    def interruptible(self) -> AbstractContextManager[None]:
        return interruptible(self._workbench)

    def _query(self, layout: Layout, model: Compiled) -> ModelQuery:
        return ModelQuery(self._workbench, layout, self._vetted(model))

    def _vetted(self, model: Compiled) -> Compiled:
        """The model, which calls nothing but what it may."""
        if self._own is not None:
            refuse_other_calls(self._workbench, model, self._own)
        return model
