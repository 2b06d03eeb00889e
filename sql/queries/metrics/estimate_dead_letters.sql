-- About how many unresolved dead letters each of these queues has, as the planner sees it: for those too many to count.
-- The index holds no others, so its size is theirs; which queue they are of is known of all dead letters only.
select
  named.queue,
  greatest(class.reltuples, 0)::float8 * coalesce(common.frequency, stats.rest, 0) as jobs
from unnest(%(queues)s::text[]) as named (queue)
join pg_class as class on class.oid = 'pgflow.dead_letters_open_by_queue'::regclass
left join lateral (
  select
    most_common_vals::text::text[] as queues,
    most_common_freqs as frequencies,
    -- What the queues that are not common have on average.
    greatest(1 - (select sum(frequency) from unnest(most_common_freqs) as part (frequency)), 0) / nullif(
      case when n_distinct < 0 then -n_distinct * whole.reltuples else n_distinct end
        - cardinality(most_common_freqs), 0
    ) as rest
  from pg_stats
  join pg_class as whole on whole.oid = 'pgflow.dead_letters'::regclass
  where schemaname = 'pgflow'
    and tablename = 'dead_letters'
    and attname = 'queue'
) as stats on true
left join lateral (
  select stats.frequencies[array_position(stats.queues, named.queue)] as frequency
) as common on true
