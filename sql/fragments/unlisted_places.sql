-- Places where jobs wait but no lease looks: a lost page of queue_ranks held their rows. Begins a `with recursive`.
--
-- A loose scan: one step along the key of `pending` for each place, however many jobs wait there.
waiting as (
  (
    select queue, rank
    from pgflow.pending
    order by queue, rank
    limit 1
  )
  union all
  select following.queue, following.rank
  from waiting
  cross join lateral (
    select pending.queue, pending.rank
    from pgflow.pending
    where (pending.queue, pending.rank) > (waiting.queue, waiting.rank)
    order by pending.queue, pending.rank
    limit 1
  ) as following
),
unlisted as materialized (
  select queue, rank
  from waiting
  -- From the table, for which a column is read that no index has: an index still points to where rows stood on a page
  -- that is zeros now, and others may stand there since.
  where (queue, rank) not in (
    select known.queue, known.rank
    from pgflow.queue_ranks as known
    where known.retired is not null
  )
)
