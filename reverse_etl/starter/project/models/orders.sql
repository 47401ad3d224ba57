-- One row per purchase. order_id is the primary key, and is also sent as a property.
select
    customer_id as external_id,
    product_id,
    'EUR' as currency,
    price,
    ordered_at as time,
    order_id
from {{ ref('raw_orders') }}
