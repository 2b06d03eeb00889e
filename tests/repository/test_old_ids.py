"""An id whose job is in the archive, or has been pruned, is not run again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli.errors import OutOfRange
from pgflow_cli.maintenance import MaintenancePlan, Pass
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.repository import Database, Repository
from tests.conftest import RunsPgflow
from tests.repository.test_archive import succeed
from tests.support.days import plant_day
from tests.support.jobs import plant, status_of

Connection = psycopg.Connection[Any]
Enqueues = Callable[[str], str]
ANCIENT = "01700000-0000-7000-8000-000000000001"  # of July 2022
OLDER = "01600000-0000-7000-8000-000000000001"
PRUNED = "whose jobs have been pruned"

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")


@pytest.fixture
def maintain(database: Any) -> Callable[..., None]:
    def run(*tasks: str, **plan: Any) -> None:
        Pass(
            Database(database.url), MaintenancePlan(sleep=0.0, tasks=tasks, **plan)
        ).run()

    return run


@pytest.fixture(params=["one", "many", "python"])
def enqueue(
    request: pytest.FixtureRequest, repository: Repository, connection: Connection
) -> Enqueues:
    """Enqueue a job of a given id, once through each gate."""

    def one(job_id: str) -> str:
        return repository.enqueue.enqueue(
            "noop", "{}", options=JobOptions(), job_id=job_id
        )

    def many(job_id: str) -> str:
        fields = {"job_type": "noop", "payload_json": {}}
        jobs = json.dumps([fields, {**fields, "job_id": job_id}])
        return repository.enqueue.enqueue_many(jobs, options=JobOptions())[1]

    def python(job_id: str) -> str:
        return pgflow_cli.enqueue(connection, "noop", {}, job_id=job_id)

    return {"one": one, "many": many, "python": python}[request.param]


def archive(connection: Connection, job_id: str, maintain: Any) -> None:
    """Let a job that waits have succeeded, and go to the archive by itself."""
    succeed(connection, job_id, "30 days")
    maintain("archive")
    rows = connection.execute(
        "select count(*) from pgflow.jobs_archive where id = %s", (job_id,)
    ).fetchone()
    assert rows == (1,)


def waits(connection: Connection, job_id: str) -> bool:
    row = connection.execute(
        "select exists (select from pgflow.pending where job_id = %s)"
        " or exists (select from pgflow.jobs where id = %s)",
        (job_id, job_id),
    ).fetchone()
    assert row is not None
    return bool(row[0])


def test_an_id_in_the_archive_is_the_same_job(
    connection: Connection, enqueue: Enqueues, maintain: Any
) -> None:
    enqueue(ANCIENT)
    archive(connection, ANCIENT, maintain)
    assert enqueue(ANCIENT) == ANCIENT
    assert not waits(connection, ANCIENT)
    assert status_of(connection, ANCIENT) == "succeeded"


def test_an_id_of_a_day_that_was_archived_as_a_whole_is_the_same_job(
    connection: Connection, enqueue: Enqueues, maintain: Any
) -> None:
    day = plant_day(connection, 9, 5)
    [job, *_] = day.ids(connection)
    maintain("archive")
    assert day.ids(connection) == []
    assert enqueue(job) == job
    assert not waits(connection, job)


def test_an_id_whose_day_was_pruned_is_refused_and_later_ones_are_not(
    connection: Connection, enqueue: Enqueues, maintain: Any
) -> None:
    day = plant_day(connection, 20, 5)
    [job, *_] = day.ids(connection)
    maintain("archive")
    maintain("prune")
    assert day.ids(connection, "jobs_archive") == []
    with pytest.raises(OutOfRange, match=PRUNED):
        enqueue(job)
    with pytest.raises(OutOfRange, match=PRUNED):
        enqueue(ANCIENT)  # whether it was there once is not known
    assert not waits(connection, job)
    lately = plant_day(connection, 5, 1).ids(connection)[0]
    younger = lately[:-1] + ("1" if lately[-1] == "0" else "0")
    assert enqueue(younger) == younger
    assert waits(connection, younger)


def test_a_job_that_still_waits_is_the_same_job_however_old_its_id(
    connection: Connection, enqueue: Enqueues, maintain: Any
) -> None:
    enqueue(ANCIENT)
    plant_day(connection, 20, 5)
    maintain("archive")
    maintain("prune")
    assert enqueue(ANCIENT) == ANCIENT
    rows = connection.execute(
        "select count(*) from pgflow.pending where job_id = %s", (ANCIENT,)
    ).fetchone()
    assert rows == (1,)


def test_ids_of_the_past_pass_where_nothing_was_pruned(
    connection: Connection, enqueue: Enqueues, maintain: Any
) -> None:
    plant_day(connection, 9, 5)
    maintain("archive")
    assert enqueue(ANCIENT) == ANCIENT
    assert waits(connection, ANCIENT)


@pytest.mark.parametrize("kind", ["stray", "canceled", "dead"])
def test_whatever_removes_a_job_for_good_remembers_its_id(
    connection: Connection, enqueue: Enqueues, maintain: Any, kind: str
) -> None:
    enqueue(ANCIENT)
    if kind == "stray":
        archive(connection, ANCIENT, maintain)
        maintain("prune")
    else:
        connection.execute("delete from pgflow.pending where job_id = %s", (ANCIENT,))
        connection.execute(
            "insert into pgflow.canceled_jobs (job_id, canceled_at, queue, canceled_by)"
            " values (%s, now() - interval '1 year', 'default', 'me')"
            if kind == "canceled"
            else "insert into pgflow.dead_letters (job_id, resolved_at, resolution,"
            " attempt_no, failed_attempts, queue, job_type, dlq_reason_code) values"
            " (%s, now() - interval '1 year', 'discarded', 1, 1, 'default', 'noop',"
            " 'X')",
            (ANCIENT,),
        )
        maintain("prune", dlq_retention=90 * 86_400.0)
    assert not waits(connection, ANCIENT)
    with pytest.raises(OutOfRange, match=PRUNED):
        enqueue(ANCIENT)


def test_ids_that_the_database_makes_are_never_refused(
    connection: Connection, repository: Repository
) -> None:
    connection.execute(
        "update pgflow.history_marks set archived_until = %(last)s,"
        " pruned_until = %(last)s",
        {"last": "ffffffff-ffff-ffff-ffff-ffffffffffff"},
    )
    assert len(plant(connection, 2)) == 2
    text = json.dumps([{"job_type": "noop", "payload_json": {}}] * 3)
    assert len(repository.enqueue.enqueue_many(text, options=JobOptions())) == 3


def test_a_batch_with_a_pruned_id_is_refused_with_its_ordinals(
    connection: Connection, repository: Repository, maintain: Any
) -> None:
    plant_day(connection, 20, 5)
    maintain("archive")
    maintain("prune")
    fields = {"job_type": "noop", "payload_json": {}}
    jobs = [fields, {**fields, "job_id": ANCIENT}, fields, {**fields, "job_id": OLDER}]
    with pytest.raises(OutOfRange, match="job 2: ") as refused:
        repository.enqueue.enqueue_many(json.dumps(jobs), options=JobOptions())
    assert refused.value.details["ordinals"] == [2, 4]
    assert connection.execute("select count(*) from pgflow.pending").fetchone() == (0,)


def test_an_archived_id_is_not_charged_again(
    connection: Connection, enqueue: Enqueues, maintain: Any
) -> None:
    enqueue(ANCIENT)
    archive(connection, ANCIENT, maintain)
    connection.execute("delete from pgflow.pending; delete from pgflow.jobs")
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_enqueue_per_minute)"
        " values ('default', 1)"
    )
    assert enqueue(ANCIENT) == ANCIENT
    assert not waits(connection, ANCIENT)


@pytest.mark.direct
def test_a_job_that_is_archived_while_it_is_enqueued_again_is_the_same_job(
    database: Any,
    connection: Connection,
    enqueue: Enqueues,
    wait_until: Callable[..., Any],
) -> None:
    """The archive's row is not committed when the enqueue begins."""
    enqueue(ANCIENT)
    succeed(connection, ANCIENT, "30 days")
    results: list[str] = []
    with psycopg.connect(database.url) as archiving:
        archiving.execute(
            "with gone as (delete from pgflow.jobs where id = %s"
            " returning id, queue, job_type, payload),"
            " marked as (update pgflow.history_marks set archived_until = %s)"
            " insert into pgflow.jobs_archive (id, queue, job_type, payload)"
            " select id, queue, job_type, payload from gone",
            (ANCIENT, ANCIENT),
        )
        thread = threading.Thread(target=lambda: results.append(enqueue(ANCIENT)))
        thread.start()
        pid = archiving.info.backend_pid
        with psycopg.connect(database.url, autocommit=True) as looking:
            wait_until(
                lambda: (
                    looking.execute(
                        "select exists (select from pg_stat_activity"
                        " where %s = any(pg_blocking_pids(pid)))",
                        (pid,),
                    ).fetchone()
                    == (True,)
                ),
                "it waits for the row that is being moved",
            )
        archiving.commit()
    thread.join()
    assert results == [ANCIENT]
    assert not waits(connection, ANCIENT)


