"""Postgres as the warehouse: models run there, read-only, and their rows come through ADBC.

types.py    each type of Postgres: what is read of it, and what it becomes; or why it is refused
errors.py   what Postgres says, in retl's words: place in the model, no values, no password
reader.py   sessions: one snapshot for a whole run, streams of rows, cancel
"""
