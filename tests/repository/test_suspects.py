"""A suspect goes from one process's lease to another's: never lost, never twice."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.inspection.explanation import explain
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import LeasedJob, Settlement, Suspect
from pgflow_cli.repository import Repository
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.process import CONTEXT
from pgflow_cli.worker.shared_memory import SharedMemory
from pgflow_cli.worker.standstill import Standstill
from tests.acceptance.test_suspects import lose
from tests.repository.test_policies import asking, limit
from tests.support.jobs import (
    attempts_of,
    audit,
    expire_leases,
    new_worker,
    plant,
    status_of,
)

Connection = psycopg.Connection[Any]


def suspect_of(worker_id: str, job: LeasedJob) -> Suspect:
    return Suspect(worker_id, job.lease_id, job.job_id, job.rank, job.run_at)


def given_back(job: LeasedJob, delay: float | None = None) -> Settlement:
    settlement = Settlement(
        job.lease_id, job.job_id, job.attempt_no, "unstarted", 0.0, 0.0
    )
    return settlement._replace(run_at=f"{job.run_at}+00", delay=delay)


def test_a_job_is_taken_over_with_its_attempt(connection, repository):
    plant(connection, 2)
    cycle, spare = asking(), asking(0)
    first, second = repository.leases.settle_and_lease(cycle).jobs
    taken = repository.leases.take_over_job(spare, suspect_of(cycle.worker_id, first))
    assert taken is not None
    assert taken == first._replace(lease_id=taken.lease_id)
    assert taken.lease_id != first.lease_id
    assert audit(connection) == (0, 0)
    # Who had it gives it back, and closes its lease with the other's outcome.
    reply = repository.leases.settle_and_lease(
        replace(
            cycle,
            room=0,
            settlements=[given_back(first), given_back(second)],
            closed=[first.lease_id],
        )
    )
    assert reply.lost == [first.job_id]
    leases = connection.execute(
        "select lease_id::text, worker_id::text, job_ids::text[] from pgflow.leases"
    ).fetchall()
    assert leases == [(taken.lease_id, spare.worker_id, [first.job_id])]
    assert status_of(connection, second.job_id) == "queued"
    assert audit(connection) == (0, 0)


def test_what_was_given_back_is_not_taken_over(connection, repository):
    plant(connection)
    cycle = asking()
    [job] = repository.leases.settle_and_lease(cycle).jobs
    back = replace(cycle, room=0, settlements=[given_back(job)], closed=[job.lease_id])
    repository.leases.settle_and_lease(back)
    suspect = suspect_of(cycle.worker_id, job)
    assert repository.leases.take_over_job(asking(0), suspect) is None
    assert status_of(connection, job.job_id) == "queued"
    assert audit(connection) == (0, 0)


def test_a_stranger_takes_nothing_over(connection, repository):
    plant(connection)
    [job] = repository.leases.settle_and_lease(asking()).jobs
    assert (
        repository.leases.take_over_job(asking(0), suspect_of(new_worker(), job))
        is None
    )


def test_what_was_canceled_is_not_taken_over(connection, repository):
    plant(connection)
    cycle = asking()
    [job] = repository.leases.settle_and_lease(cycle).jobs
    operator = Operator("me", "here")
    assert repository.jobs.cancel_running_jobs(
        [job.job_id], operator=operator, action_id=1
    ) == [job.job_id]
    suspect = suspect_of(cycle.worker_id, job)
    assert repository.leases.take_over_job(asking(0), suspect) is None


def test_one_that_is_put_off_comes_again_later(connection, repository):
    [job_id] = plant(connection)
    lose(connection, job_id)
    cycle = asking()
    [job] = repository.leases.settle_and_lease(cycle).jobs
    settlements = [given_back(job, delay=60.0)]
    back = replace(cycle, room=0, settlements=settlements, closed=[job.lease_id])
    repository.leases.settle_and_lease(back)
    assert status_of(connection, job_id) == "scheduled"
    [row] = connection.execute(
        "select attempt_no, run_at between now() + interval '50 s' and now()"
        " + interval '61 s' from pgflow.pending"
    ).fetchall()
    assert row == (2, True)
    told = explain(repository.explanation.describe_job(job_id))
    assert told.verdict == "NOT_DUE"
    assert "such a job runs in a spare process" in told.summary[0]


@pytest.mark.parametrize(
    ("statuses", "lost"),
    [
        (("lost", "lost"), 2),
        (("lost", "lost", "failed"), 0),
        (("lost", "failed", "lost"), 1),
        (("lost", "snoozed", "lost", "lost"), 2),
        (("lost", "released", "lost"), 2),
    ],
)
def test_an_attempt_that_ended_clears_the_suspicion(
    connection, repository, statuses, lost
):
    """What is counted when it is leased, and when it is lost once more."""
    [job_id] = plant(connection)
    lose(connection, job_id, *statuses)
    cycle = asking()
    [job] = repository.leases.settle_and_lease(cycle).jobs
    assert job.lost_attempts == lost
    [ended] = repository.unsettled_leases.end_worker(
        cycle.worker_id,
        status="lost",
        started=[(job_id, job.attempt_no)],
        crash_budget=3,
        error_code="WORKER_LOST",
        error_message="gone",
    )
    assert ended.dead_lettered == (lost >= 2)


def test_what_waited_to_run_apart_when_its_worker_died_is_not_condemned(
    connection, repository
):
    """A supervisor takes all of its processes along: the one that ran the job to blame,
    and the one that held others like it.
    """
    for job in plant(connection, 2):
        lose(connection, job)
    cycle = asking()
    culprit, other = repository.leases.settle_and_lease(cycle).jobs
    assert repository.leases.take_over_job(
        asking(0), suspect_of(cycle.worker_id, culprit)
    )
    expire_leases(connection)
    ended = repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert {job.job_id: job.dead_lettered for job in ended} == {
        culprit.job_id: True,
        other.job_id: False,
    }
    assert attempts_of(connection, culprit.job_id)[2:] == [(3, "lost", "WORKER_LOST")]
    assert attempts_of(connection, other.job_id)[2:] == [(3, "released", "WORKER_LOST")]
    [again] = repository.leases.settle_and_lease(asking()).jobs
    assert (again.job_id, again.attempt_no, again.lost_attempts) == (other.job_id, 4, 2)


def test_a_worker_with_a_larger_budget_runs_no_killer_for_ever(connection, repository):
    """It runs among others what this reaper takes for a job that waited."""
    [job] = plant(connection)
    lose(connection, job)
    for _ in range(4):
        assert status_of(connection, job) == "queued"
        assert repository.leases.settle_and_lease(asking()).jobs
        expire_leases(connection)
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    assert status_of(connection, job) == "dlq"
    assert [status for _, status, _ in attempts_of(connection, job)[2:]] == [
        *["released"] * 3,
        "lost",
    ]


@dataclass
class Process:
    """A process that was started long ago and has leased nothing since."""

    name: str = "w"
    worker_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    memory: SharedMemory = field(
        default_factory=lambda: SharedMemory.create(CONTEXT, 1, 1)
    )
    started: float = 0.0
    job_types: list[str] | None = field(default_factory=lambda: ["noop"])
    stalled_for: float | None = None
    leasing: bool = True

    def shall_lease(self) -> bool:
        return self.leasing


def nothing(_: Connection) -> None:
    pass


def paused(connection: Connection) -> None:
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until)"
        " values ('default', 'infinity')"
    )


def limited(connection: Connection) -> None:
    limit(connection, max_in_flight=0)


def not_due(connection: Connection) -> None:
    connection.execute("update pgflow.pending set run_at = now() + interval '1 hour'")


@pytest.mark.parametrize(
    ("situation", "changes", "stalled"),
    [
        (nothing, {}, True),
        (nothing, {"job_types": None}, True),
        (nothing, {"job_types": ["other"]}, False),
        (nothing, {"leasing": False}, False),
        (paused, {}, False),
        (limited, {}, False),
        (not_due, {}, False),
    ],
)
def test_a_process_is_stalled_when_due_jobs_wait_for_it(
    connection: Connection,
    repository: Repository,
    situation: Any,
    changes: dict[str, Any],
    stalled: bool,
) -> None:
    plant(connection)
    situation(connection)
    process = Process(**changes)
    watch = Standstill(WorkerOptions(""), lambda: [process])
    watch.look(repository)
    assert process.stalled_for is None, "one look is none"
    for worker_id in watch._since:
        watch._since[worker_id] -= 30.0
    watch.look(repository)
    assert (process.stalled_for is not None) == stalled


@pytest.mark.parametrize("sign", ["leases", "is occupied"])
def test_a_process_that_leases_or_is_full_is_not_stalled(
    connection: Connection, repository: Repository, sign: str
) -> None:
    plant(connection)
    process = Process()
    watch = Standstill(WorkerOptions(""), lambda: [process])
    watch.look(repository)
    watch._since[process.worker_id] -= 30.0
    watch.look(repository)
    assert process.stalled_for is not None
    if sign == "leases":
        process.memory.hold(str(uuid.uuid4()), 1.0)
    else:
        process.memory.occupy()
    watch.look(repository)
    assert process.stalled_for is None
