-- Without an external_id Braze makes a user that is known by this alias alone.
select
    cookie as alias_name,
    'web_cookie' as alias_label
from {{ ref('raw_visitors') }}
