"""Counts the users whom two models have in common, and whose attributes differ between them.

Both models run once more, but DuckDB computes no column of them that is not needed here.
"""

from collections.abc import Sequence

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.engine import Common, Side
from reverse_etl.plan.workbench import execute
from reverse_etl.records.attributes import common_identifiers, compared_values, user_sql
from reverse_etl.sql.quoting import identifier


def count_common(connection: DuckDBPyConnection, one: Side, other: Side, compared: Sequence[str]) -> Common | None:
    """See `Engine.count_common`."""
    pairs = {name: compared_values(one.layout, other.layout, name) for name in compared}
    shared = common_identifiers(one.layout, other.layout)
    counts = [
        f"count(DISTINCT who) FILTER (one.{_value(n)} IS DISTINCT FROM other.{_value(n)})" for n in range(len(pairs))
    ]
    rows = [
        _rows(side, [values[index] for values in pairs.values()], user_sql(side.layout, shared))
        for index, side in enumerate((one, other))
    ]
    counted = ", ".join(["count(DISTINCT who)", *counts])
    sql = f"SELECT {counted} FROM ({rows[0]}) AS one JOIN ({rows[1]}) AS other USING (who)"
    try:
        users, *differing = execute(connection, sql).fetchall()[0]
    except duckdb.InterruptException:
        raise
    except duckdb.Error:  # the run of that sync says what is wrong with its model
        return None
    return Common(users, dict(zip(pairs, differing, strict=True)))


def _value(number: int) -> str:
    return identifier(f"value {number}")


def _rows(side: Side, values: Sequence[str], who: str) -> str:
    columns = [f"{who} AS who", *(f"{value} AS {_value(number)}" for number, value in enumerate(values))]
    return f"SELECT {', '.join(columns)} FROM (\n{side.model.sql}\n)"
