"""Plants days of the past: their partitions, with jobs that succeeded and some that
did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

# The partitions of a day as `ensure_partitions` made them when it was tomorrow.
_PARTITION = """
do $$
declare
  day constant integer := date '{day}' - date '1970-01-01';
  first_id constant uuid := pgflow.least_id(timestamp '{day}' at time zone 'UTC');
  end_id constant uuid := pgflow.least_id(timestamp '{day}' at time zone 'UTC' + interval '24 hours');
begin
  create table pgflow.{name} (like pgflow.{parent} including all);
  execute format(
    'alter table pgflow.{name} add constraint id_is_of_its_day check ({key} >= %L and {key} < %L)', {begins}, {ends}
  );
  execute format(
    'alter table pgflow.{parent} attach partition pgflow.{name} for values from (%L) to (%L)', {begins}, {ends}
  );
end
$$
"""  # noqa: E501
_PARENTS = (
    ("jobs", "id", "first_id", "end_id"),
    ("job_attempts", "job_id", "first_id", "end_id"),
    ("job_successes", "day", "day", "day + 1"),
)

# Spread over the day; each ran for 20 ms, a second after it was enqueued. So many of
# them were settled together.
_JOBS = """
insert into pgflow.jobs (id, queue, job_type, payload, run_at, created_at)
select
  pgflow.uuid7_at((date_part('epoch', at) * 4096000)::bigint), 'default', 'noop',
  '{"to": "someone@example.org", "template": "welcome"}', at, at
from (
  select timestamp 'today' at time zone 'UTC' - make_interval(days => %(ago)s)
    + n * (interval '23 hours' / %(count)s) as at
  from generate_series(1, %(count)s) as n
) as moments
"""
_SUCCESSES = """
insert into pgflow.job_successes (
  day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, job_ids,
  attempt_nos, started_ago, ended_ago
)
select
  min(ms) / 86400000, (array_agg(id order by id))[1], gen_random_uuid(),
  max(created_at) + interval '1 second', max(created_at) + interval '1.02 seconds',
  int8range(min(ms), max(ms), '[]'), 'worker-1', array_agg(id order by id),
  array_agg(1), array_agg(0.02::real), array_agg(0::real)
from (
  select
    id, created_at, (row_number() over (order by id) - 1) / %(together)s as batch,
    ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint as ms
  from pgflow.jobs
  where id >= %(first_id)s
    and id < %(end_id)s
) as job
group by batch
"""


@dataclass(frozen=True)
class Day:
    """A day of the past, as its partitions are named, and the range of its ids."""

    name: str
    first_id: str
    end_id: str

    def ids(self, connection: Connection, table: str = "jobs") -> list[str]:
        """Return the ids of its jobs in a table, in order."""
        key = "id" if table.startswith("jobs") else "job_id"
        source = f"pgflow.{table}"
        if table.startswith("job_successes"):
            source = f"(select unnest(job_ids) as job_id from {source}) as entry"
        rows = connection.execute(
            f"select distinct {key}::text from {source}"
            f" where {key} >= %s and {key} < %s order by 1",
            (self.first_id, self.end_id),
        )
        return [row[0] for row in rows]


def plant_day(
    connection: Connection,
    ago: int,
    count: int,
    *,
    partitions: bool = True,
    together: int = 1,
) -> Day:
    """Plant a day on which jobs succeeded, so many of them settled together; without
    partitions it is in the default.
    """
    row = connection.execute(
        """
        select
          to_char(day, 'YYYYMMDD'), to_char(day, 'YYYY-MM-DD'),
          pgflow.least_id(day at time zone 'UTC')::text,
          pgflow.least_id((day + interval '1 day') at time zone 'UTC')::text
        from (
          select date_trunc('day', now() at time zone 'UTC')
            - make_interval(days => %s) as day
        ) as given
        """,
        (ago,),
    ).fetchone()
    assert row is not None
    name, date, first_id, end_id = row
    for parent, key, begins, ends in _PARENTS if partitions else ():
        text = _PARTITION.format(
            day=date,
            parent=parent,
            name=f"{parent}_{name}",
            key=key,
            begins=begins,
            ends=ends,
        )
        connection.execute(text.encode())
    day = Day(name, first_id, end_id)
    with connection.transaction():
        connection.execute("set local timezone = 'UTC'")
        connection.execute(_JOBS, {"ago": ago, "count": count})
        settled = {"first_id": first_id, "end_id": end_id, "together": together}
        connection.execute(_SUCCESSES, settled)
    return day
