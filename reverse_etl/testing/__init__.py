"""retl test: given rows in, records out, compared with the expected ones. Sends nothing, and reads no table.

unit_tests.py   runs them
fixtures.py     given rows as SQL
comparison.py   expected and actual records, and how they differ
"""
