"""Raises the fence around a database that was restored or cloned, and accepts it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from pgflow_cli.errors import ConfigurationError, PermissionDenied, Refused
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.fence import Acceptance, DatabaseIdentity, Interrupted
from pgflow_cli.repository import Repository

_MESSAGE = "it ran when this database was dumped or cloned: whether it ended is unknown"
_PAUSE_NOTE = "the database was restored or cloned: look first, then resume"
_LOOK = "Look: pgflow fence status   Then: pgflow fence accept"
_LOOK_AGAIN = 0.5  # seconds between two looks for leases that may still be extended


def watch(repository: Repository) -> DatabaseIdentity:
    """Read whether the fence is up, and record that it was seen if that is not
    recorded.

    The lease checks the fence itself: the record says when it was seen, and by whom.
    """
    identity = repository.fence.read_identity()
    if identity.moved is None or identity.fenced_at is not None:
        return identity
    try:
        repository.fence.raise_fence(
            identity.moved,
            fenced_by=f"pgflow on {socket.gethostname()}",
            seen_epoch=identity.epoch,
        )
    except PermissionDenied:
        return identity  # a role that may only read cannot record it
    return repository.fence.read_identity()


def require_open(repository: Repository) -> None:
    """Raise `ConfigurationError` if the database is fenced."""
    identity = watch(repository)
    if identity.fenced:
        database = repository.schema.inspect_server().database
        aside = repository.backups.inspect_remains().aside
        raise ConfigurationError(
            f'database "{database}" is fenced, so nothing is leased: {identity.reason}',
            "What was finished elsewhere since would run again.",
            *(aside.hints() if aside else (_LOOK,)),
        )


def require_finished(repository: Repository) -> None:
    """Raise `Refused` where a restore was killed and has put a schema aside, and
    `ConfigurationError` where it has brought only a part, or still runs.
    """
    remains = repository.backups.inspect_remains()
    if remains.aside is not None:
        raise Refused(
            "a restore was killed in this database, and may have brought only a part; "
            "nothing was changed",
            *remains.aside.hints(),
            "Or restore again. Once all jobs are there, drop it and accept.",
            reason_code="UNFINISHED_RESTORE",
        )
    remains.require_whole()


def raise_fence(repository: Repository, operator: Operator) -> DatabaseIdentity:
    """Raise the fence by hand, in a new epoch."""
    reason = operator.note or "it was raised by hand"
    with repository.transaction():
        before = repository.fence.read_identity()
        repository.fence.raise_fence(reason, fenced_by=operator.actor)
        after = repository.fence.read_identity()
        action = repository.audit.begin_action(
            operator,
            "fence.raise",
            details={"epoch": after.epoch, "epoch_before": before.epoch},
        )
        repository.audit.finish_action(action)
    return after


def accept(
    repository: Repository,
    operator: Operator,
    *,
    fate: str,
    pause: bool,
    wait: Callable[[Interrupted], None] = lambda _: None,
) -> Acceptance | None:
    """Accept the database as the right one, in one transaction and a new epoch.

    Jobs that ran when it was dumped get the `fate`; those of a worker that has been
    heard of since stay with it. That is known only once a lease has run out, so this
    waits for that and reports to `wait`. None if the fence was down.
    """
    require_finished(repository)
    # Recorded, so that heartbeats after this instant can be told from earlier ones.
    watch(repository)
    while True:
        with repository.transaction():
            repository.fence.lock_identity()
            before = watch(repository)
            if not before.fenced:
                return None
            found = repository.fence.count_interrupted()
            if not found.undecided_jobs:
                return _accept(repository, operator, before, found, fate, pause=pause)
        wait(found)
        time.sleep(min(_LOOK_AGAIN, found.undecided_seconds))


def _accept(
    repository: Repository,
    operator: Operator,
    before: DatabaseIdentity,
    found: Interrupted,
    fate: str,
    *,
    pause: bool,
) -> Acceptance:
    """Accept it, in the transaction that holds the identity's lock."""
    paused = []
    if pause:
        note = operator.note or _PAUSE_NOTE
        paused = repository.fence.pause_every_queue(actor=operator.actor, note=note)
    forgotten = repository.fence.forget_workers_of_before()
    removed = repository.fence.remove_loaded_rows() if found.loaded_over else 0
    action = repository.audit.begin_action(
        operator,
        "fence.accept",
        details={"reason": before.reason, "interrupted": fate, "pause": pause},
    )
    ended = repository.unsettled_leases.end_interrupted_leases(
        error_message=_MESSAGE, **_ending(fate, operator)
    )
    epoch = repository.fence.record_identity()
    repository.audit.extend_action(action, job_ids=[job.job_id for job in ended])
    repository.audit.finish_action(
        action, details={"epoch": epoch, "paused": paused, "removed": removed}
    )
    return Acceptance(action, epoch, len(ended), removed, len(paused), forgotten)


def _ending(fate: str, operator: Operator) -> dict[str, Any]:
    """Return how an interrupted attempt is recorded; a requeued one is not counted."""
    if fate == "dlq":
        return {"status": "lost", "error_code": "WORKER_LOST", "bury_as": "RESTORED"}
    if fate == "cancel":
        return {
            "status": "canceled",
            "error_code": None,
            "canceled_by": operator.actor,
        }
    return {"status": "released", "error_code": None}
