"""Adds jobs to queues."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.problems import Problem
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ID, Shape
from pgflow_cli.errors import OutcomeUnknown
from pgflow_cli.formats import job_body, payload_text
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import delivery, enqueue
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry import trace_context

PRIORITY = query.whole(-100, 100)
MAX_ATTEMPTS = query.whole(1, 10_000)
ENQUEUED = Shape("EnqueuedJob", {"job_id": ID})
# What `job_body` reads, for OpenAPI.
_BODY = (
    Field("job_type", query_filters.JOB_TYPE, "What handler it is for.", required=True),
    Field(
        "payload_json",
        query.anything(),
        "What the handler is given; {} for nothing. It is kept as it was"
        " written, but for what jsonb does: of its duplicate keys the last one counts,"
        " and keys are ordered.",
        required=True,
    ),
    Field("queue", query_filters.QUEUE_NAME, "The queue.", "default"),
    Field(
        "run_at",
        query.moment("future"),
        "Not before this time, which has a zone (2026-11-23T09:30:00Z), or `in 30s`;"
        " without it, now.",
    ),
    Field("priority", PRIORITY, "Higher runs first.", 0),
    Field(
        "max_attempts", MAX_ATTEMPTS, "Failed attempts that make it a dead letter.", 25
    ),
    Field(
        "job_id",
        query.text(
            payload_text.UUID7, "a UUIDv7; without it the server makes one", most=36
        ),
        "A UUIDv7 of your own: sent twice, it is one job.",
    ),
    Field(
        "job_timeout",
        query.length(0.001, 2_592_000),
        "Limit of one attempt, instead of the handler's.",
    ),
    Field("meta", query.document(), "Kept with the payload."),
)


def enqueue_job(call: Call) -> Any:
    """Enqueue a job; once, even if the database's answer is lost on the way."""
    job_id = call.body["job_id"] or enqueue.new_job_id()
    with call.writing() as repository:
        try:
            delivery.enqueue_once(
                repository.enqueue,
                call.body["job_type"],
                call.body["payload_json"],
                options=_options(call),
                job_id=job_id,
                send=_by_hand(call, repository),
                pause=call.service.ending.wait,
            )
        except OutcomeUnknown:
            raise _unknown(job_id) from None
    return ENQUEUED.of({"job_id": job_id})


def _options(call: Call) -> JobOptions:
    body, headers = call.body, call.request.headers
    context = trace_context.accepted(
        headers.get("Traceparent"), headers.get("Tracestate")
    )
    options = JobOptions(
        queue=body["queue"] or "default",
        priority=body["priority"],
        max_attempts=body["max_attempts"],
        job_timeout=body["job_timeout"],
        meta=delivery.traced(body["meta"], context),
        max_payload_bytes=call.service.options.max_payload_bytes,
        max_enqueue_per_minute=call.service.options.max_enqueue_per_minute,
    )
    return delivery.starting(options, body["run_at"])


def _by_hand(call: Call, repository: Repository) -> partial[str] | None:
    """Return how an operator enqueues; None for a producer.

    A producer says neither who it is nor why, and is not in the audit: its job is trace
    enough.
    """
    if not call.is_by_hand:
        return None
    return partial(delivery.by_hand, repository, operator=call.operator)


def _unknown(job_id: str) -> Problem:
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the database's answer was lost: whether the job was enqueued is not known;"
        " send it again with this job_id, then it is one job",
        code="OUTCOME_UNKNOWN",
        headers={"Retry-After": "2"},
        job_id=job_id,
    )


ROUTES = (
    Route(
        "POST",
        "/jobs",
        enqueue_job,
        "Enqueue a job.",
        about="The headers traceparent and tracestate are kept in its meta. A refusal"
        " is recorded as an ingest decision. In the audit stands only what comes with"
        " a note, an x-pgflow-actor or the cookie of a page.",
        body=_BODY,
        reads=lambda text: job_body.read(text).values(),
        answer=ENQUEUED,
        errors={
            409: "Its queue and priority would be new, and as many are in use as may"
            " be: TOO_MANY_QUEUES.",
            413: "The payload is larger than its queue takes: PAYLOAD_TOO_LARGE. Or"
            " the body is.",
            429: "More jobs in this minute than the queue takes: ENQUEUE_RATE_EXCEEDED."
            " Or too many wrong tokens from this address.",
            503: "The database does not answer. OUTCOME_UNKNOWN has the job_id to send"
            " it again with.",
        },
    ),
)
SHAPES = ()
