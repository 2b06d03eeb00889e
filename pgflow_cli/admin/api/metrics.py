"""The metrics of queues as JSON, and everything there is for Prometheus."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import query_filters
from pgflow_cli.admin.api import queues
from pgflow_cli.admin.api.queues import DRAIN, EXACT
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.security import Role
from pgflow_cli.admin.shapes import (
    FLAG,
    NUMBER,
    TEXT,
    TIME,
    WHOLE,
    Shape,
    array,
    maybe,
)
from pgflow_cli.inspection import prometheus as prometheus_metrics
from pgflow_cli.models.queues import COUNTED

QUEUE_METRICS = Shape(
    "QueueMetrics",
    {
        "at": TIME,
        "queue": TEXT,
        "runnable_queue_depth": WHOLE,
        "jobs_per_sec": NUMBER,
        "success_rate": maybe(NUMBER),
        "retry_rate": maybe(NUMBER),
        "mean_latency_ms": maybe(NUMBER),
        "oldest_runnable_age_seconds": maybe(NUMBER),
        "scheduled": WHOLE,
        "running": WHOLE,
        "dlq": WHOLE,
        "drain": DRAIN.reference,
        "counts_are_exact": FLAG,
    },
    {
        "runnable_queue_depth": "Jobs that are due; as scheduled and dlq, counted to"
        f" {COUNTED:,}, then estimated.",
        "jobs_per_sec": "Attempts that ended, a second.",
        "success_rate": "Succeeded of those; null if there were none.",
        "retry_rate": "Attempts that were not their job's first, of all that ended.",
        "mean_latency_ms": "How long an attempt took.",
        "counts_are_exact": EXACT,
    },
)
METRICS = Shape(
    "Metrics",
    {
        "now_utc": TIME,
        "queues": array(QUEUE_METRICS.reference),
        "next_after": maybe(TEXT),
    },
    {"next_after": "The `after` of the next page; null on the last one."},
)


def queue_metrics(call: Call) -> Any:
    """Return depth, rates and times of each queue over the last minute."""
    taken, last = queues.page(call)
    found = METRICS.of(prometheus_metrics.document(taken, last))
    return found | {"queues": [_of_queue(each) for each in found["queues"]]}


def _of_queue(record: Any) -> dict[str, Any]:
    return QUEUE_METRICS.of(record) | {"drain": DRAIN.of(record["drain"])}


def prometheus(call: Call) -> Response:
    """Return every metric in Prometheus' text format."""
    return Response(
        call.service.scraper.text(), content_type=prometheus_metrics.CONTENT_TYPE
    )


ROUTES = (
    Route(
        "GET",
        "/metrics",
        queue_metrics,
        "Depth, rates and times of each queue; rates are of the last minute.",
        query=(query_filters.QUEUE, *queues.PAGE),
        answer=METRICS,
    ),
    Route(
        "GET",
        "/metrics/prom",
        prometheus,
        "Everything, for Prometheus; of the whole cluster, so scrape one server.",
        answer="text/plain",
        role=Role.METRICS,
        any_host=True,
    ),
)
SHAPES = (QUEUE_METRICS,)
