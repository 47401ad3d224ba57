select * replace (case when {{ var('changed', 0) }} = 1 and hash(external_id) % 100 = 7
    then text_0 || '!' else text_0 end as text_0) from users