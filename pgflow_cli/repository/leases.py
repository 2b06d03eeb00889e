"""Statements of the cycle: settle, lease, extend, reap."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NotRequired, TypedDict, Unpack

from psycopg.rows import tuple_row

from pgflow_cli.errors import (
    REFUSALS,
    LeasesRefused,
    OutcomeUnknown,
    PgflowError,
)
from pgflow_cli.models import (
    BeatReply,
    Cycle,
    CycleReply,
    EndedJob,
    FirstDue,
    LeasedJob,
    Scan,
    Settlement,
    Suspect,
)
from pgflow_cli.repository.counting import Counting

_NO_ATTEMPT_YET = 0
_NO_LEASE = {"limit": 0, "only": "{}", "passed_over": "{}"}


class _How(TypedDict):
    """How leases end, and with what their jobs."""

    status: str
    # The attempts that had started: job id and number. None: all of them, perhaps.
    started: Sequence[tuple[str, int]] | None
    crash_budget: int
    error_code: str | None
    error_message: str | None
    bury_as: NotRequired[str | None]
    canceled_by: NotRequired[str | None]


class Leases(Counting):
    """What workers and their supervisor say; what they settle for others is counted."""

    def settle_and_lease(self, cycle: Cycle) -> CycleReply:
        """Settle what ended, lease up to `cycle.room` jobs, in one commit.

        Sending it again after a lost reply settles nothing twice. The first run may
        still be at work on the server, with a snapshot as old as the other's: then both
        would give the same jobs back. So `again` waits for it by the lock of the
        leases, and looks only then. Outcomes whose lease is gone come back as `lost`.
        """
        successes = [s for s in cycle.settlements if s.status == "succeeded"]
        others = [s.as_json() for s in cycle.settlements if s.status != "succeeded"]
        parameters = {
            "code_version": cycle.code_version,
            "fence_ids": _array(
                {s.lease_id for s in cycle.settlements} | {*cycle.closed}
            ),
            "lease_ids": _array([s.lease_id for s in successes]),
            "job_ids": _array([s.job_id for s in successes]),
            "attempt_nos": _array([str(s.attempt_no) for s in successes]),
            "started_ago": _array([f"{s.started_ago:.6f}" for s in successes]),
            "ended_ago": _array([f"{s.ended_ago:.6f}" for s in successes]),
            "others": json.dumps(others),
            "closed_ids": _array(cycle.closed),
            **_wanted(cycle),
            **_scan(cycle.scan),
            "last_queue": cycle.scan.last_queue,
        }
        with self._after_first_run(cycle, parameters["fence_ids"]):
            cursor = self.link.execute("settle_and_lease", parameters, tuple_row)
            with _all_decoded():
                rows: list[tuple[Any, ...]] = cursor.fetchall()
        lost = [row[1] for row in rows if row[1] is not None and row[6] is None]
        jobs = [LeasedJob._make(row) for row in rows if row[6] is not None]
        return CycleReply(
            scanned_at=rows[0][4],
            lost=lost,
            jobs=jobs,
            limited_open=rows[0][5],
            limited_waiting=rows[0][8],
        )

    @contextmanager
    def _after_first_run(self, cycle: Cycle, fence_ids: object) -> Iterator[None]:
        if not cycle.again:
            yield
            return
        with self.transaction():
            named = {"fence_ids": fence_ids, "worker_id": cycle.worker_id}
            self.link.tuples("lock_leases", named)
            yield

    def look_behind(self, cycle: Cycle) -> list[FirstDue]:
        """Find what is due behind the cursors of `cycle.scan`, in every place that the
        worker may lease from.

        Reads only. An entry that another transaction is leasing may be among it.
        """
        parameters = {**_sought(cycle), **_scan(cycle.scan)}
        rows = self.link.tuples("look_behind", parameters)
        return [FirstDue._make(row) for row in rows]

    def find_due_job(
        self, queues: Sequence[str] | None, job_types: Sequence[str] | None
    ) -> bool:
        """Say whether a job of these queues and types could be leased now, from a queue
        without a limit; None: any.
        """
        wanted = {
            "queues": None if queues is None else _names(queues),
            "job_types": None if job_types is None else _names(job_types),
        }
        [[found]] = self.link.tuples("find_due_job", wanted)
        return bool(found)

    def lease_limited(self, cycle: Cycle) -> list[LeasedJob]:
        """Lease up to `cycle.room` jobs from queues with a limit; the limits hold.

        Two statements in one transaction: the count must be newer than the lock. A
        queue whose policy somebody else has locked is passed over.
        """
        wanted = _wanted(cycle)
        with self.transaction():
            locked = self.link.tuples("lock_limited_queues", wanted)
            if not locked:
                return []
            parameters = {
                **wanted,
                "queues": _names(row[0] for row in locked),
                "last_queue": cycle.scan.last_queue,
            }
            with _all_decoded():
                rows = self.link.tuples("lease_limited", parameters)
            return [LeasedJob._make(row) for row in rows]

    def take_over_job(self, cycle: Cycle, suspect: Suspect) -> LeasedJob | None:
        """Move a job that has not started from the lease of another process to one of
        `cycle`'s own, in one commit; None if it is not there any more.

        Two statements in one transaction: what a settlement has done to the lease that
        this waited for is seen by the second.
        """
        source = {
            "fence_ids": _array([suspect.lease_id]),
            "worker_id": suspect.worker_id,
        }
        moved = {
            "lease_id": suspect.lease_id,
            "from_worker_id": suspect.worker_id,
            "job_id": suspect.job_id,
            "rank": str(suspect.rank),
            "run_at": f"{suspect.run_at}+00",
            "batch_id": cycle.batch_id,
            "worker_id": cycle.worker_id,
            "worker_name": cycle.worker_name,
            "lease_seconds": str(cycle.lease_seconds),
        }
        with self.transaction():
            self.link.tuples("lock_leases", source)
            rows = self.link.tuples("take_over_job", moved)
        return LeasedJob._make(rows[0]) if rows else None

    def settle_and_enqueue(
        self,
        cycle: Cycle,
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
            "worker_id": cycle.worker_id,
            "worker_name": cycle.worker_name,
            "code_version": cycle.code_version,
            "job_id": settlement.job_id,
            "attempt_no": str(settlement.attempt_no),
            "started_ago": str(settlement.started_ago),
            "ended_ago": str(settlement.ended_ago),
            "jobs": json.dumps(list(jobs)),
            "max_payload_bytes": str(max_payload_bytes),
            "max_enqueue_per_minute": str(max_enqueue_per_minute),
        }
        with self._after_first_run(cycle, _array([settlement.lease_id])):
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
        """Say that the workers live and extend the leases; return what came of it."""
        extended = {"lease_ids": _array(lease_ids)}
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

    def reap_expired_locks(
        self,
        *,
        limit: int,
        crash_budget: int,
        only: Sequence[str] | None = None,
        passed_over: Sequence[str] = (),
    ) -> list[EndedJob]:
        """Return jobs to their queue whose worker has gone silent.

        A job that has spent its crash budget is dead-lettered instead. Safe to run from
        several processes at once: each lease is taken by one of them. Raises
        `LeasesRefused`, as `end_worker` does, and then none has ended.
        """
        wanted = {
            "limit": limit,
            "only": None if only is None else _array(only),
            "passed_over": _array(passed_over),
        }
        lease_ids: list[str] = []
        with _told_apart(lease_ids), self.transaction():
            locked = self.link.tuples("lock_expired_leases", wanted)
            lease_ids += [row[0] for row in locked]
            return self._end(
                lease_ids,
                expired=[row[1] for row in locked],
                status="lost",
                started=None,
                crash_budget=crash_budget,
                error_code="WORKER_LOST",
                error_message="the worker stopped reporting before the job ended",
            )

    def end_worker(
        self,
        worker_id: str,
        *,
        status: str,
        started: Sequence[tuple[str, int]],
        crash_budget: int,
        error_code: str,
        error_message: str,
        only: Sequence[str] | None = None,
    ) -> list[EndedJob]:
        """End the leases of a process that is dead for certain.

        The attempts (job id, number) that it had `started` are recorded with the
        `status` (lost or released); other jobs go back as they were. Sent again, it
        ends what a statement of the process has leased meanwhile, and charges none of
        it. Raises `LeasesRefused`.
        """
        lease_ids: list[str] = []
        with _told_apart(lease_ids), self.transaction():
            locked = self._lock_worker_leases(worker_id, only=only)
            lease_ids += [row[0] for row in locked]
            return self._end(
                lease_ids,
                status=status,
                started=started,
                crash_budget=crash_budget,
                error_code=error_code,
                error_message=error_message,
            )

    def list_worker_leases(self, worker_ids: Sequence[str]) -> list[tuple[str, str]]:
        """List the leases of these processes: the process, the lease."""
        wanted = {"worker_ids": _array(worker_ids)}
        return self.link.tuples("list_worker_leases", wanted)

    def give_back_batches(
        self, worker_id: str, batch_ids: Sequence[str]
    ) -> tuple[list[EndedJob], set[str]]:
        """Give back batches whose reply was lost: none of their jobs has started.

        Also returns the batches of those that were found.
        """
        with self.transaction():
            locked = self._lock_worker_leases(worker_id, batch_ids=batch_ids)
            ended = self._end(
                [row[0] for row in locked],
                status="released",
                started=[],
                crash_budget=_NO_ATTEMPT_YET,
                error_code=None,
                error_message=None,
            )
            return ended, {row[1] for row in locked}

    def _lock_worker_leases(
        self,
        worker_id: str,
        *,
        batch_ids: Sequence[str] | None = None,
        only: Sequence[str] | None = None,
    ) -> list[tuple[str, str]]:
        wanted = {
            "worker_id": worker_id,
            "batch_ids": None if batch_ids is None else _array(batch_ids),
            "only": None if only is None else _array(only),
        }
        return self.link.tuples("lock_worker_leases", wanted)

    def end_interrupted_leases(
        self,
        *,
        status: str,
        error_code: str | None,
        error_message: str,
        bury_as: str | None = None,
        canceled_by: str | None = None,
    ) -> list[EndedJob]:
        """End the leases of workers that are not known, each job with an attempt.

        Their jobs go back to their queue, unless they are to be buried or canceled.
        """
        with self.transaction():
            locked = self.link.tuples("lock_interrupted_leases")
            return self._end(
                [row[0] for row in locked],
                status=status,
                started=None,
                crash_budget=_NO_ATTEMPT_YET,
                error_code=error_code,
                error_message=error_message,
                bury_as=bury_as,
                canceled_by=canceled_by,
            )

    def try_to_end(self) -> None:
        """Send what ends leases, for none: raises what keeps every lease from being
        ended, if anything does.
        """
        with self.transaction():
            self.link.tuples("lock_expired_leases", _NO_LEASE)
            self._send_ends(
                [],
                status="lost",
                started=None,
                crash_budget=_NO_ATTEMPT_YET,
                error_code=None,
                error_message=None,
            )

    def _end(
        self,
        lease_ids: Sequence[str],
        *,
        expired: Sequence[str] = (),
        **how: Unpack[_How],
    ) -> list[EndedJob]:
        """End locked leases."""
        if not lease_ids:
            return []
        ended = self._send_ends(lease_ids, **how)
        attempts = [(job.job_id, job.attempt_no) for job in ended if job.started]
        self.count_attempts(attempts, expired=expired)
        return ended

    def _send_ends(
        self, lease_ids: Sequence[str], **how: Unpack[_How]
    ) -> list[EndedJob]:
        started = how["started"]
        parameters = {
            "lease_ids": _array(lease_ids),
            "bury_as": None,
            "canceled_by": None,
            **how,
            "started": None if started is None else _array(job for job, _ in started),
            "started_nos": _array(str(number) for _, number in started or ()),
        }
        return self.link.rows("end_leases", EndedJob, parameters)

    def forget_silent_workers(self) -> list[str]:
        """Remove workers that have been silent for ten leases, at least ten minutes;
        return their names.
        """
        return [row[0] for row in self.link.tuples("forget_silent_workers")]

    def forget_workers(self, worker_ids: Sequence[str]) -> None:
        """Remove processes that have ended in good order."""
        self.link.count("forget_workers", {"worker_ids": _array(worker_ids)})

    def declare_error_codes(self, codes: Sequence[Mapping[str, str]]) -> None:
        """Store what error codes mean, for operators without the application."""
        self.link.count("declare_error_codes", {"codes": json.dumps(list(codes))})


@contextmanager
def _told_apart(lease_ids: Sequence[str]) -> Iterator[None]:
    """Name the leases whose end has failed, for the caller to end each by itself: a
    trigger may raise anything for one of them, also when the transaction ends.
    """
    try:
        yield
    except PgflowError as error:
        if lease_ids and (isinstance(error, REFUSALS) or len(lease_ids) > 1):
            raise LeasesRefused(error.message, lease_ids=lease_ids) from error
        raise


@contextmanager
def _all_decoded() -> Iterator[None]:
    """Raise OutcomeUnknown if a row that was leased holds bytes that are no text: what
    was leased with it is not known, and has to be given back.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise OutcomeUnknown(f"a leased job cannot be decoded: {error}") from None


