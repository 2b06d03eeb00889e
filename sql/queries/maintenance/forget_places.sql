-- Delete retired places, now that every transaction is over that may have relied on them; return queues that are gone.
with forgotten as (
  delete from pgflow.queue_ranks as mark
  where mark.id = any(%(ids)s::uuid[])
    and mark.retired
  returning mark.queue, mark.rank
),
-- A transaction relied on it meanwhile: then a new row is inserted, because other snapshots may already see the old one
-- as retired.
renewed as (
  insert into pgflow.queue_ranks (queue, rank)
  select distinct mark.queue, mark.rank
  from forgotten as mark
  where (
-- include: is_in_use
    )
    and not exists (
      select from pgflow.queue_ranks as other
      where other.queue = mark.queue
        and other.rank = mark.rank
        and not other.retired
    )
  returning queue
)
select distinct forgotten.queue
from forgotten
where forgotten.queue not in (select renewed.queue from renewed)
  and not exists (
    select from pgflow.queue_ranks as other
    where other.queue = forgotten.queue
      and other.id <> all(%(ids)s::uuid[])
  )
order by forgotten.queue
