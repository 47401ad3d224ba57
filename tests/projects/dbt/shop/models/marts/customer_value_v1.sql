select customer_id, sum(amount) as value
from {{ ref('fct_orders') }}
group by all
