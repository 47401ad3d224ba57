select 'p' || i as external_id, case i when 0 then 'platinum' else 'basic' end as tier from range(4) r(i)
