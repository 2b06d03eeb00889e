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
  first_id constant uuid := pgflow.least_id(timestamp '{day}' at time zone 'UTC');
  end_id constant uuid := pgflow.least_id(timestamp '{day}' at time zone 'UTC' + interval '24 hours');
begin
  create table pgflow.{name} (like pgflow.{parent} including all);
  execute format(
    'alter table pgflow.{name} add constraint id_is_of_its_day check ({key} >= %L and {key} < %L)', first_id, end_id
  );
  execute format(
    'alter table pgflow.{parent} attach partition pgflow.{name} for values from (%L) to (%L)', first_id, end_id
  );
end
$$
"""  # noqa: E501

# Spread over the day; each ran for 20 ms, a second after it was enqueued.
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
_ATTEMPTS = """
insert into pgflow.job_attempts
  (job_id, lease_id, started_at, finished_at, attempt_no, status, worker_name)
select
  id, gen_random_uuid(), created_at + interval '1 second',
  created_at + interval '1.02 seconds', 1, 'succeeded', 'worker-1'
from pgflow.jobs
where id >= %(first_id)s
  and id < %(end_id)s
order by id
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
        rows = connection.execute(
            f"select distinct {key}::text from pgflow.{table}"
            f" where {key} >= %s and {key} < %s order by 1",
            (self.first_id, self.end_id),
        )
        return [row[0] for row in rows]


def plant_day(
    connection: Connection, ago: int, count: int, *, partitions: bool = True
) -> Day:
    """Plant a day on which jobs succeeded; without partitions it is in the default."""
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
    for parent, key in (("jobs", "id"), ("job_attempts", "job_id")):
        if partitions:
            names = {"parent": parent, "name": f"{parent}_{name}"}
            connection.execute(_PARTITION.format(day=date, key=key, **names).encode())
    day = Day(name, first_id, end_id)
    with connection.transaction():
        connection.execute("set local timezone = 'UTC'")
        connection.execute(_JOBS, {"ago": ago, "count": count})
        connection.execute(_ATTEMPTS, {"first_id": first_id, "end_id": end_id})
    return day
