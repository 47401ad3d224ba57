-- Names of format 3 instead of those of format 2; rows that have them already stay as they are. A status, a resolution
-- and the keys of `counts` appear in the JSON that commands print. A string in `counts` has its quotes escaped, so it is
-- never mistaken for a key.
UPDATE retl_state.main.runs
SET counts = replace(
    replace(
        replace(
            replace(CAST(counts AS VARCHAR), '"fates":', '"delivery":'),
            '"maybe_twice":', '"possible_duplicates":'
        ),
        '"remembered":', '"previously_rejected":'
    ),
    -- A baseline counts nothing else; in any other run, these are rows in doubt that were resolved.
    '"adopted":', CASE status WHEN 'seeded' THEN '"baselined":' ELSE '"marked_accepted":' END
)
WHERE CAST(counts AS VARCHAR) LIKE '%"fates":%';
UPDATE retl_state.main.runs
SET status = CASE status WHEN 'stopped' THEN 'blocked' ELSE 'baselined' END
WHERE status IN ('stopped', 'seeded');
UPDATE retl_state.main.in_doubt SET resolution = 'mark_accepted' WHERE resolution = 'discard';
