"""What a replay of a selection would do, and at what pace: before anything is made."""

from __future__ import annotations

from dataclasses import replace

from pgflow_cli import dead_letters
from pgflow_cli.dead_letters import Sought
from pgflow_cli.errors import UsageError
from pgflow_cli.plans import ReplayOptions
from pgflow_cli.previews import Preview
from pgflow_cli.repository import Repository
from pgflow_cli.selection import JobFilter


def preview(
    repository: Repository,
    sought: Sought,
    options: ReplayOptions,
    chosen: JobFilter | None,
) -> Preview:
    """Return what would be created; `chosen` is the filter that selected the jobs, None
    if they were named.
    """
    of = left_out = ""
    if chosen is not None:
        limit = dead_letters.LIMIT + 1
        total, _ = dead_letters.totals(repository.count_dead_letters(limit=limit))
        _, resolved = dead_letters.totals(
            repository.count_dead_letters(chosen, limit=limit)
        )
        of = dead_letters.count(total)
        left_out = dead_letters.count(0 if options.again else resolved)
    return Preview(
        repository.preview_replay(sought.job_ids, options=options),
        options,
        repository.list_workers(),
        of,
        left_out,
        len(sought.skipped),
        len(sought.failed),
    )


def paced(
    wanted: ReplayOptions, count: int, *, rate: float | None, spread: float | None
) -> ReplayOptions:
    """Return the options with the time between two of so many jobs."""
    if rate is not None and spread is not None:
        raise UsageError("--rate and --spread exclude each other")
    apart = spread / max(1, count) if spread else 1 / rate if rate else 0.0
    last = max(0, wanted.canary - 1) * apart
    if last > wanted.canary_seconds:
        raise UsageError(
            f"at this rate the canary's last job is due after {last:.0f}s; give it "
            "longer with --canary-timeout"
        )
    return replace(wanted, seconds_apart=apart)
