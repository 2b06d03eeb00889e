"""How explanations word lengths, instants, counts, errors; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pgflow_cli.formats import times
from pgflow_cli.models.explanation import Attempt, Backlog, JobDescription
from pgflow_cli.models.workers import WorkerProcess

SHORT_ID = 8


def workers_of(workers: list[WorkerProcess]) -> str:
    """Return `1 worker`, `2 workers`."""
    return f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"


def queues_of(workers: list[WorkerProcess]) -> str:
    """Name the queues that somebody of them serves."""
    if any(worker.queues is None for worker in workers):
        return "all"
    return some({name for worker in workers for name in worker.queues or []})


def some(names: Iterable[str]) -> str:
    """Name the first five, and count the others."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:5])
    return f"{shown} and {len(ordered) - 5} more" if ordered[5:] else shown or "none"


def place(backlog: Backlog) -> str:
    """Return `position 3 of 12`."""
    return f"position {count(backlog.ahead + 1)} of {count(backlog.due)}"


def count(number: int) -> str:
    """Return a number that was counted up to the limit."""
    most = Backlog.LIMIT
    return f"{most:,}+" if number > most else f"{number:,}"


def last_error(job: JobDescription) -> str:
    """Return the job's last error with its code."""
    message = f": {job.last_error_message}" if job.last_error_message else ""
    return f"Last error {job.last_error_code}{message}"


def error_of(attempt: Attempt) -> str:
    """Return an attempt's error with its code."""
    message = f": {attempt.error_message}" if attempt.error_message else ""
    return f"{attempt.error_code or 'an error'}{message}"


def clock(at: str | None) -> str:
    """Return date and time of day of an instant in UTC."""
    return (at or "").replace("T", " ")[:19]


def time_of_day(at: str, today: str) -> str:
    """Return hours and minutes, with the date if it is not that of `today`."""
    return at[11:16] if at[:10] == today[:10] else clock(at)[:16]


def length(seconds: float) -> str:
    """Return a length of time, which may be infinite."""
    if not math.isfinite(seconds):
        return "for ever"
    return times.format_duration(seconds)


def short(job_id: str) -> str:
    """Return the end of an id, as on every screen."""
    return job_id[-SHORT_ID:]
