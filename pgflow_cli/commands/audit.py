"""See what operators have changed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import filters
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.output.cells import Column

if TYPE_CHECKING:
    from pgflow_cli.models.selection import JobFilter, Page
    from pgflow_cli.repository import Repository

ACTIONS = (
    Column("created_at", "TIME", kind="time"),
    Column("id", kind="id"),
    Column("actor"),
    Column("action"),
    Column("queue"),
    Column("jobs", kind="number"),
    Column("state"),
    Column("note"),
    Column("role", wide=True),
    Column("plan_id", "PLAN", wide=True),
    Column("finished_at", kind="time", wide=True),
    Column("command", wide=True),
    Column("details_json", "DETAILS", kind="json", wide=True),
)


@group("audit")
def audit() -> None:
    """See what operators have changed.

    \b
    Examples:
      pgflow audit list --since 1d
    """


@audit.command("list")
@click.option("--actor", metavar="NAME", help="Only what this one has done.")
@click.option(
    "--action", metavar="NAME", help="Only this action, or group: queues.pause, jobs."
)
@filters.filter_options("queues", "since", "until")
@filters.page_options
@pass_repository
def list_(
    repository: Repository,
    actor: str | None,
    action: str | None,
    chosen: JobFilter,
    page: Page,
) -> None:
    """List every change that was made by hand, the newest first.

    ACTOR is what the operator said it was, ROLE what PostgreSQL knows. An unfinished
    one runs, or was ended half-way: JOBS says how far it came.

    \b
    Examples:
      pgflow audit list --since 1d
      pgflow audit list --action queues --since 1d -o wide
    """
    chosen = repository.queues.resolve_queues(chosen)
    fetch = partial(repository.audit.list_actions, chosen, actor=actor, action=action)
    filters.show_page(page, fetch, ACTIONS)
