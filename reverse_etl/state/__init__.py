"""What is remembered of a sync, in a folder of its own, for one process at a time.

opening.py     lock -> State, wherever the target keeps it
state.py       an open state: what was acknowledged, the run that is open, what a killed run left
file.py        state.duckdb: attached, made, migrated; errors of disks
commit.py      outbox + journal -> state, in one transaction
watermark.py   how far an incremental model was read
look.py        how a sync stands, rejected rows, one row, for people
edit.py        resolve, forget, reset
history.py     past runs
"""
