ALTER TABLE retl_state.main.runs ADD COLUMN scheduled_time TIMESTAMPTZ;
ALTER TABLE IF EXISTS retl_state.main.state ADD COLUMN _retl_unsure VARCHAR[];
