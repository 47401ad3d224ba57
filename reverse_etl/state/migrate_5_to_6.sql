CREATE TABLE IF NOT EXISTS retl_state.main.opt_outs (
    identifier VARCHAR NOT NULL,
    channel VARCHAR NOT NULL,
    opted_out_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE IF NOT EXISTS retl_state.main.deleted (
    hash VARCHAR NOT NULL, -- see records/identity.py
    deleted_at TIMESTAMPTZ NOT NULL,
    run_id VARCHAR NOT NULL
);
