-- The settings of the server that matter to a queue, and the role of this session.
select
  current_setting('server_version_num')::integer as version_number,
  current_setting('server_version') as version,
  quote_ident(current_user) as role,
  quote_ident(current_database()) as database,
  current_database()::text as database_name,
  pg_is_in_recovery() as in_recovery,
  current_setting('fsync')::boolean as fsync,
  current_setting('full_page_writes')::boolean as full_page_writes,
  current_setting('synchronous_commit') as synchronous_commit,
  (select source from pg_settings where name = 'synchronous_commit') as commit_source,
  current_setting('autovacuum')::boolean as autovacuum,
  current_setting('track_counts')::boolean as track_counts,
  pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all_sessions,
  -- No row if the role may not read it; current_setting would raise an error.
  (select setting from pg_settings where name = 'data_directory') as data_directory
