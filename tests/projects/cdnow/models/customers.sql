select
    customer as external_id,
    count(*) as orders,
    sum(cds)::bigint as cds,
    sum(dollars) as dollars,
    min(ordered_on) as first_order,
    max(ordered_on) as last_order
from {{ ref('orders') }}
group by customer
