"""Watch queues, workers and the database."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import settings
from pgflow_cli.cli.context import command, pass_repository
from pgflow_cli.cli.filters import filter_options
from pgflow_cli.cli.output import records, terminal
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import Duration

if TYPE_CHECKING:
    from pgflow_cli.cli.views.top import Look
    from pgflow_cli.models.selection import JobFilter
    from pgflow_cli.repository import Repository


@command("top")
@filter_options("queues")
@click.option(
    "-i",
    "--interval",
    type=Duration(0.2, 3600),
    default="2s",
    show_default=True,
    help="How often to look.",
)
@common.sort
@click.option("--once", is_flag=True, help="Look once, write it, and end.")
@pass_repository
def top(repository: Repository, chosen: JobFilter, interval: float, once: bool) -> None:
    """Watch queues, workers and the database.

    Keys: q ends it, s sorts by another column, / takes a part of a queue's name or a
    glob. Where stdout is no terminal it looks once. Rates are of the last minute; the
    bars are the jobs done in it, ten seconds each.

    \b
    Examples:
      pgflow top
      pgflow top -q 'emails.*' -i 5s --sort oldest:desc
      pgflow top --once -o plain
    """
    from pgflow_cli.cli.views import queues
    from pgflow_cli.cli.views import top as top_view
    from pgflow_cli.inspection import queues as queue_report

    sort = settings.given("sort")
    top_view.check_sort(sort)
    # A socket's folder would push everything else off a narrow screen.
    name = re.sub("@/[^:]*:", "@local:", repository.database.display())

    def look() -> Look:
        return top_view.Look(queue_report.take(repository, chosen), name)

    interactive = terminal.is_terminal(sys.stdout) and not records.is_machine()
    if interactive and not once:
        with terminal.fullscreen() as screen:
            top_view.Dashboard(look, interval=interval, sort=sort).run(screen)
    elif records.is_machine():
        records.write(look().census.queues, queues.RECORDS)
    else:
        width = terminal.width() if interactive else None
        plain = terminal.knows_ascii_only(sys.stdout)
        shown = top_view.lines(look(), sort=sort, width=width, ascii_only=plain)
        records.write_text(line.text for line in shown)
