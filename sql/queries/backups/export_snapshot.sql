-- Name this transaction's snapshot, for pg_dump to look through it, too.
select pg_export_snapshot()
