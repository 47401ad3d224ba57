"""Where a model's rows come from, and what differs between them and the acknowledged ones.

duckdb/   a DuckDB file
"""
