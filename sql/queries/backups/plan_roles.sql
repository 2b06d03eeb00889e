-- The statements that make the roles of these names which the server does not have; none of them may log in.
select 'create role ' || quote_ident(wanted.name) || ' nologin' as statement
from unnest(%(names)s::text[]) as wanted (name)
where not exists (select from pg_roles where rolname = wanted.name)
order by wanted.name
