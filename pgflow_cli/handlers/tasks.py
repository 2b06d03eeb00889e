"""Tasks of the event loop that async handlers share: each knows the job it belongs
to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from pgflow_cli.handlers.job import Job, current, fields

log = logging.getLogger("pgflow.jobs")


class JobTask(asyncio.Task[Any]):
    """A task that no other job can cancel while its own job runs.

    A handler that cancels every task of the loop ends only its own. Tasks that outlive
    their job may be shared, such as those of a connection pool: every job may cancel
    them.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self.job: Job | None = current.get()
        super().__init__(coroutine, **options)

    def cancel(self, msg: Any | None = None) -> bool:
        """Ask the task to stop, unless the job that asks must not."""
        caller = current.get()
        if caller is None or caller is self.job or not self._is_guarded():
            return super().cancel(msg)
        log.warning(
            "a job tried to cancel a task of another one, which goes on",
            extra={**fields(caller), "event": "cancel_refused"},
        )
        return False

    def _is_guarded(self) -> bool:
        return self.job is not None and not self.job.over


class AttemptTask(JobTask):
    """The task that is an attempt; `job` is set once its payload is decoded."""

    def _is_guarded(self) -> bool:
        return True


def separate() -> None:
    """Patch `asyncio.all_tasks` to return a job's own tasks and those of no job, so
    that a handler may cancel all of them and wait for their end.
    """
    every = asyncio.all_tasks

    def all_tasks(
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> set[asyncio.Task[Any]]:
        caller = current.get()
        found = every(loop)
        return {task for task in found if caller is None or _is_for(task, caller)}

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks


def _is_for(task: asyncio.Task[Any], caller: Job) -> bool:
    return not isinstance(task, JobTask) or task.job is caller


def make(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    **options: Any,
) -> JobTask:
    """Make a task; a task factory of an event loop."""
    return JobTask(coroutine, loop=loop, **options)


def owner(context: dict[str, Any]) -> Job | None:
    """Return the job that an event loop's exception handler is called for, if it is
    known.
    """
    for name in ("task", "future"):
        task = context.get(name)
        if isinstance(task, JobTask):
            return task.job
    within = getattr(context.get("handle"), "_context", None)
    return None if within is None else within.get(current)
