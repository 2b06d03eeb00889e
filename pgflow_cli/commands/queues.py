"""See queues, limit them, pause them, empty them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.filters import filter_options, watch_option
from pgflow_cli.cli.output import live, messages, records, reports, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.option import OptionGroup, option
from pgflow_cli.cli.settings.types import QUEUE, Choice, Duration, Kind, Number, OrNone
from pgflow_cli.models.queues import LIMITS, MAX_QUEUES

if TYPE_CHECKING:
    from pgflow_cli.inspection.queue_status import QueueStatus
    from pgflow_cli.models.queues import QueuePolicy
    from pgflow_cli.models.selection import JobFilter
    from pgflow_cli.repository import Repository

_COUNTED = 10_000  # jobs up to which a purge counts exactly before it asks
POLICY = (
    Column("queue"),
    Column("max_in_flight", kind="number"),
    Column("max_attempts_per_minute", kind="number"),
    Column("throttle_delay_ms", "THROTTLE DELAY", kind="ms"),
    Column("max_payload_bytes", kind="number"),
    Column("max_enqueue_per_minute", kind="number"),
    Column("paused_until"),
    Column("paused_by"),
    Column("pause_note"),
)
BOUND = (
    Column("max_queues", kind="number"),
    Column("in_use", kind="number"),
)


def _limit(flag: str, kind: Kind, text: str) -> Any:
    return option(flag, type=OrNone(kind), help=text, metavar="N|none")


@group("queues")
def queues() -> None:
    """See queues, limit them, pause them, empty them.

    \b
    Examples:
      pgflow queues list
      pgflow queues show emails --window 10m
      pgflow queues pause emails --for 30m --note "smtp is down"
      pgflow queues set-policy emails --max-in-flight 10
    """


@queues.command("list")
@filter_options("queues")
@click.option(
    "--limit",
    type=Number(1, 1000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many queues at most.",
)
@click.option("--after", type=QUEUE, metavar="NAME", help="Where the last page ended.")
@common.list_options
@watch_option
@pass_repository
def list_(
    repository: Repository,
    chosen: JobFilter,
    limit: int,
    after: str | None,
    watch: float | None,
) -> None:
    """List queues: what waits, runs and has died, how fast, and whether it drains.

    Counts end at 10,000: ~12,000 is the planner's estimate, 10,000+ says that it has
    none. Rates are of the last minute: IN/s jobs enqueued, OUT/s jobs done; ERR% of
    attempts failed, RETRY% were not the first. Where more than 20,000 jobs came in that
    time, IN/s is of the newest of them. Pages are by name; --sort orders the rows of a
    page.

    \b
    Examples:
      pgflow queues list
      pgflow queues list -q 'emails.*' --sort runnable:desc --watch 5s
    """
    from pgflow_cli.cli.views import queues as queue_views
    from pgflow_cli.inspection import queues as queue_report

    columns = queue_views.RECORDS if records.is_machine() else queue_views.LIST

    def fetch() -> tuple[list[QueueStatus], str | None]:
        taken, last = queue_report.take_page(
            repository, chosen, after=after, limit=limit
        )
        return taken.queues, last

    if watch:
        live.watch(lambda: fetch()[0], columns, seconds=watch)
    rows, last = fetch()
    records.write(rows, columns)
    if last is not None:
        messages.hint(f"{len(rows):,} shown. Next page: --after {last}")


@queues.command("show")
@click.argument("name", type=QUEUE)
@click.option(
    "--window",
    type=Duration(20, 7200),
    default="60s",
    show_default=True,
    help="How far back rates look, up to 2h.",
)
@pass_repository
def show(repository: Repository, name: str, window: float) -> None:
    """Show one queue: depth, rates, forecast, policy and pause.

    \b
    Examples:
      pgflow queues show emails
      pgflow queues show emails --window 10m -o json
    """
    from pgflow_cli.cli.views import queues as queue_views
    from pgflow_cli.inspection import queues as queue_report

    status = queue_report.take_one(repository, name, window=window)
    for_programs = records.is_machine()
    columns = queue_views.RECORDS if for_programs else queue_views.SHOW
    records.write_record(status, columns)
    if status.arrivals_covered < window - 1:
        messages.hint(
            f"IN/s is of the last {status.arrivals_covered:.1f}s:"
            " more came than are looked at."
        )


@queues.command("pause")
@click.argument("names", nargs=-1, required=True, type=QUEUE, metavar="NAME…")
@click.option(
    "--for",
    "length",
    type=Duration(1),
    help="So long; without it, until it is resumed.",
)
@change_options(reported=False)
@pass_repository
def pause(
    repository: Repository,
    names: tuple[str, ...],
    length: float | None,
    change: Change,
) -> None:
    """Lease nothing more from queues; what runs goes on, producers go on.

    \b
    Examples:
      pgflow queues pause emails --for 30m --note "smtp is down"
      pgflow queues pause emails billing --yes
    """
    from pgflow_cli.operations import queues as queue_operations

    _tell_unused(repository, names)
    if change.dry_run:
        changes.tell_dry_run()
        return
    messages.confirm(f"pause {', '.join(names)} ({changes.where()})", yes=change.yes)
    queue_operations.pause(repository, names, length, change.operator)
    until = "until it is resumed" if length is None else "for that long"
    messages.say(f"paused {', '.join(names)} {until}")
    messages.hint(f"Next: pgflow queues resume {' '.join(names)}")


@queues.command("resume")
@click.argument("names", nargs=-1, required=True, type=QUEUE, metavar="NAME…")
@change_options(reported=False)
@pass_repository
def resume(repository: Repository, names: tuple[str, ...], change: Change) -> None:
    """Lease from queues again.

    \b
    Examples:
      pgflow queues resume emails
    """
    from pgflow_cli.operations import queues as queue_operations

    queue_operations.require_known(repository, names)
    if change.dry_run:
        changes.tell_dry_run()
        return
    change.confirm(f"resume {', '.join(names)}")
    resumed = queue_operations.resume(repository, names, change.operator)
    for name in names:
        messages.say(f"resumed {name}" if name in resumed else f"{name} was not paused")


@dataclass(frozen=True)
class LimitOptions:
    """Limits as they were typed; None: it stays, -1: there is none any more."""

    max_in_flight: int | None = _limit(
        "--max-in-flight",
        Number(*LIMITS["max_in_flight"]),
        "Jobs that run at once.",
    )
    max_attempts_per_minute: int | None = _limit(
        "--max-attempts-per-minute",
        Number(*LIMITS["max_attempts_per_minute"]),
        "Attempts that begin in any minute.",
    )
    throttle_delay: float | None = _limit(
        "--throttle-delay",
        Duration(0, 3600),
        "How long to leave the queue alone when a limit holds jobs back.",
    )
    max_payload_bytes: int | None = _limit(
        "--max-payload-bytes",
        Number(*LIMITS["max_payload_bytes"]),
        "The largest payload.",
    )
    max_enqueue_per_minute: int | None = _limit(
        "--max-enqueue-per-minute",
        Number(*LIMITS["max_enqueue_per_minute"]),
        "Jobs that producers may add in each minute of the server's clock; 0: no"
        " limit.",
    )


@queues.command("set-policy")
@click.argument("name", type=QUEUE)
@OptionGroup(LimitOptions, "limits")
@change_options()
@pass_repository
def set_policy(
    repository: Repository, name: str, change: Change, limits: LimitOptions
) -> None:
    """Limit a queue. `none` removes a limit; what is not named stays.

    The lease keeps the limits: they hold at every instant, whatever workers there are.

    \b
    Examples:
      pgflow queues set-policy emails --max-in-flight 10 --note "smtp allows ten"
      pgflow queues set-policy emails --max-attempts-per-minute none
    """
    from pgflow_cli.operations import queues as queue_operations

    given = _given(limits)
    if not given:
        raise click.UsageError("which limit? see: pgflow queues set-policy --help")
    _tell_unused(repository, [name])
    with repository.transaction():
        before = repository.queues.read_policies([name]).get(name) or _no_policy(name)
    if change.dry_run:
        records.write_record({**asdict(before), **given}, POLICY)
        changes.tell_dry_run()
        return
    if less := queue_operations.lowered(before, given):
        messages.confirm(f"lower {', '.join(less)} of {name}", yes=change.yes)
    else:
        change.confirm(f"change the policy of {name}")
    _, after = queue_operations.set_policy(repository, name, given, change.operator)
    with reports.after(f"the policy of {name} was changed", "what it is now"):
        records.write_record(after, POLICY)


@queues.command("clear-policy")
@click.argument("names", nargs=-1, required=True, type=QUEUE, metavar="NAME…")
@change_options(reported=False)
@pass_repository
def clear_policy(
    repository: Repository, names: tuple[str, ...], change: Change
) -> None:
    """Remove every limit of queues; a pause stays.

    \b
    Examples:
      pgflow queues clear-policy reports
    """
    from pgflow_cli.operations import queues as queue_operations

    queue_operations.require_known(repository, names)
    if change.dry_run:
        changes.tell_dry_run()
        return
    change.confirm(f"remove the limits of {', '.join(names)}")
    queue_operations.clear_policies(repository, names, change.operator)
    messages.say(f"no limits any more: {', '.join(names)}")


@queues.command("bound")
@click.argument("most", type=Number(*MAX_QUEUES), required=False, metavar="N")
@change_options()
@pass_repository
def bound(repository: Repository, most: int | None, change: Change) -> None:
    """Show or set how many queues there may be; each priority of one counts.

    A job that would need one more is refused with TOO_MANY_QUEUES; what operators do
    (replay, jobs reprioritize) is not, but counts. `maintain` forgets queues that have
    been unused for as long as history is kept.

    \b
    Examples:
      pgflow queues bound
      pgflow queues bound 20000 --note "a queue for each tenant"
    """
    from pgflow_cli.operations import queues as queue_operations

    found = repository.queues.read_queue_bound()
    if most is not None and change.dry_run:
        changes.tell_dry_run()
    elif most is not None:
        if most < found.max_queues:
            messages.confirm(f"lower max_queues to {most:,}", yes=change.yes)
        else:
            change.confirm(f"raise max_queues to {most:,}")
        found = queue_operations.set_bound(repository, most, change.operator)
        with reports.after(f"max_queues is {most:,} now"):
            records.write_record(found, BOUND)
        return
    records.write_record(found, BOUND)


@queues.command("purge")
@click.argument("name", type=QUEUE)
@click.option(
    "--status",
    type=Choice(("queued", "scheduled", "dlq")),
    default="queued",
    show_default=True,
    help="Which of its jobs.",
)
@click.option("--confirm", metavar="NAME", help="The queue's name; do not ask.")
@change_options(bulk=True, yes=False, everything=False)
@pass_repository
def purge(
    repository: Repository,
    name: str,
    status: str,
    confirm: str | None,
    change: Change,
) -> None:
    """Cancel every waiting job of a queue, or discard its dead letters.

    They stay visible to `explain` until their retention ends. What runs goes on, and
    what a worker leases meanwhile runs.

    \b
    Examples:
      pgflow queues purge emails --dry-run
      pgflow queues purge emails --status dlq --confirm emails --max 100000
    """
    from pgflow_cli.operations import queues as queue_operations

    queue_operations.require_known(repository, [name])
    counts = repository.queues.count_queue(name, limit=max(change.most, _COUNTED) + 1)
    count = {**asdict(counts)}[status]
    verb = "discard" if status == "dlq" else "cancel"
    messages.say(f"{count:,} {status} jobs of {name} ({changes.where()})")
    change.require_at_most(count)
    if change.dry_run:
        changes.tell_dry_run(confirm=name)
        return
    messages.confirm_name(
        f"{verb} {count:,} {status} jobs of {name}", name, given=confirm
    )
    with terminal.progress(f"purging {name}", count) as advance:
        done, action = queue_operations.purge(
            repository,
            name,
            status,
            change.operator,
            batch_size=change.batch_size,
            advance=advance,
        )
    past = "discarded" if status == "dlq" else "canceled"
    line = f"{past} {done:,} jobs (action {action})"
    with reports.after(line):
        records.write_text([line])


def _given(limits: LimitOptions) -> dict[str, int | None]:
    """Return the limits that were typed, in the columns' units; None removes one."""
    typed = asdict(limits).items()
    given = {name: value for name, value in typed if value is not None}
    if "throttle_delay" in given:
        delay = given.pop("throttle_delay")
        given["throttle_delay_ms"] = delay if delay == -1 else round(delay * 1000)
    return {name: None if value == -1 else value for name, value in given.items()}


def _no_policy(name: str) -> QueuePolicy:
    from pgflow_cli.models.queues import QueuePolicy

    return QueuePolicy(name)


def _tell_unused(repository: Repository, names: tuple[str, ...] | list[str]) -> None:
    known = set(repository.queues.list_queue_names(names))
    for name in names:
        if name not in known:
            messages.hint(f'queue "{name}" has had no job yet; the policy will wait')
