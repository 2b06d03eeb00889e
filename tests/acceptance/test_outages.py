"""An outage of the database costs time; it never ends a worker and never
loses a job.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from pgflow_cli.commands import work
from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.support.jobs import (
    all_ended,
    attempts_of,
    audit,
    plant,
    status_of,
    statuses_of,
)
from tests.support.private_servers import (
    PrivateServer,
    a_standby,
    migrated_server,
    pgbouncer,
    stalling_proxy,
)
from tests.support.servers import Database

Start = Callable[..., Worker]
Wait = Callable[..., Any]


@pytest.fixture
def own_server() -> Iterator[PrivateServer]:
    """A server that the trial may kill, with the current schema."""
    with migrated_server() as server:
        yield server


def connect(url: str, wait_until: Wait) -> psycopg.Connection[Any]:
    def attempt() -> psycopg.Connection[Any] | None:
        try:
            return psycopg.connect(url, autocommit=True)
        except psycopg.OperationalError:
            return None

    return wait_until(attempt, "the server is back")


@pytest.mark.slow
def test_a_database_killed_in_the_middle_of_batches_loses_nothing(
    own_server: PrivateServer, start_worker: Start, wait_until: Wait
) -> None:
    url = own_server.url
    with psycopg.connect(url, autocommit=True) as connection:
        jobs = plant(connection, 1000, job_type="quick")
    worker = start_worker("--processes", "2", "--lease-seconds", "2", url=url)
    for wanted in (200, 500):
        with connect(url, wait_until) as connection:
            wait_until(
                lambda c=connection, n=wanted: c.execute(
                    "select count(*) >= %s from pgflow.any_attempts", (n,)
                ).fetchone()[0],
                "jobs are settled",
            )
        own_server.kill()
        own_server.start()
    with connect(url, wait_until) as connection:
        wait_until(lambda: all_ended(connection), "all are settled", seconds=120)
        assert statuses_of(connection, jobs) == {"succeeded"}
        row = connection.execute(
            "select count(*) - count(distinct job_id) from pgflow.any_attempts"
            " where status = 'succeeded'"
        ).fetchone()
        assert row == (0,)
        assert audit(connection) == (0, 0)
    assert worker.process.poll() is None


@pytest.mark.slow
def test_a_worker_started_before_its_database_waits_for_it(
    database: Database, start_worker: Start, wait_until: Wait
) -> None:
    connection = database.connect()
    jobs = plant(connection, 3, job_type="quick")
    with stalling_proxy(database, listens=False) as (url, proxy):
        worker = start_worker(url=url)
        wait_until(
            lambda: "unavailable" in worker.log or "cannot connect" in worker.log,
            "it waits",
        )
        assert worker.process.poll() is None
        proxy.listen()
        wait_until(lambda: statuses_of(connection, jobs) == {"succeeded"}, "they run")


@pytest.mark.slow
def test_terminated_backends_are_replaced(
    database: Database, start_worker: Start, wait_until: Wait
) -> None:
    connection = database.connect()
    jobs = plant(connection, 600, job_type="quick")
    worker = start_worker("--lease-seconds", "2")
    for wanted in (100, 250, 400):
        wait_until(
            lambda n=wanted: connection.execute(
                "select count(*) >= %s from pgflow.any_attempts", (n,)
            ).fetchone()[0],
            "jobs are settled",
        )
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'pgflow%'"
        )
    wait_until(lambda: all_ended(connection), "all are settled", seconds=120)
    assert statuses_of(connection, jobs) == {"succeeded"}
    assert worker.process.poll() is None
    assert audit(connection) == (0, 0)


@pytest.mark.slow
def test_behind_a_transaction_pooler_it_says_so_once_and_polls(
    database: Database,
    start_worker: Start,
    wait_until: Wait,
) -> None:
    with pgbouncer(database) as url:
        connection = database.connect()
        jobs = plant(connection, 200, job_type="quick")
        worker = start_worker(url=url)
        wait_until(lambda: all_ended(connection), "they run")
        assert statuses_of(connection, jobs) == {"succeeded"}
        wait_until(lambda: "LISTEN delivers nothing" in worker.log, "it says so")
        late = plant(connection, 3, job_type="quick")
        wait_until(
            lambda: statuses_of(connection, late) == {"succeeded"}, "polling finds them"
        )
        assert worker.log.count("LISTEN delivers nothing") == 1
    assert worker.process.poll() is None


@pytest.mark.slow
def test_a_silent_server_does_not_hold_a_worker_for_longer_than_a_call_may_take(
    database: Database, start_worker: Start, wait_until: Wait
) -> None:
    connection = database.connect()
    with stalling_proxy(database) as (url, proxy):
        worker = start_worker("--lease-seconds", "1", url=url)
        wait_until(
            lambda: connection.execute(
                "select 1 from pgflow.workers where idle"
            ).fetchone(),
            "it is idle",
        )
        proxy.stall()
        wait_until(lambda: "took longer" in worker.log, "the calls are freed")
        jobs = plant(connection, 3, job_type="quick")
        wait_until(
            lambda: statuses_of(connection, jobs) == {"succeeded"},
            "it has connected again",
        )
        assert worker.process.poll() is None
        assert audit(connection) == (0, 0)


@pytest.fixture
def app_role(database: Database) -> Iterator[str]:
    """A role that may do what a worker does, and that owns nothing."""
    name = f"app_{database.name}"
    with database.connect() as connection:
        connection.execute(f"create role {name} login")
        connection.execute(f"grant usage on schema pgflow to {name}")
        for kind, right in (("tables", "all"), ("functions", "execute")):
            connection.execute(
                f"grant {right} on all {kind} in schema pgflow to {name}"
            )
    yield name
    with database.connect() as connection:
        connection.execute(f"drop owned by {name}")
        connection.execute(f"drop role {name}")


REFUSALS = (
    ("alter role {} nologin", "alter role {} login", "not permitted to log in"),
    (
        "revoke usage on schema pgflow from {}",
        "grant usage on schema pgflow to {}",
        "permission denied for schema pgflow",
    ),
    (  # as a restore does
        "alter schema pgflow rename to pgflow_aside",
        "alter schema pgflow_aside rename to pgflow",
        "the schema is missing",
    ),
)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_refusal_while_it_works_is_an_outage(
    app_role: str,
    database: Database,
    start_worker: Start,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    """No process ends, nothing is charged, and all it does is taken up again."""
    connection = database.connect()
    connection.execute(
        "create table witness (job_id uuid, attempt_no int, event text, pid int)"
    )
    connection.execute("grant all on witness to public")
    gate = tmp_path / "gate"
    (long,) = plant(connection, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    url = database.url.replace("postgres@", f"{app_role}@", 1)
    worker = start_worker(
        "--processes", "2", "--lease-seconds", "60", "--reap-interval", "1s", url=url
    )
    started = "select from witness"
    wait_until(lambda: connection.execute(started).rowcount, "its handler has begun")
    wait_until(lambda: "reap_expired_locks: every" in worker.log, "it reaps")
    processes = {child.pid for child in worker.children()}
    assert len(processes) == 2

    for before, after, said in REFUSALS:
        connection.execute(before.format(app_role))
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s",
            (app_role,),
        )
        for told in ("unavailable, again", "cannot listen|heartbeat|upkeep|settle"):
            wait_until(
                lambda w=f"({told}).*{said}": re.search(w, worker.log),
                f"both a worker and its supervisor are told: {said}",
            )
        connection.execute(after.format(app_role))
        (later,) = plant(connection, job_type="quick")
        wait_until(
            lambda j=later: status_of(connection, j) == "succeeded", "jobs run again"
        )
        (orphan,) = plant(connection, queue="elsewhere")
        abandon(connection, orphan)
        wait_until(
            lambda j=orphan: attempts_of(connection, j) == [(1, "lost", "WORKER_LOST")],
            "it reaps again",
        )
    gate.touch()
    wait_until(lambda: status_of(connection, long) == "succeeded", "it went on")
    assert attempts_of(connection, long) == [(1, "succeeded", None)]
    assert {child.pid for child in worker.children()} == processes
    assert worker.process.poll() is None
    assert "Traceback" not in worker.log


def abandon(connection: psycopg.Connection[Any], job_id: str) -> None:
    """Let a job have been leased by a worker that has gone silent long ago."""
    with connection.transaction():
        connection.execute("delete from pgflow.pending where job_id = %s", (job_id,))
        connection.execute(
            "insert into pgflow.leases (batch_id, worker_id, leased_at, expires_at,"
            " queue, worker_name, job_ids, attempt_nos)"
            " select gen_random_uuid(), gen_random_uuid(), now() - interval '2 hours',"
            "  now() - interval '1 hour', queue, 'gone', array[id], array[1]"
            " from pgflow.jobs where id = %s",
            (job_id,),
        )


@pytest.mark.slow
def test_what_is_to_end_by_itself_does_not_wait_for_ever(start_worker: Start) -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/nowhere"
    worker = start_worker("--drain", "--wait-for-db", "1s", url=nowhere)
    assert worker.wait() == 69
    assert "waiting for it: cannot connect" in worker.log


def test_a_check_asks_the_database_only_if_told_to_wait_for_it(
    pgflow: RunsPgflow, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").write_text("import pgflow_cli\n\napp = pgflow_cli.App()\n")
    check = ("work", "--check", "--app", "jobs.py")
    nowhere = {"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/nowhere"}
    assert pgflow(*check, env=nowhere).returncode == 0
    assert pgflow(*check, "--wait-for-db", "0s", env=nowhere).returncode == 69
    assert pgflow(*check, "--wait-for-db", "30s").returncode == 0


def test_a_standby_is_no_database_to_work_with(
    pgflow: RunsPgflow, tmp_path: Path
) -> None:
    """It answers, and nothing can be leased there before it is promoted."""
    (tmp_path / "jobs.py").write_text("import pgflow_cli\n\napp = pgflow_cli.App()\n")
    modes = [["--drain"], ["--once"], ["--check", "--app", "jobs.py"]]
    with a_standby() as (_, url, promote):
        there = {"DATABASE_URL": url}
        for mode in modes:
            done = pgflow("work", *mode, "--wait-for-db", "0s", env=there)
            assert done.returncode == 69, done.stderr
            assert "is in recovery and takes no writes" in done.stderr
        promote()
        done = pgflow("work", "--drain", "--wait-for-db", "30s", env=there)
        assert done.returncode == 0, done.stderr


def test_how_long_it_waits_follows_from_what_it_is_to_do() -> None:
    def patience(
        *, drain: bool = False, once: bool = False, given: object = None
    ) -> float:
        options: Any = SimpleNamespace(drain=drain, once=once, wait_for_db=given)
        return work._patience(options)

    assert patience() == math.inf
    assert patience(drain=True) == patience(once=True) == 30
    assert patience(given=0.0) == 0
