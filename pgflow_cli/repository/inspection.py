"""Statements that find a job, and what else people look at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from pgflow_cli.errors import Ambiguous, NotFound, UsageError
from pgflow_cli.formats.times import Instant
from pgflow_cli.models.audit import Audit
from pgflow_cli.models.jobs import FoundJob
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.repository.base import Part

SHORTEST_SUFFIX = 6
A_DAY_AGO = Instant(offset=timedelta(days=-1))
_MOST_CANDIDATES = 10
# Where a UUID's text has its hyphens.
_GROUPS = re.compile(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$")


class Inspection(Part):
    """What is there, for people."""

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

    def list_workers(self) -> list[WorkerProcess]:
        """Return the worker processes that are known, alive or not."""
        return self.link.rows("list_workers", WorkerProcess)

    def read_payload(self, job_id: str) -> str:
        """Return a job's payload as text."""
        return str(self.link.tuples("read_payload", {"job_id": job_id})[0][0])

    def audit_jobs(self) -> Audit:
        """Count jobs that are not in exactly one place; all is well if none is."""
        return self.link.rows("audit_jobs", Audit)[0]


def _only(given: str, found: Iterable[FoundJob]) -> str:
    by_id = {job.job_id: job for job in found}
    if len(by_id) == 1:
        return next(iter(by_id))
    if not by_id:
        raise NotFound(
            f"no job's id ends in {given}",
            "Sought among dead letters, running and waiting jobs, and those enqueued "
            "lately; a full id finds any job, --since looks further back.",
        )
    shown = list(by_id.values())[:_MOST_CANDIDATES]
    raise Ambiguous(
        f"{given} is ambiguous: {len(shown)}{'+' if len(by_id) > len(shown) else ''} "
        "jobs have an id that ends so",
        *(f"{job.job_id}  {job.place}  {job.queue}" for job in shown),
        candidates=[job.job_id for job in shown],
    )
