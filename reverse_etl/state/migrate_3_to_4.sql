ALTER TABLE retl_state.main.in_doubt ADD COLUMN reason VARCHAR;
