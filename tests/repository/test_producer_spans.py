"""Whoever enqueues leaves a span and its context, if the application has set up
OpenTelemetry; else the context of the running job.
"""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pgflow_cli
from pgflow_cli import errors
from pgflow_cli.telemetry import spans, trace_context
from tests.unit.telemetry.test_spans import CANARY, PARENT, TRACE_ID, exported, only

__all__ = ["exported"]


def test_enqueuing_is_a_span_and_the_job_its_child(
    exported: InMemorySpanExporter, connection: psycopg.Connection[Any]
) -> None:
    with trace.get_tracer("web").start_as_current_span("request"):
        job_id = pgflow_cli.enqueue(
            connection, "mail", {"text": CANARY}, queue="emails", meta={"a": 1}
        )
    span, request = only(exported, SpanKind.PRODUCER), only(exported, SpanKind.INTERNAL)
    assert span.name == "send emails"
    assert span.parent is not None
    assert span.parent.span_id == request.context.span_id
    assert (span.attributes or {})["messaging.message.id"] == job_id
    assert meta_of(connection) == [{"a": 1, "traceparent": header(span)}]
    assert CANARY not in span.to_json()


def test_a_batch_is_one_span_that_links_to_what_its_jobs_bring(
    exported: InMemorySpanExporter, connection: psycopg.Connection[Any]
) -> None:
    jobs = [{"job_type": "mail", "queue": "emails"} for _ in range(3)]
    brought = {"job_type": "mail", "queue": "emails", "meta": {"traceparent": PARENT}}
    pgflow_cli.enqueue_many(connection, [*jobs, brought])
    span = only(exported, SpanKind.PRODUCER)
    attributes = span.attributes or {}
    assert span.name == "send emails"
    assert attributes["messaging.destination.name"] == "emails"
    assert attributes["messaging.batch.message_count"] == 4
    assert [trace.format_trace_id(ln.context.trace_id) for ln in span.links] == [
        TRACE_ID
    ]
    assert meta_of(connection) == [
        *[{"traceparent": header(span)}] * 3,
        {"traceparent": PARENT},
    ]


def test_a_batch_for_several_queues_names_none(
    exported: InMemorySpanExporter, connection: psycopg.Connection[Any]
) -> None:
    pgflow_cli.enqueue_many(
        connection, [{"job_type": "mail"}, {"job_type": "mail", "queue": "emails"}]
    )
    span = only(exported, SpanKind.PRODUCER)
    assert span.name == "send"
    assert "messaging.destination.name" not in (span.attributes or {})


def test_a_refusal_is_its_reason(
    exported: InMemorySpanExporter, connection: psycopg.Connection[Any]
) -> None:
    with pytest.raises(errors.Refused):
        pgflow_cli.enqueue(connection, "mail", {"text": CANARY * 100_000})
    span = only(exported, SpanKind.PRODUCER)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "PAYLOAD_TOO_LARGE"
    assert CANARY not in span.to_json()


def test_without_a_provider_the_context_is_only_carried_on(
    connection: psycopg.Connection[Any],
) -> None:
    assert spans.consumer("worker-1") is None
    token = trace_context.carried.set(trace_context.accepted(PARENT))
    try:
        pgflow_cli.enqueue(connection, "mail")
        pgflow_cli.enqueue_many(connection, [{"job_type": "mail"}])
    finally:
        trace_context.carried.reset(token)
    pgflow_cli.enqueue(connection, "mail")
    kept = {"traceparent": PARENT}
    assert meta_of(connection) == [kept, kept, None]


def header(span: ReadableSpan) -> str:
    trace_id = trace.format_trace_id(span.context.trace_id)
    span_id = trace.format_span_id(span.context.span_id)
    return f"00-{trace_id}-{span_id}-{span.context.trace_flags:02x}"


def meta_of(connection: psycopg.Connection[Any]) -> list[Any]:
    rows = connection.execute("select meta from pgflow.jobs order by id").fetchall()
    return [row[0] for row in rows]
