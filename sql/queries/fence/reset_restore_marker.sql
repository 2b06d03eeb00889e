-- Reset the marker of a dump that was loaded over the schema: one row stays, as before.
delete from pgflow.a_restore_marker
where ctid <> (
  select ctid
  from pgflow.a_restore_marker
  order by ctid
  limit 1
)
