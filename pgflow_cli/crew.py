"""Which worker processes an operator means, and what may be done to them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pgflow_cli.errors import NotFound, Refused
from pgflow_cli.listings import KnownWorker
from pgflow_cli.models import Operator
from pgflow_cli.repository import Repository

SHORTEST_SUFFIX = 6


def find(known: Sequence[KnownWorker], given: str) -> list[KnownWorker]:
    """Return the processes that are meant by a worker's name or the end of an id.

    A name means all processes of that worker. Raises NotFound if there is none, or more
    than one could be meant.
    """
    digits = given.strip().lower()
    if len(digits) >= SHORTEST_SUFFIX:
        ends = [w for w in known if w.incarnation.endswith(digits)]
        if ends:
            return _of_one(given, ends, {w.incarnation for w in ends})
    named = [w for w in known if re.sub(r"\.\d+$", "", w.worker_id) == given]
    named = [w for w in known if w.worker_id == given] or named
    if not named:
        raise NotFound(
            f"there is no worker {given}", "They are listed by: pgflow workers list"
        )
    # A name outlives its process: who lives is rather meant than who is gone.
    alive = [w for w in named if w.state != "silent"] or named
    return _of_one(given, alive, {w.supervisor_id for w in alive})


def _of_one(
    given: str, found: list[KnownWorker], owners: set[str]
) -> list[KnownWorker]:
    if len(owners) > 1 and any(w.state != "silent" for w in found):
        raise NotFound(
            f"{given} is ambiguous: {len(found)} processes go by it",
            *(f"{w.incarnation}  {w.worker_id}  {w.host}" for w in found),
        )
    return found


def named(workers: Sequence[KnownWorker]) -> str:
    """Return their names in a row."""
    return ", ".join(worker.worker_id for worker in workers)


def require_alive(given: str, workers: Sequence[KnownWorker]) -> None:
    """Refuse what only a living process can hear."""
    if all(worker.state == "silent" for worker in workers):
        raise Refused(
            f"worker {given} is silent: nobody is there to be told",
            f"Try: pgflow workers forget {given}",
        )


def require_dead(given: str, workers: Sequence[KnownWorker]) -> None:
    """Refuse to forget a process that would be back with its next heartbeat."""
    if any(worker.state != "silent" for worker in workers):
        raise Refused(
            f"worker {given} is alive; it would be back with its next heartbeat",
            f"Stop the process (SIGTERM), or try: pgflow workers quiet {given}",
        )


def quiet(
    repository: Repository, workers: Sequence[KnownWorker], operator: Operator
) -> list[KnownWorker]:
    """Have processes lease no more; return those for which that is new."""
    if all(worker.state == "quiet" for worker in workers):
        return []
    with repository.transaction():
        action_id = repository.begin_action(
            operator, "workers.quiet", details={"workers": named(workers)}
        )
        told = repository.quiet_workers([w.incarnation for w in workers])
        repository.finish_action(action_id)
    return [worker for worker in workers if worker.incarnation in told]


def forget(
    repository: Repository, workers: Sequence[KnownWorker], operator: Operator
) -> list[KnownWorker]:
    """Remove dead processes; refused if one has come back meanwhile."""
    with repository.transaction():
        action_id = repository.begin_action(
            operator, "workers.forget", details={"workers": named(workers)}
        )
        gone = repository.forget_dead_workers([w.incarnation for w in workers])
        if len(gone) < len(workers):
            raise Refused(f"{named(workers)} is there again; nothing was changed")
        repository.finish_action(action_id)
    return [*workers]
