-- Decisions of these queues and reasons, in a span of time. Minutes are indexed; an old one ends the scan.
where (%(queues)s::text[] is null or made.queue = any(%(queues)s::text[]))
  and (%(reasons)s::text[] is null or made.reason_code = any(%(reasons)s::text[]))
  and made.last_at >= coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
  and made.minute >= date_trunc(
    'minute', coalesce(%(since_at)s::timestamptz, now() + %(since_offset)s::interval, '-infinity')
  )
  and made.first_at < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
  and made.minute < coalesce(%(until_at)s::timestamptz, now() + %(until_offset)s::interval, 'infinity')
