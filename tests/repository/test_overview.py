"""The view job_overview: what it says of a job in each place, and how it finds out."""

from __future__ import annotations

from itertools import product
from typing import Any

import psycopg

from tests.repository.test_audit import attempt, bury, cancel, lease, unqueue
from tests.support.jobs import plant, status_of

Connection = psycopg.Connection[Any]

FIELDS = [
    "id", "queue", "job_type", "status", "run_at", "priority", "max_attempts",
    "last_error_code", "last_error_message", "dlq_reason_code", "created_at",
    "updated_at", "short_id", "attempt_no", "dlq_at", "fingerprint", "resolved_at",
    "replay_of_job_id", "worker_id", "lease_expires_at",
]  # fmt: skip


def overview(connection: Connection, job_id: str) -> dict[str, Any]:
    cursor = connection.execute(
        "select * from pgflow.job_overview where id = %s", (job_id,)
    )
    assert cursor.description is not None
    row = cursor.fetchone()
    assert row is not None
    return dict(zip([c.name for c in cursor.description], row, strict=True))


def fail_then_retry(connection: Connection, job_id: str, run_at: str) -> None:
    connection.execute(
        f"update pgflow.pending set run_at = {run_at}, attempt_no = 1"
        " where job_id = %s",
        (job_id,),
    )
    connection.execute(
        "insert into pgflow.job_attempts (job_id, lease_id, started_at, attempt_no,"
        " status, worker_name, error_code, error_message, next_run_at)"
        " select job_id, gen_random_uuid(), now(), 1, 'failed', 'w1', 'TIMEOUT',"
        " 'too slow', run_at from pgflow.pending where job_id = %s",
        (job_id,),
    )


def test_it_has_the_fields_of_the_api_in_their_order(connection):
    [job_id] = plant(connection)
    row = overview(connection, job_id)
    assert list(row) == FIELDS
    assert row["short_id"] == job_id[-8:]
    assert (row["status"], row["attempt_no"], row["worker_id"]) == ("queued", 0, None)


def test_a_job_in_each_place_has_its_status(connection):
    queued, running, succeeded, dead, canceled, nowhere = plant(connection, 6)
    [scheduled] = plant(connection, due_in="1 hour")
    for job_id in (running, succeeded, dead, canceled, nowhere):
        unqueue(connection, job_id)
    lease(connection, running)
    attempt(connection, succeeded, "succeeded")
    bury(connection, dead)
    cancel(connection, canceled)
    found = {
        "queued": queued,
        "scheduled": scheduled,
        "running": running,
        "succeeded": succeeded,
        "dlq": dead,
        "canceled": canceled,
    }
    for status, job_id in found.items():
        assert status_of(connection, job_id) == status
    assert overview(connection, nowhere)["status"] == "nowhere"


def test_a_retry_shows_its_last_error_and_when_it_runs_again(connection):
    [job_id] = plant(connection)
    fail_then_retry(connection, job_id, "now() + interval '1 hour'")
    row = overview(connection, job_id)
    assert row["status"] == "scheduled"
    assert row["run_at"] > row["updated_at"]
    shown = (row["attempt_no"], row["last_error_code"], row["last_error_message"])
    assert shown == (1, "TIMEOUT", "too slow")
    assert row["worker_id"] == "w1"


def test_a_running_retry_is_running_under_its_new_number(connection):
    [job_id] = plant(connection)
    fail_then_retry(connection, job_id, "now()")
    unqueue(connection, job_id)
    lease(connection, job_id, 2)
    row = overview(connection, job_id)
    assert (row["status"], row["attempt_no"], row["worker_id"]) == ("running", 2, "w")
    assert row["lease_expires_at"] is not None


def test_a_settled_job_that_is_still_in_its_leases_array_is_not_running(connection):
    [job_id] = plant(connection)
    fail_then_retry(connection, job_id, "now()")
    lease(connection, job_id, 1)
    assert status_of(connection, job_id) == "queued"


def test_a_pending_job_that_was_moved_by_hand_is_found_all_the_same(connection):
    [job_id] = plant(connection)
    connection.execute(
        "update pgflow.pending set rank = -7, run_at = run_at + interval '1 day'"
        " where job_id = %s",
        (job_id,),
    )
    assert status_of(connection, job_id) == "scheduled"


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(n for part in plan.get("Plans", []) for n in nodes(part))]


def read_by(connection: Connection, job_id: str) -> tuple[list[dict[str, Any]], int]:
    """Return the scans that ran for one id, and how many pages they read."""
    text = (
        f"explain (analyze, buffers, format json, timing off) execute one ('{job_id}')"
    )
    for _ in range(2):  # the first run reads the catalog
        row = connection.execute(text).fetchone()
    assert row is not None
    [root] = row[0]
    ran = [n for n in nodes(root["Plan"]) if n["Actual Loops"] > 0]
    pages = root["Plan"]["Shared Hit Blocks"] + root["Plan"]["Shared Read Blocks"]
    return [n for n in ran if "Relation Name" in n], pages


def test_one_id_is_answered_by_keys_alone(connection):
    """Beside 5,000 others, with plans of its own and a generic one; only the few
    leases are looked through.
    """
    plant(connection, 5_000)
    connection.execute(
        "insert into pgflow.job_attempts"
        " (job_id, lease_id, started_at, attempt_no, status, worker_name)"
        " select id, gen_random_uuid(), now(), 1, 'snoozed', 'w' from pgflow.jobs"
    )
    queued, retried, running, succeeded, dead = plant(connection, 5)
    fail_then_retry(connection, retried, "now()")
    for job_id in (running, succeeded, dead):
        unqueue(connection, job_id)
    lease(connection, running)
    attempt(connection, succeeded, "succeeded")
    bury(connection, dead)
    connection.execute("analyze pgflow.jobs, pgflow.pending, pgflow.job_attempts")
    connection.execute(
        "prepare one (uuid) as select * from pgflow.job_overview where id = $1"
    )
    small = {"queue_ranks", "leases", "dead_letters", "canceled_jobs"}
    jobs = (queued, retried, running, succeeded, dead)
    for mode, job_id in product(("force_custom_plan", "force_generic_plan"), jobs):
        connection.execute(f"set plan_cache_mode = {mode}")
        scans, pages = read_by(connection, job_id)
        whole = {n["Relation Name"] for n in scans if n["Node Type"] == "Seq Scan"}
        assert whole <= small, "big tables are read by their indexes"
        tables = {n["Relation Name"] for n in scans}
        archives = {name for name in tables if "archive" in name}
        assert len(archives) <= 3, "a partition of each archive"
        tables -= archives
        assert sum(name.startswith("jobs_") for name in tables) == 1
        assert sum(name.startswith("job_attempts_") for name in tables) <= 1
        assert sum(name.startswith("job_successes_") for name in tables) <= 1
        assert sum(n.get("Rows Removed by Filter", 0) for n in scans) < 5
        assert pages < 60
