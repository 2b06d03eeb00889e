"""Changes of worker processes by an operator."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pgflow_cli.errors import Ambiguous, NotFound, Refused
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.workers import ListedWorker
from pgflow_cli.repository import Repository

_SHORTEST = 6  # hex digits of an id's end, as for jobs
_OF_SEVERAL = re.compile(r"\.([0-9]+|spare)\Z")


def find(repository: Repository, given: str) -> list[ListedWorker]:
    """Find the processes of a worker's name, or the one whose id ends so.

    A worker of several processes names them after itself: NAME.0, NAME.1, NAME.spare.
    Raises `NotFound` if there is none, `Ambiguous` if several ids end so.
    """
    known = repository.workers.list_worker_processes()
    named = [worker for worker in known if worker.name == given]
    named = named or [w for w in known if _OF_SEVERAL.sub("", w.name) == given]
    if named:
        return named
    end = given.lower()
    ending = [w for w in known if len(end) >= _SHORTEST and w.worker_id.endswith(end)]
    if len(ending) == 1:
        return ending
    if ending:
        raise Ambiguous(
            f"{given} is ambiguous: {len(ending)} processes have an id that ends so",
            *(f"{worker.worker_id}  {worker.name}" for worker in ending),
            candidates=[worker.worker_id for worker in ending],
        )
    raise NotFound(f"there is no worker {given!r}", "Try: pgflow workers list")


def require_silent(workers: Sequence[ListedWorker]) -> None:
    """Refuse to forget processes that still send heartbeats."""
    alive = [worker for worker in workers if worker.state != "silent"]
    if alive:
        raise Refused(
            f"{alive[0].name} is alive; a worker that ends in good order is forgotten "
            "by itself",
            "Stop it first: SIGTERM to its supervisor.",
            reason_code="WORKER_ALIVE",
        )


def quiet(
    repository: Repository, workers: Sequence[ListedWorker], operator: Operator
) -> int:
    """Tell processes to lease nothing; return how many leased until now.

    It holds for what replaces such a process, until it is resumed or its supervisor
    ends.
    """
    with repository.transaction():
        done = repository.workers.quiet_workers(
            [worker.worker_id for worker in workers]
        )
        _record(repository, operator, "workers.quiet", workers, done)
    return len(done)


def resume(
    repository: Repository, workers: Sequence[ListedWorker], operator: Operator
) -> int:
    """Tell quiet processes to lease again; return how many were quiet until now."""
    with repository.transaction():
        done = repository.workers.resume_workers(
            [worker.worker_id for worker in workers]
        )
        _record(repository, operator, "workers.resume", workers, done)
    return len(done)


def forget(
    repository: Repository, workers: Sequence[ListedWorker], operator: Operator
) -> int:
    """Remove processes that are silent still; return how many."""
    with repository.transaction():
        ids = [worker.worker_id for worker in workers]
        done = repository.workers.forget_silent_processes(ids)
        _record(repository, operator, "workers.forget", workers, done)
    return len(done)


def _record(
    repository: Repository,
    operator: Operator,
    name: str,
    workers: Sequence[ListedWorker],
    done: Sequence[str],
) -> None:
    details = {"worker": workers[0].name, "processes": list(done)}
    action = repository.audit.begin_action(operator, name, details=details)
    repository.audit.finish_action(action)
