"""Show pgflow at work on a private server, and leave nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.context import command
from pgflow_cli.cli.output import live, messages, records, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.database import typed_database_url

if TYPE_CHECKING:
    from pgflow_cli.local.demo import Demonstration

COUNTS = (
    Column("queue"),
    Column("job_type", "TYPE"),
    Column("queued", kind="number"),
    Column("scheduled", "SCHED", kind="number"),
    Column("running", "RUN", kind="number"),
    Column("succeeded", "OK", kind="number"),
    Column("dlq", kind="number"),
    Column("attempts", kind="number"),
)
DEAD = (
    Column("id", "ID", kind="id"),
    Column("job_type", "TYPE"),
    Column("dlq_reason_code", "REASON"),
    Column("last_error_code", "ERROR"),
    Column("last_error_message", "MESSAGE"),
)


@command("demo")
@click.option(
    "--jobs",
    type=click.IntRange(12, 1000),
    default=40,
    show_default=True,
    help="How many jobs to run.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(4, 600),
    default=12,
    show_default=True,
    help="How long the jobs shall take, about.",
)
@click.option("--keep", is_flag=True, help="Keep the server running until Ctrl-C.")
@common.pg_bin
def demo(jobs: int, seconds: float, keep: bool, pg_bin: str | None) -> None:
    """Show pgflow at work on a private server, and leave nothing behind.

    Some jobs succeed, some are tried again, and some become dead letters; one kills its
    worker. DATABASE_URL in the environment is not heeded.

    \b
    Examples:
      pgflow demo
      pgflow demo --jobs 200 --seconds 30 --keep
    """
    from pgflow_cli.local import demo as demo_server

    with demo_server.running(
        jobs=jobs,
        seconds=seconds,
        url=typed_database_url(),
        pg_bin=Path(pg_bin) if pg_bin else None,
        say=messages.say,
    ) as shown:
        _show(shown)
        if keep:
            shown.wait_for_signal()


def _show(shown: Demonstration) -> None:
    from pgflow_cli.cli.views.explanation import lines
    from pgflow_cli.inspection import explanation

    with live.live(COUNTS, title="pgflow demo") as show:
        for progress in shown.progress():
            show(progress.counts)
            # On a terminal the table itself moves, and lines would tear it.
            if progress.is_news and not terminal.is_terminal(sys.stdout):
                messages.say(str(progress))
    dead = shown.dead_letters()
    messages.say(f"{len(dead)} jobs are dead letters: they wait for an operator")
    records.write(dead, DEAD)
    messages.say("Why one of them is there (pgflow explain ID):")
    told = explanation.explain(shown.most_telling(dead))
    records.write_text([*lines(told)])
