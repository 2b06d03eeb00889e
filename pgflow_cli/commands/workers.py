"""See worker processes, empty one, have it lease again, forget dead ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.filters import watch_option
from pgflow_cli.cli.output import live, messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import WORKER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgflow_cli.models.audit import Operator
    from pgflow_cli.models.workers import ListedWorker
    from pgflow_cli.repository import Repository

PROCESSES = (
    Column("worker_id", "ID", kind="id"),
    Column("name"),
    Column("state"),
    Column("slots_in_use", "SLOTS"),
    Column("served", "QUEUES"),
    Column("handlers", kind="number"),
    Column("code_version", "VERSION"),
    Column("last_heartbeat", "HEARD", kind="time"),
    Column("last_leased_at", "LEASED", kind="time", wide=True),
    Column("held_jobs", "HELD", kind="number", wide=True),
    Column("host", wide=True),
    Column("pid", wide=True),
    Column("started_at", "STARTED", kind="time", wide=True),
    Column("lease_seconds", "LEASE", kind="seconds", wide=True),
    Column("queues", "QUEUE NAMES", kind="json", wide=True),
    Column("job_types", kind="json", wide=True),
    Column("supervisor_id", wide=True),
)


@group("workers")
def workers() -> None:
    """See worker processes, empty one, have it lease again, forget dead ones.

    \b
    Examples:
      pgflow workers list
      pgflow workers quiet worker-2
      pgflow workers resume worker-2
    """


@workers.command("list")
@common.list_options
@watch_option
@pass_repository
def list_(repository: Repository, watch: float | None) -> None:
    """List the worker processes that have been heard of, alive or not.

    STATE is busy, idle, quiet (it leases nothing until it is resumed), retiring (it
    has been replaced and ends after its other jobs), spare (it runs one job apart, of
    which processes have died), restarting (its processes die, or cannot be started,
    and its supervisor tries again: see its log), stalled (it leases nothing though due
    jobs wait for it) or silent (for longer than its lease).

    \b
    Examples:
      pgflow workers list
      pgflow workers list -o wide --watch
    """
    if watch:
        live.watch(repository.workers.list_worker_processes, PROCESSES, seconds=watch)
    records.write(repository.workers.list_worker_processes(), PROCESSES)


@workers.command("quiet")
@click.argument("worker", metavar="ID", type=WORKER)
@change_options(reported=False)
@pass_repository
def quiet(repository: Repository, worker: str, change: Change) -> None:
    """Have a worker lease nothing; what it runs goes on.

    ID is a worker's name, for all of its processes, or the end of one process's id. It
    learns of it within a third of its lease. It stays quiet, also when its process is
    replaced, until it is resumed or restarted.

    \b
    Examples:
      pgflow workers quiet worker-2 --note "deploying"
    """
    from pgflow_cli.operations import workers as worker_operations

    _tell(repository, worker, change, worker_operations.quiet, "lease nothing")
    messages.hint(
        f"Next: pgflow workers resume {worker}  |  "
        "kill -TERM its supervisor when it runs nothing"
    )


@workers.command("resume")
@click.argument("worker", metavar="ID", type=WORKER)
@change_options(reported=False)
@pass_repository
def resume(repository: Repository, worker: str, change: Change) -> None:
    """Have a quiet worker lease again.

    Undoes `workers quiet` and the signals USR1 and TSTP. ID is a worker's name, for all
    of its processes, or the end of one process's id. It learns of it within a third of
    its lease. A process that retires leases nothing more: its replacement does.

    \b
    Examples:
      pgflow workers resume worker-2 --note "deployed"
    """
    from pgflow_cli.operations import workers as worker_operations

    _tell(repository, worker, change, worker_operations.resume, "lease again")
    messages.hint("Next: pgflow workers list")


def _tell(
    repository: Repository,
    worker: str,
    change: Change,
    tell: Callable[[Repository, Sequence[ListedWorker], Operator], int],
    what: str,
) -> None:
    """Tell processes what they shall do from now on."""
    from pgflow_cli.operations import workers as worker_operations

    chosen = worker_operations.find(repository, worker)
    if change.dry_run:
        records.write(chosen, PROCESSES)
        changes.tell_dry_run()
        return
    change.confirm(f"have {len(chosen)} processes of {worker} {what}")
    done = tell(repository, chosen, change.operator)
    messages.say(f"{done} of {len(chosen)} processes of {worker} {what} from now")


@workers.command("forget")
@click.argument("worker", metavar="ID", type=WORKER)
@change_options(reported=False)
@pass_repository
def forget(repository: Repository, worker: str, change: Change) -> None:
    """Take a dead worker off the list; its jobs come back by reaping, not by this.

    \b
    Examples:
      pgflow workers forget worker-2
    """
    from pgflow_cli.operations import workers as worker_operations

    chosen = worker_operations.find(repository, worker)
    worker_operations.require_silent(chosen)
    if change.dry_run:
        records.write(chosen, PROCESSES)
        changes.tell_dry_run()
        return
    change.confirm(f"forget {len(chosen)} processes of {worker}")
    done = worker_operations.forget(repository, chosen, change.operator)
    messages.say(f"forgot {done} of {len(chosen)} processes of {worker}")
