-- Record that a day was searched, so that it is not searched again for a while.
insert into pgflow.archive_sweeps (day)
values (to_date(%(day)s::text, 'YYYYMMDD'))
on conflict (day) do update
set swept_at = now()
