-- Nothing is another: a state of this format may have its acknowledged rows in the warehouse, and meta says where. An
-- older retl would take them for none, and send every row again; so it must not open one.
DELETE FROM retl_state.main.meta WHERE key = 'rows_elsewhere';
