"""Archive, prune, reap: what a database of jobs needs from time to time."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli import settings, startup
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.output import messages, records, reports
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import report, work
from pgflow_cli.cli.settings.option import (
    OptionGroup,
    build,
    declared,
    option,
)
from pgflow_cli.cli.settings.types import Choice, Duration, Kind, Number
from pgflow_cli.errors import TryLater, UsageError

if TYPE_CHECKING:
    from pgflow_cli.maintenance import MaintenancePlan, Pass
    from pgflow_cli.repository import Database

REPORT = (
    Column("task"),
    Column("result"),
    Column("rows", kind="number"),
    Column("batches", kind="number"),
    Column("took_ms", "TOOK", kind="ms"),
    Column("detail"),
)
TASKS = (
    "reap",
    "archive",
    "prune",
    "partitions",
    "rate-counters",
    "workers",
    "queues",
    "analyze",
)


class _Retention(Kind):
    """A duration, or `off`, which is given on as None."""

    name = "D|off"
    expects = "a duration such as 90d, or off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value == "off":
            return None
        return Duration(0, 315_360_000).convert(value, param, ctx)


_TASK = Choice(TASKS)


@dataclass(frozen=True)
class MaintainOptions:
    """What `pgflow maintain` was told."""

    loop: bool = option(
        "--loop", is_flag=True, help="Again and again, until told to end."
    )
    interval: float = declared(work.interval)
    archive_after: float = declared(work.archive_after)
    prune_after: float = declared(work.prune_after)
    dlq_retention: float | None = option(
        "--dlq-retention",
        type=_Retention(),
        default="off",
        show_default=True,
        help="Remove dead letters so long after they were replayed or discarded, and"
        " canceled jobs; never an unresolved dead letter.",
    )
    task: tuple[str, ...] = option(
        "--task", multiple=True, type=_TASK, help="Only this task; repeatable."
    )
    skip: tuple[str, ...] = option(
        "--skip", multiple=True, type=_TASK, help="Not this task; repeatable."
    )
    batch_size: int = option(
        "--batch-size",
        type=Number(1, 10_000),
        default=500,
        show_default=True,
        help="How many rows to change in one transaction.",
    )
    sleep: float = option(
        "--sleep",
        type=Duration(0, 60),
        default="50ms",
        show_default=True,
        help="How long to rest between two batches.",
    )
    max_runtime: float = option(
        "--max-runtime",
        type=Duration(0.1, 86_400),
        default="5m",
        show_default=True,
        help="Leave the rest to the next pass after so long.",
    )
    lock_wait: float = option(
        "--lock-wait",
        type=Duration(0, 86_400),
        default="0s",
        show_default=True,
        help="Wait so long for another maintain, then exit 75.",
    )
    skip_if_locked: bool = option(
        "--skip-if-locked", is_flag=True, help="If another one maintains, exit 0."
    )
    dry_run: bool = option(
        "-n", "--dry-run", is_flag=True, help="Change nothing; say what would be."
    )


@command("maintain")
@OptionGroup(MaintainOptions)
@pass_database
def maintain(database: Database, options: MaintainOptions) -> int:
    """Archive, prune, reap, make partitions: one pass.

    Jobs that succeeded move to the archive after --archive-after, with their attempts,
    and stay visible to explain and replay; --prune-after later they are removed.
    Decisions are removed after --prune-after, what operators did after 90 days.
    Nothing of an unfinished job or an unresolved dead letter is removed.

    SIGTERM or SIGHUP ends it after the batch that runs, with exit code 0. What a pass
    leaves, for want of time or of a lock, the next one does: its result is "partial".

    \b
    Examples:
      pgflow maintain
      pgflow maintain --dry-run
      pgflow maintain --task archive --archive-after 3d -o json
      pgflow maintain --loop --interval 5m
    """
    from pgflow_cli.maintenance import Pass

    plan = _plan(options)
    stopped = threading.Event()
    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {n: startup.act_on(n, lambda *_: stopped.set()) for n in numbers}
    try:
        if options.loop:
            return _loop(database, plan, options.interval, stopped)
        return _once(
            Pass(database, plan, stopped), skip_if_locked=options.skip_if_locked
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _plan(options: MaintainOptions) -> MaintenancePlan:
    from pgflow_cli.maintenance import MaintenancePlan

    wanted = options.task or TASKS
    tasks = [task for task in TASKS if task in wanted and task not in options.skip]
    if not tasks:
        raise UsageError("--task and --skip leave nothing to do")
    if options.loop and options.dry_run:
        raise UsageError("--loop and --dry-run exclude each other")
    # A plan's interval is for `work`, whose processes all try: the first one does it.
    return build(MaintenancePlan, options, tasks=tasks, interval=0.0)


def _once(current: Pass, *, skip_if_locked: bool) -> int:
    reports.require_stdout()
    began = time.monotonic()
    try:
        current.run()
    except TryLater as error:
        if skip_if_locked:
            messages.say(error.message)
            return 0
        raise
    finally:
        if current.reports:
            _show(current)
    if current.plan.dry_run:
        messages.say("dry run, nothing was changed")
    else:
        outcome = "failed" if current.failed else "ok"
        messages.say(f"maintain {outcome} in {time.monotonic() - began:.1f}s")
    return 1 if current.failed else 0


def _loop(
    database: Database,
    plan: MaintenancePlan,
    interval: float,
    stopped: threading.Event,
) -> int:
    from pgflow_cli.maintenance import run_forever
    from pgflow_cli.telemetry import logs

    logs.set_up(settings.given("log_format"), settings.given("log_level"))
    logs.say_settings(report.in_force())
    run_forever(
        # A server that says nothing more must not hold up the loop for ever.
        replace(database, call_timeout=plan.max_runtime + 60),
        plan,
        every=interval,
        stopped=stopped,
        tell=_show if records.is_machine() else lambda _: None,
    )
    return 0


def _show(done: Pass) -> None:
    rows: list[Any] = list(done.reports)
    if not records.is_machine():
        rows = [
            {
                name: "-" if getattr(row, name) is None else getattr(row, name)
                for name in (column.field for column in REPORT)
            }
            for row in rows
        ]
    ended = ", ".join(f"{each.task} {each.result}" for each in done.reports)
    what = "this was a dry run" if done.plan.dry_run else f"maintain has ended: {ended}"
    with reports.after(what, "its report"):
        records.write(rows, REPORT)
