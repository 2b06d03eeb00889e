"""How explanations word lengths, instants, counts, errors; pure."""

from __future__ import annotations

import math

from pgflow_cli import times
from pgflow_cli.models import Attempt, Backlog, JobDescription, WorkerProcess


def workers_of(workers: list[WorkerProcess]) -> str:
    return f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"


def queues_of(workers: list[WorkerProcess]) -> str:
    if any(worker.queues is None for worker in workers):
        return "all"
    return some(sorted({name for worker in workers for name in worker.queues or []}))


def some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if names[5:] else shown or "none"


def place(backlog: Backlog) -> str:
    return f"position {count(backlog.ahead + 1)} of {count(backlog.due)}"


def count(number: int) -> str:
    most = Backlog.LIMIT
    return f"{most:,}+" if number > most else f"{number:,}"


def last_error(job: JobDescription) -> str:
    message = f": {job.last_error_message}" if job.last_error_message else ""
    return f"Last error {job.last_error_code}{message}"


def error_of(attempt: Attempt) -> str:
    message = f": {attempt.error_message}" if attempt.error_message else ""
    return f"{attempt.error_code or 'an error'}{message}"


def clock(at: str | None) -> str:
    return (at or "").replace("T", " ")[:19]


def length(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "for ever"
    return times.format_duration(seconds)
