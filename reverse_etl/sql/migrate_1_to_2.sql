ALTER TABLE retl_state.main.runs ADD COLUMN scheduled_time TIMESTAMPTZ;
