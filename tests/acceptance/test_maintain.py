"""`pgflow maintain` as a program: one at a time, ended at any moment, under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.repository.test_audit import attempt, bury, lease, unqueue
from tests.support.days import plant_day
from tests.support.jobs import audit, expire_leases, plant, status_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
PGFLOW = str(Path(sys.executable).with_name("pgflow"))
SLOWLY = ("--task", "archive", "--batch-size", "5", "--sleep", "1s")


class Maintain:
    """A running `pgflow maintain`."""

    def __init__(self, database: Database, *options: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [PGFLOW, "maintain", *options],
            env={**os.environ, "DATABASE_URL": database.url, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start(database: Database) -> Iterator[Callable[..., Maintain]]:
    started: list[Maintain] = []

    def run(*options: str, **variables: str) -> Maintain:
        started.append(Maintain(database, *options, **variables))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.communicate()


def archived(connection: Connection) -> int:
    [count] = connection.execute("select count(*) from pgflow.jobs_archive").fetchone()  # type: ignore[misc]
    return int(count)


def test_of_two_one_works_and_the_other_is_told_to_come_later(
    connection: Connection,
    start: Callable[..., Maintain],
    wait_until: Wait,
    pgflow: Any,
) -> None:
    plant_day(connection, 12, 200, partitions=False)
    first = start(*SLOWLY)
    wait_until(lambda: archived(connection), "the first one works")
    second = pgflow("maintain")
    assert second.returncode == 75
    assert f"-{first.process.pid}) since" in second.stderr, "it says who"
    assert second.stdout == ""
    skipping = pgflow("maintain", "--skip-if-locked")
    assert (skipping.returncode, skipping.stdout) == (0, "")
    assert "maintains already" in skipping.stderr
    waiting = start("--task", "archive", "--lock-wait", "60s")
    assert archived(connection) < 200, "the first one is not done"
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 0
    code, out, _ = waiting.end()
    assert (code, archived(connection)) == (0, 200)
    assert "ok" in out
    assert audit(connection) == (0, 0)


def test_after_a_kill_the_next_one_gets_the_lock_and_goes_on(
    connection: Connection,
    start: Callable[..., Maintain],
    wait_until: Wait,
    pgflow: Any,
) -> None:
    day = plant_day(connection, 12, 30, partitions=False)
    first = start(*SLOWLY)
    wait_until(lambda: archived(connection) >= 10, "it has done two batches")
    first.process.send_signal(signal.SIGKILL)
    first.end()
    assert audit(connection) == (0, 0)
    assert 0 < len(day.ids(connection)) < 30
    following = pgflow("maintain", "--lock-wait", "10s")
    assert following.returncode == 0, following.stderr
    assert day.ids(connection) == []
    assert archived(connection) == 30
    assert audit(connection) == (0, 0)


def test_sigterm_ends_it_after_the_batch_and_it_reports(
    connection: Connection, start: Callable[..., Maintain], wait_until: Wait
) -> None:
    plant_day(connection, 12, 30, partitions=False)
    running = start(*SLOWLY, "-o", "json")
    wait_until(lambda: archived(connection) >= 5, "it has done a batch")
    running.process.send_signal(signal.SIGTERM)
    code, out, _ = running.end()
    assert code == 0
    [report] = json.loads(out)["items"]
    assert (report["task"], report["result"]) == ("archive", "partial")
    assert report["rows"] == archived(connection) < 30
    assert report["rows"] == 5 * report["batches"]
    assert audit(connection) == (0, 0)


def test_a_task_that_fails_is_told_and_exits_1(
    connection: Connection, pgflow: Any
) -> None:
    connection.execute("drop table pgflow.policy_decisions")
    result = pgflow("maintain", "-o", "json")
    assert result.returncode == 1
    results = {row["task"]: row["result"] for row in json.loads(result.stdout)["items"]}
    assert results.pop("prune") == "failed"
    assert set(results.values()) == {"ok"}
    assert "maintain failed" in result.stderr


def test_the_screen_and_the_tasks_that_are_chosen(
    connection: Connection, pgflow: Any
) -> None:
    jobs = plant(connection, 3)
    for job_id in jobs:
        unqueue(connection, job_id)
        lease(connection, job_id)
    expire_leases(connection)
    preview = pgflow("maintain", "-n", "--task", "reap")
    assert preview.returncode == 0
    assert "nothing was changed" in preview.stderr
    assert status_of(connection, jobs[0]) == "running"
    result = pgflow("maintain", "--task", "reap", "--task", "workers")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["TASK", "RESULT", "ROWS", "BATCHES", "TOOK", "DETAIL"]
    assert lines[1][:4] == ["reap", "ok", "3", "1"]
    assert [line[0] for line in lines[1:]] == ["reap", "workers"]
    assert result.stderr.startswith("maintain ok in ")
    skipped = pgflow("maintain", "--skip", "analyze", "-o", "jsonl")
    tasks = [json.loads(line)["task"] for line in skipped.stdout.splitlines()]
    assert tasks == [
        "reap", "archive", "prune", "partitions", "rate-counters", "workers", "queues",
    ]  # fmt: skip
    assert pgflow("maintain", "--task", "reap", "--skip", "reap").returncode == 2
    assert pgflow("maintain", "--task", "schedules").returncode == 2


def test_the_variables_of_the_runbook_count_days(
    connection: Connection, pgflow: Any
) -> None:
    plant_day(connection, 5, 10)
    pgflow("maintain", "--task", "archive")
    assert archived(connection) == 0
    pgflow("maintain", env={"ARCHIVE_SUCCEEDED_AFTER_DAYS": "3"})
    assert archived(connection) == 10
    pgflow(
        "maintain",
        env={"ARCHIVE_SUCCEEDED_AFTER_DAYS": "1", "PRUNE_HISTORY_AFTER_DAYS": "2"},
    )
    assert archived(connection) == 0


def test_an_archived_job_is_explained_on_the_screen(
    connection: Connection, pgflow: Any
) -> None:
    day = plant_day(connection, 9, 3)
    job_id = day.ids(connection)[0]
    pgflow("maintain")
    result = pgflow("explain", job_id, "--payload")
    assert result.returncode == 0
    assert "SUCCEEDED" in result.stdout
    assert "someone@example.org" in result.stdout


def test_the_loop_outlives_outages_and_ends_at_a_signal(
    connection: Connection,
    database: Database,
    start: Callable[..., Maintain],
    wait_until: Wait,
) -> None:
    def last_success() -> float:
        row = connection.execute(
            "select coalesce(extract(epoch from last_success_at), 0)::float8"
            " from pgflow.maintenance_tasks where task = 'workers'"
        ).fetchone()
        return float(row[0]) if row else 0.0

    takes = 'alter database "{}" allow_connections {}'
    maintenance = database.url.replace(database.name, "postgres")
    with psycopg.connect(maintenance, autocommit=True) as other:
        other.execute(takes.format(database.name, "false"))
        running = start(
            "--loop", "--interval", "0.5s", "-o", "jsonl", "--task", "workers"
        )
        assert running.process.stderr is not None
        assert any("database unavailable" in line for line in running.process.stderr)
        other.execute(takes.format(database.name, "true"))
    wait_until(last_success, "a first pass")
    for _ in range(5):
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'pgflow maintain%'"
        )
    [now] = connection.execute("select extract(epoch from now())::float8").fetchone()  # type: ignore[misc]
    wait_until(lambda: last_success() > now, "a later pass")
    running.process.send_signal(signal.SIGTERM)
    code, out, _ = running.end()
    assert code == 0
    assert {json.loads(line)["task"] for line in out.splitlines()} == {"workers"}


def test_under_load_four_of_them_touch_no_live_job_and_deadlock_nobody(
    connection: Connection, database: Database, start_worker: Start, start: Any
) -> None:
    """F74: workers lease and settle while whole days change hands."""
    for ago in (9, 10, 11):
        day = plant_day(connection, ago, 300)
        dead = day.ids(connection)[0]
        connection.execute(
            "delete from pgflow.job_successes where first_id = %s", [dead]
        )
        attempt(connection, dead, "failed")
        bury(connection, dead)
    strays = plant_day(connection, 12, 100, partitions=False)
    worker = start_worker("--no-maintain", "--processes", "2")
    jobs: list[str] = []
    others = [start("--loop", "--interval", "0.5s", "--batch-size", "20") for _ in "ab"]
    once = []
    for _ in range(3):
        jobs += plant(connection, 600, job_type="quick")
        once.append(start("--lock-wait", "20s"))
    ended = [each.end() for each in once]
    assert {code for code, _, _ in ended} <= {0, 75}
    deadline = time.monotonic() + 60
    while connection.execute("select from pgflow.pending").rowcount:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for other in others:
        other.process.send_signal(signal.SIGTERM)
    assert [other.end()[0] for other in others] == [0, 0]
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    [deadlocks] = connection.execute(
        "select deadlocks from pg_stat_database where datname = current_database()"
    ).fetchone()  # type: ignore[misc]
    assert deadlocks == 0
    assert archived(connection) == 3 * 299 + 100
    assert strays.ids(connection) == []
    twice = connection.execute(
        "select job_id from pgflow.any_attempts where job_id = any(%s::uuid[])"
        " group by job_id having count(*) <> 1",
        (jobs,),
    ).fetchall()
    assert twice == []
    assert {status_of(connection, job) for job in jobs[::50]} == {"succeeded"}
    assert audit(connection) == (0, 0)


def test_a_worker_does_it_too_and_ends_though_there_is_more(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    plant_day(connection, 9, 50)
    strays = plant_day(connection, 12, 5000, partitions=False)
    worker = start_worker("--maintenance-interval", "1s")
    wait_until(lambda: archived(connection) > 50, "it archives")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert 0 < len(strays.ids(connection)) < 5000, "it was half-way"
    assert "Traceback" not in worker.log


def test_a_worker_that_is_told_not_to_leaves_it(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    plant_day(connection, 9, 5)
    jobs = plant(connection, 3, job_type="quick")
    start_worker("--no-maintain", "--maintenance-interval", "0.5s")
    wait_until(lambda: status_of(connection, jobs[-1]) == "succeeded", "it works")
    time.sleep(1.5)
    assert archived(connection) == 0
