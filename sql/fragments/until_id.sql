    coalesce(
      rpad(
        lpad(to_hex(greatest((date_part('epoch', coalesce(
          %(until_at)s::timestamptz, now() + %(until_offset)s::interval
        )) * 1000)::bigint, 0)), 12, '0'),
        32, '0'
      )::uuid,
      'ffffffff-ffff-ffff-ffff-ffffffffffff'
    )
