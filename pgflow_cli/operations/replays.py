"""The request for a replay: which jobs, how, and how many at most; checked once.

The command line, HTTP and the page name the same fields. `replay_plans` runs, stops and
undoes a plan; `replay_preview` says in words what a replay would do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pgflow_cli.errors import NotFound, PgflowError, Refused, UsageError
from pgflow_cli.formats import payload_text
from pgflow_cli.formats.times import Instant
from pgflow_cli.formats.words import short_id
from pgflow_cli.models import replays, selection
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.replays import ReplayGroup, ReplayOptions, ReplayPlan
from pgflow_cli.models.selection import JobFilter, Naming, plainly
from pgflow_cli.operations import dead_letters, delivery, replay_plans
from pgflow_cli.operations.dead_letters import SelectedJobs
from pgflow_cli.operations.replay_plans import Pause
from pgflow_cli.operations.replay_preview import Preview
from pgflow_cli.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Which jobs to replay, and how; refused (2) if its fields exclude each other.

    Jobs are named by `ids`, or are the dead letters that `chosen` fits, or `all`. More
    than `max` are refused; `limit` replays no more than that, and leaves the others.
    Fields that are None take the value of the source. `delay`, `spread` and
    `canary_timeout` are seconds, `rate` is jobs a second, `patch` is JSON text. `name`
    turns the name of a field into what its sender calls it, such as --run-at.
    """

    ids: Sequence[str] | None = None
    chosen: JobFilter = field(default_factory=JobFilter)
    all: bool = False
    again: bool = False
    any_status: bool = False
    oldest_first: bool | None = None
    limit: int | None = None
    max: int = replays.USUAL_MOST
    to_queue: str | None = None
    run_at: Instant | None = None
    delay: float | None = None
    max_attempts: int | None = None
    priority: int | None = None
    patch: str | None = None
    rate: float | None = None
    spread: float | None = None
    canary: int | None = None
    canary_timeout: float = 120.0
    batch_size: int = 500
    max_payload_bytes: int = 262_144
    name: Naming = plainly

    def __post_init__(self) -> None:
        """Refuse what excludes each other, and a patch that is no JSON."""
        named = () if self.ids is None else ("ids",)
        selection.require_choice(
            named, self.chosen, everything=self.all, name=self.name
        )
        for refusal in self._contradictions():
            raise UsageError(refusal)
        if self.patch is not None:
            payload_text.check(self.patch, what=self.name("patch"))

    def find(self, repository: Repository) -> SelectedJobs:
        """Look up which jobs are meant; refuse more than `max`.

        One job more than `max` is enough for that: a queue may have died by millions.
        """
        most = self.max + 1 if self.limit is None else min(self.limit, self.max + 1)
        if self.ids is None:
            found = dead_letters.choose(
                repository,
                self.chosen,
                limit=most,
                newest_first=self.oldest_first is False,
                again=self.again,
                readable=True,
            )
        else:
            found = dead_letters.look_up(
                repository,
                self.ids,
                verb="replayed",
                again=self.again,
                any_status=self.any_status,
                by_flag=self.name is not plainly,
            )
            found.job_ids = found.job_ids[:most]
        if len(found.job_ids) > self.max:
            raise self._too_many()
        self.options(len(found.job_ids))
        return found

    def options(self, count: int) -> ReplayOptions:
        """Return the options of a replay of `jobs` jobs, with the time between two of
        them.

        Refuses a canary whose last job would be due when its time is over.
        """
        apart = 1 / self.rate if self.rate else (self.spread or 0.0) / (count or 1)
        canary = self.canary or 0
        last = (canary - 1) * apart if canary else 0.0
        if last > self.canary_timeout:
            raise UsageError(
                f"at this rate the canary's last job is due after {last:.0f}s; give it "
                f"longer with {self.name('canary_timeout')}"
            )
        when = self.run_at or Instant()
        offset = when.offset.total_seconds() if when.offset is not None else None
        return ReplayOptions(
            to_queue=self.to_queue,
            run_at=when.at,
            delay=self.delay if offset is None else offset,
            max_attempts=self.max_attempts,
            priority=self.priority,
            patch=self.patch,
            seconds_apart=apart,
            canary=canary,
            canary_seconds=self.canary_timeout,
            again=self.again,
            any_status=self.any_status,
            batch_size=self.batch_size,
            max_payload_bytes=self.max_payload_bytes,
        )

    def preview(self, repository: Repository, found: SelectedJobs) -> Preview:
        """Look at what a replay of the jobs that `find` returned would create."""
        of = left_out = ""
        if self.ids is None:
            limit = dead_letters.LIMIT + 1
            chosen = repository.queues.resolve_queues(self.chosen)
            count = repository.dead_letters.count_dead_letters
            total, _ = dead_letters.totals(count(limit=limit))
            _, resolved = dead_letters.totals(count(chosen, limit=limit))
            of = dead_letters.count(total)
            left_out = dead_letters.count(0 if self.again else resolved)
        options = self.options(len(found.job_ids))
        return Preview(
            _groups(repository, found.job_ids, options),
            options,
            repository.workers.list_workers(),
            of,
            left_out,
            len(found.skipped),
            len(found.failed),
        )

    def start(
        self,
        repository: Repository,
        found: SelectedJobs,
        *,
        operator: Operator,
        pause: Pause = time.sleep,
    ) -> ReplayPlan:
        """Make a plan of the jobs that `find` returned; `replay_plans.run` runs it.

        It is one plan, even if the reply to its commit is lost. A plan of no job is
        refused; if one id was given, with what is wrong with that.
        """
        dead_letters.require_the_one(self.ids or (), found)
        if not found.job_ids:
            raise Refused(
                "no dead letter is selected; nothing was changed",
                *found.complaints(),
                reason_code="NOTHING_TO_REPLAY",
            )
        options = self.options(len(found.job_ids))

        def make() -> tuple[int, ReplayPlan]:
            plan = replay_plans.make(
                repository, found.job_ids, options=options, operator=operator
            )
            return plan.plan_id, plan

        def is_made(plan_id: int) -> bool:
            return repository.replays.describe_replay_plan(plan_id) is not None

        return _once(repository, make, is_made, pause)

    def replay_one(
        self,
        repository: Repository,
        *,
        operator: Operator,
        pause: Pause = time.sleep,
    ) -> tuple[str, str]:
        """Replay the one job that is named; return the ids of the new job and of it.

        All in one transaction: a refusal leaves no trace, and a replay whose reply was
        lost is not repeated.
        """
        [given] = self.ids or ()
        source = repository.jobs.find_job(given)
        found = replace(self, ids=[source]).find(repository)
        dead_letters.require_the_one([source], found)
        options = self.options(1)

        def make() -> tuple[str, str]:
            created = _create(repository, source, options, operator)
            return created, created

        return _once(repository, make, repository.enqueue.has_job, pause), source

    def _contradictions(self) -> Iterator[str]:
        name, by_id = self.name, self.ids is not None
        later = self.run_at is not None or self.delay is not None
        if self.any_status and not by_id:
            yield f"{name('any_status')} takes ids, not a filter of dead letters"
        if by_id and self.oldest_first is not None:
            yield "ids are replayed in the order in which they are given"
        if self.run_at is not None and self.delay is not None:
            yield f"{name('run_at')} and {name('in')} exclude each other"
        if self.canary and later:
            yield f"{name('canary')} runs now, so it excludes {name('run_at')}"
        if self.rate is not None and self.spread is not None:
            yield f"{name('rate')} and {name('spread')} exclude each other"

    def _too_many(self) -> Refused:
        limit = self.name("max")
        return Refused(
            f"more jobs are selected than {limit}, which is {self.max:,}; nothing was"
            " changed",
            f"Narrow the filter, or allow more with {limit}, up to {replays.MOST:,}.",
            reason_code="TOO_MANY",
        )


