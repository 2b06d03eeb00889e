"""See what policies held back and what the gate refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import filters
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.output import live, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings.types import Choice

if TYPE_CHECKING:
    from pgflow_cli.models.selection import JobFilter, Page
    from pgflow_cli.repository import Repository

DECISIONS = (
    Column("minute", kind="time"),
    Column("queue"),
    Column("kind"),
    Column("decision"),
    Column("reason_code", "REASON"),
    Column("count", kind="number"),
    Column("sample_job_id", "SAMPLE", kind="id"),
    Column("details_json", "DETAILS", kind="json"),
    Column("created_at", "FIRST", kind="time", wide=True),
    Column("last_at", "LAST", kind="time", wide=True),
    Column("id", wide=True),
)
GROUPS = (
    Column("queue"),
    Column("kind"),
    Column("reason_code", "REASON"),
    Column("count", kind="number"),
    Column("first_at", "FIRST", kind="time"),
    Column("last_at", "LAST", kind="time"),
    Column("sample_job_id", "SAMPLE", kind="id"),
)


@group("decisions")
def decisions() -> None:
    """See what policies held back and what the gate refused.

    \b
    Examples:
      pgflow decisions list --kind ingest --since 1h
    """


@decisions.command("list")
@click.option(
    "--kind",
    type=Choice(("all", "ingest", "policy")),
    default="all",
    show_default=True,
    help="Enqueues that were refused, jobs that were held back, or both.",
)
@click.option(
    "--group",
    "grouped",
    type=Choice(("reason",)),
    help="One row for each queue and reason.",
)
@filters.filter_options("queues", "reasons", "since", "until")
@filters.page_options
@filters.watch_option
@pass_repository
def list_(
    repository: Repository,
    kind: str,
    grouped: str | None,
    chosen: JobFilter,
    page: Page,
    watch: float | None,
) -> None:
    """List decisions, the newest first: a row for each queue, reason and minute.

    COUNT is how many enqueues were refused in that minute, or in how many of its
    seconds jobs were held back.

    \b
    Examples:
      pgflow decisions list --kind policy -q emails --since 1h
      pgflow decisions list --kind ingest --group reason
    """
    chosen = repository.queues.resolve_queues(chosen)
    if grouped:
        fetch_groups = partial(repository.decisions.group_decisions, chosen, kind)
        if watch:
            live.watch(fetch_groups, GROUPS, seconds=watch)
        records.write(fetch_groups(), GROUPS)
        return
    fetch = partial(repository.decisions.list_decisions, chosen, kind)
    filters.show_page(page, fetch, DECISIONS, watch=watch)
