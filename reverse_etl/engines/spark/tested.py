"""Which rows of a model may fail a data test: SQL of Spark.

As in `sieve.py`, it decides nothing: it leaves out rows that fail no test, whatever a condition (`where`) says of them.
"""

from collections.abc import Callable, Collection, Sequence

from duckdb import DuckDBPyConnection

from reverse_etl.engines.pulled import Pulled
from reverse_etl.engines.spark.sieve import comparable
from reverse_etl.engines.spark.types import type_in_spark
from reverse_etl.project.spec_tests import AcceptedValues
from reverse_etl.records.layout import ROW_NUMBER, Layout
from reverse_etl.sql.quoting import literal, quoted
from reverse_etl.sql.types import INTEGERS

_AS_TEXT = INTEGERS | {"boolean", "date", "decimal"}  # which DuckDB and Spark write, and read, alike


def columns_tested(layout: Layout) -> Collection[str] | None:
    """The columns that data tests read; None if nobody can tell, as a condition may read any."""
    tests = layout.sync.data_tests
    if any(test.claim.where for test in tests):
        return None
    return {
        *(name for name in layout.key if name != ROW_NUMBER),
        *(name for test in tests for name in test.claim.column),
    }


def may_fail(
    layout: Layout, model: str, read: Sequence[Pulled], accepted: Callable[[str, AcceptedValues], str | None]
) -> str:
    """A SELECT of the columns `read` of the rows that may fail a data test. `accepted` returns SQL for the values that
    a test accepts of a column, None if Spark may not know them."""
    windows, found = [], []
    for number, test in enumerate(layout.sync.data_tests):
        columns = {name: quoted(name, "spark") for name in test.claim.column}
        if test.kind == "not_null":
            found += [f"{column} IS NULL" for column in columns.values()]
        elif test.kind == "unique":
            parts = ", ".join(comparable(column, layout.column(name).type) for name, column in columns.items())
            windows.append(f"count(*) OVER (PARTITION BY {parts}) AS _retl_copies{number}")
            there = " AND ".join(f"{column} IS NOT NULL" for column in columns.values())
            found.append(f"{there} AND _retl_copies{number} > 1")
        else:
            assert isinstance(test.claim, AcceptedValues)
            for name, column in columns.items():
                values = accepted(name, test.claim)
                others = f" AND NOT coalesce({column} IN ({values}), false)" if values else ""
                found.append(f"{column} IS NOT NULL{others}")
    listed = ", ".join(f"{one.there} AS {quoted(one.name, 'spark')}" for one in read)
    names = ", ".join(quoted(one.name, "spark") for one in read)
    rows = f"SELECT {listed} FROM (\n{model}\n) AS __model"
    marked = f"SELECT {', '.join([names, *windows])} FROM ({rows})"
    return f"SELECT {names} FROM ({marked}) WHERE {' OR '.join(f'({one})' for one in found)}"


def accepted(connection: DuckDBPyConnection, layout: Layout, name: str, claim: AcceptedValues) -> str | None:
    """See `may_fail`: the values as DuckDB reads them, in the type of the column."""
    of = layout.column(name).type
    if of.family == "varchar":
        return ", ".join(f"CAST(X'{str(value).encode().hex()}' AS STRING)" for value in claim.values)
    if of.family not in _AS_TEXT:
        return None
    values = ", ".join(f"CAST(TRY_CAST({literal(value)} AS {of.text}) AS VARCHAR)" for value in claim.values)
    (texts,) = connection.execute(f"SELECT [{values}]").fetchall()[0]
    return ", ".join(f"CAST({literal(text)} AS {type_in_spark(of)})" for text in texts if text is not None) or None
