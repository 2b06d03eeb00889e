"""What operators did, and whether every job is in one place, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Audit:
    """Jobs in no place, jobs in two places, and places that name a job that is not.

    `examples` are the first ids; None if all is well.
    """

    in_no_place: int
    in_two_places: int
    without_job: int
    examples: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """Who changes something, by what command, and what they noted; nothing secret."""

    actor: str
    command: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorAction:
    """A change by an operator; `unfinished` if it runs, or was ended half-way."""

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
