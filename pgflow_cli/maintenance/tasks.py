"""The small tasks of `maintain`."""

from __future__ import annotations

import time

from pgflow_cli.formats.words import some
from pgflow_cli.maintenance import migrations
from pgflow_cli.maintenance.batches import BatchRun
from pgflow_cli.maintenance.reap import Reaper
from pgflow_cli.models.maintenance import RetentionLimits
from pgflow_cli.repository import Repository

_MANY = 100_000  # a dry run counts no further
# Rows of one statement: a short transaction blocks few others.
_COUNTERS_AT_ONCE = 10_000
_PATIENCE = 5.0  # seconds to wait for the end of open transactions
_LEAST = "00000000-0000-0000-0000-000000000000"


def reap(
    repository: Repository, _cuts: RetentionLimits, turn: BatchRun, *, crash_budget: int
) -> None:
    """Return jobs to their queue whose worker has gone silent."""
    if turn.dry_run:
        count = repository.maintenance.count_expired_leases(limit=_MANY)
        turn.count(count)
        turn.notes.append(f"{count:,} leases have run out")
        return
    gone: set[str] = set()
    reaper = Reaper(crash_budget)

    def batch() -> tuple[int, bool]:
        ended = reaper.reap(repository, limit=turn.batch_size)
        gone.update(job.worker_name for job in ended)
        return len(ended), bool(ended)

    turn.repeat(batch)
    if gone:
        turn.notes.append(f"{len(gone)} workers gone: {some(sorted(gone))}")


def make_partitions(
    repository: Repository, _cuts: RetentionLimits, turn: BatchRun
) -> None:
    """Make the partitions of the days to come."""
    if turn.dry_run:
        plans = repository.schema.plan_partitions(
            days_ahead=migrations.DAYS_AHEAD, most_strays=migrations.MOST_STRAYS
        )
        made = [plan.name for plan in plans]
    else:
        made = migrations.ensure_partitions(repository)
    turn.rows = len(made)
    if made:
        last = max(name[-8:] for name in made)
        turn.notes.append(f"created up to {last[:4]}-{last[4:6]}-{last[6:]}")


def prune_counters(
    repository: Repository, _cuts: RetentionLimits, turn: BatchRun
) -> None:
    """Count arrivals; delete counts of enqueues and attempts that are too old for a
    limit.
    """
    if not turn.dry_run:
        # Workers count arrivals, too; but there may be none.
        turn.repeat(lambda: (0, repository.counters.count_arrivals()))
    limit = _MANY if turn.dry_run else turn.batch_size
    for prune in (
        repository.maintenance.prune_enqueue_counters,
        repository.maintenance.prune_attempt_counters,
    ):
        turn.repeat_while_full(
            lambda p=prune: p(limit=limit, dry_run=turn.dry_run)  # type: ignore[misc]
        )
    if not turn.dry_run:
        turn.repeat_while_full(
            lambda: repository.counters.prune_queue_rates(limit=limit)
        )


def forget_workers(
    repository: Repository, _cuts: RetentionLimits, turn: BatchRun
) -> None:
    """Forget workers that have long been silent."""
    if turn.dry_run:
        turn.rows = repository.maintenance.count_silent_workers()
        return
    names = repository.unsettled_leases.forget_silent_workers()
    repository.counters.fold_counters(limit=_COUNTERS_AT_ONCE)
    turn.rows = len(names)
    if names:
        turn.notes.append(f"forgotten: {some(sorted(names))}")


def forget_queues(
    repository: Repository, cuts: RetentionLimits, turn: BatchRun
) -> None:
    """Delete queues and priorities that no job has used for as long as history is kept.

    Those of waiting jobs whose records are lost with a damaged page are recorded again.

    Unused ones are retired first: from then on enqueue treats them as missing.
    Transactions that began earlier may still rely on them, so they are deleted only
    after all of these have ended; if that takes too long, the next pass deletes them.
    """
    _record(repository, turn)
    if not turn.dry_run:
        repository.maintenance.renew_places()
    retired = _retire(repository, cuts, turn)
    if turn.dry_run:
        turn.count(len(retired))
        return
    if not retired or not _outlast(repository, turn):
        return
    gone: list[str] = []
    while retired and turn.may_go_on():
        part, retired = retired[: turn.batch_size], retired[turn.batch_size :]
        with repository.transaction():
            queues = repository.maintenance.forget_places(part)
            repository.maintenance.forget_counters(queues)
        gone += queues
        turn.count(len(part))
    if gone:
        turn.notes.append(f"forgotten: {some(sorted(gone))}")


def _record(repository: Repository, turn: BatchRun) -> None:
    """Record places of waiting jobs that are missing; a dry run counts them."""
    if turn.dry_run:
        found = repository.diagnosis.list_unlisted_places()
    else:
        found = repository.maintenance.record_places()
    turn.count(len(found))
    if found:
        queues = sorted({queue for queue, _ in found})
        turn.notes.append(f"recorded again: {some(queues)}")


def _retire(repository: Repository, cuts: RetentionLimits, turn: BatchRun) -> list[str]:
    """Retire unused places in batches; a dry run counts them."""
    retired: list[str] = []
    limit = _MANY if turn.dry_run else turn.batch_size
    while turn.may_go_on():
        part = repository.maintenance.retire_places(
            cuts.prune,
            retired[-1] if retired else _LEAST,
            limit=limit,
            dry_run=turn.dry_run,
        )
        retired += part
        if len(part) < limit or turn.dry_run:
            break
    return retired


def _outlast(repository: Repository, turn: BatchRun) -> bool:
    """Wait for the end of every transaction that is open now, a few seconds."""
    older = repository.maintenance.list_transactions().keys()
    deadline = time.monotonic() + _PATIENCE
    while True:
        still = repository.maintenance.list_transactions()
        if not older & still.keys() and not any(still.values()):
            return True
        if time.monotonic() >= deadline:
            turn.notes.append(f"{len(older & still.keys())} open transactions first")
            return False
        if not turn.may_go_on():
            return False
        turn.stopped.wait(0.05)


def analyze(repository: Repository, _cuts: RetentionLimits, turn: BatchRun) -> None:
    """Renew statistics that have grown old."""
    for plan in repository.maintenance.plan_analyze():
        if not turn.dry_run:
            if not turn.may_go_on():
                return
            with turn.passing_over_damage():
                repository.maintenance.run_plan(plan)
        turn.rows += 1
        turn.notes.append(plan.name)
