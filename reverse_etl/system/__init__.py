"""The machine that a run uses.

platforms.py       what Linux, macOS and Windows spell otherwise
clock.py           the clock of a run; waiting for a lock
signals.py         a signal interrupts a statement of DuckDB
streams.py         stdout and stderr that take every text
disk.py            what to do about a file that cannot be written
memory.py          errors that say that memory is used up
private_files.py   files that only their owner can read
meanwhile.py       work that a thread does while something else is waited for
beside.py          temporary folders beside a file, and what killed processes leave of them
file_lock.py       one process at a time per target and sync
"""
