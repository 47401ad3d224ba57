"""How names and texts get into SQL, and what DuckDB calls its types.

quoting.py   names and texts as SQL; the text of a .sql file
types.py     SqlType: a column's type, and the families of types
"""
