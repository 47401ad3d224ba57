"""Catalogs and what is in them.

catalogs.py   catalogs and their fields
items.py      their items
values.py     what a field of each type takes
store.py      both in the sandbox's file
errors.py     what is answered to a request that breaks a rule
"""
