"""Why a job is where it is, and what has happened to it."""

from __future__ import annotations

from typing import Any

from pgflow_cli.admin import shapes
from pgflow_cli.admin.api.jobs import ID_IN_PATH, NOT_ONE_JOB
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import (
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
from pgflow_cli.inspection import explanation
from pgflow_cli.inspection.explanation import Explanation, document, gates
from pgflow_cli.models.selection import STATUSES

_STATUS = maybe(shapes.word(*STATUSES))
LAST_ERROR = Shape("LastError", {"error_code": TEXT, "error_message": maybe(TEXT)})
ATTEMPT = Shape(
    "Attempt",
    {
        "id": TEXT,
        "attempt_no": WHOLE,
        "status": shapes.word(
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
    return Shape(f"{kind}Entry", {"kind": shapes.word(kind), **fields})


_STORY = {
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
        "story": array(shapes.either("kind", **_STORY)),
    },
    {"attempts": "By number.", "story": "By time."},
)
GATE = Shape(
    "Gate",
    {
        "gate": TEXT,
        "result": shapes.word(gates.PASSED, gates.HELD, gates.NOT_REACHED),
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
KIN = Shape(
    "Kin",
    {
        "role": shapes.word("source", "replay"),
        "step": WHOLE,
        "job_id": ID,
        "status": _STATUS,
        "created_at": maybe(TIME),
    },
)
REPLAYS = Shape(
    "ReplaysOfJob",
    {"of": maybe(ID), "by": maybe(ID), "chain": array(KIN.reference)},
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


def explain_job(call: Call) -> Any:
    """Explain why a job is where it is."""
    found = EXPLANATION.of(document.explanation(_explained(call)))
    replays = REPLAYS.of(found["replays"])
    replays["chain"] = [KIN.of(kin) for kin in replays["chain"]]
    return found | {"replays": replays}


def job_timeline(call: Call) -> Any:
    """Tell what has happened to a job."""
    found = TIMELINE.of(document.timeline(_explained(call)))
    return found | {
        "attempts": [ATTEMPT.of(attempt) for attempt in found["attempts"]],
        "story": [_STORY[entry["kind"]].of(entry) for entry in found["story"]],
    }


def _explained(call: Call) -> Explanation:
    with call.reading() as repository:
        job_id = repository.jobs.find_job(call.path["job_id"])
        facts = repository.explanation.describe_job(job_id, attempts=None)
    return explanation.explain(facts)


ROUTES = (
    Route(
        "GET",
        "/jobs/<job_id>/explain",
        explain_job,
        "Explain why a job is where it is, and what to do.",
        parameters=(ID_IN_PATH,),
        answer=EXPLANATION,
        errors=NOT_ONE_JOB,
    ),
    Route(
        "GET",
        "/jobs/<job_id>/timeline",
        job_timeline,
        "Tell what has happened to a job.",
        parameters=(ID_IN_PATH,),
        answer=TIMELINE,
        errors=NOT_ONE_JOB,
    ),
)
SHAPES = (LAST_ERROR, ATTEMPT, *_STORY.values(), GATE, SIMILAR, KIN, REPLAYS)
