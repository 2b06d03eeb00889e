"""See what policies held back and what the gate refused."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import filters, settings
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.output import messages

if TYPE_CHECKING:
    from pgflow_cli.models.selection import JobFilter, Page
    from pgflow_cli.repository import Repository

DECISIONS = (
    messages.Column("minute", kind="time"),
    messages.Column("queue"),
    messages.Column("kind"),
    messages.Column("decision"),
    messages.Column("reason_code", "REASON"),
    messages.Column("count", kind="number"),
    messages.Column("sample_job_id", "SAMPLE", kind="id"),
    messages.Column("details_json", "DETAILS", kind="json"),
    messages.Column("created_at", "FIRST", kind="time", wide=True),
    messages.Column("last_at", "LAST", kind="time", wide=True),
    messages.Column("id", wide=True),
)
GROUPS = (
    messages.Column("queue"),
    messages.Column("kind"),
    messages.Column("reason_code", "REASON"),
    messages.Column("count", kind="number"),
    messages.Column("first_at", "FIRST", kind="time"),
    messages.Column("last_at", "LAST", kind="time"),
    messages.Column("sample_job_id", "SAMPLE", kind="id"),
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
    type=settings.Choice(("all", "ingest", "policy")),
    default="all",
    show_default=True,
    help="Enqueues that were refused, jobs that were held back, or both.",
)
@click.option(
    "--group",
    "grouped",
    type=settings.Choice(("reason",)),
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
            messages.watch(fetch_groups, GROUPS, seconds=watch)
        messages.write(fetch_groups(), GROUPS)
        return
    fetch = partial(repository.decisions.list_decisions, chosen, kind)
    filters.show_page(page, fetch, DECISIONS, watch=watch)
