"""Models in the SQL of another engine (`config(dialect='hive')`), translated to DuckDB SQL. Pure.

A translation has the same result as the engine, or it is refused, by name, at its line. sqlglot reads and writes the SQL;
what a function, an operator or a cast means is said by the tables here, and what is in no table is refused.

names.py       the names of dialects
translate.py   a model in, DuckDB's SQL and what was rewritten out
parse.py       sqlglot's parsers, without their ideas of functions
rewrite.py     goes over the tree, and applies the rows
row.py         a row of the table: same, repaired, refused
kinds.py       what is known of the type of a value
hive/          Hive: table.py has its rows; casts.py, times.py, texts.py, values.py build what they become
spark.py       Spark and Databricks: where they differ from Hive
trino/         Trino, Presto and Athena: table.py and its builders; zones.py for times shown in a zone
common.py      what every other engine shares
clauses.py     operators and clauses of all of them
td.py          Treasure Data's functions
patterns.py    patterns of dates -> strftime
zones.py       names of time zones
intervals.py   the windows of TD_INTERVAL
digdag.py      `${...}`, which is not for models

A model without a dialect is never changed.
"""
