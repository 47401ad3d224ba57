"""The state of a sync: what Braze has acknowledged, in a folder of its own, for one process at a time.

opening.py     lock -> State, wherever the target stores it
places.py      where a state is: under its name, or a former one
moving.py      moves the state of what was renamed
orphans.py     states that no sync claims
state.py       an open state: acknowledged rows, the open run, what was recovered of a killed run
glance.py      states that nobody has open, read one after the other
done.py        until when syncs were done, as far as their files have not changed
file.py        state.duckdb: attached, created, migrated; errors of disks
backups.py     what lies beside it: backups of resets and migrations, and for how long
rows_table.py  the table of acknowledged rows is created, so that it is compressed in little time
baseline.py    acknowledges the rows of a model at once
commit.py      outbox + journal -> state, in one transaction
  outcomes.py    what became of each record
  rejects.py     rows that are not in Braze as the model has them
elsewhere.py   acknowledged rows that are in the warehouse: what a run changes, erased people
  brought.py     rows of the warehouse with certain keys, or about certain people
contents.py    what is known of an open state, and the columns of its tables
giving_up.py   rows that are not waited for any more
absences.py    rows that the model does not return any more
workspace.py   which workspace its rows are in
watermark.py   how far an incremental model was read
others.py      whom the other syncs of the target have sent
under_way.py   what only a state that is opened could say: a run that is under way, or was killed
renamed.py     external ids that were renamed: keys of other states, rows that must not be sent
uncertain.py   rows whose user nobody has sent: which they are, and when they are sent again
look.py        for people: status of a sync, rows not in Braze, one row
sample.py      some acknowledged rows, at random, to be compared with Braze
edit.py        for people: resolve, forget, reset
history.py     past runs
to_send.py     how many rows are to be sent
begun.py       a run that has begun: known by the next one, if it is killed
tries.py       syncs that fail, for their schedules; `failed_tries.py` has all such tries, for people
"""
