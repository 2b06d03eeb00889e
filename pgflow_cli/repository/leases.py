"""Leases of workers: taken, extended, and settled by their outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg.rows import tuple_row

from pgflow_cli.errors import Undecodable
from pgflow_cli.models.jobs import (
    FirstDue,
    LeasedJob,
    LeaseReply,
    LeaseRequest,
    Scan,
    Settlement,
    Suspect,
)
from pgflow_cli.models.workers import BeatReply
from pgflow_cli.repository import literals
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.literals import array, names


class Leases(Statements):
    """The statements of workers and their supervisors."""

    def settle_and_lease(self, request: LeaseRequest) -> LeaseReply:
        """Settle what ended, lease up to `cycle.room` jobs, in one commit.

        Sending it again after a lost reply settles nothing twice. The first run may
        still be at work on the server, with a snapshot as old as the other's: then one
        of both would be undone (`Contention`). So `again` waits for it by the lock of
        the leases, and looks only then. Outcomes whose lease is gone come back as
        `lost`.
        """
        settled = request.settlements
        others = [s for s in settled if s.status != "succeeded"]
        successes = [s[:6] for s in settled if s.status == "succeeded"]
        lease_ids, job_ids, attempt_nos, _, started, ended = (
            zip(*successes, strict=True) if successes else [()] * 6
        )
        parameters = {
            "code_version": request.code_version,
            "fence_ids": array(
                {*lease_ids} | {s.lease_id for s in others} | {*request.closed}
            ),
            "lease_ids": literals.uuids(lease_ids),
            "job_ids": literals.uuids(job_ids),
            "attempt_nos": literals.integers(attempt_nos),
            "started_ago": literals.floats(started),
            "ended_ago": literals.floats(ended),
            "others": json.dumps([s.as_json() for s in others]),
            "closed_ids": array(request.closed),
            **_wanted(request),
            **_scan(request.scan),
            "last_queue": request.scan.last_queue,
        }
        with self._after_first_run(request, parameters["fence_ids"]):
            cursor = self.link.execute("settle_and_lease", parameters, tuple_row)
            with _all_decoded():
                [turn, *jobs] = cursor.fetchall()
        return LeaseReply(
            **json.loads(turn[0]), jobs=[LeasedJob._make(row[1:]) for row in jobs]
        )

    @contextmanager
    def _after_first_run(
        self, request: LeaseRequest, fence_ids: object
    ) -> Iterator[None]:
        if not request.again:
            yield
            return
        with self.transaction():
            named = {"fence_ids": fence_ids, "worker_id": request.worker_id}
            self.link.tuples("lock_leases", named)
            yield

    def look_behind(self, request: LeaseRequest) -> list[FirstDue]:
        """Find what is due behind the cursors of `cycle.scan`, in every place that the
        worker may lease from.

        Reads only. An entry that another transaction is leasing may be among it.
        """
        parameters = {**_sought(request), **_scan(request.scan)}
        rows = self.link.tuples("look_behind", parameters)
        return [FirstDue._make(row) for row in rows]

    def find_due_job(
        self, queues: Sequence[str] | None, job_types: Sequence[str] | None
    ) -> bool:
        """Say whether a job of these queues and types could be leased now, from a queue
        without a limit; None: any.
        """
        wanted = {
            "queues": None if queues is None else names(queues),
            "job_types": None if job_types is None else names(job_types),
        }
        [[found]] = self.link.tuples("find_due_job", wanted)
        return bool(found)

    def lease_limited(self, request: LeaseRequest) -> list[LeasedJob]:
        """Lease up to `cycle.room` jobs from queues with a limit; the limits hold.

        Two statements in one transaction: the count must be newer than the lock. A
        queue whose policy another session has locked is skipped.
        """
        wanted = _wanted(request)
        with self.transaction():
            locked = self.link.tuples("lock_limited_queues", wanted)
            if not locked:
                return []
            parameters = {
                **wanted,
                "queues": names(row[0] for row in locked),
                "last_queue": request.scan.last_queue,
            }
            with _all_decoded():
                rows = self.link.tuples("lease_limited", parameters)
            return [LeasedJob._make(row) for row in rows]

    def take_over_job(
        self, request: LeaseRequest, suspect: Suspect
    ) -> LeasedJob | None:
        """Move a job that has not started from the lease of another process to one of
        `cycle`'s own, in one commit; None if it is not there any more. The batch is
        named after the job.

        Two statements in one transaction: what a settlement has done to the lease that
        this waited for is seen by the second.
        """
        source = {
            "fence_ids": array([suspect.lease_id]),
            "worker_id": suspect.worker_id,
        }
        moved = {
            "lease_id": suspect.lease_id,
            "from_worker_id": suspect.worker_id,
            "job_id": suspect.job_id,
            "rank": str(suspect.rank),
            "run_at": f"{suspect.run_at}+00",
            "worker_id": request.worker_id,
            "worker_name": request.worker_name,
            "lease_seconds": str(request.lease_seconds),
        }
        with self.transaction():
            self.link.tuples("lock_leases", source)
            rows = self.link.tuples("take_over_job", moved)
        if not rows:
            return None
        [row] = rows
        return LeasedJob._make(row)

    def settle_and_enqueue(
        self,
        request: LeaseRequest,
        settlement: Settlement,
        jobs: Sequence[Mapping[str, object]],
        *,
        max_payload_bytes: int,
        max_enqueue_per_minute: int,
    ) -> list[str] | None:
        """Record one success and enqueue the jobs it asked for, in one commit.

        Returns their ids; none if the success is recorded already, None if the lease is
        gone. Raises `Refused` or `UsageError` when a job is not acceptable, and then
        nothing is recorded. The lease itself is closed by the next cycle.
        """
        parameters = {
            "lease_id": settlement.lease_id,
            "worker_id": request.worker_id,
            "worker_name": request.worker_name,
            "code_version": request.code_version,
            "job_id": settlement.job_id,
            "attempt_no": str(settlement.attempt_no),
            "started_ago": str(settlement.started_ago),
            "ended_ago": str(settlement.ended_ago),
            "jobs": json.dumps(list(jobs)),
            "max_payload_bytes": str(max_payload_bytes),
            "max_enqueue_per_minute": str(max_enqueue_per_minute),
        }
        with self._after_first_run(request, array([settlement.lease_id])):
            rows = self.link.tuples("settle_and_enqueue", parameters)
        return list(rows[0][0]) if rows else None

    def beat(
        self,
        *,
        supervisor_id: str,
        workers: Sequence[Mapping[str, object]],
        lease_ids: Sequence[str],
        lease_seconds: float,
        progress: Mapping[str, object],
    ) -> BeatReply:
        """Send the heartbeat of worker processes and extend their leases."""
        extended = {"lease_ids": array(lease_ids)}
        parameters = {
            **extended,
            "supervisor_id": supervisor_id,
            "workers": json.dumps(workers),
            "lease_seconds": lease_seconds,
            "progress": json.dumps(progress),
        }
        with self.transaction():
            if lease_ids:
                self.link.tuples("lock_leases_to_extend", extended)
            rows = self.link.tuples("beat", parameters)
        leases = {row[1]: row[2] for row in rows if row[0] == "lease"}
        return BeatReply(
            leases=set(leases),
            canceled={lease: jobs for lease, jobs in leases.items() if jobs},
            quiet={row[1] for row in rows if row[0] == "quiet"},
        )

    def declare_error_codes(self, codes: Sequence[Mapping[str, str]]) -> None:
        """Store what error codes mean, for operators without the application."""
        self.link.count("declare_error_codes", {"codes": json.dumps(list(codes))})


@contextmanager
def _all_decoded() -> Iterator[None]:
    """Raise Undecodable if a row that was leased holds bytes that are no text: what
    was leased with it is not known, and has to be given back.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise Undecodable(f"a leased job cannot be decoded: {error}") from None


def _wanted(request: LeaseRequest) -> dict[str, object]:
    """Return the parameters that say which worker leases, for how long, from which
    queues.
    """
    return {
        "worker_id": request.worker_id,
        "worker_name": request.worker_name,
        "batch_id": request.batch_id,
        "lease_seconds": str(request.lease_seconds),
        "room": str(request.room),
        **_sought(request),
    }


def _sought(request: LeaseRequest) -> dict[str, object]:
    return {
        "queues": None if request.queues is None else names(request.queues),
        "job_types": None if request.job_types is None else names(request.job_types),
    }


def _scan(scan: Scan) -> dict[str, object]:
    places = list(scan.cursors.items())
    return {
        "cursor_queues": names(queue for (queue, _), _ in places),
        "cursor_ranks": array(str(rank) for (_, rank), _ in places),
        "cursor_run_ats": names(f"{run_at}+00" for _, (run_at, _) in places),
        "cursor_job_ids": array(job_id for _, (_, job_id) in places),
    }
