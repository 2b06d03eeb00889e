-- The relation that an error of damaged data means, and whether it is an index: by the file that it names, or by an
-- index's name. None if it is of another database, or names neither.
select relation.name, class.relkind = 'i' as is_index
from (
  select damaged.name
  from (select %(message)s::text as message) as told
  -- include: damaged_relation
  where damaged.name is not null
  union all
  -- `index "pending_due" contains corrupted page at block 3`, in whatever language.
  select class.oid::regclass::text
  from regexp_matches(%(message)s::text, '[a-z][a-z0-9_]*', 'g') as matched (word)
  join pg_class as class on class.relname = matched.word[1]
  where class.relnamespace = 'pgflow'::regnamespace
    and class.relkind = 'i'
) as relation
join pg_class as class on class.oid = relation.name::regclass
limit 1
