"""Statements that explain one job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgflow_cli.errors import DatabaseUnavailable, NotFound, StatementFailed
from pgflow_cli.models.explanation import (
    Action,
    Attempt,
    Backlog,
    Decision,
    Holder,
    JobDescription,
    JobEvidence,
    Lineage,
    QueueGates,
    Rates,
    RelatedJob,
    Similar,
)
from pgflow_cli.models.queues import ArrivalMeasure, RateMeasure
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.repository.base import Statements
from pgflow_cli.repository.fence import Fence
from pgflow_cli.repository.metrics import Metrics
from pgflow_cli.repository.workers import Workers

_MOST_HOLDERS = 3  # jobs that an explanation names as holders of a limit or of slots
_MOST_DECISIONS = 1000  # decisions read for a job: each is one minute of one reason
_MOST_ACTIONS = 100  # actions of operators in a timeline, the newest
_MOST_REPLAYS = 10  # replays that are followed in each direction: each is a statement
_LATELY = 7200.0  # seconds: deaths of the same error within them count as recent
# Seconds of the rates behind a forecast: a minute would be too short for a slow queue.
_RATE_WINDOW = 600.0


class Explanations(Statements):
    """The evidence for `pgflow explain`."""

    def describe_job(self, job_id: str, *, attempts: int | None = 3) -> JobEvidence:
        """Return the evidence for one job, with its last `attempts`; None: all of them.

        All of one instant. Raises `NotFound` if there is no such job. Of a dead letter
        whose row cannot be read, only what the letter itself says.
        """
        try:
            return self._described(job_id, attempts)
        except (DatabaseUnavailable, StatementFailed):
            unreadable = self._unreadable(job_id)
            if unreadable is None:
                raise
            return unreadable

    def _missing(self, job_id: str) -> NotFound:
        """Return why a job is not found: its row may be gone while its entry waits."""
        entries = self.link.tuples("find_rowless_entry", {"job_id": job_id})
        if not entries:
            return NotFound(f"there is no job {job_id}")
        [(queue, run_at)] = entries
        return NotFound(
            f"the row of job {job_id} is gone, but its entry waits in queue {queue} "
            f"(due {run_at})",
            "A worker makes a dead letter of it once it is due (UNREADABLE). "
            "See: RUNBOOK, Pages that are damaged",
        )

    def _unreadable(self, job_id: str) -> JobEvidence | None:
        wanted = {"job_id": job_id}
        found = self.link.rows("describe_unreadable_job", JobDescription, wanted)
        if not found:
            return None
        [job] = found
        return JobEvidence(
            job=job,
            attempts=[],
            workers=Workers(self.link).list_workers(),
            identity=Fence(self.link).read_identity(),
            queue=self.link.rows("inspect_gates", QueueGates, _of(job))[0],
        )

    def _described(self, job_id: str, attempts: int | None) -> JobEvidence:
        with self.transaction():
            self.link.begin_snapshot()
            found = self.link.rows("describe_job", JobDescription, {"job_id": job_id})
            if not found:
                raise self._missing(job_id)
            [job] = found
            workers = Workers(self.link).list_workers()
            waits = job.rank is not None
            return JobEvidence(
                job=job,
                attempts=self.link.rows(
                    "list_attempts", Attempt, {"job_id": job_id, "shown": attempts}
                ),
                workers=workers,
                identity=Fence(self.link).read_identity(),
                queue=self.link.rows("inspect_gates", QueueGates, _of(job))[0],
                backlog=self._backlog(job, workers) if waits else None,
                rates=self._rates(job) if waits else None,
                holders=self._holders(job) if waits else [],
                slot_holders=self._slot_holders(job, workers) if waits else [],
                decisions=self._decisions(job),
                actions=self._actions(job),
                kin=self._kin(job),
                similar=self._similar(job) if job.fingerprint else None,
            )

    def _backlog(self, job: JobDescription, workers: list[WorkerProcess]) -> Backlog:
        wanted = {
            **_of(job),
            "rank": job.rank,
            "run_at": job.run_at,
            "job_types": _runnable_types(job, workers),
            "limit": Backlog.LIMIT,
        }
        return self.link.rows("measure_backlog", Backlog, wanted)[0]

    def _rates(self, job: JobDescription) -> Rates:
        """Return how fast jobs come and are done, as `pgflow queues` has it."""
        metrics = Metrics(self.link)
        rates = metrics.measure_queue_rates([job.queue], _RATE_WINDOW)
        arrivals = metrics.measure_arrivals(_RATE_WINDOW)
        return _rates(job.queue, [*rates.values()], arrivals)

    def _holders(self, job: JobDescription) -> list[Holder]:
        wanted = {**_of(job), "limit": _MOST_HOLDERS}
        return self.link.rows("list_holders", Holder, wanted)

    def _slot_holders(
        self, job: JobDescription, workers: list[WorkerProcess]
    ) -> list[Holder]:
        takers = [w for w in workers if w.takes(job.queue, job.job_type)]
        if any(w.busy_slots < w.slots for w in takers):
            return []
        names = sorted({worker.name for worker in takers})
        wanted = {"worker_names": names, "limit": _MOST_HOLDERS}
        return self.link.rows("list_slot_holders", Holder, wanted)

    def _decisions(self, job: JobDescription) -> list[Decision]:
        wanted = {**_life(job), "run_at": job.run_at, "limit": _MOST_DECISIONS}
        return self.link.rows("list_decisions_of_job", Decision, wanted)

    def _actions(self, job: JobDescription) -> list[Action]:
        wanted = {**_life(job), "limit": _MOST_ACTIONS}
        return self.link.rows("list_actions_of_job", Action, wanted)

    def _kin(self, job: JobDescription) -> list[RelatedJob]:
        """Follow replays both ways: step by step, because nearly no job has one."""
        [own] = self.link.rows("find_kin", Lineage, {"job_id": job.job_id})
        return [
            *self._line(own.source_id, is_source=True),
            *self._line(own.replay_id, is_source=False),
        ]

    def _line(self, job_id: str | None, *, is_source: bool) -> Iterator[RelatedJob]:
        step = 0
        while job_id is not None and step < _MOST_REPLAYS:
            step += 1
            found = self.link.rows("find_kin", Lineage, {"job_id": job_id})
            if not found:
                yield RelatedJob(is_source, step, job_id, None, None)
                return
            [kin] = found
            yield RelatedJob(is_source, step, job_id, kin.status, kin.created_at)
            job_id = kin.source_id if is_source else kin.replay_id

    def _similar(self, job: JobDescription) -> Similar:
        wanted = {
            **_of(job),
            "fingerprint": job.fingerprint,
            "window": _LATELY,
            "limit": Backlog.LIMIT,
        }
        return self.link.rows("count_similar", Similar, wanted)[0]


def _rates(
    queue: str, rates: Sequence[RateMeasure], arrivals: Sequence[ArrivalMeasure]
) -> Rates:
    done = rates[0].done if rates else 0
    came = next((each.arrived for each in arrivals if each.queue == queue), 0)
    covered = arrivals[0].covered if arrivals else _RATE_WINDOW
    return Rates(
        arrivals_per_second=came / max(covered, 0.001),
        completions_per_second=done / (rates[0].covered if rates else _RATE_WINDOW),
        samples=came + done,
        window=_RATE_WINDOW,
    )


def _of(job: JobDescription) -> dict[str, object]:
    return {"job_id": job.job_id, "queue": job.queue}


def _life(job: JobDescription) -> dict[str, object]:
    """Return from when until when something could hold it up; None: still."""
    return {
        **_of(job),
        "since": job.created_at,
        "until": job.ended_at or job.leased_at,
        "action_ids": job.action_ids,
    }


def _runnable_types(
    job: JobDescription, workers: list[WorkerProcess]
) -> list[str] | None:
    """Return the job types that a worker which takes this job may take before it."""
    takers = [worker for worker in workers if worker.takes(job.queue, job.job_type)]
    if not takers or any(worker.job_types is None for worker in takers):
        return None
    return sorted({name for worker in takers for name in worker.job_types or []})
