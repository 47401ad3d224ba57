"""Running syncs: one run from start to end, and several.

run.py          one sync: plan, decide, send, commit
records.py      what the model returns -> changes -> records; in a first run, records at once
read_first.py   asks Braze who has opted out, before a sync is planned
catalogs.py     whether the catalog that a sync writes to is there, as it needs it
canary.py       sends some rows first, and reads them back
verify.py       reads some acknowledged rows back
read_back.py    ... users as Braze has them now
origin.py       where a run comes from: commit, SQL, who started it
notices.py      what is said of a plan beside its counts
volatile.py     what is said of columns that differ in each run
writers.py      what other syncs write to the same profiles, compared before a sync is planned
lock.py         braze.lock.yml, from the models and from the workspace
outcome.py      options of a run, its result, and its listener
preview.py      a dry run
saved_plan.py   a plan in a file
seal.py         who made it, and that nobody changed it
apply.py        sending a saved plan
sequence.py     several syncs: one is planned while another sends
turns.py        ... which of them may do what now
due.py          which syncs are due
scheduler.py    running these
interrupts.py   SIGINT (Ctrl-C) and SIGTERM
site.py         what the page of a project shows, collected
site_facts.py   ... as values
debug.py        the checks of `retl debug`
"""
