"""What answers about a job look like: a job, its explanation, its timeline."""

from __future__ import annotations

from pgflow_cli.admin import shapes
from pgflow_cli.admin.shapes import (
    ANY,
    ID,
    NUMBER,
    OBJECT,
    TEXT,
    TIME,
    WHOLE,
    Shape,
    array,
    maybe,
)
from pgflow_cli.inspection.explanation import gates
from pgflow_cli.models.selection import STATUSES

_STATUS = shapes.one_of(*STATUSES)
JOB = Shape(
    "Job",
    {
        "id": ID,
        "queue": TEXT,
        "job_type": TEXT,
        "status": _STATUS,
        "run_at": maybe(TIME),
        "priority": maybe(WHOLE),
        "max_attempts": maybe(WHOLE),
        "last_error_code": maybe(TEXT),
        "last_error_message": maybe(TEXT),
        "dlq_reason_code": maybe(TEXT),
        "created_at": maybe(TIME),
        "updated_at": TIME,
        "short_id": TEXT,
        "attempt_no": WHOLE,
        "dlq_at": maybe(TIME),
        "fingerprint": maybe(TEXT),
        "resolved_at": maybe(TIME),
        "replay_of_job_id": maybe(ID),
        "worker_id": maybe(TEXT),
        "lease_expires_at": maybe(TIME),
    },
    {
        "run_at": "When it is or was due; null, as priority, max_attempts and"
        " created_at, where only its dead letter is left.",
        "attempt_no": "Of the attempt that runs or ended last; 0 before the first.",
        "resolved_at": "When a dead letter was replayed or discarded.",
        "worker_id": "The name of the worker of that attempt.",
    },
)
WHOLE_JOB = Shape(
    "JobWithPayload",
    {**JOB.fields, "payload_json": ANY, "meta": maybe(OBJECT)},
    {**JOB.help, "payload_json": "Any JSON, digit by digit as it is stored."},
)
LAST_ERROR = Shape("LastError", {"error_code": TEXT, "error_message": maybe(TEXT)})
ATTEMPT = Shape(
    "Attempt",
    {
        "id": TEXT,
        "attempt_no": WHOLE,
        "status": shapes.one_of(
            "succeeded", "failed", "snoozed", "released", "lost", "canceled"
        ),
        "started_at": TIME,
        "finished_at": TIME,
        "error_code": maybe(TEXT),
        "error_message": maybe(TEXT),
        "latency_ms": NUMBER,
        "worker_id": TEXT,
        "suggested_action": maybe(TEXT),
        "code_version": maybe(TEXT),
    },
)


def _entry(kind: str, **fields: shapes.Schema) -> Shape:
    return Shape(f"{kind}Entry", {"kind": shapes.one_of(kind), **fields})


STORY = {
    "Attempt": _entry("Attempt", at=TIME, **ATTEMPT.fields),
    "PolicyDecision": _entry(
        "PolicyDecision",
        at=TIME,
        id=TEXT,
        decision=TEXT,
        reason_code=TEXT,
        details_json=OBJECT,
    ),
    "OperatorAction": _entry(
        "OperatorAction", at=TIME, id=TEXT, actor=TEXT, action=TEXT, note=maybe(TEXT)
    ),
    "Replay": _entry("Replay", at=maybe(TIME), new_job_id=ID),
}
TIMELINE = Shape(
    "Timeline",
    {
        "job_id": ID,
        "status": _STATUS,
        "queue": TEXT,
        "job_type": TEXT,
        "run_at": TIME,
        "next_run_at": maybe(TIME),
        "last_worker_id": maybe(TEXT),
        "last_error": maybe(LAST_ERROR.reference),
        "attempts": array(ATTEMPT.reference),
        "story": array(shapes.either("kind", **STORY)),
    },
    {"attempts": "By number.", "story": "By time."},
)
GATE = Shape(
    "Gate",
    {
        "gate": TEXT,
        "result": shapes.one_of(gates.PASSED, gates.HELD, gates.NOT_REACHED),
        "evidence": TEXT,
    },
)
SIMILAR = Shape(
    "Similar",
    {
        "recent": WHOLE,
        "total": WHOLE,
        "window_seconds": NUMBER,
        "first_seen_at": maybe(TIME),
        "first_code_version": maybe(TEXT),
    },
    {
        "recent": "Other dead letters of the same fingerprint in the last"
        " window_seconds, counted to 10,001.",
        "total": "In all, counted to 10,001.",
    },
)
RELATED = Shape(
    "RelatedJob",
    {
        "role": shapes.one_of("source", "replay"),
        "step": WHOLE,
        "job_id": ID,
        "status": maybe(_STATUS),
        "created_at": maybe(TIME),
    },
)
REPLAYS = Shape(
    "ReplaysOfJob",
    {"of": maybe(ID), "by": maybe(ID), "chain": array(RELATED.reference)},
    {
        "of": "The job that it replays.",
        "by": "The job that replays it.",
        "chain": "What it goes back to and what came of it, step by step.",
    },
)
EXPLANATION = Shape(
    "Explanation",
    {
        "job_id": ID,
        "status": _STATUS,
        "queue": TEXT,
        "job_type": TEXT,
        "summary": TEXT,
        "attempts": WHOLE,
        "failed_attempts": WHOLE,
        "next_run_at": maybe(TIME),
        "last_error": maybe(LAST_ERROR.reference),
        "dlq_reason_code": maybe(TEXT),
        "suggested_action": maybe(TEXT),
        "as_of": TIME,
        "verdict": TEXT,
        "gates": array(GATE.reference),
        "fingerprint": maybe(TEXT),
        "similar": maybe(SIMILAR.reference),
        "replays": REPLAYS.reference,
    },
    {
        "verdict": "One word, such as QUEUE_PAUSED: what holds it up, or how it ended.",
        "gates": "What the lease asks of it, in order; none of a job that has ended.",
    },
)
CANCELED = Shape("CanceledJob", {"job_id": ID, "status": shapes.one_of("canceled")})
SHAPES = (JOB, LAST_ERROR, ATTEMPT, *STORY.values(), GATE, SIMILAR, RELATED, REPLAYS)
