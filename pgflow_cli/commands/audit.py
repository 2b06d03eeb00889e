"""List what operators have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli import output, settings
from pgflow_cli.context import group, pass_repository
from pgflow_cli.filters import filter_options, page_options, show_page

if TYPE_CHECKING:
    from pgflow_cli.repository import Repository
    from pgflow_cli.selection import JobFilter, Page

COLUMNS = (
    output.Column("id", "ACTION", kind="id"),
    output.Column("at", "WHEN", kind="time"),
    output.Column("actor"),
    output.Column("action", "WHAT"),
    output.Column("queue"),
    output.Column("jobs", kind="number"),
    output.Column("state"),
    output.Column("note"),
    output.Column("role", wide=True),
    output.Column("command", wide=True),
    output.Column("finished_at", "FINISHED", kind="time", wide=True),
    output.Column("plan_id", "PLAN", kind="number", wide=True),
    output.Column("details_json", "DETAILS", kind="json", wide=True),
)


@group("audit")
def audit() -> None:
    """List what operators have changed.

    \b
    Examples:
      pgflow audit list
      pgflow audit list --job 9c41e07b -o wide
    """


@audit.command("list")
@click.option("--actor", metavar="NAME", help="Only what this one did.")
@click.option(
    "--action",
    type=settings.NAME,
    metavar="NAME",
    help="Only this action, or all that begin so: jobs.cancel, jobs, queues.",
)
@click.option("--job", metavar="ID", help="Only what concerned this job.")
@filter_options("queues", "since", "until")
@page_options
@pass_repository
def list_(
    repository: Repository,
    actor: str | None,
    action: str | None,
    job: str | None,
    chosen: JobFilter,
    page: Page,
) -> None:
    """List what operators have changed, the latest first.

    An action that is unfinished still runs, or was ended half-way: its jobs were
    changed all the same. Of a change of more than a thousand jobs, --job finds those
    that were canceled, replayed or discarded.

    \b
    Examples:
      pgflow audit list
      pgflow audit list --action jobs.cancel --since 1d -o wide
      pgflow audit list --job 9c41e07b
    """
    from pgflow_cli import migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    chosen = repository.resolve_queues(chosen)
    job_id = None if job is None else repository.find_job(job)
    show_page(
        page,
        lambda limit, after: repository.list_actions(
            chosen,
            limit=limit,
            after=after,
            actor=actor,
            action=action,
            job_id=job_id,
        ),
        COLUMNS,
    )
