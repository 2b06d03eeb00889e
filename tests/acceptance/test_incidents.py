"""Each incident of RUNBOOK.md: made to happen, then ended by the commands it names."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import (
    attempts_of,
    audit,
    expire_leases,
    plant,
    status_of,
    statuses_of,
)

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


@pytest.fixture
def type_in(pgflow: RunsPgflow) -> Callable[..., str]:
    """Type a command of the runbook and return what it wrote to stdout."""

    def run(*words: str, code: int = 0) -> str:
        result = pgflow(*words)
        assert result.returncode == code, result.stderr + result.stdout
        return result.stdout

    return run


def items(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def test_queue_depth_grows_because_nobody_serves_the_queue(
    connection: Connection,
    type_in: Callable[..., str],
    start_worker: Start,
    wait_until: Wait,
) -> None:
    jobs = plant(connection, 30, queue="emails", job_type="quick")
    [emails] = [
        row
        for row in items(type_in("queues", "list", "-o", "json"))
        if row["queue"] == "emails"
    ]
    assert (emails["runnable"], emails["workers"]) == (30, 0)
    listed = type_in("jobs", "list", "-q", "emails", "--status", "queued", "-o", "ids")
    assert set(listed.split()) == set(jobs)
    why = json.loads(type_in("explain", jobs[0][-8:], "-o", "json"))
    assert why["verdict"] == "NO_WORKER"

    start_worker("-q", "emails")
    wait_until(lambda: status_of(connection, jobs[-1]) == "succeeded", "it drains")
    wait_until(lambda: audit(connection) == (0, 0), "every job is in one place")


def test_queue_depth_grows_because_a_policy_throttles_it(
    connection: Connection,
    type_in: Callable[..., str],
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    type_in("queues", "set-policy", "emails", "--max-in-flight", "1", "--yes")
    gate = tmp_path / "gate"
    payload = json.dumps({"gate": str(gate)})
    jobs = plant(connection, 5, queue="emails", job_type="gated", payload=payload)
    start_worker("-q", "emails")
    wait_until(lambda: witness(jobs[0]), "the first one runs")

    def verdict() -> str:
        return str(json.loads(type_in("explain", jobs[-1], "-o", "json"))["verdict"])

    wait_until(lambda: verdict() == "IN_FLIGHT_EXCEEDED", "the limit is the reason")
    wait_until(
        lambda: items(
            type_in(
                "decisions", "list", "--kind", "policy", "-q", "emails", "-o", "json"
            )
        ),
        "the decision is listed",
    )
    type_in("queues", "set-policy", "emails", "--max-in-flight", "20", "--note", "up")
    wait_until(lambda: all(witness(job) for job in jobs), "all of them run")
    gate.touch()
    wait_until(lambda: status_of(connection, jobs[-1]) == "succeeded", "it drains")
    assert audit(connection) == (0, 0)


def test_queue_depth_grows_because_somebody_paused_it(
    connection: Connection,
    type_in: Callable[..., str],
    start_worker: Start,
    wait_until: Wait,
) -> None:
    type_in("queues", "pause", "emails", "--note", "smtp is down", "--yes")
    start_worker("-q", "emails")
    [job] = plant(connection, queue="emails", job_type="quick")
    wait_until(lambda: "emails" in type_in("workers", "list"), "the worker is known")
    why = json.loads(type_in("explain", job, "-o", "json"))
    assert why["verdict"] == "QUEUE_PAUSED"
    assert "smtp is down" in why["summary"]
    type_in("queues", "resume", "emails")
    wait_until(lambda: status_of(connection, job) == "succeeded", "it runs")


def test_jobs_stuck_in_running_because_their_worker_is_gone(
    connection: Connection,
    type_in: Callable[..., str],
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [job] = plant(connection, job_type="gated", payload=json.dumps({"gate": str(gate)}))
    worker = start_worker("--lease-seconds", "60")
    wait_until(lambda: witness(job), "it runs")
    worker.send(signal.SIGKILL)
    worker.wait()
    expire_leases(connection)
    assert job in type_in("jobs", "list", "--stuck", "-o", "ids")
    why = json.loads(type_in("explain", job, "-o", "json"))
    assert why["verdict"] == "LEASE_EXPIRED"

    type_in("maintain", "--task", "reap")
    assert attempts_of(connection, job) == [(1, "lost", "WORKER_LOST")]
    gate.touch()
    start_worker()
    wait_until(lambda: status_of(connection, job) == "succeeded", "it runs again")
    assert audit(connection) == (0, 0)


def test_jobs_stuck_in_running_because_a_handler_hangs(
    connection: Connection,
    type_in: Callable[..., str],
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    [job] = plant(connection, job_type="patient")
    start_worker("--lease-seconds", "3")
    wait_until(lambda: witness(job), "it runs")
    assert job in type_in("jobs", "list", "--slow", "-o", "ids")
    type_in("jobs", "cancel", job, "--kill", "--note", "hangs in a loop")
    assert status_of(connection, job) == "canceled"
    wait_until(
        lambda: ("canceled", 1) in witness(job), "the handler is told", seconds=60
    )
    assert audit(connection) == (0, 0)
    assert "hangs in a loop" in type_in("explain", job)


def test_a_dlq_spike_is_grouped_and_replayed_by_canary(
    connection: Connection,
    type_in: Callable[..., str],
    start_worker: Start,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "smtp-is-up"
    payload = json.dumps({"gate": str(gate)})
    jobs = plant(
        connection,
        40,
        queue="emails",
        job_type="depends",
        payload=payload,
        max_attempts=1,
    )
    others = plant(connection, 3, queue="emails", job_type="gives_up")
    start_worker("-q", "emails")
    dead = [*jobs, *others]
    wait_until(lambda: statuses_of(connection, dead) == {"dlq"}, "all died")
    groups = items(type_in("dlq", "list", "--since", "2h", "--group", "-o", "json"))
    assert sorted(group["count"] for group in groups) == [3, 40]
    [group] = [group for group in groups if group["count"] == 40]
    code = group["error_code"]
    assert code in type_in("dlq", "stats", "--since", "2h", "--by", "error-code")
    type_in("explain", jobs[0], "--attempts", "all")
    type_in("dlq", "show", jobs[0])

    chosen = ("replay", "-q", "emails", "--error-code", code, "--since", "2h")
    preview = type_in(*chosen, "--dry-run")
    assert "40" in preview
    assert "--yes" in preview
    # The dependency is still away: the canary stops the other thirty-five.
    type_in(*chosen, "--canary", "5", "--rate", "100/s", "--yes", code=1)
    # It is judged as soon as it must fail: the last of its five may still run.
    wait_until(
        lambda: (
            connection.execute(
                "select count(*) from pgflow.dead_letters"
                " where resolved_at is null and job_type = 'depends'"
            ).fetchone()
            == (40,)
        ),
        "what the canary replayed is dead again",
    )

    gate.touch()
    type_in(*chosen, "--canary", "5", "--rate", "100/s", "--yes")
    wait_until(
        lambda: (
            connection.execute(
                "select count(*) = 40 from pgflow.any_attempts"
                " where status = 'succeeded'"
            ).fetchone()
            == (True,)
        ),
        "every one has been done once",
    )
    left = items(type_in("dlq", "list", "-o", "json"))
    assert {row["job_type"] for row in left} == {"gives_up"}
    type_in("dlq", "discard", "-t", "gives_up", "--note", "no such customer", "--yes")
    assert items(type_in("dlq", "list", "-o", "json")) == []
    assert audit(connection) == (0, 0)


def test_enqueue_rejected_is_found_and_ended_by_a_policy(
    connection: Connection, type_in: Callable[..., str]
) -> None:
    type_in(
        "queues", "set-policy", "reports",
        "--max-payload-bytes", "100", "--max-enqueue-per-minute", "1", "--yes",
    )  # fmt: skip
    large = json.dumps({"text": "x" * 200})
    enqueue = ("enqueue", "report_build", "-q", "reports")
    type_in(*enqueue, large, code=4)
    type_in(*enqueue, "{}")
    # A quota is that of a minute of the clock; the next command may be in another one.
    counted = connection.execute(
        "insert into pgflow.enqueue_counters (queue, minute, count)"
        " select queue, minute + n * interval '1 minute', count"
        " from pgflow.enqueue_counters, generate_series(1, 10) n"
    )
    assert counted.rowcount == 10
    type_in(*enqueue, "{}", code=4)
    refused = items(type_in("decisions", "list", "--kind", "ingest", "-o", "json"))
    assert {row["reason_code"] for row in refused} == {
        "PAYLOAD_TOO_LARGE",
        "ENQUEUE_RATE_EXCEEDED",
    }
    type_in("queues", "set-policy", "reports", "--max-payload-bytes", "1048576")
    type_in("queues", "set-policy", "reports", "--max-enqueue-per-minute", "6000")
    type_in(*enqueue, large)
    assert audit(connection) == (0, 0)
