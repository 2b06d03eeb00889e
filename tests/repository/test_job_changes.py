"""What operators do with jobs: each wins or loses against workers, never half."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import Settlement
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.operations import jobs as job_operations
from pgflow_cli.repository import Repository
from tests.repository.test_cycle import (
    WORKER,
    beat,
    failure,
    lease,
    settle,
    success,
)
from tests.support.jobs import (
    attempts_of,
    audit,
    expire_leases,
    make_due,
    plant,
    status_of,
)

Connection = psycopg.Connection[Any]
Wait = Callable[..., Any]
OPERATOR = Operator("ann@host", "pgflow jobs cancel", "by hand")


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture
def other(repository: Repository) -> Any:
    opened = Repository.of(repository.database)
    yield opened
    opened.close()


def cancel(
    repository: Repository, *job_ids: str, kill: bool = False, batch_size: int = 100
) -> job_operations.Changed:
    plan = job_operations.cancellation(repository, OPERATOR, kill=kill)
    return plan.run(job_ids, batch_size=batch_size)


def actions(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select action, jobs, actor, note, finished_at is not null"
        " from pgflow.operator_actions order by id"
    ).fetchall()


def in_background(function: Callable[..., object], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def wait_for_a_lock(connection: Connection, wait_until: Wait) -> None:
    wait_until(
        lambda: connection.execute(
            "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
        ).fetchone(),
        "somebody waits for a row",
    )


def pending_of(connection: Connection, job_id: str) -> tuple[Any, ...] | None:
    return connection.execute(
        "select rank, run_at <= now(), attempt_no from pgflow.pending"
        " where job_id = %s",
        (job_id,),
    ).fetchone()


def test_waiting_jobs_are_canceled_in_batches_under_one_action(
    connection: Connection, repository: Repository
) -> None:
    queued = plant(connection, 5)
    scheduled = plant(connection, 2, due_in="1 hour", priority=3)
    done = cancel(repository, *queued, *scheduled, batch_size=3)
    assert sorted(done.job_ids) == sorted([*queued, *scheduled])
    assert done.left == {}
    assert {status_of(connection, j) for j in done.job_ids} == {"canceled"}
    assert actions(connection) == [("jobs.cancel", 7, "ann@host", "by hand", True)]
    row = connection.execute(
        "select distinct canceled_by, note, action_id, lease_id"
        " from pgflow.canceled_jobs"
    ).fetchall()
    assert row == [("ann@host", "by hand", done.action_id, None)]


def test_what_does_not_wait_is_left_alone_and_named(
    connection: Connection, repository: Repository
) -> None:
    running, succeeded = plant(connection, 2)
    first, second = lease(repository)
    settle(repository, success(second))
    unknown = "00000000-0000-7000-8000-000000000000"
    done = cancel(repository, running, succeeded, unknown)
    assert first.job_id == running
    assert done.left == {running: "running", succeeded: "succeeded", unknown: None}
    assert done.action_id is None
    assert actions(connection) == [], "nothing was changed"


def test_two_operators_cancel_each_job_once(
    connection: Connection, repository: Repository, other: Repository
) -> None:
    jobs = plant(connection, 400)
    results: list[job_operations.Changed] = []
    threads = [
        in_background(lambda r, ids: results.append(cancel(r, *ids, batch_size=7)), *a)
        for a in ((repository, jobs), (other, jobs[::-1]))
    ]
    for thread in threads:
        thread.join()
    mine, theirs = (set(r.job_ids) for r in results)
    assert mine | theirs == set(jobs)
    assert not mine & theirs
    assert sum(row[1] for row in actions(connection)) == 400


def test_a_job_that_is_leased_while_it_is_to_be_canceled_is_left_to_its_worker(
    connection: Connection, repository: Repository, other: Repository, wait_until: Wait
) -> None:
    leased, waiting = plant(connection, 2)
    results: list[job_operations.Changed] = []
    with repository.transaction():
        assert [j.job_id for j in lease(repository, room=1)] == [leased]
        thread = in_background(lambda: results.append(cancel(other, leased, waiting)))
        wait_for_a_lock(connection, wait_until)
    thread.join()
    assert results[0].job_ids == [waiting]
    assert results[0].left == {leased: "running"}


def test_a_retried_job_is_found_by_its_new_key(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    settle(repository, failure(*lease(repository)))
    assert cancel(repository, job).job_ids == [job]
    assert attempts_of(connection, job) == [(1, "failed", "DEPENDENCY_DOWN")]


def test_a_running_job_is_killed_with_its_attempt(
    connection: Connection, repository: Repository
) -> None:
    killed, other_one = plant(connection, 2)
    lease(repository)
    assert cancel(repository, killed, kill=True).job_ids == [killed]
    assert status_of(connection, killed) == "canceled"
    assert attempts_of(connection, killed) == [(1, "canceled", None)]
    assert status_of(connection, other_one) == "running"
    row = connection.execute("select job_ids::text[] from pgflow.leases").fetchone()
    assert row == ([other_one],)


def test_heartbeats_name_what_was_killed_until_the_lease_is_closed(
    connection: Connection, repository: Repository
) -> None:
    killed, other_one = plant(connection, 2)
    a, b = lease(repository)
    assert beat(repository, a.lease_id).canceled == {}
    cancel(repository, killed, kill=True)
    for _ in range(2):
        assert beat(repository, a.lease_id).canceled == {a.lease_id: [killed]}
    assert b.job_id == other_one
    settle(repository, success(b), closed=[b.lease_id])
    assert beat(repository, a.lease_id).leases == set()


@pytest.mark.parametrize("outcome", [success, failure])
def test_an_outcome_after_the_kill_is_thrown_away(
    connection: Connection,
    repository: Repository,
    outcome: Callable[..., Settlement],
) -> None:
    [job] = plant(connection)
    [held] = lease(repository)
    cancel(repository, job, kill=True)
    reply = settle(repository, outcome(held), closed=[held.lease_id])
    assert reply.lost == [job]
    assert attempts_of(connection, job) == [(1, "canceled", None)]


OUTCOMES: dict[str, Callable[[Any], Settlement]] = {
    "succeeded": success,
    "failed": failure,
    "dead": lambda job: failure(job, delay=None, dlq_reason_code="NON_RETRYABLE"),
    "unstarted": lambda job: success(
        job, status="unstarted", run_at=f"{job.run_at}+00"
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_outcome_that_waits_for_a_kill_finds_the_job_canceled(
    connection: Connection,
    repository: Repository,
    other: Repository,
    wait_until: Wait,
    name: str,
) -> None:
    """The outcome's statement has begun, and its snapshot is older than the kill."""
    job, _ = plant(connection, 2)
    held, _ = lease(repository)
    with repository.transaction():
        action_id = repository.audit.begin_action(OPERATOR, "jobs.cancel")
        killed = repository.jobs.cancel_running_jobs(
            [job], operator=OPERATOR, action_id=action_id
        )
        thread = in_background(settle, other, OUTCOMES[name](held))
        wait_for_a_lock(connection, wait_until)
    thread.join()
    assert killed == [job]
    assert status_of(connection, job) == "canceled"
    assert attempts_of(connection, job) == [(1, "canceled", None)]
    assert pending_of(connection, job) is None


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("succeeded", "succeeded"),
        ("failed", "canceled"),
        ("dead", "dlq"),
        ("unstarted", "canceled"),
    ],
)
def test_a_kill_that_waits_for_an_outcome_finds_it(
    connection: Connection,
    repository: Repository,
    other: Repository,
    wait_until: Wait,
    name: str,
    state: str,
) -> None:
    """What has ended stays so; what went back to its queue is canceled there."""
    job, _ = plant(connection, 2)
    held, _ = lease(repository)
    results: list[job_operations.Changed] = []
    with repository.transaction():
        settle(repository, OUTCOMES[name](held))
        thread = in_background(lambda: results.append(cancel(other, job, kill=True)))
        wait_for_a_lock(connection, wait_until)
    thread.join()
    assert status_of(connection, job) == state
    assert results[0].job_ids == ([job] if state == "canceled" else [])


