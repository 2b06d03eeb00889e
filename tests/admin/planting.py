"""A database with something in every state that an operator can meet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.replays import ReplayOptions
from pgflow_cli.operations import queues as queue_operations
from pgflow_cli.operations import replay_plans
from pgflow_cli.repository import Repository
from tests.repository.test_audit import attempt, cancel, lease, unqueue
from tests.repository.test_overview import fail_then_retry
from tests.support.jobs import plant, plant_dead

Connection = psycopg.Connection[Any]

HOSTILE = {
    "to": "ann@example.com",
    "html": "<script>alert(1)</script>",
    "text": "ü 😀 \\ \" ' \u2028 \x7f",
}
OPERATOR = Operator("ann@host", "pgflow queues pause emails", "smtp is down")


@dataclass(frozen=True)
class Planted:
    """Ids of jobs by their state, and the numbers of plans by theirs."""

    jobs: dict[str, str]
    plans: dict[str, int]


def plant_everything(connection: Connection, repository: Repository) -> Planted:
    """Plant jobs, letters, plans, policies, decisions, workers in every state."""
    jobs = _jobs(connection)
    plans = _plans(connection, repository, jobs)
    _policies(connection, repository)
    _decisions(connection)
    _workers(connection)
    return Planted(jobs, plans)


def _jobs(connection: Connection) -> dict[str, str]:
    names = ("queued", "running", "succeeded", "canceled", "retried", "lost", "plain")
    payload = json.dumps(HOSTILE)
    jobs = dict(zip(names, plant(connection, len(names), payload=payload), strict=True))
    [jobs["scheduled"]] = plant(connection, due_in="1 hour", payload="[0.10]")
    for name in ("running", "succeeded", "canceled"):
        unqueue(connection, jobs[name])
    lease(connection, jobs["running"])
    connection.execute("update pgflow.leases set expires_at = now() + interval '1 h'")
    attempt(connection, jobs["succeeded"], "failed")
    attempt(connection, jobs["succeeded"], "succeeded", 2)
    cancel(connection, jobs["canceled"])
    fail_then_retry(connection, jobs["retried"], "now() + interval '5 min'")
    for number, status in enumerate(("lost", "released", "snoozed", "canceled"), 1):
        attempt(connection, jobs["lost"], status, number)
    connection.execute(
        "update pgflow.pending set attempt_no = 4 where job_id = %s", (jobs["lost"],)
    )
    jobs["dead"], jobs["other"] = plant_dead(
        connection, 2, payload=payload, error_message="<b>refused</b> \x7f", meta="{}"
    )
    [jobs["bare"]] = plant_dead(
        connection, error_code=None, error_message=None, fingerprint=None,
        code_version=None, reason="CANCELED_BY_HANDLER",
    )  # fmt: skip
    [jobs["discarded"]] = plant_dead(connection)
    connection.execute(
        "update pgflow.dead_letters set resolved_at = now(), resolution = 'discarded'"
        " where job_id = %s",
        (jobs["discarded"],),
    )
    return jobs


def _plans(
    connection: Connection, repository: Repository, jobs: dict[str, str]
) -> dict[str, int]:
    [jobs["replayed"]] = plant_dead(connection, queue="billing")
    plan = replay_plans.make(
        repository, [jobs["replayed"]], options=ReplayOptions(), operator=OPERATOR
    )
    replay_plans.run(repository, plan)
    waiting = replay_plans.make(
        repository,
        [jobs["other"]],
        options=ReplayOptions(canary=1, seconds_apart=0.5),
        operator=OPERATOR,
    )
    stopped = replay_plans.make(
        repository, [jobs["bare"]], options=ReplayOptions(), operator=OPERATOR
    )
    replay_plans.stop(repository, stopped.plan_id, operator=OPERATOR)
    undone = replay_plans.make(
        repository, [jobs["bare"]], options=ReplayOptions(), operator=OPERATOR
    )
    replay_plans.undo(repository, undone.plan_id, operator=OPERATOR)
    row = connection.execute(
        "select id::text from pgflow.jobs where replay_of_job_id = %s",
        (jobs["replayed"],),
    ).fetchone()
    assert row is not None
    jobs["replay"] = row[0]
    return {
        "finished": plan.plan_id,
        "running": waiting.plan_id,
        "stopped": stopped.plan_id,
        "undone": undone.plan_id,
    }


def _policies(connection: Connection, repository: Repository) -> None:
    queue_operations.pause(repository, ["emails"], None, OPERATOR)
    queue_operations.pause(repository, ["billing"], 600.0, OPERATOR)
    limits: dict[str, int | None] = {"max_in_flight": 1, "max_attempts_per_minute": 600}
    queue_operations.set_policy(repository, "default", limits, OPERATOR)
    connection.execute(
        "update pgflow.operator_actions set finished_at = null"
        " where id = (select max(id) from pgflow.operator_actions)"
    )


def _decisions(connection: Connection) -> None:
    for table, decision, reason, count in (
        ("policy_decisions", "THROTTLED", "IN_FLIGHT_EXCEEDED", 5),
        ("policy_decisions", "HELD", "QUEUE_PAUSED", 3),
        ("ingest_decisions", "DENIED", "PAYLOAD_TOO_LARGE", 5),
        ("ingest_decisions", "DENIED", "ENQUEUE_RATE_EXCEEDED", 3),
    ):
        connection.execute(
            f"insert into pgflow.{table}"
            " (queue, decision, reason_code, minute, first_at, last_at, count,"
            "  details_json)"
            " select 'default', %s, %s, date_trunc('minute', at), at, at, 2, %s"
            " from generate_series(1, %s) as n"
            " cross join lateral (select now() - n * interval '1 min') as one (at)",
            (decision, reason, '{"in_flight": 10, "of": {"a": [1]}}', count),
        )


def _workers(connection: Connection) -> None:
    for name, idle, quiet, silent, queues in (
        ("busy", False, False, "0 s", ["default"]),
        ("idle", True, False, "0 s", None),
        ("quiet", True, True, "0 s", ["emails", "billing"]),
        ("silent", True, False, "1 h", ["default"]),
    ):
        connection.execute(
            "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
            " lease_seconds, idle, quiet, name, host, queues, last_heartbeat)"
            " values (gen_random_uuid(), gen_random_uuid(), 1, 4, 10, %s, %s, %s,"
            " 'host', %s, now() - %s::interval)",
            (idle, quiet, name, queues, silent),
        )
