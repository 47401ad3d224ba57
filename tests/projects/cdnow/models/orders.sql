select *
from cdnow
where ordered_on <= date '{{ var("as_of") }}'
