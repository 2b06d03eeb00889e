"""`maintain` forgets queues that are unused, and never one that a job needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli.maintenance import tasks
from pgflow_cli.maintenance.run import MaintenancePlan, Pass
from pgflow_cli.models.maintenance import TaskReport
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support.jobs import plant_dead
from tests.support.servers import Database

pytestmark = pytest.mark.usefixtures("every_job_in_one_place")

Connection = psycopg.Connection[Any]
STEPS = ("retire", "list", "forget", "later")


@pytest.fixture
def maintain(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TaskReport]:
    """Forget what is unused; for no open transaction is it waited."""
    monkeypatch.setattr(tasks, "_PATIENCE", 0.0)

    def run(**options: Any) -> TaskReport:
        plan = MaintenancePlan(tasks=("queues",), sleep=0.0, **options)
        return Pass(DatabaseSettings(database.url), plan).run()[0]

    return run


@pytest.fixture
def held(database: Database) -> Iterator[Connection]:
    """Begin a transaction when it is first used."""
    with psycopg.connect(database.url) as own:
        own.execute("set lock_timeout = '1ms'")
        own.commit()
        yield own


def plant(connection: Connection, *queues: str) -> None:
    """Plant queues that have been unused for a month."""
    connection.execute(
        "insert into pgflow.queue_ranks (queue, rank, used_at)"
        " select unnest(%s::text[]), 0, now() - interval '30 days'",
        (list(queues),),
    )


def places(connection: Connection) -> list[str]:
    rows = connection.execute("select queue from pgflow.places order by queue")
    return [row[0] for row in rows]


def test_what_is_unused_for_as_long_as_history_is_kept_is_forgotten(
    connection: Connection, maintain: Callable[..., TaskReport]
) -> None:
    plant(connection, *(f"made-up-{n}" for n in range(7)))
    pgflow_cli.enqueue(connection, "a", queue="young")
    connection.execute("delete from pgflow.pending")
    connection.execute("delete from pgflow.jobs")
    assert maintain(batch_size=3, dry_run=True).rows == 7
    report = maintain(batch_size=3)
    assert (report.result, report.rows, report.batches) == ("ok", 7, 3)
    assert places(connection) == ["young"]


def test_what_is_in_use_stays(
    connection: Connection, maintain: Callable[..., TaskReport]
) -> None:
    plant(connection, "waits", "runs", "dead", "lately", "unused")
    pgflow_cli.enqueue(connection, "a", queue="waits", delay="1d")
    pgflow_cli.enqueue(connection, "a", queue="runs")
    connection.execute(
        "with taken as (delete from pgflow.pending where queue = 'runs'"
        " returning job_id, queue)"
        " insert into pgflow.leases (batch_id, worker_id, worker_name, queue,"
        " expires_at, job_ids, attempt_nos) select gen_random_uuid(),"
        " gen_random_uuid(), 'w', queue, now() + interval '1 minute', array[job_id],"
        " array[1] from taken"
    )
    plant_dead(connection, 1, queue="dead")
    connection.execute(
        "insert into pgflow.queue_rates (queue, since) values ('lately', now())"
    )
    assert maintain().rows == 1
    assert places(connection) == ["dead", "lately", "runs", "waits"]
    [found] = connection.execute(
        "select count(*) from pgflow.queue_ranks where used_at < now() - interval '1h'"
    )
    assert found == (0,)


def test_a_row_for_each_place_is_enough(
    connection: Connection, maintain: Callable[..., TaskReport]
) -> None:
    for _ in range(3):
        connection.execute("insert into pgflow.queue_ranks values ('q', 0), ('q', 1)")
    maintain()
    rows = connection.execute("select queue, rank from pgflow.queue_ranks").fetchall()
    assert sorted(rows) == [("q", 0), ("q", 1)]


@pytest.mark.direct
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_no_job_is_without_its_place_whenever_it_is_enqueued(
    connection: Connection,
    repository: Repository,
    held: Connection,
    maintain: Callable[..., TaskReport],
    isolation: str,
    ends: str,
) -> None:
    """A producer's transaction begins, enqueues and ends before each of the steps."""
    level = f"set session characteristics as transaction isolation level {isolation}"
    held.execute(level.encode())
    held.commit()

    for begins, enqueues, ended in combinations_with_replacement(STEPS, 3):
        queue = f"{begins}-{enqueues}-{ended}"
        plant(connection, queue)

        def produce(step: str) -> None:
            if step == begins:  # noqa: B023
                held.execute("select count(*) from pgflow.queue_ranks")  # its snapshot
            if step == enqueues:  # noqa: B023
                pgflow_cli.enqueue(held, "a", queue=queue)  # noqa: B023
            if step == ended:  # noqa: B023
                held.commit() if ends == "commit" else held.rollback()

        [(now,)] = connection.execute("select now()").fetchall()
        produce("retire")
        ids = repository.maintenance.retire_places(now, tasks._LEAST, limit=10)
        produce("list")
        older = repository.maintenance.list_transactions().keys()
        produce("forget")
        if ids and not older & repository.maintenance.list_transactions().keys():
            repository.maintenance.forget_places(ids)
        produce("later")
        [(waiting,)] = connection.execute("select count(*) from pgflow.pending")
        assert waiting == (1 if ends == "commit" else 0), queue
        assert places(connection) == [queue] or ends == "rollback", queue
        maintain()
        assert places(connection) == ([queue] if waiting else []), queue
        connection.execute("delete from pgflow.pending")
        connection.execute("delete from pgflow.jobs")
        connection.execute("delete from pgflow.queue_ranks")


