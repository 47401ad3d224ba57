-- Nested attributes. `preferences` is JSON text, and goes out as it is; the struct becomes an object.
-- With _merge_objects Braze keeps the keys of an object that a record does not hold.
select
    customer_id as external_id,
    preferences,
    {'product': product_id, 'price': price, 'at': ordered_at} as last_order,
    true as `_merge_objects`
from {{ ref('customers') }}
left join (
    select *
    from {{ ref('raw_orders') }}
    qualify row_number() over (partition by customer_id order by ordered_at desc, order_id) = 1
) using (customer_id)
