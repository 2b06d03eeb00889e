-- Delete the records of searched days whose partitions are gone.
delete from pgflow.archive_sweeps
where to_regclass('pgflow.job_attempts_' || to_char(day, 'YYYYMMDD')) is null
  and to_regclass('pgflow.job_successes_' || to_char(day, 'YYYYMMDD')) is null
  and to_regclass('pgflow.jobs_' || to_char(day, 'YYYYMMDD')) is null
