-- The other models build on this one. ref() refers to a model or a seed.
select *
from {{ ref('raw_customers') }}
where email is not null
