"""Backups under load, and what a restored database does not do by itself."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.backup_tools import another, dump_plain, found_clients
from tests.support.jobs import audit, plant, status_of
from tests.support.private_servers import PrivateServer, a_standby
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]

# What must hold of attempts: one row a number, no gap, nothing after an end.
LEDGER = """
select count(*)
from (
  select
    count(*) <> max(attempt_no) as gap,
    count(*) filter (where status = 'succeeded') > 1 as twice
  from pgflow.any_attempts
  group by job_id
) as job
where gap or twice
"""


@pytest.fixture
def load(database: Database) -> Iterator[threading.Event]:
    """Two hundred jobs, and some 100 a second until the test ends."""
    ended = threading.Event()

    def enqueue() -> None:
        with psycopg.connect(database.url, autocommit=True) as connection:
            plant(connection, 200, job_type="quick")
            while not ended.wait(0.05):
                plant(connection, 5, job_type="quick")

    thread = threading.Thread(target=enqueue)
    thread.start()
    yield ended
    ended.set()
    thread.join()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_backups_under_load_are_proven_and_sound(
    pgflow: RunsPgflow,
    server: Server,
    start_worker: Start,
    witness: Witness,
    connection: Connection,
    load: threading.Event,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    start_worker()
    for number in range(2):
        wait_until(
            lambda: (
                connection.execute(
                    "select count(*) > 200 from pgflow.any_attempts"
                ).fetchone()
                == (True,)
            ),
            "many jobs have run",
        )
        name = f"b/{number}.dump"
        done = pgflow("backup", name, "--verify", "restore")
        assert done.returncode == 0, done.stderr
        assert "all equal" in done.stderr
    load.set()
    told = json.loads((tmp_path / "b" / "1.dump.json").read_text())
    jobs = [n for t, n in told["tables"].items() if t.startswith("jobs_")]
    assert sum(jobs) > 200
    with another(server, f"pgflow_copy_{os.getpid()}") as copy:
        restored = pgflow("restore", "b/1.dump", "--into", copy.url)
        assert restored.returncode == 0, restored.stderr
        with psycopg.connect(copy.url) as there:
            assert audit(there) == (0, 0)
            assert there.execute(LEDGER).fetchone() == (0,)


def test_a_worker_whose_database_is_replaced_under_it_starts_nothing(
    pgflow: RunsPgflow,
    server: Server,
    database: Database,
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    """Restored by psql alone, beside a worker that polls: no start before accept."""
    gate = tmp_path / "gate"
    payload = json.dumps({"gate": str(gate)})
    [running] = plant(connection, job_type="gated", payload=payload)
    worker = start_worker("--poll", "20ms", "--lease-seconds", "3")
    wait_until(lambda: witness(running), "it runs")
    waiting = plant(connection, 20, job_type="seen", due_in="1 hour")
    # Without the witness's table: its rows would be there twice.
    text = dump_plain(found_clients(server), database, "--schema=pgflow")
    connection.execute("drop schema pgflow cascade")
    psql = [found_clients(server).program("psql"), "-q", "-X", database.url]
    subprocess.run(psql, input=text, check=True, capture_output=True)
    connection.execute("update pgflow.pending set run_at = now()")
    wait_until(lambda: "the database is fenced" in worker.log, "the worker says so")
    assert worker.process.poll() is None
    assert not any(witness(job) for job in waiting)
    assert [event for event, _ in witness(running)].count("start") == 1
    done = pgflow("fence", "accept", "--no-pause", "--confirm", database.name)
    assert done.returncode == 0, done.stderr
    wait_until(
        lambda: all(status_of(connection, job) == "succeeded" for job in waiting),
        "they run",
    )
    wait_until(lambda: "the fence is down" in worker.log, "the worker says so")
    # Its tables were gone for a moment. If its process has noticed and died, it is
    # dead-lettered as interrupted; else it runs on. Nobody runs it again.
    assert status_of(connection, running) in ("dlq", "running")
    assert [event for event, _ in witness(running)].count("start") == 1


def test_an_acceptance_right_after_the_fence_leaves_running_jobs_alone(
    pgflow: RunsPgflow,
    connection: Connection,
    database: Database,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    payload = json.dumps({"gate": str(tmp_path / "gate")})
    jobs = plant(connection, 4, job_type="gated", payload=payload)
    start_worker("--lease-seconds", "20")
    wait_until(lambda: all(witness(job) for job in jobs), "they run")
    for fate in ("dlq", "requeue"):
        raised = pgflow("fence", "raise", "--yes")
        # By the moment: a heartbeat may have come in between.
        assert "4 jobs are leased for up to" in raised.stderr or (
            "4 jobs run on 1 workers that live here" in raised.stderr
        )
        assert "0 interrupted jobs wait for a decision" in raised.stderr
        accepting = ("fence", "accept", "--interrupted", fate, "--no-pause")
        previewed = pgflow(*accepting, "--dry-run")
        assert "0 jobs ran when it was dumped or cloned" in previewed.stderr
        done = pgflow(*accepting, "--confirm", database.name)
        assert done.returncode == 0, done.stderr
        assert "accepted: 0 interrupted jobs" in done.stderr
    (tmp_path / "gate").touch()
    for job in jobs:
        wait_until(lambda job=job: status_of(connection, job) == "succeeded", "it ends")
        assert witness(job) == [("start", 1), ("end", 1)]
    assert audit(connection) == (0, 0)


def test_a_paused_restore_runs_queue_by_queue(
    pgflow: RunsPgflow,
    connection: Connection,
    database: Database,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
) -> None:
    [first] = plant(connection, job_type="quick", queue="a")
    [second] = plant(connection, job_type="quick", queue="b")
    pgflow("fence", "raise", "--yes")
    assert pgflow("fence", "accept", "--confirm", database.name).returncode == 0
    start_worker("--queue", "*")
    connection.execute(
        "update pgflow.queue_policies set paused_until = null where queue = 'a'"
    )
    wait_until(lambda: status_of(connection, first) == "succeeded", "a runs")
    assert status_of(connection, second) == "queued"


@pytest.fixture
def standby() -> Iterator[tuple[PrivateServer, str, Callable[[], None]]]:
    """A primary, the URL of its standby, and what promotes that."""
    with a_standby() as found:
        yield found


def test_a_failover_does_not_fence_and_a_standby_takes_backups(
    pgflow: RunsPgflow, standby: Any, wait_until: Wait, tmp_path: Path
) -> None:
    primary, url, promote = standby
    with psycopg.connect(primary.url, autocommit=True) as connection:
        plant(connection, 30)

    def replayed() -> bool:
        with psycopg.connect(url) as connection:
            row = connection.execute("select count(*) from pgflow.pending").fetchone()
        return row == (30,)

    wait_until(replayed, "the standby has the jobs")
    there = {"DATABASE_URL": url}
    done = pgflow("backup", "a.dump", "--verify", "restore", env=there)
    assert done.returncode == 0, done.stderr
    assert "holds back vacuum" not in done.stderr
    told = json.loads((tmp_path / "a.dump.json").read_text())
    assert told["tables"]["pending"] == 30
    primary.kill()
    promote()
    status = pgflow("fence", "status", "--exit-code", env=there)
    assert status.returncode == 0, status.stdout
    done = pgflow("work", "--simulate", "--drain", "--queue", "none", env=there)
    assert done.returncode == 0, done.stderr