def _array(values: Iterable[str]) -> str:
    """Return an array literal of values that need no quoting: ids and numbers.

    Always text, so that a statement is prepared once, and cheaper than psycopg's dump
    of a list.
    """
    return "{" + ",".join(values) + "}"


def _names(values: Iterable[str]) -> str:
    """Return an array literal of names and times, quoted: a queue may be
    called NULL.
    """
    return "{" + ",".join(f'"{value}"' for value in values) + "}"


def _wanted(cycle: Cycle) -> dict[str, object]:
    """Return who leases, for how long, and what."""
    return {
        "worker_id": cycle.worker_id,
        "worker_name": cycle.worker_name,
        "batch_id": cycle.batch_id,
        "lease_seconds": str(cycle.lease_seconds),
        "room": str(cycle.room),
        **_sought(cycle),
    }


def _sought(cycle: Cycle) -> dict[str, object]:
    return {
        "queues": None if cycle.queues is None else _names(cycle.queues),
        "job_types": None if cycle.job_types is None else _names(cycle.job_types),
    }


def _scan(scan: Scan) -> dict[str, object]:
    places = list(scan.cursors.items())
    return {
        "cursor_queues": _names(queue for (queue, _), _ in places),
        "cursor_ranks": _array(str(rank) for (_, rank), _ in places),
        "cursor_run_ats": _names(f"{run_at}+00" for _, (run_at, _) in places),
        "cursor_job_ids": _array(job_id for _, (_, job_id) in places),
    }
