select customer_id as external_id
from {{ ref('raw_erasures') }}
