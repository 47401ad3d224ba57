"""Trino: `table.py` has all of its rows; what builds them is beside it."""
