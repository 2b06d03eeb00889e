-- The statements that remove a day of the archived jobs, attempts or successes; no row if there is no such day.
select
  leaf.relname::text as name,
  0 as strays,
  array_remove(array[
    -- enqueue refuses an unknown id up to this one: its job may have run.
    case
      when inhparent = 'pgflow.jobs_archive'::regclass then concat(
        'update pgflow.history_marks set pruned_until = ', quote_literal(%(end_id)s::uuid), ' where pruned_until < ',
        quote_literal(%(end_id)s::uuid)
      )
    end,
    concat('drop table pgflow.', leaf.relname)
  ], null) as statements
from pg_class as leaf
join pg_inherits on inhrelid = leaf.oid
where leaf.oid = to_regclass('pgflow.' || %(parent)s::text || '_' || %(day)s::text)
  and inhparent in (
    'pgflow.jobs_archive'::regclass, 'pgflow.job_attempts_archive'::regclass, 'pgflow.job_successes_archive'::regclass
  )
