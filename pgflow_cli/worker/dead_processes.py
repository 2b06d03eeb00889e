"""Processes that are dead: what ends their leases, and what looks for late ones.

A statement of theirs may still be at work on the server, and lease when it commits.
None of those jobs ever starts.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from pgflow_cli import handlers
from pgflow_cli.errors import REFUSALS
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.handlers import outcomes
from pgflow_cli.maintenance.reap import end_leases
from pgflow_cli.models.jobs import EndedJob, LeaseRequest, Scan, Settlement
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry import logs
from pgflow_cli.worker.process import Child
from pgflow_cli.worker.shared_memory import RunningJob

log = logging.getLogger("pgflow.supervisor")

FIRST_LOOK = 0.5  # seconds after a burial; then doubling
# Parts of a lease between two looks at most, so that one that comes late is found
# before it runs out.
SHARE = 8


@dataclass
class Burial:
    """Ends the leases of a dead process, as often as it is asked.

    `started` are the attempts (job id, number) that the process had started and not
    settled: only these get the status.
    """

    worker_id: str
    name: str
    status: str
    message: str
    started: tuple[tuple[str, int], ...]
    crash_budget: int
    refused: set[str] = field(default_factory=set)

    def end(
        self, repository: Repository, lease_ids: list[str] | None = None
    ) -> list[EndedJob]:
        """End these leases of the process; without a list, all it has.

        Raises what an outage raises.
        """
        ends = end_leases(
            repository,
            lambda only: repository.unsettled_leases.end_worker(
                self.worker_id,
                status=self.status,
                started=self.started,
                crash_budget=self.crash_budget,
                # A released attempt is charged to none: no error ended it.
                error_code="WORKER_LOST" if self.status == "lost" else None,
                error_message=self.message,
                only=lease_ids if only is None else only,
            ),
        )
        self.refused.update(ends.refused)
        return ends.jobs


@dataclass
class _Grave:
    burial: Burial
    until: float
    look: float
    pause: float = FIRST_LOOK


class Graveyard:
    """Looks for late leases of processes that are buried: one statement for all of
    them, until two leases have passed since the burial. A statement leases nothing once
    it is older than a lease, whatever it waits for.

    For one thread.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._graves: dict[str, _Grave] = {}  # by worker id

    def add(self, burial: Burial) -> None:
        """Look for leases of a process from now on; its known leases have ended."""
        now = monotonic()
        self._graves[burial.worker_id] = _Grave(
            burial, now + 2 * self._lease_seconds, now + self._pause(FIRST_LOOK)
        )

    def next_look(self) -> float:
        """Return the monotonic instant of the next look; infinity without a grave."""
        return min((grave.look for grave in self._graves.values()), default=math.inf)

    def young(self) -> bool:
        """Say whether a process was buried within half a lease: its last statement may
        still lease.
        """
        oldest = monotonic() + 1.5 * self._lease_seconds
        return any(grave.until > oldest for grave in self._graves.values())

    def look(self, repository: Repository) -> list[tuple[Burial, list[EndedJob]]]:
        """Give back what was leased after all; return it, process by process.

        Nothing is asked while there is no grave. Raises what an outage raises.
        """
        if not self._graves:
            return []
        asked = monotonic()
        self._put_off(asked)
        late: dict[str, list[str]] = {}
        for worker_id, lease_id in repository.unsettled_leases.list_worker_leases(
            [*self._graves]
        ):
            if lease_id not in self._graves[worker_id].burial.refused:
                late.setdefault(worker_id, []).append(lease_id)
        found = []
        for worker_id, lease_ids in late.items():
            burial = self._graves[worker_id].burial
            found.append((burial, burial.end(repository, lease_ids)))
        self._graves = {k: g for k, g in self._graves.items() if g.until > asked}
        return found

    def _put_off(self, now: float) -> None:
        for grave in self._graves.values():
            if grave.look <= now:
                grave.pause = self._pause(2 * grave.pause)
                grave.look = now + grave.pause

    def _pause(self, wanted: float) -> float:
        return min(wanted, self._lease_seconds / SHARE)


def tell_ended(burial: Burial, ended: list[EndedJob]) -> None:
    """Write the log lines of jobs that have ended with their process."""
    for job in ended:
        if job.started:
            _tell(burial, job)


