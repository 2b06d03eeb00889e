"""The shapes of dead letters in groups, counts and exports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from pgflow_cli.formats.words import short_id


@dataclass(frozen=True, slots=True)
class _Dead:
    """The fields of a dead letter in every list, with the names of the API.

    Fields of the job itself are None if the job was removed already.
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
    """A job that runs again only if an operator replays it."""

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
        """Return the attempts it has used, of how many."""
        of = "" if self.max_attempts is None else f"/{self.max_attempts}"
        return f"{self.failed_attempts}{of}"

    @property
    def lease_expires_at(self) -> datetime | None:
        """None: no worker holds it; lists of jobs have this field."""
        return None


# Keys by which dead letters can be grouped, as they are typed.
KEYS = ("fingerprint", "error-code", "reason", "type", "queue", "code-version")


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters with the same `key`; `share` is their part of all."""

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
    """The deaths of one group within one time bucket."""

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
    """A dead letter with every field that is needed to enqueue its job again.

    `meta` and `payload` are JSON text, None if the job is gone.
    """

    meta: str | None
    payload: str | None


@dataclass(frozen=True, slots=True)
class LookedUpJob:
    """The state of a job that was named; a dead letter is open, replayed or discarded.

    `state` is None if there is no such job. `unreadable`: it is a dead letter because
    its row could not be read, and still cannot be.
    """

    job_id: str
    state: str | None
    replay_job_id: str | None
    unreadable: bool
