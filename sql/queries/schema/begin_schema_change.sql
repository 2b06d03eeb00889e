-- First in its transaction. A snapshot older than the wait for the lock would show versions as missing that the one
-- we waited for has applied; the database's default may be stricter.
set transaction isolation level read committed
