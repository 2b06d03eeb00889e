"""The shapes of dead letters in groups, counts and exports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from pgflow_cli.formats.words import short_id


@dataclass(frozen=True, slots=True)
class _Dead:
    """What every list says of a dead letter, under the names of the API.

    What belongs to the job itself is None where the job is gone already.
    """

    id: str
    queue: str
    job_type: str
    dlq_at: datetime
    failed_attempts: int
    attempt_no: int
    max_attempts: int | None
    dlq_reason_code: str
    last_error_code: str | None
    last_error_message: str | None
    fingerprint: str | None
    code_version: str | None
    priority: int | None
    run_at: datetime | None
    created_at: datetime | None
    replay_of_job_id: str | None

    @property
    def position(self) -> tuple[datetime, str]:
        """Return where it stands in a list."""
        return self.dlq_at, self.id


@dataclass(frozen=True, slots=True)
class DeadLetter(_Dead):
    """A job that will not run again by itself."""

    status: ClassVar[str] = "dlq"

    updated_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    replay_job_id: str | None
    worker_id: str | None

    @property
    def short_id(self) -> str:
        """Return the end of the id, as screens show it."""
        return short_id(self.id)

    @property
    def tries(self) -> str:
        """Return how much of its attempts it has spent."""
        of = "" if self.max_attempts is None else f"/{self.max_attempts}"
        return f"{self.failed_attempts}{of}"

    @property
    def lease_expires_at(self) -> datetime | None:
        """Return None, as lists of jobs have it: no worker holds it."""
        return None


# What dead letters are grouped by, as it is typed.
KEYS = ("fingerprint", "error-code", "reason", "type", "queue", "code-version")


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters that have `key` in common; `share` is their part of all of them."""

    key: str | None
    count: int
    share: float
    first_at: datetime
    last_at: datetime
    job_type: str
    error_code: str | None
    sample_job_id: str
    message: str | None


@dataclass(frozen=True, slots=True)
class DeathCount:
    """How many died within one length of time of what they have in common."""

    bucket: datetime
    key: str | None
    count: int


@dataclass(frozen=True, slots=True)
class DeadLetterCount:
    """How many dead letters have an error code; the resolved ones are one row."""

    resolved: bool
    error_code: str | None
    jobs: int


@dataclass(frozen=True, slots=True)
class ExportedLetter(_Dead):
    """A dead letter with all that is needed to make its job once more.

    `meta` and `payload` are JSON text, None if the job is gone.
    """

    meta: str | None
    payload: str | None


@dataclass(frozen=True, slots=True)
class LookedUpJob:
    """The state of a job that was named; a dead letter is open, replayed, discarded.

    `state` is None if there is no such job. `unreadable`: it is a dead letter because
    its row could not be read, and still cannot be.
    """

    job_id: str
    state: str | None
    replay_job_id: str | None
    unreadable: bool
