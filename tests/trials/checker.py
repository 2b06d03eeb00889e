"""Compares the history outside the queue with the database: plain set algebra.

Each check yields what breaks one promise. It knows nothing of how pgflow works, only
what README promises and what the tables mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.trials.history import History, Run
from tests.trials.ledger import REAPED, Ledger

CRASH_BUDGET = 3
_MOST_RELEASES = 100
# A run goes on after its lease has ended in one of these ways.
_ENDED_EARLY = {"lost", "released", "canceled"}

Check = Callable[[History, Ledger], Iterator[str]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a check under its name."""
    CHECKS[function.__name__] = function
    return function


@dataclass
class Verdict:
    """What was broken, by check, and how much there was to break."""

    violations: dict[str, list[str]]
    counts: dict[str, int]
    legal: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [", ".join(f"{n} {name}" for name, n in self.counts.items())]
        told += [f"legal: {n} {name}" for name, n in self.legal.items() if n]
        for name, found in self.violations.items():
            told.append(f"BROKEN {name}: {len(found)}, such as {'; '.join(found[:3])}")
        return "\n".join(told)


def judge(history: History, ledger: Ledger) -> Verdict:
    """Run every check."""
    found = {name: list(one(history, ledger)) for name, one in CHECKS.items()}
    return Verdict(
        {name: what for name, what in found.items() if what},
        {
            "tried": len(history.tried),
            "acknowledged": len(history.acknowledged),
            "jobs": len(ledger.jobs),
            "runs": len(history.runs),
            "attempts": sum(map(len, ledger.attempts.values())),
            "dead letters": len(ledger.dead),
            "canceled": len(ledger.canceled),
        },
        {
            "restores": len(history.restores),
            "runs that a restore may have forgotten": sum(
                map(history.is_forgotten, history.runs)
            ),
            "overlaps": sum(1 for _ in _overlaps(history, ledger, legal=True)),
            "attempts lost before they started": _lost_unstarted(history, ledger),
        },
    )


