ALTER TABLE retl_state.main.rejects ADD COLUMN cursor VARCHAR;
ALTER TABLE IF EXISTS retl_state.main.state ADD COLUMN _retl_absent_since TIMESTAMPTZ;
