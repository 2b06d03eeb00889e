"""Limits of a queue are kept by the lease itself, and what they hold back is told."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import pytest

from pgflow_cli.models.jobs import LeaseRequest, Scan, Settlement
from pgflow_cli.repository import Database, Repository
from tests.support.jobs import audit, expire_leases, new_worker, plant


def asking(room=100, **more) -> LeaseRequest:
    """A cycle that leases from every queue."""
    return replace(
        LeaseRequest(
            worker_id=new_worker(),
            worker_name="trial",
            code_version=None,
            batch_id=str(uuid.uuid4()),
            lease_seconds=60,
            queues=None,
            job_types=None,
            room=room,
            scan=Scan(),
            settlements=[],
            closed=[],
        ),
        **more,
    )


def limit(connection, queue="default", **limits) -> None:
    names = ", ".join(limits)
    values = ", ".join(["%s"] * len(limits))
    connection.execute(
        f"insert into pgflow.queue_policies (queue, {names}) values (%s, {values})",
        (queue, *limits.values()),
    )


def success(job) -> Settlement:
    return Settlement(job.lease_id, job.job_id, job.attempt_no, "succeeded")


def decisions(connection) -> list[tuple]:
    return connection.execute(
        "select queue, decision, reason_code, count, details_json, sample_job_id::text"
        " from pgflow.policy_decisions order by reason_code"
    ).fetchall()


def test_a_queue_with_a_limit_is_told_of_and_passed_over(connection, repository):
    limit(connection, max_in_flight=2)
    plant(connection, 3)
    [other] = plant(connection, queue="free")
    reply = repository.leases.settle_and_lease(asking())
    assert [job.job_id for job in reply.jobs] == [other]
    assert (reply.limited_open, reply.limited_waiting) == (1, 1)
    assert audit(connection) == (0, 0)


def test_no_more_are_leased_than_may_be_in_flight(connection, repository):
    limit(connection, max_in_flight=2)
    ids = plant(connection, 5)
    cycle = asking()
    first = repository.leases.lease_limited(cycle)
    assert [job.job_id for job in first] == ids[:2]
    assert repository.leases.lease_limited(asking()) == []
    settle = replace(cycle, settlements=[success(first[0])], room=0)
    repository.leases.settle_and_lease(settle)
    assert [job.job_id for job in repository.leases.lease_limited(asking())] == [ids[2]]
    assert audit(connection) == (0, 0)


def test_a_lease_that_ran_out_counts_until_it_is_reaped(connection, repository):
    limit(connection, max_in_flight=1)
    plant(connection, 2)
    assert len(repository.leases.lease_limited(asking())) == 1
    expire_leases(connection)
    assert repository.leases.lease_limited(asking()) == []
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert len(repository.leases.lease_limited(asking())) == 1
    assert audit(connection) == (0, 0)


def test_attempts_of_any_minute_stay_under_the_limit(connection, repository):
    limit(connection, max_attempts_per_minute=3)
    plant(connection, 9)
    assert len(repository.leases.lease_limited(asking(room=2))) == 2
    assert len(repository.leases.lease_limited(asking())) == 1
    assert repository.leases.lease_limited(asking()) == []
    # A whole minute and the second that runs: only then is there room again.
    connection.execute(
        "update pgflow.attempt_counters set second = second - interval '59 seconds'"
    )
    assert repository.leases.lease_limited(asking()) == []
    connection.execute(
        "update pgflow.attempt_counters set second = second - interval '2 seconds'"
    )
    assert len(repository.leases.lease_limited(asking())) == 3
    assert audit(connection) == (0, 0)


def test_old_seconds_are_forgotten(connection, repository):
    limit(connection, max_attempts_per_minute=3)
    plant(connection, 2)
    repository.leases.lease_limited(asking(room=1))
    connection.execute(
        "update pgflow.attempt_counters set second = second - interval '3 minutes'"
    )
    repository.leases.lease_limited(asking(room=1))
    [(seconds,)] = connection.execute("select count(*) from pgflow.attempt_counters")
    assert seconds == 1


def test_the_lesser_of_two_limits_holds(connection, repository):
    limit(connection, max_in_flight=5, max_attempts_per_minute=2)
    plant(connection, 9)
    assert len(repository.leases.lease_limited(asking())) == 2
    [decision] = decisions(connection)
    assert decision[2] == "RETRY_RATE_EXCEEDED"


def test_priority_is_strict_inside_a_limited_queue(connection, repository):
    limit(connection, max_in_flight=1)
    plant(connection, 2)
    [urgent] = plant(connection, priority=9)
    assert [job.job_id for job in repository.leases.lease_limited(asking())] == [urgent]


def test_limited_queues_take_turns(connection, repository):
    for queue in ("a", "b", "c"):
        limit(connection, queue, max_in_flight=9)
        plant(connection, 2, queue=queue)
    after_a = asking(room=1, scan=Scan(last_queue="a"))
    assert [job.queue for job in repository.leases.lease_limited(after_a)] == ["b"]


def test_what_a_limit_holds_back_is_recorded_once_a_second(connection, repository):
    limit(connection, max_in_flight=1)
    ids = plant(connection, 3)
    repository.leases.lease_limited(asking())
    repository.leases.lease_limited(asking())
    details = {"max_in_flight": 1, "in_flight": 1}
    expected = ("default", "THROTTLED", "IN_FLIGHT_EXCEEDED", 1, details, ids[1])
    assert decisions(connection) == [expected]
    connection.execute(
        "update pgflow.policy_decisions set last_at = last_at - interval '2 seconds'"
    )
    repository.leases.lease_limited(asking())
    assert decisions(connection)[0][3] == 2


def test_nothing_is_recorded_where_nothing_waits(connection, repository):
    limit(connection, max_in_flight=1)
    plant(connection)
    plant(connection, due_in="1 hour")
    repository.leases.lease_limited(asking())
    repository.leases.lease_limited(asking())
    assert decisions(connection) == []


def test_a_throttled_queue_is_left_alone_and_its_jobs_keep_their_time(
    connection, repository
):
    limit(connection, max_in_flight=1, throttle_delay_ms=60_000)
    plant(connection, 2)
    before = connection.execute("select max(run_at) from pgflow.pending").fetchone()
    cycle = asking()
    [job] = repository.leases.lease_limited(cycle)
    repository.leases.settle_and_lease(
        replace(cycle, settlements=[success(job)], room=0)
    )
    assert repository.leases.lease_limited(asking()) == []
    reply = repository.leases.settle_and_lease(asking())
    assert (reply.limited_open, reply.limited_waiting) == (0, 1)
    after = connection.execute("select max(run_at) from pgflow.pending").fetchone()
    assert after == before
    connection.execute("update pgflow.queue_policies set throttled_until = now()")
    assert len(repository.leases.lease_limited(asking())) == 1


@pytest.mark.parametrize("column", ["max_in_flight", "max_attempts_per_minute"])
def test_a_limit_of_nothing_lets_nothing_run_and_ends_a_drain(
    connection, repository, column
):
    limit(connection, **{column: 0})
    plant(connection)
    reply = repository.leases.settle_and_lease(asking())
    assert (reply.limited_open, reply.limited_waiting) == (1, 0)
    assert repository.leases.lease_limited(asking()) == []
    assert len(decisions(connection)) == 1


def test_a_paused_queue_with_a_limit_is_not_asked(connection, repository):
    limit(connection, max_in_flight=1, paused_until="infinity")
    plant(connection)
    reply = repository.leases.settle_and_lease(asking())
    assert (reply.limited_open, reply.limited_waiting) == (0, 0)
    assert repository.leases.lease_limited(asking()) == []
    assert decisions(connection) == []


def test_a_worker_asks_only_for_its_queues_and_types(connection, repository):
    limit(connection, max_in_flight=9)
    plant(connection, job_type="known")
    plant(connection, job_type="unknown")
    elsewhere = asking(queues=["other"])
    assert repository.leases.settle_and_lease(elsewhere).limited_open == 0
    assert repository.leases.lease_limited(elsewhere) == []
    leased = repository.leases.lease_limited(asking(job_types=["known"]))
    assert [job.job_type for job in leased] == ["known"]


@pytest.mark.parametrize("limited", [False, True])
def test_a_fenced_database_leases_nothing(connection, repository, limited):
    if limited:
        limit(connection, max_in_flight=9)
    plant(connection)
    connection.execute(
        "update pgflow.database_identity set fenced_at = now(), fence_reason = 'trial'"
    )
    assert repository.leases.settle_and_lease(asking()).jobs == []
    assert repository.leases.lease_limited(asking()) == []
    connection.execute(
        "update pgflow.database_identity set fenced_at = null, fence_reason = null"
    )
    found = repository.leases.settle_and_lease(asking()).jobs
    assert len(found or repository.leases.lease_limited(asking())) == 1


def test_sixteen_workers_never_exceed_the_limit_together(database, connection):
    """F78: the most that any snapshot sees is the limit, and every job runs."""
    limit(connection, max_in_flight=3)
    plant(connection, 300)
    seen: list[int] = []
    done: list[str] = []
    failures: list[BaseException] = []

    def work() -> None:
        repository = Repository.of(Database(database.url))
        cycle = asking(room=2)
        try:
            while len(done) < 300:
                cycle = replace(cycle, batch_id=str(uuid.uuid4()))
                jobs = repository.leases.lease_limited(cycle)
                settlements = [success(job) for job in jobs]
                closed = sorted({job.lease_id for job in jobs})
                repository.leases.settle_and_lease(
                    replace(cycle, room=0, settlements=settlements, closed=closed)
                )
                done.extend(job.job_id for job in jobs)
        except BaseException as error:
            failures.append(error)
        finally:
            repository.close()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    watching = database.connect()
    while any(thread.is_alive() for thread in threads):
        [(in_flight,)] = watching.execute("select in_flight from pgflow.queue_usage")
        seen.append(in_flight)
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(done) == sorted(set(done))
    assert len(done) == 300
    assert 0 < max(seen) <= 3
    assert audit(connection) == (0, 0)
