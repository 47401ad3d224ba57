-- people.state, as retl wrote it before its state had format 3.
CREATE TABLE in_doubt("key" VARCHAR NOT NULL, kind VARCHAR NOT NULL, body VARCHAR NOT NULL, sent_at TIMESTAMP WITH TIME ZONE NOT NULL, run_id VARCHAR NOT NULL, resolution VARCHAR);
CREATE TABLE meta("key" VARCHAR PRIMARY KEY, "value" VARCHAR NOT NULL);
INSERT INTO main.meta VALUES ('format', '2');
INSERT INTO main.meta VALUES ('sync', 'people');
INSERT INTO main.meta VALUES ('target', 'test');
INSERT INTO main.meta VALUES ('primary_key', '["external_id"]');
INSERT INTO main.meta VALUES ('version', '20261128T205639-d2e988');
CREATE TABLE rejects("key" VARCHAR NOT NULL, kind VARCHAR NOT NULL, rejected_by VARCHAR NOT NULL, column_name VARCHAR, reason VARCHAR NOT NULL, hint VARCHAR, body VARCHAR, body_md5 VARCHAR, rejected_at TIMESTAMP WITH TIME ZONE NOT NULL, run_id VARCHAR NOT NULL);
CREATE TABLE runs(run_id VARCHAR NOT NULL, started_at TIMESTAMP WITH TIME ZONE NOT NULL, finished_at TIMESTAMP WITH TIME ZONE NOT NULL, status VARCHAR NOT NULL, message VARCHAR, counts JSON NOT NULL, scheduled_time TIMESTAMP WITH TIME ZONE);
INSERT INTO main.runs VALUES ('20261128T205639-d2e988', '2026-11-28 20:56:39.404621+00', '2026-11-28 20:56:39.520007+00', 'seeded', NULL, '{"run_id": "20261128T205639-d2e988", "rows": 2, "in_state": 0, "added": 2, "changed": 0, "removed": 0, "unchanged": 0, "invalid": 0, "remembered": 0, "held": 0, "adopted": 2, "to_send": 0, "attributes": 0, "data_points": 0, "requests": {}, "bytes": 0, "since": null, "data_tests": [], "fates": {"accepted": 0, "rejected": 0, "in_doubt": 0, "unsent": 0, "maybe_twice": 0, "attributes": 0, "requests": 0}}', '2026-11-28 20:56:37.180332+00');
CREATE TABLE state(external_id VARCHAR, tier VARCHAR, _retl_sent_at TIMESTAMP WITH TIME ZONE, _retl_run_id VARCHAR, _retl_unsure VARCHAR[]);
INSERT INTO main.state VALUES ('p0', 'gold', '2026-11-28 20:56:39.520007+00', '20261128T205639-d2e988', NULL);
INSERT INTO main.state VALUES ('p1', 'basic', '2026-11-28 20:56:39.520007+00', '20261128T205639-d2e988', NULL);
