select
    email,
    'b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10' as subscription_group_id,
    if(newsletter, 'subscribed', 'unsubscribed') as subscription_state
from {{ ref('customers') }}
