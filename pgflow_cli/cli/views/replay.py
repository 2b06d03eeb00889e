"""A replay as its operator sees it: its options, the preview, the run, the end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import Change
from pgflow_cli.cli.output import messages, records, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import QUEUE, Duration, InstantType, Number, Rate
from pgflow_cli.errors import PgflowError, TryLater
from pgflow_cli.formats.words import short_id
from pgflow_cli.models.replays import MOST, MOST_CANARIES

if TYPE_CHECKING:
    from pgflow_cli.models.replays import ReplayedItem, ReplayPlan
    from pgflow_cli.models.selection import JobFilter
    from pgflow_cli.operations.dead_letters import SelectedJobs
    from pgflow_cli.operations.replay_plans import Outcome
    from pgflow_cli.operations.replays import ReplayRequest
    from pgflow_cli.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])

_COMPLAINTS = 20
_SAFER = 5  # jobs of the canary that is proposed
PREVIEW = tuple(
    Column(name)
    for name in (
        "selected", "skipped", "failed", "types", "checks", "eta_seconds", "run",
    )
)  # fmt: skip

_HOW = (
    "again", "any_status", "limit", "oldest_first", "to_queue", "run_at", "delay",
    "max_attempts", "priority", "patch", "rate", "spread", "canary", "canary_timeout",
)  # fmt: skip
_OPTIONS = (
    click.option("--again", is_flag=True, help="Those that were replayed before, too."),
    click.option(
        "--any-status",
        is_flag=True,
        help="With ids: jobs that succeeded or were canceled, too.",
    ),
    click.option(
        "--limit",
        type=Number(1, MOST),
        metavar="N",
        help="Replay no more than this.",
    ),
    click.option(
        "--oldest-first/--newest-first",
        default=None,
        help="Which deaths of a filter come first.  [default: oldest-first]",
    ),
    click.option(
        "--to-queue",
        type=QUEUE,
        metavar="NAME",
        help="Into this queue, not the one they were in.",
    ),
    click.option("--run-at", type=InstantType("future"), help="Not before this time."),
    click.option(
        "--in",
        "delay",
        type=Duration(0, 3_153_600_000),
        help="Not before so long from now.",
    ),
    click.option("--max-attempts", type=Number(1, 10_000), help="Not what they had."),
    click.option("--priority", type=Number(-100, 100), help="Not what they had."),
    click.option(
        "--patch",
        metavar="JSON",
        help="Merge this into each payload (RFC 7396): null removes a field.",
    ),
    click.option(
        "--rate", type=Rate(), metavar="N/s", help="Let N become due in a second."
    ),
    click.option(
        "--spread",
        type=Duration(1),
        help="Let them become due over so much time.",
    ),
    click.option(
        "--canary",
        type=Number(1, MOST_CANARIES),
        metavar="N",
        help="Create N and wait; go on only if they succeed.",
    ),
    click.option(
        "--canary-timeout",
        type=Duration(0.1, 86_400),
        default="2m",
        show_default=True,
        help="How long they may take; then exit 75.",
    ),
)


def replay_options(function: F) -> F:
    """Give a command the options of a replay; it is called with `how`, their values."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        how = {name: options.pop(name) for name in _HOW}
        return function(*args, how=how, **options)

    command: Any = wrapped
    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[no-any-return]


def request(
    words: Sequence[str], chosen: JobFilter, how: Mapping[str, Any], change: Change
) -> ReplayRequest:
    """Return the replay asked for: `words` are ids as typed, `chosen` is a filter,
    `how` is what `replay_options` gives.
    """
    from pgflow_cli.operations.replays import ReplayRequest

    return ReplayRequest(
        ids=changes.read_ids(words) if words else None,
        chosen=chosen,
        all=change.everything,
        max=change.most,
        batch_size=change.batch_size,
        max_payload_bytes=common.max_payload_bytes.value(),
        name=changes.flag,
        **how,
    )


def preview(
    repository: Repository, asked: ReplayRequest, found: SelectedJobs, change: Change
) -> bool:
    """Show what would be created before the operator is asked; True: that is all.

    With --yes only what is wrong is told, and for a single job nothing.
    """
    from pgflow_cli.operations import replay_preview

    count = len(found.job_ids)
    if not change.dry_run and count < 2:
        return False
    facts = asked.preview(repository, found)
    if not change.dry_run:
        told = (
            replay_preview.warnings(facts)
            if change.yes
            else replay_preview.lines(facts)
        )
        for line in told:
            (messages.warn if change.yes else messages.say)(line)
        return False
    if records.is_machine():
        messages.say("DRY RUN, nothing changed.")
        command = changes.command_line(run=True)
        records.write_record({**replay_preview.record(facts), "run": command}, PREVIEW)
        return True
    changes.tell_dry_run(replay_preview.lines(facts))
    if count > _SAFER and not asked.canary:
        messages.hint(f"Safer    ... --canary {_SAFER}")
    return True


