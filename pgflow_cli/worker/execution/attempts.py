"""One attempt of a job, from its place in shared memory to its outcome."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping

from pgflow_cli import handlers
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.handlers import Hooks, Job, Outcome
from pgflow_cli.telemetry import spans
from pgflow_cli.worker.execution import damage, executables
from pgflow_cli.worker.execution.run import Run, _end_span
from pgflow_cli.worker.shared_memory import SharedMemory


class Attempts:
    """Runs jobs in the thread that asks. Each `Run` has its place in shared memory, and
    gets its outcome, unless that was decided from outside meanwhile.
    """

    def __init__(
        self,
        memory: SharedMemory,
        enqueue_now: Callable[[list[dict[str, object]]], list[str]],
        *,
        exec_environment: Mapping[str, str] | None = None,
        tracing: spans.Consumer | None = None,
    ) -> None:
        self._memory = memory
        self._environment = exec_environment
        self._tracing = tracing
        # For each place once, not for each job.
        self._hooks = [
            Hooks(functools.partial(memory.progress, place), enqueue_now)
            for place in range(memory.runs)
        ]

    def run(self, run: Run) -> None:
        """Run a function or a program."""
        job = self._prepare(run)
        if job is None:
            return
        if self._tracing is None:
            outcome = self._attempt(run, job)
        else:
            with self._tracing.processing(job) as run.span:
                outcome = self._attempt(run, job)
        _conclude(run, outcome)

    async def run_async(self, run: Run) -> None:
        """Run a coroutine; `run.task` is what runs it."""
        job = self._prepare(run)
        run.worked = 0.0  # one thread runs them all: a coroutine is there to wait
        if job is None:
            return
        assert run.task is not None
        run.task.job = job
        if self._tracing is None:
            outcome = await self._attempt_async(run, job)
        else:
            with self._tracing.processing(job) as run.span:
                outcome = await self._attempt_async(run, job)
        _conclude(run, outcome)

    def _attempt(self, run: Run, job: Job) -> Outcome:
        if run.handler.kind == "executable":
            return executables.run(run.handler, job, self._environment)
        return handlers.run(run.handler, job)

    async def _attempt_async(self, run: Run, job: Job) -> Outcome:
        run.limit = asyncio.timeout(None)
        return await handlers.run_async(
            run.handler, job, limit=run.limit, is_stopped=lambda: run.stopped
        )

    def _prepare(self, run: Run) -> Job | None:
        """Start a job: show it in shared memory and decode it. None if it ended at
        once.
        """
        leased = run.leased
        now = run.started = monotonic()
        if now >= self._memory.valid_until(leased.lease_id):
            # Too late to begin: another worker may be running it already.
            run.outcome, run.ended = None, now
            return None
        self._memory.start(
            run.place,
            leased.lease_id,
            leased.job_id,
            run.deadline,
            (leased.attempt_no, leased.failed_attempts, leased.max_attempts),
        )
        try:
            run.job = handlers.prepare(
                run.handler, leased, self._hooks[run.place], timeout=run.timeout
            )
        except Exception as error:
            run.outcome = handlers.conclude(run.handler, leased, error)
            run.ended = monotonic()
            return None
        if run.outcome is not None:
            run.ended = monotonic()  # canceled just now
            return None
        return run.job


def _conclude(run: Run, outcome: Outcome) -> None:
    if outcome.status == "failed":
        # Perhaps only because the process is spoilt, be it for this thread alone: then
        # it is lost, not failed.
        damage.end_spoilt_process()
    # Decided from outside meanwhile: that counts.
    run.outcome = run.outcome or outcome
    run.ended = run.ended or monotonic()
    _end_span(run)
