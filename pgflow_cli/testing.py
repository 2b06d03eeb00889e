"""Runs jobs inside a test of an application: no worker, no second connection."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgflow_cli import handlers
from pgflow_cli.handlers import App, Outcome
from pgflow_cli.models.jobs import LeasedJob, LeaseRequest, Scan, Settlement
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry.counters import TIMED, Tally, attempt_of
from pgflow_cli.worker.execution import executables
from pgflow_cli.worker.heartbeat import Ledger

if TYPE_CHECKING:
    import psycopg

_BATCH = 100
_LEASE = 3600.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One attempt that `drain` has run."""

    job_id: str
    job_type: str
    attempt_no: int
    outcome: Outcome


def drain(
    connection: psycopg.Connection[object],
    app: App,
    *,
    queues: list[str] | None = None,
    most: int = 1000,
) -> list[Ran]:
    """Run the due jobs, one after another, and return how each has ended.

    Jobs are leased and settled as a worker would, over the caller's own connection and
    inside its transaction if it is in one: rolled back, nothing has happened. Jobs that
    are enqueued meanwhile run, too; retries wait for their time. None for `queues`
    means every queue. Raises RuntimeError after `most` attempts, so that jobs which
    enqueue each other end the test instead of holding it up. Only async handlers are
    stopped at their time limit.
    """
    repository = Repository.over(connection)
    worker_id = str(uuid.uuid4())
    ran: list[Ran] = []
    ledger = Ledger()
    while True:
        request = LeaseRequest(
            worker_id=worker_id,
            worker_name="testing",
            code_version=None,
            batch_id=str(uuid.uuid4()),
            lease_seconds=_LEASE,
            queues=queues,
            job_types=sorted(app.handlers),
            room=min(_BATCH, most - len(ran) + 1),
            scan=Scan(),
            settlements=[],
            closed=[],
        )
        jobs = repository.leases.settle_and_lease(request).jobs
        if not jobs:
            ledger.flush(repository, worker_id)
            return ran
        for place, job in enumerate(jobs):
            if len(ran) >= most:
                raise RuntimeError(f"still jobs to run after {most} attempts")
            last = job.lease_id not in {j.lease_id for j in jobs[place + 1 :]}
            began = time.monotonic()
            done = _run(repository, request, app, job, closes=last)
            ledger.add(_counted(job, done.outcome, time.monotonic() - began))
            ran.append(done)


def _run(
    repository: Repository,
    request: LeaseRequest,
    app: App,
    job: LeasedJob,
    *,
    closes: bool,
) -> Ran:
    began = time.monotonic()
    outcome = _outcome(app, job)
    took = time.monotonic() - began
    settlement = Settlement(
        job.lease_id,
        job.job_id,
        job.attempt_no,
        outcome.status,
        took,
        0.0,
        outcome.delay,
        outcome.dlq_reason_code,
        job.failed_attempts + (outcome.status == "failed"),
        outcome.error_code,
        outcome.error_message,
        outcome.error_fingerprint,
    )
    if outcome.followers:
        repository.leases.settle_and_enqueue(
            request,
            settlement,
            outcome.followers,
            max_payload_bytes=262144,
            max_enqueue_per_minute=0,
        )
        settlement = settlement._replace(status="left")
    closed = [job.lease_id] if closes else []
    repository.leases.settle_and_lease(
        replace(request, room=0, settlements=[settlement], closed=closed)
    )
    return Ran(job.job_id, job.job_type, job.attempt_no, outcome)


def _counted(job: LeasedJob, outcome: Outcome, took: float) -> Tally:
    tally = Tally()
    dead = outcome.dlq_reason_code is not None
    attempt = attempt_of(job, outcome.status, outcome.error_code, dead=dead)
    tally.count([(attempt, took if outcome.status in TIMED else None)])
    return tally


def _outcome(app: App, leased: LeasedJob) -> Outcome:
    handler = app.handlers[leased.job_type]
    try:
        job = handlers.prepare(handler, leased)
    except Exception as error:
        return handlers.conclude(handler, leased, error)
    if handler.kind == "async":
        return asyncio.run(handlers.run_async(handler, job))
    if handler.kind == "executable":
        return executables.run(handler, job)
    return handlers.run(handler, job)
