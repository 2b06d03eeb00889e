"""Spans where the application has set up OpenTelemetry, and nothing where not."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

from pgflow_cli.handlers import App, Fail, Handler, Job, Snooze
from pgflow_cli.telemetry import spans
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.shared_memory import SharedMemory
from tests.support.leased_jobs import leased

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CANARY = "cAnArY-9f0e"
LEASE = str(uuid.uuid4())
Wait = Callable[..., Any]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """A provider of the application's, for this test only: a process has one."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def work(wait_until: Wait) -> Iterator[Callable[..., list[Run]]]:
    """Run one job of an application in slots such as a worker has."""
    made: list[Slots] = []

    def run(app: App | Handler, job_type: str, **row: Any) -> list[Run]:
        context = multiprocessing.get_context("spawn")
        memory = SharedMemory.create(context, runs=1, leases=1)
        memory.hold(LEASE, time.monotonic() + 3600)
        slots = Slots(1, memory, lambda _: [], tracing=spans.consumer("worker-1"))
        made.append(slots)
        handler = app if isinstance(app, Handler) else app.handlers[job_type]
        ended: list[Run] = []
        job = leased(job_type=job_type, lease_id=LEASE, queue="emails", **row)
        taken = time.monotonic()
        slots.submit([Run(job, handler, ended.append, taken, handler.timeout)])
        wait_until(lambda: slots.stop_late(time.monotonic()) or ended, "it ends")
        return ended

    yield run
    for slots in made:
        slots.stop()


def only(exporter: InMemorySpanExporter, kind: SpanKind) -> ReadableSpan:
    (span,) = (s for s in exporter.get_finished_spans() if s.kind is kind)
    return span


def test_the_names_are_those_of_the_conventions() -> None:
    ours = {
        spans.SYSTEM: messaging_attributes.MESSAGING_SYSTEM,
        spans.OPERATION_NAME: messaging_attributes.MESSAGING_OPERATION_NAME,
        spans.OPERATION_TYPE: messaging_attributes.MESSAGING_OPERATION_TYPE,
        spans.DESTINATION: messaging_attributes.MESSAGING_DESTINATION_NAME,
        spans.MESSAGE_ID: messaging_attributes.MESSAGING_MESSAGE_ID,
        spans.MESSAGE_COUNT: messaging_attributes.MESSAGING_BATCH_MESSAGE_COUNT,
        spans.CLIENT_ID: messaging_attributes.MESSAGING_CLIENT_ID,
        spans.ERROR_TYPE: error_attributes.ERROR_TYPE,
    }
    assert all(mine == theirs for mine, theirs in ours.items())
    types = messaging_attributes.MessagingOperationTypeValues
    assert {types.SEND.value, types.PROCESS.value} == {"send", "process"}


def test_a_job_is_a_span_below_whoever_enqueued_it(
    exported: InMemorySpanExporter, work: Callable[..., list[Run]]
) -> None:
    app = App()
    inside = []

    @app.handler("mail")
    def handler(job: Job) -> None:
        inside.append((trace.get_current_span().get_span_context(), job.trace))
        with trace.get_tracer("lib").start_as_current_span("smtp"):
            pass

    work(app, "mail", meta=json.dumps({"traceparent": PARENT, "tracestate": "a=b"}))
    span = only(exported, SpanKind.CONSUMER)
    assert span.name == "process emails"
    assert span.parent is not None
    assert trace.format_trace_id(span.context.trace_id) == TRACE_ID
    assert trace.format_span_id(span.parent.span_id) == "b7ad6b7169203331"
    assert dict(span.attributes or {}) == {
        "messaging.system": "pgflow",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "emails",
        "messaging.message.id": leased().job_id,
        "messaging.client.id": "worker-1",
        "pgflow.job_type": "mail",
        "pgflow.attempt_no": 1,
        "pgflow.outcome": "succeeded",
    }
    assert span.status.status_code is StatusCode.UNSET
    (current, job_trace) = inside[0]
    assert current.span_id == span.context.span_id
    assert job_trace.traceparent.split("-")[2] == trace.format_span_id(current.span_id)
    assert job_trace.tracestate == "a=b"
    child = only(exported, SpanKind.INTERNAL)
    assert child.parent is not None
    assert child.parent.span_id == span.context.span_id


def test_a_job_of_nobody_begins_a_trace(
    exported: InMemorySpanExporter, work: Callable[..., list[Run]]
) -> None:
    app = App()
    app.handler("mail")(lambda job: None)
    work(app, "mail")
    assert only(exported, SpanKind.CONSUMER).parent is None


