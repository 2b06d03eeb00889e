-- The relation whose file the server's error message in `told.message` names; for a TOAST table, the table that it
-- belongs to.
left join lateral (
  select coalesce(main.oid, file.relation)::regclass::text as name
  from (
    select pg_filenode_relation(coalesce(part[1], '0')::oid, part[2]::oid) as relation
    from regexp_match(told.message, '(?:base|pg_tblspc/([0-9]+)/[^/"]+)/[0-9]+/([0-9]+)') as matched (part)
  ) as file
  left join pg_class as main on main.reltoastrelid = file.relation
) as damaged on true
