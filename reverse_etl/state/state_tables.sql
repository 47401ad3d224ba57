-- The state of a sync, except the acknowledged rows (table `state`, created with the first rows).
CREATE TABLE retl_state.main.meta (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);
CREATE TABLE retl_state.main.runs (
    run_id VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ NOT NULL,
    status VARCHAR NOT NULL,
    message VARCHAR,
    counts JSON NOT NULL,
    scheduled_time TIMESTAMPTZ,
    -- Of a run that had something to do: where it came from, as far as it is known.
    git_commit VARCHAR,
    git_dirty BOOLEAN, -- whether files of the project differed from that commit
    sql_md5 VARCHAR, -- of the compiled model: see sqls
    started_by VARCHAR, -- user@host, or the address of a run of CI
    plan_digest VARCHAR, -- SHA-256 of the saved plan that it sent
    ledger VARCHAR -- the name of its files in ledger/; NULL: it has none, or not any more
);
CREATE TABLE retl_state.main.sqls (md5 VARCHAR NOT NULL, sql VARCHAR NOT NULL);
CREATE TABLE retl_state.main.pins (
    key VARCHAR NOT NULL,
    column_name VARCHAR NOT NULL, -- empty: the row, which the model did not return, and which stays until it does
    value VARCHAR, -- what the model returned when the cell was reverted, as JSON text
    run_id VARCHAR NOT NULL -- the run that was reverted
);
CREATE TABLE retl_state.main.rejects (
    key VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    -- retl: before sending; braze: in its response; left_out, consent: a column of it is not sent; withheld: not sent
    -- yet; given_up: one of these, and not waited for any more (see plan/given_up.py)
    rejected_by VARCHAR NOT NULL,
    column_name VARCHAR,
    reason VARCHAR NOT NULL,
    hint VARCHAR,
    body VARCHAR,
    body_md5 VARCHAR,
    rejected_at TIMESTAMPTZ NOT NULL, -- since when the row is listed; of given_up: since when it is
    run_id VARCHAR NOT NULL,
    identifier VARCHAR, -- of the row's user, as JSON, where the key is a digest of the whole row
    cursor VARCHAR -- of a row of an incremental model that is given_up
);
CREATE TABLE retl_state.main.opt_outs (
    identifier VARCHAR NOT NULL, -- of the user, as JSON: the first identifier that the row has
    channel VARCHAR NOT NULL, -- email_subscribe, push_subscribe, or subscription_groups:<id>
    opted_out_at TIMESTAMPTZ NOT NULL, -- when Braze acknowledged it, as far as the state knows
    is_unclear BOOLEAN -- Braze may have it otherwise: it was sent without a clear response, or an opt-in was after it
);
CREATE TABLE retl_state.main.in_doubt (
    key VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    body VARCHAR NOT NULL,
    sent_at TIMESTAMPTZ NOT NULL,
    run_id VARCHAR NOT NULL,
    resolution VARCHAR, -- NULL: not decided; resend; mark_accepted: record it as accepted
    reason VARCHAR, -- what was known of the request; NULL: recorded before format 4
    identifier VARCHAR -- as in rejects
);
-- Of a users_delete sync: who in its model it has deleted. No list of persons.
CREATE TABLE retl_state.main.deleted (
    hash VARCHAR NOT NULL, -- see records/identity.py
    deleted_at TIMESTAMPTZ NOT NULL,
    run_id VARCHAR NOT NULL
);
