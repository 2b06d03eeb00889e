"""Changes of jobs by operators: they run in batches, change each job once, and have one
row in the audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from pgflow_cli.errors import NotFound, PgflowError, Refused, UsageError
from pgflow_cli.formats.words import short_id
from pgflow_cli.inspection.job_list import JobList
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import ListedJob, time_of
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository import Repository

WAITING = ("queued", "scheduled")
NOWHERE = "nowhere"
IS_NOWHERE = (
    "what said where it is has been lost, with a page of the database; it may have run"
)
_ENDED = {
    "succeeded": "has succeeded",
    "dlq": "is a dead letter",
    "canceled": "has been canceled already",
}
_PASSES = 3  # times that a job is searched for again after it has changed its state

Step = Callable[[Sequence[str], int], list[str]]
"""Changes jobs on behalf of an action; returns the ids of those it has changed."""


class _Nothing(Exception):
    """Nothing was changed, so the action is rolled back."""


@dataclass(slots=True)
class Changed:
    """The result of a change: `left` has the state of each job that was not changed.

    An unknown job is left in no state. Without anything changed there is no action.
    """

    action_id: int | None = None
    job_ids: list[str] = field(default_factory=list)
    left: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobChange:
    """A change: its name in the audit, its steps, the states of jobs it is for."""

    repository: Repository
    operator: Operator
    action: str
    steps: Sequence[Step]
    states: frozenset[str]
    details: Mapping[str, object] = field(default_factory=dict)
    queue: str | None = None

    def run(
        self,
        job_ids: Sequence[str],
        *,
        batch_size: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Changed:
        """Change jobs, each step of each batch in a transaction of its own.

        A job that is leased or retried meanwhile changes its table, so each is searched
        for up to three times.
        """
        done = Changed()
        for batch in _batches(job_ids, batch_size):
            self._change(batch, done)
            advance(len(batch))
        if done.action_id is not None:
            self.repository.audit.finish_action(
                done.action_id, details={"left": len(done.left)}
            )
        return done

    def _change(self, batch: Sequence[str], done: Changed) -> None:
        remaining = list(batch)
        statuses: Mapping[str, str] = {}
        for _ in range(_PASSES):
            for step in self.steps:
                changed = {*self._take(step, remaining, done)}
                remaining = [job_id for job_id in remaining if job_id not in changed]
            if not remaining:
                return
            statuses = self.repository.jobs.list_job_statuses(remaining)
            if not self.states.intersection(statuses.values()):
                break
        done.left.update({job_id: statuses.get(job_id) for job_id in remaining})

    def _take(self, step: Step, job_ids: Sequence[str], done: Changed) -> list[str]:
        """Run a step and record its jobs in the audit, in one transaction."""
        if not job_ids:
            return []
        repository = self.repository
        try:
            with repository.transaction():
                action_id = done.action_id or repository.audit.begin_action(
                    self.operator, self.action, queue=self.queue, details=self.details
                )
                changed = step(job_ids, action_id)
                if not changed:
                    raise _Nothing
                repository.audit.extend_action(action_id, job_ids=changed)
        except _Nothing:
            return []
        done.action_id = action_id
        done.job_ids += changed
        return changed


def foreseen(
    plan: JobChange, job_ids: Sequence[str]
) -> tuple[Changed, list[str | None]]:
    """Return the outcome of a change, by the states that the jobs have now, and the
    states of those it would change.
    """
    now = plan.repository.jobs.list_job_statuses(job_ids)
    done = Changed()
    states: list[str | None] = []
    for job_id in job_ids:
        state = now.get(job_id)
        if state in plan.states:
            done.job_ids.append(job_id)
            states.append(state)
        else:
            done.left[job_id] = state
    return done, states


def cancellation(
    repository: Repository,
    operator: Operator,
    *,
    kill: bool,
    queue: str | None = None,
) -> JobChange:
    """Return the change that cancels jobs that wait or are nowhere, with `kill` running
    ones, too.
    """

    def waiting(job_ids: Sequence[str], action_id: int) -> list[str]:
        return repository.jobs.cancel_waiting_jobs(
            job_ids, operator=operator, action_id=action_id
        )

    def running(job_ids: Sequence[str], action_id: int) -> list[str]:
        return repository.jobs.cancel_running_jobs(
            job_ids, operator=operator, action_id=action_id
        )

    def nowhere(job_ids: Sequence[str], action_id: int) -> list[str]:
        return repository.jobs.cancel_nowhere_jobs(
            job_ids, operator=operator, action_id=action_id
        )

    return JobChange(
        repository,
        operator,
        "jobs.cancel",
        # Never both in one transaction: pending and leases would be locked against the
        # usual order.
        steps=(running, waiting, nowhere) if kill else (waiting, nowhere),
        states=frozenset(cancelable(kill=kill)),
        details={"kill": kill},
        queue=queue,
    )


def cancelable(*, kill: bool) -> tuple[str, ...]:
    """Return the states of jobs that can be canceled."""
    return (*WAITING, NOWHERE, *(("running",) if kill else ()))


def hastening(
    repository: Repository, operator: Operator, *, nowhere: bool = False
) -> JobChange:
    """Return the change that lets scheduled jobs be due now, with `nowhere` those that
    are in no place, too.
    """
    steps: list[Step] = [lambda job_ids, _: repository.jobs.run_jobs_now(job_ids)]
    if nowhere:
        steps.append(lambda job_ids, _: repository.jobs.put_back_jobs(job_ids))
    return JobChange(
        repository,
        operator,
        "jobs.run-now",
        steps=steps,
        states=frozenset({"scheduled", *([NOWHERE] if nowhere else [])}),
        details={"nowhere": True} if nowhere else {},
    )


def reordering(repository: Repository, operator: Operator, priority: int) -> JobChange:
    """Return the change that gives waiting jobs another priority."""

    def step(job_ids: Sequence[str], _: int) -> list[str]:
        return repository.jobs.reprioritize_jobs(job_ids, priority=priority)

    return JobChange(
        repository,
        operator,
        "jobs.reprioritize",
        steps=(step,),
        states=frozenset(WAITING),
        details={"priority": priority},
    )


def require_states(chosen: JobFilter, states: Sequence[str]) -> None:
    """Refuse a filter for jobs in a state that cannot be changed."""
    for status in chosen.statuses:
        if status not in states:
            ways = ["Try: --kill"] if status == "running" else []
            raise UsageError(f"jobs that are {status} cannot be canceled", *ways)


def select(
    repository: Repository, chosen: JobFilter, states: Sequence[str], *, most: int
) -> list[ListedJob]:
    """Return jobs of some states that fit a filter; one more than `most` at most."""

    def found() -> Iterator[ListedJob]:
        for state in chosen.statuses or states:
            yield from JobList(repository, replace(chosen, statuses=(state,))).stream()

    # A job may change its state between the two statements, and be found by both.
    return list({job.id: job for job in islice(found(), most + 1)}.values())


def counted(jobs: Sequence[ListedJob]) -> list[dict[str, object]]:
    """Return how many jobs of each queue, type and state there are, and how old."""
    groups: dict[tuple[str, str, str], list[ListedJob]] = {}
    for job in jobs:
        key = job.queue, job.job_type, job.status or ""
        groups.setdefault(key, []).append(job)
    return [
        {
            "queue": queue,
            "job_type": job_type,
            "status": status,
            "jobs": len(group),
            "oldest": min(time_of(job.id) for job in group),
            "newest": max(time_of(job.id) for job in group),
        }
        for (queue, job_type, status), group in sorted(groups.items())
    ]


def by_state(states: Iterable[str | None]) -> str:
    """Return how many are in each state, in words."""
    found = Counter(state or "unknown" for state in states)
    return ", ".join(f"{count:,} {state}" for state, count in found.most_common())


def why_left(done: Changed, word: str, *, insist: str = "--kill") -> PgflowError:
    """Return why the one job that was named was not changed, and which option changes
    it.
    """
    [(job_id, state)] = done.left.items()
    if state is None:
        return NotFound(f"there is no job {job_id}")
    ways = [f"Try: {insist}"] if state == "running" and word == "canceled" else []
    if state == NOWHERE:
        ways = [put_back(job_id, word)]
    is_now = _ENDED.get(state, f"is {state}")
    return Refused(
        f"job …{short_id(job_id)} {is_now}; it was left alone",
        *ways,
        reason_code="WRONG_STATE",
        details={"job_id": job_id, "status": state},
    )


def put_back(job_id: str, word: str = "") -> str:
    """Explain a job that is nowhere, and how to have it wait again."""
    try_ = (
        "--nowhere" if word == "due now" else f"pgflow jobs run-now {job_id} --nowhere"
    )
    return f"{IS_NOWHERE.capitalize()}. To have it run: {try_}"


def _batches(job_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(job_ids), size):
        yield job_ids[start : start + size]
