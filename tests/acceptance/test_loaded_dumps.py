"""`psql < dump` over a schema in use, as the first runbook had it typed: nothing that
has finished runs again.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_cli.repository import Repository
from tests.acceptance.conftest import Worker
from tests.conftest import RunsPgflow
from tests.repository.test_audit import attempt
from tests.repository.test_cycle import lease
from tests.support.backup_tools import dump_plain, found_clients
from tests.support.jobs import audit, expire_leases, plant, status_of, successes
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]
Witness = Callable[[str], list[tuple[str, int]]]
REASON = "a dump was loaded over this database while its tables were there"


class Psql:
    """Types what the runbook has typed."""

    def __init__(self, server: Server, database: Database) -> None:
        self.clients, self.database = found_clients(server), database

    def dump(self, *options: str) -> bytes:
        return dump_plain(self.clients, self.database, *options)

    def load(self, dump: bytes, **environment: str) -> str:
        """Load a dump as the seed does, without an option; return the errors."""
        done = subprocess.run(
            [self.clients.program("psql"), "-d", self.database.url],
            input=dump,
            env=environment,
            check=True,  # in spite of each error
            capture_output=True,
        )
        return done.stderr.decode()

    def statement(self, text: str) -> None:
        psql = [self.clients.program("psql"), "-X", "-d", self.database.url, "-c", text]
        subprocess.run(psql, check=True, capture_output=True)


@pytest.fixture
def psql(server: Server, database: Database) -> Psql:
    return Psql(server, database)


def succeed(connection: Connection, repository: Any, jobs: list[str]) -> None:
    """Let jobs that wait have succeeded in the meantime."""
    connection.execute(
        "with gone as (delete from pgflow.pending where job_id = any(%s::uuid[])"
        f" returning job_id) {successes('select job_id from gone')}",
        (jobs,),
    )


def fence(repository: Repository) -> tuple[bool, str | None]:
    identity = repository.fence.read_identity()
    return identity.fenced, identity.fence_reason


def accept(pgflow: RunsPgflow, database: Database) -> str:
    done = pgflow("fence", "accept", "--no-pause", "--confirm", database.name)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_dump_loaded_beside_a_worker_runs_nothing_again(
    pgflow: RunsPgflow,
    psql: Psql,
    database: Database,
    connection: Connection,
    start_worker: Start,
    witness: Witness,
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = json.dumps({"gate": str(tmp_path / "gate")})
    [running] = plant(connection, job_type="gated", payload=gate)
    finished = plant(connection, 3, job_type="seen", queue="late")
    worker = start_worker("--poll", "20ms", "--lease-seconds", "3")
    wait_until(lambda: witness(running), "it runs")
    dump = psql.dump()
    start_worker("--poll", "20ms", "--queue", "late")
    wait_until(
        lambda: all(status_of(connection, job) == "succeeded" for job in finished),
        "they run",
    )

    assert "already exists" in psql.load(dump)
    assert audit(connection) == (0, 3)
    after = plant(connection, job_type="seen")
    wait_until(lambda: "the database is fenced" in worker.log, "the worker says so")
    status = pgflow("fence", "status", "--exit-code")
    assert status.returncode == 5
    assert REASON in status.stdout
    told = pgflow("explain", after[0])
    assert "FENCED" in told.stdout
    assert REASON in told.stdout
    seen = pgflow("doctor", "--check", "audit", "-o", "json")
    [found] = json.loads(seen.stdout)["items"]
    assert "3 jobs in two places" in found["detail"]
    assert all(job in found["detail"] for job in finished)
    assert "pgflow fence accept" in found["fix"]

    assert "removed 3 rows that the dump had brought back" in accept(pgflow, database)
    assert audit(connection) == (0, 0)
    wait_until(lambda: status_of(connection, after[0]) == "succeeded", "it runs")
    (tmp_path / "gate").touch()
    wait_until(lambda: status_of(connection, running) == "succeeded", "it ends")
    for job in finished:
        assert [event for event, _ in witness(job)] == ["start", "end"]
    assert audit(connection) == (0, 0)


@pytest.mark.parametrize("what", ["inserts", "data only", "replica", "archive"])
def test_the_fence_rises_however_a_dump_is_loaded(
    psql: Psql, connection: Connection, repository: Repository, what: str
) -> None:
    jobs = plant(connection, 2)
    options = {
        "inserts": ["--inserts", "--on-conflict-do-nothing"],
        "data only": ["--data-only"],
        "archive": ["--format=custom"],
    }
    dump = psql.dump(*options.get(what, ()))
    succeed(connection, repository, jobs)
    if what == "archive":
        command = [psql.clients.program("pg_restore"), "-d", psql.database.url]
        subprocess.run(command, input=dump, check=False, capture_output=True)
    else:
        role = {"PGOPTIONS": "-c session_replication_role=replica"}
        psql.load(dump, **(role if what == "replica" else {}))
    assert fence(repository) == (True, REASON)
    assert lease(repository) == []


_TRIP_WIRES = ("a_restore_marker", "maintenance_lock", "enqueue_counters")


@pytest.mark.parametrize("options", [[], ["--data-only"]], ids=["all", "data"])
@pytest.mark.parametrize("lacking", [1, 2, 3])
def test_a_dump_of_before_the_trip_wire_raises_the_fence_too(
    psql: Psql, connection: Connection, repository: Repository, lacking: int,
    options: list[str],
) -> None:  # fmt: skip
    """Those of before the first release lack tables that a trigger watches."""
    jobs = plant(connection, 2)
    without = [f"--exclude-table=pgflow.{name}" for name in _TRIP_WIRES[:lacking]]
    dump = psql.dump(*options, *without)
    assert not any(
        f"COPY pgflow.{name} ".encode() in dump for name in _TRIP_WIRES[:lacking]
    )
    succeed(connection, repository, jobs)
    psql.load(dump)
    assert audit(connection) == (0, 2)
    assert fence(repository) == (True, REASON)
    assert repository.fence.remove_loaded_rows() == 2
    assert audit(connection) == (0, 0)


def test_what_is_no_dump_does_not_trip(
    connection: Connection, repository: Repository
) -> None:
    """Our own statements fill the same tables, and so may a trigger of a COPY."""
    repository.leases.declare_error_codes(
        [{"code": "SLOW", "retry_class": "retry", "suggested_action": "wait"}]
    )
    connection.execute(
        "create table error_codes (code text); create function enqueue_it()"
        " returns trigger language plpgsql as $$ begin"
        " perform pgflow.enqueue('noop', max_enqueue_per_minute => 9);"
        " return null; end $$;"
        " create trigger enqueue_it after insert on error_codes"
        " for each row execute function enqueue_it()"
    )
    with connection.cursor().copy("COPY error_codes FROM STDIN") as copy:
        copy.write_row(("X",))
    connection.execute("select pgflow.enqueue('noop', max_enqueue_per_minute => 9)")
    # The server ends a comment at a carriage return, too: this enqueues.
    connection.execute(
        b"--\rselect pgflow.enqueue('noop', max_enqueue_per_minute => 9); /*\n"
        b"INSERT INTO pgflow.enqueue_counters */"
    )
    for table in ("enqueue_counters", "error_codes"):
        rows = connection.execute(f"select count(*) from pgflow.{table}").fetchone()
        assert rows == (1,)
    assert fence(repository) == (False, None)


def test_jobs_that_were_pruned_since_the_dump_do_not_run_again(
    pgflow: RunsPgflow, psql: Psql, database: Database, connection: Connection,
    repository: Repository,
) -> None:  # fmt: skip
    """What waits or runs with as old an id as theirs stays."""
    waits, running, succeeded, canceled, dead = plant(connection, 5)
    dump = psql.dump("--inserts")
    connection.execute("delete from pgflow.pending where job_id <> %s", (waits,))
    connection.execute(
        "insert into pgflow.leases (batch_id, worker_id, queue, worker_name,"
        " expires_at, job_ids, attempt_nos) values (gen_random_uuid(),"
        " gen_random_uuid(), 'default', 'w', now(), array[%s::uuid], array[1])",
        (running,),
    )
    prune(connection, succeeded, canceled, dead)
    psql.load(dump)
    # It was given back meanwhile: its entry is young, and its job is not.
    connection.execute(
        "with gone as (delete from pgflow.leases returning job_ids)"
        " insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no,"
        " job_type) select 'default', 0, now(), job_ids[1], 1, 'noop' from gone"
    )
    assert "removed 7 rows that the dump had brought back" in accept(pgflow, database)
    rows = connection.execute("select job_id::text from pgflow.pending order by 1")
    assert [row[0] for row in rows] == sorted([waits, running])
    rows = connection.execute("select id::text from pgflow.jobs order by 1")
    assert [row[0] for row in rows] == sorted([waits, running])
    assert audit(connection) == (0, 0)


def test_a_number_of_another_server_removes_nothing(
    connection: Connection, repository: Repository
) -> None:
    """As where a dump of a database with a raised fence has been restored."""
    plant(connection)
    connection.execute(
        "update pgflow.database_identity set load_began = '3', table_oid = 1,"
        " load_pruned_until = 'ffffffff-ffff-ffff-ffff-ffffffffffff'"
    )
    assert repository.fence.remove_loaded_rows() == 0


def prune(connection: Connection, *jobs: str) -> None:
    """Remove jobs as `maintain` does once they have rested, and remember how far."""
    connection.execute("delete from pgflow.jobs where id = any(%s::uuid[])", ([*jobs],))
    connection.execute(
        "update pgflow.history_marks set pruned_until = %s::uuid", (max(jobs),)
    )


def test_a_dump_that_is_loaded_into_nothing_does_not_trip(
    psql: Psql, connection: Connection, repository: Repository
) -> None:
    plant(connection)
    dump = psql.dump()
    connection.execute("drop schema pgflow cascade")
    psql.load(dump)
    identity = repository.fence.read_identity()
    assert identity.difference == "OTHER_TABLES"
    assert identity.fence_reason is None
    assert not repository.fence.count_interrupted().loaded_over


def test_one_transaction_that_stops_at_the_first_error_changes_nothing(
    psql: Psql, connection: Connection, repository: Repository
) -> None:
    """As the runbook has it typed now."""
    jobs = plant(connection, 2)
    dump = psql.dump()
    succeed(connection, repository, jobs)
    command = [psql.clients.program("psql"), "-v", "ON_ERROR_STOP=1"]
    command += ["--single-transaction", "-d", psql.database.url]
    done = subprocess.run(command, input=dump, check=False, capture_output=True)
    assert done.returncode == 3
    assert audit(connection) == (0, 0)
    assert fence(repository) == (False, None)


def test_an_acceptance_leaves_every_job_in_one_place_and_numbers_go_on(
    pgflow: RunsPgflow, psql: Psql, database: Database, connection: Connection,
    repository: Repository,
) -> None:  # fmt: skip
    """What was loaded: entries of jobs that ended, a lease, jobs since archived."""
    jobs = plant(connection, 6)
    [leased] = lease(repository, room=1)
    ended, dead, canceled, archived = jobs[1:5]
    dump = psql.dump()
    for number in range(3):
        pgflow("queues", "set-policy", f"q{number}", "--max-in-flight", "5", "--yes")
    connection.execute("delete from pgflow.leases; delete from pgflow.pending")
    connection.execute(
        "insert into pgflow.pending (queue, rank, run_at, job_id, attempt_no, job_type)"
        " values ('default', 0, now() + interval '1 hour', %s, 0, 'noop')",
        (leased.job_id,),
    )
    for job, status in (
        (ended, "succeeded"),
        (archived, "succeeded"),
        (dead, "failed"),
    ):
        attempt(connection, job, status)
    connection.execute(
        "insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts, queue,"
        " job_type, dlq_reason_code) values (%s, 1, 1, 'default', 'noop', 'X')",
        (dead,),
    )
    connection.execute(
        "insert into pgflow.canceled_jobs (job_id, queue, canceled_by)"
        " values (%s, 'default', 'me')",
        (canceled,),
    )
    connection.execute(
        "with gone as (delete from pgflow.jobs returning id, queue, job_type, payload)"
        " insert into pgflow.jobs_archive (id, queue, job_type, payload)"
        " select id, queue, job_type, payload from gone where id = %s",
        (archived,),
    )
    connection.execute(
        "with gone as (delete from pgflow.job_successes where first_id = %s"
        " returning *) insert into pgflow.job_successes_archive select * from gone",
        (archived,),
    )
    psql.load(dump)  # the jobs come back, too, and so do entries and the lease
    assert audit(connection)[1] >= 4
    expire_leases(connection)
    assert accept(pgflow, database)
    assert audit(connection) == (0, 0)
    assert status_of(connection, ended) == "succeeded"
    assert status_of(connection, dead) == "dlq"
    assert status_of(connection, canceled) == "canceled"
    assert status_of(connection, archived) == "succeeded"
    assert status_of(connection, jobs[5]) == "queued"
    rows = connection.execute("select count(*) from pgflow.a_restore_marker").fetchone()
    assert rows == (1,)
    done = pgflow("queues", "set-policy", "q3", "--max-in-flight", "5", "--yes")
    assert done.returncode == 0, done.stderr
