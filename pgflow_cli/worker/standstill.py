"""Sees from outside whether a worker process leases nothing though jobs are due for it:
one that believes to be at work would never say so itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pgflow_cli.repository import Repository
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import SharedMemory

log = logging.getLogger("pgflow.supervisor")

LEASES = 3  # for so many of them a process has leased nothing; then it is stalled


class Process(Protocol):
    """What must be known of a worker process."""

    name: str
    worker_id: str
    memory: SharedMemory
    started: float
    job_types: list[str] | None
    stalled_for: float | None

    def shall_lease(self) -> bool:
        """Say whether it is meant to lease jobs."""
        ...


class Standstill:
    """Looks twice in a lease, at processes that have leased nothing since the last
    look.

    Such a process is stalled once every look in three leases has found a due job that
    it may run: of its queues and types, and that neither a pause, a limit nor the fence
    holds back. Not counted is the time for which all its slots are busy or a type is at
    its own limit.
    """

    def __init__(
        self, options: WorkerOptions, processes: Callable[[], Sequence[Process]]
    ) -> None:
        self._options, self._processes = options, processes
        self._pause = options.lease_seconds / 2
        self._since: dict[str, float] = {}  # worker id -> the first of these looks

    def look(self, repository: Repository) -> float:
        """Look once; return the seconds to the next look."""
        asked = time.monotonic()
        kept: dict[str, float] = {}
        for process in self._processes():
            since = self._standing_since(process, asked)
            if since is not None and repository.leases.find_due_job(
                self._options.queues, process.job_types
            ):
                kept[process.worker_id] = since
            self._judge(process, kept.get(process.worker_id), asked)
        self._since = kept
        return self._pause

    def _standing_since(self, process: Process, now: float) -> float | None:
        """Return when a process was first seen to lease nothing; None if it has leased
        since the last look, or had reason not to.
        """
        memory = process.memory
        at = max(memory.leased_at(), memory.occupied_at(), process.started)
        if not process.shall_lease() or now - at < self._pause:
            return None
        since = self._since.get(process.worker_id, now)
        return since if since > at else now

    def _judge(self, process: Process, since: float | None, now: float) -> None:
        stood = None if since is None else now - since
        if stood is not None and stood < LEASES * self._options.lease_seconds:
            stood = None
        if stood is not None and process.stalled_for is None:
            log.warning(
                "%s: has leased nothing for %.0f s though due jobs wait that it may"
                " run",
                process.name,
                stood,
                extra={"event": "worker_stalled", "worker_id": process.name},
            )
        process.stalled_for = stood
