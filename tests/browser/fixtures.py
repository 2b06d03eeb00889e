"""Plants a database that has something of everything, with texts of the test's own.

Rows are written as workers and operators would leave them; no worker has to run.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support.jobs import plant, plant_dead, successes

Connection = psycopg.Connection[Any]

CALM = ("connection refused by mail.internal", "timeout after 30s", "no such customer")
QUEUES = ("emails", "reports", "billing.eu")


@dataclass
class Town:
    """What was planted: ids of jobs by state."""

    jobs: dict[str, list[str]] = field(default_factory=dict)
    worker: str = ""
    plan: int = 0

    def one(self, state: str) -> str:
        return self.jobs[state][0]


def plant_town(
    connection: Connection, texts: Sequence[str] = CALM, *, each: int = 4
) -> Town:
    """Plant `each` jobs of each state, with the texts wherever somebody can write."""
    town, said = Town(), itertools.cycle(texts)
    waiting = ("queued", "scheduled", "retrying", "running", "succeeded", "canceled")
    for queue, (place, state) in zip(
        itertools.cycle(QUEUES), enumerate(waiting), strict=False
    ):
        due_in = "1 hour" if state in ("scheduled", "retrying") else "0 seconds"
        town.jobs[state] = [
            job
            for _ in range(each)
            for job in plant(
                connection,
                queue=queue,
                job_type=f"send_{place}",
                payload=_document(next(said)),
                due_in=due_in,
            )
        ]
    town.jobs["dlq"] = []
    for number, text in zip(range(each), said, strict=False):
        town.jobs["dlq"] += plant_dead(
            connection,
            queue=QUEUES[number % len(QUEUES)],
            payload=_document(text),
            meta=_document(text),
            error_message=text,
            fingerprint=f"f1-{number % 7:08x}",
            code_version=text[:60],
            worker=text[:60],
            died_ago=f"{number} minutes",
        )
    _move(connection, town, said)
    _administer(connection, town, said)
    return town


def _document(text: str) -> str:
    return json.dumps({text[:40]: text, "list": [text, 1, None, True]})


def _move(connection: Connection, town: Town, said: Any) -> None:
    """Let jobs be where their state says, with the history it needs."""
    for job in town.jobs["retrying"]:
        _attempt(connection, job, "failed", next(said), again=True)
        connection.execute(
            "update pgflow.pending set attempt_no = 1 where job_id = %s", (job,)
        )
    for job in town.jobs["succeeded"]:
        connection.execute(
            successes(f"select '{job}'::uuid as job_id", took="1", worker="worker-1")
        )
        _leave(connection, job)
    for job in town.jobs["canceled"]:
        _leave(connection, job)
        connection.execute(
            "insert into pgflow.canceled_jobs (job_id, queue, canceled_by, note)"
            " values (%s, 'emails', %s, %s)",
            (job, next(said)[:60], next(said)),
        )
    town.worker = str(uuid.uuid4())
    running = town.jobs["running"]
    connection.execute(
        """
        insert into pgflow.leases (
          batch_id, worker_id, expires_at, queue, worker_name, job_ids, attempt_nos
        )
        select
          gen_random_uuid(), %(worker)s, now() + interval '1 hour', queue, %(name)s,
          array_agg(id), array_agg(1)
        from pgflow.jobs where id = any(%(jobs)s::uuid[])
        group by queue
        """,
        {"worker": town.worker, "name": next(said)[:60], "jobs": running},
    )
    for job in running:
        _leave(connection, job)
    connection.execute(
        """
        insert into pgflow.workers (
          worker_id, supervisor_id, last_leased_at, pid, slots, busy_slots,
          lease_seconds, name, host, code_version, job_types
        )
        values (%s, gen_random_uuid(), now(), 4711, 8, 4, 30, %s, %s, %s, %s)
        """,
        (
            town.worker,
            next(said)[:60],
            next(said)[:60],
            next(said)[:60],
            [next(said)[:60]],
        ),
    )


def _attempt(
    connection: Connection,
    job: str,
    status: str,
    message: str | None,
    *,
    again: bool = False,
) -> None:
    connection.execute(
        """
        insert into pgflow.job_attempts (
          job_id, lease_id, started_at, finished_at, next_run_at, attempt_no, status,
          worker_name, error_code, error_message, error_fingerprint
        )
        select
          id, gen_random_uuid(), now() - interval '1 second', now(),
          case when %(again)s then (
            select run_at from pgflow.pending where pending.job_id = jobs.id
          ) end,
          1, %(status)s, 'worker-1', %(code)s, %(message)s, %(fingerprint)s
        from pgflow.jobs where id = %(job)s
        """,
        {
            "job": job,
            "status": status,
            "again": again,
            "message": message,
            "code": message and "DEPENDENCY_DOWN",
            "fingerprint": message and "f1-00000001",
        },
    )


def _leave(connection: Connection, job: str) -> None:
    connection.execute("delete from pgflow.pending where job_id = %s", (job,))


def _administer(connection: Connection, town: Town, said: Any) -> None:
    """Let there be pauses, decisions, actions, and a replay that was stopped."""
    connection.execute(
        """
        insert into pgflow.queue_policies (
          queue, max_in_flight, paused_until, paused_by, pause_note, updated_by
        )
        values ('billing.eu', 5, 'infinity', %s, %s, %s)
        """,
        (next(said)[:60], next(said), next(said)[:60]),
    )
    for table in ("policy_decisions", "ingest_decisions"):
        connection.execute(
            f"""
            insert into pgflow.{table} (
              minute, queue, decision, reason_code, details_json
            )
            values (
              date_trunc('minute', now()), 'emails', 'DENIED', 'PAYLOAD_TOO_LARGE',
              %s::jsonb
            )
            """,
            (_document(next(said)),),
        )
    [action] = connection.execute(
        """
        insert into pgflow.operator_actions (
          actor, action, queue, command, note, details_json, finished_at, jobs, job_ids
        )
        values (
          %s, 'replay.run', 'emails', %s, %s, %s::jsonb, now(), 1, %s::uuid[]
        )
        returning id
        """,
        (
            next(said)[:60],
            next(said),
            next(said),
            _document(next(said)),
            town.jobs["dlq"],
        ),
    ).fetchone() or (0,)
    [town.plan] = connection.execute(
        """
        insert into pgflow.replay_plans (
          action_id, batch_size, max_payload_bytes, state, runner, selected, failed,
          patch
        )
        values (%s, 1, 100, 'stopped', %s, 2, 1, %s::jsonb)
        returning id
        """,
        (action, next(said)[:60], _document(next(said))),
    ).fetchone() or (0,)
    connection.execute(
        """
        insert into pgflow.replay_items (plan_id, place, source_job_id, state, problem)
        values (%s, 1, %s, 'failed', %s)
        """,
        (town.plan, town.one("dlq"), next(said)),
    )
