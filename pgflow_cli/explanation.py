"""Why a job is where it is: facts in, verdict and story out; pure.

The gates stand in the order in which the lease statement applies them, and ask what it
asks. What they ask is kept in step with it by tests/repository/test_explanation.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pgflow_cli import times
from pgflow_cli.models import Attempt, Backlog, JobDescription, JobFacts, WorkerProcess

# Verdicts of a job that no gate holds up, or that is where it should be.
_IN_ORDER = {"READY", "LEASE_HELD", "SUCCEEDED", "CANCELED", "RESOLVED"}
_ORDINARY_REAPING = 60.0  # seconds after which an expired lease is a worry
_PASSED, _HELD, _NOT_REACHED = "passed", "held", "not reached"


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that may hold a job up: passed, held or not reached."""

    gate: str
    result: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the timeline; `after` is in seconds since the job was enqueued."""

    at: str | None
    after: float | None
    event: str
    worker_id: str | None
    took_ms: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict, its evidence in sentences, and what to do next."""

    facts: JobFacts
    verdict: str
    summary: list[str]
    advice: str | None
    gates: list[Gate]
    story: list[Event]
    next_commands: list[str]

    @property
    def in_order(self) -> bool:
        """Say whether the job is neither held up nor dead."""
        return self.verdict in _IN_ORDER


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a gate found; `held` names the verdict if it holds the job up."""

    evidence: str
    held: str | None = None


def explain(facts: JobFacts) -> Explanation:
    """Return why the job is where it is."""
    if facts.job.status in ("queued", "scheduled", "running"):
        verdict, gates = _walk(facts)
        summary = _held_up(facts, verdict, gates)
    else:
        verdict, summary = _ended(facts.job, facts.attempts)
        gates = []
    return Explanation(
        facts,
        verdict,
        summary,
        facts.job.suggested_action,
        gates,
        list(_story(facts)),
        _next_commands(facts.job, verdict),
    )


def _walk(facts: JobFacts) -> tuple[str, list[Gate]]:
    """Return the verdict of the first gate that holds, and what each of them says."""
    verdict, gates = "READY", []
    for name, gate in _GATES:
        if verdict != "READY":
            gates.append(Gate(name, _NOT_REACHED, ""))
            continue
        finding = gate(facts)
        if finding.held is not None:
            verdict, name = finding.held, finding.held  # noqa: PLW2901
        gates.append(Gate(name, _HELD if finding.held else _PASSED, finding.evidence))
    return verdict, gates


def _lease(facts: JobFacts) -> _Finding:
    job = facts.job
    if job.status != "running":
        return _Finding("nobody holds it")
    expires_in = job.lease_expires_in or 0.0
    heard = _heard_of(job.worker_name, facts.workers)
    who = f"attempt {job.attempt_no} is with {job.worker_name} ({heard})"
    if expires_in > 0:
        evidence = f"{who}; its lease runs for another {_length(expires_in)}"
        return _Finding(evidence, "LEASE_HELD")
    reapers = [worker for worker in facts.workers if worker.alive]
    why = (
        "no worker is alive to reap it"
        if not reapers
        else "the next reaping returns it"
        if expires_in > -_ORDINARY_REAPING
        else f"{_workers(reapers)} alive, but none has reaped it: read their logs"
    )
    evidence = f"{who}; its lease ran out {_length(-expires_in)} ago; {why}"
    return _Finding(evidence, "LEASE_EXPIRED")


def _due(facts: JobFacts) -> _Finding:
    job = facts.job
    if job.due_in <= 0:
        return _Finding(f"due since {_length(-job.due_in)}")
    last = facts.attempts[-1] if facts.attempts else None
    if last is None:
        origin = "as its producer asked"
    elif last.status == "failed":
        origin = f"retry {job.failed_attempts} after {_error(last)}"
    else:
        origin = f"put off by attempt {last.attempt_no}, which was {last.status}"
    evidence = f"runs in {_length(job.due_in)}, at {_clock(job.run_at)} UTC, {origin}"
    return _Finding(evidence, "NOT_DUE")


def _paused(facts: JobFacts) -> _Finding:
    job = facts.job
    if not job.paused:
        return _Finding(f'queue "{job.queue}" is not paused')
    until = f"until {_clock(job.paused_until)} UTC" if job.paused_until else "for now"
    by = f" by {job.paused_by}" if job.paused_by else ""
    note = f": {job.pause_note}" if job.pause_note else ""
    evidence = f'queue "{job.queue}" was paused{by} {until}{note}'
    return _Finding(evidence, "QUEUE_PAUSED")


def _served(facts: JobFacts) -> _Finding:
    queue = facts.job.queue
    serving = [worker for worker in facts.workers if worker.serves(queue)]
    if serving:
        return _Finding(f'{_workers(serving)} serve queue "{queue}"')
    alive = [worker for worker in facts.workers if worker.alive]
    quiet = sum(worker.quiet for worker in alive)
    notes = [f"queues: {_queues(alive)}"] if alive else []
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
        return _Finding(f'{_workers(takers)} have a handler for "{job.job_type}"')
    serving = [worker for worker in facts.workers if worker.serves(job.queue)]
    known = sorted({name for worker in serving for name in worker.job_types or []})
    evidence = (
        f'no worker of queue "{job.queue}" has a handler for "{job.job_type}"; '
        f"they have {_some(known)}"
    )
    return _Finding(evidence, "NO_HANDLER")


def _slots(facts: JobFacts) -> _Finding:
    takers = _takers(facts)
    busy, slots = sum(w.busy_slots for w in takers), sum(w.slots for w in takers)
    full = all(worker.busy_slots >= worker.slots for worker in takers)
    evidence = f"{busy} of {slots} slots busy on {_workers(takers)}"
    return _Finding(evidence, "SLOTS_FULL" if full else None)


def _position(facts: JobFacts) -> _Finding:
    if facts.backlog is None:
        return _Finding("its place in the queue is unknown")
    ahead = facts.backlog.ahead
    return _Finding(_place(facts.backlog), "BEHIND" if ahead else None)


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


def _held_up(facts: JobFacts, verdict: str, gates: list[Gate]) -> list[str]:
    held = next((gate for gate in gates if gate.result == _HELD), gates[-1])
    job = facts.job
    since = ""
    if job.status == "queued":
        since = f"runnable for {_length(-job.due_in)}; "
    lines = [f"{verdict}: {since}{held.evidence}."]
    if verdict not in ("BEHIND", "READY", "NOT_DUE") and facts.backlog:
        lines.append(f"{_place(facts.backlog).capitalize()}.")
    if job.last_error_code and verdict != "NOT_DUE":
        lines.append(_last_error(job))
    return lines


def _ended(job: JobDescription, attempts: list[Attempt]) -> tuple[str, list[str]]:
    if job.status == "dlq":
        lines = [
            f"Moved to DLQ after {job.attempts} attempt(s). "
            f"Reason: {job.dlq_reason_code}."
        ]
        if job.last_error_code:
            lines.append(_last_error(job))
        if job.resolved_at:
            by = f" by job {job.replay_job_id}" if job.replay_job_id else ""
            when = f"{_clock(job.resolved_at)} UTC"
            lines.append(f"Resolved: {job.resolution}{by} at {when}.")
        return ("RESOLVED" if job.resolved_at else "DLQ"), lines
    if job.status == "canceled":
        note = f": {job.cancel_note}" if job.cancel_note else ""
        when = f"{_clock(job.canceled_at)} UTC"
        return "CANCELED", [f"Canceled by {job.canceled_by} at {when}{note}"]
    if job.status == "succeeded" and attempts:
        last = attempts[-1]
        took = _length(last.latency_ms / 1000)
        with_version = f" with version {last.code_version}" if last.code_version else ""
        return "SUCCEEDED", [
            f"Succeeded at attempt {last.attempt_no} on {last.worker_id} "
            f"in {took}{with_version}."
        ]
    return "NOWHERE", [
        "The job is neither waiting, running, succeeded, dead-lettered nor canceled.",
        "That must never happen: please report it, with this explanation.",
    ]


def _story(facts: JobFacts) -> Iterator[Event]:
    job = facts.job
    begun = datetime.fromisoformat(job.created_at)

    def event(
        at: str,
        what: str,
        detail: str,
        worker_id: str | None = None,
        took_ms: float | None = None,
    ) -> Event:
        after = (datetime.fromisoformat(at) - begun).total_seconds()
        return Event(at, max(0.0, after), what, worker_id, took_ms, detail)

    about = f"priority {job.priority}, max_attempts {job.max_attempts}"
    if job.replay_of_job_id:
        about += f", replay of {job.replay_of_job_id}"
    yield event(job.created_at, "enqueued", about)
    hidden = job.attempts - len(facts.attempts)
    for number, attempt in enumerate(facts.attempts):
        if hidden and number == min(1, len(facts.attempts) - 1):
            detail = f"... {hidden} attempts hidden (--attempts all)"
            yield Event(None, None, "", None, None, detail)
        yield event(
            attempt.finished_at,
            f"attempt {attempt.attempt_no} {attempt.status}",
            _outcome(attempt),
            attempt.worker_id,
            attempt.latency_ms,
        )
    if job.dlq_at:
        yield event(job.dlq_at, "moved to DLQ", job.dlq_reason_code or "")
    if job.resolved_at:
        by = f" by {job.replay_job_id}" if job.replay_job_id else ""
        yield event(job.resolved_at, "resolved", f"{job.resolution}{by}")
    if job.canceled_at:
        note = f": {job.cancel_note}" if job.cancel_note else ""
        yield event(job.canceled_at, "canceled", f"{job.canceled_by}{note}")


def _next_commands(job: JobDescription, verdict: str) -> list[str]:
    short = job.job_id[-8:]
    again = f"pgflow explain {short}"
    if verdict in ("NO_WORKER", "LEASE_EXPIRED", "SLOTS_FULL"):
        return [f"pgflow work -q {job.queue} --app …", again]
    if verdict == "NO_HANDLER":
        return [f"pgflow work -q {job.queue} --app … --check", again]
    if verdict in ("DLQ", "RESOLVED"):
        return [f"{again} --payload --attempts all"]
    if verdict == "SUCCEEDED":
        return [f"{again} --timeline"]
    return [f"{again} --gates"] if verdict in ("BEHIND", "NOT_DUE") else [again]


def _takers(facts: JobFacts) -> list[WorkerProcess]:
    job = facts.job
    return [w for w in facts.workers if w.takes(job.queue, job.job_type)]


def _heard_of(name: str | None, workers: list[WorkerProcess]) -> str:
    silences = [worker.silent_for for worker in workers if worker.name == name]
    return f"heard of {_length(min(silences))} ago" if silences else "not heard of now"


def _workers(workers: list[WorkerProcess]) -> str:
    return f"{len(workers)} worker{'' if len(workers) == 1 else 's'}"


def _queues(workers: list[WorkerProcess]) -> str:
    if any(worker.queues is None for worker in workers):
        return "all"
    return _some(sorted({name for worker in workers for name in worker.queues or []}))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if names[5:] else shown or "none"


def _place(backlog: Backlog) -> str:
    return f"position {_count(backlog.ahead + 1)} of {_count(backlog.due)}"


def _count(number: int) -> str:
    most = Backlog.LIMIT
    return f"{most:,}+" if number > most else f"{number:,}"


def _last_error(job: JobDescription) -> str:
    message = f": {job.last_error_message}" if job.last_error_message else ""
    return f"Last error {job.last_error_code}{message}"


def _error(attempt: Attempt) -> str:
    message = f": {attempt.error_message}" if attempt.error_message else ""
    return f"{attempt.error_code or 'an error'}{message}"


def _outcome(attempt: Attempt) -> str:
    parts = [attempt.error_code] if attempt.error_code else []
    if attempt.next_in is not None:
        word = "retry" if attempt.status == "failed" else "again"
        parts.append(f"{word} in {_length(max(0.0, attempt.next_in))}")
    return ", ".join(parts)


def _clock(at: str | None) -> str:
    return (at or "").replace("T", " ")[:19]


def _length(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "for ever"
    return times.format_duration(seconds)
