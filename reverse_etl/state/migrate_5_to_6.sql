CREATE TABLE IF NOT EXISTS retl_state.main.opt_outs (
    identifier VARCHAR NOT NULL,
    channel VARCHAR NOT NULL,
    opted_out_at TIMESTAMPTZ NOT NULL
);
