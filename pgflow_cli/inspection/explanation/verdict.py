"""The verdict on a job: why it is in its state, and the next commands; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pgflow_cli.formats.times import read_iso
from pgflow_cli.formats.words import short_id
from pgflow_cli.inspection import worker_blockers
from pgflow_cli.inspection.explanation.gates import Finding, Gate, prospects, walk
from pgflow_cli.inspection.explanation.timeline import Event, tell
from pgflow_cli.inspection.explanation.words import (
    clock,
    count,
    last_error,
    length,
    place,
    time_of_day,
)
from pgflow_cli.models.explanation import Attempt, Backlog, JobDescription, JobEvidence

# Verdicts of a job that is neither held up nor dead.
_IN_ORDER = {"READY", "LEASE_HELD", "SUCCEEDED", "CANCELED", "RESOLVED"}
_SCALE = "docker compose --profile worker up -d --scale worker=4"
# The end of an id is searched for among the jobs of one day, unless --since says more.
_FOUND_BY_ITS_END = timedelta(hours=23)
_HIGHEST_PRIORITY = 100  # the highest priority that enqueue accepts


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict, its evidence in sentences, and what to do next."""

    facts: JobEvidence
    verdict: str
    summary: list[str]
    advice: str | None
    similar: str | None
    gates: list[Gate]
    story: list[Event]
    next_commands: list[str]

    @property
    def in_order(self) -> bool:
        """Say whether the job is neither held up nor dead."""
        return self.verdict in _IN_ORDER

    @property
    def is_final(self) -> bool:
        """Say whether the job will not run again by itself."""
        return not self.gates


def explain(facts: JobEvidence) -> Explanation:
    """Return why the job is in its state."""
    gates: list[Gate] = []
    if facts.job.status in ("queued", "scheduled", "running"):
        verdict, finding, gates = walk(facts)
        summary = _held_up(facts, verdict, finding)
    else:
        verdict, summary = _ended(facts.job, facts.attempts)
    return Explanation(
        facts,
        verdict,
        summary,
        facts.job.suggested_action,
        _similar(facts),
        gates,
        tell(facts),
        _next_commands(facts, verdict),
    )


def _held_up(facts: JobEvidence, verdict: str, finding: Finding) -> list[str]:
    job = facts.job
    but = "" if verdict in ("BEHIND", "READY") else "but "
    since = f"runnable for {length(-job.due_in)}, {but}"
    lines = [f"{verdict}: {since if job.status == 'queued' else ''}{finding.evidence}."]
    more = list(finding.more)
    if verdict not in ("BEHIND", "READY", "NOT_DUE") and facts.backlog:
        more.append(place(facts.backlog).capitalize())
        if verdict in ("IN_FLIGHT_EXCEEDED", "RETRY_RATE_EXCEEDED", "SLOTS_FULL"):
            more += prospects(facts, limited=verdict != "SLOTS_FULL")
    if more:
        lines.append(" ".join(f"{sentence}." for sentence in more))
    if job.last_error_code and verdict != "NOT_DUE":
        lines.append(last_error(job))
    return lines


def _ended(job: JobDescription, attempts: list[Attempt]) -> tuple[str, list[str]]:
    if job.status == "dlq":
        return ("RESOLVED" if job.resolved_at else "DLQ"), _died(job)
    if job.status == "canceled":
        note = f": {job.cancel_note}" if job.cancel_note else ""
        when = f"{clock(job.canceled_at)} UTC"
        return "CANCELED", [f"Canceled by {job.canceled_by} at {when}{note}"]
    if job.status == "succeeded" and attempts:
        last = attempts[-1]
        took = length(last.latency_ms / 1000)
        with_version = f" with version {last.code_version}" if last.code_version else ""
        return "SUCCEEDED", [
            f"Succeeded at attempt {last.attempt_no} on {last.worker_id} "
            f"in {took}{with_version}."
        ]
    if job.status == "succeeded":
        return "SUCCEEDED", ["Succeeded; its attempts are not kept any more."]
    return "NOWHERE", [
        "The job is neither waiting, running, succeeded, dead-lettered nor canceled.",
        "That must never happen: please report it, with this explanation.",
    ]


