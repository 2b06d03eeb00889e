"""The statement of the cycle: what it leases, what it settles, and what it refuses."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import (
    LeasedJob,
    LeaseReply,
    LeaseRequest,
    Scan,
    Settlement,
    Suspect,
)
from pgflow_cli.models.workers import BeatReply
from pgflow_cli.repository import Repository
from tests.support.jobs import (
    attempts_of,
    audit,
    expire_leases,
    new_worker,
    plant,
    status_of,
)
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
WORKER = new_worker()

IDLE = LeaseRequest(
    worker_id=WORKER,
    worker_name="worker-1",
    code_version="abc",
    batch_id=str(uuid.uuid4()),
    lease_seconds=10.0,
    queues=["default"],
    job_types=None,
    room=0,
    scan=Scan(),
    settlements=[],
    closed=[],
)


def lease(repository: Repository, room: int = 100, **changes: Any) -> list[LeasedJob]:
    return repository.leases.settle_and_lease(replace(IDLE, room=room, **changes)).jobs


def settle(
    repository: Repository, *settlements: Settlement, **changes: Any
) -> LeaseReply:
    return repository.leases.settle_and_lease(
        replace(IDLE, settlements=list(settlements), **changes)
    )


def success(job: LeasedJob, **changes: Any) -> Settlement:
    ended = Settlement(job.lease_id, job.job_id, job.attempt_no, "succeeded")
    return ended._replace(**changes)


def failure(job: LeasedJob, **changes: Any) -> Settlement:
    fields: dict[str, Any] = {
        "status": "failed",
        "delay": 60.0,
        "failed_attempts": job.failed_attempts + 1,
        "error_code": "DEPENDENCY_DOWN",
        "error_message": "connection refused",
    }
    return success(job, **{**fields, **changes})


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Any:
    yield
    assert audit(connection) == (0, 0)


def test_jobs_are_leased_by_priority_then_age(
    connection: Connection, repository: Repository
) -> None:
    [late] = plant(connection, due_in="-1 second")
    [early] = plant(connection, due_in="-2 seconds")
    [urgent] = plant(connection, priority=7)
    assert [j.job_id for j in lease(repository)] == [urgent, early, late]


def test_no_more_than_the_room_is_leased(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 5)
    plant(connection, 5, priority=1)
    assert len(lease(repository, room=7)) == 7
    assert len(lease(repository, room=7)) == 3


def test_a_job_of_the_future_is_not_leased(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection, due_in="1 hour")
    assert lease(repository) == []
    assert status_of(connection, job) == "scheduled"


def test_other_queues_and_other_types_are_left_alone(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, queue="emails")
    plant(connection, job_type="unknown")
    [mine] = plant(connection, job_type="known")
    assert [j.job_id for j in lease(repository, job_types=["known"])] == [mine]


def test_every_queue_is_served_in_turn(
    connection: Connection, repository: Repository
) -> None:
    for queue in ("a", "b", "c"):
        plant(connection, 2, queue=queue)
    served = []
    last = ""
    for _ in range(6):
        [job] = lease(repository, room=1, queues=None, scan=Scan({}, last))
        served.append(last := job.queue)
    assert served == ["a", "b", "c", "a", "b", "c"]


def test_a_paused_queue_is_passed_over_until_it_is_not(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until)"
        " values ('default', 'infinity')"
    )
    assert lease(repository) == []
    connection.execute("update pgflow.queue_policies set paused_until = now()")
    assert len(lease(repository)) == 1


def test_a_scan_begins_at_its_cursor(
    connection: Connection, repository: Repository
) -> None:
    first, second, third = plant(connection, 3)
    [leased] = lease(repository, room=1)
    assert leased.job_id == first
    behind = Scan({("default", 0): (leased.run_at, second)})
    assert [j.job_id for j in lease(repository, room=1, scan=behind)] == [second]
    beyond = Scan({("default", 0): ("9000-01-01 00:00:00.000000", third)})
    assert lease(repository, scan=beyond) == []
    assert [j.job_id for j in lease(repository)] == [third]


def test_two_connections_never_lease_the_same_job(
    database: Any, connection: Connection, repository: Repository
) -> None:
    plant(connection, 10)
    other = Repository.of(repository.database)
    with repository.transaction():
        mine = lease(repository, room=5)
        theirs = lease(other, room=10)
    other.close()
    assert len(mine) == len(theirs) == 5
    assert not {j.job_id for j in mine} & {j.job_id for j in theirs}


def test_what_cannot_be_decoded_is_delivered_as_text(
    connection: Connection, repository: Repository
) -> None:
    payloads = ["[1e131071]", "[" * 1000 + "]" * 1000, '{"a": 1.10}']
    for payload in payloads:
        plant_raw(connection, payload)
    delivered = [j.payload for j in lease(repository)]
    assert len(delivered) == 3
    assert delivered[2] == '{"a": 1.10}'


def plant_raw(connection: Connection, payload: str) -> None:
    """Plant a job past the gate, as an older program or a restore might have."""
    connection.execute(
        """
        with job as (
          insert into pgflow.jobs (id, queue, job_type, payload)
          values (pgflow.uuid7(), 'default', 'noop', %s::jsonb)
          returning id, run_at
        ),
        rank as (
          insert into pgflow.queue_ranks values ('default', 0) on conflict do nothing
        )
        insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
        select 'default', 0, run_at, id, 'noop' from job
        """,
        (payload,),
    )


def test_a_success_is_settled_and_its_lease_closed(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    reply = settle(
        repository,
        success(a, started_ago=0.5, ended_ago=0.25),
        success(b),
        closed=[a.lease_id],
    )
    assert reply.lost == []
    assert status_of(connection, a.job_id) == "succeeded"
    assert leases(connection) == 0
    took = connection.execute(
        "select extract(epoch from finished_at - started_at)::float8"
        " from pgflow.any_attempts where job_id = %s",
        (a.job_id,),
    ).fetchone()
    assert took is not None
    assert took[0] <= 0.25


def leases(connection: Connection) -> int:
    row = connection.execute("select count(*) from pgflow.leases").fetchone()
    assert row is not None
    return int(row[0])


def test_a_settlement_and_a_lease_share_a_statement(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    [first] = lease(repository, room=1)
    reply = settle(repository, success(first), closed=[first.lease_id], room=1)
    assert [j.attempt_no for j in reply.jobs] == [1]
    assert status_of(connection, first.job_id) == "succeeded"
    assert status_of(connection, reply.jobs[0].job_id) == "running"


def test_a_failed_job_goes_back_to_the_queue_later(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    settle(repository, failure(job), closed=[job.lease_id])
    assert status_of(connection, job.job_id) == "scheduled"
    assert attempts_of(connection, job.job_id) == [(1, "failed", "DEPENDENCY_DOWN")]


def test_a_retried_job_knows_its_history(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    settle(repository, failure(job, delay=0.0), closed=[job.lease_id])
    [again] = lease(repository)
    assert (again.attempt_no, again.failed_attempts, again.lost_attempts) == (2, 1, 0)


def test_a_hopeless_job_is_dead_lettered(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    settle(
        repository,
        failure(job, delay=None, dlq_reason_code="NON_RETRYABLE"),
        closed=[job.lease_id],
    )
    assert status_of(connection, job.job_id) == "dlq"
    row = connection.execute(
        "select dlq_reason_code, error_code, failed_attempts from pgflow.dead_letters"
    ).fetchone()
    assert row == ("NON_RETRYABLE", "DEPENDENCY_DOWN", 1)


@pytest.mark.parametrize("status", ["snoozed", "released"])
def test_a_job_put_off_is_not_charged(
    connection: Connection, repository: Repository, status: str
) -> None:
    plant(connection)
    [job] = lease(repository)
    settle(repository, success(job, status=status, delay=0.0), closed=[job.lease_id])
    [again] = lease(repository)
    assert (again.attempt_no, again.failed_attempts) == (2, 0)


def test_an_unstarted_job_keeps_its_number_and_its_place(
    connection: Connection, repository: Repository
) -> None:
    ids = plant(connection, 3)
    a, b, c = lease(repository)
    settle(
        repository, success(b, status="unstarted", run_at=f"{b.run_at}+00"), success(a)
    )
    assert attempts_of(connection, b.job_id) == []
    [again] = lease(repository)
    assert (again.job_id, again.attempt_no, again.run_at) == (ids[1], 1, b.run_at)
    assert settle(repository, success(c)).lost == []


def test_an_outcome_is_refused_once_its_job_was_given_back(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    settle(repository, success(a, status="unstarted", run_at=f"{a.run_at}+00"))
    assert settle(repository, success(a)).lost == [a.job_id]
    assert status_of(connection, a.job_id) == "queued"
    assert settle(repository, success(b)).lost == []


def test_a_settlement_sent_again_is_no_loss_and_writes_nothing(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    ended = [success(a), failure(b)]
    settle(repository, *ended, closed=[a.lease_id])
    assert settle(repository, *ended, closed=[a.lease_id]).lost == []
    assert attempts_of(connection, a.job_id) == [(1, "succeeded", None)]
    assert len(attempts_of(connection, b.job_id)) == 1


def test_an_outcome_without_a_lease_changes_nothing(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    for late in (success(job), failure(job)):
        assert settle(repository, late, closed=[job.lease_id]).lost == [job.job_id]
    assert status_of(connection, job.job_id) == "queued"
    assert attempts_of(connection, job.job_id) == [(1, "lost", "WORKER_LOST")]


def test_a_stale_outcome_leaves_the_next_lease_alone(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [stale] = lease(repository)
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    [current] = lease(repository)
    assert settle(repository, success(stale)).lost == [stale.job_id]
    assert settle(repository, success(current), closed=[current.lease_id]).lost == []
    assert [a[1] for a in attempts_of(connection, stale.job_id)] == [
        "lost",
        "succeeded",
    ]


def test_another_worker_cannot_settle_under_my_lease(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    reply = settle(
        repository, success(job), worker_id=new_worker(), closed=[job.lease_id]
    )
    assert reply.lost == [job.job_id]
    assert status_of(connection, job.job_id) == "running"


def test_an_outcome_of_another_attempt_is_refused(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    assert settle(repository, success(job, attempt_no=2)).lost == [job.job_id]
    assert attempts_of(connection, job.job_id) == []


def test_a_lease_that_still_holds_jobs_survives_its_closing_neighbour(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    [a] = lease(repository, room=1)
    [b] = lease(repository, room=1)
    settle(repository, success(a), closed=[a.lease_id])
    assert leases(connection) == 1
    assert settle(repository, success(b), closed=[b.lease_id]).lost == []


def test_reaping_skips_a_lease_that_is_being_settled(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    expire_leases(connection)
    other = Repository.of(repository.database)
    with repository.transaction():
        settle(repository, success(job), closed=[job.lease_id])
        assert other.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3) == []
    assert other.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3) == []
    other.close()
    assert status_of(connection, job.job_id) == "succeeded"


def test_reaping_leaves_what_has_settled_and_returns_the_rest(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    settle(repository, success(a))
    expire_leases(connection)
    [reaped] = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert reaped.job_id == b.job_id
    assert (status_of(connection, a.job_id), status_of(connection, b.job_id)) == (
        "succeeded",
        "queued",
    )


def test_a_lease_that_has_not_run_out_is_not_reaped(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    lease(repository)
    assert (
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3) == []
    )


def test_a_job_that_spends_its_crash_budget_is_dead_lettered(
    connection: Connection, repository: Repository
) -> None:
    [job] = plant(connection)
    for number in (1, 2, 3):
        [leased] = lease(repository)
        assert (leased.attempt_no, leased.lost_attempts) == (number, number - 1)
        if number == 3:
            place = (WORKER, leased.lease_id, leased.job_id, leased.rank, leased.run_at)
            assert repository.leases.take_over_job(IDLE, Suspect(*place))
        expire_leases(connection)
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert status_of(connection, job) == "dlq"
    row = connection.execute(
        "select dlq_reason_code, error_code, attempt_no from pgflow.dead_letters"
    ).fetchone()
    assert row == ("CRASH_LOOP", "WORKER_LOST", 3)
    assert lease(repository) == []


def test_a_dead_process_charges_only_the_jobs_it_had_started(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    started, waiting = lease(repository)
    ended = repository.unsettled_leases.end_worker(
        WORKER,
        status="lost",
        started=[(started.job_id, started.attempt_no)],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="the worker process ended: signal SIGKILL",
    )
    assert {(j.job_id, j.started) for j in ended} == {
        (started.job_id, True),
        (waiting.job_id, False),
    }
    again = {j.job_id: j.attempt_no for j in lease(repository)}
    assert again == {started.job_id: 2, waiting.job_id: 1}


def test_a_batch_whose_reply_was_lost_is_given_back_uncharged(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    [a] = lease(repository, room=1, batch_id=mine)
    [b] = lease(repository, room=1, batch_id=other)
    ended, found = repository.unsettled_leases.give_back_batches(
        WORKER, [mine, str(uuid.uuid4())]
    )
    assert ([job.job_id for job in ended], found) == ([a.job_id], {mine})
    assert (status_of(connection, a.job_id), status_of(connection, b.job_id)) == (
        "queued",
        "running",
    )
    assert attempts_of(connection, a.job_id) == []


def test_a_batch_in_doubt_is_given_back_behind_the_fence(
    connection: Connection, repository: Repository
) -> None:
    """Nothing of it has started; once the fence is down it would count as lost."""
    [job] = plant(connection)
    batch = str(uuid.uuid4())
    [leased] = lease(repository, room=1, batch_id=batch)
    connection.execute(
        "update pgflow.database_identity set fenced_at = now(), fence_reason = 'test'"
    )
    ended, found = repository.unsettled_leases.give_back_batches(WORKER, [batch])
    assert ([job.job_id for job in ended], found) == ([leased.job_id], {batch})
    assert attempts_of(connection, job) == []
    assert lease(repository) == []


def beat(repository: Repository, *lease_ids: str) -> BeatReply:
    row = {"worker_id": WORKER, "pid": 1, "slots": 8, "busy_slots": 1}
    row |= {
        "lease_seconds": 10,
        "quiet": False,
        "hushed": False,
        "retiring": False,
        "spare": False,
        "name": "worker-1",
        "host": "h",
    }
    return repository.leases.beat(
        supervisor_id=WORKER,
        workers=[row],
        lease_ids=lease_ids,
        lease_seconds=60.0,
        progress={},
    )


def test_a_heartbeat_extends_a_lease_and_drops_what_has_settled(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    settle(repository, success(a))
    assert beat(repository, a.lease_id).leases == {a.lease_id}
    row = connection.execute(
        "select job_ids::text[], expires_at > now() + interval '50 seconds'"
        " from pgflow.leases"
    ).fetchone()
    assert row == ([b.job_id], True)
    assert settle(repository, success(b), closed=[b.lease_id]).lost == []


def test_a_heartbeat_says_which_leases_are_gone(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    gone = str(uuid.uuid4())
    assert beat(repository, job.lease_id, gone).leases == {job.lease_id}


def test_a_heartbeat_that_waited_for_a_job_given_back_does_not_bring_it_back(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    import threading  # noqa: PLC0415

    plant(connection, 2)
    a, b = lease(repository)
    other = Repository.of(repository.database)
    with repository.transaction():
        settle(repository, success(a, status="unstarted", run_at=f"{a.run_at}+00"))
        waiting = threading.Thread(target=beat, args=(other, a.lease_id))
        waiting.start()
        wait_until(
            lambda: connection.execute(
                "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
            ).fetchone(),
            "the heartbeat waits for the lease row",
        )
    waiting.join()
    other.close()
    row = connection.execute("select job_ids::text[] from pgflow.leases").fetchone()
    assert row == ([b.job_id],)


def test_a_heartbeat_and_the_settlement_that_empties_a_worker_lock_in_one_order(
    connection: Connection,
    database: Database,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    """Both write the lease and the worker's row; a third one holds the lease for a
    moment, so that they surely meet.
    """
    beat(repository)
    plant(connection)
    [job] = lease(repository)
    others = [Repository.of(repository.database) for _ in range(2)]
    third = database.connect(autocommit=False)
    third.execute("select from pgflow.leases for key share")
    with ThreadPoolExecutor() as pool:
        settling = pool.submit(
            settle, others[0], success(job), closed=[job.lease_id], room=1
        )
        wait_until(
            lambda: blocked(connection), "the settlement waits to remove the lease"
        )
        beating = pool.submit(beat, others[1], job.lease_id)
        wait_until(
            lambda: beating.done() or blocked(connection) == 2,
            "the heartbeat is done, or waits",
        )
        third.rollback()
        assert settling.result().lost == []
        beating.result()
    for other in others:
        other.close()
    assert leases(connection) == 0


def blocked(connection: Connection) -> int:
    row = connection.execute(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        " and datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_worker_is_idle_when_it_finds_nothing_and_busy_when_it_does(
    connection: Connection, repository: Repository
) -> None:
    beat(repository)

    def idle() -> bool:
        row = connection.execute("select idle from pgflow.workers").fetchone()
        assert row is not None
        return bool(row[0])

    lease(repository)
    assert idle()
    plant(connection)
    lease(repository)
    assert not idle()
    lease(repository, room=0)
    assert not idle()


# What a worker does not settle.


def leased_jobs(connection: Connection) -> list[list[str]]:
    """Return the jobs of each lease, of those that run out first first."""
    return [
        row[0]
        for row in connection.execute(
            "select job_ids::text[] from pgflow.leases order by expires_at"
        ).fetchall()
    ]


def left(job: LeasedJob) -> Settlement:
    return success(job, status="left")


def until_waiting(connection: Connection, wait_until: Callable[..., Any]) -> None:
    wait_until(lambda: blocked(connection), "a statement waits for a lock")


def test_a_lease_stays_while_a_job_of_it_has_no_outcome(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    a, b, c = lease(repository)
    settle(repository, success(a), closed=[a.lease_id])
    settle(repository, success(b), closed=[a.lease_id])
    assert status_of(connection, c.job_id) == "running"
    settle(repository, success(c), closed=[a.lease_id])
    assert leases(connection) == 0


def test_a_lease_whose_jobs_have_all_been_settled_before_goes(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    settle(repository, success(a), failure(b))
    settle(repository, closed=[a.lease_id])
    assert leases(connection) == 0


def test_a_job_given_back_and_one_left_do_not_keep_their_lease(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    a, b, c = lease(repository)
    back = success(b, status="unstarted", run_at=f"{b.run_at}+00")
    settle(repository, success(a), back, left(c), closed=[a.lease_id])
    assert leased_jobs(connection) == [[c.job_id]]
    assert status_of(connection, b.job_id) == "queued"


def test_a_job_that_is_left_is_reaped_though_its_batch_mates_are_renewed(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    assert settle(repository, left(a)).lost == []
    assert beat(repository, a.lease_id).leases == {a.lease_id}
    [reaped] = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert (reaped.job_id, reaped.started) == (a.job_id, True)
    assert attempts_of(connection, a.job_id) == [(1, "lost", "WORKER_LOST")]
    assert settle(repository, success(b), closed=[b.lease_id]).lost == []
    assert settle(repository, success(a)).lost == [a.job_id]


def test_a_job_that_is_left_counts_as_started_though_its_process_dies(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [job] = lease(repository)
    settle(repository, left(job), closed=[job.lease_id])
    ended = repository.unsettled_leases.end_worker(
        WORKER,
        status="lost",
        started=[],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="signal SIGKILL",
    )
    assert ended == []
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert attempts_of(connection, job.job_id) == [(1, "lost", "WORKER_LOST")]


def test_a_job_that_is_settled_already_is_not_left(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, _ = lease(repository)
    settle(repository, success(a))
    settle(repository, left(a), closed=[a.lease_id])
    assert leases(connection) == 1
    assert (
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3) == []
    )


def test_a_job_is_left_once(connection: Connection, repository: Repository) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    settle(repository, left(a))
    settle(repository, left(a))
    assert leased_jobs(connection) == [[a.job_id], [b.job_id]]


def test_a_job_that_was_canceled_meanwhile_is_not_left(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            assert cancel(repository, a.job_id) == [a.job_id]
            leaving = pool.submit(settle, other, left(a))
            until_waiting(connection, wait_until)
        leaving.result()
    other.close()
    assert leased_jobs(connection) == [[b.job_id]]
    assert status_of(connection, a.job_id) == "canceled"


def test_a_job_that_was_left_meanwhile_is_not_canceled_in_its_old_lease(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            settle(repository, left(a))
            canceling = pool.submit(cancel_apart, other, a.job_id)
            until_waiting(connection, wait_until)
        canceling.result()
    other.close()
    assert audit(connection) == (0, 0)
    assert [b.job_id] in leased_jobs(connection)


def cancel(repository: Repository, job_id: str) -> list[str]:
    operator = Operator("me", "jobs cancel", "no more")
    return repository.jobs.cancel_running_jobs([job_id], operator=operator, action_id=1)


def cancel_apart(repository: Repository, job_id: str) -> list[str]:
    with repository.transaction():
        return cancel(repository, job_id)


def test_a_job_that_was_left_while_a_heartbeat_waited_does_not_come_back(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            settle(repository, left(a))
            beating = pool.submit(beat, other, a.lease_id)
            until_waiting(connection, wait_until)
        beating.result()
    other.close()
    assert leased_jobs(connection) == [[a.job_id], [b.job_id]]


def test_a_job_that_is_left_while_a_heartbeat_writes_leaves_all_the_same(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    plant(connection, 3)
    a, b, c = lease(repository)
    settle(repository, success(c))
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            beat(repository, a.lease_id)
            leaving = pool.submit(settle, other, left(a), success(b))
            until_waiting(connection, wait_until)
        assert leaving.result().lost == []
    settle(other, closed=[b.lease_id])
    other.close()
    assert leased_jobs(connection) == [[a.job_id]]


# What is sent again because its reply was lost, while its first run is still at work.


@pytest.mark.parametrize("status", ["unstarted", "left", "failed", "succeeded"])
def test_what_is_sent_again_waits_for_its_first_run(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
    status: str,
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    ended = [success(job, **ends(job, status)) for job in (a, b)]
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            settle(repository, *ended, closed=[a.lease_id])
            again = pool.submit(settle, other, *ended, closed=[a.lease_id], again=True)
            until_waiting(connection, wait_until)
        reply = again.result()
    other.close()
    assert set(reply.lost) <= ({a.job_id, b.job_id} if status == "unstarted" else set())
    assert leases(connection) == (status == "left")


@pytest.mark.parametrize("status", ["unstarted", "left", "failed", "succeeded"])
def test_a_first_run_that_comes_after_its_repetition_changes_nothing(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
    status: str,
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    ended = [success(job, **ends(job, status)) for job in (a, b)]
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            settle(repository, *ended, closed=[a.lease_id], again=True)
            first = pool.submit(settle, other, *ended, closed=[a.lease_id])
            until_waiting(connection, wait_until)
        first.result()
    other.close()
    assert leases(connection) == (status == "left")
    assert len(attempts_of(connection, a.job_id)) == (status in ("failed", "succeeded"))


def ends(job: LeasedJob, status: str) -> dict[str, Any]:
    """Return how a settlement with that status differs from a success."""
    if status == "failed":
        return failure(job)._asdict()
    run_at = f"{job.run_at}+00" if status == "unstarted" else None
    return {"status": status, "run_at": run_at}


def test_a_parent_sent_again_waits_for_its_first_run_and_enqueues_once(
    connection: Connection,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    plant(connection)
    [parent] = lease(repository)
    other = Repository.of(repository.database)
    with ThreadPoolExecutor() as pool:
        with repository.transaction():
            assert len(follow(repository, parent) or []) == 1
            again = pool.submit(follow, other, parent, again=True)
            until_waiting(connection, wait_until)
        assert again.result() == []
    other.close()
    row = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert row == (2,)


def test_a_parent_whose_lease_is_gone_enqueues_nothing(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [parent] = lease(repository)
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert follow(repository, parent) is None
    row = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert row == (1,)


def test_a_parent_whose_commit_a_failover_lost_does_not_succeed_alone(
    connection: Connection, repository: Repository
) -> None:
    plant(connection)
    [parent] = lease(repository)
    # As the promoted standby has it: the lease, and nothing that came after it.
    settle(repository, left(parent), closed=[parent.lease_id])
    assert status_of(connection, parent.job_id) == "running"
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert status_of(connection, parent.job_id) == "queued"


def follow(
    repository: Repository, parent: LeasedJob, *, again: bool = False
) -> list[str] | None:
    return repository.leases.settle_and_enqueue(
        replace(IDLE, again=again),
        success(parent),
        [{"job_type": "child", "payload_json": {}}],
        max_payload_bytes=262144,
        max_enqueue_per_minute=0,
    )


# Instants.


def instants_in_order(connection: Connection) -> bool:
    """Say whether no attempt starts before its lease or ends before it starts."""
    row = connection.execute(
        """
        select bool_and(
          finished_at >= started_at
          and started_at >= coalesce(
            (
              select leased_at from pgflow.leases
              where leases.lease_id = any_attempts.lease_id
            ),
            (select max(leased_at) from before where lease = any_attempts.lease_id)
          )
        )
        from pgflow.any_attempts
        """
    ).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.fixture
def leased_ahead(connection: Connection, repository: Repository) -> list[LeasedJob]:
    """Jobs whose lease is later than the clock: it has stepped back since."""
    plant(connection, 5)
    jobs = lease(repository)
    connection.execute(
        "update pgflow.leases set leased_at = now() + interval '1 minute'"
    )
    connection.execute(
        "create temp table before as"
        " select lease_id as lease, leased_at from pgflow.leases"
    )
    return jobs


def test_no_attempt_ends_before_it_starts_whatever_the_clocks_say(
    connection: Connection, repository: Repository, leased_ahead: list[LeasedJob]
) -> None:
    a, b, c, d, e = leased_ahead
    settle(repository, success(a, started_ago=1.0, ended_ago=5.0), failure(b))
    follow(repository, c)
    cancel_apart(repository, d.job_id)
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert attempts_of(connection, e.job_id) == [(1, "lost", "WORKER_LOST")]
    assert instants_in_order(connection)


def test_a_run_that_ended_before_it_started_is_settled(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    a, b = lease(repository)
    connection.execute("update pgflow.leases set leased_at = now() - interval '1 hour'")
    backwards = {"started_ago": 1.0, "ended_ago": 5.0}
    settle(repository, success(a, **backwards))
    repository.leases.settle_and_enqueue(
        IDLE,
        success(b, **backwards),
        [{"job_type": "child", "payload_json": {}}],
        max_payload_bytes=262144,
        max_enqueue_per_minute=0,
    )
    assert status_of(connection, a.job_id) == "succeeded"
    assert status_of(connection, b.job_id) == "succeeded"


def test_a_lease_that_a_lock_held_up_for_longer_than_its_caller_waits_takes_nothing(
    connection: Connection,
    database: Database,
    repository: Repository,
    wait_until: Callable[..., Any],
) -> None:
    [job] = plant(connection)
    locking = database.connect(autocommit=False)
    locking.execute("lock table pgflow.jobs in access exclusive mode")
    with ThreadPoolExecutor() as pool:
        leasing = pool.submit(lease, repository, lease_seconds=0.4)
        wait_until(
            lambda: connection.execute(
                "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
                " and clock_timestamp() > query_start + interval '0.4 seconds'"
            ).fetchone(),
            "half of a lease has passed",
        )
        locking.rollback()
        assert leasing.result() == []
    assert status_of(connection, job) == "queued"
    assert len(lease(repository)) == 1
