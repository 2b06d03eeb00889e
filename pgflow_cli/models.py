"""The shape of each row; field names are column names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job as a worker receives it. Everything is text or number: nothing here can fail to decode.

    `run_at` is UTC, `YYYY-MM-DD HH:MM:SS.ffffff`, so that it sorts as text. `failed_attempts` and `lost_attempts` are
    what the ledger holds so far; `attempt_no` is the number of the attempt this lease would be.
    """

    lease_id: str
    job_id: str
    queue: str
    rank: int
    run_at: str
    attempt_no: int
    job_type: str
    payload: str
    max_attempts: int
    timeout_ms: int | None
    meta: str | None
    replay_of_job_id: str | None
    failed_attempts: int
    lost_attempts: int
