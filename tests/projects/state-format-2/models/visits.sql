select i as id, 'u' || i as external_id, 'visit' as name, timestamp '2026-11-01' as time from range(60) r(i)
union all
select 60, 'u60', 'visit', null
