-- What the other models build on. ref() names a model or a seed.
select *
from {{ ref('raw_customers') }}
where email is not null
