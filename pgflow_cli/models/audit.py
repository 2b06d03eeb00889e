"""Rows of operators' actions, and of the check that every job is in exactly one
table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Audit:
    """Counts of jobs in no table, of jobs in two tables, and of entries without a job.

    `examples` are the first ids; None if all is well.
    """

    in_no_place: int
    in_two_places: int
    without_job: int
    examples: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """The author of a change, the command, and a note; never a secret."""

    actor: str
    command: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """A change by an operator; `unfinished` if it runs, or was killed."""

    id: str
    created_at: datetime
    actor: str
    role: str
    action: str
    queue: str | None
    jobs: int
    state: str
    finished_at: datetime | None
    note: str | None
    plan_id: int | None
    command: str
    details_json: dict[str, object]

    @property
    def position(self) -> tuple[datetime, str]:
        """Where in the list it stands."""
        return self.created_at, self.id
