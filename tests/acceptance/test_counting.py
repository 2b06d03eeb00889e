"""Real workers: every attempt is counted once, and what was counted stays."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import psycopg

from pgflow_cli.repository import Repository
from tests.acceptance.conftest import Worker
from tests.support.jobs import expire_leases, plant

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


def counted(connection: Connection, metric: str = "attempts") -> dict[str, int]:
    rows = connection.execute(
        "select outcome, sum(count)::bigint from pgflow.worker_counters"
        " where metric = %s group by 1",
        (metric,),
    ).fetchall()
    return dict(rows)


def settled(connection: Connection) -> dict[str, int]:
    """Return the attempts of the ledger by outcome."""
    rows = connection.execute(
        """
        select
          case
            when status in ('failed', 'lost') and next_run_at is null then 'dlq'
            when status = 'failed' then 'retried'
            else status
          end, count(*)
        from pgflow.any_attempts
        group by 1
        """
    ).fetchall()
    return dict(rows)


def test_when_a_worker_has_drained_everything_is_counted(
    connection: Connection, start_worker: Start
) -> None:
    plant(connection, 200, job_type="quick")
    plant(connection, 20, job_type="gives_up", queue="emails")
    plant(connection, 10, job_type="failing", max_attempts=3)
    worker = start_worker("-q", "*", "--drain", "--processes", "2")
    assert worker.wait() == 0, worker.log
    assert counted(connection) == settled(connection)
    assert counted(connection)["succeeded"] == 200
    assert counted(connection, "duration") == {"": 250}
    assert counted(connection, "wait")[""] >= 250
    [row] = connection.execute(
        "select sum(succeeded), sum(retried), sum(dlq), sum(again)"
        " from pgflow.queue_rates"
    ).fetchall()
    assert [int(value) for value in row] == [200, 20, 30, 20]


def test_what_a_killed_worker_had_counted_stays_and_its_jobs_count_as_lost(
    connection: Connection,
    repository: Repository,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    plant(connection, 100, job_type="quick")
    worker = start_worker("--lease-seconds", "3")
    wait_until(lambda: counted(connection) == {"succeeded": 100}, "it is counted")
    [job] = plant(connection, job_type="patient")
    wait_until(lambda: witness(job), "it runs")
    worker.send(signal.SIGKILL)
    worker.wait()
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert counted(connection) == {"succeeded": 100, "lost": 1} == settled(connection)
    assert counted(connection, "leases_expired") == {"": 1}

    connection.execute("delete from pgflow.workers")
    connection.execute(
        "update pgflow.worker_counters set first_at = now() - interval '1 hour'"
    )
    repository.counters.fold_counters(limit=1000)
    assert counted(connection) == {"succeeded": 100, "lost": 1}


def test_a_killed_process_is_settled_and_counted_by_its_supervisor(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    plant(connection, job_type="crashes")
    worker = start_worker("--crash-budget", "1")
    wait_until(lambda: counted(connection).get("dlq"), "it is counted")
    assert counted(connection) == {"dlq": 1} == settled(connection)
    assert worker.process.poll() is None
