"""Runs plans of replays: the canary first, then the rest, in chunks. Stops and undoes
them.

A plan records which jobs have been created, so another run can continue one that was
killed. Each chunk checks that its run still owns the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pgflow_cli.errors import NotFound, Refused
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.replays import (
    CanaryJob,
    ReplayedItem,
    ReplayJob,
    ReplayOptions,
    ReplayPlan,
    ReplayProgress,
)
from pgflow_cli.operations import delivery
from pgflow_cli.repository import Repository

_LOOK_SECONDS = 0.3  # seconds between two looks at a canary's jobs
_FOLLOW_SECONDS = 0.5  # seconds between two looks at a plan that is followed
_PAGE = 500  # created jobs that one statement lists
# Jobs of one statement that previews or freezes a replay. So few are looked up by their
# index; for 10,000 of a million dead letters the planner reads all of them, each time,
# which takes longer than the admin server gives a statement that reads (2 s).
CHUNK = 2_000

Report = Callable[[list[ReplayedItem]], None]
Pause = Callable[[float], object]
Plan = TypeVar("Plan", bound=ReplayPlan)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run has ended, and the plan as it is then.

    `result` is finished, failed (the canary), undecided (the canary), stopped, undone,
    or taken: another runner has the plan.
    """

    result: str
    plan: ReplayPlan
    canary: list[CanaryJob]

    @property
    def failed_canaries(self) -> list[CanaryJob]:
        """Return those that are the reason not to go on."""
        return [job for job in self.canary if _has_failed(job)]


@dataclass(frozen=True, slots=True)
class Undone:
    """What undoing a plan has canceled; `action_id` is what the audit knows it by."""

    action_id: int
    canceled: int


class _Lost(Exception):
    """The plan is no longer ours: it was stopped, undone or taken over."""


def make(
    repository: Repository,
    job_ids: Sequence[str],
    *,
    options: ReplayOptions,
    operator: Operator,
) -> ReplayPlan:
    """Make a plan of the jobs to be replayed; none is created yet."""
    with repository.transaction():
        action = repository.audit.begin_action(operator, "replay")
        plan_id = repository.replays.create_replay_plan(
            len(job_ids), options=options, runner=operator.actor, action_id=action
        )
        for place in range(0, len(job_ids), CHUNK):
            repository.replays.add_replay_items(
                plan_id, job_ids[place : place + CHUNK], after_place=place
            )
        repository.replays.name_plan(action, plan_id)
        return _locked(repository, plan_id)


def take_over(
    repository: Repository, plan_id: int, *, operator: Operator
) -> ReplayPlan:
    """Become the runner of a plan that was stopped or killed, or that another runs.

    A canary that failed is repeated with the next jobs. Raises Refused if there is
    nothing left to run.
    """
    with repository.transaction():
        plan = _locked_open(
            repository, plan_id, "resume", hint=f"Try: pgflow replay status {plan_id}"
        )
        action = repository.audit.begin_action(operator, "replay.resume")
        repository.replays.name_plan(action, plan_id)
        if plan.canary_state == "failed":
            repository.replays.renew_canary(plan_id)
        repository.replays.take_replay_plan(
            plan_id, runner=operator.actor, action_id=action
        )
        return _locked(repository, plan_id)


def run(
    repository: Repository,
    plan: ReplayPlan,
    *,
    report: Report = lambda _items: None,
    pause: Pause = time.sleep,
) -> Outcome:
    """Create the jobs of a plan, the canary first, and return how that has ended."""
    running = _Run(repository, plan, report, pause)
    try:
        result = running.canary() if plan.canary_state == "waiting" else "passed"
        if result == "passed":
            running.rest()
            result = "finished"
    except _Lost:
        result = ""
    with repository.transaction():
        repository.audit.finish_action(plan.action_id)
        found = _locked(repository, plan.plan_id)
    if not result:
        result = found.state if found.runner_id == plan.runner_id else "taken"
    return Outcome(result, found, running.watched)


def stop(repository: Repository, plan_id: int, *, operator: Operator) -> ReplayPlan:
    """Let a plan create no more jobs; its runner finds out at the next chunk."""
    with repository.transaction():
        _locked_open(
            repository,
            plan_id,
            "stop",
            hint=f"Try: pgflow replay undo {plan_id} --dry-run",
        )
        action = repository.audit.begin_action(operator, "replay.stop")
        repository.replays.name_plan(action, plan_id)
        repository.replays.stop_replay_plan(plan_id)
        repository.audit.finish_action(action)
        return _locked(repository, plan_id)


def undo(
    repository: Repository,
    plan_id: int,
    *,
    operator: Operator,
    advance: Callable[[int], None] = lambda _jobs: None,
) -> Undone:
    """Stop a plan for good, cancel its jobs that have not been tried, reopen sources.

    If it is killed, run it again.
    """
    with repository.transaction():
        _locked(repository, plan_id)
        action = repository.audit.begin_action(operator, "replay.undo")
        repository.replays.name_plan(action, plan_id)
        repository.replays.retract_replay_plan(plan_id)
    total = place = 0
    while True:
        some = partial(_undo_some, repository, plan_id, place, operator, action)
        looked_at, job_ids = delivery.persistently(some)
        if looked_at == place:
            break
        place = looked_at
        total += len(job_ids)
        advance(len(job_ids))
    repository.audit.finish_action(action)
    return Undone(action, total)


