-- How many sessions of clients there are, by state.
select coalesce(state, 'unknown') as state, count(*)::integer as connections
from pg_stat_activity
where backend_type = 'client backend'
group by 1
order by 1
