"""What an operator orders replayed: what fits together, which jobs, what it would do.

The command line and HTTP say the same in different words: `name` turns the name of a
field into theirs, such as --run-at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pgflow_cli.errors import NotFound, PgflowError, Refused, UsageError
from pgflow_cli.formats import payload_text
from pgflow_cli.formats.times import Instant
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.replays import ReplayOptions, ReplayPlan
from pgflow_cli.models.selection import JobFilter, Naming, plainly
from pgflow_cli.operations import dead_letters, delivery, replay_plans
from pgflow_cli.operations.dead_letters import Sought
from pgflow_cli.operations.replay_preview import Preview
from pgflow_cli.repository import Repository

Pause = Callable[[float], object]


def options(
    given: Mapping[str, Any],
    *,
    by_id: bool,
    batch_size: int,
    max_payload_bytes: int,
    name: Naming = plainly,
) -> ReplayOptions:
    """Return how jobs shall be replayed; what excludes each other is refused."""
    when: Instant | None = given["run_at"]
    delay: float | None = given.get("delay")
    if given["any_status"] and not by_id:
        raise UsageError(
            f"{name('any_status')} takes ids, not a filter of dead letters"
        )
    if by_id and given["oldest_first"] is not None:
        raise UsageError("ids are replayed in the order in which they are given")
    if given["patch"] is not None:
        payload_text.check(given["patch"], what=name("patch"))
    if when is not None and delay is not None:
        raise UsageError(f"{name('run_at')} and {name('in')} exclude each other")
    if given["canary"] and (when is not None or delay is not None):
        raise UsageError(f"{name('canary')} runs now, so it excludes {name('run_at')}")
    if when is not None and when.offset is not None:
        delay = when.offset.total_seconds()
    return ReplayOptions(
        to_queue=given["to_queue"],
        run_at=when.at if when is not None else None,
        delay=delay,
        max_attempts=given["max_attempts"],
        priority=given["priority"],
        patch=given["patch"],
        canary=given["canary"] or 0,
        canary_seconds=given["canary_timeout"],
        again=given["again"],
        any_status=given["any_status"],
        batch_size=batch_size,
        max_payload_bytes=max_payload_bytes,
    )


def paced(
    wanted: ReplayOptions,
    count: int,
    *,
    rate: float | None,
    spread: float | None,
    name: Naming = plainly,
) -> ReplayOptions:
    """Return the options with the time between two of so many jobs."""
    if rate is not None and spread is not None:
        raise UsageError(f"{name('rate')} and {name('spread')} exclude each other")
    apart = spread / max(1, count) if spread else 1 / rate if rate else 0.0
    last = max(0, wanted.canary - 1) * apart
    if last > wanted.canary_seconds:
        raise UsageError(
            f"at this rate the canary's last job is due after {last:.0f}s; give it "
            f"longer with {name('canary_timeout')}"
        )
    return replace(wanted, seconds_apart=apart)


def sought(
    repository: Repository,
    ids: Sequence[str] | None,
    chosen: JobFilter,
    wanted: ReplayOptions,
    *,
    limit: int | None,
    newest_first: bool = False,
    by_flag: bool = True,
) -> Sought:
    """Return which jobs are meant by ids, or by a filter, `limit` at most.

    No ids at all mean no job; None leaves it to the filter. `by_flag` is for who can
    insist with a flag of the command line.
    """
    if ids is None:
        return dead_letters.choose(
            repository,
            chosen,
            limit=limit,
            newest_first=newest_first,
            again=wanted.again,
            readable=True,
        )
    found = dead_letters.seek(
        repository,
        ids,
        verb="replayed",
        again=wanted.again,
        any_status=wanted.any_status,
        by_flag=by_flag,
    )
    found.job_ids = found.job_ids[:limit]
    return found


def facts(
    repository: Repository,
    found: Sought,
    wanted: ReplayOptions,
    chosen: JobFilter | None,
) -> Preview:
    """Return what is known before a replay; `chosen` is None if jobs were named."""
    of = left_out = ""
    if chosen is not None:
        limit = dead_letters.LIMIT + 1
        total, _ = dead_letters.totals(
            repository.dead_letters.count_dead_letters(limit=limit)
        )
        _, resolved = dead_letters.totals(
            repository.dead_letters.count_dead_letters(chosen, limit=limit)
        )
        of = dead_letters.count(total)
        left_out = dead_letters.count(0 if wanted.again else resolved)
    return Preview(
        repository.replays.preview_replay(found.job_ids, options=wanted),
        wanted,
        repository.workers.list_workers(),
        of,
        left_out,
        len(found.skipped),
        len(found.failed),
    )


def make_once(
    repository: Repository,
    job_ids: Sequence[str],
    *,
    options: ReplayOptions,
    operator: Operator,
    pause: Pause = time.sleep,
) -> ReplayPlan:
    """Make a plan; one, even if the reply to its commit is lost."""
    made: list[ReplayPlan] = []

    def send() -> ReplayPlan:
        if made and repository.replays.describe_replay_plan(made[-1].plan_id):
            return made[-1]
        with repository.transaction():
            plan = replay_plans.make(
                repository, job_ids, options=options, operator=operator
            )
            made.append(plan)
        return plan

    return delivery.persistently(send, pause=pause)


def replay_one(
    repository: Repository,
    given: str,
    *,
    options: ReplayOptions,
    operator: Operator,
    pause: Pause = time.sleep,
) -> tuple[str, str]:
    """Replay one dead letter and return the ids of the new job and of its source.

    All in one transaction: what is refused leaves no trace, and what was done without a
    reply is not done again.
    """
    source = repository.jobs.find_job(given)
    found = dead_letters.seek(
        repository, [source], verb="replayed", again=options.again, by_flag=False
    )
    dead_letters.require_the_one([source], found)
    created: list[str] = []

    def send() -> str:
        if created and repository.enqueue.has_job(created[-1]):
            return created[-1]
        with repository.transaction():
            created.append(_create(repository, source, options, operator))
        return created[-1]

    return delivery.persistently(send, pause=pause), source


def _create(
    repository: Repository, source: str, options: ReplayOptions, operator: Operator
) -> str:
    plan = replay_plans.make(repository, [source], options=options, operator=operator)
    plan_id, runner_id = plan.plan_id, plan.runner_id
    # Whoever replays the same job in another way is waited for here; what they did is
    # seen by the next statement.
    repository.replays.lock_replay_items(plan_id, state="waiting", limit=1)
    [item] = repository.replays.create_replays(
        plan_id, runner_id=runner_id, limit=1, canary=False
    )
    if item.new_job_id is None:
        raise _not_created(source, item.problem)
    repository.audit.extend_action(plan.action_id, job_ids=[source])
    repository.replays.finish_replay_plan(plan_id, runner_id=runner_id)
    repository.audit.finish_action(plan.action_id)
    return item.new_job_id


def _not_created(source: str, problem: str | None) -> PgflowError:
    short = source[-8:]
    if problem == "GONE":
        return NotFound(f"there is no dead letter {source} any more")
    if problem == "BAD_PAYLOAD":
        return UsageError("what the patch makes of the payload is not acceptable")
    said = {
        "ALREADY_REPLAYED": f"job …{short} has been replayed by now",
        "PAYLOAD_TOO_LARGE": f"the payload of job …{short} is larger than its queue "
        "takes",
    }
    return Refused(
        said.get(problem or "", f"job …{short} has been discarded by now"),
        f"Try: pgflow explain {short}",
        reason_code=problem if problem in said and problem else "NOT_REPLAYABLE",
    )
