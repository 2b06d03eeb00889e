"""The preview of a replay: lines for a person, or one object for programs; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgflow_cli.formats import times
from pgflow_cli.models.replays import ReplayGroup, ReplayOptions
from pgflow_cli.models.workers import WorkerProcess

_NAMED = 3  # queues, or types without a handler, that a line names


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known before a replay.

    `of` counts what it was chosen from and `left_out` the resolved ones among those, as
    text, because counts stop somewhere; both are empty for ids.
    """

    groups: list[ReplayGroup]
    options: ReplayOptions
    workers: list[WorkerProcess]
    of: str = ""
    left_out: str = ""
    skipped: int = 0
    failed: int = 0

    @property
    def jobs(self) -> int:
        """Return how many jobs would be created."""
        return sum(group.jobs for group in self.groups)

    @property
    def eta_seconds(self) -> float:
        """Return how long after the first job the last one is due."""
        return max(0, self.jobs - 1) * self.options.seconds_apart

    @property
    def without_handler(self) -> list[str]:
        """Return the job types for which no live worker of their queue has a
        handler.
        """
        return [
            f"{group.job_type} on {group.queue}"
            for group in self.groups
            if not any(w.takes(group.queue, group.job_type) for w in self.workers)
        ]

    @property
    def too_large(self) -> int:
        """Return how many payloads exceed today's limit."""
        return sum(group.too_large for group in self.groups)


def lines(preview: Preview) -> Iterator[str]:
    """Yield the lines that a person reads before saying yes."""
    yield from sentences(preview)
    if preview.jobs:
        yield from _table(preview.groups)


def sentences(preview: Preview) -> Iterator[str]:
    """Yield the same without its table."""
    yield _selected(preview)
    if not preview.jobs:
        return
    yield _would_create(preview)
    if preview.options.canary:
        within = times.format_duration(preview.options.canary_seconds)
        yield (
            f"Canary   the first {preview.options.canary} must succeed within {within}"
        )
    yield f"Limits   {_limits(preview.groups)}"
    yield f"Checks   {_checks(preview)}"


def warnings(preview: Preview) -> Iterator[str]:
    """Yield the warnings for an operator who does not read the preview."""
    lacking = preview.without_handler
    if lacking:
        yield f"no live worker has a handler for {_some(lacking)}: those jobs wait"
    if preview.too_large:
        yield f"{preview.too_large:,} payloads are above today's limit and will fail"
    paused = sorted({group.queue for group in preview.groups if group.paused})
    if paused:
        yield f"{_some(paused)}: paused, so nothing runs there until resumed"


def record(preview: Preview) -> dict[str, object]:
    """Return the same as one object."""
    return {
        "selected": preview.jobs,
        "skipped": preview.skipped,
        "failed": preview.failed,
        "types": [
            {
                "queue": group.queue,
                "job_type": group.job_type,
                "jobs": group.jobs,
                "oldest_seconds": group.oldest_seconds,
                "newest_seconds": group.newest_seconds,
            }
            for group in preview.groups
        ],
        "checks": {
            "without_handler": preview.without_handler,
            "payloads_too_large": preview.too_large,
            "keys_taken": 0,
            "queues_paused": sorted({g.queue for g in preview.groups if g.paused}),
        },
        "eta_seconds": preview.eta_seconds,
    }


def _selected(preview: Preview) -> str:
    if preview.of:
        left_out = (
            f"; {preview.left_out} resolved left out (--again to include)"
            if preview.left_out != "0"
            else ""
        )
        return f"Selected {preview.jobs:,} of {preview.of} dead letters{left_out}"
    given = preview.jobs + preview.skipped + preview.failed
    parts = [f"Selected {preview.jobs:,} of {given:,} given"]
    parts += [f"{preview.skipped:,} skipped"] if preview.skipped else []
    parts += [f"{preview.failed:,} failed"] if preview.failed else []
    return "; ".join(parts)


def _would_create(preview: Preview) -> str:
    groups, options = preview.groups, preview.options
    queues = sorted({group.queue for group in groups})
    priority = _span(
        min(group.least_priority for group in groups),
        max(group.most_priority for group in groups),
    )
    attempts = _span(
        min(group.least_attempts for group in groups),
        max(group.most_attempts for group in groups),
    )
    what = "job" if preview.jobs == 1 else "jobs"
    return (
        f"Would create {preview.jobs:,} {what} in {_some(queues)}: priority {priority},"
        f" max_attempts {attempts}, {_pace(preview, options)}"
    )


def _pace(preview: Preview, options: ReplayOptions) -> str:
    begin = "at once"
    if options.run_at is not None:
        begin = f"from {times.format_iso(options.run_at)} on"
    elif options.delay:
        begin = f"in {times.format_duration(options.delay)}"
    if not options.seconds_apart:
        return begin
    rate = f"at {1 / options.seconds_apart:.4g}/s"
    last = times.format_duration(round(preview.eta_seconds))
    start = "" if begin == "at once" else f"{begin}, "
    return f"{start}{rate}, last {'in' if not start else 'after'} about {last}"


def _limits(groups: Sequence[ReplayGroup]) -> str:
    found: dict[str, list[str]] = {}
    for group in groups:
        limits = {
            "max_in_flight": group.max_in_flight,
            "max_attempts_per_minute": group.max_attempts_per_minute,
        }
        words = [f"{name}={limit}" for name, limit in limits.items() if limit]
        found[group.queue] = words + (["PAUSED"] if group.paused else [])
    limited = {queue: words for queue, words in found.items() if words}
    if not limited:
        return "no policy applies, nor does the enqueue rate limit"
    if len(found) == 1:
        told = ", ".join(*limited.values())
    else:
        told = _some([f"{queue} {' '.join(words)}" for queue, words in limited.items()])
    return f"{told} applies, the enqueue rate limit does not"


def _checks(preview: Preview) -> str:
    lacking = preview.without_handler
    handlers = f"NO for {_some(lacking)}" if lacking else "yes"
    payloads = f"NO for {preview.too_large:,}" if preview.too_large else "yes"
    return (
        f"handlers alive {handlers}, payloads in limit {payloads}, keys taken 0, "
        "earlier side effects unknown"
    )


def _table(groups: Sequence[ReplayGroup]) -> Iterator[str]:
    merged: dict[str, tuple[int, float, float]] = {}
    for group in groups:
        jobs, oldest, newest = merged.get(group.job_type, (0, 0.0, float("inf")))
        merged[group.job_type] = (
            jobs + group.jobs,
            max(oldest, group.oldest_seconds),
            min(newest, group.newest_seconds),
        )
    width = max(4, *map(len, merged))
    yield f"{'TYPE':<{width}}  {'JOBS':>7}  {'OLDEST':<7}  NEWEST"
    for job_type, (jobs, oldest, newest) in merged.items():
        ages = [times.format_duration(age) for age in (oldest, newest)]
        yield f"{job_type:<{width}}  {jobs:>7,}  {ages[0]:<7}  {ages[1]}"


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
