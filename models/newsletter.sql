select
    email,
    'b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10' as subscription_group_id,
    case when newsletter then 'subscribed' else 'unsubscribed' end as subscription_state
from {{ ref('customers') }}
