-- The relation whose damaged file an error names; none if it is of another database, or names no file.
select damaged.name
from (select %(message)s::text as message) as told
-- include: damaged_relation
where damaged.name is not null
