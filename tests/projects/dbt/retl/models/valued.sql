select customer_id, value from {{ ref('customer_value') }}
