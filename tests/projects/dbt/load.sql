-- What the shop's application writes, before dbt looks at it.
create schema if not exists raw;
create table raw.customers (id varchar, email varchar, tier varchar, country_code varchar);
insert into raw.customers values
    ('c1', 'Ada@example.com', 'gold', 'DE'), ('c2', 'Bo@example.com', 'silver', 'KR'), ('c3', 'Cy@example.com', 'silver', 'DE');
create table raw.orders (id varchar, customer_id varchar, amount decimal(9, 2), ordered_at timestamp);
insert into raw.orders values
    ('o1', 'c1', 19.90, '2026-11-01 10:00'), ('o2', 'c1', 5.00, '2026-11-02 11:00'),
    ('o3', 'c2', 7.50, '2026-11-03 12:00'), ('o4', 'c3', 1.25, '2026-11-04 13:00');
create table raw.page_visits (customer_id varchar, visited_at timestamp);
insert into raw.page_visits values ('c1', '2026-11-05 08:00'), ('c2', '2026-11-05 09:00');
