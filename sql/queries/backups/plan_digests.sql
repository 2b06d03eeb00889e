-- Every table of the schema that holds rows of its own, and the statements that count and digest them.
--
-- A digest is the sum of the rows' hashes, so it does not depend on their order.
select
  relname::text as name,
  exists (
    select from pg_partition_ancestors(pg_class.oid) as ancestor (relid)
    join pg_class as named on named.oid = ancestor.relid
    where named.relname in ('jobs_archive', 'job_attempts_archive', 'job_successes_archive')
  )
  or relname ~ '^(jobs|job_attempts|job_successes)_archive' as archived,
  'select count(*), null from only ' || pg_class.oid::regclass::text as count_statement,
  'select count(*), coalesce(sum(hashtextextended(digested::text, 0)::numeric), 0)::text from only '
    || pg_class.oid::regclass::text || ' as digested' as digest_statement
from pg_class
where relnamespace = to_regnamespace('pgflow')
  and relkind = 'r'
order by relname
