select
    customer_id as external_id,
    cookie as alias_name,
    'web_cookie' as alias_label
from {{ ref('raw_visitors') }}
join {{ ref('customers') }} using (customer_id)
