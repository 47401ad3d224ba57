"""Where a model's rows come from, and what differs between them and the acknowledged ones.

engine.py      what an engine does for a run: the seam between the warehouse and retl's own workbench
warehouse.py   the engine of a project's warehouse
duckdb/        a DuckDB file
pulled.py      another warehouse: models run there, and DuckDB reads their rows as a view
ahead.py       its rows, read ahead by a thread
postgres/      Postgres
spark/         Spark, through Spark Connect
"""
