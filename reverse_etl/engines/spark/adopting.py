"""A baseline in Spark: all rows of a model become acknowledged ones where they are. SQL. Pure.

    model ── CREATE TABLE AS ──> staged ── CREATE TABLE AS ──> base, with the columns that the state stores
                                   │                           (the same table, if these are all)
                                   └── once, to retl: keys of rows that break a rule ──┐
                                       in Spark: keys of rows that share one ──────────┴──> SIFTED: judged as ever

So the model runs once, and whatever changes meanwhile, the rows that are judged are those that are recorded. No row is
kept here but those of SIFTED: what becomes of them is a delta over the base.
"""

from collections.abc import Mapping
from datetime import datetime

from reverse_etl.engines.duckdb.diff import first_sql
from reverse_etl.engines.spark.sieve import OWN, comparable, moment, spelled
from reverse_etl.engines.spark.types import type_in_spark
from reverse_etl.plan.tables import RUN_ID, SENT_AT
from reverse_etl.records.expressions import compared_user, is_null, new
from reverse_etl.records.identity import WHO, identifying_columns, who_of_outbox
from reverse_etl.records.layout import Layout
from reverse_etl.records.left_out import LEFT_OUT, with_old
from reverse_etl.records.mapping import key_text, outbox_sql
from reverse_etl.sql.quoting import identifier, literal, quoted

_KEY = "key.{}"  # a column of the key as the model has it, beside what a record may have instead


def is_wide(layout: Layout) -> bool:
    """Whether rules look at columns that the state does not store."""
    return {column.name for column in layout.needed} != {*layout.stored}


def staged_sql(layout: Layout, model: str, read: Mapping[str, str], run_id: str, at: datetime) -> str:
    """A SELECT of all rows of a model, as acknowledged ones. `read` is what is read of each column of `__model`."""
    columns = {
        column.name: f"CAST({read[column.name]} AS {type_in_spark(column.type)}) AS {quoted(column.name, 'spark')}"
        for column in layout.needed
    }
    own = dict.fromkeys(OWN, "NULL") | {SENT_AT: moment(at), RUN_ID: literal(run_id)}
    listed = [*columns.values(), *(f"CAST({value} AS {OWN[name]}) AS {name}" for name, value in own.items())]
    return f"SELECT {', '.join(listed)} FROM (\n{model}\n) AS __model"


def stored_sql(layout: Layout, table: str) -> str:
    """A SELECT of what the state stores of staged rows."""
    return f"SELECT {', '.join([*(quoted(name, 'spark') for name in layout.stored), *OWN])} FROM {table}"


def twins_sql(layout: Layout, table: str) -> list[tuple[str, str]]:
    """Of what no two rows may share, the key and the user: a SELECT of how many values several rows have, and one of
    the keys of these rows."""
    names = {name: quoted(name, "spark") for name in layout.key}
    keys = {name: comparable(column, layout.column(name).type) for name, column in names.items()}
    of_columns = {column.name: quoted(column.name, "spark") for column in layout.needed}
    user = {name: spelled(sql, of_columns) for name, sql in compared_user(layout, "s").items()}
    found = []
    for parts in filter(None, (keys, user)):
        listed = ", ".join(parts.values())
        there = f"SELECT * FROM {table} WHERE {' OR '.join(f'{part} IS NOT NULL' for part in parts.values())}"
        several = f"SELECT 1 AS one FROM ({there}) GROUP BY {listed} HAVING count(*) > 1"
        counted = f"SELECT {', '.join(names.values())}, count(*) OVER (PARTITION BY {listed}) AS _retl_copies"
        chosen = f"SELECT {', '.join(names.values())} FROM ({counted} FROM ({there})) WHERE _retl_copies > 1"
        found.append((f"SELECT count(*) AS rows FROM ({several})", chosen))
    return found


def suspects_sql(layout: Layout, suspicion: str) -> str:
    """A SELECT (of DuckDB) of the keys of rows that are not recorded as they are, with MODEL in it: those that break a
    rule, or that Braze would keep in another way, or of which an error tells how many they are. `suspicion` is SQL over
    a record for more of them."""
    changes, there = first_sql(layout)
    keys = {identifier(_KEY.format(name)): name for name in layout.key}
    as_it_is = ", ".join(f"{new(name)} AS {column}" for column, name in keys.items())
    prepared = f"SELECT *, {as_it_is} FROM ({with_old(layout, changes, there)})"
    records = outbox_sql(layout, prepared, [_KEY.format(name) for name in layout.key])
    nulls = [is_null(part, lambda name: identifier(_KEY.format(name))) for part in layout.key_parts]
    chosen = " OR ".join([f"problems IS NOT NULL OR {LEFT_OUT} IS NOT NULL OR {suspicion}", *nulls])
    listed = ", ".join(f"{column} AS {identifier(name)}" for column, name in keys.items())
    return f"SELECT {listed} FROM (\n{records}\n) WHERE {chosen}"


def named_columns(layout: Layout) -> list[str]:
    """The columns that tell which row one is, and whom it is about."""
    about = identifying_columns(layout.mode, [column.name for column in layout.sent])
    return [column.name for column in layout.needed if column.name in (*layout.key, *about)]


def lines_sql(layout: Layout, rows: str) -> str:
    """A SELECT (of DuckDB) of the `key` of rows as people see it, and of whom they are about."""
    named = named_columns(layout)
    columns = ", ".join(f"CAST({identifier(name)} AS {layout.column(name).type.text}) AS {new(name)}" for name in named)
    missing = [column for column in layout.sent if column.name not in named]
    columns += "".join(f", CAST(NULL AS {column.type.text}) AS {new(column.name)}" for column in missing)
    who = who_of_outbox(layout)
    return f"SELECT {key_text(layout.key, new)} AS key, {who} AS {identifier(WHO)} FROM (SELECT {columns} FROM {rows})"
