"""Run dead letters again, as new jobs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.filters import (
    DEAD_LETTERS,
    filter_options,
    page_options,
    watch_option,
)
from pgflow_cli.cli.output import live, messages, records, reports, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings.types import JOB_ID, PLAN
from pgflow_cli.cli.views import replay as replay_view
from pgflow_cli.models.replays import MOST, ReplayPlan, ReplayProgress
from pgflow_cli.models.selection import JobFilter, Page, Position, token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgflow_cli.repository import Repository

PLANS = (
    Column("plan_id", "PLAN", kind="id"),
    Column("state", kind="word"),
    Column("created_at", "BEGUN", kind="time"),
    Column("runner", "BY"),
    Column("selected", kind="number"),
    Column("created", kind="number"),
    Column("remaining", "TO DO", kind="number"),
    Column("skipped", kind="number", wide=True),
    Column("refused", kind="number", wide=True),
    Column("undone", kind="number", wide=True),
    Column("canary_state", "CANARY"),
)
STATUS = (
    *PLANS,
    Column("waiting", kind="number"),
    Column("running", kind="number"),
    Column("succeeded", kind="number"),
    Column("failed", kind="number"),
    Column("canceled", kind="number"),
    Column("rate", kind="number"),
    Column("eta_seconds", "ETA", kind="seconds"),
    Column("canary", "CANARY JOBS", kind="number", wide=True),
    Column("to_queue", wide=True),
    Column("ended_at", "ENDED", kind="time", wide=True),
    Column("action_id", "ACTION", kind="number", wide=True),
)
HAD_RUN = (
    Column("job_id", "ID", kind="id"),
    Column("replay_of_job_id", "REPLAY OF", kind="id"),
    Column("status"),
    Column("attempt_no", "ATTEMPTS", kind="number"),
    Column("last_error_code", "ERROR"),
)


@group("replay", default="run")
def replay() -> None:
    """Run dead letters again, as new jobs.

    `pgflow replay` alone means `pgflow replay run`, with all its options.

    \b
    Examples:
      pgflow replay 9c41e07b
      pgflow replay -q emails --error-code TIMEOUT --since 2h --dry-run
      pgflow replay --all --canary 5 --rate 20/s
      pgflow replay status 57 -w
    """


@replay.command("run")
@click.argument("words", metavar="[ID]...", nargs=-1, type=JOB_ID)
@filter_options(*DEAD_LETTERS)
@replay_view.replay_options
@click.option("-w", "--watch", is_flag=True, help="Wait until all have ended.")
@change_options(bulk=True, most=MOST)
@pass_repository
def run(
    repository: Repository,
    words: tuple[str, ...],
    chosen: JobFilter,
    how: Mapping[str, object],
    change: Change,
    watch: bool,
) -> int:
    """Create a new job for each dead letter; its source is resolved and names it.

    ID is a job's id or the end of it; - reads ids from stdin, @FILE from a file. The
    payload is copied inside the database. What a job did before it died is unknown, and
    may happen again. More than 10,000 jobs are refused unless --max allows more, up to
    1,000,000.

    \b
    Examples:
      pgflow replay run 9c41e07b
      pgflow replay run -q emails --since 2h --canary 5 --rate 20/s
      pgflow dlq list -t invoice_pdf -o ids | pgflow replay run - --yes
      pgflow replay run 9c41e07b --patch '{"customer_id": 0}'
    """
    from pgflow_cli.operations import dead_letters

    request = replay_view.request(words, chosen, how, change)
    found = request.find(repository)
    dead_letters.require_the_one(words, found)
    for line in found.complaints():
        messages.warn(line)
    if replay_view.preview(repository, request, found, change):
        return 0
    count = len(found.job_ids)
    if not count:
        return replay_view.tell(found, None)
    change.confirm(f"Replay {count:,} dead letters", count=count)
    plan = request.start(repository, found, operator=change.operator)
    return replay_view.drive(repository, plan, found, watch=watch)


@replay.command("list")
@page_options
@pass_repository
def list_(repository: Repository, page: Page) -> None:
    """List plans of replays, the newest first.

    \b
    Examples:
      pgflow replay list
      pgflow replay list --limit 5 -o json
    """

    def fetch(limit: int, after: Position | None) -> list[ReplayPlan]:
        return repository.replays.list_replay_plans(limit=limit, after=after)

    rows, cursor = page.read(fetch, lambda plan: plan.position)
    records.write(rows, PLANS, cursor=cursor)
    if cursor:
        messages.hint(f"There are more. Next page: --cursor {token(cursor)}")


@replay.command("status")
@click.argument("plan_id", metavar="PLAN", type=PLAN)
@watch_option
@pass_repository
def status(repository: Repository, plan_id: int, watch: float | None) -> None:
    """Tell how far a plan is and how its jobs have ended.

    With --watch until all of them have.

    \b
    Examples:
      pgflow replay status 57
      pgflow replay status 57 -w
    """
    from pgflow_cli.operations import replay_plans

    if watch is not None:
        following = replay_plans.follow(
            repository, plan_id, pause=lambda _seconds: None
        )

        def fetch() -> list[ReplayProgress] | None:
            progress = next(following, None)
            return None if progress is None else [progress]

        live.watch(fetch, STATUS, seconds=watch, title=f"pgflow replay {plan_id}")
        if records.is_machine() or not terminal.is_terminal(sys.stdout):
            return
    records.write_record(replay_plans.find(repository, plan_id), STATUS)


@replay.command("stop")
@click.argument("plan_id", metavar="PLAN", type=PLAN)
@change_options(preview=False, reported=False)
@pass_repository
def stop(repository: Repository, plan_id: int, change: Change) -> None:
    """Let a plan create no more jobs; those it has created stay.

    \b
    Examples:
      pgflow replay stop 57 --note "smtp is down again"
    """
    from pgflow_cli.operations import replay_plans

    change.confirm(f"Stop plan {plan_id}")
    plan = replay_plans.stop(repository, plan_id, operator=change.operator)
    messages.say(
        f"plan {plan_id} is stopped: {plan.created:,} jobs created, "
        f"{plan.remaining:,} not"
    )
    messages.hint(f"Next: pgflow replay resume {plan_id}  |  undo {plan_id}  (cancels)")


@replay.command("resume")
@click.argument("plan_id", metavar="PLAN", type=PLAN)
@click.option("-w", "--watch", is_flag=True, help="Wait until all have ended.")
@change_options(preview=False)
@pass_repository
def resume(repository: Repository, plan_id: int, watch: bool, change: Change) -> int:
    """Go on with a plan that was stopped, or whose run was killed.

    Another's run of it ends. A canary that failed is asked again, with the next jobs.

    \b
    Examples:
      pgflow replay resume 57
    """
    from pgflow_cli.operations import dead_letters, replay_plans

    found = replay_plans.find(repository, plan_id)
    change.confirm(f"Create {found.remaining:,} jobs", count=found.remaining)
    plan = replay_plans.take_over(repository, plan_id, operator=change.operator)
    return replay_view.drive(repository, plan, dead_letters.SelectedJobs(), watch=watch)


@replay.command("undo")
@click.argument("plan_id", metavar="PLAN", type=PLAN)
@change_options()
@pass_repository
def undo(repository: Repository, plan_id: int, change: Change) -> None:
    """Stop a plan, cancel its jobs that were not tried, and reopen their dead letters.

    What had run is listed.

    \b
    Examples:
      pgflow replay undo 57 --dry-run
      pgflow replay undo 57 --yes
    """
    from pgflow_cli.operations import replay_plans

    found = replay_plans.find(repository, plan_id)
    if change.dry_run:
        changes.tell_dry_run(
            [f"Would cancel what was not tried of {found.waiting:,} waiting jobs"]
        )
        return
    change.confirm(f"Cancel {found.waiting:,} waiting jobs", count=found.waiting)
    with terminal.progress("undo", total=found.created) as advance:
        done = replay_plans.undo(
            repository, plan_id, operator=change.operator, advance=advance
        )
    had_run = list(replay_plans.jobs_of(repository, plan_id))
    line = (
        f"undid {done.canceled:,}, had run {len(had_run):,} "
        f"(plan {plan_id}, action {done.action_id})"
    )
    with reports.after(line, "the jobs that had run"):
        records.write(had_run, HAD_RUN)
    messages.say(line)
