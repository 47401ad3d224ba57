select customer_id as external_id, 'visited' as name, visited_at as time
from {{ source('app', 'visits') }}
