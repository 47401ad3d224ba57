select 'c1' as external_id, '00000000-0000-0000-0000-000000000000' as subscription_group_id, 'subscribed' as subscription_state