def find(repository: Repository, plan_id: int) -> ReplayProgress:
    """Return how far a plan is; raise NotFound if there is none."""
    return _known(plan_id, repository.replays.describe_replay_plan(plan_id))


def follow(
    repository: Repository,
    plan_id: int,
    *,
    seconds: float = _FOLLOW_SECONDS,
    pause: Pause = time.sleep,
) -> Iterator[ReplayProgress]:
    """Yield how far a plan is, until all its jobs have ended."""
    while True:
        progress = find(repository, plan_id)
        yield progress
        if progress.is_over:
            return
        pause(seconds)


def jobs_of(repository: Repository, plan_id: int) -> Iterator[ReplayJob]:
    """Yield the jobs that a plan has created and that were not undone."""
    place = 0
    while rows := repository.replays.list_replays(
        plan_id, limit=_PAGE, after_place=place
    ):
        yield from rows
        place = rows[-1].place


class _Run:
    """One run of a plan by its present runner."""

    def __init__(
        self, repository: Repository, plan: ReplayPlan, report: Report, pause: Pause
    ) -> None:
        self.repository = repository
        self.plan = plan
        self.watched: list[CanaryJob] = []
        self._report = report
        self._pause = pause

    def canary(self) -> str:
        """Create the first jobs and wait; return passed, failed or undecided."""
        self._look()
        while len(self.watched) < self.plan.canary:
            missing = self.plan.canary - len(self.watched)
            if not self._chunk(min(missing, self.plan.batch_size), canary=True):
                break
            self._look()
        verdict = self._awaited()
        plan_id, runner_id = self.plan.plan_id, self.plan.runner_id
        self._keep(
            self.repository.replays.settle_canary(
                plan_id, runner_id=runner_id, canary_state=verdict
            )
        )
        return verdict

    def rest(self) -> None:
        """Create every job that is left, and finish the plan."""
        while self._chunk(self.plan.batch_size, canary=False):
            pass
        plan_id, runner_id = self.plan.plan_id, self.plan.runner_id
        self._keep(
            self.repository.replays.finish_replay_plan(plan_id, runner_id=runner_id)
        )

    def _awaited(self) -> str:
        plan_id, runner_id = self.plan.plan_id, self.plan.runner_id
        deadline = time.monotonic() + self.plan.canary_seconds
        while True:
            self._keep(
                self.repository.replays.beat_replay_plan(plan_id, runner_id=runner_id)
            )
            self._look()
            if any(_has_failed(job) for job in self.watched):
                return "failed"
            if all(job.status == "succeeded" for job in self.watched):
                return "passed"
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return "undecided"
            self._pause(min(_LOOK_SECONDS, remaining))

    def _chunk(self, limit: int, *, canary: bool) -> list[ReplayedItem]:
        # A chunk whose reply was lost is sent again: items that it has created are not
        # waiting any more.
        items = delivery.persistently(
            lambda: self._create(limit, canary=canary), pause=self._pause
        )
        self._report(items)
        return items

    def _create(self, limit: int, *, canary: bool) -> list[ReplayedItem]:
        repository, plan_id = self.repository, self.plan.plan_id
        with repository.transaction():
            held = _locked(repository, plan_id)
            ours = held.runner_id == self.plan.runner_id
            self._keep(ours and held.state == "running")
            # Locked in one statement, judged in the next: with a snapshot that sees
            # what others did while this one waited for them.
            if not repository.replays.lock_replay_items(
                plan_id, state="waiting", limit=limit
            ):
                return []
            items = repository.replays.create_replays(
                plan_id, runner_id=self.plan.runner_id, limit=limit, canary=canary
            )
            created = [item.source_job_id for item in items if item.new_job_id]
            repository.audit.extend_action(self.plan.action_id, job_ids=created)
        return items

    def _look(self) -> None:
        self.watched = self.repository.replays.judge_canary(self.plan.plan_id)

    def _keep(self, still_ours: bool) -> None:
        if not still_ours:
            raise _Lost


def _undo_some(
    repository: Repository, plan_id: int, place: int, operator: Operator, action: int
) -> tuple[int, list[str]]:
    with repository.transaction():
        _locked(repository, plan_id)
        repository.replays.lock_replay_items(
            plan_id, state="created", limit=_PAGE, after_place=place
        )
        looked_at, job_ids = repository.replays.undo_replays(
            plan_id,
            after_place=place,
            limit=_PAGE,
            actor=operator.actor,
            note=operator.note or f"replay plan {plan_id} undone",
            action_id=action,
        )
        repository.audit.extend_action(action, job_ids=job_ids)
    return looked_at, job_ids


def _locked(repository: Repository, plan_id: int) -> ReplayPlan:
    return _known(plan_id, repository.replays.lock_replay_plan(plan_id))


def _locked_open(
    repository: Repository, plan_id: int, verb: str, *, hint: str
) -> ReplayPlan:
    plan = _locked(repository, plan_id)
    if plan.state in ("finished", "undone"):
        raise Refused(
            f"plan {plan_id} is {plan.state}; there is nothing to {verb}",
            hint,
            reason_code="PLAN_OVER",
        )
    return plan


def _known(plan_id: int, found: Plan | None) -> Plan:
    if found is None:
        raise NotFound(f"there is no replay plan {plan_id}", "Try: pgflow replay list")
    return found


def _has_failed(job: CanaryJob) -> bool:
    return job.came_back or job.status in ("dlq", "canceled")
