select customer_id, sum(amount) as value, count(*) as orders
from {{ ref('fct_orders') }}
group by all
