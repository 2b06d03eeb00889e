-- The roles that may own something or be granted it; predefined ones are everywhere.
select rolname::text
from pg_roles
where not starts_with(rolname::text, 'pg_')
order by rolname
