select order_id, customer_id as external_id, 'basket' as product_id, 'EUR' as currency, amount as price, ordered_at as time
from {{ ref('shop', 'fct_orders') }}