Identity = TypeVar("Identity", int, str)
Made = TypeVar("Made")


def _once(
    repository: Repository,
    make: Callable[[], tuple[Identity, Made]],
    is_made: Callable[[Identity], bool],
    pause: Pause,
) -> Made:
    """Run `make` in a transaction, and do not repeat it if only the reply was lost.

    `make` returns by which identity it can be looked up, and what it has made.
    """
    made: list[tuple[Identity, Made]] = []

    def send() -> Made:
        if not (made and is_made(made[-1][0])):
            with repository.transaction():
                made.append(make())
        return made[-1][1]

    return delivery.persistently(send, pause=pause)


def _groups(
    repository: Repository, job_ids: Sequence[str], options: ReplayOptions
) -> list[ReplayGroup]:
    found: dict[tuple[str, str], ReplayGroup] = {}
    for chunk in dead_letters.batches(job_ids, replay_plans.CHUNK):
        for group in repository.replays.preview_replay(chunk, options=options):
            key = group.queue, group.job_type
            found[key] = found[key].joined(group) if key in found else group
    return sorted(
        found.values(), key=lambda each: (-each.jobs, each.queue, each.job_type)
    )


def _create(
    repository: Repository, source: str, options: ReplayOptions, operator: Operator
) -> str:
    plan = replay_plans.make(repository, [source], options=options, operator=operator)
    plan_id, runner_id = plan.plan_id, plan.runner_id
    # This waits for another replay of the same job; the next statement sees its effect.
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
    short = short_id(source)
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
