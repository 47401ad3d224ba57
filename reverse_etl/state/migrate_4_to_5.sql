ALTER TABLE retl_state.main.rejects ADD COLUMN identifier VARCHAR;
ALTER TABLE retl_state.main.in_doubt ADD COLUMN identifier VARCHAR;