def test_a_killed_job_does_not_come_back_when_its_worker_dies(
    connection: Connection, repository: Repository
) -> None:
    killed, other_one = plant(connection, 2)
    lease(repository)
    cancel(repository, killed, kill=True)
    expire_leases(connection)
    reaped = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert [job.job_id for job in reaped] == [other_one]
    assert status_of(connection, killed) == "canceled"


def test_without_kill_a_running_job_runs_on(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    [held] = lease(repository)
    assert cancel(repository, job).left == {job: "running"}
    assert settle(repository, success(held)).lost == []


def test_a_job_run_now_is_due_and_is_found_by_its_key(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection, due_in="1 day")
    done = job_operations.hastening(repository, OPERATOR).run([job], batch_size=10)
    assert done.job_ids == [job]
    assert status_of(connection, job) == "queued"
    assert pending_of(connection, job) == (0, True, 0)
    assert actions(connection)[0][:2] == ("jobs.run-now", 1)
    row = connection.execute(
        "explain (analyze, format json) select status from pgflow.job_overview"
        " where id = %s",
        (job,),
    ).fetchone()
    assert row is not None
    searched = [n for n in nodes(row[0][0]["Plan"]) if n.get("Alias") == "pending_1"]
    assert [n["Actual Loops"] for n in searched] == [0], "no search"
    assert [j.job_id for j in lease(repository)] == [job]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(n for part in plan.get("Plans", []) for n in nodes(part))]


