    -- The first 48 bits of a UUIDv7 are its milliseconds: days outside are not opened.
    coalesce(
      rpad(
        lpad(to_hex(greatest((date_part('epoch', coalesce(
          %(since_at)s::timestamptz, now() + %(since_offset)s::interval
        )) * 1000)::bigint, 0)), 12, '0'),
        32, '0'
      )::uuid,
      '00000000-0000-0000-0000-000000000000'
    )