def test_an_open_transaction_puts_it_off_and_the_next_pass_goes_on(
    connection: Connection, held: Connection, maintain: Callable[..., TaskReport]
) -> None:
    plant(connection, "one", "two")
    pgflow_cli.enqueue(held, "a", queue="one")
    report = maintain()
    assert (report.rows, report.detail) == (0, "1 open transactions first")
    assert places(connection) == ["one", "two"]  # a lease finds what is committed now
    held.commit()
    assert maintain().rows == 2
    assert places(connection) == ["one"]
    assert maintain().rows == 0


def test_a_job_that_comes_back_finds_its_place(
    connection: Connection, pgflow: RunsPgflow, maintain: Callable[..., TaskReport]
) -> None:
    """What runs has no entry; a reaper gives it back to any rank of its queue."""
    plant(connection, "runs")
    pgflow_cli.enqueue(connection, "a", queue="runs", priority=5)
    connection.execute(
        "with taken as (delete from pgflow.pending returning job_id, queue)"
        " insert into pgflow.leases (batch_id, worker_id, worker_name, queue,"
        " expires_at, job_ids, attempt_nos) select gen_random_uuid(),"
        " gen_random_uuid(), 'w', queue, now() - interval '1 minute', array[job_id],"
        " array[1] from taken"
    )
    connection.execute(
        "update pgflow.queue_ranks set used_at = now() - interval '30 days'"
    )
    maintain()
    assert pgflow("maintain", "--task", "reap").returncode == 0
    rows = connection.execute(
        "select rank in (select rank from pgflow.places) from pgflow.pending"
    ).fetchall()
    assert rows == [(True,)]


def test_counters_of_forgotten_queues_go_on_as_other(
    connection: Connection, maintain: Callable[..., TaskReport]
) -> None:
    plant(connection, "one", "two")
    connection.execute(
        "insert into pgflow.worker_counters"
        " (supervisor_id, metric, queue, job_type, count) select gen_random_uuid(),"
        " 'arrivals', queue, 'a' || n, 5 from (values ('one'), ('two'), ('kept'))"
        " as known (queue), generate_series(1, 2) as n"
    )
    maintain()
    rows = connection.execute(
        "select queue, job_type, count from pgflow.worker_counters order by 1, 2"
    ).fetchall()
    assert rows == [("kept", "a1", 5), ("kept", "a2", 5), ("other", "other", 20)]


def test_the_bound_is_shown_set_and_recorded(
    connection: Connection, pgflow: RunsPgflow
) -> None:
    pgflow_cli.enqueue(connection, "a")
    shown = json.loads(pgflow("queues", "bound", "-o", "json").stdout)
    assert shown == {"max_queues": 1000, "in_use": 1}
    assert pgflow("queues", "bound", "0").returncode == 2
    assert pgflow("queues", "bound", "1").returncode == 4, "less asks first"
    assert pgflow("queues", "bound", "1", "--yes").returncode == 0
    refused = pgflow("enqueue", "a", "{}", "--queue", "two")
    assert refused.returncode == 4
    assert "pgflow queues bound" in refused.stderr
    rows = connection.execute(
        "select action, details_json from pgflow.operator_actions"
    ).fetchall()
    assert rows == [("queues.bound", {"changed": {"max_queues": [1000, 1]}})]


def test_a_prepared_transaction_puts_it_off(
    connection: Connection, held: Connection, maintain: Callable[..., TaskReport]
) -> None:
    """It has no session, and its job is there once it is committed."""
    plant(connection, "q")
    held.tpc_begin(held.xid(1, "gtrid", "bqual"))
    pgflow_cli.enqueue(held, "a", queue="q")
    held.tpc_prepare()
    assert maintain().rows == 0
    held.tpc_commit()
    assert maintain().rows == 1
    assert places(connection) == ["q"]
