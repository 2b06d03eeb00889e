"""List worker processes; have one lease no more, or forget a dead one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli import output
from pgflow_cli.consent import change_options, tell_dry_run
from pgflow_cli.context import group, pass_repository
from pgflow_cli.filters import watch_option
from pgflow_cli.settings import list_options

if TYPE_CHECKING:
    from pgflow_cli.consent import Change
    from pgflow_cli.repository import Repository

COLUMNS = (
    output.Column("incarnation", "ID", kind="id"),
    output.Column("worker_id", "WORKER"),
    output.Column("state"),
    output.Column("busy_slots", "BUSY", kind="number"),
    output.Column("slots", kind="number"),
    output.Column("queues", kind="json"),
    output.Column("last_heartbeat", "HEARTBEAT", kind="time"),
    output.Column("code_version", "VERSION"),
    output.Column("host", wide=True),
    output.Column("pid", kind="number", wide=True),
    output.Column("job_types", "TYPES", kind="json", wide=True),
    output.Column("last_leased_at", "LAST FETCH", kind="time", wide=True),
    output.Column("started_at", "STARTED", kind="time", wide=True),
    output.Column("lease_seconds", "LEASE", kind="seconds", wide=True),
    output.Column("supervisor_id", "SUPERVISOR", wide=True),
)
_ID = click.argument("worker", metavar="ID")


@group("workers")
def workers() -> None:
    """List worker processes; have one lease no more, or forget a dead one.

    \b
    Examples:
      pgflow workers list
      pgflow workers quiet web-1-4711
    """


@workers.command("list")
@list_options
@watch_option
@pass_repository
def list_(repository: Repository, watch: float | None) -> None:
    """List worker processes: whether they live, what they serve, how busy they are.

    A silent one has not been heard of for as long as its lease. After ten leases, at
    least ten minutes, it is forgotten.

    \b
    Examples:
      pgflow workers list
      pgflow workers list -o wide
      pgflow workers list -w
    """
    from pgflow_cli import migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    if watch is not None:
        output.watch(repository.list_known_workers, COLUMNS, seconds=watch)
    output.write(repository.list_known_workers(), COLUMNS)


@workers.command("quiet")
@_ID
@change_options()
@pass_repository
def quiet(repository: Repository, worker: str, change: Change) -> None:
    """Have a worker lease no more; what it runs goes on.

    ID is a worker's name, which means all its processes, or the end of a process's id.
    It is told with its next heartbeat. There is no way back but to start it anew; to
    hold up a queue for a while, pause the queue.

    \b
    Examples:
      pgflow workers quiet web-1-4711
      pgflow workers quiet 9c41e07b --note "before the deploy"
    """
    from pgflow_cli import crew, migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    meant = crew.find(repository.list_known_workers(), worker)
    crew.require_alive(worker, meant)
    _tell(f"would lease no more: {crew.named(meant)}", change)
    if change.dry_run:
        return
    change.confirm(f"have {crew.named(meant)} lease no more")
    told = crew.quiet(repository, meant, change.operator)
    if told:
        output.say(f"{crew.named(told)}: told with the next heartbeat to lease no more")
    else:
        output.say(f"{crew.named(meant)}: quiet already")


@workers.command("forget")
@_ID
@change_options()
@pass_repository
def forget(repository: Repository, worker: str, change: Change) -> None:
    """Remove a dead worker from the list; one that lives is refused.

    Its jobs are no matter of this: they come back when their leases run out.

    \b
    Examples:
      pgflow workers forget web-1-4711
      pgflow workers forget 9c41e07b
    """
    from pgflow_cli import crew, migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    meant = crew.find(repository.list_known_workers(), worker)
    crew.require_dead(worker, meant)
    _tell(f"would forget: {crew.named(meant)}", change)
    if change.dry_run:
        return
    change.confirm(f"forget {crew.named(meant)}")
    forgotten = crew.forget(repository, meant, change.operator)
    output.say(f"forgotten: {crew.named(forgotten)}")


def _tell(what: str, change: Change) -> None:
    if change.dry_run:
        output.say(what)
        tell_dry_run()
