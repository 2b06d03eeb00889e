-- The statements that analyze the schema's tables: a restore brings rows but no statistics.
select 'analyze ' || oid::regclass::text as statement
from pg_class
where relnamespace = to_regnamespace('pgflow')
  and relkind in ('r', 'p')
  and not relispartition
order by relname