@check
def lost(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs whose enqueue was confirmed and that are gone, or are in no table."""
    yield from sorted(history.acknowledged - ledger.jobs.keys())
    ended = {j for j in ledger.attempts if ledger.succeeded(j)}
    ended |= ledger.dead.keys() | ledger.canceled
    yield from sorted(
        ledger.jobs.keys() - ended - ledger.pending.keys() - ledger.leased.keys()
    )


@check
def invented(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs that no producer, no handler and no replay has made."""
    for job_id, job in ledger.jobs.items():
        if job_id not in history.tried and not (job.parent or job.replay_of):
            yield job_id


@check
def stuck(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs that still wait or run although everything had time to end."""
    yield from (f"{job_id} pending" for job_id in ledger.pending)
    yield from (f"{job_id} leased" for job_id in ledger.leased)


@check
def settled_twice(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs that succeeded more than once."""
    for job_id in ledger.attempts:
        if len(numbers := ledger.succeeded(job_id)) > 1:
            yield f"{job_id} {numbers}"


@check
def ended_twice(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs that have ended in two ways."""
    for job_id in ledger.attempts:
        ends = [bool(ledger.succeeded(job_id)), job_id in ledger.dead]
        ends.append(job_id in ledger.canceled)
        if sum(ends) > 1:
            yield job_id


@check
def resurrected(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs with an attempt after the one that ended them."""
    for job_id, attempts in ledger.attempts.items():
        last = min(ledger.succeeded(job_id), default=None)
        if last is None and job_id in ledger.dead:
            last = ledger.dead[job_id].attempt_no
        if last is not None and max(attempts) > last:
            yield f"{job_id} went on after attempt {last}"


@check
def attempt_gap(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs whose attempts are not numbered from one without a gap."""
    for job_id, attempts in ledger.attempts.items():
        if sorted(attempts) != list(range(1, len(attempts) + 1)):
            yield f"{job_id} {sorted(attempts)}"


@check
def excess(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs that were tried more often than they may be."""
    for job_id in ledger.attempts.keys() & ledger.jobs.keys():
        most = {
            "failed": ledger.jobs[job_id].max_attempts,
            "lost": CRASH_BUDGET,
            "released": _MOST_RELEASES,
        }
        for status, limit in most.items():
            if (count := ledger.count(job_id, status)) > limit:
                yield f"{job_id}: {count} attempts {status} of {limit}"


@check
def wrong_reason(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield dead letters whose reason the attempts do not bear out."""
    for job_id, dead in ledger.dead.items():
        if job_id not in ledger.jobs:
            continue
        failed, lost_ = ledger.count(job_id, "failed"), ledger.count(job_id, "lost")
        spent = failed == ledger.jobs[job_id].max_attempts
        if (dead.reason == "MAX_ATTEMPTS_EXCEEDED" and not spent) or (
            dead.reason == "CRASH_LOOP" and lost_ != CRASH_BUDGET
        ):
            yield f"{job_id} {dead.reason}: {failed} failed, {lost_} lost"


@check
def start_without_row(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield attempts that ran and are not recorded, nor named by a lease."""
    for job_id, attempt_no in {run.key for run in _binding(history)}:
        recorded = ledger.attempt(job_id, attempt_no) is not None
        held = ledger.leased.get(job_id) == attempt_no
        if job_id in ledger.jobs and not recorded and not held:
            yield f"{job_id} attempt {attempt_no}"


@check
def row_without_start(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield outcomes of attempts that no handler has begun."""
    begun = history.runs_by_attempt().keys()
    for job_id, attempt_no, status, code in _rows(ledger):
        ran = status in {"succeeded", "failed", "snoozed"} and code != "BAD_PAYLOAD"
        if ran and (job_id, attempt_no) not in begun:
            yield f"{job_id} attempt {attempt_no} {status} {code}"


@check
def success_without_end(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield successes of attempts whose handler did not return."""
    runs = history.runs_by_attempt()
    for job_id, attempt_no, status, _ in _rows(ledger):
        ends = [run.result for run in runs.get((job_id, attempt_no), [])]
        if status == "succeeded" and ends and "ok" not in ends:
            yield f"{job_id} attempt {attempt_no}"


@check
def failed_though_it_returned(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield failures of attempts whose handler returned in time."""
    returned = {run.key for run in _binding(history) if run.result == "ok"}
    for job_id, attempt_no, status, code in _rows(ledger):
        if (
            status == "failed"
            and code != "TIMEOUT"
            and (job_id, attempt_no) in returned
        ):
            yield f"{job_id} attempt {attempt_no} {code}"


@check
def number_used_twice(history: History, _: Ledger) -> Iterator[str]:
    """Yield attempts that were started more than once under one number."""
    for (job_id, attempt_no), runs in history.runs_by_attempt().items():
        binding = sum(not history.is_forgotten(run) for run in runs)
        eras = {history.era(run) for run in runs}
        if binding > 1 or len(eras) < len(runs):
            yield f"{job_id} attempt {attempt_no} by {[run.pid for run in runs]}"


@check
def ran_unknown_job(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield jobs that ran and that the database does not know."""
    yield from sorted({run.job_id for run in _binding(history)} - ledger.jobs.keys())


@check
def dumped_and_gone(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield attempts that a dump has had and that are not there after its restore."""
    for job_id, attempt_no in set().union(*(one.kept for one in history.restores)):
        if ledger.attempt(job_id, attempt_no) is None:
            yield f"{job_id} attempt {attempt_no}"


@check
def overlap_under_a_live_lease(history: History, ledger: Ledger) -> Iterator[str]:
    """Yield runs of one job that overlap although the first had its lease."""
    yield from _overlaps(history, ledger, legal=False)


@check
def reaped_early(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield attempts that a reaper called lost before their lease had run out."""
    for job_id, attempts in ledger.attempts.items():
        for attempt_no, row in attempts.items():
            if row.status == "lost" and REAPED in (row.error_message or ""):
                end = ledger.lease_ends.get(row.lease_id)
                if end is not None and end[0] < end[1]:
                    yield f"{job_id} attempt {attempt_no}"


@check
def parent_without_follower(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield parents that succeeded and whose one follower is missing or doubled."""
    followers = _followers(ledger)
    for job_id, job in ledger.jobs.items():
        count = followers[job_id]
        succeeded = bool(ledger.succeeded(job_id))
        if job.job_type == "parent" and succeeded and count != 1:
            yield f"{job_id} has {count}"


@check
def follower_without_parent(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield parents that have a follower and did not succeed."""
    for job_id in _followers(ledger):
        if not ledger.succeeded(job_id):
            yield job_id


@check
def rewritten(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield rows of append-only tables that were updated."""
    yield from ledger.rewritten


@check
def audit(_: History, ledger: Ledger) -> Iterator[str]:
    """Yield what pgflow's own audit query finds."""
    names = ("in no place", "in two places", "without a job")
    for name, count in zip(names, ledger.audit, strict=True):
        if count:
            yield f"{count} {name}"


def _binding(history: History) -> Iterator[Run]:
    """Yield the runs that the database must know of."""
    return (run for run in history.runs if not history.is_forgotten(run))


def _rows(ledger: Ledger) -> Iterator[tuple[str, int, str, str | None]]:
    for job_id, attempts in ledger.attempts.items():
        if job_id in ledger.jobs:
            for attempt_no, row in attempts.items():
                yield job_id, attempt_no, row.status, row.error_code


def _followers(ledger: Ledger) -> Counter[str]:
    # A replay of a follower is a new job with its parent's name.
    made = (j.parent for j in ledger.jobs.values() if j.parent and not j.replay_of)
    return Counter(made)


def _overlaps(history: History, ledger: Ledger, *, legal: bool) -> Iterator[str]:
    for job_id, runs in history.runs_by_job().items():
        for before, after in pairwise(runs):
            overlap = before.ended is not None and after.started < before.ended
            may = history.is_forgotten(before) or _may_overlap(before, after, ledger)
            if overlap and may == legal:
                yield f"{job_id} attempts {before.attempt_no}, {after.attempt_no}"


def _may_overlap(before: Run, after: Run, ledger: Ledger) -> bool:
    """Return whether the first run's attempt was over before it was."""
    row = ledger.attempt(*before.key)
    return (
        before.attempt_no != after.attempt_no
        and row is not None
        and (row.status in _ENDED_EARLY or row.error_code == "TIMEOUT")
    )


def _lost_unstarted(history: History, ledger: Ledger) -> int:
    begun = history.runs_by_attempt().keys()
    return sum(
        status == "lost" and (job_id, attempt_no) not in begun
        for job_id, attempt_no, status, _ in _rows(ledger)
    )