def test_an_id_that_is_there_twice_is_explained_named_and_mended(
    pgflow: RunsPgflow, database: Any, connection: Connection, maintain: Any
) -> None:
    """As older releases made it."""
    [job] = plant(connection)
    succeed(connection, job, "30 days")
    for table in ("jobs", "job_successes"):
        connection.execute(
            f"insert into pgflow.{table}_archive select * from pgflow.{table}"
        )
    connection.execute("delete from pgflow.job_successes")
    connection.execute(
        "insert into pgflow.pending (queue, rank, run_at, job_id, job_type)"
        " values ('default', 0, now(), %s, 'noop')",
        (job,),
    )
    told = pgflow("explain", job)
    assert told.returncode == 0, told.stderr
    seen = pgflow("doctor", "--check", "audit", "-o", "json")
    [found] = json.loads(seen.stdout)["items"]
    assert f"1 jobs in two places: {job}" in found["detail"]
    statement, command = found["fix"].split(";")
    connection.execute(statement)
    done = pgflow(*command.split()[1:], "--confirm", database.name)
    assert done.returncode == 0, done.stderr
    assert status_of(connection, job) == "succeeded"


@pytest.mark.parametrize("batch", [False, True])
def test_the_command_line_says_so(
    pgflow: RunsPgflow, connection: Connection, maintain: Any, batch: bool
) -> None:
    plant_day(connection, 20, 5)
    maintain("archive")
    maintain("prune")
    if batch:
        line = json.dumps({"job_type": "noop", "payload_json": {}, "job_id": ANCIENT})
        done = pgflow("enqueue", "--batch", "-", input=f"{line}\n")
    else:
        done = pgflow("enqueue", "noop", "{}", "--id", ANCIENT)
    assert done.returncode == 2
    assert PRUNED in done.stderr
