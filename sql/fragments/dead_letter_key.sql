-- The key by which dead letters are grouped; never null, so that groups can be joined.
coalesce(
  case %(by)s::text
    when 'fingerprint' then dead.error_fingerprint
    when 'error-code' then dead.error_code
    when 'reason' then dead.dlq_reason_code
    when 'type' then dead.job_type
    when 'queue' then dead.queue
    when 'code-version' then dead.code_version
  end, ''
)
