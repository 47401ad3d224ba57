select customer_id, email, tier, code as country
from {{ ref('stg_customers') }}
join {{ ref('countries') }} on code = country_code
