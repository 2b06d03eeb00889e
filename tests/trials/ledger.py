"""What the database says when a trial has come to rest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from pgflow_cli.repository import sqlfiles

Connection = psycopg.Connection[Any]

# Triggers write down what no table keeps: how each lease ended, and rows of append-only
# tables that were changed. The schema is not pgflow's, so backups of it leave it alone.
_WITNESS = """
create schema witness;
create table witness.lease_ends (
  lease_id uuid, ended_at timestamptz not null, expires_at timestamptz not null
);
create table witness.rewritten (what text not null, row text not null);
create function witness.note_lease_end() returns trigger
language plpgsql security definer as $$
begin
  insert into witness.lease_ends values (old.lease_id, now(), old.expires_at);
  return null;
end $$;
create function witness.note_rewriting() returns trigger
language plpgsql security definer as $$
begin
  insert into witness.rewritten values (tg_table_name || ' ' || tg_op, old::text);
  return null;
end $$;
create trigger witness after delete on pgflow.leases
for each row execute function witness.note_lease_end();
create trigger witness after update on pgflow.job_attempts
for each row execute function witness.note_rewriting();
create trigger witness after update on pgflow.job_successes
for each row execute function witness.note_rewriting();
create trigger witness after update on pgflow.jobs
for each row execute function witness.note_rewriting();
"""

# What a reaper writes of a worker that has gone silent.
REAPED = "the worker stopped reporting"


class JobRow(NamedTuple):
    """A job; `parent` is the job that enqueued it, if one did."""

    job_type: str
    max_attempts: int
    parent: str | None
    replay_of: str | None


class Attempt(NamedTuple):
    """An attempt row."""

    status: str
    error_code: str | None
    error_message: str | None
    lease_id: str
    finished_at: datetime


class DeadRow(NamedTuple):
    """A dead letter."""

    reason: str
    attempt_no: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where each job is. `leased` maps a job to the attempt that a lease holds."""

    jobs: dict[str, JobRow]
    attempts: dict[str, dict[int, Attempt]]
    dead: dict[str, DeadRow]
    canceled: set[str]
    pending: dict[str, int]
    leased: dict[str, int]
    audit: tuple[int, int, int]
    rewritten: list[str]
    lease_ends: dict[str, tuple[datetime, datetime]]

    @classmethod
    def read(cls, connection: Connection) -> Ledger:
        """Read it on a connection of which the isolation level decides whether it is
        one snapshot.
        """

        def rows(text: str) -> list[tuple[Any, ...]]:
            return connection.execute(text).fetchall()

        attempts: dict[str, dict[int, Attempt]] = {}
        for job_id, attempt_no, *rest in rows(_ATTEMPTS):
            attempts.setdefault(job_id, {})[attempt_no] = Attempt(*rest)
        return cls(
            jobs={row[0]: JobRow(*row[1:]) for row in rows(_JOBS)},
            attempts=attempts,
            dead={row[0]: DeadRow(*row[1:]) for row in rows(_DEAD)},
            canceled={row[0] for row in rows(_CANCELED)},
            pending=dict(rows(_PENDING)),
            leased=dict(rows(_LEASED)),
            # Without the examples.
            audit=rows(sqlfiles.statement("audit_jobs").text.decode())[0][:3],
            rewritten=[f"{what}: {row}" for what, row in rows(_REWRITTEN)],
            lease_ends={row[0]: (row[1], row[2]) for row in rows(_LEASE_ENDS)},
        )

    def succeeded(self, job_id: str) -> list[int]:
        """Return the numbers of a job's successful attempts."""
        return self._numbers(job_id, "succeeded")

    def count(self, job_id: str, status: str) -> int:
        """Return how many attempts of a job have the status."""
        return len(self._numbers(job_id, status))

    def attempt(self, job_id: str, attempt_no: int) -> Attempt | None:
        """Return an attempt's row."""
        return self.attempts.get(job_id, {}).get(attempt_no)

    def _numbers(self, job_id: str, status: str) -> list[int]:
        attempts = self.attempts.get(job_id, {})
        return sorted(n for n, row in attempts.items() if row.status == status)


def install_witness(connection: Connection) -> None:
    """Have triggers write down what the tables of pgflow do not keep."""
    connection.execute(_WITNESS)


_JOBS = """
select id::text, job_type, max_attempts, payload ->> 'parent', replay_of_job_id::text
from pgflow.any_jobs
"""
_ATTEMPTS = """
select
  job_id::text, attempt_no, status, error_code, error_message, lease_id::text,
  finished_at
from pgflow.any_attempts
"""
_DEAD = "select job_id::text, dlq_reason_code, attempt_no from pgflow.dead_letters"
_CANCELED = "select job_id::text from pgflow.canceled_jobs"
_PENDING = "select job_id::text, attempt_no from pgflow.pending"
_LEASED = """
select entry.job_id::text, entry.attempt_no
from pgflow.leases
cross join lateral unnest(job_ids, attempt_nos) as entry (job_id, attempt_no)
"""
_REWRITTEN = "select what, row from witness.rewritten"
_LEASE_ENDS = "select lease_id::text, ended_at, expires_at from witness.lease_ends"
