"""Bring the database's schema up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.context import (
    group,
    open_repository,
    pass_any_repository,
    pass_database,
)
from pgflow_cli.cli.output import messages, records, reports
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings.types import Duration
from pgflow_cli.errors import TryLater

if TYPE_CHECKING:
    from pgflow_cli.repository import Database, Repository

APPLIED = (
    Column("version", kind="number"),
    Column("name"),
)
STATUS = (
    *APPLIED,
    Column("applied_at", "APPLIED", kind="time"),
    Column("drift"),
    Column("pending"),
    Column("applied_by", "BY", wide=True),
)


@group("migrate", default="up")
def migrate() -> None:
    """Bring the database's schema up to date.

    Any number may run at once, and each may be killed and run again. `pgflow migrate`
    alone means `pgflow migrate up`, with all its options.

    \b
    Examples:
      pgflow migrate
      pgflow migrate --check
      pgflow migrate status
    """


@migrate.command("up")
@click.option("--target", type=int, metavar="N", help="Stop at this version.")
@click.option("-n", "--dry-run", is_flag=True, help="List what would be applied.")
@click.option("--check", is_flag=True, help="Exit 5 if anything is pending.")
@click.option(
    "--wait-for-db",
    type=Duration(),
    default="0s",
    show_default=True,
    help="Wait so long for the database to answer.",
)
@click.option(
    "--lock-wait",
    type=Duration(),
    default="60s",
    show_default=True,
    help="Wait so long for another migrate, then exit 75.",
)
@click.option(
    "--lock-timeout",
    type=Duration(0.001),
    default="5s",
    show_default=True,
    help="Block other sessions no longer than this; try again later.",
)
@pass_database
def up(
    database: Database,
    target: int | None,
    dry_run: bool,
    check: bool,
    wait_for_db: float,
    lock_wait: float,
    lock_timeout: float,
) -> None:
    """Apply every pending version, each in a transaction of its own.

    \b
    Examples:
      pgflow migrate
      pgflow migrate --wait-for-db 60s --lock-timeout 2s
      pgflow migrate up --dry-run
    """
    from pgflow_cli.maintenance import migrations

    migrations.wait_for_database(database, wait_for_db)
    with open_repository() as repository:
        if check:
            migrations.check(repository)
        elif dry_run:
            records.write(migrations.list_pending(repository, target=target), APPLIED)
            messages.say("dry run, nothing was changed")
        else:
            reports.require_stdout()
            applied = migrations.migrate(
                repository,
                target=target,
                lock_wait=lock_wait,
                lock_timeout=lock_timeout,
                say=messages.say,
            )
            _make_partitions(repository)
            with reports.after(f"{len(applied)} versions were applied", "their list"):
                records.write(applied, APPLIED)


@migrate.command("status")
@pass_any_repository
def status(repository: Repository) -> None:
    """List every version: when it was applied, whether its file was edited since.

    \b
    Examples:
      pgflow migrate status
      pgflow migrate status -o json
    """
    from pgflow_cli.maintenance import migrations

    records.write(migrations.list_status(repository), STATUS)


@migrate.command("sql")
@click.option(
    "--from", "after", type=int, default=0, metavar="A", help="The version it is at."
)
@click.option(
    "--to", "up_to", type=int, metavar="B", help="The version to bring it to."
)
def sql(after: int, up_to: int | None) -> None:
    """Print the SQL that migrates, for psql; no database is needed.

    \b
    Examples:
      pgflow migrate sql
      pgflow migrate sql --from 1 --to 2
    """
    from pgflow_cli.maintenance import migrations

    records.write_text(migrations.script(after=after, up_to=up_to).splitlines())


def _make_partitions(repository: Repository) -> None:
    from pgflow_cli.maintenance import migrations

    try:
        made = migrations.ensure_partitions(repository)
    except TryLater as error:
        messages.warn("\n  ".join((error.message, *error.hints)))
    else:
        if made:
            messages.say(f"made {len(made)} day partitions, {made[0]} to {made[-1]}")
