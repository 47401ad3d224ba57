select id as customer_id, lower(email) as email, tier, country_code
from {{ source('app', 'customers') }}
