-- The server's clock at this moment, in seconds since 1970.
select date_part('epoch', clock_timestamp()) as at
