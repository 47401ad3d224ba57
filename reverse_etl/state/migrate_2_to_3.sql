-- Names of format 3 for those of format 2; what has them already stays as it is. A status, a resolution and the keys of
-- `counts` are words of the JSON that commands print. A text inside `counts` has its quotes escaped: it is no key.
UPDATE retl_state.main.runs
SET counts = replace(
    replace(
        replace(
            replace(CAST(counts AS VARCHAR), '"fates":', '"delivery":'),
            '"maybe_twice":', '"possible_duplicates":'
        ),
        '"remembered":', '"previously_rejected":'
    ),
    -- A run that took the model as in Braze took nothing else; of any other these are doubts that were resolved.
    '"adopted":', CASE status WHEN 'seeded' THEN '"baselined":' ELSE '"marked_accepted":' END
)
WHERE CAST(counts AS VARCHAR) LIKE '%"fates":%';
UPDATE retl_state.main.runs
SET status = CASE status WHEN 'stopped' THEN 'blocked' ELSE 'baselined' END
WHERE status IN ('stopped', 'seeded');
UPDATE retl_state.main.in_doubt SET resolution = 'mark_accepted' WHERE resolution = 'discard';
