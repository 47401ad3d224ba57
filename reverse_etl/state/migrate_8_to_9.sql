ALTER TABLE retl_state.main.runs ADD COLUMN git_commit VARCHAR;
ALTER TABLE retl_state.main.runs ADD COLUMN git_dirty BOOLEAN;
ALTER TABLE retl_state.main.runs ADD COLUMN sql_md5 VARCHAR;
ALTER TABLE retl_state.main.runs ADD COLUMN started_by VARCHAR;
ALTER TABLE retl_state.main.runs ADD COLUMN plan_digest VARCHAR;
ALTER TABLE retl_state.main.runs ADD COLUMN ledger VARCHAR;
CREATE TABLE retl_state.main.sqls (md5 VARCHAR NOT NULL, sql VARCHAR NOT NULL);
CREATE TABLE retl_state.main.pins (
    key VARCHAR NOT NULL, column_name VARCHAR NOT NULL, value VARCHAR, run_id VARCHAR NOT NULL
);