def tell_late(burial: Burial, ended: list[EndedJob]) -> None:
    """Write the log lines of what a statement leased for a dead process."""
    tell_ended(burial, ended)
    if count := sum(not job.started for job in ended):
        log.info(
            "%d jobs were leased for %s after it had died: given back",
            count,
            burial.name,
            extra={
                "event": "batch_given_back",
                "worker_id": burial.name,
                "count": count,
            },
        )


def _tell(burial: Burial, job: EndedJob) -> None:
    dead, status = job.dead_lettered, burial.status
    log.warning(
        "job %s %s with its worker process",
        job.job_id,
        "dead-lettered" if dead else status,
        extra={
            "event": handlers.EVENTS["dlq" if dead else status],
            "worker_id": burial.name,
            "queue": job.queue,
            "job_id": job.job_id,
            "job_type": job.job_type,
            "attempt_no": job.attempt_no,
            **({"error_code": "WORKER_LOST"} if status == "lost" else {}),
            **({"reason_code": "CRASH_LOOP"} if dead else {}),
        },
    )


def settling(
    child: Child,
    status: str,
    message: str,
    graveyard: Graveyard,
    culprit: RunningJob | None = None,
) -> Callable[[Repository], None]:
    """Return the settlements for a dead process: `culprit` as timed out, other started
    jobs with the status, also those that had ended and were not settled yet.
    """
    # The culprit, too: what is settled is passed over, unless its outcome was refused.
    started = tuple((run.job_id, run.attempt_no) for run in child.memory.unsettled())
    burial = Burial(
        child.worker_id,
        child.name,
        status,
        message,
        started,
        child.options.crash_budget,
    )
    late = [culprit] if culprit else []

    def settle(repository: Repository) -> None:
        if late:
            _settle_late(child, late[0], repository)
            late.clear()
        tell_ended(burial, burial.end(repository))
        repository.unsettled_leases.forget_workers([child.worker_id])
        if not child.done:  # else it has seen its last statement to its end
            graveyard.add(burial)

    return settle


def _settle_late(child: Child, culprit: RunningJob, repository: Repository) -> None:
    settlement = _timed_out(culprit)
    try:
        reply = repository.leases.settle_and_lease(_settling_only(child, settlement))
    except REFUSALS as error:
        log.error(  # noqa: TRY400 - the sentence is all there is to know
            "a timeout cannot be recorded, the attempt ends with its process: %s",
            error,
            extra=logs.trouble("outcome_refused", error),
        )
        return
    if settlement.job_id not in reply.lost:
        attempt = settlement.job_id, settlement.attempt_no
        repository.counters.count_attempts([attempt])
        _tell_timed_out(child, settlement)


def _tell_timed_out(child: Child, settled: Settlement) -> None:
    reason = settled.dlq_reason_code
    log.warning(
        "job %s failed with TIMEOUT: %s",
        settled.job_id,
        settled.error_message,
        extra={
            "event": handlers.EVENTS["dlq" if reason else "retried"],
            "worker_id": child.name,
            "job_id": settled.job_id,
            "attempt_no": settled.attempt_no,
            "latency_ms": round((settled.started_ago or 0.0) * 1000, 1),
            "error_code": settled.error_code,
            **({"reason_code": reason} if reason else {}),
        },
    )


def _timed_out(run: RunningJob) -> Settlement:
    """Return the settlement of a job that its own process could not end in time."""
    failed = run.failed_attempts + 1
    last = failed >= run.max_attempts
    return Settlement(
        run.lease_id,
        run.job_id,
        run.attempt_no,
        "failed",
        started_ago=monotonic() - run.started,
        ended_ago=0.0,
        delay=None if last else outcomes.backoff_delay(failed),
        dlq_reason_code="MAX_ATTEMPTS_EXCEEDED" if last else None,
        failed_attempts=failed,
        error_code="TIMEOUT",
        error_message="the handler held up its process past its deadline",
    )


def _settling_only(child: Child, settlement: Settlement) -> LeaseRequest:
    return LeaseRequest(
        worker_id=child.worker_id,
        worker_name=child.name,
        code_version=child.options.code_version,
        batch_id=str(uuid.uuid4()),
        lease_seconds=child.options.lease_seconds,
        queues=None,
        job_types=None,
        room=0,
        scan=Scan(),
        settlements=[settlement],
        closed=[],
        # A statement of the process itself may still run on the server, or this one.
        again=True,
    )
