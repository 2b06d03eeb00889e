-- How long this session waits for a lock, as the role, the database or its options have it; 0: for ever.
select current_setting('lock_timeout') as lock_timeout
