"""List jobs, wait for them, cancel them, run them now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import change_options
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.filters import filter_options, page_options, watch_option
from pgflow_cli.cli.output import live, messages, records, reports, terminal
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import JOB_ID, Duration, Number
from pgflow_cli.cli.views import jobs as job_views
from pgflow_cli.errors import NotFound
from pgflow_cli.formats.words import plural, short_id
from pgflow_cli.models.selection import FILTER_FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgflow_cli.cli.changes import Change
    from pgflow_cli.models.jobs import ListedJob
    from pgflow_cli.models.selection import JobFilter, Page
    from pgflow_cli.operations.jobs import Changed, JobChange
    from pgflow_cli.repository import Repository

_IDS = click.argument("ids", nargs=-1, required=True, metavar="ID...", type=JOB_ID)


@group("jobs")
def jobs() -> None:
    """List jobs, wait for them, cancel them, run them now.

    \b
    Examples:
      pgflow jobs list --status running
      pgflow jobs cancel 9c41e07b --note "sent by hand"
    """


@jobs.command("list")
@click.option("--slow", is_flag=True, help="Running jobs, the longest first.")
@click.option(
    "--stuck", is_flag=True, help="Running jobs whose lease has run out, unreaped."
)
@filter_options(*FILTER_FIELDS)
@page_options
@watch_option
@pass_repository
def list_(
    repository: Repository,
    slow: bool,
    stuck: bool,
    chosen: JobFilter,
    page: Page,
    watch: float | None,
) -> None:
    """List jobs: newest first, or with one --status as that state has them.

    queued and scheduled: first to run first, --since and --until are about run_at.
    running, dlq, canceled: latest first, by lease, death, cancellation. All others: by
    when they were enqueued. Resolved dead letters are left out where a status is asked
    for. Where a filter is rare, a page looks at 50,000 jobs at most, or at 10,000 if it
    must ask for errors, workers or several states; what it has looked at stands on
    stderr, and --cursor or --all-pages goes on.

    \b
    Examples:
      pgflow jobs list --status queued -q emails
      pgflow jobs list --slow
      pgflow jobs list --stuck -o ids
      pgflow jobs list -t email_send --since 1d --all-pages -o jsonl
    """
    from pgflow_cli.inspection import job_list

    chosen = repository.queues.resolve_queues(chosen)
    wanted = job_list.JobList(repository, chosen, slow=slow, stuck=stuck)
    columns = job_views.RUNNING if wanted.status == "running" else job_views.COLUMNS
    if watch is not None:

        def fetch() -> Sequence[ListedJob]:
            return wanted.page(page.limit, page.after).jobs

        live.watch(fetch, columns, seconds=watch)
    rows, listing = wanted.read(page)
    records.write(rows, columns, cursor=listing.more)
    if listing.more is not None:
        messages.hint(listing.rest())


@jobs.command("show")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@common.list_options
@pass_repository
def show(repository: Repository, job_id: str) -> None:
    """Show one job with its payload; `pgflow explain` says why it is where it is.

    \b
    Examples:
      pgflow jobs show 9c41e07b
      pgflow jobs show 9c41e07b -o json
    """
    from pgflow_cli.inspection.explanation import document

    found = repository.jobs.find_listed_job(repository.jobs.find_job(job_id))
    payload, meta = repository.jobs.read_job_body(found.id)
    shown: dict[str, Any] = {
        column.field: getattr(found, column.field) for column in job_views.COLUMNS
    }
    shown["payload_json"] = document.decoded(payload)
    shown["meta"] = None if meta is None else document.decoded(meta)
    records.write_record(shown, job_views.WHOLE)
    messages.hint(f"Next: pgflow explain {found.short_id}")


@jobs.command("wait")
@_IDS
@click.option("--any", "any_of_them", is_flag=True, help="Until one of them has ended.")
@click.option(
    "--wait-timeout",
    type=Duration(0, 31_536_000),
    default="1h",
    show_default=True,
    help="Wait no longer; then exit 75.",
)
@pass_repository
def wait(
    repository: Repository,
    ids: tuple[str, ...],
    any_of_them: bool,
    wait_timeout: float,
) -> int:
    """Wait until jobs have ended: exit 0 if all have succeeded, 1 if one has not.

    A job that is nowhere (`pgflow jobs run-now --help`) is not waited for.

    \b
    Examples:
      pgflow jobs wait 9c41e07b --wait-timeout 5m
      pgflow enqueue ok '{}' -o ids | pgflow jobs wait -
      pgflow jobs wait 9c41e07b e7f3b6c2 --any
    """
    from pgflow_cli.operations import delivery
    from pgflow_cli.operations.jobs import NOWHERE, put_back

    wanted = _find_all(repository, ids)
    unknown = set(wanted) - set(repository.jobs.list_job_statuses(wanted))
    if unknown:
        raise NotFound(f"there is no job {min(unknown)}")
    outcomes = delivery.wait_for_outcomes(
        repository.enqueue, wanted, seconds=wait_timeout, any_of_them=any_of_them
    )
    records.write(outcomes, job_views.OUTCOMES)
    if lost := [each.job_id for each in outcomes if each.status == NOWHERE]:
        messages.warn(f"{plural(len(lost), 'job')} nowhere: {put_back(lost[0])}")
    return int(any(outcome.status != "succeeded" for outcome in outcomes))


@jobs.command("tail")
@click.option("-f", "--follow", is_flag=True, help="Go on with each that ends.")
@click.option(
    "--limit",
    type=Number(1, 500),
    default=20,
    show_default=True,
    metavar="N",
    help="How many to begin with.",
)
@filter_options(
    "queues", "job_types", "error_codes", "fingerprints", "worker", "code_version",
    "since", "match",
)  # fmt: skip
@common.list_options
@pass_repository
def tail(repository: Repository, follow: bool, limit: int, chosen: JobFilter) -> None:
    """List the attempts that ended last, the newest at the bottom.

    --follow writes each attempt as it ends, in UTC; as jsonl when piped. Of the last
    two days, unless --since says otherwise.

    \b
    Examples:
      pgflow jobs tail -f
      pgflow jobs tail -f -q emails --error-code TIMEOUT
      pgflow jobs tail -f -o jsonl | jq .error_message
    """
    from pgflow_cli.cli.output import live
    from pgflow_cli.inspection.tail import Endings

    ends = Endings(repository, repository.queues.resolve_queues(chosen))
    rows = ends.newest(limit)
    if not follow:
        records.write(rows, job_views.ENDED)
        return
    coming = iter([rows])
    live.scroll(
        lambda: next(coming, None) or ends.following(), job_views.ENDED, seconds=1
    )


@jobs.command("cancel")
@click.argument("ids", nargs=-1, metavar="[ID...|-]", type=JOB_ID)
@click.option(
    "--kill", is_flag=True, help="Running jobs, too; their workers stop them."
)
@filter_options(*FILTER_FIELDS)
@change_options(bulk=True, reported=False)
@pass_repository
def cancel(
    repository: Repository,
    ids: tuple[str, ...],
    kill: bool,
    chosen: JobFilter,
    change: Change,
) -> int:
    """Cancel jobs that wait or are nowhere, with --kill running ones, too.

    They never run again.

    A running job is canceled at once, whatever becomes of its attempt; its worker is
    told with the next heartbeat. A coroutine is canceled, a program gets TERM and five
    seconds later KILL, a function sees `job.canceled`. What still runs five seconds
    later cannot be stopped: its process leases nothing more, is replaced at once, and
    ends after its other jobs (retiring in `pgflow workers list`).

    \b
    Examples:
      pgflow jobs cancel 9c41e07b --note "sent by hand"
      pgflow jobs cancel -q emails --status queued --dry-run
      pgflow jobs list --slow -o ids | pgflow jobs cancel - --kill --yes
    """
    from pgflow_cli.operations import jobs as job_operations

    change.require_selection(ids, chosen)
    states = job_operations.cancelable(kill=kill)
    chosen = repository.queues.resolve_queues(chosen)
    found = None
    if ids:
        wanted = _find_all(repository, ids)
    else:
        job_operations.require_states(chosen, states)
        found = job_operations.select(repository, chosen, states, most=change.most)
        wanted = [job.id for job in found]
    change.require_at_most(len(wanted))
    queue = chosen.queues[0] if len(chosen.queues) == 1 else None
    plan = job_operations.cancellation(
        repository, change.operator, kill=kill, queue=queue
    )
    if change.dry_run:
        return _preview(plan, "cancel", wanted, "canceled", found)
    if not _agreed(change, "cancel", wanted):
        return 0
    done = _run(plan, wanted, change.batch_size, "canceled")
    if kill and done.job_ids:
        messages.hint(
            "Those that ran are told with their worker's next heartbeat; a process "
            "whose function goes on all the same is replaced: pgflow workers list"
        )
    return _report(done, "canceled", by_id=bool(ids))


@jobs.command("run-now")
@_IDS
@click.option(
    "--nowhere", is_flag=True, help="Jobs that are nowhere, too; they may have run."
)
@change_options(reported=False)
@pass_repository
def run_now(
    repository: Repository, ids: tuple[str, ...], nowhere: bool, change: Change
) -> int:
    """Let scheduled jobs be due now: those delayed, and those that wait for a retry.

    A job is nowhere if what said where it is has been lost with a page of the database.
    If that was its success, it runs again; `pgflow jobs cancel` ends it instead.

    \b
    Examples:
      pgflow jobs run-now 9c41e07b
      pgflow jobs list --status scheduled -q emails -o ids | pgflow jobs run-now -
      pgflow jobs list --status nowhere -o ids | pgflow jobs run-now --nowhere -
    """
    from pgflow_cli.operations import jobs as job_operations

    wanted = _find_all(repository, ids)
    plan = job_operations.hastening(repository, change.operator, nowhere=nowhere)
    if change.dry_run:
        return _preview(plan, "run now", wanted, "due now")
    if not _agreed(change, "run now", wanted):
        return 0
    done = _run(plan, wanted, change.batch_size, "due now")
    return _report(done, "due now")


@jobs.command("reprioritize", context_settings={"ignore_unknown_options": True})
@_IDS
@click.argument("priority", type=Number(-100, 100), metavar="N")
@change_options(reported=False)
@pass_repository
def reprioritize(
    repository: Repository, ids: tuple[str, ...], priority: int, change: Change
) -> int:
    """Give waiting jobs another priority, from -100 to 100; a higher one runs first.

    It holds for this attempt and for those that follow.

    \b
    Examples:
      pgflow jobs reprioritize 9c41e07b 10
      pgflow jobs reprioritize 9c41e07b e7f3b6c2 -- -5
    """
    from pgflow_cli.operations import jobs as job_operations

    wanted = _find_all(repository, ids)
    plan = job_operations.reordering(repository, change.operator, priority)
    what, outcome = f"give priority {priority} to", f"now of priority {priority}"
    if change.dry_run:
        return _preview(plan, what, wanted, outcome)
    if not _agreed(change, what, wanted):
        return 0
    done = _run(plan, wanted, change.batch_size, outcome)
    return _report(done, outcome)


def _find_all(repository: Repository, given: Sequence[str]) -> list[str]:
    found = [repository.jobs.find_job(text) for text in changes.read_ids(given)]
    return list(dict.fromkeys(found))


def _several(wanted: Sequence[str]) -> str:
    return f"{len(wanted):,} jobs" if len(wanted) != 1 else f"job {short_id(wanted[0])}"


def _preview(
    plan: JobChange,
    what: str,
    wanted: Sequence[str],
    outcome: str,
    found: Sequence[ListedJob] | None = None,
) -> int:
    """Say what a change would do, and what it would leave alone; return or raise what
    the change would, by the states that jobs are in now.

    `found` are the jobs as a filter has found them; ids say nothing of their states.
    """
    from pgflow_cli.operations import jobs as job_operations

    if found is not None:
        records.write(job_operations.counted(found), job_views.SELECTED)
        states: Sequence[str | None] = [job.status for job in found]
        done = job_operations.Changed(job_ids=[*wanted])
    else:
        done, states = job_operations.foreseen(plan, wanted)
        if len(done.left) == 1 and not done.job_ids:
            raise job_operations.why_left(done, outcome)
    told = job_operations.by_state(states) or "none fits"
    messages.say(f"Would {what} {_several(done.job_ids)}: {told}")
    if done.left:
        left = job_operations.by_state(done.left.values())
        messages.warn(f"would be left alone: {left}")
    changes.tell_dry_run()
    return int(bool(done.left))


def _agreed(change: Change, what: str, wanted: Sequence[str]) -> bool:
    """Ask whether to go on; not for no job at all."""
    if not wanted:
        messages.say("no job fits; nothing was changed")
        return False
    change.confirm(f"{what} {_several(wanted)}", count=len(wanted))
    return True


def _run(plan: JobChange, wanted: Sequence[str], batch: int, label: str) -> Changed:
    if records.is_machine():
        reports.require_stdout()
    with terminal.progress(label, len(wanted)) as advance:
        done = plan.run(wanted, batch_size=batch, advance=advance)
    if records.is_machine():
        with reports.after(_changed(done, label), "their ids"):
            records.write(
                [{"job_id": job_id} for job_id in done.job_ids], job_views.CHANGED
            )
    return done


def _changed(done: Changed, outcome: str) -> str:
    noun = "job" if len(done.job_ids) == 1 else "jobs"
    return f"{len(done.job_ids):,} {noun} {outcome} (action {done.action_id})"


def _report(done: Changed, outcome: str, *, by_id: bool = True) -> int:
    """Say what came of it; what was named and left alone is exit 1, 3 or 4."""
    from pgflow_cli.operations import jobs as job_operations

    if by_id and len(done.left) == 1 and not done.job_ids:
        raise job_operations.why_left(done, outcome)
    if done.action_id is not None:
        messages.say(_changed(done, outcome))
    if done.left:
        messages.warn(f"left alone: {job_operations.by_state(done.left.values())}")
    return int(bool(done.left) and by_id)
