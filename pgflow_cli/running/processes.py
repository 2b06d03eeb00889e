"""A worker process as its supervisor sees it: how it is started, spoken to, and settled
for when it is dead.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from pgflow_cli import backoff, handlers
from pgflow_cli.models import Cycle, EndedJob, Scan, Settlement
from pgflow_cli.repository import Repository
from pgflow_cli.running import intake, worker
from pgflow_cli.running.board import Board, RunningJob
from pgflow_cli.running.workplan import WorkPlan

log = logging.getLogger("pgflow.supervisor")

CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Child:
    """A worker process as its supervisor sees it."""

    number: int
    name: str
    plan: WorkPlan
    worker_id: str
    board: Board
    pipe: connection.Connection
    process: SpawnProcess
    started: float
    ready: bool = False
    idle: bool = False
    retiring: bool = False
    done: bool = False
    quiet: bool = False
    job_types: list[str] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, command: str) -> None:
        """Send a command; a process that is gone needs none."""
        with self.lock:
            try:
                self.pipe.send(command)
            except (BrokenPipeError, ConnectionResetError, OSError):
                log.debug(
                    "%s does not listen any more",
                    self.name,
                    extra={"event": "process_gone", "worker_id": self.name},
                )

    def hush(self) -> None:
        """Have it lease no more, now and after it has been replaced."""
        # One that retires says so itself in its row: not meant for its successor.
        if not (self.quiet or self.retiring):
            self.quiet = True
            log.info(
                "%s: quiet, leasing no more",
                self.name,
                extra={"event": "worker_quiet", "worker_id": self.name},
            )
            self.say("quiet")

    @classmethod
    def start(
        cls, plan: WorkPlan, number: int, remaining: Any, *, quiet: bool
    ) -> Child:
        """Start a worker process; `remaining` counts the jobs that all of them may
        still lease.
        """
        name = plan.name if plan.processes == 1 else f"{plan.name}.{number}"
        worker_id = str(uuid.uuid4())
        board = Board.create(
            CONTEXT,
            runs=plan.concurrency,
            leases=plan.concurrency + (intake.BATCHES + 1) * plan.batch_size,
        )
        board.renew(time.monotonic())
        board.turn()
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(
            target=worker.main,
            args=(plan, worker_id, name, board, theirs, remaining),
            name=f"pgflow-worker-{number}",
        )
        process.start()
        theirs.close()
        now = time.monotonic()
        return cls(
            number, name, plan, worker_id, board, ours, process, now, quiet=quiet
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def row(self) -> dict[str, object]:
        return {
            "worker_id": self.worker_id,
            "pid": self.process.pid,
            "slots": self.plan.concurrency,
            "busy_slots": len(self.board.running()),
            "lease_seconds": max(1, round(self.plan.lease_seconds)),
            "quiet": self.quiet or self.retiring,
            "name": self.name,
            "host": socket.gethostname(),
            "code_version": self.plan.code_version,
            "queues": self.plan.queues,
            "job_types": self.job_types,
        }


def settling(
    child: Child, status: str, message: str, culprits: tuple[RunningJob, ...] = ()
) -> Callable[[Repository], None]:
    """Return what settles for a dead process: `culprits` as timed out, other started
    jobs with the status.
    """
    running = child.board.running()

    def settle(repository: Repository) -> None:
        if culprits:
            cycle = _timed_out(child, culprits)
            lost = set(repository.settle_and_lease(cycle).lost)
            settled = [s for s in cycle.settlements if s.job_id not in lost]
            repository.count_attempts([(s.job_id, s.attempt_no) for s in settled])
            for settlement in settled:
                _tell_late(child, settlement)
        ended = repository.end_worker(
            child.worker_id,
            status=status,
            started=[run.job_id for run in running if run not in culprits],
            crash_budget=child.plan.crash_budget,
            error_code="WORKER_LOST",
            error_message=message,
        )
        repository.forget_workers([child.worker_id])
        for job in ended:
            if job.started:
                _tell(child, job, status)

    return settle


def _tell(child: Child, job: EndedJob, status: str) -> None:
    dead = job.dead_lettered
    log.warning(
        "job %s %s with its worker process",
        job.job_id,
        "dead-lettered" if dead else status,
        extra={
            "event": handlers.EVENTS["dlq" if dead else status],
            "worker_id": child.name,
            "queue": job.queue,
            "job_id": job.job_id,
            "job_type": job.job_type,
            "attempt_no": job.attempt_no,
            **({"error_code": "WORKER_LOST"} if status == "lost" else {}),
            **({"reason_code": "CRASH_LOOP"} if dead else {}),
        },
    )


def _tell_late(child: Child, settled: Settlement) -> None:
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


def cause(code: int | None) -> str:
    """Name an exit code or a signal."""
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _timed_out(child: Child, culprits: tuple[RunningJob, ...]) -> Cycle:
    """Return the settlement of jobs that their own process could not end in time."""
    now = time.monotonic()
    settlements = []
    for run in culprits:
        failed = run.failed_attempts + 1
        last = failed >= run.max_attempts
        settlements.append(
            Settlement(
                run.lease_id,
                run.job_id,
                run.attempt_no,
                "failed",
                started_ago=now - run.started,
                ended_ago=0.0,
                delay=None if last else backoff.delay(failed),
                dlq_reason_code="MAX_ATTEMPTS_EXCEEDED" if last else None,
                failed_attempts=failed,
                error_code="TIMEOUT",
                error_message="the handler held up its process past its deadline",
            )
        )
    return Cycle(
        worker_id=child.worker_id,
        worker_name=child.name,
        code_version=child.plan.code_version,
        batch_id=str(uuid.uuid4()),
        lease_seconds=child.plan.lease_seconds,
        queues=None,
        job_types=None,
        room=0,
        scan=Scan(),
        settlements=settlements,
        closed=[],
    )
