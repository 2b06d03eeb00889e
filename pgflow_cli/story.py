"""What happened to a job, event by event; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pgflow_cli.models import Attempt, JobFacts
from pgflow_cli.phrases import length


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the timeline; `after` is in seconds since the job was enqueued."""

    at: str | None
    after: float | None
    event: str
    worker_id: str | None
    took_ms: float | None
    detail: str


def tell(facts: JobFacts) -> Iterator[Event]:
    job = facts.job
    begun = datetime.fromisoformat(job.created_at)

    def event(
        at: str,
        what: str,
        detail: str,
        worker_id: str | None = None,
        took_ms: float | None = None,
    ) -> Event:
        after = (datetime.fromisoformat(at) - begun).total_seconds()
        return Event(at, max(0.0, after), what, worker_id, took_ms, detail)

    about = f"priority {job.priority}, max_attempts {job.max_attempts}"
    if job.replay_of_job_id:
        about += f", replay of {job.replay_of_job_id}"
    yield event(job.created_at, "enqueued", about)
    hidden = job.attempts - len(facts.attempts)
    for number, attempt in enumerate(facts.attempts):
        if hidden and number == min(1, len(facts.attempts) - 1):
            detail = f"... {hidden} attempts hidden (--attempts all)"
            yield Event(None, None, "", None, None, detail)
        yield event(
            attempt.finished_at,
            f"attempt {attempt.attempt_no} {attempt.status}",
            _outcome(attempt),
            attempt.worker_id,
            attempt.latency_ms,
        )
    if job.dlq_at:
        yield event(job.dlq_at, "moved to DLQ", job.dlq_reason_code or "")
    if job.resolved_at:
        by = f" by {job.replay_job_id}" if job.replay_job_id else ""
        yield event(job.resolved_at, "resolved", f"{job.resolution}{by}")
    if job.canceled_at:
        note = f": {job.cancel_note}" if job.cancel_note else ""
        yield event(job.canceled_at, "canceled", f"{job.canceled_by}{note}")


def _outcome(attempt: Attempt) -> str:
    parts = [attempt.error_code] if attempt.error_code else []
    if attempt.next_in is not None:
        word = "retry" if attempt.status == "failed" else "again"
        parts.append(f"{word} in {length(max(0.0, attempt.next_in))}")
    return ", ".join(parts)
