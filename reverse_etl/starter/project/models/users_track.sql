-- One row per customer. A column is an attribute of the profile; one that Braze does not define is a custom attribute.
select
    customer_id as external_id,
    email,
    first_name,
    tier,
    preferences, -- JSON text: see pre_formatted_fields
    count(order_id) as orders,
    sum(price) as spent,
    true as `_merge_objects`
from {{ ref('customers') }}
left join {{ ref('raw_orders') }} using (customer_id)
group by all
