"""The conditions that may hold a job up, gate by gate; pure.

The gates have the order and the conditions of the lease statements;
tests/repository/test_explanation.py keeps both equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pgflow_cli.formats.words import short_id
from pgflow_cli.inspection import worker_blockers
from pgflow_cli.inspection.explanation.words import (
    clock,
    error_of,
    length,
    names_of,
    place,
    queues_of,
    workers_of,
)
from pgflow_cli.inspection.forecast import UNKNOWN, Drain, forecast, sentence
from pgflow_cli.models.explanation import (
    Holder,
    JobDescription,
    JobEvidence,
    QueueGates,
)
from pgflow_cli.models.workers import WorkerProcess

# Seconds after which an expired lease is a problem: a reaper looks every few seconds.
_ORDINARY_REAPING = 60.0
_IN_FLIGHT, _RATE = "IN_FLIGHT_EXCEEDED", "RETRY_RATE_EXCEEDED"
PASSED, HELD, NOT_REACHED = "passed", "held", "not reached"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition that may hold a job up: passed, held or not reached."""

    gate: str
    result: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a gate and sentences about it; `held` is the verdict if the gate
    holds the job up.
    """

    evidence: str
    held: str | None = None
    more: tuple[str, ...] = ()


def walk(facts: JobEvidence) -> tuple[str, Finding, list[Gate]]:
    """Return the verdict of the first gate that holds, what it found, and every gate's
    result.
    """
    verdict, decisive, gates = "", Finding(""), []
    for name, gate in _GATES:
        if verdict:
            gates.append(Gate(name, NOT_REACHED, ""))
            continue
        finding = gate(facts)
        evidence = ". ".join((finding.evidence, *finding.more))
        if finding.held is not None:
            verdict, decisive = finding.held, finding
            gates.append(Gate(finding.held, HELD, evidence))
        else:
            gates.append(Gate(name, PASSED, evidence))
            decisive = finding
    return verdict or "READY", decisive, gates


def _fence(facts: JobEvidence) -> Finding:
    identity = facts.identity
    if not identity.fenced:
        return Finding("the database is the one that was recorded")
    by = f" by {identity.fenced_by}" if identity.fenced_by else ""
    raised = identity.fenced_at and f" since {identity.fenced_at:%Y-%m-%d %H:%M:%S} UTC"
    identifiers = (
        ("system", identity.recorded_system_identifier,
         identity.present_system_identifier),
        ("database", identity.recorded_database_oid, identity.present_database_oid),
        ("tables", identity.recorded_table_oid, identity.present_table_oid),
    )  # fmt: skip
    recorded = ", ".join(f"{name} {known or '-'}" for name, known, _ in identifiers)
    present = ", ".join(f"{name} {known or '-'}" for name, _, known in identifiers)
    return Finding(
        f"the database is fenced{raised or ''}{by}: {identity.reason}",
        "FENCED",
        (f"Recorded identity: {recorded}", f"Present identity: {present}"),
    )


def _lease(facts: JobEvidence) -> Finding:
    job = facts.job
    if job.status != "running":
        return Finding("no worker holds it")
    expires_in = job.lease_expires_in or 0.0
    heard = _heard_of(job.worker_name, facts.workers)
    held_for = "" if job.held_for is None else f" for {length(job.held_for)}"
    is_ = "has been" if held_for else "is"
    who = f"attempt {job.attempt_no} {is_} with {job.worker_name}{held_for} ({heard})"
    progress = f"Progress {job.done} of {job.total}" if job.total else ""
    more = (progress,) if progress else ()
    if expires_in > 0:
        until = f"{length(expires_in)}, to {clock(job.lease_expires_at)} UTC"
        return Finding(f"{who}; its lease runs for another {until}", "LEASE_HELD", more)
    ago = f"{length(-expires_in)} ago, at {clock(job.lease_expires_at)} UTC"
    why = _not_reaped(-expires_in, facts.workers)
    return Finding(f"{who}; its lease ran out {ago}; {why}", "LEASE_EXPIRED", more)


def _not_reaped(expired_for: float, workers: list[WorkerProcess]) -> str:
    reapers = [worker for worker in workers if worker.alive]
    if not reapers:
        return "no worker is alive to reap it"
    if expired_for < _ORDINARY_REAPING:
        return "the next reaping returns it"
    return f"{workers_of(reapers)} alive, but none has reaped it: read their logs"


def _due(facts: JobEvidence) -> Finding:
    job = facts.job
    if job.due_in <= 0:
        return Finding(f"due since {length(-job.due_in)}")
    last = facts.attempts[-1] if facts.attempts else None
    if last is None:
        origin = "as its producer asked"
    elif last.status == "failed":
        origin = f"retry {job.failed_attempts} after {error_of(last)}"
    elif last.status == "lost":
        origin = (
            f"put off after attempt {last.attempt_no}, which was lost with its process:"
            " such a job runs in a spare process, and another job has that"
        )
    else:
        origin = f"put off by attempt {last.attempt_no}, which was {last.status}"
    evidence = f"runs in {length(job.due_in)}, at {clock(job.run_at)} UTC, {origin}"
    return Finding(evidence, "NOT_DUE")


def _paused(facts: JobEvidence) -> Finding:
    name, queue = facts.job.queue, facts.queue
    if not queue.paused:
        return Finding(f'queue "{name}" is not paused')
    by = f" by {queue.paused_by}" if queue.paused_by else ""
    since = f" at {clock(queue.paused_at)} UTC" if queue.paused_at else ""
    until = (
        f"until {clock(queue.paused_until)} UTC"
        if queue.paused_until
        else "until it is resumed"
    )
    note = f": {queue.pause_note}" if queue.pause_note else ""
    evidence = f'queue "{name}" was paused{by}{since}, {until}{note}'
    return Finding(evidence, "QUEUE_PAUSED")


def _served(facts: JobEvidence) -> Finding:
    queue = facts.job.queue
    serving = [worker for worker in facts.workers if worker.serves(queue)]
    if serving:
        return Finding(f'{workers_of(serving)} serve queue "{queue}"')
    alive = [worker for worker in facts.workers if worker.alive and not worker.spare]
    hindered = worker_blockers.of_queue(alive, queue)
    about = f" (queues: {queues_of(alive)})" if alive else ""
    return Finding(
        f'no live worker leases from queue "{queue}"'
        if hindered
        else f'no live worker serves queue "{queue}"',
        "NO_WORKER",
        (*hindered, f"Workers alive: {len(alive)}{about}"),
    )


def _handled(facts: JobEvidence) -> Finding:
    job = facts.job
    takers = _takers(facts)
    if takers:
        return Finding(f'{workers_of(takers)} have a handler for "{job.job_type}"')
    serving = [worker for worker in facts.workers if worker.serves(job.queue)]
    known = names_of(name for worker in serving for name in worker.job_types or [])
    return Finding(
        f'no worker of queue "{job.queue}" has a handler for "{job.job_type}"',
        "NO_HANDLER",
        (f"Workers of the queue: {len(serving)}, with handlers for {known}",),
    )


def _in_flight(facts: JobEvidence) -> Finding:
    queue = facts.queue
    if queue.max_in_flight is None:
        return Finding("no limit of jobs in flight")
    used = f"{queue.in_flight}/{queue.max_in_flight} in flight"
    if (queue.in_flight or 0) < queue.max_in_flight:
        return _left_alone(facts, _IN_FLIGHT, used)
    return Finding(f"{used} (max_in_flight)", _IN_FLIGHT, _held(facts.holders))


def _held(holders: list[Holder]) -> tuple[str, ...]:
    named = ", ".join(
        f"{short_id(each.job_id)} on {each.worker_id} for {length(each.held_for)}"
        for each in holders
    )
    return (f"Held the longest: {named}",) if named else ()


def _rate(facts: JobEvidence) -> Finding:
    queue = facts.queue
    if queue.max_attempts_per_minute is None:
        return Finding("no limit of attempts a minute")
    used = (
        f"{queue.attempts_last_minute}/{queue.max_attempts_per_minute} attempts in "
        "the last minute"
    )
    if (queue.attempts_last_minute or 0) < queue.max_attempts_per_minute:
        return _left_alone(facts, _RATE, used)
    free = (
        f"The next is free in {length(max(0.0, queue.next_free_in))}, at "
        f"{clock(queue.next_free_at)} UTC"
        if queue.next_free_in is not None
        else "None is ever free"
    )
    return Finding(f"{used} (max_attempts_per_minute)", _RATE, (free,))


def _left_alone(facts: JobEvidence, gate: str, used: str) -> Finding:
    """Describe a throttle that holds a queue back although its limit has room again."""
    queue = facts.queue
    if not queue.throttled or _throttling(queue) != gate:
        return Finding(used)
    evidence = (
        f"the limit was reached, and the queue is left alone for another "
        f"{length(queue.throttled_for or 0.0)}, to {clock(queue.throttled_until)} UTC"
    )
    return Finding(evidence, gate, (f"{used} now",))


def _throttling(queue: QueueGates) -> str:
    """Return the limit that caused a throttle, or the likely one if it is not
    recorded.
    """
    limits = {_IN_FLIGHT: queue.max_in_flight, _RATE: queue.max_attempts_per_minute}
    told = queue.throttled_by or ""
    if limits.get(told) is not None:
        return told
    return _IN_FLIGHT if queue.max_in_flight is not None else _RATE


def _slots(facts: JobEvidence) -> Finding:
    takers = _takers(facts)
    busy, slots = sum(w.busy_slots for w in takers), sum(w.slots for w in takers)
    full = all(worker.busy_slots >= worker.slots for worker in takers)
    evidence = f"{busy} of {slots} slots busy on {workers_of(takers)}"
    if full:
        return Finding(evidence, "SLOTS_FULL", _held(facts.slot_holders))
    return Finding(evidence)


def _stalled(facts: JobEvidence) -> Finding:
    takers = _takers(facts)
    stalled = [worker for worker in takers if worker.stalled_for is not None]
    if len(stalled) < len(takers):
        return Finding(f"{workers_of(takers)} lease")
    said = worker_blockers.of_queue(stalled, facts.job.queue)
    return Finding(
        f"{workers_of(stalled)} with slots free and due jobs lease nothing",
        "WORKERS_STALLED",
        tuple(said),
    )


def _position(facts: JobEvidence) -> Finding:
    backlog = facts.backlog
    if backlog is None:
        return Finding("its place in the queue is unknown")
    if not backlog.ahead:
        return Finding(place(backlog))
    return Finding(place(backlog), "BEHIND", tuple(prospects(facts, limited=False)))


def prospects(facts: JobEvidence, *, limited: bool) -> list[str]:
    """Say when the job's turn is, and whether its queue drains.

    If a limit of the queue holds it, or its workers lease nothing, more workers would
    not help.
    """
    drain, rates = forecast_of(facts), facts.rates
    if drain is None or rates is None or facts.backlog is None:
        return []
    if limited or worker_blockers.of_queue(facts.workers, facts.job.queue):
        drain = replace(drain, workers_needed=None)
    known = drain.verdict != UNKNOWN
    subject = "The queue" if known else "Whether it drains is"
    told = [f"{subject} {sentence(drain)}"]
    each = rates.completions_per_second
    if known and each > 0:
        turn = facts.backlog.ahead / each
        more = "more than " if facts.backlog.ahead > facts.backlog.LIMIT else "about "
        told.insert(0, f"Its turn is in {more}{length(max(1.0, turn))}")
    return told


def forecast_of(facts: JobEvidence) -> Drain | None:
    """Return the forecast of the queue that the job waits in."""
    if facts.backlog is None or facts.rates is None:
        return None
    rates = facts.rates
    serving = [w for w in facts.workers if w.serves(facts.job.queue)]
    return forecast(
        facts.backlog.due,
        rates.arrivals_per_second,
        rates.completions_per_second,
        rates.samples,
        len(serving),
        rates.window,
    )


_GATES: tuple[tuple[str, Callable[[JobEvidence], Finding]], ...] = (
    ("FENCED", _fence),
    ("LEASE_HELD", _lease),
    ("NOT_DUE", _due),
    ("QUEUE_PAUSED", _paused),
    ("NO_WORKER", _served),
    ("NO_HANDLER", _handled),
    (_IN_FLIGHT, _in_flight),
    (_RATE, _rate),
    ("SLOTS_FULL", _slots),
    ("WORKERS_STALLED", _stalled),
    ("BEHIND", _position),
    ("READY", lambda _: Finding("leased at the next poll")),
)


def _takers(facts: JobEvidence) -> list[WorkerProcess]:
    job: JobDescription = facts.job
    return [w for w in facts.workers if w.takes(job.queue, job.job_type)]


def _heard_of(name: str | None, workers: list[WorkerProcess]) -> str:
    silences = [worker.silent_for for worker in workers if worker.name == name]
    if not silences:
        return "no longer among the known workers"
    return f"last heartbeat {length(min(silences))} ago"
