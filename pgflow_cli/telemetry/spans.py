"""Spans of producers and workers, by OpenTelemetry's conventions for messaging.

Nothing of OpenTelemetry is imported here unless the application has done so and has set
a tracer provider: then `send QUEUE` is a span of the producer and `process QUEUE`
one of the worker, whose parent is the context kept with the job. No attribute ever
holds payload or the text of an error.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pgflow_cli.telemetry import trace_context
from pgflow_cli.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger("pgflow.spans")

# The names of conventions; unit/telemetry/test_spans.py holds them against the package.
SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
MESSAGE_ID = "messaging.message.id"
MESSAGE_COUNT = "messaging.batch.message_count"
CLIENT_ID = "messaging.client.id"
ERROR_TYPE = "error.type"
# Our own.
JOB_TYPE = "pgflow.job_type"
ATTEMPT_NO = "pgflow.attempt_no"
OUTCOME = "pgflow.outcome"
REASON_CODE = "pgflow.reason_code"
REPLAY_OF = "pgflow.replay_of"

_MOST_LINKS = 128  # the OpenTelemetry SDK keeps no more links of a span


class Sending:
    """The span of one call that enqueues: the context for its jobs, and the result.

    Without spans it is the current context of the caller.
    """

    def __init__(self, span: Span | None, context: TraceContext | None) -> None:
        self._span, self.context = span, context
        self._links = 0

    def sent(self, *job_ids: str, queues: Iterable[str] = ()) -> None:
        """Record what has been enqueued; a batch may turn out to be for one queue."""
        span = self._span
        if span is None:
            return
        if len(job_ids) == 1:
            span.set_attribute(MESSAGE_ID, job_ids[0])
        else:
            span.set_attribute(MESSAGE_COUNT, len(job_ids))
        names = set(queues)
        if len(names) == 1:
            (name,) = names
            span.update_name(f"send {name}")
            span.set_attribute(DESTINATION, name)

    def link(self, brought: TraceContext | None) -> None:
        """Link to the context that a job already has; the job keeps it."""
        if self._span is not None and brought is not None and self._links < _MOST_LINKS:
            self._links += 1
            parent = _api().get_current_span(_extracted(brought))
            self._span.add_link(parent.get_span_context())


@contextmanager
def sending(queue: str | None, *, job_type: str | None = None) -> Iterator[Sending]:
    """Record a call that enqueues, and hand out the context to keep with its jobs.

    `queue` None: a batch, perhaps for several queues.
    """
    tracer = _tracer()
    if tracer is None:
        yield Sending(None, current())
        return
    api = _api()
    attributes = {SYSTEM: "pgflow", OPERATION_NAME: "send", OPERATION_TYPE: "send"}
    if queue is not None:
        attributes[DESTINATION] = queue
    if job_type is not None:
        attributes[JOB_TYPE] = job_type
    with tracer.start_as_current_span(
        "send" if queue is None else f"send {queue}",
        context=_surrounding(),
        kind=api.SpanKind.PRODUCER,
        attributes=attributes,
        # The error's text may repeat a payload.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield Sending(span, _of_current_span())
        except BaseException as error:
            code = getattr(error, "reason_code", None) or type(error).__name__
            span.set_attribute(ERROR_TYPE, code)
            span.set_status(api.StatusCode.ERROR, code)
            raise


class Processing:
    """The span of one attempt. It ends once, with the outcome that counts, even if the
    handler goes on.
    """

    def __init__(self, span: Span) -> None:
        self._open = [span]

    def end(
        self,
        outcome: str,
        *,
        error_code: str | None = None,
        reason_code: str | None = None,
    ) -> None:
        """End it; from any thread, and again without effect."""
        try:
            span = self._open.pop()
        except IndexError:
            return
        span.set_attribute(OUTCOME, outcome)
        if reason_code is not None:
            span.set_attribute(REASON_CODE, reason_code)
        if error_code is not None:
            span.set_attribute(ERROR_TYPE, error_code)
            span.set_status(_api().StatusCode.ERROR, error_code)
        span.end()


class Consumer:
    """Makes the spans of a worker process."""

    def __init__(self, tracer: Tracer, worker_id: str) -> None:
        self._tracer, self._worker_id = tracer, worker_id

    @contextmanager
    def processing(self, job: Any) -> Iterator[Processing]:
        """Make an attempt's span the current one for the block. The caller ends it when
        the outcome is known. The job's trace becomes that of the span.
        """
        span = self._start(job)
        with _api().use_span(
            span,
            end_on_exit=False,
            record_exception=False,
            set_status_on_exception=False,
        ):
            job.trace = _of_current_span() or job.trace
            yield Processing(span)

    def _start(self, job: Any) -> Span:
        api = _api()
        try:
            return self._tracer.start_span(
                f"process {job.queue}",
                context=_extracted(job.trace) if job.trace else _no_parent(),
                kind=api.SpanKind.CONSUMER,
                attributes=self._attributes(job),
            )
        except Exception as error:
            # An error of the application's sampler or processor must not fail the job.
            _lost(type(error).__name__)
            invalid: Span = api.INVALID_SPAN
            return invalid

    def _attributes(self, job: Any) -> dict[str, str | int]:
        found: dict[str, str | int] = {
            SYSTEM: "pgflow",
            OPERATION_NAME: "process",
            OPERATION_TYPE: "process",
            DESTINATION: job.queue,
            MESSAGE_ID: job.id,
            CLIENT_ID: self._worker_id,
            JOB_TYPE: job.type,
            ATTEMPT_NO: job.attempt_no,
        }
        return {**found, REPLAY_OF: job.replay_of} if job.replay_of else found


def consumer(worker_id: str) -> Consumer | None:
    """Return the maker of a worker's spans; None if the application wants none."""
    tracer = _tracer()
    return None if tracer is None else Consumer(tracer, worker_id)


