"""Rows of policy decisions and ingest decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """A throttle or a refused enqueue, `count` times within a minute."""

    id: str
    kind: str
    minute: datetime
    last_at: datetime
    first_at: datetime
    queue: str
    decision: str
    reason_code: str
    count: int
    sample_job_id: str | None
    details_json: dict[str, object]

    @property
    def created_at(self) -> datetime:
        """Return when it was first decided, under its name in HTTP."""
        return self.first_at

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in the list it stands."""
        return self.first_at, self.id


@dataclass(frozen=True, slots=True)
class DecisionGroup:
    """Decisions of one queue and reason."""

    queue: str
    kind: str
    reason_code: str
    count: int
    first_at: datetime
    last_at: datetime
    sample_job_id: str | None
