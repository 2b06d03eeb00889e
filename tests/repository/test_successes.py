"""What has succeeded is kept in arrays, and found as if each attempt had a row."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.models.jobs import LeasedJob
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.repository.test_cycle import IDLE, failure, lease, settle, success
from tests.repository.test_overview import nodes
from tests.support.jobs import attempts_of, audit, make_due, plant, status_of

Connection = psycopg.Connection[Any]


def rows(connection: Connection) -> list[list[str]]:
    """Return the jobs of each row of successes, in the order of their ids."""
    found = connection.execute(
        "select job_ids::text[] from pgflow.job_successes order by first_id"
    ).fetchall()
    return [row[0] for row in found]


def held(connection: Connection) -> list[str]:
    """Return the jobs that leases name."""
    return [
        row[0]
        for row in connection.execute(
            "select unnest(job_ids)::text from pgflow.leases order by 1"
        ).fetchall()
    ]


def plant_of(connection: Connection, ago: str, count: int = 1) -> list[str]:
    """Enqueue jobs whose ids are of some time ago."""
    made = connection.execute(
        "select pgflow.uuid7_at("
        "  (extract(epoch from now() - %s::interval) * 4096000)::bigint + n)::text"
        " from generate_series(1, %s) as n",
        (ago, count),
    ).fetchall()
    for (job_id,) in made:
        connection.execute("select pgflow.enqueue('noop', job_id => %s)", (job_id,))
    return [row[0] for row in made]


def ended(connection: Connection, jobs: list[LeasedJob]) -> list[list[Any]]:
    """Return the rows of any_attempts for jobs."""
    return [
        [
            list(row)
            for row in connection.execute(
                "select attempt_no, status, started_at, finished_at, worker_name,"
                " code_version, lease_id::text from pgflow.any_attempts"
                " where job_id = %s order by attempt_no",
                (job.job_id,),
            ).fetchall()
        ]
        for job in jobs
    ]


def test_what_one_statement_settles_of_a_lease_is_one_row(
    connection: Connection, repository: Repository
) -> None:
    planted = plant(connection, 5)
    jobs = lease(repository)
    settle(repository, *(success(job) for job in reversed(jobs[:3])))
    assert rows(connection) == [planted[:3]]
    assert held(connection) == planted[3:]
    settle(repository, *map(success, jobs[3:]), closed=[jobs[0].lease_id])
    assert rows(connection) == [planted[:3], planted[3:]]
    assert connection.execute("select from pgflow.leases").fetchall() == []
    assert {status_of(connection, job) for job in planted} == {"succeeded"}


def test_each_lease_has_a_row_of_its_own(
    connection: Connection, repository: Repository
) -> None:
    first, second = plant(connection), plant(connection, queue="emails")
    jobs = lease(repository, queues=None)
    assert len({job.lease_id for job in jobs}) == 2
    settle(repository, *map(success, jobs))
    assert rows(connection) == [first, second]


@pytest.mark.parametrize("ago", ["3 minutes", "25 hours", "400 days"])
def test_the_ids_of_a_row_are_of_one_minute(
    connection: Connection, repository: Repository, ago: str
) -> None:
    """So that they are of one day, and a job that ran late widens no row of others."""
    old, new = plant_of(connection, ago, 2), plant_of(connection, "0 s", 2)
    jobs = lease(repository)
    settle(repository, *map(success, jobs))
    assert rows(connection) == [old, new]
    for job in (*old, *new):
        assert attempts_of(connection, job) == [(1, "succeeded", None)]
        assert status_of(connection, job) == "succeeded"
    assert audit(connection) == (0, 0)


def test_an_attempt_reads_as_if_it_had_a_row(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    jobs = lease(repository)
    connection.execute(
        "update pgflow.leases set leased_at = leased_at - interval '1 hour'"
    )
    settle(
        repository,
        success(jobs[0], started_ago=7.25, ended_ago=0.5),
        success(jobs[1], started_ago=0.25, ended_ago=0.25),
        success(jobs[2], started_ago=86_400.0),
        code_version="abc",
    )
    [[one], [two], [three]] = ended(connection, jobs)
    name = IDLE.worker_name
    for row in (one, two, three):
        assert row[:2] == [1, "succeeded"]
        assert row[4:] == [name, "abc", jobs[0].lease_id]
    assert (one[3] - one[2]).total_seconds() == pytest.approx(6.75, abs=1e-5)
    assert two[3] == two[2]
    # Not before its lease.
    assert (three[3] - three[2]).total_seconds() == pytest.approx(3600, abs=60)
    told = repository.explanation.describe_job(jobs[0].job_id).attempts
    assert [attempt.latency_ms for attempt in told] == pytest.approx([6750], abs=0.1)


def test_a_job_that_succeeds_in_the_end_has_all_its_attempts(
    connection: Connection, repository: Repository
) -> None:
    [job_id] = plant(connection)
    [first] = lease(repository)
    settle(repository, failure(first), closed=[first.lease_id])
    make_due(connection, job_id)
    [second] = lease(repository)
    settle(repository, success(second), closed=[second.lease_id])
    assert attempts_of(connection, job_id) == [
        (1, "failed", "DEPENDENCY_DOWN"),
        (2, "succeeded", None),
    ]
    row = connection.execute(
        "select status, attempt_no, last_error_code from pgflow.job_overview"
        " where id = %s",
        (job_id,),
    ).fetchone()
    assert row == ("succeeded", 2, "DEPENDENCY_DOWN")


def test_an_outcome_counts_only_while_the_lease_names_its_job(
    connection: Connection, repository: Repository
) -> None:
    [first, second] = plant(connection, 2)
    jobs = lease(repository)
    settle(repository, success(jobs[0]))
    again = settle(repository, success(jobs[0]))
    assert again.lost == [], "it is the same outcome"
    other = settle(repository, failure(jobs[0]))
    assert other.lost == [first]
    wrong = success(jobs[1], attempt_no=2)
    assert settle(repository, wrong).lost == [second]
    assert held(connection) == [second]
    assert rows(connection) == [[first]]


def test_two_statements_that_settle_the_same_job_are_not_both_taken(
    connection: Connection, repository: Repository
) -> None:
    """What takes a job out of its lease that is not there any more is undone."""
    [first, second] = plant(connection, 2)
    jobs = lease(repository)
    with pytest.raises(psycopg.errors.SerializationFailure):
        connection.execute(
            "select pgflow.finish_turn(array[%s]::uuid[], array[%s]::uuid[], '{}', %s,"
            " null)",
            (jobs[0].lease_id, str(uuid.uuid4()), IDLE.worker_id),
        )
    assert held(connection) == [first, second]


def test_one_success_among_many_is_found_by_an_index(
    connection: Connection, repository: Repository
) -> None:
    """In one partition of each table, whatever the others hold."""
    connection.execute(
        """
        insert into pgflow.job_successes (day, first_id, lease_id, leased_at, id_times,
          worker_name, job_ids, attempt_nos, started_ago, ended_ago)
        select ms / 86400000, id, gen_random_uuid(), now(),
          int8range(ms, ms + 20, '[]'), 'w', array_fill(id, array[256]),
          array_fill(1, array[256]),
          array_fill(0::real, array[256]), array_fill(0::real, array[256])
        from (
          select
            (extract(epoch from now()) * 1000)::bigint - 21 * n as ms,
            pgflow.uuid7_at((extract(epoch from now()) * 4096000)::bigint - 86016 * n)
              as id
          from generate_series(1, 2000) as n
        ) as made
        """
    )
    connection.execute("analyze pgflow.job_successes")
    [job_id] = plant(connection)
    [job] = lease(repository)
    settle(repository, success(job))
    [plan] = connection.execute(
        "explain (analyze, format json, timing off)"
        f" select from pgflow.job_overview where id = '{job_id}'"
    ).fetchone()[0]  # type: ignore[index]
    ran = [
        node
        for node in nodes(plan["Plan"])
        if node.get("Relation Name", "").startswith("job_successes")
        and node["Actual Loops"] > 0
    ]
    assert {node["Node Type"] for node in ran} <= {
        "Index Scan",
        "Bitmap Heap Scan",
        "Bitmap Index Scan",
    }
    assert len({node["Relation Name"] for node in ran}) <= 2
    read = sum(n["Actual Rows"] + n.get("Rows Removed by Filter", 0) for n in ran)
    assert read <= 3


def test_a_turn_that_settles_nothing_leaves_the_lease_as_it_is(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    jobs = lease(repository)
    text = "select xmin::text, ctid::text from pgflow.leases"
    before = connection.execute(text).fetchall()
    settle(repository, success(jobs[0], lease_id=str(uuid.uuid4())))
    repository.leases.settle_and_lease(replace(IDLE, room=5))
    assert connection.execute(text).fetchall() == before


@pytest.mark.parametrize(
    "table", ["job_successes", "job_attempts", "pending", "dead_letters"]
)
def test_a_heartbeat_does_not_wait_for_an_outcome_that_waits(
    connection: Connection,
    repository: Repository,
    database: Any,
    wait_until: Callable[..., Any],
    table: str,
) -> None:
    """Else a trigger that waits would cost the worker all its leases."""
    done, tried, dead, kept = plant(connection, 4)
    connection.execute(
        f"""
        create table public.held_up (id int primary key);
        insert into public.held_up values (1);
        create function public.hold_up() returns trigger language plpgsql as $$
        begin
          perform from public.held_up for update;
          return new;
        end $$;
        create trigger holds_up before insert on pgflow.{table}
        for each row execute function public.hold_up()
        """
    )
    jobs = {job.job_id: job for job in lease(repository)}
    blocker = database.connect(autocommit=False)
    blocker.execute("select from public.held_up for update")
    with ThreadPoolExecutor() as pool:
        settling = pool.submit(
            settle,
            repository,
            success(jobs[done]),
            failure(jobs[tried]),
            failure(jobs[dead], delay=None, dlq_reason_code="NON_RETRYABLE"),
        )
        try:
            wait_until(
                lambda: connection.execute(
                    "select from pg_stat_activity where wait_event_type = 'Lock'"
                ).fetchall(),
                "the outcome waits",
            )
            with closing(Repository.of(Settings(database.url))) as other:
                other.link.raw().execute("set lock_timeout = '2s'")
                beat = other.leases.beat(
                    supervisor_id=str(uuid.uuid4()),
                    workers=[],
                    lease_ids=[jobs[kept].lease_id],
                    lease_seconds=60,
                    progress={},
                )
        finally:
            blocker.rollback()
        assert beat.leases == {jobs[kept].lease_id}
        assert settling.result().lost == []
    assert held(connection) == [kept]
    assert audit(connection) == (0, 0)
