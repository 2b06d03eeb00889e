"""Rows of worker processes and their heartbeats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class BeatReply:
    """The reply to a heartbeat: the `leases` that still exist, the `canceled` jobs that
    must stop, by lease, and the workers that must be `quiet` and lease nothing.
    """

    leases: set[str]
    canceled: dict[str, list[str]]
    quiet: set[str]


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process; `queues` and `job_types` are None for all of them.

    `quiet`: an operator or a signal had it lease nothing. `retiring`: it is replaced,
    and ends after its other jobs. `spare`: it runs one suspect. `stalled_for`: the
    seconds for which it has leased nothing though due jobs wait for it; None: it does
    lease, or has reason not to. `deaths`: there is no process, and its supervisor
    starts another: so many have died one after the other, or could not be started; 0:
    it loads the handlers for the first time.
    """

    name: str
    host: str
    pid: int
    alive: bool
    silent_for: float
    quiet: bool
    slots: int
    busy_slots: int
    queues: list[str] | None
    job_types: list[str] | None
    code_version: str | None
    retiring: bool = False
    spare: bool = False
    stalled_for: float | None = None
    deaths: int | None = None

    def serves(self, queue: str) -> bool:
        """Return whether it leases jobs of the queue."""
        idle = self.quiet or self.retiring or self.spare or self.deaths is not None
        return self.alive and not idle and self.is_of(queue)

    def is_of(self, queue: str) -> bool:
        """Say whether the queue is among those it was started for."""
        return self.queues is None or queue in self.queues

    def takes(self, queue: str, job_type: str) -> bool:
        """Return whether it leases jobs of this queue and type."""
        knows = self.job_types is None or job_type in self.job_types
        return self.serves(queue) and knows


STATES = {
    "busy": "leases jobs, and runs some",
    "idle": "leases jobs, and finds none",
    "quiet": "leases nothing until it is resumed: an operator or a signal said so",
    "retiring": "leases nothing more: a handler outran its end; it has been replaced, "
    "and ends after its other jobs",
    "restarting": "has no process now: it ended or could not be started, and its "
    "supervisor starts another",
    "starting": "is not ready yet: it loads the handlers",
    "spare": "runs one job apart, of which processes have died",
    "stalled": "leases nothing, though due jobs wait that it may run",
    "silent": "was not heard of for longer than its lease",
}
"""The states of a worker process, and what each means."""


@dataclass(frozen=True, slots=True)
class ListedWorker:
    """A worker process; `state` is one of `STATES`.

    `queues` and `job_types` are None for all of them.
    """

    worker_id: str
    name: str
    state: str
    host: str
    pid: int
    busy_slots: int
    slots: int
    held_jobs: int
    queues: list[str] | None
    handlers: int | None
    job_types: list[str] | None
    code_version: str | None
    last_heartbeat: datetime
    last_leased_at: datetime | None
    started_at: datetime
    lease_seconds: int
    supervisor_id: str

    @property
    def slots_in_use(self) -> str:
        """Return the busy slots and all slots, as text."""
        return f"{self.busy_slots}/{self.slots}"

    @property
    def served(self) -> str:
        """Return the queues that it serves."""
        return "*" if self.queues is None else ",".join(self.queues)

    @property
    def position(self) -> tuple[datetime, str]:
        """Its position in a list that begins with the latest start."""
        return self.started_at, self.worker_id


"""The minimum and the maximum of each limit of a policy."""
