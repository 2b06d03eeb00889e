-- Remember no more that a dump was loaded over the schema: one row stays, as there was before.
delete from pgflow.a_restore_marker
where ctid <> (
  select ctid
  from pgflow.a_restore_marker
  order by ctid
  limit 1
)
