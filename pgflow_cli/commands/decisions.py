"""List what guards refused and policies held back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from pgflow_cli import output
from pgflow_cli.context import group, pass_repository
from pgflow_cli.filters import filter_options, page_options, show_page, watch_option
from pgflow_cli.times import Instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgflow_cli.repository import Repository
    from pgflow_cli.selection import JobFilter, Page

COLUMNS = (
    output.Column("minute", kind="time"),
    output.Column("kind"),
    output.Column("queue"),
    output.Column("reason_code", "REASON"),
    output.Column("count", kind="number"),
    output.Column("last_at", "LAST", kind="time"),
    output.Column("sample_job_id", "SAMPLE", kind="id"),
    output.Column("id", "NUMBER", kind="number", wide=True),
    output.Column("decision", wide=True),
    output.Column("created_at", "FIRST", kind="time", wide=True),
    output.Column("details_json", "DETAILS", kind="json", wide=True),
)
GROUPS = (
    output.Column("kind"),
    output.Column("queue"),
    output.Column("reason_code", "REASON"),
    output.Column("count", kind="number"),
    output.Column("minutes", kind="number"),
    output.Column("first_at", "FIRST", kind="time"),
    output.Column("last_at", "LAST", kind="time"),
    output.Column("sample_job_id", "SAMPLE", kind="id"),
)
_A_DAY_AGO = Instant(offset=timedelta(days=-1))


@group("decisions")
def decisions() -> None:
    """List what guards refused and policies held back.

    \b
    Examples:
      pgflow decisions list --kind ingest --since 1h
      pgflow decisions list --kind policy -q emails
    """


@decisions.command("list")
@click.option(
    "--kind",
    type=click.Choice(["all", "ingest", "policy"]),
    default="all",
    show_default=True,
    help="Refused enqueues, or jobs that a limit or a pause held back.",
)
@click.option(
    "--group",
    type=click.Choice(["reason"]),
    help="A row for each queue and reason, not for each minute; of the last day, "
    "unless --since says otherwise.",
)
@filter_options("queues", "reasons", "since", "until")
@page_options
@watch_option
@pass_repository
def list_(
    repository: Repository,
    kind: str,
    group: str | None,
    chosen: JobFilter,
    page: Page,
    watch: float | None,
) -> None:
    """List what guards refused and policies held back, the latest first.

    A row for each queue, reason and minute: how often, and one of the jobs.

    \b
    Examples:
      pgflow decisions list --kind ingest --since 1h
      pgflow decisions list --group reason --since 1d
      pgflow decisions list --kind policy -q emails -w
    """
    from pgflow_cli import migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    chosen = repository.resolve_queues(chosen)
    kinds = ["ingest", "policy"] if kind == "all" else [kind]
    if group is not None:
        _show_groups(repository, chosen, kinds, page, watch)
        return
    show_page(
        page,
        lambda limit, after: repository.list_decisions(
            chosen, kinds=kinds, limit=limit, after=after
        ),
        COLUMNS,
        watch=watch,
    )


def _show_groups(
    repository: Repository,
    chosen: JobFilter,
    kinds: Sequence[str],
    page: Page,
    watch: float | None,
) -> None:
    within = replace(chosen, since=chosen.since or _A_DAY_AGO)

    def fetch() -> Sequence[object]:
        return repository.list_decision_groups(within, kinds=kinds, limit=page.limit)

    if watch is not None:
        output.watch(fetch, GROUPS, seconds=watch)
    output.write(fetch(), GROUPS)
