"""Statements that list jobs, cancel them, and change when they run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import psycopg

from pgflow_cli.errors import (
    Ambiguous,
    DatabaseUnavailable,
    NotFound,
    PgflowError,
    StatementFailed,
    UsageError,
)
from pgflow_cli.formats.times import Instant
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import EndedAttempt, FoundJob, ListedJob
from pgflow_cli.models.selection import JobFilter, Position, after_parameters
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.literals import array

Window = Mapping[str, object]


def window(
    chosen: JobFilter, *, limit: int, most: int, after: Position | None
) -> Window:
    """Return the parameters of every list of jobs: `limit` rows, of at most `most`
    read.
    """
    bounds = {"limit": limit, "most": most}
    return {**chosen.parameters(), **after_parameters(after), **bounds}


# Hex digits of an id's end: with fewer, several recent jobs would match.
SHORTEST_SUFFIX = 6
A_DAY_AGO = Instant(offset=timedelta(days=-1))
_MOST_CANDIDATES = 10  # jobs that an error names if the end of an id is ambiguous
# Where a UUID's text has its hyphens.
_GROUPS = re.compile(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$")


class Jobs(Statements):
    """Jobs in lists, and what operators do with them.

    Where a list does not fill its page, its last row says how far it has looked.
    """

    def list_jobs(self, of: Window) -> list[ListedJob]:
        """Return jobs in whatever state, newest first."""
        return self._listed("list_jobs", of)

    def list_waiting_jobs(self, of: Window, *, due: bool) -> list[ListedJob]:
        """Return jobs that are due, or that will be, the first to run first."""
        return self._listed("list_waiting_jobs", {**of, "due": due})

    def list_running_jobs(
        self, of: Window, *, slow: bool = False, stuck: bool = False
    ) -> list[ListedJob]:
        """Return running jobs: leased last first, or the longest first."""
        wanted = {**of, "slow": slow, "stuck": stuck}
        return self._listed("list_running_jobs", wanted)

    def list_succeeded_jobs(self, of: Window) -> list[ListedJob]:
        """Return jobs that have succeeded, newest first."""
        return self._listed("list_succeeded_jobs", of)

    def list_dead_jobs(self, of: Window) -> list[ListedJob]:
        """Return unresolved dead letters, the latest death first."""
        return self._listed("list_dead_jobs", of)

    def list_canceled_jobs(self, of: Window) -> list[ListedJob]:
        """Return canceled jobs, the latest first."""
        return self._listed("list_canceled_jobs", of)

    def list_newest_waiting_jobs(
        self, of: Window, *, due: bool, sorted_: int
    ) -> list[ListedJob]:
        """Return jobs that are due, or that will be, newest first.

        If more than `sorted_` wait, they are sought among all jobs: narrow `of` to
        their state.
        """
        wanted = {**of, "due": due, "sorted": sorted_}
        return self._listed("list_newest_waiting_jobs", wanted)

    def list_newest_running_jobs(self, of: Window) -> list[ListedJob]:
        """Return running jobs, newest first."""
        return self._listed("list_newest_running_jobs", of)

    def list_newest_canceled_jobs(self, of: Window) -> list[ListedJob]:
        """Return canceled jobs, newest first."""
        return self._listed("list_newest_canceled_jobs", of)

    def find_listed_job(self, job_id: str) -> ListedJob:
        """Return one job as lists show it; raises NotFound."""
        of = window(JobFilter(), limit=1, most=1, after=None)
        [job] = self._listed("find_listed_job", {**of, "job_id": job_id})
        if job.looked is not None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def _listed(self, name: str, of: Window) -> list[ListedJob]:
        """List jobs; where a damaged row fails what is asked of payload or meta,
        without the jobs that cannot be read.
        """
        try:
            return self.link.rows(
                name, ListedJob, {**of, "guarded": False}, steady=True
            )
        except (DatabaseUnavailable, StatementFailed) as error:
            if not _is_damage(error):
                raise
        return self.link.rows(name, ListedJob, {**of, "guarded": True}, steady=True)

    def read_job_body(self, job_id: str) -> tuple[str, str | None]:
        """Return a job's payload and its meta as text; raises NotFound."""
        rows = self.link.tuples("read_job_body", {"job_id": job_id})
        if not rows:
            raise NotFound(f"there is no job {job_id}")
        return rows[0][0], rows[0][1]

    def list_job_statuses(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return the state of each job that exists."""
        rows = self.link.tuples("list_job_statuses", {"job_ids": array(job_ids)})
        return dict(rows)

    def list_ended_attempts(self, of: Window) -> list[EndedAttempt]:
        """Return attempts that have ended, the latest end first."""
        return self.link.rows("list_ended_attempts", EndedAttempt, of)

    def cancel_waiting_jobs(
        self, job_ids: Sequence[str], *, operator: Operator, action_id: int
    ) -> list[str]:
        """Cancel those that wait; return their ids."""
        rows = self.link.tuples(
            "cancel_waiting_jobs", _order(job_ids, operator, action_id)
        )
        return [row[0] for row in rows]

    def cancel_running_jobs(
        self, job_ids: Sequence[str], *, operator: Operator, action_id: int
    ) -> list[str]:
        """Cancel those that run; return their ids. In a transaction.

        Their workers learn of it with their next heartbeat. What they still report of
        these jobs is thrown away.
        """
        wanted = _order(job_ids, operator, action_id)
        locked = self.link.tuples("lock_leases_of_jobs", wanted)
        leases = array([row[0] for row in locked])
        rows = self.link.tuples("cancel_running_jobs", {**wanted, "lease_ids": leases})
        return [row[0] for row in rows]

    def run_jobs_now(self, job_ids: Sequence[str]) -> list[str]:
        """Let those that are scheduled be due; return their ids."""
        rows = self.link.tuples("run_jobs_now", {"job_ids": array(job_ids)})
        return [row[0] for row in rows]

    def reprioritize_jobs(self, job_ids: Sequence[str], *, priority: int) -> list[str]:
        """Give those that wait another priority; return their ids."""
        rows = self.link.tuples(
            "reprioritize_jobs", {"job_ids": array(job_ids), "priority": priority}
        )
        return [row[0] for row in rows]

    def find_job(self, given: str, *, since: Instant = A_DAY_AGO) -> str:
        """Return the full id of a job, given its id or the end of it.

        The end of an id is searched for among dead letters, running and pending jobs,
        then among jobs enqueued `since`. Raises `NotFound` if no job or several match,
        `UsageError` if it is no id.
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

    def read_payload(self, job_id: str) -> str:
        """Return a job's payload as text."""
        return str(self.link.tuples("read_payload", {"job_id": job_id})[0][0])


def _order(
    job_ids: Sequence[str], operator: Operator, action_id: int
) -> dict[str, object]:
    return {
        "job_ids": array(job_ids),
        "actor": operator.actor,
        "note": operator.note,
        "action_id": action_id,
    }


def _is_damage(error: PgflowError) -> bool:
    """Whether an error says that the server cannot read a row."""
    cause = error.__cause__
    code = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return (code or "").startswith(("22", "XX"))


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
