-- One row an event. Beside the identifier, name and time, every column is a property.
select
    customer_id as external_id,
    'viewed_page' as name,
    viewed_at as time,
    page,
    seconds
from {{ ref('raw_page_views') }}
join {{ ref('customers') }} using (customer_id)
