"""Real workers keep the limits of a queue, and starve nobody for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.acceptance.conftest import Worker
from tests.support.jobs import all_ended, audit, plant, status_of, statuses_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]


def limit(connection: Connection, queue: str, column: str, value: int) -> None:
    connection.execute(
        f"insert into pgflow.queue_policies (queue, {column}) values (%s, %s)",
        (queue, value),
    )


def started(connection: Connection) -> int:
    row = connection.execute(
        "select count(*) from witness where event = 'start'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def most_at_once(connection: Connection) -> int:
    """Return how many handlers ran at one time, as they told the witness."""
    row = connection.execute(
        """
        select max(running)
        from (
          select
            sum(case event when 'start' then 1 else -1 end) over (order by n) as running
          from witness
        ) as counted
        """
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_two_workers_run_no_more_than_may_be_in_flight(
    connection: Connection, start_worker: Start, witness: Witness
) -> None:
    limit(connection, "default", "max_in_flight", 3)
    plant(connection, 20, job_type="seen")
    workers = [start_worker("--drain", "-c", "4") for _ in "ab"]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert started(connection) == 20
    assert most_at_once(connection) <= 3
    assert audit(connection) == (0, 0)


def test_a_limited_queue_and_a_full_one_do_not_starve_each_other(
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    limit(connection, "few", "max_in_flight", 5)
    flood = plant(connection, 500, job_type="quick", queue="flood")
    few = plant(connection, 20, job_type="quick", queue="few")
    start_worker("-q", "*", "-c", "1", "--processes", "1", "--batch-size", "8")
    wait_until(lambda: all_ended(connection), "both are served")
    assert statuses_of(connection, [*few, *flood]) == {"succeeded"}
    ended = (
        "select max(finished_at) from pgflow.any_attempts"
        " where job_id = any(%s::uuid[])"
    )
    [[of_few], [of_flood]] = (
        connection.execute(ended, (jobs,)).fetchall()[0] for jobs in (few, flood)
    )
    assert of_few < of_flood, "the flood does not go first"
    wait_until(lambda: audit(connection) == (0, 0), "every job is in one place")


def test_once_takes_its_batch_from_a_limited_queue_too(
    connection: Connection, start_worker: Start
) -> None:
    limit(connection, "default", "max_in_flight", 2)
    plant(connection, 5, job_type="quick")
    assert start_worker("--once").wait() == 0
    rows = connection.execute("select count(*) from pgflow.pending").fetchone()
    # A batch of one, if the other connection has just reserved the rest of the room.
    assert rows in [(3,), (4,)]
    assert audit(connection) == (0, 0)


def test_a_drain_waits_for_what_a_limit_holds_back(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    limit(connection, "default", "max_attempts_per_minute", 2)
    jobs = plant(connection, 4, job_type="quick")
    worker = start_worker("--drain")
    wait_until(lambda: status_of(connection, jobs[1]) == "succeeded", "two have run")
    wait_until(
        lambda: (
            connection.execute("select from pgflow.policy_decisions").fetchone()
            is not None
        ),
        "the limit is told",
    )
    assert worker.process.poll() is None
    connection.execute(
        "update pgflow.attempt_counters set second = second - interval '2 minutes'"
    )
    assert worker.wait() == 0
    assert status_of(connection, jobs[3]) == "succeeded"
    assert audit(connection) == (0, 0)
