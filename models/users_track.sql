-- One row a customer. A column is an attribute of the profile: Braze knows `first_name`, `email`, `country` ...
-- and takes every other name as a custom attribute.
with spending as (
    select
        customer_id,
        count(*) as orders,
        sum(price * quantity)::decimal(18, 2) as spent
    from {{ ref('raw_orders') }}
    group by customer_id
)

select
    customer_id as external_id,
    email,
    first_name,
    country,
    birthday as dob,
    tier,
    string_split(interests, '|') as interests,
    coalesce(orders, 0) as orders,
    spent
from {{ ref('customers') }}
left join spending using (customer_id)
