select c.customer_id as external_id, c.email, c.tier, c.country, v.value as lifetime_value
from {{ ref('dim_customers') }} as c
join {{ ref('valued') }} as v using (customer_id)
