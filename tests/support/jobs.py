"""Plants jobs and looks at where they are; rows are moved here, never clocks."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from pgflow_cli.repository import sqlfiles

Connection = psycopg.Connection[Any]


def new_worker() -> str:
    return str(uuid.uuid4())


def plant(
    connection: Connection,
    count: int = 1,
    *,
    queue: str = "default",
    job_type: str = "noop",
    payload: str = "{}",
    priority: int = 0,
    max_attempts: int = 25,
    due_in: str = "0 seconds",
) -> list[str]:
    """Enqueue jobs and return their ids, in the order in which they would be leased."""
    rows = connection.execute(
        """
        select pgflow.enqueue(
          %s, %s::jsonb, queue => %s, priority => %s, max_attempts => %s,
          run_at => now() + %s::interval
        )::text
        from generate_series(1, %s)
        """,
        (job_type, payload, queue, priority, max_attempts, due_in, count),
    ).fetchall()
    return [row[0] for row in rows]


def plant_dead(
    connection: Connection,
    count: int = 1,
    *,
    queue: str = "emails",
    job_type: str = "email_send",
    payload: str = "{}",
    meta: str | None = None,
    priority: int = 0,
    max_attempts: int = 25,
    reason: str = "MAX_ATTEMPTS_EXCEEDED",
    error_code: str | None = "DEPENDENCY_DOWN",
    error_message: str | None = "connection refused",
    fingerprint: str | None = "f1-3ac91b20",
    code_version: str | None = "4f2a9c",
    worker: str = "worker-1",
    died_ago: str = "1 minute",
) -> list[str]:
    """Plant dead letters of one failed attempt; each died a second after the next."""
    rows = connection.execute(
        """
        with planted as (
          insert into pgflow.jobs (
            id, queue, job_type, payload, meta, priority, max_attempts
          )
          select
            pgflow.uuid7_at(pgflow.uuid7_ticks() + n), %(queue)s, %(job_type)s,
            %(payload)s::jsonb, %(meta)s::jsonb, %(priority)s, %(max_attempts)s
          from generate_series(1, %(count)s) as n
          returning id
        ),
        ranked as (
          insert into pgflow.queue_ranks (queue, rank)
          select %(queue)s, -%(priority)s
          where not exists (
            select from pgflow.places
            where queue = %(queue)s and rank = -%(priority)s
          )
        ),
        numbered as (
          select
            id, row_number() over (order by id) as n,
            now() - %(died_ago)s::interval
              - (row_number() over (order by id) - 1) * interval '1 second' as died_at
          from planted
        ),
        tried as (
          insert into pgflow.job_attempts (
            job_id, lease_id, started_at, finished_at, attempt_no, status, worker_name,
            error_code, error_message, error_fingerprint, code_version
          )
          select
            id, gen_random_uuid(), died_at - interval '12 ms', died_at, 1, 'failed',
            %(worker)s, %(error_code)s, %(error_message)s, %(fingerprint)s,
            %(code_version)s
          from numbered
        ),
        buried as (
          insert into pgflow.dead_letters (
            job_id, died_at, attempt_no, failed_attempts, queue, job_type,
            dlq_reason_code, error_code, error_message, error_fingerprint, code_version
          )
          select
            id, died_at, 1, 1, %(queue)s, %(job_type)s, %(reason)s, %(error_code)s,
            %(error_message)s, %(fingerprint)s, %(code_version)s
          from numbered
        )
        select id::text from numbered order by n
        """,
        {
            "count": count, "queue": queue, "job_type": job_type, "payload": payload,
            "meta": meta, "priority": priority, "max_attempts": max_attempts,
            "reason": reason, "error_code": error_code, "fingerprint": fingerprint,
            "error_message": error_message, "code_version": code_version,
            "worker": worker, "died_ago": died_ago,
        },
    ).fetchall()  # fmt: skip
    return [row[0] for row in rows]


def successes(
    jobs: str,
    *,
    attempt_no: int = 1,
    at: str = "now()",
    took: str = "0",
    lease_id: str = "gen_random_uuid()",
    worker: str = "w",
    archive: bool = False,
) -> str:
    """Return the statement that plants a success for each `job_id` of a query.

    Each has a row of its own. `at` and `lease_id` are of SQL and may name the query's
    columns; `took` is in seconds.
    """
    return f"""
      insert into pgflow.job_successes{"_archive" if archive else ""} (
        day, first_id, lease_id, leased_at, settled_at, id_times, worker_name, job_ids,
        attempt_nos, started_ago, ended_ago
      )
      select
        made.ms / 86400000, job_id, {lease_id}, {at} - {took} * interval '1 second',
        {at}, int8range(made.ms, made.ms, '[]'), '{worker}', array[job_id],
        array[{attempt_no}], array[{took}::real], array[0::real]
      from ({jobs}) as succeeded
      cross join lateral (
        select ('x' || left(replace(job_id::text, '-', ''), 12))::bit(48)::bigint as ms
      ) as made
    """


def expire_leases(connection: Connection) -> None:
    """Let every lease have run out a minute ago."""
    connection.execute(
        "update pgflow.leases set expires_at = now() - interval '1 minute'"
    )


def make_due(connection: Connection, job_id: str) -> None:
    """Let a scheduled job be due now, and its history agree."""
    connection.execute(
        "update pgflow.pending set run_at = now() - interval '1 second'"
        " where job_id = %s",
        (job_id,),
    )
    connection.execute(
        """
        update pgflow.job_attempts set next_run_at = pending.run_at
        from pgflow.pending
        where pending.job_id = job_attempts.job_id
          and pending.attempt_no = job_attempts.attempt_no
          and pending.job_id = %s
        """,
        (job_id,),
    )


def status_of(connection: Connection, job_id: str) -> str:
    row = connection.execute(
        "select status from pgflow.job_overview where id = %s", (job_id,)
    ).fetchone()
    assert row is not None
    return str(row[0])


def all_ended(connection: Connection) -> bool:
    """Whether no job waits, and none runs: one quick look, however many there are."""
    row = connection.execute(
        "select not exists (select from pgflow.pending)"
        " and not exists (select from pgflow.leases)"
    ).fetchone()
    assert row is not None
    return bool(row[0])


def statuses_of(connection: Connection, job_ids: list[str]) -> set[str]:
    """Return every status that one of these jobs has."""
    rows = connection.execute(
        "select distinct overview.status from unnest(%s::uuid[]) as wanted (id)"
        " cross join lateral ("
        "  select status from pgflow.job_overview where id = wanted.id"
        " ) as overview",
        (job_ids,),
    ).fetchall()
    return {str(row[0]) for row in rows}


def attempts_of(
    connection: Connection, job_id: str
) -> list[tuple[int, str, str | None]]:
    """Return number, status and error code of each attempt."""
    return connection.execute(
        "select attempt_no, status, error_code from pgflow.any_attempts"
        " where job_id = %s order by attempt_no",
        (job_id,),
    ).fetchall()


def audit(connection: Connection) -> tuple[int, int]:
    """Return how many jobs are in no place and in two places; both must be 0."""
    statement = sqlfiles.statement("audit_jobs")
    row = connection.execute(statement.text).fetchone()
    assert row is not None
    assert row[2] == 0, f"{row[2]} places name a job that does not exist"
    return int(row[0]), int(row[1])
