"""An explanation as the lines of a screen, or as one object for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from pgflow_cli import times
from pgflow_cli.explanation import Event, Explanation

_MARKS = {
    "queued": " ",
    "scheduled": " ",
    "running": ">",
    "succeeded": "+",
    "dlq": "x",
    "canceled": "-",
}
_LONGEST_SENTENCE = 400
_HEADINGS = ("TIME (UTC)", "AFTER", "EVENT", "WORKER", "TOOK", "DETAIL")


def lines(
    explained: Explanation, *, gates: bool = False, payload: str | None = None
) -> Iterator[str]:
    """Return what a person reads; control characters are still in it."""
    job = explained.facts.job
    status = job.status or "nowhere"
    live = explained.gates and f"  as of {job.as_of[11:19]} UTC"
    yield (
        f"Job {job.job_id}  {job.job_type} on {job.queue}"
        f"  [{_MARKS.get(status, '!')}] {status.upper()}{live or ''}"
    )
    yield from _labelled("Why", explained.summary)
    if explained.advice:
        yield from _labelled("Advice", [explained.advice])
    if gates and explained.gates:
        held = [(gate.gate, gate.result, gate.evidence) for gate in explained.gates]
        yield from _aligned([("GATE", "RESULT", "EVIDENCE"), *held])
    yield from _aligned([_HEADINGS, *(_row(event) for event in explained.story)])
    if job.replay_of_job_id or job.replay_job_id:
        yield from _labelled("Replays", list(_replays(explained)))
    if payload is not None:
        yield from _labelled("Payload", [payload], longest=len(payload))
    if explained.next_commands:
        yield from _labelled("Next", ["  |  ".join(explained.next_commands)])


def record(explained: Explanation, *, payload: str | None = None) -> dict[str, object]:
    """Return the same as one object; a payload that Python cannot hold stays text."""
    job = explained.facts.job
    error = {"error_code": job.last_error_code, "error_message": job.last_error_message}
    waits = job.status in ("queued", "scheduled")
    found: dict[str, object] = {
        "job_id": job.job_id,
        "status": job.status,
        "queue": job.queue,
        "job_type": job.job_type,
        "verdict": explained.verdict,
        "summary": " ".join(explained.summary),
        "attempts": job.attempts,
        "failed_attempts": job.failed_attempts,
        "max_attempts": job.max_attempts,
        "next_run_at": job.run_at if waits else None,
        "last_error": error if job.last_error_code else None,
        "dlq_reason_code": job.dlq_reason_code,
        "suggested_action": explained.advice,
        "as_of": job.as_of,
        "gates": explained.gates,
        "fingerprint": job.fingerprint,
        "replays": {"of": job.replay_of_job_id, "by": job.replay_job_id},
        "timeline": [event for event in explained.story if event.at],
        "payload_json": None if payload is None else decoded(payload),
    }
    return found


def _labelled(
    label: str, sentences: list[str], *, longest: int = _LONGEST_SENTENCE
) -> Iterator[str]:
    for number, sentence in enumerate(sentences):
        shown = sentence if len(sentence) <= longest else sentence[:longest] + "…"
        yield f"{'' if number else label:<8}{shown}"


def _row(event: Event) -> tuple[str, ...]:
    if event.at is None:
        return ("", "", event.detail, "", "", "")
    took = "" if event.took_ms is None else times.format_duration(event.took_ms / 1000)
    return (
        event.at[5:19].replace("T", " "),
        times.format_duration(event.after or 0.0),
        event.event,
        event.worker_id or "",
        took,
        event.detail,
    )


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    # A line that stands for hidden ones widens no column.
    full = [row for row in rows if row[0]]
    widths = [max(len(row[n]) for row in full) for n in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _replays(explained: Explanation) -> Iterator[str]:
    job = explained.facts.job
    if job.replay_of_job_id:
        yield f"this job replays {job.replay_of_job_id}"
    if job.replay_job_id:
        yield f"this job is replayed by {job.replay_job_id}"


def decoded(payload: str) -> object:
    """Return JSON as an object, or the text where Python cannot hold it."""
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
