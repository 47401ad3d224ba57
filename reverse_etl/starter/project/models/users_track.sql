-- One row a customer. A column is an attribute of the profile; what Braze does not know is a custom attribute.
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