def test_run_now_reaches_a_retry_and_its_next_retry_has_its_own_time(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    settle(repository, failure(*lease(repository)))
    job_operations.hastening(repository, OPERATOR).run([job], batch_size=10)
    assert status_of(connection, job) == "queued"
    settle(repository, failure(*lease(repository)))
    assert status_of(connection, job) == "scheduled"
    assert pending_of(connection, job) == (0, False, 2)
    assert cancel(repository, job).job_ids == [job]


def test_what_is_due_already_or_runs_is_not_run_now(
    connection: Connection, repository: Repository
) -> None:
    running, queued = plant(connection, 2)
    lease(repository, room=1)
    done = job_operations.hastening(repository, OPERATOR).run(
        [running, queued], batch_size=10
    )
    assert done.left == {running: "running", queued: "queued"}
    assert actions(connection) == []


def test_an_idle_worker_is_told_of_a_job_that_is_run_now(
    connection: Connection, repository: Repository, database: Any
) -> None:
    [job] = plant(connection, due_in="1 day")
    beat(repository)
    lease(repository)
    listening = database.connect()
    listening.execute("listen pgflow")
    job_operations.hastening(repository, OPERATOR).run([job], batch_size=10)
    heard = list(listening.notifies(timeout=10, stop_after=1))
    assert [n.payload for n in heard] == ["default"]


def test_a_job_moved_by_an_operator_goes_back_there_when_its_worker_dies_before_it(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection, due_in="1 day")
    job_operations.hastening(repository, OPERATOR).run([job], batch_size=10)
    job_operations.reordering(repository, OPERATOR, 9).run([job], batch_size=10)
    lease(repository)
    repository.unsettled_leases.end_worker(
        WORKER,
        status="lost",
        started=[],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="gone",
    )
    assert pending_of(connection, job) == (-9, True, 0)
    assert status_of(connection, job) == "queued"


def test_a_new_priority_decides_what_is_leased_first_and_outlives_a_retry(
    connection: Connection, repository: Repository
) -> None:
    first, second = plant(connection, 2)
    done = job_operations.reordering(repository, OPERATOR, 7).run(
        [second], batch_size=10
    )
    assert done.job_ids == [second]
    [urgent] = lease(repository, room=1)
    assert urgent.job_id == second
    settle(repository, failure(urgent))
    make_due(connection, second)
    assert pending_of(connection, second) == (-7, True, 1)
    assert [j.job_id for j in lease(repository)] == [second, first]
    row = connection.execute(
        "select priority from pgflow.job_overview where id = %s", (second,)
    ).fetchone()
    assert row == (7,)


def test_a_new_priority_outlives_a_lost_worker(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    job_operations.reordering(repository, OPERATOR, -3).run([job], batch_size=10)
    lease(repository)
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert pending_of(connection, job) == (3, True, 1)


def test_a_change_of_two_operators_at_once_is_not_lost(
    connection: Connection, repository: Repository, other: Repository, wait_until: Wait
) -> None:
    [job] = plant(connection)
    results: list[job_operations.Changed] = []
    with repository.transaction():
        repository.jobs.reprioritize_jobs([job], priority=5)
        thread = in_background(lambda: results.append(cancel(other, job)))
        wait_for_a_lock(connection, wait_until)
    thread.join()
    assert results[0].job_ids == [job], "found where it has been moved to"


def test_a_filter_selects_among_all_states_and_stops_beyond_the_most(
    connection: Connection, repository: Repository
) -> None:
    mine = plant(connection, 3, job_type="mine") + plant(
        connection, 2, job_type="mine", due_in="1 hour"
    )
    plant(connection, 4)
    lease(repository, room=1, job_types=["mine"])
    chosen = JobFilter(job_types=("mine",))
    waiting = job_operations.select(
        repository, chosen, ("queued", "scheduled"), most=100
    )
    assert {job.id for job in waiting} < set(mine)
    assert len(waiting) == 4
    all_states = ("queued", "scheduled", "running")
    every = job_operations.select(repository, chosen, all_states, most=100)
    assert {job.id for job in every} == set(mine)
    assert len(job_operations.select(repository, JobFilter(), all_states, most=5)) == 6
    assert [row["jobs"] for row in job_operations.counted(every)] == [2, 1, 2]


def test_a_worker_that_is_quiet_stays_so_whatever_its_heartbeat_says(
    connection: Connection, repository: Repository
) -> None:
    assert beat(repository).quiet == set()
    connection.execute("update pgflow.workers set quiet = true")
    assert beat(repository).quiet == {WORKER}
    assert beat(repository).quiet == {WORKER}


def test_of_two_operators_one_puts_a_job_back_that_is_nowhere(
    connection: Connection, repository: Repository, other: Repository, wait_until: Wait
) -> None:
    """The second waits for the first, and then sees what it has done."""
    [job] = plant(connection)
    connection.execute("delete from pgflow.pending where job_id = %s", (job,))
    second: list[job_operations.Changed] = []

    def put_back() -> None:
        plan = job_operations.hastening(other, OPERATOR, nowhere=True)
        second.append(plan.run([job], batch_size=1))

    with repository.transaction():
        assert repository.jobs.put_back_jobs([job]) == [job]
        thread = in_background(put_back)
        wait_for_a_lock(connection, wait_until)
    thread.join()
    assert (second[0].job_ids, second[0].left) == ([], {job: "queued"})
    rows = connection.execute("select job_id::text from pgflow.pending").fetchall()
    assert rows == [(job,)]
