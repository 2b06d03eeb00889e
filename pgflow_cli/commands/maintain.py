"""Archive, prune, reap: what a database of jobs needs from time to time."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli import settings
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.output import messages, records, reports
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import report
from pgflow_cli.cli.settings.types import Kind
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
_NOT_OF_THE_PLAN = ("loop", "interval", "task", "skip", "skip_if_locked")


class _Retention(Kind):
    """A duration, or `off`, which is given on as None."""

    name = "D|off"
    expects = "a duration such as 90d, or off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value == "off":
            return None
        return settings.Duration(0, 315_360_000).convert(value, param, ctx)


_TASK = settings.Choice(TASKS)


@command("maintain")
@click.option("--loop", is_flag=True, help="Again and again, until told to end.")
@settings.interval
@settings.archive_after
@settings.prune_after
@click.option(
    "--dlq-retention",
    type=_Retention(),
    default="off",
    show_default=True,
    help="Remove dead letters so long after they were replayed or discarded, and"
    " canceled jobs; never an unresolved dead letter.",
)
@click.option("--task", multiple=True, type=_TASK, help="Only this task; repeatable.")
@click.option("--skip", multiple=True, type=_TASK, help="Not this task; repeatable.")
@click.option(
    "--batch-size",
    type=settings.Number(1, 10_000),
    default=500,
    show_default=True,
    help="How many rows to change in one transaction.",
)
@click.option(
    "--sleep",
    type=settings.Duration(0, 60),
    default="50ms",
    show_default=True,
    help="How long to rest between two batches.",
)
@click.option(
    "--max-runtime",
    type=settings.Duration(0.1, 86_400),
    default="5m",
    show_default=True,
    help="Leave the rest to the next pass after so long.",
)
@click.option(
    "--lock-wait",
    type=settings.Duration(0, 86_400),
    default="0s",
    show_default=True,
    help="Wait so long for another maintain, then exit 75.",
)
@click.option(
    "--skip-if-locked", is_flag=True, help="If another one maintains, exit 0."
)
@click.option(
    "-n", "--dry-run", is_flag=True, help="Change nothing; say what would be."
)
@pass_database
def maintain(database: Database, **options: Any) -> int:
    """Archive, prune, reap, make partitions: one pass.

    Jobs that succeeded move to the archive after --archive-after, with their attempts,
    and stay visible to explain and replay; --prune-after later they are removed.
    Decisions are removed after --prune-after, what operators did after 90 days.
    Nothing of an unfinished job or an unresolved dead letter is removed.

    SIGTERM ends it after the batch that runs, with exit code 0. What a pass leaves,
    for want of time or of a lock, the next one does: its result is "partial".

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
    previous = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        if options["loop"]:
            return _loop(database, plan, options, stopped)
        return _once(
            Pass(database, plan, stopped), skip_if_locked=options["skip_if_locked"]
        )
    finally:
        signal.signal(signal.SIGTERM, previous)


def _plan(options: dict[str, Any]) -> MaintenancePlan:
    from pgflow_cli.maintenance import MaintenancePlan

    wanted, skipped = options["task"] or TASKS, options["skip"]
    tasks = [task for task in TASKS if task in wanted and task not in skipped]
    if not tasks:
        raise UsageError("--task and --skip leave nothing to do")
    if options["loop"] and options["dry_run"]:
        raise UsageError("--loop and --dry-run exclude each other")
    given = {k: v for k, v in options.items() if k not in _NOT_OF_THE_PLAN}
    return MaintenancePlan(tasks=tasks, **given)


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
    options: dict[str, Any],
    stopped: threading.Event,
) -> int:
    from pgflow_cli.maintenance import run_forever
    from pgflow_cli.telemetry import logs

    logs.set_up(settings.given("log_format"), settings.given("log_level"))
    logs.say_settings(report.in_force(options))
    run_forever(
        # A server that says nothing more must not hold up the loop for ever.
        replace(database, call_timeout=plan.max_runtime + 60),
        plan,
        every=options["interval"],
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
