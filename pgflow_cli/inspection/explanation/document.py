"""An explanation as one JSON object; its keys are those of the HTTP API."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pgflow_cli.inspection.explanation import Explanation
from pgflow_cli.inspection.explanation.gates import forecast_of
from pgflow_cli.inspection.forecast import sentence
from pgflow_cli.models.explanation import Attempt, JobEvidence

Document = dict[str, Any]


def explanation(explained: Explanation, *, payload: str | None = None) -> Document:
    """Return the explanation; a payload that Python cannot represent stays text."""
    facts = explained.facts
    job = facts.job
    return {
        "job_id": job.job_id,
        "status": job.status,
        "queue": job.queue,
        "job_type": job.job_type,
        "verdict": explained.verdict,
        "summary": _sentences(explained.summary),
        "attempts": job.attempts,
        "failed_attempts": job.failed_attempts,
        "max_attempts": job.max_attempts,
        "next_run_at": _next_run_at(facts),
        "last_error": _last_error(facts),
        "dlq_reason_code": job.dlq_reason_code,
        "suggested_action": explained.advice,
        "as_of": job.as_of,
        "gates": [dataclasses.asdict(gate) for gate in explained.gates],
        "fingerprint": job.fingerprint,
        "replays": _replays(facts),
        "timeline": [
            dataclasses.asdict(event) for event in explained.story if event.at
        ],
        "payload_json": None if payload is None else decoded(payload),
        "similar": dataclasses.asdict(facts.similar) if facts.similar else None,
        "position": _position(facts),
        "drain": _drain(facts),
        "next_commands": explained.next_commands,
    }


def timeline(explained: Explanation) -> Document:
    """Return the timeline of the job: `story` is by time, `attempts` by number."""
    facts = explained.facts
    job = facts.job
    return {
        "job_id": job.job_id,
        "status": job.status,
        "queue": job.queue,
        "job_type": job.job_type,
        "run_at": job.run_at,
        "next_run_at": _next_run_at(facts),
        "last_worker_id": job.worker_name,
        "last_error": _last_error(facts),
        "attempts": [_attempt(facts, attempt) for attempt in facts.attempts],
        "story": sorted(_story(facts), key=lambda entry: str(entry["at"])),
    }


def _sentences(lines: Sequence[str]) -> str:
    """Join lines to one text; the message of an error may lack a full stop."""
    ended = [line if line.endswith((".", "!", "?")) else f"{line}." for line in lines]
    return " ".join([*ended[:-1], *lines[-1:]])


def bundle(explained: Explanation, *, payload: str | None = None) -> Document:
    """Return all evidence, for a reader without access to the database."""
    facts = explained.facts
    return {
        "explain": explanation(explained, payload=payload),
        "timeline": timeline(explained),
        "facts": dataclasses.asdict(facts),
    }


def _story(facts: JobEvidence) -> Iterator[Document]:
    for attempt in facts.attempts:
        at = attempt.finished_at
        yield {"kind": "Attempt", "at": at, **_attempt(facts, attempt)}
    for decision in facts.decisions:
        yield {
            "kind": "PolicyDecision",
            "at": decision.first_at,
            # The keys of the list of decisions.
            "id": f"policy-{decision.id}",
            "decision": decision.decision,
            "reason_code": decision.reason_code,
            "details_json": decision.details_json,
        }
    for action in facts.actions:
        yield {
            "kind": "OperatorAction",
            "at": action.at,
            # The keys of the audit.
            "id": str(action.id),
            "actor": action.actor,
            "action": action.action,
            "note": action.note,
        }
    if facts.replay is not None:
        since = facts.job.resolved_at or facts.replay.created_at
        yield {"kind": "Replay", "at": since, "new_job_id": facts.replay.job_id}


def _attempt(facts: JobEvidence, attempt: Attempt) -> Document:
    shown = dataclasses.asdict(attempt)
    # The seconds until the next run are for the screen; programs have the times.
    del shown["next_in"]
    return {"id": f"{facts.job.job_id}/{attempt.attempt_no}", **shown}


def _next_run_at(facts: JobEvidence) -> str | None:
    waits = facts.job.status in ("queued", "scheduled")
    return facts.job.run_at if waits else None


def _last_error(facts: JobEvidence) -> Document | None:
    job = facts.job
    if not job.last_error_code:
        return None
    return {"error_code": job.last_error_code, "error_message": job.last_error_message}


def _replays(facts: JobEvidence) -> Document:
    kin = [dataclasses.asdict(each) for each in facts.kin]
    for each in kin:
        each["role"] = "source" if each.pop("is_source") else "replay"
    by = facts.replay.job_id if facts.replay else None
    return {"of": facts.job.replay_of_job_id, "by": by, "chain": kin}


def _position(facts: JobEvidence) -> Document | None:
    backlog = facts.backlog
    if backlog is None or facts.job.due_in > 0:
        return None
    beyond = max(backlog.ahead, backlog.due) > backlog.LIMIT
    return {"position": backlog.ahead + 1, "due": backlog.due, "or_more": beyond}


def _drain(facts: JobEvidence) -> Document | None:
    """Return the forecast with the keys of GET /queues."""
    forecast = forecast_of(facts)
    if forecast is None:
        return None
    return {
        "verdict": forecast.verdict,
        "seconds": forecast.seconds,
        "workers_needed": forecast.workers_needed,
        "window_seconds": forecast.window,
        "samples": forecast.samples,
        "sentence": sentence(forecast),
    }


def decoded(payload: str) -> object:
    """Return JSON as a value; numbers that Python cannot represent stay text."""
    try:
        value = json.loads(payload)
        return value if _is_finite(value) else payload
    except (ValueError, RecursionError):
        return payload


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(part) for part in value.values())
    if isinstance(value, list):
        return all(_is_finite(part) for part in value)
    return True
