    -- The first 48 bits of a UUIDv7 are its milliseconds, so partitions of other days are pruned.
    coalesce(
      (
        select rpad(lpad(to_hex(greatest(bound.milliseconds, 0)), 12, '0'), 32, '0')::uuid
        from (
          select (date_part('epoch', coalesce(
            %(since_at)s::timestamptz, now() + %(since_offset)s::interval
          )) * 1000)::bigint as milliseconds
        ) as bound
        where bound.milliseconds is not null
      ),
      '00000000-0000-0000-0000-000000000000'
    )
