"""The seam between the warehouse, where models run, and retl's own workbench, whatever the warehouse is.

the warehouse   the columns of a model, its data tests, and what differs between its rows and the acknowledged ones
the workbench   rules, records, outbox, journal, state: always DuckDB, see `plan/workbench.py`

An engine writes the changes into the workbench's table CHANGES; from there on nothing depends on the engine. The names
of the tables are in `plan/tables.py`, for both.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from reverse_etl.masking import Keys
from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.plan.elsewhere import Adopted, Pointer
from reverse_etl.plan.tables import ACKNOWLEDGED
from reverse_etl.project.models import Compiled
from reverse_etl.records.layout import Layout
from reverse_etl.sql.types import SqlType


@dataclass(frozen=True)
class Comparison:
    """What the rows of a model are compared with, and how.

    known         the columns of the acknowledged rows, and their types; none if nothing was acknowledged yet
    retyped       columns with another type than before, whose values are compared as the JSON that Braze has
    all_rows      every row of the model counts as added
    some_unsure   a column that the state is unsure of counts as changed: Braze may have received another value
    resends       rows that need a user of RESENT count as added, as if they had not been acknowledged
    pinned        rows with a cell of PINS are among the changes, whether they differ or not
    keys          how keys are shown in errors
    in_state      how many acknowledged rows the state has
    absent        ... and of how many of them it notes that the model lacks them
    acknowledged  the table that has the acknowledged rows
    """

    known: Mapping[str, SqlType] = field(default_factory=dict)
    retyped: Collection[str] = ()
    all_rows: bool = False
    some_unsure: bool = False
    resends: bool = False
    pinned: bool = False
    keys: Keys = field(default_factory=Keys)
    in_state: int = 0
    absent: int = 0
    acknowledged: str = ACKNOWLEDGED


@dataclass(frozen=True)
class Side:
    """A model that is compared with another one, and what its columns are for."""

    layout: Layout
    model: Compiled


@dataclass(frozen=True)
class Common:
    """How many users two models both return, and for how many of them each compared column differs."""

    users: int
    differing: Mapping[str, int]


@dataclass(frozen=True)
class First:
    """What is stored of the rows of a model that are all new: the statement that stores them in `table`, with MODEL of
    `duckdb/diff.py` where the model's SQL goes, and a SELECT from that table of the columns of CHANGES."""

    statement: str
    table: str
    changes: str


@dataclass(frozen=True)
class Suspicion:
    """SQL over a record for: it may not be recorded as it is, with the values of its parameters."""

    sql: str = "false"
    values: Mapping[str, object] = field(default_factory=dict)


class Engine(Protocol):
    """A warehouse, beside the workbench of one run.

    An error in a model raises a RetlError with the model's file and line, and no value.
    """

    def open(self) -> None:
        """Connect to the warehouse, read-only, with no file in reach but those that models may read.

        Raises BusyError if it is locked by another process, or ProjectError.
        """

    def close(self) -> None:
        """Disconnect from the warehouse, so that others can write to it. The workbench keeps what was written to it."""

    def describe(self, model: Compiled) -> list[tuple[str, SqlType]]:
        """The columns that a model returns, with the types in which the state stores them."""

    def columns(self, model: Compiled) -> list[tuple[str, SqlType]]:
        """The same, faster: without telling which columns have a collation."""

    def count_common(self, one: Side, other: Side, compared: Sequence[str]) -> Common | None:
        """Run two models, and count the users whom both return, by an identifier that both have; None if one of the
        models cannot be run. `compared` are the columns whose values are compared, by what Braze receives."""

    def first_rows(
        self, model: Compiled, limit: int, form: Callable[[str, SqlType], str] = ...
    ) -> tuple[list[str], list[tuple[object, ...]]]:
        """The first rows of a model as strings: the names of the columns, and a tuple per row. `form` is the SQL that
        makes a string of a value; default: as DuckDB writes it."""

    def run_data_tests(self, layout: Layout, model: Compiled) -> tuple[DataTestResult, ...]:
        """Run the data tests of a sync on the rows that its model returns."""

    def rows_expected(self, model: Compiled) -> int | None:
        """How many rows a model returns, as the warehouse expects before it runs it; None if it cannot say."""

    def distinct_columns(self, model: Compiled, names: Collection[str]) -> Sequence[str]:
        """Those of the columns of a model of which most values differ, as far as the first of many rows tell; none if
        the warehouse would run all of the model for these."""

    def write_changes(self, layout: Layout, model: Compiled, comparison: Comparison) -> int:
        """Run the model once, and fill CHANGES with what differs; returns the number of rows of the model.

        If `layout.sets_aside` them, all rows that share a key, or a user, are among the changes, marked with how many
        they are, and so are rows with a NULL key; otherwise raises DataError for both. Raises DataError for NULL or
        infinite cursors.
        """

    def write_first(self, layout: Layout, model: Compiled, comparison: Comparison, first: First) -> int | None:
        """The same for a first run, all of whose rows are new: a statement stores at once what becomes of them. CHANGES
        is then a view of that.

        None if rows share a key, or a user, and have to be set aside: then nothing is written.
        """

    def write_baseline(
        self, layout: Layout, model: Compiled, comparison: Comparison, pointer: Pointer, suspicion: Suspicion
    ) -> Adopted | None:
        """Let the warehouse have all rows of the model as acknowledged ones, in tables named as those of the pointer;
        CHANGES has those that may not be recorded as they are, to be judged as ever, and SLICE what the tables have of
        these. None, with nothing written, where the warehouse cannot."""

    def interruptible(self) -> AbstractContextManager[None]:
        """A context in which a signal ends the running statement."""
