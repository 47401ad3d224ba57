"""Spark as the warehouse, through Spark Connect: models run there, and their rows come as Arrow.

types.py     each type of Spark: what is read of it; or why it is refused
errors.py    what Spark says, in retl's words: place in the model, no values
reader.py    a session: plan a model, stream its rows, interrupt it
pushed.py    an engine that compares in Spark: only rows that may have changed come
sieve.py     which these are
adopting.py  a baseline: all rows of a model become acknowledged ones there
tables.py    acknowledged rows in Spark: written, read, dropped
people.py    which of them may be about somebody
"""
