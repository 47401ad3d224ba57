-- The outcome of every record that was to be sent, according to the journal: accepted, rejected, in_doubt or unsent.
-- `may_have_arrived`: a request with it got no clear response, or it was accepted and read back otherwise. It is in doubt
-- only if it is not safe to send twice, unless the sync has it sent again nevertheless (`resend`).
CREATE OR REPLACE TEMP TABLE retl_outcomes AS
WITH requests AS (
    SELECT
        sent.sent AS request,
        sent.first AS first_seq,
        sent.last AS last_seq,
        coalesce(answer.outcome, 'in_doubt') AS outcome,
        coalesce(answer.why, 'sent, but no response received') AS why,
        -- of all its records: a request contains neighbors of one phase; but 0, which is none, has those of every phase
        CASE WHEN sent.sent > 0 THEN first_record.phase END AS phase
    FROM retl_journal AS sent
    LEFT JOIN retl_journal AS answer ON answer.answered = sent.sent
    JOIN retl_run.main.outbox AS first_record ON first_record.rowid = sent.first
    WHERE sent.sent IS NOT NULL
),
rejected AS (
    SELECT refusal.seq AS seq, any_value(refusal.reason) AS reason
    FROM (SELECT unnest(rejected) AS refusal FROM retl_journal WHERE answered IS NOT NULL)
    GROUP BY ALL
),
untaken AS (
    SELECT one.seq AS seq, any_value(one.reason) AS reason
    FROM (SELECT unnest(untaken) AS one FROM retl_journal WHERE untaken IS NOT NULL)
    GROUP BY ALL
),
-- A record is accepted once, so these do not overlap.
accepted AS (SELECT request, phase, first_seq, last_seq FROM requests WHERE outcome = 'accepted'),
doubtful AS (SELECT request, phase, first_seq, last_seq, why FROM requests WHERE outcome = 'in_doubt'),
records AS (SELECT rowid AS seq, idempotent, phase FROM retl_run.main.outbox WHERE action = 'send'),
within_accepted AS (
    SELECT records.seq, accepted.request
    FROM records
    ASOF JOIN accepted ON records.phase = accepted.phase AND records.seq >= accepted.first_seq
    WHERE records.seq <= accepted.last_seq
),
within_doubtful AS (
    SELECT records.seq, max_by(doubtful.why, doubtful.request) AS why
    FROM records
    JOIN doubtful
        ON records.phase = coalesce(doubtful.phase, records.phase)
        AND records.seq BETWEEN doubtful.first_seq AND doubtful.last_seq
    GROUP BY ALL
)
SELECT
    records.seq AS seq,
    within_doubtful.seq IS NOT NULL OR untaken.seq IS NOT NULL AS may_have_arrived,
    may_have_arrived AND NOT records.idempotent AS may_duplicate,
    CASE
        WHEN rejected.seq IS NOT NULL THEN 'rejected'
        WHEN within_accepted.seq IS NOT NULL AND untaken.seq IS NULL THEN 'accepted'
        WHEN may_duplicate AND NOT (SELECT resend FROM retl_run.main.run) THEN 'in_doubt'
        ELSE 'unsent'
    END AS outcome,
    coalesce(rejected.reason, untaken.reason, within_doubtful.why) AS reason,
    -- The request that it was accepted with.
    CASE WHEN rejected.seq IS NULL AND untaken.seq IS NULL THEN within_accepted.request END AS request
FROM records
LEFT JOIN rejected ON rejected.seq = records.seq
LEFT JOIN untaken ON untaken.seq = records.seq
LEFT JOIN within_accepted ON within_accepted.seq = records.seq
LEFT JOIN within_doubtful ON within_doubtful.seq = records.seq;
