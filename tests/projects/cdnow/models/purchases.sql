-- Nothing in the data names an order: a customer may order the same twice on one day. So there is no primary key.
select
    customer as external_id,
    'cds' as product_id,
    'USD' as currency,
    dollars as price,
    ordered_on as time,
    cds
from {{ ref('orders') }}
