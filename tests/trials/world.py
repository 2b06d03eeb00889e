"""A small queue with names: what the trials of single statements plant and look at.

`first` to `fourth` are held by one lease that has run out and that no reaper has seen
yet, so every statement may touch it. `fifth` and `sixth` wait. `seventh` and `eighth`
wait in a queue that lets one job run. `stranger` runs at another worker.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from pgflow_cli.models.jobs import LeaseRequest, Scan, Settlement

Connection = psycopg.Connection[Any]

NAMES = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth",
    "stranger",
)  # fmt: skip


def _id(number: int) -> str:
    return str(uuid.UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number))


JOB = {name: _id(number) for number, name in enumerate(NAMES, start=1)}
WORKER, OTHER, SUPERVISOR, BATCH, LEASE, FOREIGN = (_id(n) for n in range(101, 107))
WORKER_NAME = "worker-1"
LIMITED = "limited"


def _uuids(*names: str) -> str:
    return "array[" + ", ".join(f"'{JOB[name]}'" for name in names) + "]::uuid[]"


# Deleted, not truncated: of a few rows that is much the quicker.
_CLEAR = "; ".join(
    f"delete from pgflow.{table}"
    for table in (
        "jobs", "job_attempts", "job_successes", "pending", "leases", "dead_letters",
        "canceled_jobs", "workers", "queue_policies", "moved_jobs", "queue_ranks",
        "attempt_counters", "policy_decisions", "jobs_archive", "job_attempts_archive",
        "job_successes_archive", "replay_plans", "replay_items", "worker_counters",
        "enqueue_counters",
    )
)  # fmt: skip
_LEAST = "00000000-0000-0000-0000-000000000000"
# What the database remembers of itself, whatever was done to it.
_FORGET = f"""
delete from trial.upkeep;
update pgflow.database_identity
set fenced_at = null, fenced_by = null, fence_reason = null, load_began = null,
  load_pruned_until = null
where fenced_at is not null or load_began is not null;
update pgflow.history_marks
set archived_until = '{_LEAST}', pruned_until = '{_LEAST}'
where (archived_until, pruned_until) <> ('{_LEAST}', '{_LEAST}')
"""
# Jobs of a few seconds' age, by number; ids of another day, so that no partition but
# the default one is looked at.
_PLANT = f"""
with planted as (
  insert into pgflow.jobs (id, queue, job_type, payload, run_at, created_at)
  select
    id, case when n in (7, 8) then '{LIMITED}' else 'default' end, 'noop', '{{}}',
    now() - interval '1 minute' + n * interval '1 second', now() - interval '1 minute'
  from unnest({_uuids(*NAMES)}) with ordinality as given (id, n)
  returning id, queue, run_at
),
waiting as (
  insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
  select queue, 0, run_at, id, 'noop'
  from planted
  where id = any({_uuids(*NAMES[4:8])})
),
ranked as (
  insert into pgflow.queue_ranks values ('default', 0), ('{LIMITED}', 0)
),
policy as (
  insert into pgflow.queue_policies (queue, max_in_flight) values ('{LIMITED}', 1)
)
insert into pgflow.leases (
  lease_id, batch_id, worker_id, worker_name, queue, leased_at, expires_at, job_ids,
  attempt_nos
)
values (
  '{LEASE}', '{BATCH}', '{WORKER}', '{WORKER_NAME}', 'default',
  now() - interval '20 seconds', now() - interval '10 seconds', {_uuids(*NAMES[:4])},
  '{{1,1,1,1}}'
), (
  '{FOREIGN}', gen_random_uuid(), '{OTHER}', 'worker-2', 'default', now(),
  now() + interval '1 hour', {_uuids("stranger")}, '{{1}}'
)
"""
# To plant is a function, because it is what is done most: its plans are kept.
_PREPARE = f"""
create schema trial;
create table trial.upkeep (since timestamptz default now());
create function trial.refuse() returns trigger language plpgsql as $$
begin
  if exists (select from trial.upkeep) then
    return case tg_op when 'DELETE' then old else new end;
  end if;
  raise exception 'a row of % was %', tg_table_name, lower(tg_op);
end $$;
create trigger append_only before update or delete on pgflow.job_attempts
for each row execute function trial.refuse();
create trigger append_only before update or delete on pgflow.job_successes
for each row execute function trial.refuse();
create function trial.plant() returns void language plpgsql
set session_replication_role = replica
as $$
begin
  {_CLEAR};
  {_FORGET};
  {_PLANT};
end $$;
"""
_PLACES = """
select job_id::text, status || ' ' || attempt_no, 0 as place, attempt_no
from (
  select job_id, status, attempt_no from pgflow.job_attempts
  union all
  select entry.job_id, 'succeeded', entry.attempt_no
  from pgflow.job_successes
  cross join lateral unnest(job_ids, attempt_nos) as entry (job_id, attempt_no)
) as attempt
union all
select job_id::text, case when run_at > now() then 'later ' else 'pending ' end
  || attempt_no || case when rank <> 0 then ' rank ' || rank else '' end, 1, 0
