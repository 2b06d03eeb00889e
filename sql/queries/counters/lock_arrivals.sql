-- Lock the counting of arrivals, if a slice is due and no other session counts; the next statement has a newer
-- snapshot.
select true as is_due
from pgflow.arrival_looks
where age = (select min(first.age) from pgflow.arrival_looks as first)
  and exists (
    select from pgflow.arrival_looks as due
    where due.until < date_bin('10 seconds', now() - due.age, '2000-01-01 00:00:00+00')
  )
for update skip locked
