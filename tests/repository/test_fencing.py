"""Behind the fence nothing starts and nothing is reaped; an acceptance decides."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.models.audit import Operator
from pgflow_cli.operations import fence
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository
from tests.repository.test_cycle import IDLE, lease, settle, success
from tests.support.jobs import attempts_of, audit, expire_leases, plant, status_of

Connection = psycopg.Connection[Any]
OPERATOR = Operator("me@here", "pgflow fence accept")
DEAD, ALIVE = "0" * 31 + "1", "0" * 31 + "2"


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


def clone(connection: Connection) -> None:
    """Let this database be a clone of another, made when its leases were live."""
    connection.execute("update pgflow.database_identity set database_oid = 1")
    expire_leases(connection)


def register(connection: Connection, worker_id: str, *, heard: str) -> None:
    connection.execute(
        "insert into pgflow.workers (worker_id, supervisor_id, pid, slots,"
        " lease_seconds, name, host, last_heartbeat)"
        " values (%s, gen_random_uuid(), 1, 1, 10, 'w', 'h', now() + %s::interval)",
        (worker_id, heard),
    )


def accept(repository: Repository, fate: str = "dlq", *, pause: bool = False) -> Any:
    return fence.accept(repository, OPERATOR, fate=fate, pause=pause)


def test_a_clone_leases_nothing_before_anybody_has_seen_it(connection, repository):
    plant(connection)
    clone(connection)
    assert lease(repository) == []
    accept(repository)
    assert len(lease(repository)) == 1


def test_a_raised_fence_lets_nothing_be_leased(connection, repository):
    plant(connection, 2)
    [running] = lease(repository, room=1)
    fence.raise_fence(repository, OPERATOR)
    assert lease(repository) == []
    # What runs may end: the fence keeps jobs from starting.
    settle(repository, success(running), closed=[running.lease_id])
    assert status_of(connection, running.job_id) == "succeeded"


def test_nothing_is_reaped_behind_the_fence(connection, repository):
    plant(connection)
    [job] = lease(repository)
    clone(connection)
    assert (
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3) == []
    )
    accept(repository, "requeue")
    assert attempts_of(connection, job.job_id) == [(1, "released", None)]


def test_whoever_sees_it_first_writes_it_down(connection, repository):
    clone(connection)
    seen = fence.watch(repository)
    assert seen.fence_reason == "it is a copy of the database it was recorded in"
    assert seen.fenced_at is not None
    assert fence.watch(repository).epoch == seen.epoch


def test_the_start_of_a_worker_is_refused_with_the_next_step(connection, repository):
    fence.require_open(repository)
    clone(connection)
    with pytest.raises(ConfigurationError, match="is fenced") as refused:
        fence.require_open(repository)
    assert any("pgflow fence accept" in hint for hint in refused.value.hints)


@pytest.mark.parametrize(
    ("fate", "status", "attempt"),
    [
        ("dlq", "dlq", (1, "lost", "WORKER_LOST")),
        ("requeue", "queued", (1, "released", None)),
        ("cancel", "canceled", (1, "canceled", None)),
    ],
)
def test_an_interrupted_job_gets_its_fate(
    connection, repository, fate, status, attempt
):
    [waiting, *_] = plant(connection, 3)
    held = [job.job_id for job in lease(repository, room=2)]
    clone(connection)
    done = accept(repository, fate)
    assert done.jobs == 2
    for job in held:
        assert status_of(connection, job) == status
        assert attempts_of(connection, job) == [attempt]
    assert waiting in held or status_of(connection, waiting) == "queued"
    assert connection.execute("select count(*) from pgflow.leases").fetchone() == (0,)


def test_an_interrupted_job_is_dead_as_restored(connection, repository):
    [job] = plant(connection)
    lease(repository)
    clone(connection)
    accept(repository)
    row = connection.execute(
        "select dlq_reason_code, error_code, failed_attempts from pgflow.dead_letters"
        " where job_id = %s",
        (job,),
    ).fetchone()
    assert row == ("RESTORED", "WORKER_LOST", 0)


def test_a_job_that_had_settled_keeps_its_outcome(connection, repository):
    plant(connection, 2)
    first, second = lease(repository)
    settle(repository, success(first))
    clone(connection)
    assert accept(repository).jobs == 1
    assert status_of(connection, first.job_id) == "succeeded"
    assert status_of(connection, second.job_id) == "dlq"


def test_a_requeued_job_goes_on_with_the_next_number(connection, repository):
    plant(connection)
    lease(repository)
    clone(connection)
    accept(repository, "requeue")
    [again] = lease(repository)
    assert (again.attempt_no, again.lost_attempts, again.failed_attempts) == (2, 0, 0)


def test_an_outcome_from_before_the_acceptance_is_stale(connection, repository):
    plant(connection)
    [job] = lease(repository)
    clone(connection)
    accept(repository)
    assert settle(repository, success(job)).lost == [job.job_id]
    assert status_of(connection, job.job_id) == "dlq"


def hear(connection: Connection, worker_id: str) -> None:
    connection.execute(
        "update pgflow.workers set last_heartbeat = clock_timestamp()"
        " where worker_id = %s",
        (worker_id,),
    )


def hold(connection: Connection, repository: Any, worker_id: str) -> str:
    """Let a worker that was heard of a second ago hold a job; return the job."""
    reply = repository.leases.settle_and_lease(
        replace(IDLE, room=1, worker_id=worker_id)
    )
    register(connection, worker_id, heard="-1 second")
    [job] = reply.jobs
    return str(job.job_id)


def test_workers_of_before_go_and_living_ones_keep_their_jobs(connection, repository):
    plant(connection, 2)
    hold(connection, repository, DEAD)
    hold(connection, repository, ALIVE)
    fence.raise_fence(repository, OPERATOR)
    hear(connection, ALIVE)
    connection.execute(
        "update pgflow.workers set last_heartbeat = now() - interval '11 seconds'"
        " where worker_id = %s",
        (DEAD,),
    )
    expire_leases(connection)
    before = repository.fence.count_interrupted()
    assert (before.jobs, before.live_jobs, before.live_workers) == (1, 1, 1)
    done = accept(repository)
    assert (done.jobs, done.workers_forgotten) == (1, 1)
    rows = connection.execute("select worker_id::text from pgflow.leases").fetchall()
    assert [row[0].replace("-", "") for row in rows] == [ALIVE]


@pytest.mark.parametrize("fate", ["dlq", "requeue", "cancel"])
def test_a_job_whose_worker_may_yet_be_heard_of_is_waited_for(
    connection, repository, fate
):
    """Right after the fence was raised no worker has been heard of since."""
    plant(connection)
    job = hold(connection, repository, ALIVE)
    fence.raise_fence(repository, OPERATOR)
    found = repository.fence.count_interrupted()
    assert (found.jobs, found.live_jobs, found.undecided_jobs) == (0, 0, 1)
    assert 0 < found.undecided_seconds <= 10
    told = []

    def wait(found: Any) -> None:
        told.append(found.undecided_jobs)
        hear(connection, ALIVE)

    done = fence.accept(repository, OPERATOR, fate=fate, pause=False, wait=wait)
    assert told == [1]
    assert (done.jobs, done.workers_forgotten) == (0, 0)
    assert status_of(connection, job) == "running"
    assert attempts_of(connection, job) == []
    assert not repository.fence.read_identity().fenced


def test_a_worker_that_stays_silent_is_waited_for_until_its_lease_has_run_out(
    connection, repository
):
    plant(connection)
    job = hold(connection, repository, DEAD)
    fence.raise_fence(repository, OPERATOR)
    done = fence.accept(
        repository,
        OPERATOR,
        fate="dlq",
        pause=False,
        wait=lambda _: expire_leases(connection),
    )
    assert done.jobs == 1
    assert status_of(connection, job) == "dlq"


def test_a_lease_that_a_live_worker_has_let_run_out_is_for_the_reaper(
    connection, repository
):
    plant(connection)
    job = hold(connection, repository, ALIVE)
    fence.raise_fence(repository, OPERATOR)
    expire_leases(connection)
    hear(connection, ALIVE)
    assert accept(repository).jobs == 0
    assert status_of(connection, job) == "running"
    [reaped] = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert reaped.job_id == job


def test_a_quiet_worker_that_lives_is_not_forgotten(connection, repository):
    register(connection, ALIVE, heard="-1 second")
    connection.execute("update pgflow.workers set quiet = true")
    fence.raise_fence(repository, OPERATOR)
    assert accept(repository).workers_forgotten == 0
    assert connection.execute("select quiet from pgflow.workers").fetchall() == [
        (True,)
    ]


def test_a_fence_that_came_down_meanwhile_is_waited_for_no_more(connection, repository):
    plant(connection)
    hold(connection, repository, ALIVE)
    fence.raise_fence(repository, OPERATOR)
    done = fence.accept(
        repository,
        OPERATOR,
        fate="dlq",
        pause=False,
        wait=lambda _: repository.fence.record_identity(),
    )
    assert done is None


def test_every_queue_is_paused_unless_it_shall_not_be(connection, repository):
    plant(connection, queue="a")
    plant(connection, queue="b")
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until, pause_note)"
        " values ('b', 'infinity', 'long ago'), ('c', now(), 'short')"
    )
    clone(connection)
    assert accept(repository, pause=True).paused == 2
    rows = connection.execute(
        "select queue, paused_until::text, paused_by, pause_note"
        " from pgflow.queue_policies order by queue"
    ).fetchall()
    note = "the database was restored or cloned: look first, then resume"
    assert rows == [
        ("a", "infinity", "me@here", note),
        ("b", "infinity", None, "long ago"),
        ("c", "infinity", "me@here", note),
    ]


def test_an_acceptance_leaves_one_row_in_the_audit(connection, repository):
    [job] = plant(connection)
    lease(repository)
    clone(connection)
    done = accept(repository)
    rows = connection.execute(
        "select id, actor, action, jobs, job_ids::text[], finished_at is not null,"
        " details_json->>'interrupted' from pgflow.operator_actions"
    ).fetchall()
    assert rows == [(done.action_id, "me@here", "fence.accept", 1, [job], True, "dlq")]


def test_a_database_that_is_not_fenced_is_not_accepted(connection, repository):
    plant(connection)
    lease(repository)
    assert accept(repository) is None
    assert connection.execute("select count(*) from pgflow.leases").fetchone() == (1,)


def test_of_two_acceptances_at_once_one_does_it(connection, repository, database):
    plant(connection, 5)
    lease(repository, room=5)
    clone(connection)
    results: list[Any] = []

    def run() -> None:
        own = Repository.of(DatabaseSettings(database.url))
        results.append(accept(own, "requeue", pause=True))
        own.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done is not None for done in results) == 1
    actions = connection.execute("select action from pgflow.operator_actions")
    assert actions.fetchall() == [("fence.accept",)]
