"""The identity of a database, and whether it allows jobs to run.

A restored or cloned database must not run jobs again that ended elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

# A failover changes none of it; a major upgrade changes the server.
_DIFFERENCES = {
    "NOT_RECORDED": "its identity is not recorded",
    "OTHER_SERVER": "it is on another server than it was recorded on",
    "OTHER_DATABASE": "it is a copy of the database it was recorded in",
    "OTHER_TABLES": "its tables were made again, as a restore does",
}


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """The recorded identity of a database, and its present one.

    A system identifier is None where it may not be read; every recorded field is None
    where the row is missing. `difference` is a code, None where there is none.
    """

    recorded_system_identifier: int | None
    present_system_identifier: int | None
    recorded_database_oid: int | None
    present_database_oid: int
    recorded_table_oid: int | None
    present_table_oid: int
    epoch: str | None
    recorded_at: datetime | None
    fenced_at: datetime | None
    fenced_by: str | None
    fence_reason: str | None
    difference: str | None
    fenced: bool

    @property
    def moved(self) -> str | None:
        """Return the difference between the present and the recorded identity; None if
        there is none.
        """
        return _DIFFERENCES[self.difference] if self.difference else None

    @property
    def reason(self) -> str | None:
        """Return why no job may be leased; None if the fence is down."""
        return self.fence_reason or self.moved


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What an acceptance would change: interrupted jobs and queues to pause; and what
    not.

    `live_jobs` are of workers heard of since the fence was raised. `undecided_jobs` are
    of leases that have not run out, for at most so many seconds: their workers may yet
    be heard of. `loaded_over`: a dump was loaded over the schema.
    """

    jobs: int
    live_jobs: int
    undecided_jobs: int
    undecided_seconds: float
    queues: int
    live_workers: int
    loaded_over: bool


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The result of an acceptance; `action_id` is its row of the audit.

    `removed` counts what a dump that was loaded over the schema had brought back.
    """

    action_id: int
    epoch: str
    jobs: int
    removed: int
    paused: int
    workers_forgotten: int
