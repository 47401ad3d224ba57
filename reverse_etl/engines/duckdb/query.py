"""A model on a connection: what all checks and comparisons of one run share."""

from collections.abc import Collection
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import errors_of
from reverse_etl.plan.workbench import execute
from reverse_etl.project.models import Compiled
from reverse_etl.records.layout import Layout


@dataclass(frozen=True)
class ModelQuery:
    """A model, what its columns are for, and a connection that sees the warehouse and the workbench's tables."""

    connection: DuckDBPyConnection
    layout: Layout
    model: Compiled

    def execute(self, sql: str) -> DuckDBPyConnection:
        return execute(self.connection, sql)

    def count(self, rows: str) -> int:
        """The number of rows of a table, with or without a condition, or of a subquery."""
        return int(self.execute(f"SELECT count(*) FROM {rows}").fetchall()[0][0])

    def rows_returned(self) -> int | None:
        """How many rows the model returned when it ran last; None if they were not counted as they came."""
        return None

    def narrowed(self, names: Collection[str]) -> str:
        """The model's SQL, of which only these columns are read. DuckDB itself reads no others."""
        return self.model.sql

    def errors(self, first_line: int) -> errors_of:
        """See `errors_of`: the model starts at this line of the statement."""
        return errors_of(self.model, first_line)
