"""Formats durations, instants, counts and errors for explanations; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pgflow_cli.formats import times
from pgflow_cli.formats.words import plural, some, up_to
from pgflow_cli.models.explanation import Attempt, Backlog, JobDescription
from pgflow_cli.models.workers import WorkerProcess


def workers_of(workers: list[WorkerProcess]) -> str:
    """Return `1 worker`, `2 workers`."""
    return plural(len(workers), "worker")


def queues_of(workers: list[WorkerProcess]) -> str:
    """Name the queues that at least one of the workers serves."""
    if any(worker.queues is None for worker in workers):
        return "all"
    return names_of(name for worker in workers for name in worker.queues or [])


def names_of(names: Iterable[str]) -> str:
    """Name the first five, each once, and count the others."""
    return some(sorted(set(names))) or "none"


def place(backlog: Backlog) -> str:
    """Return `position 3 of 12`."""
    return f"position {count(backlog.ahead + 1)} of {count(backlog.due)}"


def count(number: int) -> str:
    """Return a number that was counted up to the limit."""
    return up_to(Backlog.LIMIT, number)


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
    """Return a duration as text; it may be infinite."""
    if not math.isfinite(seconds):
        return "for ever"
    return times.format_duration(seconds)
