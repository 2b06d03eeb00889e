-- The query that tells when maintenance and backups last succeeded, if their tables exist.
select
  case when to_regclass('pgflow.maintenance_tasks') is not null then
    'select task, date_part(''epoch'', now()) - date_part(''epoch'', last_success_at), null'
    ' from pgflow.maintenance_tasks order by task'
  end as maintenance,
  case when to_regclass('pgflow.backups') is not null then
    'select file, date_part(''epoch'', now()) - date_part(''epoch'', finished_at), verified from pgflow.backups'
    ' order by finished_at desc limit 1'
  end as backups
