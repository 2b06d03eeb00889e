"""What may hold a job up, gate by gate; pure.

The gates stand in the order in which the lease statement applies them, and ask what it
asks. What they ask is kept in step with it by tests/repository/test_explanation.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgflow_cli.models import JobFacts, WorkerProcess
from pgflow_cli.phrases import (
    clock,
    error_of,
    length,
    place,
    queues_of,
    some,
    workers_of,
)

_ORDINARY_REAPING = 60.0  # seconds after which an expired lease is a worry
PASSED, HELD, NOT_REACHED = "passed", "held", "not reached"


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that may hold a job up: passed, held or not reached."""

    gate: str
    result: str
    evidence: str


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a gate found; `held` names the verdict if it holds the job up."""

    evidence: str
    held: str | None = None


def walk(facts: JobFacts) -> tuple[str, list[Gate]]:
    """Return the verdict of the first gate that holds, and what each of them says."""
    verdict, gates = "READY", []
    for name, gate in _GATES:
        if verdict != "READY":
            gates.append(Gate(name, NOT_REACHED, ""))
            continue
        finding = gate(facts)
        if finding.held is not None:
            verdict, name = finding.held, finding.held  # noqa: PLW2901
        gates.append(Gate(name, HELD if finding.held else PASSED, finding.evidence))
    return verdict, gates


def _lease(facts: JobFacts) -> _Finding:
    job = facts.job
    if job.status != "running":
        return _Finding("nobody holds it")
    expires_in = job.lease_expires_in or 0.0
    heard = _heard_of(job.worker_name, facts.workers)
    who = f"attempt {job.attempt_no} is with {job.worker_name} ({heard})"
    if expires_in > 0:
        evidence = f"{who}; its lease runs for another {length(expires_in)}"
        return _Finding(evidence, "LEASE_HELD")
    reapers = [worker for worker in facts.workers if worker.alive]
    why = (
        "no worker is alive to reap it"
        if not reapers
        else "the next reaping returns it"
        if expires_in > -_ORDINARY_REAPING
        else f"{workers_of(reapers)} alive, but none has reaped it: read their logs"
    )
    evidence = f"{who}; its lease ran out {length(-expires_in)} ago; {why}"
    return _Finding(evidence, "LEASE_EXPIRED")


def _due(facts: JobFacts) -> _Finding:
    job = facts.job
    if job.due_in <= 0:
        return _Finding(f"due since {length(-job.due_in)}")
    last = facts.attempts[-1] if facts.attempts else None
    if last is None:
        origin = "as its producer asked"
    elif last.status == "failed":
        origin = f"retry {job.failed_attempts} after {error_of(last)}"
    else:
        origin = f"put off by attempt {last.attempt_no}, which was {last.status}"
    evidence = f"runs in {length(job.due_in)}, at {clock(job.run_at)} UTC, {origin}"
    return _Finding(evidence, "NOT_DUE")


def _paused(facts: JobFacts) -> _Finding:
    job = facts.job
    if not job.paused:
        return _Finding(f'queue "{job.queue}" is not paused')
    until = f"until {clock(job.paused_until)} UTC" if job.paused_until else "for now"
    by = f" by {job.paused_by}" if job.paused_by else ""
    note = f": {job.pause_note}" if job.pause_note else ""
    evidence = f'queue "{job.queue}" was paused{by} {until}{note}'
    return _Finding(evidence, "QUEUE_PAUSED")


def _served(facts: JobFacts) -> _Finding:
    queue = facts.job.queue
    serving = [worker for worker in facts.workers if worker.serves(queue)]
    if serving:
        return _Finding(f'{workers_of(serving)} serve queue "{queue}"')
    alive = [worker for worker in facts.workers if worker.alive]
    quiet = sum(worker.quiet for worker in alive)
    notes = [f"queues: {queues_of(alive)}"] if alive else []
    notes += [f"{quiet} quiet"] if quiet else []
    about = f" ({'; '.join(notes)})" if notes else ""
    return _Finding(
        f'no live worker serves queue "{queue}". Workers alive: {len(alive)}{about}',
        "NO_WORKER",
    )


def _handled(facts: JobFacts) -> _Finding:
    job = facts.job
    takers = _takers(facts)
    if takers:
        return _Finding(f'{workers_of(takers)} have a handler for "{job.job_type}"')
    serving = [worker for worker in facts.workers if worker.serves(job.queue)]
    known = sorted({name for worker in serving for name in worker.job_types or []})
    evidence = (
        f'no worker of queue "{job.queue}" has a handler for "{job.job_type}"; '
        f"they have {some(known)}"
    )
    return _Finding(evidence, "NO_HANDLER")


def _slots(facts: JobFacts) -> _Finding:
    takers = _takers(facts)
    busy, slots = sum(w.busy_slots for w in takers), sum(w.slots for w in takers)
    full = all(worker.busy_slots >= worker.slots for worker in takers)
    evidence = f"{busy} of {slots} slots busy on {workers_of(takers)}"
    return _Finding(evidence, "SLOTS_FULL" if full else None)


def _position(facts: JobFacts) -> _Finding:
    if facts.backlog is None:
        return _Finding("its place in the queue is unknown")
    ahead = facts.backlog.ahead
    return _Finding(place(facts.backlog), "BEHIND" if ahead else None)


_GATES: tuple[tuple[str, Callable[[JobFacts], _Finding]], ...] = (
    ("LEASE_HELD", _lease),
    ("NOT_DUE", _due),
    ("QUEUE_PAUSED", _paused),
    ("NO_WORKER", _served),
    ("NO_HANDLER", _handled),
    ("SLOTS_FULL", _slots),
    ("BEHIND", _position),
    ("READY", lambda _: _Finding("leased at the next poll")),
)


def _takers(facts: JobFacts) -> list[WorkerProcess]:
    job = facts.job
    return [w for w in facts.workers if w.takes(job.queue, job.job_type)]


def _heard_of(name: str | None, workers: list[WorkerProcess]) -> str:
    silences = [worker.silent_for for worker in workers if worker.name == name]
    return f"heard of {length(min(silences))} ago" if silences else "not heard of now"
