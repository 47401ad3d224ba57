"""The story of a run, and of several.

run.py          one sync: plan, decide, send, commit
outcome.py      options in, a result and a listener out
preview.py      a dry run
saved_plan.py   a plan in a file
apply.py        sends a saved plan
sequence.py     several syncs, one after the other
due.py          which syncs are due
scheduler.py    runs those
interrupts.py   Ctrl-C and SIGTERM
debug.py        checks of a target, one by one
"""
