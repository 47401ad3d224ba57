"""What a run is about to do, stored before it does anything.

tables.py       names of the tables of a run and of the state
workbench.py    the DuckDB that is retl's own: a connection, its memory and functions
plan.py         the counts of an outbox: rows, requests, costs
outbox.py       its records, invalid rows and a sample of its changes
alike.py        what is said of its rows that are not sent, by reason
baseline.py     acknowledged rows of a baseline, which need no records
given_up.py     rows that are not waited for any more
doubts.py       events that are in doubt under another key
canary.py       which records are sent first, and read back
guards.py       limits that block a run
writers.py      what several syncs of a target write to the same profiles
names.py        what models send, compared with braze.lock.yml and with the workspace
data_tests.py   what must be true of the rows of a model
"""
