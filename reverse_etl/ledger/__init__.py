"""What each run has changed, in files beside the state: nothing but what Braze has acknowledged, or was declared to.

    ledger/<name>.parquet             one line for each cell that a run has changed, and for each row it has added, or
                                      that left: see LINES
    ledger/<name>.requests.parquet    its requests: see REQUESTS

`<name>` is the run's id, or that of several runs of a day (`day-20261130-...`). The column `ledger` of the state's
table of runs has it, and a file that no run names does not count. In a shared state, both files are one object,
`ledger/<name>.zip`. Files are complete before their run is committed, in the order: files, commit, delete what is
named no more. So a killed process loses no line, and invents none.

lines.py      the SQL: outbox + outcomes + acknowledged rows -> lines; the text of a value, and the value of a text
files.py      the files of one state: written, read, merged by the day, pruned, rewritten without a person
places.py     where they are: a folder, or an object store

To read it, with a state open (`state.ledger` is a `Ledger`):

    with state.ledger.opened():                  # or opened(["20261130T..."]): the lines of these runs alone
        state.connection.execute(f"FROM {LINES} JOIN {REQUESTS} USING (run_id, request)")

LINES, a view of that connection inside the block; of one run, in the order of its columns, then of its outbox:

    run_id        the run, as in RUNS: its started_at, finished_at, status, git_commit, git_dirty, sql_md5 (the text is
                  in SQLS), started_by, plan_digest
    key           of the row, as people see it (`key_text`)
    who           whom the row is about, as in `records/identity.py`; NULL if about nobody
    kind          added: the row was sent whole. Its line has no column_name: its values are those that the state had
                      then, which are the `old` of the next line of a cell, or else what the state has now
                  resent: the same, of a row that had been acknowledged before, as in --full-refresh. Cells that differ
                      from that have lines of kind added
                  changed: the cell was sent
                  removed: the row left the state: a line without a column_name, and one for each cell with a value
                  opted_out: the cell was sent in a record that only opts out; the rest of the row in another, or not
    column_name   the column of the model; NULL: see kind
    old, new      JSON text of the value before and after (`lines.json_of_value`, and back: `value_of_json`); NULL: none
    request       the request that did it, as in REQUESTS; NULL if none did: a baseline (the status of the run), a row
                  in doubt that was declared to have arrived, or one that the state dropped with nothing sent

REQUESTS, another one: run_id, request (from 1), path, status (HTTP; NULL: no response), outcome (accepted, not_taken,
in_doubt, not_sent), sent_at, answered_at (TIMESTAMPTZ; NULL if unknown), objects, rejected (numbers of records)

Not in it: rows that Braze rejected or that are in doubt, whom a run has deleted, another spelling of an equal value,
and columns that left the model or changed their type with nothing sent.
"""