from pgflow.pending
union all
select entry.job_id::text, 'leased ' || entry.attempt_no, 1, 0
from pgflow.leases
cross join lateral unnest(job_ids, attempt_nos) as entry (job_id, attempt_no)
union all
select job_id::text, 'dead ' || dlq_reason_code, 2, 0 from pgflow.dead_letters
union all
select job_id::text, 'canceled', 2, 0 from pgflow.canceled_jobs
order by 1, 3, 4
"""
# What that tells of a world that is as it was planted.
PLANTED = {
    **dict.fromkeys((*NAMES[:4], "stranger"), "leased 1"),
    **dict.fromkeys(NAMES[4:8], "pending 0"),
}
_LEASES = """
select cardinality(job_ids), expires_at > now()
from pgflow.leases
order by 1, 2
"""


def prepare(connection: Connection) -> None:
    """Have the database refuse what no statement may do to an attempt's row."""
    connection.execute(_PREPARE)


@contextmanager
def upkeep(connection: Connection) -> Iterator[None]:
    """Let attempts be removed meanwhile."""
    connection.execute("insert into trial.upkeep default values")
    try:
        yield
    finally:
        connection.execute("delete from trial.upkeep")


def plant(connection: Connection) -> None:
    """Put everything where it is at the beginning."""
    connection.execute("select trial.plant()")


def describe(connection: Connection) -> dict[str, str]:
    """Return where each job is and how its attempts have ended."""
    names = {job_id: name for name, job_id in JOB.items()}
    found: dict[str, list[str]] = {}
    for job_id, text, _, _ in connection.execute(_PLACES).fetchall():
        found.setdefault(names.get(job_id, "follower"), []).append(text)
    return {name: ", ".join(texts) for name, texts in found.items()}


def describe_leases(connection: Connection) -> str:
    """Return how many jobs run under each lease, and whether it lasts."""
    rows = connection.execute(_LEASES).fetchall()
    return ", ".join(f"{count} {'live' if live else 'expired'}" for count, live in rows)


def name_of(job_id: str) -> str:
    """Return what a job is called here."""
    return next((name for name, known in JOB.items() if known == job_id), "another")


def cycle(*settlements: Settlement, **changes: Any) -> LeaseRequest:
    """Return a turn of the worker that holds the lease; it leases nothing."""
    fields: dict[str, Any] = {
        "worker_id": WORKER,
        "worker_name": WORKER_NAME,
        "code_version": "abc",
        "batch_id": str(uuid.uuid4()),
        "lease_seconds": 10.0,
        "queues": ["default"],
        "job_types": None,
        "room": 0,
        "scan": Scan(),
        "settlements": list(settlements),
        "closed": [],
    }
    return LeaseRequest(**{**fields, **changes})


def success(name: str, **changes: Any) -> Settlement:
    """Return the outcome of a job that has succeeded in its first attempt."""
    fields = {"started_ago": 1.0, "ended_ago": 0.5, **changes}
    lease = FOREIGN if name == "stranger" else LEASE
    return Settlement(lease, JOB[name], 1, "succeeded")._replace(**fields)


def retry(name: str, **changes: Any) -> Settlement:
    """Return a failure after which the job is tried again in a minute."""
    fields = {"delay": 60.0, "failed_attempts": 1, "error_code": "UNKNOWN"}
    return success(name, status="failed", **{**fields, **changes})


def death(name: str) -> Settlement:
    """Return a failure that makes a dead letter."""
    return retry(name, delay=None, dlq_reason_code="NON_RETRYABLE")


def unstarted(name: str, **changes: Any) -> Settlement:
    """Return that a job is given back as it was."""
    run_at = "2024-06-01 00:00:00+00"
    return success(name, status="unstarted", run_at=run_at, **changes)


def left(name: str) -> Settlement:
    """Return that a job is left without an outcome."""
    return Settlement(LEASE, JOB[name], 1, "left")


def heartbeat(leases: list[str]) -> Mapping[str, Any]:
    """Return the arguments of the heartbeat of the worker's supervisor."""
    process = {
        "worker_id": WORKER, "pid": 1, "slots": 8, "busy_slots": 1, "lease_seconds": 10,
        "quiet": False, "hushed": False, "retiring": False, "spare": False,
        "name": WORKER_NAME, "host": "host", "code_version": None, "queues": None,
        "job_types": None,
    }  # fmt: skip
    return {
        "supervisor_id": SUPERVISOR, "workers": [process], "lease_ids": leases,
        "lease_seconds": 10.0, "progress": {},
    }  # fmt: skip
