"""The warehouse is a DuckDB file, attached to the workbench's connection, which sees three databases:

<warehouse's name>   the warehouse, read-only, the default catalog of models
retl_state           state.duckdb of the sync: what was acknowledged
retl_run             outbox.duckdb of the sync: the changes and the outbox of this run, gone when it is committed

engine.py       what other rooms use
connection.py   the warehouse attached and detached; seeds
query.py        a model on a connection
model.py        a model's columns and first rows
diff.py         the SQL that finds what differs
absences.py     rows of the state that left the model, or are back
changes.py      runs it, and counts the model's rows
common.py       the users whom two models have in common
without_line.py  the line of an error that names none
volatile.py     columns that are made of the time or of chance
checks.py       keys, cursors and data tests
errors.py       errors with the model's file and line
reach.py        the same of files that models may not read
"""
