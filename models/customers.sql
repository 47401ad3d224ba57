-- Customers who did not ask to be forgotten: what the other models build on.
select *
from {{ ref('raw_customers') }}
where customer_id not in (select customer_id from {{ ref('raw_erasures') }})
