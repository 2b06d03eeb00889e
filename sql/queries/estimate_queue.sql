-- About how many entries of a queue wait, due or not, as the planner sees it: for queues too deep to count.
select greatest(class.reltuples, 0)::float8 * coalesce(common.frequency, 0) as jobs
from pg_class as class
left join lateral (
  select part.frequency
  from pg_stats as stats
  cross join lateral unnest(stats.most_common_vals::text::text[], stats.most_common_freqs) as part (value, frequency)
  where stats.schemaname = 'pgflow'
    and stats.tablename = 'pending'
    and stats.attname = 'queue'
    and part.value = %(queue)s::text
) as common on true
where class.oid = 'pgflow.pending'::regclass
