"""The options of a supervisor and its worker processes; plain values, so that they can
be sent to a process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgflow_cli.models.jobs import Suspect

# At most so many batches wait: for each connection one that runs, one on its way.
BATCHES = 4


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The settings of `pgflow work`. Durations are seconds; `queues` None means every
    queue; 0 means no limit. A process with a `suspect` runs that job and no other. A
    `wary` one follows processes that died one after the other before they settled
    anything: it runs no job that was lost even once.
    """

    url: str = field(repr=False)
    name: str = "worker"
    queues: list[str] | None = field(default_factory=lambda: ["default"])
    apps: tuple[str, ...] = ()
    exec_specs: tuple[str, ...] = ()
    handlers_dir: str | None = None
    exec_environment: Mapping[str, str] | None = None
    on_unknown: str = "leave"
    simulate: bool = False
    concurrency: int = 8
    processes: int = 1
    batch_size: int = 256
    connections: int = 2
    lease_seconds: float = 10.0
    heartbeat: float = 10.0 / 3
    reap_interval: float = 5.0
    crash_budget: int = 3
    poll: float = 0.25
    listen: bool = True
    maintain: bool = False
    maintenance_interval: float = 60.0
    archive_after: float = 7 * 86_400.0
    prune_after: float = 7 * 86_400.0
    connect_timeout: float = 5.0
    patience: float = math.inf  # for a connection, of what is to end by itself
    shutdown_timeout: float = 30.0
    drain: bool = False
    once: bool = False
    max_jobs: int | None = None
    max_runtime: float = 0.0
    idle_timeout: float = 0.0
    max_payload_bytes: int = 262144
    max_enqueue_per_minute: int = 0
    log_jobs: bool = False
    log_format: str = "auto"
    log_level: str = "info"
    code_version: str | None = None
    status_folders: tuple[Path, ...] = ()
    notify_socket: str | None = None
    watchdog: float = 0.0
    suspect: Suspect | None = None
    wary: bool = False

    def name_of(self, number: int) -> str:
        """Return the name of a process, given its number."""
        alone = self.processes == 1 or self.suspect is not None
        return self.name if alone else f"{self.name}.{number}"

    @property
    def losses_of_suspect(self) -> int:
        """The lost attempts, since the last that ended, from which on a job runs apart:
        those that leave it one; all of them, once, in a wary process.
        """
        return 1 if self.wary else self.crash_budget - 1

    def of_spare(self, suspect: Suspect) -> WorkerOptions:
        """Return the options of a spare process: one slot, one connection.

        What its job takes off --max-jobs was taken when it was leased.
        """
        return replace(
            self,
            name=f"{self.name}.spare",
            suspect=suspect,
            concurrency=1,
            connections=1,
            batch_size=1,
            once=False,
            max_jobs=None,
        )

    @property
    def waiting(self) -> int:
        """The most jobs that may wait in a process's memory behind its busy slots."""
        return max(self.concurrency, BATCHES * self.batch_size)

    @property
    def places(self) -> int:
        """The most jobs that a process ever holds: leased, and not settled as far as it
        knows. No more leases either, for none stays without a job.

        Room is what `concurrency + waiting` leaves free beside the jobs that no
        connection is settling. When a connection leases, the jobs that its own
        statement settles leave with the reply; the others of its own count. So the jobs
        of each connection are never more than that, and only those of other connections
        may have been left out because they were being settled. One more: a suspect
        takes no room from the others.
        """
        return self.connections * (self.concurrency + self.waiting) + 1