@pytest.mark.parametrize(
    ("error", "row", "outcome", "code", "reason"),
    [
        (ValueError(CANARY), {}, "retried", "UNKNOWN", None),
        (
            ValueError(CANARY),
            {"max_attempts": 1},
            "dlq",
            "UNKNOWN",
            "MAX_ATTEMPTS_EXCEEDED",
        ),
        (Fail("NO_STOCK", CANARY), {}, "dlq", "NO_STOCK", "NON_RETRYABLE"),
        (Snooze(5), {}, "snoozed", None, None),
    ],
)
def test_an_error_is_its_code_and_never_its_text(
    exported: InMemorySpanExporter,
    work: Callable[..., list[Run]],
    error: Exception,
    row: dict[str, Any],
    outcome: str,
    code: str | None,
    reason: str | None,
) -> None:
    app = App()

    @app.handler("mail")
    def handler(job: Job) -> None:
        raise error

    work(app, "mail", value={"text": CANARY}, **row)
    span = only(exported, SpanKind.CONSUMER)
    attributes = span.attributes or {}
    assert attributes["pgflow.outcome"] == outcome
    assert attributes.get("error.type") == code
    assert attributes.get("pgflow.reason_code") == reason
    failed = code is not None
    assert (span.status.status_code is StatusCode.ERROR) is failed
    assert span.status.description == code
    assert CANARY not in span.to_json()


def test_an_async_handler_runs_inside_its_span(
    exported: InMemorySpanExporter, work: Callable[..., list[Run]]
) -> None:
    app = App()

    @app.handler("mail")
    async def handler(job: Job) -> None:
        await asyncio.sleep(0)
        job.enqueue("next", queue="later")

    (run,) = work(app, "mail", meta=json.dumps({"traceparent": PARENT}))
    span, send = only(exported, SpanKind.CONSUMER), only(exported, SpanKind.PRODUCER)
    assert send.name == "send later"
    assert send.parent is not None
    assert send.parent.span_id == span.context.span_id
    assert run.outcome is not None
    meta: Any = run.outcome.followers[0]["meta"]
    assert meta["traceparent"].split("-")[2] == trace.format_span_id(
        send.context.span_id
    )


def test_the_span_of_a_handler_that_never_ends_ends_with_its_time(
    exported: InMemorySpanExporter, work: Callable[..., list[Run]], wait_until: Wait
) -> None:
    app = App()
    released = multiprocessing.get_context("spawn").Event()

    @app.handler("mail", timeout="50ms", max_attempts=1)
    def handler(job: Job) -> None:
        released.wait(20)

    work(app, "mail")
    span = only(exported, SpanKind.CONSUMER)
    assert (span.attributes or {})["error.type"] == "TIMEOUT"
    released.set()


def test_a_program_is_told_the_span_it_runs_in(
    exported: InMemorySpanExporter, work: Callable[..., list[Run]]
) -> None:
    script = 'echo "$TRACEPARENT $TRACESTATE" >&2; exit 65'
    program = Handler("mail", command=("sh", "-c", script), kind="executable")
    meta = json.dumps({"traceparent": PARENT, "tracestate": "a=b"})
    (run,) = work(program, "mail", meta=meta)
    span = only(exported, SpanKind.CONSUMER)
    assert run.outcome is not None
    assert run.outcome.error_message == (
        f"00-{TRACE_ID}-{trace.format_span_id(span.context.span_id)}-01 a=b"
    )


def test_a_sampler_that_fails_costs_no_job(
    work: Callable[..., list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(provider.sampler, "should_sample", 7)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    app = App()
    app.handler("mail")(lambda job: None)
    (run,) = work(app, "mail")
    assert run.outcome is not None
    assert run.outcome.status == "succeeded"


def test_what_is_not_sampled_is_carried_on_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with spans.sending("emails") as sending:
        assert sending.context is not None
        assert not int(sending.context.traceparent[-2:], 16) & 1


# Without spans.


def test_nothing_of_opentelemetry_is_imported_by_itself() -> None:
    program = (
        "import sys, pgflow_cli.worker.worker, pgflow_cli.operations.enqueue;"
        "from pgflow_cli import App; from pgflow_cli.telemetry import spans;"
        "app = App(); app.handler('a')(lambda job: job.enqueue('b'));"
        "app.run('a'); spans.flush(1); assert spans.consumer('w') is None;"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_flushing_waits_no_longer_than_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    stuck = multiprocessing.get_context("spawn").Event()
    monkeypatch.setattr(provider, "force_flush", lambda _: stuck.wait(20))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    began = time.monotonic()
    spans.flush(0.05)
    assert time.monotonic() - began < 5
    assert [vars(record)["event"] for record in caplog.records] == ["spans_lost"]
    stuck.set()
