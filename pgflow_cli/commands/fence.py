"""Keep a restored or cloned database from running finished work again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import group, pass_any_repository
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings.types import Choice

if TYPE_CHECKING:
    from pgflow_cli.models.fence import DatabaseIdentity, Interrupted
    from pgflow_cli.repository import Repository

STATUS = (
    Column("fenced"),
    Column("reason"),
    Column("fenced_at", kind="time"),
    Column("fenced_by"),
    Column("epoch"),
    Column("recorded_at", kind="time"),
    Column("recorded_system_identifier", "RECORDED SYSTEM"),
    Column("present_system_identifier", "PRESENT SYSTEM"),
    Column("recorded_database_oid", "RECORDED DATABASE"),
    Column("present_database_oid", "PRESENT DATABASE"),
    Column("recorded_table_oid", "RECORDED TABLES"),
    Column("present_table_oid", "PRESENT TABLES"),
)


@group("fence")
def fence() -> None:
    """Keep a restored or cloned database from running finished work again.

    A database is known by its server and its own numbers. Where they are not those that
    were recorded, nothing is leased until it is accepted.

    \b
    Examples:
      pgflow fence status
      pgflow fence accept --interrupted requeue
    """


@fence.command("status")
@click.option("--exit-code", is_flag=True, help="Exit 5 if the fence is up.")
@pass_any_repository
def status(repository: Repository, exit_code: bool) -> int:
    """Show whether the fence is up, and why.

    \b
    Examples:
      pgflow fence status
      pgflow fence status --exit-code -o json
    """
    identity = repository.fence.read_identity()
    records.write_record(identity, STATUS)
    if identity.fenced:
        _tell_what_waits(repository)
    return 5 if exit_code and identity.fenced else 0


@fence.command("raise")
@change_options(reported=False)
@pass_any_repository
def raise_(repository: Repository, change: Change) -> None:
    """Let nothing be leased until the database is accepted.

    The first thing to do after a point-in-time recovery, which the identity of a
    database cannot show. Jobs that run go on.

    \b
    Examples:
      pgflow fence raise --note "recovered to 14:05"
    """
    from pgflow_cli.operations import fence as fence_operations

    if change.dry_run:
        changes.tell_dry_run()
        return
    messages.confirm(f"stop all leasing ({changes.where()})", yes=change.yes)
    raised = fence_operations.raise_fence(repository, change.operator)
    messages.say(f"the fence is up (epoch {raised.epoch})")
    _tell_what_waits(repository)


@fence.command("accept")
@click.option(
    "--interrupted",
    type=Choice(("dlq", "requeue", "cancel")),
    default="dlq",
    show_default=True,
    help="What becomes of jobs that ran when the database was dumped.",
)
@click.option(
    "--pause/--no-pause",
    default=True,
    show_default=True,
    help="Whether every queue is paused, to be resumed one by one.",
)
@click.option("--confirm", metavar="NAME", help="The database's name; do not ask.")
@change_options(yes=False, reported=False)
@pass_any_repository
def accept(
    repository: Repository,
    interrupted: str,
    pause: bool,
    confirm: str | None,
    change: Change,
) -> None:
    """Take a restored or cloned database for the right one, and let its jobs run.

    Jobs finished elsewhere since it was dumped run again: see first what waits. Nothing
    else may work on the database it was made from, or both run the same jobs. Jobs of
    workers that live here stay with them: it waits until all of those have been heard
    of since the fence was raised, or their leases have run out.

    \b
    Examples:
      pgflow fence accept
      pgflow fence accept --interrupted requeue --no-pause --confirm app
    """
    from pgflow_cli.operations import fence as fence_operations

    identity = repository.fence.read_identity()
    if not identity.fenced:
        messages.say("the fence is down; nothing was changed")
        return
    fence_operations.require_finished(repository)
    _preview(repository, identity, interrupted, pause=pause)
    if change.dry_run:
        changes.tell_dry_run(confirm=repository.schema.inspect_server().database)
        return
    messages.confirm_name(
        f"Let the jobs of {changes.where()} run",
        repository.schema.inspect_server().database,
        given=confirm,
    )
    done = fence_operations.accept(
        repository, change.operator, fate=interrupted, pause=pause, wait=_Waiting()
    )
    if done is None:
        messages.say("it has been accepted meanwhile; nothing was changed")
        return
    messages.say(
        f"accepted: {done.jobs:,} interrupted jobs ({interrupted}), {done.paused:,} "
        f"queues paused, {done.workers_forgotten:,} workers forgotten "
        f"(action {done.action_id})"
    )
    if done.removed:
        messages.say(f"removed {done.removed:,} rows that the dump had brought back")
    if done.paused:
        messages.hint("Next: pgflow queues list  |  pgflow queues resume NAME")


_BECOMES = {
    "dlq": "go to the DLQ (RESTORED)",
    "requeue": "go back to their queues",
    "cancel": "are canceled",
}


def _preview(
    repository: Repository, identity: DatabaseIdentity, fate: str, *, pause: bool
) -> None:
    found = repository.fence.count_interrupted()
    messages.say(f"Fenced: {identity.reason}.")
    if found.loaded_over:
        messages.say(
            "Rows that the dump has brought back of jobs that ended since are removed. "
            "To have the dump's state instead: pgflow restore FILE --clean"
        )
    messages.say(
        f"{found.jobs:,} jobs ran when it was dumped or cloned: they {_BECOMES[fate]}."
    )
    _tell_what_runs(found)
    if pause:
        messages.say(f"{found.queues:,} queues are paused until they are resumed.")
    else:
        messages.warn("no queue is paused: what is due runs at once")


class _Waiting:
    """Says once what an acceptance waits for."""

    said = False

    def __call__(self, found: Interrupted) -> None:
        if not self.said:
            messages.say(
                f"waiting up to {found.undecided_seconds:.0f} s for "
                f"{found.undecided_jobs:,} jobs: their leases have not run out, and "
                "their workers may yet be heard of"
            )
        self.said = True


def _tell_what_runs(found: Interrupted) -> None:
    if found.live_jobs:
        messages.say(
            f"{found.live_jobs:,} jobs run on {found.live_workers:,} workers that live "
            "here, and stay with them."
        )
    if found.undecided_jobs:
        messages.say(
            f"{found.undecided_jobs:,} jobs are leased for up to "
            f"{found.undecided_seconds:.0f} s more: fence accept waits until their "
            "workers are heard of, or their leases run out."
        )


def _tell_what_waits(repository: Repository) -> None:
    found = repository.fence.count_interrupted()
    _tell_what_runs(found)
    messages.hint(
        f"Nothing is leased. {found.jobs:,} interrupted jobs wait for a decision.\n"
        "Next: pgflow fence accept --dry-run"
    )
