"""The machine under a run.

clock.py           the clock of a run; waiting until another process releases a lock
signals.py         a signal that ends a statement
private_files.py   files for their owner only
file_lock.py       one process at a time
"""
