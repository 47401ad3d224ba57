-- One row an item of the catalog that messages look products up in.
select
    product_id as id,
    title,
    {'amount': price, 'currency': '{{ var("currency") }}'} as price,
    stock > 0 as in_stock,
    string_split(tags, '|') as tags,
    updated_at
from {{ ref('raw_products') }}
