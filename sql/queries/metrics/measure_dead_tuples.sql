-- Dead rows of each table, as the statistics have them; partitions of a table together.
select coalesce(parent.relname, stats.relname)::text as name, sum(stats.n_dead_tup)::bigint as dead
from pg_stat_user_tables as stats
left join pg_inherits as link on link.inhrelid = stats.relid
left join pg_class as parent on parent.oid = link.inhparent
where stats.schemaname = 'pgflow'
group by 1
order by 1
