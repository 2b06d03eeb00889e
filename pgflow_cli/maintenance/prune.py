"""Removes rows past their retention: days of the archive, decisions, resolved jobs."""

from __future__ import annotations

from collections.abc import Callable

from pgflow_cli.errors import Contention
from pgflow_cli.maintenance.archive import EXACT, run_patiently
from pgflow_cli.maintenance.batches import BatchRun
from pgflow_cli.models.maintenance import (
    ATTEMPTS,
    JOBS,
    SUCCESSES,
    PartitionDay,
    Removed,
    RetentionLimits,
)
from pgflow_cli.repository import Repository

_NEVER = "-infinity"


def prune(repository: Repository, cuts: RetentionLimits, turn: BatchRun) -> None:
    """Remove archived jobs with their attempts, decisions, and the audit's oldest part.

    It removes no row of a job that has not ended, nor of an unresolved dead letter.
    """
    tally = dict.fromkeys(
        (
            "attempts",
            "jobs",
            "policy decisions",
            "ingest decisions",
            "operator actions",
            "replay items",
            "replay plans",
        ),
        0,
    )
    _drop_days(repository, cuts, turn, tally)
    with turn.passing_over_damage():
        _prune_strays(repository, cuts, turn, tally)
    if cuts.dlq != _NEVER:
        with turn.passing_over_damage():
            _prune_resolved(repository, cuts, turn, tally)
    for name, batch in _histories(repository, cuts, turn).items():
        with turn.passing_over_damage():
            tally[name] += turn.repeat_while_full(batch)
    turn.notes.extend(f"{name} {count:,}" for name, count in tally.items() if count)


def _histories(
    repository: Repository, cuts: RetentionLimits, turn: BatchRun
) -> dict[str, Callable[[], int]]:
    limit = EXACT if turn.dry_run else turn.batch_size
    dry = turn.dry_run
    return {
        "policy decisions": lambda: repository.archive.prune_policy_decisions(
            before=cuts.prune, limit=limit, dry_run=dry
        ),
        "ingest decisions": lambda: repository.archive.prune_ingest_decisions(
            before=cuts.prune, limit=limit, dry_run=dry
        ),
        "operator actions": lambda: repository.archive.prune_operator_actions(
            limit=limit, dry_run=dry
        ),
        "replay items": lambda: repository.replays.prune_replay_items(
            limit=limit, dry_run=dry
        ),
        "replay plans": lambda: repository.replays.prune_replay_plans(
            limit=limit, dry_run=dry
        ),
    }


def _drop_days(
    repository: Repository, cuts: RetentionLimits, turn: BatchRun, tally: dict[str, int]
) -> None:
    """Drop whole days of the archive; a day with a job that ended later is kept."""
    for day in repository.archive.list_partition_days(before=cuts.archived):
        parents = [
            parent
            for parent in (
                f"{JOBS}_archive",
                f"{ATTEMPTS}_archive",
                f"{SUCCESSES}_archive",
            )
            if parent in day.parents
        ]
        if not parents or not turn.may_go_on():
            continue
        try:
            with turn.passing_over_damage():
                if not repository.archive.has_late_attempts(day, since=cuts.archived):
                    _drop_day(repository, day, parents, turn, tally)
        except Contention as error:
            turn.put_off(f"{day.named()} put off: {error}")


def _drop_day(
    repository: Repository,
    day: PartitionDay,
    parents: list[str],
    turn: BatchRun,
    tally: dict[str, int],
) -> None:
    # Jobs first: attempts may be there without their job, not the other way round.
    for parent in parents:
        size = repository.archive.measure_partition(parent, day, limit=EXACT)
        if not turn.dry_run:
            for plan in repository.archive.plan_drop(parent, day):
                run_patiently(repository, plan, turn)
        tally["jobs" if parent.startswith("jobs") else "attempts"] += size
        turn.count(size)


def _prune_strays(
    repository: Repository, cuts: RetentionLimits, turn: BatchRun, tally: dict[str, int]
) -> None:
    """Remove archived jobs that have no day of their own."""
    after: str | None = None

    def step() -> tuple[int, bool]:
        nonlocal after
        removed = repository.archive.prune_archived_jobs(
            after=after,
            before=cuts.archived,
            limit=turn.batch_size,
            dry_run=turn.dry_run,
        )
        after = removed.last_id or after
        tally["jobs"] += removed.jobs
        tally["attempts"] += removed.attempts
        return removed.jobs + removed.attempts, removed.looked >= turn.batch_size

    turn.repeat(step)


def _prune_resolved(
    repository: Repository, cuts: RetentionLimits, turn: BatchRun, tally: dict[str, int]
) -> None:
    """Remove dead letters that were replayed or discarded, and canceled jobs."""
    kinds = ("dead letters", "canceled jobs")
    if turn.dry_run:
        counts = repository.archive.count_resolved_jobs(before=cuts.dlq, limit=EXACT)
        for kind, count in zip(kinds, counts, strict=True):
            tally[kind] = count
            turn.count(count)
        return
    batches = (
        repository.archive.prune_dead_letters,
        repository.archive.prune_canceled_jobs,
    )
    for kind, batch in zip(kinds, batches, strict=True):
        tally[kind] = 0

        def step(
            kind: str = kind, batch: Callable[..., Removed] = batch
        ) -> tuple[int, bool]:
            removed = batch(before=cuts.dlq, limit=turn.batch_size)
            tally[kind] += removed.jobs
            tally["attempts"] += removed.attempts
            rows = removed.jobs + removed.attempts
            return rows, removed.looked >= turn.batch_size

        turn.repeat(step)
