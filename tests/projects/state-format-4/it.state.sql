-- The state of whole-row events, as retl wrote it before its state had format 5: four acknowledged, two in doubt. The
-- warehouse numbered 'seen' and 'Seen' of u1 together, as its column has COLLATE NOCASE.
CREATE TABLE in_doubt("key" VARCHAR NOT NULL, kind VARCHAR NOT NULL, body VARCHAR NOT NULL, sent_at TIMESTAMP WITH TIME ZONE NOT NULL, run_id VARCHAR NOT NULL, resolution VARCHAR, reason VARCHAR);
INSERT INTO in_doubt VALUES ('047152e97456105650f30029fc3acd1b#1', 'added', '{"external_id":"u1","name":"seen","time":"2026-11-23T00:00:00.000Z","properties":{"a": 1, "b": [1, 2],"n":1}}', '2026-11-29 04:12:56.531189+00', '20261129T041256-fc8ce9', NULL, 'Braze returned 500: Internal Server Error');
INSERT INTO in_doubt VALUES ('a28b5c85ced2b2242253efdeb2cdd6ae#1', 'added', '{"external_id":"u3","name":"bought","time":"2026-11-23T00:00:00.000Z","properties":{"c": {"x": 1, "y": 2},"n":2}}', '2026-11-29 04:12:56.531189+00', '20261129T041256-fc8ce9', NULL, 'Braze returned 500: Internal Server Error');
CREATE TABLE meta("key" VARCHAR PRIMARY KEY, "value" VARCHAR NOT NULL);
INSERT INTO meta VALUES ('format', '4');
INSERT INTO meta VALUES ('sync', 'it');
INSERT INTO meta VALUES ('target', 'test');
INSERT INTO meta VALUES ('primary_key', '["external_id", "name", "time", "n", "properties", "_retl_number"]');
INSERT INTO meta VALUES ('mode', 'users_track / events');
INSERT INTO meta VALUES ('version', '20261129T041256-fc8ce9');
CREATE TABLE rejects("key" VARCHAR NOT NULL, kind VARCHAR NOT NULL, rejected_by VARCHAR NOT NULL, column_name VARCHAR, reason VARCHAR NOT NULL, hint VARCHAR, body VARCHAR, body_md5 VARCHAR, rejected_at TIMESTAMP WITH TIME ZONE NOT NULL, run_id VARCHAR NOT NULL);
CREATE TABLE runs(run_id VARCHAR NOT NULL, started_at TIMESTAMP WITH TIME ZONE NOT NULL, finished_at TIMESTAMP WITH TIME ZONE NOT NULL, status VARCHAR NOT NULL, message VARCHAR, counts JSON NOT NULL, scheduled_time TIMESTAMP WITH TIME ZONE);
INSERT INTO runs VALUES ('20261129T041256-fc8ce9', '2026-11-29 04:12:56.204045+00', '2026-11-29 04:12:56.531189+00', 'incomplete', NULL, '{"run_id": "20261129T041256-fc8ce9", "rows": 6, "in_state": 0, "added": 6, "changed": 0, "removed": 0, "unchanged": 0, "invalid": 0, "previously_rejected": 0, "held": 0, "baselined": 0, "marked_accepted": 0, "to_send": 6, "attributes": 0, "data_points": 6, "requests": {"/users/track": 6}, "bytes": 614, "since": null, "data_tests": [], "delivery": {"accepted": 4, "rejected": 0, "in_doubt": 2, "unsent": 0, "possible_duplicates": 0, "attributes": 0, "requests": 6, "unclear": {"Braze returned 500: Internal Server Error": 2}}}', '2026-11-29 04:12:55.913228+00');
CREATE TABLE state(external_id VARCHAR, "name" VARCHAR, "time" TIMESTAMP, n INTEGER, properties JSON, _retl_number BIGINT, _retl_sent_at TIMESTAMP WITH TIME ZONE, _retl_run_id VARCHAR, _retl_unsure VARCHAR[]);
INSERT INTO state VALUES ('u1', 'Seen', '2026-11-23 00:00:00', '1', '{"a": 1, "b": [1, 2]}', '2', '2026-11-29 04:12:56.531189+00', '20261129T041256-fc8ce9', NULL);
INSERT INTO state VALUES ('u2', 'seen', '2026-11-23 00:00:00', '1', '{"a": 1}', '1', '2026-11-29 04:12:56.531189+00', '20261129T041256-fc8ce9', NULL);
INSERT INTO state VALUES ('u2', 'seen', '2026-11-23 00:00:00', '1', '{"a": 1}', '2', '2026-11-29 04:12:56.531189+00', '20261129T041256-fc8ce9', NULL);
INSERT INTO state VALUES ('u4', 'bought', '2026-11-23 00:00:00', '2', NULL, '1', '2026-11-29 04:12:56.531189+00', '20261129T041256-fc8ce9', NULL);
