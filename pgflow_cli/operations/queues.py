"""Changes of whole queues: limits, pauses, and purges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from pgflow_cli.errors import NotFound
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.queues import QueueBound, QueuePolicy
from pgflow_cli.repository import Repository

Limits = Mapping[str, int | None]


def require_known(repository: Repository, queues: Sequence[str]) -> None:
    """Raise `NotFound` if a queue was never used and has no policy."""
    unknown = sorted(set(queues) - set(repository.queues.list_queue_names(queues)))
    if unknown:
        raise NotFound(f'there is no queue "{unknown[0]}"', "Try: pgflow queues list")


def lowered(before: QueuePolicy, limits: Limits) -> list[str]:
    """Return the limits that allow less than before."""
    was = asdict(before)
    return [
        name
        for name, value in limits.items()
        if value is not None
        and name != "throttle_delay_ms"
        and (was[name] is None or value < was[name])
    ]


def set_policy(
    repository: Repository, queue: str, limits: Limits, operator: Operator
) -> tuple[QueuePolicy, QueuePolicy]:
    """Set limits of a queue; return the policy as it was and as it is."""
    with repository.transaction():
        before = _policy(repository, queue)
        repository.queues.set_policy(queue, limits, operator)
        after = _policy(repository, queue)
        _record(repository, operator, "queues.set-policy", queue, before, after)
    return before, after


def clear_policies(
    repository: Repository, queues: Sequence[str], operator: Operator
) -> None:
    """Remove every limit of queues; each is an action of its own."""
    for queue in queues:
        with repository.transaction():
            before = _policy(repository, queue)
            repository.queues.clear_policies([queue], operator)
            after = _policy(repository, queue)
            _record(repository, operator, "queues.clear-policy", queue, before, after)


def set_bound(
    repository: Repository, max_queues: int, operator: Operator
) -> QueueBound:
    """Set how many queues there may be; return the new bound."""
    with repository.transaction():
        before = repository.queues.read_queue_bound()
        repository.queues.set_queue_bound(max_queues)
        action = repository.audit.begin_action(
            operator,
            "queues.bound",
            details={"changed": {"max_queues": [before.max_queues, max_queues]}},
        )
        repository.audit.finish_action(action)
        return repository.queues.read_queue_bound()


def pause(
    repository: Repository,
    queues: Sequence[str],
    length: float | None,
    operator: Operator,
) -> None:
    """Lease nothing from queues, for so many seconds or until they are resumed."""
    with repository.transaction():
        repository.queues.read_policies(queues)
        repository.queues.pause_queues(queues, length, operator)
        _record_all(repository, operator, "queues.pause", queues, seconds=length)


def resume(
    repository: Repository, queues: Sequence[str], operator: Operator
) -> list[str]:
    """Lease from queues again; return those that were paused."""
    with repository.transaction():
        repository.queues.read_policies(queues)
        resumed = repository.queues.resume_queues(queues, operator)
        _record_all(repository, operator, "queues.resume", queues, resumed=resumed)
    return resumed


def purge(
    repository: Repository,
    queue: str,
    status: str,
    operator: Operator,
    *,
    batch_size: int,
    advance: Callable[[int], None],
) -> tuple[int, int]:
    """Cancel a queue's queued or scheduled jobs, or discard its dead letters.

    In batches, each a transaction; what a worker leases meanwhile is left to it.
    Returns how many, and the number of the action.
    """
    action = repository.audit.begin_action(
        operator, "queues.purge", queue=queue, details={"status": status}
    )
    total = 0
    while True:
        with repository.transaction():
            if status == "dlq":
                ids = repository.queues.purge_dead_letters(queue, action, batch_size)
            else:
                ids = repository.queues.purge_pending(
                    queue, status, operator, action, batch_size
                )
            repository.audit.extend_action(action, job_ids=ids)
        total += len(ids)
        advance(len(ids))
        if not ids:
            repository.audit.finish_action(action)
            return total, action


def _policy(repository: Repository, queue: str) -> QueuePolicy:
    return repository.queues.read_policies([queue]).get(queue) or QueuePolicy(queue)


def _record(
    repository: Repository,
    operator: Operator,
    name: str,
    queue: str,
    before: QueuePolicy,
    after: QueuePolicy,
) -> None:
    was, is_ = asdict(before), asdict(after)
    changed = {key: [was[key], is_[key]] for key in was if was[key] != is_[key]}
    action = repository.audit.begin_action(
        operator, name, queue=queue, details={"changed": changed}
    )
    repository.audit.finish_action(action)


def _record_all(
    repository: Repository,
    operator: Operator,
    name: str,
    queues: Sequence[str],
    **details: object,
) -> None:
    """Record one action for queues that are changed in one statement."""
    one = queues[0] if len(queues) == 1 else None
    about = details if one else {**details, "queues": list(queues)}
    action = repository.audit.begin_action(operator, name, queue=one, details=about)
    repository.audit.finish_action(action)
