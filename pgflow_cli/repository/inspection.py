"""Statements that look at one job, for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from pgflow_cli.errors import NotFound, UsageError
from pgflow_cli.models import (
    Attempt,
    Audit,
    Backlog,
    FoundJob,
    JobDescription,
    JobFacts,
    WorkerProcess,
)
from pgflow_cli.repository.base import Part
from pgflow_cli.times import Instant

SHORTEST_SUFFIX = 6
A_DAY_AGO = Instant(offset=timedelta(days=-1))
_MOST_CANDIDATES = 10
# Where a UUID's text has its hyphens.
_GROUPS = re.compile(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$")


class Inspection(Part):
    """What explains a job."""

    def find_job(self, given: str, *, since: Instant = A_DAY_AGO) -> str:
        """Return the id of the job that is meant by an id or the end of one.

        The end of an id is sought among dead letters, running and pending jobs, then
        among those enqueued `since`. Raises `NotFound` if there is none or more than
        one, `UsageError` if it is no id.
        """
        digits = given.strip().lower().replace("-", "")
        if not re.fullmatch("[0-9a-f]{6,32}", digits):
            raise UsageError(
                f"{given!r} is no job id; give all of it, or at least its last "
                f"{SHORTEST_SUFFIX} hex digits"
            )
        suffix = _GROUPS.sub(r"\1-\2-\3-\4-\5", digits.rjust(32, "~")).lstrip("~-")
        if len(digits) == 32:
            return suffix
        wanted = {"suffix": suffix, "limit": _MOST_CANDIDATES + 1}
        found = self.link.rows("find_unfinished_jobs", FoundJob, wanted) or (
            self.link.rows(
                "find_recent_jobs",
                FoundJob,
                {**wanted, "at": since.at, "offset": since.offset},
            )
        )
        return _only(given, found)

    def describe_job(self, job_id: str, *, attempts: int | None = 3) -> JobFacts:
        """Return what explains a job, with so many of its attempts; None: all.

        All of one instant. Raises `NotFound` if there is no such job.
        """
        with self.transaction():
            self.link.execute("begin_snapshot", None, None)
            found = self.link.rows("describe_job", JobDescription, {"job_id": job_id})
            if not found:
                raise NotFound(f"there is no job {job_id}")
            [job] = found
            history = self.link.rows(
                "list_attempts", Attempt, {"job_id": job_id, "shown": attempts}
            )
            workers = self.list_workers()
            backlog = None if job.rank is None else self._backlog(job, workers)
        return JobFacts(job, history, workers, backlog)

    def list_workers(self) -> list[WorkerProcess]:
        """Return the worker processes that are known, alive or not."""
        return self.link.rows("list_workers", WorkerProcess)

    def read_payload(self, job_id: str) -> str:
        """Return a job's payload as text."""
        return str(self.link.tuples("read_payload", {"job_id": job_id})[0][0])

    def audit_jobs(self) -> Audit:
        """Count jobs that are not in exactly one place; all is well if none is."""
        return self.link.rows("audit_jobs", Audit)[0]

    def _backlog(self, job: JobDescription, workers: list[WorkerProcess]) -> Backlog:
        rows = self.link.rows(
            "measure_backlog",
            Backlog,
            {
                "queue": job.queue,
                "rank": job.rank,
                "run_at": job.run_at,
                "job_id": job.job_id,
                "job_types": _runnable_types(job, workers),
                "limit": Backlog.LIMIT,
            },
        )
        return rows[0]


def _runnable_types(
    job: JobDescription, workers: list[WorkerProcess]
) -> list[str] | None:
    """Return the types that somebody who would take this job takes before it."""
    takers = [worker for worker in workers if worker.takes(job.queue, job.job_type)]
    if not takers or any(worker.job_types is None for worker in takers):
        return None
    return sorted({name for worker in takers for name in worker.job_types or []})


def _only(given: str, found: Iterable[FoundJob]) -> str:
    by_id = {job.job_id: job for job in found}
    if len(by_id) == 1:
        return next(iter(by_id))
    if not by_id:
        raise NotFound(
            f"no job's id ends in {given}",
            "Sought among dead letters, running and waiting jobs, and those enqueued "
            "lately; --since widens that.",
        )
    shown = list(by_id.values())[:_MOST_CANDIDATES]
    raise NotFound(
        f"{given} is ambiguous: {len(shown)}{'+' if len(by_id) > len(shown) else ''} "
        "jobs have an id that ends so",
        *(f"{job.job_id}  {job.place}  {job.queue}" for job in shown),
    )
