"""Why a job is where it is: facts in, verdict and story out; pure."""

from __future__ import annotations

from dataclasses import dataclass

from pgflow_cli.gates import HELD, Gate, walk
from pgflow_cli.models import Attempt, JobDescription, JobFacts
from pgflow_cli.phrases import clock, last_error, length, place
from pgflow_cli.story import Event, tell

# Verdicts of a job that no gate holds up, or that is where it should be.
_IN_ORDER = {"READY", "LEASE_HELD", "SUCCEEDED", "CANCELED", "RESOLVED"}


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


def explain(facts: JobFacts) -> Explanation:
    """Return why the job is where it is."""
    if facts.job.status in ("queued", "scheduled", "running"):
        verdict, gates = walk(facts)
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
        list(tell(facts)),
        _next_commands(facts.job, verdict),
    )


def _held_up(facts: JobFacts, verdict: str, gates: list[Gate]) -> list[str]:
    held = next((gate for gate in gates if gate.result == HELD), gates[-1])
    job = facts.job
    since = ""
    if job.status == "queued":
        since = f"runnable for {length(-job.due_in)}; "
    lines = [f"{verdict}: {since}{held.evidence}."]
    if verdict not in ("BEHIND", "READY", "NOT_DUE") and facts.backlog:
        lines.append(f"{place(facts.backlog).capitalize()}.")
    if job.last_error_code and verdict != "NOT_DUE":
        lines.append(last_error(job))
    return lines


def _ended(job: JobDescription, attempts: list[Attempt]) -> tuple[str, list[str]]:
    if job.status == "dlq":
        lines = [
            f"Moved to DLQ after {job.attempts} attempt(s). "
            f"Reason: {job.dlq_reason_code}."
        ]
        if job.last_error_code:
            lines.append(last_error(job))
        if job.resolved_at:
            by = f" by job {job.replay_job_id}" if job.replay_job_id else ""
            when = f"{clock(job.resolved_at)} UTC"
            lines.append(f"Resolved: {job.resolution}{by} at {when}.")
        return ("RESOLVED" if job.resolved_at else "DLQ"), lines
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
    return "NOWHERE", [
        "The job is neither waiting, running, succeeded, dead-lettered nor canceled.",
        "That must never happen: please report it, with this explanation.",
    ]


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