def _died(job: JobDescription) -> list[str]:
    lines = [
        f"Moved to DLQ after {job.attempts} attempt(s). Reason: {job.dlq_reason_code}."
    ]
    if job.last_error_code:
        lines.append(last_error(job))
    if job.resolved_at:
        by = f" by job {job.replay_job_id}" if job.replay_job_id else ""
        when = f"{clock(job.resolved_at)} UTC"
        lines.append(f"Resolved: {job.resolution}{by} at {when}.")
    return lines


def _similar(facts: JobEvidence) -> str | None:
    """Say how many others died of the same error, and when it was first seen."""
    similar, job = facts.similar, facts.job
    if similar is None or not (similar.total or job.status == "dlq"):
        return None
    lately = length(similar.window_seconds)
    one = "" if similar.recent == 1 else "s"
    told = f"{job.fingerprint}: {count(similar.recent)} other job{one} in the last "
    told += lately
    beyond = similar.recent > Backlog.LIMIT or similar.total == similar.recent
    told += "" if beyond else f", {count(similar.total)} in all"
    if similar.first_seen_at:
        told += f", first seen {time_of_day(similar.first_seen_at, job.as_of)}"
        version = similar.first_code_version
        told += f" with version {version}" if version else ""
    return told


def _next_commands(facts: JobEvidence, verdict: str) -> list[str]:
    """Return the next commands, ready to be pasted."""
    job = facts.job
    queue, name = job.queue, _name(job)
    resume = worker_blockers.quiet_workers(facts.workers, queue)
    held_longest = f"pgflow jobs list -q {queue} --status running --slow"
    show_queue = f"pgflow queues show {queue}"
    priority = min(_HIGHEST_PRIORITY, job.priority + 10)
    replayed = f"pgflow explain {job.replay_job_id}"
    commands = {
        "FENCED": ["pgflow fence status", "pgflow help incidents"],
        "LEASE_HELD": [f"pgflow explain {name} --watch", "pgflow workers list"],
        "LEASE_EXPIRED": ["pgflow maintain --task reap", "pgflow workers list"],
        "NOT_DUE": [f"pgflow jobs run-now {name}", f"pgflow timeline {name}"],
        "QUEUE_PAUSED": [
            f"pgflow queues resume {queue}",
            show_queue,
        ],
        "NO_WORKER": [
            *(f"pgflow workers resume {each}" for each in resume[:1]),
            "pgflow workers list",
            f"pgflow work -q {queue} --check"
            if worker_blockers.is_restarting(facts.workers, queue)
            else _SCALE,
        ],
        "NO_HANDLER": ["pgflow workers list", f"pgflow work -q {queue} --check"],
        "IN_FLIGHT_EXCEEDED": [held_longest, show_queue],
        "RETRY_RATE_EXCEEDED": [
            f"pgflow decisions list --kind policy -q {queue}",
            show_queue,
        ],
        "SLOTS_FULL": [held_longest, _SCALE],
        "WORKERS_STALLED": ["pgflow workers list", "pgflow doctor"],
        "BEHIND": [
            show_queue,
            f"pgflow jobs reprioritize {name} {priority}",
        ],
        "READY": [f"pgflow explain {name} --watch"],
        "DLQ": [
            "pgflow doctor --check unreadable"
            if job.dlq_reason_code == "UNREADABLE"
            else f"pgflow replay {name} --dry-run",
            f"pgflow dlq stats -q {queue} --by error-code",
        ],
        "RESOLVED": [replayed if job.replay_job_id else f"pgflow timeline {name}"],
        "SUCCEEDED": [f"pgflow timeline {name}"],
        "CANCELED": [f"pgflow replay {name} --any-status --dry-run"],
    }
    return commands.get(
        verdict, ["pgflow doctor", f"pgflow explain {name} --bundle {name}.json"]
    )


def _name(job: JobDescription) -> str:
    """Return the end of the id if a command finds the job by it, else the whole id."""
    age = read_iso(job.as_of) - read_iso(job.created_at)
    kept_by_status = job.status in ("queued", "scheduled", "running", "dlq")
    known = kept_by_status or age < _FOUND_BY_ITS_END
    return short_id(job.job_id) if known else job.job_id
