select i as id, 'c' || i as external_id, 'click' as name, timestamp '2026-11-01' + to_hours(i) as time from range(13) r(i)
{% if is_incremental() %}where timestamp '2026-11-01' + to_hours(i) > {{ cursor() }}{% endif %}
