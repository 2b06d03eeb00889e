"""The timeline of a job: its events in order; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgflow_cli.formats.times import read_iso
from pgflow_cli.formats.words import plural
from pgflow_cli.inspection.explanation.words import length
from pgflow_cli.models.explanation import Action, Attempt, Decision, JobEvidence

# Seconds between two recorded minutes of one throttle that are joined to one event.
_SAME_THROTTLE = 120.0
_DECISION, _PAUSED = "PolicyDecision", "QUEUE_PAUSED"
_COUNTS = (
    ("in_flight", "max_in_flight"),
    ("attempts_last_minute", "max_attempts_per_minute"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the timeline; `after` is in seconds since the job was enqueued, and
    `message` what a failed attempt said.

    `kind` is Job, Attempt, PolicyDecision, OperatorAction, Replay, or Hidden: a line
    that stands for attempts left out, with no time of its own.
    """

    at: str | None
    after: float | None
    event: str
    worker_id: str | None
    took_ms: float | None
    detail: str
    kind: str = "Job"
    message: str | None = None


def tell(facts: JobEvidence) -> list[Event]:
    """Return the events in their order."""
    # The sort is stable: events of one instant keep their order.
    told = [_enqueued(facts), *_of_attempts(facts), *_of_operators(facts)]
    told += _ends(facts)
    told.sort(key=lambda dated: dated[0])
    instants = [at for at, _ in told]
    for run in _runs(facts.decisions, instants):
        told.append((run[0].first_at, _throttled(facts, run)))
    told.sort(key=lambda dated: dated[0])
    return [event for _, event in told]


def hidden_attempts(facts: JobEvidence) -> int:
    """Return how many attempts are not shown."""
    return max(0, facts.job.attempts - len(facts.attempts))


def attempts_told(facts: JobEvidence) -> str:
    """Return a sentence about the attempts that are not shown; empty if all are."""
    hidden = hidden_attempts(facts)
    if not hidden:
        return ""
    return f"... {plural(hidden, 'attempt')} hidden (--attempts all)"


def _enqueued(facts: JobEvidence) -> tuple[str, Event]:
    job = facts.job
    about = f"priority {job.priority}, max_attempts {job.max_attempts}"
    if job.replay_of_job_id:
        about += f", replay of {job.replay_of_job_id}"
    return _event(facts, job.created_at, "enqueued", about)


def _ends(facts: JobEvidence) -> Iterator[tuple[str, Event]]:
    job = facts.job
    if job.dlq_at:
        yield _event(facts, job.dlq_at, "moved to DLQ", job.dlq_reason_code or "")
    if job.resolved_at:
        by = f" by {job.replay_job_id}" if job.replay_job_id else ""
        told = f"{job.resolution}{by}{_by_whom(facts)}"
        kind = "Replay" if job.replay_job_id else "Job"
        yield _event(facts, job.resolved_at, "resolved", told, kind=kind)
    elif facts.replay is not None and facts.replay.created_at is not None:
        at, by = facts.replay.created_at, f"by {facts.replay.job_id}"
        yield _event(facts, at, "replayed", by, kind="Replay")
    if job.canceled_at:
        note = f": {job.cancel_note}" if job.cancel_note else ""
        yield _event(facts, job.canceled_at, "canceled", f"{job.canceled_by}{note}")


def _of_attempts(facts: JobEvidence) -> Iterator[tuple[str, Event]]:
    attempts = facts.attempts
    for number, attempt in enumerate(attempts):
        if hidden_attempts(facts) and number == min(1, len(attempts) - 1):
            # After the first one; before the only one.
            at = (attempts[0] if number else attempt).finished_at
            told = attempts_told(facts)
            yield at, Event(None, None, "", None, None, told, "Hidden")
        yield _event(
            facts,
            attempt.finished_at,
            f"attempt {attempt.attempt_no} {attempt.status}",
            _outcome(attempt),
            worker_id=attempt.worker_id,
            took_ms=attempt.latency_ms,
            kind="Attempt",
            message=attempt.error_message,
        )


def _of_operators(facts: JobEvidence) -> Iterator[tuple[str, Event]]:
    for action in facts.actions:
        # The event of the job's end names its cause.
        if action.id not in facts.job.action_ids:
            note = f": {action.note}" if action.note else ""
            yield _event(
                facts,
                action.at,
                action.action,
                f"by {action.actor}{note}",
                kind="OperatorAction",
            )


def _runs(decisions: list[Decision], instants: list[str]) -> Iterator[list[Decision]]:
    """Join the minutes of one throttle between which there is no other event."""
    run: list[Decision] = []
    for decision in decisions:
        if run and not _goes_on(run, decision, instants):
            yield run
            run = []
        run.append(decision)
    if run:
        yield run


def _goes_on(run: list[Decision], decision: Decision, instants: list[str]) -> bool:
    begun, last = run[0].first_at, run[-1]
    gap = read_iso(decision.first_at) - read_iso(last.last_at)
    return (
        last.reason_code == decision.reason_code
        and gap.total_seconds() <= _SAME_THROTTLE
        and not any(begun < at <= decision.first_at for at in instants)
    )


def _throttled(facts: JobEvidence, run: list[Decision]) -> Event:
    first, last = run[0], run[-1]
    detail = " ".join(filter(None, (last.reason_code, _use(last))))
    if last.reason_code == _PAUSED:
        # Its count is a number of jobs.
        detail += _paused_by(last)
        detail += f", to {last.last_at[11:19]}" if last is not first else ""
        return _event(facts, first.first_at, "held", detail, kind=_DECISION)[1]
    seconds = sum(decision.count for decision in run)
    if seconds > 1:
        detail += f", {length(float(seconds))} in all, to {last.last_at[11:19]}"
    what = first.decision.lower()
    return _event(facts, first.first_at, what, detail, kind=_DECISION)[1]


def _paused_by(decision: Decision) -> str:
    by = decision.details_json.get("paused_by")
    return f" by {by}" if by else ""


def _use(decision: Decision) -> str:
    details = decision.details_json
    for used, limit in _COUNTS:
        ours = decision.reason_code == "IN_FLIGHT_EXCEEDED"
        if limit in details and ours == (used == "in_flight"):
            return f"{details.get(used)}/{details[limit]}"
    return ""


def _by_whom(facts: JobEvidence) -> str:
    doers = [a for a in facts.actions if a.id in facts.job.action_ids]
    return "".join(_signed(action) for action in doers[-1:])


def _signed(action: Action) -> str:
    note = f" ({action.note})" if action.note else ""
    return f", by {action.actor}{note}"


def _outcome(attempt: Attempt) -> str:
    parts = [attempt.error_code] if attempt.error_code else []
    if attempt.next_in is not None:
        word = "retry" if attempt.status == "failed" else "again"
        parts.append(f"{word} in {length(max(0.0, attempt.next_in))}")
    return ", ".join(parts)


def _event(
    facts: JobEvidence,
    at: str,
    what: str,
    detail: str,
    *,
    worker_id: str | None = None,
    took_ms: float | None = None,
    kind: str = "Job",
    message: str | None = None,
) -> tuple[str, Event]:
    begun = read_iso(facts.job.created_at)
    after = max(0.0, (read_iso(at) - begun).total_seconds())
    return at, Event(at, after, what, worker_id, took_ms, detail, kind, message)