def current() -> TraceContext | None:
    """Return the context to carry on: that of the current span, else of the job that
    runs here.
    """
    return _of_current_span() or trace_context.carried.get()


def flush(seconds: float) -> None:
    """Flush the application's provider for at most `seconds`: the process is about to
    end.
    """
    if _tracer() is None:
        return
    provider = _api().get_tracer_provider()
    done = threading.Event()

    def work() -> None:
        try:
            provider.force_flush(int(seconds * 1000))
        except Exception as error:
            # An error of the application's exporter is logged only.
            _lost(type(error).__name__)
        done.set()

    # The SDK ignores its time limit while it exports.
    try:
        threading.Thread(target=work, name="pgflow-spans", daemon=True).start()
    except RuntimeError as error:
        _lost(str(error))
        return
    if hasattr(provider, "force_flush") and not done.wait(seconds):
        _lost(f"not exported within {seconds:g} s")


def _lost(reason: str) -> None:
    log.warning(
        "spans are lost: %s",
        reason,
        extra={"event": "spans_lost", "_repeats": "spans_lost"},
    )


def _api() -> Any:
    """Return OpenTelemetry's API, if the application has loaded it."""
    return sys.modules.get("opentelemetry.trace")


def _tracer() -> Tracer | None:
    """Return a tracer of the provider that the application has set; else None."""
    api = _api()
    if api is None:
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    tracer: Tracer = provider.get_tracer("pgflow")
    return tracer


def _surrounding() -> Context | None:
    """Return the parent for a producer's span: None, the current one, if there is one;
    else the running job's.
    """
    if _api().get_current_span().get_span_context().is_valid:
        return None
    carried = trace_context.carried.get()
    return None if carried is None else _extracted(carried)


def _extracted(context: TraceContext) -> Context:
    """Return OpenTelemetry's context with the sender's span in it."""
    api = _api()
    _, trace_id, span_id, flags = context.traceparent.split("-")
    remote = api.SpanContext(
        trace_id=int(trace_id, 16),
        span_id=int(span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(int(flags, 16)),
        trace_state=api.TraceState.from_header([context.tracestate]),
    )
    found: Context = api.set_span_in_context(api.NonRecordingSpan(remote), _no_parent())
    return found


def _no_parent() -> Context:
    from opentelemetry.context import Context  # noqa: PLC0415 - only where it is in use

    return Context()


def _of_current_span() -> TraceContext | None:
    """Return the current span of OpenTelemetry as headers."""
    api = _api()
    if api is None:
        return None
    found = api.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    ids = f"{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
    state = found.trace_state.to_header() if found.trace_state else ""
    return trace_context.accepted(f"00-{ids}", state)
