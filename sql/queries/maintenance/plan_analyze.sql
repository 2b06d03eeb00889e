-- Tables whose statistics have grown old, with the statement that renews them.
--
-- Autovacuum analyzes partitions, but never their parents, and may come too late for the small tables that every lease
-- reads. A parent is analyzed once a day, with all its partitions.
select
  relname::text as name,
  0 as strays,
  -- Tables whose partitions are being changed are skipped.
  array[concat('analyze (skip_locked) pgflow.', relname)] as statements
from pg_stat_all_tables as statistics
join (
  values
    ('pending', interval '1 hour'),
    ('queue_ranks', interval '1 hour'),
    ('leases', interval '1 hour'),
    ('dead_letters', interval '1 hour'),
    ('canceled_jobs', interval '1 hour'),
    ('jobs', interval '1 day'),
    ('job_attempts', interval '1 day'),
    ('job_successes', interval '1 day'),
    ('jobs_archive', interval '1 day'),
    ('job_attempts_archive', interval '1 day'),
    ('job_successes_archive', interval '1 day')
) as wanted (relname, at_most) using (relname)
where schemaname = 'pgflow'
  and coalesce(greatest(last_analyze, last_autoanalyze), '-infinity') < now() - at_most
order by relname