def drive(
    repository: Repository, plan: ReplayPlan, found: SelectedJobs, *, watch: bool
) -> int:
    """Run a plan, tell what has become of it, and return the exit code.

    Raises PgflowError if the canary failed or the plan was stopped, TryLater if the
    canary is undecided or another runner has the plan.
    """
    from pgflow_cli.operations import replay_plans

    if plan.canary_state == "waiting":
        messages.say(f"plan {plan.plan_id}: waiting for a canary of {plan.canary} jobs")
    with (
        _half_way(plan.plan_id),
        terminal.progress("replay", total=plan.remaining) as advance,
    ):
        outcome = replay_plans.run(repository, plan, report=_Reporter(advance))
    code = tell(found, outcome.plan)
    _raise_unless_finished(outcome)
    if watch:
        code = _follow(repository, plan.plan_id) or code
    return code


def tell(found: SelectedJobs, plan: ReplayPlan | None) -> int:
    """Write the last line, and return 1 if anything failed; without a plan, nothing
    was left to do.
    """
    failed = len(found.failed) + (plan.refused if plan else 0)
    changes.tell_tally(
        {
            "replayed": plan.created if plan else 0,
            "skipped": len(found.skipped) + (plan.skipped if plan else 0),
            "failed": failed,
        },
        {
            "plan": plan.plan_id if plan else None,
            "action": plan.action_id if plan else None,
        },
    )
    return int(failed > 0)


class _Reporter:
    """Counts what is created, and names the first of those that could not be."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._left = _COMPLAINTS

    def __call__(self, items: list[ReplayedItem]) -> None:
        self._advance(len(items))
        failed = [item for item in items if item.state == "failed"]
        for item in islice(failed, self._left):
            messages.warn(f"{item.source_job_id}: {item.problem}")
        if self._left and len(failed) > self._left:
            messages.warn("more failed: pgflow replay status PLAN counts them")
        self._left = max(0, self._left - len(failed))


@contextmanager
def _half_way(plan_id: int) -> Iterator[None]:
    """Say how to go on, whatever ends the run before its end."""
    try:
        yield
    except BaseException:
        messages.hint(
            f"plan {plan_id} is half-way. Next: pgflow replay resume {plan_id}  |  "
            f"pgflow replay stop {plan_id}"
        )
        raise


def _raise_unless_finished(outcome: Outcome) -> None:
    plan, plan_id = outcome.plan, outcome.plan.plan_id
    next_steps = (
        f"or:  pgflow replay status {plan_id}  |  pgflow replay resume {plan_id}  |"
        f"  pgflow replay undo {plan_id}"
    )
    if outcome.result == "failed":
        failed = outcome.failed_canaries
        came_back = any(job.came_back for job in failed)
        raise PgflowError(
            f"the canary failed: {len(failed)} of {len(outcome.canary)} jobs"
            + (", and with the error they had died of" if came_back else "")
            + f"; {plan.remaining:,} were not created",
            f"Try: pgflow explain {short_id(failed[0].job_id)}",
            next_steps,
        )
    if outcome.result == "undecided":
        open_ones = [job for job in outcome.canary if job.status is None]
        raise TryLater(
            f"the canary is undecided: {len(open_ones)} of {len(outcome.canary)} jobs "
            f"have not ended; {plan.remaining:,} were not created",
            f"Try: pgflow explain {short_id(open_ones[0].job_id)}",
            next_steps,
        )
    if outcome.result == "taken":
        raise TryLater(f"plan {plan_id} is run by {plan.runner} now", next_steps)
    if outcome.result in ("stopped", "undone"):
        raise PgflowError(
            f"plan {plan_id} was {outcome.result}; {plan.remaining:,} were not created",
            next_steps,
        )


def _follow(repository: Repository, plan_id: int) -> int:
    """Wait until every job of a plan has ended; 1 if any failed."""
    from pgflow_cli.operations import replay_plans

    ended = 0
    progress = replay_plans.find(repository, plan_id)
    with terminal.progress("wait", total=progress.created) as advance:
        for progress in replay_plans.follow(repository, plan_id):
            now = progress.created - progress.waiting - progress.running
            advance(now - ended)
            ended = now
    messages.say(
        f"succeeded {progress.succeeded:,}, failed {progress.failed:,}, "
        f"canceled {progress.canceled:,}"
    )
    return int(progress.failed + progress.canceled > 0)
