select customer_id from {{ ref('customer_value') }} order by value desc limit 10
